#include "toolchain/slmpack/source/tensor_types.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace slmd::pack {
namespace {

float half_at(const std::byte* p) { return half_to_float(load<std::uint16_t>(p)); }
const std::uint8_t* u8(const std::byte* p) { return reinterpret_cast<const std::uint8_t*>(p); }

void from_f32(const std::byte* from, float* to, std::size_t n) {
    if (n > 0) std::memcpy(to, from, n * sizeof(float));
}

void from_f16(const std::byte* from, float* to, std::size_t n) {
    for (std::size_t i = 0; i < n; i++) to[i] = half_at(from + 2 * i);
}

void from_bf16(const std::byte* from, float* to, std::size_t n) {
    for (std::size_t i = 0; i < n; i++) to[i] = bf16_to_float(load<std::uint16_t>(from + 2 * i));
}

// Blocks of 32. 4 bit: byte j holds value j (low nibble) and value j + 16.
void from_q4_0(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 18, to += 32) {
        const float d = half_at(from);
        const std::uint8_t* q = u8(from + 2);
        for (int j = 0; j < 16; j++) {
            to[j] = float((q[j] & 15) - 8) * d;
            to[j + 16] = float((q[j] >> 4) - 8) * d;
        }
    }
}

void from_q4_1(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 20, to += 32) {
        const float d = half_at(from), m = half_at(from + 2);
        const std::uint8_t* q = u8(from + 4);
        for (int j = 0; j < 16; j++) {
            to[j] = float(q[j] & 15) * d + m;
            to[j + 16] = float(q[j] >> 4) * d + m;
        }
    }
}

// 5 bit: bit j of a 32-bit word is the high bit of value j.
void from_q5_0(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 22, to += 32) {
        const float d = half_at(from);
        const std::uint32_t high = load<std::uint32_t>(from + 2);
        const std::uint8_t* q = u8(from + 6);
        for (int j = 0; j < 16; j++) {
            to[j] = float(int((q[j] & 15) | (high >> j & 1) << 4) - 16) * d;
            to[j + 16] = float(int((q[j] >> 4) | (high >> (j + 16) & 1) << 4) - 16) * d;
        }
    }
}

void from_q5_1(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 24, to += 32) {
        const float d = half_at(from), m = half_at(from + 2);
        const std::uint32_t high = load<std::uint32_t>(from + 4);
        const std::uint8_t* q = u8(from + 8);
        for (int j = 0; j < 16; j++) {
            to[j] = float((q[j] & 15) | (high >> j & 1) << 4) * d + m;
            to[j + 16] = float((q[j] >> 4) | (high >> (j + 16) & 1) << 4) * d + m;
        }
    }
}

void from_q8_0(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 34, to += 32) {
        const float d = half_at(from);
        for (int j = 0; j < 32; j++) to[j] = float(load<std::int8_t>(from + 2 + j)) * d;
    }
}

// Blocks of 256 in eight groups of 32; a group's scale and minimum are 6 bit, packed in 12 bytes.
void from_q4_k(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 144) {
        const float d = half_at(from), min = half_at(from + 2);
        const std::uint8_t *s = u8(from + 4), *q = u8(from + 16);
        for (int group = 0; group < 8; group += 2, q += 32) {
            const auto low = scale_min_k4(s, group), high = scale_min_k4(s, group + 1);
            const float d1 = d * low.scale, m1 = min * low.min, d2 = d * high.scale, m2 = min * high.min;
            for (int l = 0; l < 32; l++) *to++ = d1 * float(q[l] & 15) - m1;
            for (int l = 0; l < 32; l++) *to++ = d2 * float(q[l] >> 4) - m2;
        }
    }
}

void from_q5_k(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 176) {
        const float d = half_at(from), min = half_at(from + 2);
        const std::uint8_t *s = u8(from + 4), *h = u8(from + 16), *q = u8(from + 48);
        for (int group = 0; group < 8; group += 2, q += 32) {
            const auto low = scale_min_k4(s, group), high = scale_min_k4(s, group + 1);
            const float d1 = d * low.scale, m1 = min * low.min, d2 = d * high.scale, m2 = min * high.min;
            for (int l = 0; l < 32; l++) *to++ = d1 * float((q[l] & 15) + (h[l] >> group & 1) * 16) - m1;
            for (int l = 0; l < 32; l++) *to++ = d2 * float((q[l] >> 4) + (h[l] >> (group + 1) & 1) * 16) - m2;
        }
    }
}

// 256 values in sixteen groups of 16 with 8-bit scales; 4 low bits in ql, 2 high bits in qh.
void from_q6_k(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 210) {
        const std::uint8_t *ql = u8(from), *qh = u8(from + 128);
        const std::int8_t* s = reinterpret_cast<const std::int8_t*>(from + 192);
        const float d = half_at(from + 208);
        for (int half = 0; half < 2; half++, ql += 64, qh += 32, s += 8, to += 128)
            for (int l = 0; l < 32; l++) {
                const int g = l / 16;
                to[l] = d * s[g] * float(((ql[l] & 15) | (qh[l] & 3) << 4) - 32);
                to[l + 32] = d * s[g + 2] * float(((ql[l + 32] & 15) | (qh[l] >> 2 & 3) << 4) - 32);
                to[l + 64] = d * s[g + 4] * float(((ql[l] >> 4) | (qh[l] >> 4 & 3) << 4) - 32);
                to[l + 96] = d * s[g + 6] * float(((ql[l + 32] >> 4) | (qh[l] >> 6) << 4) - 32);
            }
    }
}

// 256 values in sixteen groups of 16; a byte holds a group's scale (low nibble) and minimum (high).
void from_q2_k(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 84) {
        const std::uint8_t *s = u8(from), *q = u8(from + 16);
        const float d = half_at(from + 80), min = half_at(from + 82);
        for (int half = 0; half < 2; half++, q += 32)
            for (int shift = 0; shift < 8; shift += 2)
                for (int l = 0; l < 32; l += 16, s++) {
                    const float scale = d * float(*s & 15), minimum = min * float(*s >> 4);
                    for (int i = l; i < l + 16; i++) *to++ = scale * float(q[i] >> shift & 3) - minimum;
                }
    }
}

// 256 values in sixteen groups of 16 with 6-bit scales; a bit that is not set in `high` takes 4 away.
void from_q3_k(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 110) {
        const std::uint8_t *high = u8(from), *q = u8(from + 32), *s = u8(from + 96);
        const float d = half_at(from + 108);
        for (int g = 0; g < 16; g++) {
            const int low = g < 8 ? s[g] & 15 : s[g - 8] >> 4, top = s[8 + g % 4] >> (g / 4 * 2) & 3;
            const float scale = d * float((low | top << 4) - 32);
            const int half = g / 8, shift = g % 8 / 2 * 2, l = g % 2 * 16;
            for (int i = l; i < l + 16; i++)
                *to++ = scale * float((q[half * 32 + i] >> shift & 3) - (high[i] >> (g / 2) & 1 ? 0 : 4));
        }
    }
}

void from_iq4_nl(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 18, to += 32) {
        const float d = half_at(from);
        const std::uint8_t* q = u8(from + 2);
        for (int j = 0; j < 16; j++) {
            to[j] = d * float(iq4_levels[q[j] & 15]);
            to[j + 16] = d * float(iq4_levels[q[j] >> 4]);
        }
    }
}

// IQ4_NL's levels in blocks of 256 in eight groups of 32 with 6-bit scales.
void from_iq4_xs(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 136) {
        const std::uint8_t* q = u8(from + 8);
        for (int g = 0; g < 8; g++, q += 16, to += 32) {
            const float scale = half_at(from) * float(scale_iq4_xs(from, g));
            for (int j = 0; j < 16; j++) {
                to[j] = scale * float(iq4_levels[q[j] & 15]);
                to[j + 16] = scale * float(iq4_levels[q[j] >> 4]);
            }
        }
    }
}

void from_mxfp4(const std::byte* from, float* to, std::size_t blocks) {
    for (; blocks-- > 0; from += 17, to += 32) {
        const float d = std::ldexp(1.0f, int(*u8(from)) - 128);
        const std::uint8_t* q = u8(from + 1);
        for (int j = 0; j < 16; j++) {
            to[j] = d * float(mxfp4_levels[q[j] & 15]);
            to[j + 16] = d * float(mxfp4_levels[q[j] >> 4]);
        }
    }
}

constexpr TensorType types[] = {
    {0, "F32", 1, 4, from_f32},
    {1, "F16", 1, 2, from_f16},
    {2, "Q4_0", 32, 18, from_q4_0},
    {3, "Q4_1", 32, 20, from_q4_1},
    {6, "Q5_0", 32, 22, from_q5_0},
    {7, "Q5_1", 32, 24, from_q5_1},
    {8, "Q8_0", 32, 34, from_q8_0},
    {10, "Q2_K", 256, 84, from_q2_k},
    {11, "Q3_K", 256, 110, from_q3_k},
    {12, "Q4_K", 256, 144, from_q4_k},
    {13, "Q5_K", 256, 176, from_q5_k},
    {14, "Q6_K", 256, 210, from_q6_k},
    {20, "IQ4_NL", 32, 18, from_iq4_nl},
    {23, "IQ4_XS", 256, 136, from_iq4_xs},
    {30, "BF16", 1, 2, from_bf16},
    {39, "MXFP4", 32, 17, from_mxfp4},
    {26, "I32", 1, 4, nullptr},
    {27, "I64", 1, 8, nullptr},
    // Known by name only.
    {9, "Q8_1", 0, 0, nullptr},
    {15, "Q8_K", 0, 0, nullptr},
    {16, "IQ2_XXS", 0, 0, nullptr},
    {17, "IQ2_XS", 0, 0, nullptr},
    {18, "IQ3_XXS", 0, 0, nullptr},
    {19, "IQ1_S", 0, 0, nullptr},
    {21, "IQ3_S", 0, 0, nullptr},
    {22, "IQ2_S", 0, 0, nullptr},
    {24, "I8", 0, 0, nullptr},
    {25, "I16", 0, 0, nullptr},
    {28, "F64", 0, 0, nullptr},
    {29, "IQ1_M", 0, 0, nullptr},
    {34, "TQ1_0", 0, 0, nullptr},
    {35, "TQ2_0", 0, 0, nullptr},
};

}  // namespace

std::uint16_t float_to_half(float f) {
    const std::uint32_t bits = std::bit_cast<std::uint32_t>(f), sign = bits >> 16 & 0x8000,
                        magnitude = bits & 0x7FFFFFFF;
    if (magnitude > 0x7F800000) return std::uint16_t(sign | 0x7E00);
    if (magnitude >= 0x477FF000) return std::uint16_t(sign | 0x7C00);  // 65520 and more round to infinity
    if (magnitude < 0x38800000)                                        // below 2^-14: a multiple of 2^-24
        return std::uint16_t(sign | std::uint32_t(std::nearbyint(std::bit_cast<float>(magnitude) * 0x1p24f)));
    return std::uint16_t(sign | (((magnitude + 0xFFF + (magnitude >> 13 & 1)) >> 13) - (112u << 10)));
}

const TensorType* tensor_type(std::uint32_t id) {
    for (const auto& t : types)
        if (t.id == id) return &t;
    return nullptr;
}

const TensorType* tensor_type(const char* name) {
    for (const auto& t : types)
        if (std::strcmp(t.name, name) == 0) return &t;
    return nullptr;
}

}  // namespace slmd::pack
