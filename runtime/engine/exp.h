// e^x and ln(x) as every machine computes them.
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

// ln(x) for a normal x > 0, likewise: with x = m 2^n, m in [sqrt(1/2), sqrt(2)), the series of 2 artanh((m - 1) / (m +
// 1)). Exact for 1, error below 1e-15 of the larger of 1 and the result.
inline double log_of(double x) {
    constexpr std::uint64_t root_half = 0x3FE6A09E667F3BCD;
    const auto bits = std::bit_cast<std::uint64_t>(x);
    const std::int64_t n = static_cast<std::int64_t>(bits - root_half) >> 52;
    const double m = std::bit_cast<double>(bits - (static_cast<std::uint64_t>(n) << 52));
    const double f = (m - 1) / (m + 1), square = f * f, exponent = static_cast<double>(n);
    double p = 1.0 / 21;
    for (int k = 19; k > 0; k -= 2) p = p * square + 1.0 / k;
    return exponent * 6.93147180369123816490e-01 + (exponent * 1.90821492927058770002e-10 + 2 * f * p);
}

}  // namespace slmd::engine
