// A real number as a whole one: what does not fit is the nearest that does, what is no number the lowest.
#pragma once
#include <limits>

namespace slmd::hal {

template <class T>
T saturated(double v) {
    using Limits = std::numeric_limits<T>;
    if (!(v > static_cast<double>(Limits::lowest()))) return Limits::lowest();
    if (v >= static_cast<double>(Limits::max())) return Limits::max();
    return static_cast<T>(v);
}

}  // namespace slmd::hal
