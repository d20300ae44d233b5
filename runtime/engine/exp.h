// e^x as every machine computes it.
#pragma once
#include <bit>
#include <cstdint>

namespace slmd::engine {

// e^x for x <= 0 in double precision from + and * alone: std::exp differs between libraries, and a decision must be
// replayable. Taylor's series on [-ln2 / 2, ln2 / 2], relative error below 1e-14; 0 below -700.
inline double exp_of(double x) {
    if (x < -700) return 0;
    constexpr double round = 6755399441055744.0;  // 1.5 * 2^52: the sum has no room for a fraction
    const double n = (x * 1.4426950408889634 + round) - round;
    const double r = (x - n * 6.93147180369123816490e-01) - n * 1.90821492927058770002e-10;
    constexpr double c[] = {1.0,       1.0,        1.0 / 2,     1.0 / 6,      1.0 / 24,      1.0 / 120,
                            1.0 / 720, 1.0 / 5040, 1.0 / 40320, 1.0 / 362880, 1.0 / 3628800, 1.0 / 39916800};
    double p = c[11];
    for (int k = 10; k >= 0; k--) p = p * r + c[k];
    return p * std::bit_cast<double>(static_cast<std::uint64_t>(1023 + static_cast<int>(n)) << 52);
}

}  // namespace slmd::engine
