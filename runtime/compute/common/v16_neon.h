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
    for (int i = 0; i < 4; i++) vst1q_f32(p + 4 * i, x.v[i]);
}
inline V16 set16(float x) {
    const float32x4_t q = vdupq_n_f32(x);
    return {{q, q, q, q}};
}
#define SLMD_BINARY(name, intrinsic)                                    \
    inline V16 name(const V16& x, const V16& y) {                       \
        V16 r;                                                          \
        for (int i = 0; i < 4; i++) r.v[i] = intrinsic(x.v[i], y.v[i]); \
        return r;                                                       \
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
    V16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vfmaq_f32(z.v[i], x.v[i], y.v[i]);
    return r;
}
inline V16 abs(const V16& x) {
    V16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vabsq_f32(x.v[i]);
    return r;
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
    const int8x16_t b = vld1q_s8(p);
    const int16x8_t lo = vmovl_s8(vget_low_s8(b)), hi = vmovl_high_s8(b);
    return {{vcvtq_f32_s32(vmovl_s16(vget_low_s16(lo))), vcvtq_f32_s32(vmovl_high_s16(lo)),
             vcvtq_f32_s32(vmovl_s16(vget_low_s16(hi))), vcvtq_f32_s32(vmovl_high_s16(hi))}};
}
inline V16 load_i32(const std::int32_t* p) {
    V16 r;
    for (int i = 0; i < 4; i++) r.v[i] = vcvtq_f32_s32(vld1q_s32(p + 4 * i));
    return r;
}

}  // namespace
