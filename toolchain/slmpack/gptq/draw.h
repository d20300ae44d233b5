// Draws that are the same everywhere: from a distribution, by where the token stands.
#pragma once
#include <cstdint>
#include <span>

namespace slmd::pack {

// 0 <= u < 1, for a position of a sequence (SplitMix64).
inline double uniform(std::uint64_t sequence, std::uint64_t position) {
    std::uint64_t z = (sequence << 32 | position) + 0x9E3779B97F4A7C15ull;
    z = (z ^ z >> 30) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ z >> 27) * 0x94D049BB133111EBull;
    return static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53;
}

// A token with probability p[token] / sum.
inline std::int32_t draw(std::span<const float> p, double sum, std::uint64_t sequence, std::uint64_t position) {
    double rest = uniform(sequence, position) * sum;
    std::size_t i = 0;
    while (i + 1 < p.size() && (rest -= static_cast<double>(p[i])) >= 0) i++;
    return static_cast<std::int32_t>(i);
}

}  // namespace slmd::pack
