// The ARM levels: plain NEON (A53, A72) and, where the including file defines SLMD_DOTPROD, sdot (A55, A76 and later).
#include "compute/common/scale.h"
#include "compute/common/v16_neon.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

// Signed weights of one panel and group; pair[i][o]: rows 2 i and 2 i + 1, columns 8 o .. 8 o + 7.
struct Panel {
    int8x16_t pair[2][4];
};

template <Format F>
inline int8x16_t load_book(const Matrix& w) {
    return F == Format::i4 ? vld1q_s8(w.book) : vdupq_n_s8(0);
}

template <Format F>
inline Panel unpack(const std::uint8_t* codes, int8x16_t book) {
    Panel u;
    if constexpr (F == Format::i8) {
        for (int o = 0; o < 4; o++)
            for (int i = 0; i < 2; i++) u.pair[i][o] = vreinterpretq_s8_u8(vld1q_u8(codes + 32 * o + 16 * i));
    } else {
        const uint8x16_t low = vdupq_n_u8(15);
        for (int o = 0; o < 2; o++)
            for (int i = 0; i < 2; i++) {
                const uint8x16_t c = vld1q_u8(codes + 32 * o + 16 * i);
                const uint8x16_t lo = vandq_u8(c, low), hi = vshrq_n_u8(c, 4);
                u.pair[i][o] = F == Format::i4 ? vqtbl1q_s8(book, lo) : vreinterpretq_s8_u8(lo);
                u.pair[i][o + 2] = F == Format::i4 ? vqtbl1q_s8(book, hi) : vreinterpretq_s8_u8(hi);
            }
    }
    return u;
}

// Dots of the 4 rows of a panel with one group of activations.
template <Format F>
inline int32x4_t panel_dots(const Panel& u, const std::int8_t* q) {
#ifdef SLMD_DOTPROD
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int o = 0; o < 4; o++) {
        const int8x16_t x = vreinterpretq_s8_s64(vld1q_dup_s64(reinterpret_cast<const std::int64_t*>(q + 8 * o)));
        for (int i = 0; i < 2; i++) sum[i] = vdotq_s32(sum[i], u.pair[i][o], x);
    }
    return vpaddq_s32(sum[0], sum[1]);
#else
    const int8x16_t x01 = vld1q_s8(q), x23 = vld1q_s8(q + 16);
    const int8x8_t x[4] = {vget_low_s8(x01), vget_high_s8(x01), vget_low_s8(x23), vget_high_s8(x23)};
    int32x4_t rows[2];
    for (int i = 0; i < 2; i++) {
        if constexpr (F == Format::i8) {  // two products of 127 * 127 fit 16 bits
            int32x4_t wide[2];
            for (int half = 0; half < 2; half++) {
                auto part = [&](int o) { return half ? vget_high_s8(u.pair[i][o]) : vget_low_s8(u.pair[i][o]); };
                wide[half] = vpaddlq_s16(vmlal_s8(vmull_s8(part(0), x[0]), part(1), x[1]));
                wide[half] = vpadalq_s16(wide[half], vmlal_s8(vmull_s8(part(2), x[2]), part(3), x[3]));
            }
            rows[i] = vpaddq_s32(wide[0], wide[1]);
        } else {  // eight of 31 * 127 do: four here, and the pairwise add makes eight
            int16x8_t sum[2];
            for (int half = 0; half < 2; half++) {
                auto part = [&](int o) { return half ? vget_high_s8(u.pair[i][o]) : vget_low_s8(u.pair[i][o]); };
                sum[half] = vmlal_s8(vmlal_s8(vmlal_s8(vmull_s8(part(0), x[0]), part(1), x[1]), part(2), x[2]), part(3), x[3]);
            }
            rows[i] = vpaddlq_s16(vpaddq_s16(sum[0], sum[1]));
        }
    }
    return vpaddq_s32(rows[0], rows[1]);
#endif
}

// f32 scales of the 8 rows of a (block, group).
template <Format F>
inline void row_scales(const std::uint8_t* scales, float32x4_t out[2]) {
    if constexpr (F == Format::i4) {
        const int16x8_t index = vshll_n_s8(vreinterpret_s8_u8(vld1_u8(scales)), 7);
        const int32x4_t mask = vdupq_n_s32(static_cast<int>(0x83F80000u)), bias = vdupq_n_s32(index_bias);
        out[0] = vreinterpretq_f32_s32(vaddq_s32(vandq_s32(vshll_n_s16(vget_low_s16(index), 12), mask), bias));
        out[1] = vreinterpretq_f32_s32(vaddq_s32(vandq_s32(vshll_high_n_s16(index, 12), mask), bias));
    } else {
        const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(scales));
        out[0] = vcvt_f32_f16(vget_low_f16(h));
        out[1] = vcvt_high_f32_f16(h);
    }
}

// One block of rows times T tokens.
template <Format F, int T>
inline void tile(const Matrix& w, int b, int8x16_t book, const Quantized& x, int t0, float* y, std::size_t ldy) {
    const int groups = w.cols / group, gs = x.stride / group;
    const std::size_t first = static_cast<std::size_t>(b) * static_cast<std::size_t>(groups);
    const std::uint8_t *codes = w.codes + first * code_bytes(F), *scales = w.scales + first * scale_bytes(F);
    float32x4_t acc[T][2];
    for (int t = 0; t < T; t++) acc[t][0] = acc[t][1] = vdupq_n_f32(0);
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F)) {
        float32x4_t sw[2], minimum[2];
        row_scales<F>(scales, sw);
        if constexpr (F == Format::i4a) row_scales<F>(scales + 16, minimum);
        for (int panel = 0; panel < 2; panel++) {
            const Panel u = unpack<F>(codes + panel * (code_bytes(F) / 2), book);
            for (int t = 0; t < T; t++) {
                const int32x4_t dot = panel_dots<F>(u, x.q + (t0 + t) * x.stride + g * group);
                const float sx = x.scale[(t0 + t) * gs + g];
                acc[t][panel] = vfmaq_f32(acc[t][panel], vcvtq_f32_s32(dot), vmulq_n_f32(sw[panel], sx));
                if constexpr (F == Format::i4a)
                    acc[t][panel] = vfmaq_f32(acc[t][panel], vdupq_n_f32(static_cast<float>(x.sum[(t0 + t) * gs + g])), vmulq_n_f32(minimum[panel], sx));
            }
        }
    }
    for (int t = 0; t < T; t++)
        for (int panel = 0; panel < 2; panel++) {
            float* out = y + static_cast<std::size_t>(t0 + t) * ldy + b * block + 4 * panel;
            vst1q_f32(out, F == Format::i4 ? vmulq_f32(acc[t][panel], vld1q_f32(w.steps + b * block + 4 * panel)) : acc[t][panel]);
        }
}

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const int8x16_t book = load_book<F>(w);
    int t = 0;
    do {
        for (int b = begin; b < end; b++) {
            if (tokens - t >= 4)
                tile<F, 4>(w, b, book, x, t, y, ldy);
            else
                tile<F, 1>(w, b, book, x, t, y, ldy);
        }
        t += tokens - t >= 4 ? 4 : 1;
    } while (t < tokens);
}

constexpr int heads_together = 1;

template <int R>
void dot_positions(const std::int8_t* k, int head_dim, const std::int8_t* q, int q_stride, std::int32_t* dots) {
    for (int r = 0; r < R; r++) {
        int32x4_t acc[4] = {vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0), vdupq_n_s32(0)};
        for (int d = 0; d < head_dim; d += 4) {
            const int8x16_t x = vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const std::int32_t*>(q + r * q_stride + d)));
            for (int i = 0; i < 4; i++) {
                const int8x16_t keys = vld1q_s8(k + d * kv_block + 16 * i);  // 4 positions x 4 dimensions
#ifdef SLMD_DOTPROD
                acc[i] = vdotq_s32(acc[i], keys, x);
#else
                const int32x4_t lo = vpaddlq_s16(vmull_s8(vget_low_s8(keys), vget_low_s8(x)));
                const int32x4_t hi = vpaddlq_s16(vmull_high_s8(keys, x));
                acc[i] = vaddq_s32(acc[i], vpaddq_s32(lo, hi));
#endif
            }
        }
        for (int i = 0; i < 4; i++) vst1q_s32(dots + r * kv_block + 4 * i, acc[i]);
    }
}

#include "compute/common/ops.inl"

}  // namespace
}  // namespace slmd::compute
