// The number formats of published tensors, and how each becomes float32. Layouts and order of arithmetic are ggml's
// (ggml-quants.c, dequantize_row_*).
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>

namespace slmd::pack {

inline float half_to_float(std::uint16_t h) {
    const std::uint32_t sign = std::uint32_t(h & 0x8000) << 16, exponent = h >> 10 & 31, fraction = h & 1023;
    if (exponent == 31) return std::bit_cast<float>(sign | 0x7F800000u | fraction << 13);
    if (exponent == 0) {
        const float subnormal = float(fraction) * 0x1p-24f;
        return sign ? -subnormal : subnormal;
    }
    return std::bit_cast<float>(sign | (exponent + 112) << 23 | fraction << 13);
}

// Rounds to nearest, ties to even; too large becomes infinity.
std::uint16_t float_to_half(float f);

inline float bf16_to_float(std::uint16_t h) { return std::bit_cast<float>(std::uint32_t(h) << 16); }

// The 6-bit scale and minimum of group j of 8, packed in 12 bytes (Q4_K, Q5_K).
struct ScaleMin {
    std::uint8_t scale, min;
};
inline ScaleMin scale_min_k4(const std::uint8_t* s, int j) {
    if (j < 4) return {std::uint8_t(s[j] & 63), std::uint8_t(s[j + 4] & 63)};
    return {std::uint8_t((s[j + 4] & 15) | (s[j - 4] >> 6) << 4), std::uint8_t((s[j + 4] >> 4) | (s[j] >> 6) << 4)};
}

// The levels of IQ4_NL and IQ4_XS, and those of MXFP4's E2M1 doubled (OCP Microscaling Formats 1.0, 5.3.3): its block's
// exponent is halved instead, 2^(e - 128).
inline constexpr std::int8_t iq4_levels[16] = {-127, -104, -83, -65, -49, -35, -22, -10,
                                               1,    13,   25,  38,  53,  69,  89,  113};
inline constexpr std::int8_t mxfp4_levels[16] = {0, 1, 2, 3, 4, 6, 8, 12, 0, -1, -2, -3, -4, -6, -8, -12};

// The scale of group g of 8 of an IQ4_XS block, -32..31.
inline int scale_iq4_xs(const std::byte* block, int g) {
    const int low = std::to_integer<int>(block[4 + g / 2]) >> (g % 2 * 4) & 15,
              high = std::to_integer<int>(block[2 + g / 4]) >> (g % 4 * 2) & 3;
    return (low | high << 4) - 32;
}

struct TensorType {
    std::uint32_t id;            // GGUF's number
    const char* name;            // "Q4_1"
    std::uint32_t block, bytes;  // values and bytes of a block; 0: known by name only
    void (*dequantize)(const std::byte* from, float* to, std::size_t blocks);  // null: holds no weights (I32)
};

// Null for a number that nobody has given out.
const TensorType* tensor_type(std::uint32_t id);
const TensorType* tensor_type(const char* name);

}  // namespace slmd::pack
