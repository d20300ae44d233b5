// Sixteen floats in four registers.
#pragma once
#include <arm_neon.h>

#include <cstdint>

namespace {

struct V16 {
    float32x4_t v[4];
};
struct I16 {
    int32x4_t v[4];
};

inline V16 load16(const float* p) { return {{vld1q_f32(p), vld1q_f32(p + 4), vld1q_f32(p + 8), vld1q_f32(p + 12)}}; }
inline void store16(float* p, const V16& x) {
    vst1q_f32(p, x.v[0]), vst1q_f32(p + 4, x.v[1]), vst1q_f32(p + 8, x.v[2]), vst1q_f32(p + 12, x.v[3]);
}
inline V16 set16(float x) {
    const float32x4_t q = vdupq_n_f32(x);
    return {{q, q, q, q}};
}
// Written out, without loops: GCC keeps what a loop indexes in memory.
#define SLMD_BINARY(name, intrinsic)                                                              \
    inline V16 name(const V16& x, const V16& y) {                                                 \
        return {{intrinsic(x.v[0], y.v[0]), intrinsic(x.v[1], y.v[1]), intrinsic(x.v[2], y.v[2]), \
                 intrinsic(x.v[3], y.v[3])}};                                                     \
    }
SLMD_BINARY(add, vaddq_f32)
SLMD_BINARY(sub, vsubq_f32)
SLMD_BINARY(mul, vmulq_f32)
SLMD_BINARY(div, vdivq_f32)
// Not vmaxq: x > y ? x : y, as everywhere else.
inline float32x4_t max_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcgtq_f32(x, y), x, y); }
inline float32x4_t min_4(float32x4_t x, float32x4_t y) { return vbslq_f32(vcltq_f32(x, y), x, y); }
SLMD_BINARY(max, max_4)
SLMD_BINARY(min, min_4)
#undef SLMD_BINARY
inline V16 fma(const V16& x, const V16& y, const V16& z) {
    return {{vfmaq_f32(z.v[0], x.v[0], y.v[0]), vfmaq_f32(z.v[1], x.v[1], y.v[1]), vfmaq_f32(z.v[2], x.v[2], y.v[2]),
             vfmaq_f32(z.v[3], x.v[3], y.v[3])}};
}
inline V16 abs(const V16& x) {
    return {{vabsq_f32(x.v[0]), vabsq_f32(x.v[1]), vabsq_f32(x.v[2]), vabsq_f32(x.v[3])}};
}
// Hadamard butterflies. Three times even and odd lanes of two registers, sums before differences: the lanes are in
// order again.
inline void butterflies_8(float32x4_t& a, float32x4_t& b) {
    for (int i = 0; i < 3; i++) {
        const float32x4_t even = vuzp1q_f32(a, b), odd = vuzp2q_f32(a, b);
        a = vaddq_f32(even, odd);
        b = vsubq_f32(even, odd);
    }
}
inline V16 butterflies(V16 x) {
    butterflies_8(x.v[0], x.v[1]);
    butterflies_8(x.v[2], x.v[3]);
    return {
        {vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]), vsubq_f32(x.v[0], x.v[2]), vsubq_f32(x.v[1], x.v[3])}};
}
inline V16 neg(const V16& x) {
    V16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vnegq_f32(x.v[i]);
    return r;
}
inline float sum16(const V16& x) {
    const float32x4_t q = vaddq_f32(vaddq_f32(x.v[0], x.v[2]), vaddq_f32(x.v[1], x.v[3]));
    const float32x2_t h = vadd_f32(vget_low_f32(q), vget_high_f32(q));
    return vget_lane_f32(h, 0) + vget_lane_f32(h, 1);
}
inline float max16(const V16& x) { return vmaxvq_f32(vmaxq_f32(vmaxq_f32(x.v[0], x.v[2]), vmaxq_f32(x.v[1], x.v[3]))); }
inline V16 scale_exponent(const V16& y, const V16& magic) {
    V16 r;
    for (int i = 0; i < 4; i++)
        r.v[i] = vreinterpretq_f32_s32(
            vaddq_s32(vreinterpretq_s32_f32(y.v[i]), vshlq_n_s32(vreinterpretq_s32_f32(magic.v[i]), 23)));
    return r;
}
inline I16 to_int(const V16& x) {
    I16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vcvtnq_s32_f32(x.v[i]);
    return r;
}
inline void store_i8(std::int8_t* p, const I16& x) {
    const int16x8_t lo = vcombine_s16(vmovn_s32(x.v[0]), vmovn_s32(x.v[1])),
                    hi = vcombine_s16(vmovn_s32(x.v[2]), vmovn_s32(x.v[3]));
    vst1q_s8(p, vcombine_s8(vmovn_s16(lo), vmovn_s16(hi)));
}
inline std::int32_t sum_int(const I16& x) {
    return vaddvq_s32(vaddq_s32(vaddq_s32(x.v[0], x.v[1]), vaddq_s32(x.v[2], x.v[3])));
}
inline V16 load_i8(const std::int8_t* p) {
    // Each byte to the top of 32 bits, which a fixed-point conversion takes as they are: eight instructions, not ten.
    alignas(64) static constexpr std::uint8_t top[64] = {
        99, 99, 99, 0,  99, 99, 99, 1,  99, 99, 99, 2,  99, 99, 99, 3,  99, 99, 99, 4,  99, 99,
        99, 5,  99, 99, 99, 6,  99, 99, 99, 7,  99, 99, 99, 8,  99, 99, 99, 9,  99, 99, 99, 10,
        99, 99, 99, 11, 99, 99, 99, 12, 99, 99, 99, 13, 99, 99, 99, 14, 99, 99, 99, 15};
    const int8x16_t b = vld1q_s8(p);
    const auto part = [&](int i) __attribute__((always_inline)) {
        return vcvtq_n_f32_s32(vreinterpretq_s32_s8(vqtbl1q_s8(b, vld1q_u8(top + 16 * i))), 24);
    };
    return {{part(0), part(1), part(2), part(3)}};
}
inline V16 load_i32(const std::int32_t* p) {
    V16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vcvtq_f32_s32(vld1q_s32(p + 4 * i));
    return r;
}

}  // namespace
