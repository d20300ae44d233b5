// The formats of a matrix: what a (block, group) takes, and its scales as they are stored, to f32, exactly.
#pragma once
#include <cstdint>
#include <cstring>

namespace {

enum class Format { i4, i4a, i8, i6 };
// Bytes a (block, group) of codes, of the high bits of i6, and of scales.
constexpr int code_bytes(Format f) { return f == Format::i8 ? 256 : 128; }
constexpr int high_bytes = 64;
constexpr int scale_bytes(Format f) { return f == Format::i4 ? 8 : f == Format::i4a ? 32 : 16; }

// i6: a code is its four low bits, exclusive or the byte that its two high bits choose: 0 and 1 for codes from 0 up, 2
// and 3 for their complements, so that both parts are small numbers where codes are small.
inline constexpr std::uint8_t fold[4] = {0x00, 0x10, 0xFF, 0xEF};
// For an instruction that looks up bytes by a nibble of two high parts: [0] by its low one, [1] by its high one.
struct FoldTables {
    alignas(16) std::uint8_t of[2][16];
};
constexpr FoldTables fold_tables(int add) {
    FoldTables t{};
    for (int i = 0; i < 16; i++)
        for (int part = 0; part < 2; part++) {
            // The low bits of what is added must be zero: (low ^ fold) + add = low ^ (fold + add).
            t.of[part][i] = static_cast<std::uint8_t>(fold[part == 0 ? i & 3 : i >> 2] + add);
        }
    return t;
}

// i4: sign in bit 7, then 2^(e - 7) * (1 + m / 16): an f32 whose exponent and top mantissa bits are the index.
inline constexpr std::uint32_t index_bias = 120u << 23;
inline float scale_of_index(std::uint8_t index) {
    const std::uint32_t bits = (static_cast<std::uint32_t>(index & 0x80) << 24) |
                               (index_bias + (static_cast<std::uint32_t>(index & 0x7f) << 19));
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}

inline float f16_to_f32(std::uint16_t h) {
    const std::uint32_t sign = static_cast<std::uint32_t>(h & 0x8000) << 16, magnitude = h & 0x7fffu;
    if (magnitude < 0x400) {  // subnormal: exact as a product
        const float f = static_cast<float>(magnitude) * 0x1p-24f;
        return sign ? -f : f;
    }
    const std::uint32_t bits =
        sign | (magnitude >= 0x7c00 ? 0x7f800000u | (magnitude << 13) : (magnitude << 13) + 0x38000000u);
    float f;
    std::memcpy(&f, &bits, 4);
    return f;
}
inline float load_f16(const std::uint8_t* p) {
    std::uint16_t h;
    std::memcpy(&h, p, 2);
    return f16_to_f32(h);
}

}  // namespace
