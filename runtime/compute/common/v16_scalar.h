// Sixteen floats, one by one: what the other v16 headers must equal.
#pragma once
#include <cmath>
#include <cstdint>
#include <cstring>

namespace {

struct V16 {
    float v[16];
};
struct I16 {
    std::int32_t v[16];
};

#define SLMD_EACH for (int i = 0; i < 16; i++)

inline V16 load16(const float* p) {
    V16 r;
    SLMD_EACH r.v[i] = p[i];
    return r;
}
inline void store16(float* p, const V16& a) { SLMD_EACH p[i] = a.v[i]; }
inline V16 set16(float x) {
    V16 r;
    SLMD_EACH r.v[i] = x;
    return r;
}
inline V16 add(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] + b.v[i];
    return r;
}
inline V16 sub(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] - b.v[i];
    return r;
}
inline V16 mul(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] * b.v[i];
    return r;
}
inline V16 div(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] / b.v[i];
    return r;
}
// a * b + c, rounded once
inline V16 fma(const V16& a, const V16& b, const V16& c) {
    V16 r;
    SLMD_EACH r.v[i] = __builtin_fmaf(a.v[i], b.v[i], c.v[i]);
    return r;
}
inline V16 max(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] > b.v[i] ? a.v[i] : b.v[i];
    return r;
}
inline V16 min(const V16& a, const V16& b) {
    V16 r;
    SLMD_EACH r.v[i] = a.v[i] < b.v[i] ? a.v[i] : b.v[i];
    return r;
}
inline V16 abs(const V16& a) {
    V16 r;
    SLMD_EACH r.v[i] = __builtin_fabsf(a.v[i]);
    return r;
}
inline V16 neg(const V16& a) {
    V16 r;
    SLMD_EACH r.v[i] = -a.v[i];
    return r;
}
// The tree of NUMERICS.md: 16 -> 8 -> 4 -> 2 -> 1, lane i with lane i + half.
// The Hadamard butterflies of strides 1, 2, 4, 8.
inline V16 butterflies(V16 x) {
    for (int h = 1; h < 16; h *= 2)
        for (int i = 0; i < 16; i++)
            if ((i & h) == 0) {
                const float a = x.v[i], b = x.v[i + h];
                x.v[i] = a + b;
                x.v[i + h] = a - b;
            }
    return x;
}
inline float sum16(V16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] + a.v[i + half];
    return a.v[0];
}
inline float max16(V16 a) {
    for (int half = 8; half; half /= 2)
        for (int i = 0; i < half; i++) a.v[i] = a.v[i] > a.v[i + half] ? a.v[i] : a.v[i + half];
    return a.v[0];
}
// y * 2^n, where n is in the low mantissa bits of `magic` (n + 1.5 * 2^23).
inline V16 scale_exponent(const V16& y, const V16& magic) {
    V16 r;
    SLMD_EACH {
        std::uint32_t yb, mb;
        std::memcpy(&yb, &y.v[i], 4);
        std::memcpy(&mb, &magic.v[i], 4);
        yb += mb << 23;
        std::memcpy(&r.v[i], &yb, 4);
    }
    return r;
}
// Rounds half to even; |a| < 2^22.
inline I16 to_int(const V16& a) {
    I16 r;
    SLMD_EACH {
        const float m = a.v[i] + 12582912.0f;  // 1.5 * 2^23: the sum has no room for a fraction
        std::int32_t bits;
        std::memcpy(&bits, &m, 4);
        r.v[i] = bits - 0x4B400000;
    }
    return r;
}
inline void store_i8(std::int8_t* p, const I16& a) { SLMD_EACH p[i] = static_cast<std::int8_t>(a.v[i]); }
inline std::int32_t sum_int(const I16& a) {
    std::int32_t s = 0;
    SLMD_EACH s += a.v[i];
    return s;
}
inline V16 load_i8(const std::int8_t* p) {
    V16 r;
    SLMD_EACH r.v[i] = static_cast<float>(p[i]);
    return r;
}
inline V16 load_i32(const std::int32_t* p) {
    V16 r;
    SLMD_EACH r.v[i] = static_cast<float>(p[i]);
    return r;
}
#undef SLMD_EACH

}  // namespace
