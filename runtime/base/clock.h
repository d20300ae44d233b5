// The one clock: it only goes forward, whatever happens to the time of day.
#pragma once
#include <time.h>

#include <cstdint>

namespace slmd {

// CLOCK_MONOTONIC, nanoseconds.
inline std::int64_t now_ns() {
    timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return static_cast<std::int64_t>(t.tv_sec) * 1'000'000'000 + t.tv_nsec;
}

}  // namespace slmd
