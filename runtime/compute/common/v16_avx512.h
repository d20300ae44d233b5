// Sixteen floats in one register.
#pragma once
#include <immintrin.h>

#include <cstdint>

namespace {

struct V16 {
    __m512 v;
};
struct I16 {
    __m512i v;
};

inline V16 load16(const float* p) { return {_mm512_loadu_ps(p)}; }
inline void store16(float* p, const V16& a) { _mm512_storeu_ps(p, a.v); }
inline V16 set16(float x) { return {_mm512_set1_ps(x)}; }
inline V16 add(const V16& a, const V16& b) { return {_mm512_add_ps(a.v, b.v)}; }
inline V16 sub(const V16& a, const V16& b) { return {_mm512_sub_ps(a.v, b.v)}; }
inline V16 mul(const V16& a, const V16& b) { return {_mm512_mul_ps(a.v, b.v)}; }
inline V16 div(const V16& a, const V16& b) { return {_mm512_div_ps(a.v, b.v)}; }
inline V16 fma(const V16& a, const V16& b, const V16& c) { return {_mm512_fmadd_ps(a.v, b.v, c.v)}; }
inline V16 max(const V16& a, const V16& b) { return {_mm512_max_ps(a.v, b.v)}; }
inline V16 min(const V16& a, const V16& b) { return {_mm512_min_ps(a.v, b.v)}; }
inline V16 abs(const V16& a) { return {_mm512_abs_ps(a.v)}; }
inline V16 neg(const V16& a) { return {_mm512_xor_ps(a.v, _mm512_set1_ps(-0.0f))}; }

// Hadamard butterflies: lane i becomes a + b where it is a, b's partner, and a - b where it is b.
inline V16 butterflies(const V16& x) {
    const auto step = [](__m512 swapped, __m512 v, __mmask16 upper) {
        return _mm512_mask_sub_ps(_mm512_add_ps(swapped, v), upper, swapped, v);
    };
    __m512 v = step(_mm512_permute_ps(x.v, 0xB1), x.v, 0xAAAA);
    v = step(_mm512_permute_ps(v, 0x4E), v, 0xCCCC);
    v = step(_mm512_shuffle_f32x4(v, v, 0xB1), v, 0xF0F0);
    return {step(_mm512_shuffle_f32x4(v, v, 0x4E), v, 0xFF00)};
}

inline float sum16(const V16& a) {
    __m256 h = _mm256_add_ps(_mm512_castps512_ps256(a.v), _mm512_extractf32x8_ps(a.v, 1));
    __m128 q = _mm_add_ps(_mm256_castps256_ps128(h), _mm256_extractf128_ps(h, 1));
    q = _mm_add_ps(q, _mm_movehl_ps(q, q));
    return _mm_cvtss_f32(_mm_add_ss(q, _mm_shuffle_ps(q, q, 1)));
}
inline float max16(const V16& a) { return _mm512_reduce_max_ps(a.v); }
inline V16 scale_exponent(const V16& y, const V16& magic) {
    return {_mm512_castsi512_ps(
        _mm512_add_epi32(_mm512_castps_si512(y.v), _mm512_slli_epi32(_mm512_castps_si512(magic.v), 23)))};
}
inline I16 to_int(const V16& a) { return {_mm512_cvtps_epi32(a.v)}; }
inline void store_i8(std::int8_t* p, const I16& a) {
    _mm_storeu_si128(reinterpret_cast<__m128i*>(p), _mm512_cvtepi32_epi8(a.v));
}
inline std::int32_t sum_int(const I16& a) { return _mm512_reduce_add_epi32(a.v); }
inline V16 load_i8(const std::int8_t* p) {
    return {_mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(reinterpret_cast<const __m128i*>(p))))};
}
inline V16 load_i32(const std::int32_t* p) { return {_mm512_cvtepi32_ps(_mm512_loadu_si512(p))}; }

}  // namespace
