// The ARM levels: plain NEON (A53, A72); sdot (A55, A76 and later) where the including file defines SLMD_DOTPROD; smmla
// (A510, A715, N2 and later) as well where it defines SLMD_I8MM.
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

// f32 scales of the 4 rows of a panel in a (block, group).
template <Format F>
inline float32x4_t row_scales(const std::uint8_t* scales) {
    if constexpr (F == Format::i4) {
        std::uint32_t four;
        __builtin_memcpy(&four, scales, 4);
        const int16x4_t index = vget_low_s16(vshll_n_s8(vreinterpret_s8_u32(vdup_n_u32(four)), 7));
        const int32x4_t mask = vdupq_n_s32(static_cast<int>(0x83F80000u)), bias = vdupq_n_s32(index_bias);
        return vreinterpretq_f32_s32(vaddq_s32(vandq_s32(vshll_n_s16(index, 12), mask), bias));
    } else {
        return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(scales)));
    }
}
// The same of both panels of a block.
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

// One group of one token: octet o of it in both halves of x[o].
struct Octets {
    int8x16_t x[4];
};

inline Octets load_octets(const std::int8_t* q) {
    const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(q)), b = vreinterpretq_s64_s8(vld1q_s8(q + 16));
    return {{vreinterpretq_s8_s64(vdupq_laneq_s64(a, 0)), vreinterpretq_s8_s64(vdupq_laneq_s64(a, 1)),
             vreinterpretq_s8_s64(vdupq_laneq_s64(b, 0)), vreinterpretq_s8_s64(vdupq_laneq_s64(b, 1))}};
}

// Dots of the 4 rows of a panel with one token.
template <Format F>
inline int32x4_t dots_of_one(const Panel& u, const Octets& q) {
#ifdef SLMD_DOTPROD
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 2; i++) sum[i] = vdotq_s32(sum[i], u.pair[i][o], q.x[o]);
    return vpaddq_s32(sum[0], sum[1]);
#else
    const auto low = [](int8x16_t v) { return vget_low_s8(v); };
    int32x4_t rows[2];
    for (int i = 0; i < 2; i++) {
        const int8x16_t* w = u.pair[i];
        if constexpr (F == Format::i8) {  // two products of 127 * 127 fit 16 bits
            int32x4_t even = vpaddlq_s16(vmlal_s8(vmull_s8(low(w[0]), low(q.x[0])), low(w[1]), low(q.x[1])));
            even = vpadalq_s16(even, vmlal_s8(vmull_s8(low(w[2]), low(q.x[2])), low(w[3]), low(q.x[3])));
            int32x4_t odd = vpaddlq_s16(vmlal_high_s8(vmull_high_s8(w[0], q.x[0]), w[1], q.x[1]));
            odd = vpadalq_s16(odd, vmlal_high_s8(vmull_high_s8(w[2], q.x[2]), w[3], q.x[3]));
            rows[i] = vpaddq_s32(even, odd);
        } else {  // eight of 31 * 127 do: four here, and the pairwise add makes eight
            int16x8_t even = vmull_s8(low(w[0]), low(q.x[0])), odd = vmull_high_s8(w[0], q.x[0]);
            for (int o = 1; o < 4; o++) {
                even = vmlal_s8(even, low(w[o]), low(q.x[o]));
                odd = vmlal_high_s8(odd, w[o], q.x[o]);
            }
            rows[i] = vpaddlq_s16(vpaddq_s16(even, odd));
        }
    }
    return vpaddq_s32(rows[0], rows[1]);
#endif
}

// One block of rows times one token.
template <Format F>
inline void block_times_token(const Matrix& w, int b, int8x16_t book, const Quantized& x, int t, float* y) {
    const int groups = w.cols / group;
    const std::size_t first = static_cast<std::size_t>(b) * static_cast<std::size_t>(groups);
    const std::uint8_t *codes = w.codes + first * code_bytes(F), *scales = w.scales + first * scale_bytes(F);
    const std::int8_t* q = x.q + t * x.stride;
    const float* sx = x.scale + t * (x.stride / group);
    const std::int32_t* sum = x.sum + t * (x.stride / group);
    float32x4_t acc[2] = {vdupq_n_f32(0), vdupq_n_f32(0)};
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F), q += group) {
        float32x4_t sw[2], minimum[2];
        row_scales<F>(scales, sw);
        if constexpr (F == Format::i4a) row_scales<F>(scales + 16, minimum);
        const Octets octets = load_octets(q);
        for (int panel = 0; panel < 2; panel++) {
            const int32x4_t dot = dots_of_one<F>(unpack<F>(codes + panel * (code_bytes(F) / 2), book), octets);
            acc[panel] = vfmaq_f32(acc[panel], vcvtq_f32_s32(dot), vmulq_n_f32(sw[panel], sx[g]));
            if constexpr (F == Format::i4a)
                acc[panel] = vfmaq_n_f32(acc[panel], vmulq_n_f32(minimum[panel], sx[g]), static_cast<float>(sum[g]));
        }
    }
    for (int panel = 0; panel < 2; panel++)
        vst1q_f32(y + 4 * panel, F == Format::i4 ? vmulq_f32(acc[panel], vld1q_f32(w.steps + b * block + 4 * panel)) : acc[panel]);
}

// The panel of several tokens, turned once so that a token's bytes are used as they lie.
#if defined(SLMD_I8MM)
// smmla wants what the image has: two rows of 8 columns.
inline void turn(Panel&) {}
#elif defined(SLMD_DOTPROD)
// pair[0][o], pair[1][o] become columns 8 o .. 8 o + 3 and 8 o + 4 .. 8 o + 7 of all four rows.
inline void turn(Panel& u) {
    for (int o = 0; o < 4; o++) {
        const int32x4_t a = vreinterpretq_s32_s8(u.pair[0][o]), b = vreinterpretq_s32_s8(u.pair[1][o]);
        u.pair[0][o] = vreinterpretq_s8_s32(vuzp1q_s32(a, b));
        u.pair[1][o] = vreinterpretq_s8_s32(vuzp2q_s32(a, b));
    }
}
#else
// pair[i][o] becomes row 2 i + (o & 1), columns 16 (o / 2) .. 16 (o / 2) + 15.
inline void turn(Panel& u) {
    for (int i = 0; i < 2; i++)
        for (int o = 0; o < 4; o += 2) {
            const int64x2_t a = vreinterpretq_s64_s8(u.pair[i][o]), b = vreinterpretq_s64_s8(u.pair[i][o + 1]);
            u.pair[i][o] = vreinterpretq_s8_s64(vzip1q_s64(a, b));
            u.pair[i][o + 1] = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        }
}
#endif

// Dots of the 4 rows of a turned panel with two tokens.
template <Format F>
inline void dots_of_two(const Panel& u, const std::int8_t* q0, const std::int8_t* q1, int32x4_t dots[2]) {
#if defined(SLMD_I8MM)
    int32x4_t sum[2] = {vdupq_n_s32(0), vdupq_n_s32(0)};
    for (int half = 0; half < 2; half++) {
        const int64x2_t a = vreinterpretq_s64_s8(vld1q_s8(q0 + 16 * half)), b = vreinterpretq_s64_s8(vld1q_s8(q1 + 16 * half));
        const int8x16_t even = vreinterpretq_s8_s64(vzip1q_s64(a, b)), odd = vreinterpretq_s8_s64(vzip2q_s64(a, b));
        for (int i = 0; i < 2; i++) {
            sum[i] = vmmlaq_s32(sum[i], u.pair[i][2 * half], even);
            sum[i] = vmmlaq_s32(sum[i], u.pair[i][2 * half + 1], odd);
        }
    }
    dots[0] = vuzp1q_s32(sum[0], sum[1]);
    dots[1] = vuzp2q_s32(sum[0], sum[1]);
#else
    for (int t = 0; t < 2; t++) {
        const std::int8_t* q = t == 0 ? q0 : q1;
        const int8x16_t x[2] = {vld1q_s8(q), vld1q_s8(q + 16)};
#ifdef SLMD_DOTPROD
        int32x4_t sum = vdupq_n_s32(0);
        for (int half = 0; half < 2; half++) {
            sum = vdotq_laneq_s32(sum, u.pair[0][2 * half], x[half], 0);
            sum = vdotq_laneq_s32(sum, u.pair[1][2 * half], x[half], 1);
            sum = vdotq_laneq_s32(sum, u.pair[0][2 * half + 1], x[half], 2);
            sum = vdotq_laneq_s32(sum, u.pair[1][2 * half + 1], x[half], 3);
        }
        dots[t] = sum;
#else
        int32x4_t pairs[2];
        for (int i = 0; i < 2; i++) {
            const int8x16_t* w = u.pair[i];
            if constexpr (F == Format::i8) {
                int32x4_t rows[2];
                for (int r = 0; r < 2; r++) {
                    rows[r] = vpaddlq_s16(vmlal_high_s8(vmull_s8(vget_low_s8(w[r]), vget_low_s8(x[0])), w[r], x[0]));
                    rows[r] = vpadalq_s16(rows[r], vmlal_high_s8(vmull_s8(vget_low_s8(w[r + 2]), vget_low_s8(x[1])), w[r + 2], x[1]));
                }
                pairs[i] = vpaddq_s32(rows[0], rows[1]);
            } else {
                int16x8_t rows[2];
                for (int r = 0; r < 2; r++) {
                    rows[r] = vmlal_high_s8(vmull_s8(vget_low_s8(w[r]), vget_low_s8(x[0])), w[r], x[0]);
                    rows[r] = vmlal_high_s8(vmlal_s8(rows[r], vget_low_s8(w[r + 2]), vget_low_s8(x[1])), w[r + 2], x[1]);
                }
                pairs[i] = vpaddlq_s16(vpaddq_s16(rows[0], rows[1]));
            }
        }
        dots[t] = vpaddq_s32(pairs[0], pairs[1]);
#endif
    }
#endif
}

// One panel of rows times T tokens, T even.
template <Format F, int T>
inline void panel_times_tokens(const Matrix& w, int b, int panel, int8x16_t book, const Quantized& x, int t0, float* y,
                               std::size_t ldy) {
    const int groups = w.cols / group, gs = x.stride / group;
    const std::size_t first = static_cast<std::size_t>(b) * static_cast<std::size_t>(groups);
    const std::uint8_t* codes = w.codes + first * code_bytes(F) + panel * (code_bytes(F) / 2);
    const std::uint8_t* scales = w.scales + first * scale_bytes(F) + panel * (F == Format::i4 ? 4 : 8);
    const std::int8_t* q = x.q + t0 * x.stride;
    const float* sx = x.scale + t0 * gs;
    const std::int32_t* sum = x.sum + t0 * gs;
    float32x4_t acc[T];
    for (int t = 0; t < T; t++) acc[t] = vdupq_n_f32(0);
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F), q += group, sx++, sum++) {
        const float32x4_t sw = row_scales<F>(scales);
        Panel u = unpack<F>(codes, book);
        turn(u);
        for (int t = 0; t < T; t += 2) {
            int32x4_t dots[2];
            dots_of_two<F>(u, q + t * x.stride, q + (t + 1) * x.stride, dots);
            for (int i = 0; i < 2; i++) {
                acc[t + i] = vfmaq_f32(acc[t + i], vcvtq_f32_s32(dots[i]), vmulq_n_f32(sw, sx[(t + i) * gs]));
                if constexpr (F == Format::i4a)
                    acc[t + i] = vfmaq_n_f32(acc[t + i], vmulq_n_f32(row_scales<F>(scales + 16), sx[(t + i) * gs]),
                                             static_cast<float>(sum[(t + i) * gs]));
            }
        }
    }
    const float32x4_t steps = F == Format::i4 ? vld1q_f32(w.steps + b * block + 4 * panel) : vdupq_n_f32(1);
    for (int t = 0; t < T; t++)
        vst1q_f32(y + static_cast<std::size_t>(t0 + t) * ldy + b * block + 4 * panel,
                  F == Format::i4 ? vmulq_f32(acc[t], steps) : acc[t]);
}

// Rows that stay in the cache while all tokens pass.
constexpr int strip_bytes = 32 * 1024;

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const int8x16_t book = load_book<F>(w);
    const int bytes = w.cols / group * code_bytes(F), strip = bytes < strip_bytes ? strip_bytes / bytes : 1;
    for (int first = begin; first < end; first += strip) {
        const int last = first + strip < end ? first + strip : end;
        for (int t = 0; t < tokens;) {
            const int left = tokens - t, together = left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
            for (int b = first; b < last; b++) {
                if (together == 1) block_times_token<F>(w, b, book, x, t, y + static_cast<std::size_t>(t) * ldy + b * block);
                for (int panel = 0; panel < 2 && together > 1; panel++) {
                    if (together == 8)
                        panel_times_tokens<F, 8>(w, b, panel, book, x, t, y, ldy);
                    else if (together == 4)
                        panel_times_tokens<F, 4>(w, b, panel, book, x, t, y, ldy);
                    else
                        panel_times_tokens<F, 2>(w, b, panel, book, x, t, y, ldy);
                }
            }
            t += together;
        }
    }
}

constexpr int heads_together = 4;
constexpr int values_together = 1;

// Scores of R heads with 16 positions of the K cache.
template <int R>
void dot_positions(const std::int8_t* k, int head_dim, const std::int8_t* q, int q_stride, std::int32_t* dots) {
#ifdef SLMD_DOTPROD
    int32x4_t acc[R][4];
    for (int r = 0; r < R; r++)
        for (int i = 0; i < 4; i++) acc[r][i] = vdupq_n_s32(0);
    for (int d = 0; d < head_dim; d += 4, k += 4 * kv_block) {
        int8x16_t x[R];
        for (int r = 0; r < R; r++)
            x[r] = vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const std::int32_t*>(q + r * q_stride + d)));
        for (int i = 0; i < 4; i++) {
            const int8x16_t keys = vld1q_s8(k + 16 * i);  // 4 positions x 4 dimensions
            for (int r = 0; r < R; r++) acc[r][i] = vdotq_s32(acc[r][i], keys, x[r]);
        }
    }
    for (int r = 0; r < R; r++)
        for (int i = 0; i < 4; i++) vst1q_s32(dots + r * kv_block + 4 * i, acc[r][i]);
#else
    for (int p = 0; p < kv_block; p += 8) {  // half of them: the sums stay in registers
        int32x4_t acc[R][4];
        for (int r = 0; r < R; r++)
            for (int i = 0; i < 4; i++) acc[r][i] = vdupq_n_s32(0);
        const std::int8_t* keys = k + 4 * p;
        int d = 0;
        for (; d + 8 <= head_dim; d += 8, keys += 8 * kv_block) {  // two products of 127 * 127 fit 16 bits
            const int8x16_t a[2] = {vld1q_s8(keys), vld1q_s8(keys + 16)};
            const int8x16_t b[2] = {vld1q_s8(keys + 4 * kv_block), vld1q_s8(keys + 4 * kv_block + 16)};
            for (int r = 0; r < R; r++) {
                const int32x2_t x = vreinterpret_s32_s8(vld1_s8(q + r * q_stride + d));
                const int8x16_t xa = vreinterpretq_s8_s32(vdupq_lane_s32(x, 0)), xb = vreinterpretq_s8_s32(vdupq_lane_s32(x, 1));
                for (int i = 0; i < 2; i++) {
                    acc[r][2 * i] = vpadalq_s16(acc[r][2 * i], vmlal_s8(vmull_s8(vget_low_s8(a[i]), vget_low_s8(xa)), vget_low_s8(b[i]), vget_low_s8(xb)));
                    acc[r][2 * i + 1] = vpadalq_s16(acc[r][2 * i + 1], vmlal_high_s8(vmull_high_s8(a[i], xa), b[i], xb));
                }
            }
        }
        for (; d < head_dim; d += 4, keys += 4 * kv_block)
            for (int r = 0; r < R; r++) {
                const int8x16_t x = vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const std::int32_t*>(q + r * q_stride + d)));
                for (int i = 0; i < 2; i++) {
                    const int8x16_t a = vld1q_s8(keys + 16 * i);
                    acc[r][2 * i] = vpadalq_s16(acc[r][2 * i], vmull_s8(vget_low_s8(a), vget_low_s8(x)));
                    acc[r][2 * i + 1] = vpadalq_s16(acc[r][2 * i + 1], vmull_high_s8(a, x));
                }
            }
        for (int r = 0; r < R; r++)
            for (int i = 0; i < 2; i++)
                vst1q_s32(dots + r * kv_block + p + 4 * i, vpaddq_s32(acc[r][2 * i], acc[r][2 * i + 1]));
    }
#endif
}

#include "compute/common/ops.inl"

}  // namespace
}  // namespace slmd::compute
