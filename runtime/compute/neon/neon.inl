// The ARM levels: plain NEON (A53, A72); sdot (A55, A76 and later) where the including file defines SLMD_DOTPROD; smmla
// (A510, A715, N2 and later) as well where it defines SLMD_I8MM.
#include <type_traits>

#include "compute/common/each.h"
#include "compute/common/scale.h"
#include "compute/common/v16_neon.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

// Zero, made anew each time: GCC keeps one in a register and copies it, and a register more is one too many.
[[gnu::always_inline]] inline int32x4_t no_dots() {
    int32x4_t zero;
    asm volatile("movi %0.4s, #0" : "=w"(zero));
    return zero;
}
// 32 bytes at p + at in one instruction, which GCC makes two of.
template <int at>
[[gnu::always_inline]] inline void load_pair(const std::int8_t* p, int8x16_t out[2]) {
    int8x16_t a, b;
    asm("ldp %q0, %q1, [%2, %3]"
        : "=w"(a), "=w"(b)
        : "r"(p), "i"(at), "m"(*reinterpret_cast<const std::int8_t(*)[at + 32]>(p)));
    out[0] = a, out[1] = b;
}

// Signed weights of one panel and group; pair[i][o]: rows 2 i and 2 i + 1, columns 8 o .. 8 o + 7.
struct Panel {
    int8x16_t pair[2][4];
};

// What codes are looked up in: the book of i4, the two tables of i6's high bits.
constexpr FoldTables signed_fold = fold_tables(0);
template <Format F>
inline const std::int8_t* levels_of(const Matrix& w) {
    return F == Format::i6 ? reinterpret_cast<const std::int8_t*>(signed_fold.of) : w.book;
}
template <Format F>
struct Tables {};
template <>
struct Tables<Format::i4> {
    int8x16_t of[1];
};
template <>
struct Tables<Format::i6> {
    int8x16_t of[2];
};
template <Format F>
[[gnu::always_inline]] inline Tables<F> load_tables(const std::int8_t* levels) {
    Tables<F> t;
    if constexpr (F == Format::i4) t.of[0] = vld1q_s8(levels);
    if constexpr (F == Format::i6) t.of[0] = vld1q_s8(levels), t.of[1] = vld1q_s8(levels + 16);
    return t;
}

// A panel's bytes of one group.
template <Format F>
struct Packed {
    int8x16_t v[code_bytes(F) / 32];
};
template <>
struct Packed<Format::i6> {
    int8x16_t v[4], high[2];
};
template <Format F>
[[gnu::always_inline]] inline Packed<F> load_panel(const std::uint8_t* codes,
                                                   [[maybe_unused]] const std::uint8_t* high) {
    Packed<F> p;
    if constexpr (F == Format::i6) load_pair<0>(reinterpret_cast<const std::int8_t*>(high), p.high);
    const auto* bytes = reinterpret_cast<const std::int8_t*>(codes);
#ifdef SLMD_DOTPROD
    each<code_bytes(F) / 64>([&](auto i) __attribute__((always_inline)) { load_pair<32 * i>(bytes, p.v + 2 * i); });
#else
    each<code_bytes(F) / 128>([&](auto i) __attribute__((always_inline)) {
        const int8x16x4_t four = vld1q_s8_x4(bytes + 64 * i);
        each<4>([&](auto j) __attribute__((always_inline)) { p.v[4 * i + j] = four.val[j]; });
    });
#endif
    return p;
}

template <Format F>
[[gnu::always_inline]] inline Panel unpack(const Packed<F>& p, const Tables<F>& tables) {
    Panel u;
    each<4>([&](auto i) __attribute__((always_inline)) {
        constexpr int row = i % 2, o = i / 2;
        if constexpr (F == Format::i8) {
            u.pair[row][o] = p.v[i], u.pair[row][o + 2] = p.v[i + 4];
        } else {
            const uint8x16_t c = vreinterpretq_u8_s8(p.v[i]), lo = vandq_u8(c, vdupq_n_u8(15)), hi = vshrq_n_u8(c, 4);
            if constexpr (F == Format::i4) {
                u.pair[row][o] = vqtbl1q_s8(tables.of[0], lo);
                u.pair[row][o + 2] = vqtbl1q_s8(tables.of[0], hi);
            } else if constexpr (F == Format::i6) {
                const uint8x16_t h = vreinterpretq_u8_s8(p.high[row]);
                u.pair[row][o] =
                    veorq_s8(vreinterpretq_s8_u8(lo), vqtbl1q_s8(tables.of[o], vandq_u8(h, vdupq_n_u8(15))));
                u.pair[row][o + 2] = veorq_s8(vreinterpretq_s8_u8(hi), vqtbl1q_s8(tables.of[o], vshrq_n_u8(h, 4)));
            } else {
                u.pair[row][o] = vreinterpretq_s8_u8(lo);
                u.pair[row][o + 2] = vreinterpretq_s8_u8(hi);
            }
        }
    });
    return u;
}

// i4 scales, an index's sign, a few fixed bits and its seven bits: as half precision, or as the upper half of an f32.
// The first leaves the in-order cores a shift and the table; its conversion costs the others twice what a shift does.
#ifdef SLMD_DOTPROD
inline int16x8_t half_of_index(int8x8_t index) {
    return vbslq_s16(vdupq_n_u16(0x83ff), vshll_n_s8(index, 3), vdupq_n_s16(index_bias >> 16));
}
inline float32x4_t widen(int16x4_t half) { return vreinterpretq_f32_s32(vshll_n_s16(half, 16)); }
inline float32x4_t widen_high(int16x8_t half) { return vreinterpretq_f32_s32(vshll_high_n_s16(half, 16)); }
#else
inline int16x8_t half_of_index(int8x8_t index) {
    return vbslq_s16(vdupq_n_u16(0x9fff), vshll_n_s8(index, 6), vdupq_n_s16(0x2000));
}
inline float32x4_t widen(int16x4_t half) { return vcvt_f32_f16(vreinterpret_f16_s16(half)); }
inline float32x4_t widen_high(int16x8_t half) { return vcvt_high_f32_f16(vreinterpretq_f16_s16(half)); }
#endif
// f32 scales of the 4 rows of a panel in a (block, group).
template <Format F>
inline float32x4_t row_scales(const std::uint8_t* scales) {
    if constexpr (F == Format::i4) {
        std::uint32_t four;
        __builtin_memcpy(&four, scales, 4);
        return widen(vget_low_s16(half_of_index(vreinterpret_s8_u32(vset_lane_u32(four, vdup_n_u32(0), 0)))));
    } else {
        return vcvt_f32_f16(vreinterpret_f16_u8(vld1_u8(scales)));
    }
}
// The same of both panels of a block.
template <Format F>
inline void row_scales(const std::uint8_t* scales, float32x4_t out[2]) {
    if constexpr (F == Format::i4) {
        const int16x8_t half = half_of_index(vreinterpret_s8_u8(vld1_u8(scales)));
        out[0] = widen(vget_low_s16(half));
        out[1] = widen_high(half);
    } else {
        const float16x8_t h = vreinterpretq_f16_u8(vld1q_u8(scales));
        out[0] = vcvt_f32_f16(vget_low_f16(h));
        out[1] = vcvt_high_f32_f16(h);
    }
}

constexpr int tile_groups = 48;  // columns of a sweep: what it takes of the tokens stays in the first cache

// Groups of one token as the dots of a panel take them, made once for all rows.
#ifdef SLMD_I8MM
// smmla gives rows x rows of two matrices of 2 x 8: octet o lies in the first row of [o][0] and in the second of
// [o][1] beside zeros, so that one accumulator takes rows 0 and 1 from the first and rows 2 and 3 from the second.
constexpr int octets_bytes = 128;
#else
// Octet o in both halves of [o].
constexpr int octets_bytes = 64;
#endif
struct Octets {
    alignas(64) std::int8_t x[tile_groups * octets_bytes];
};
inline void spread_octets(const std::int8_t* q, int groups, Octets& octets) {
    std::int8_t* to = octets.x;
    for (int o = 0; o < 4 * groups; o++, q += 8, to += octets_bytes / 4) {
        const int8x8_t x = vld1_s8(q);
#ifdef SLMD_I8MM
        vst1q_s8(to, vcombine_s8(x, vdup_n_s8(0)));
        vst1q_s8(to + 16, vcombine_s8(vdup_n_s8(0), x));
#else
        vst1q_s8(to, vcombine_s8(x, x));
#endif
    }
}

// What the 4 rows of a panel and one token give before lanes are added: dots() ends it. All panels of a sweep take each
// of these steps together, because the in-order cores wait for the result of the step before.
template <Format F>
struct Partial {
#if defined(SLMD_I8MM)
    int32x4_t sum;
#elif defined(SLMD_DOTPROD)
    int32x4_t sum[2];
#else
    std::conditional_t<F == Format::i8, int32x4_t, int16x8_t> sum[2];
#endif
};

template <Format F>
[[gnu::always_inline]] inline void multiply(const Panel& u, const int8x16_t x[octets_bytes / 16], Partial<F>& p) {
#if defined(SLMD_I8MM)
    p.sum = no_dots();
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 2; i++) p.sum = vmmlaq_s32(p.sum, x[2 * o + i], u.pair[i][o]);
#elif defined(SLMD_DOTPROD)
    p.sum[0] = no_dots(), p.sum[1] = no_dots();
    for (int o = 0; o < 4; o++)
        for (int i = 0; i < 2; i++) p.sum[i] = vdotq_s32(p.sum[i], u.pair[i][o], x[o]);
#else
    const auto low = [](int8x16_t v) { return vget_low_s8(v); };
    if constexpr (F == Format::i8) {  // two products of 127 * 127 fit 16 bits
        for (int i = 0; i < 2; i++) {
            const int8x16_t* w = u.pair[i];
            int32x4_t even = vpaddlq_s16(vmlal_s8(vmull_s8(low(w[0]), low(x[0])), low(w[1]), low(x[1])));
            even = vpadalq_s16(even, vmlal_s8(vmull_s8(low(w[2]), low(x[2])), low(w[3]), low(x[3])));
            int32x4_t odd = vpaddlq_s16(vmlal_high_s8(vmull_high_s8(w[0], x[0]), w[1], x[1]));
            odd = vpadalq_s16(odd, vmlal_high_s8(vmull_high_s8(w[2], x[2]), w[3], x[3]));
            p.sum[i] = vpaddq_s32(even, odd);
        }
    } else {  // eight of 32 * 127 do: four here, and the pairwise add makes eight
        int16x8_t even[2], odd[2];
        for (int i = 0; i < 2; i++) {
            even[i] = vmull_s8(low(u.pair[i][0]), low(x[0]));
            odd[i] = vmull_high_s8(u.pair[i][0], x[0]);
        }
        for (int o = 1; o < 4; o++)
            for (int i = 0; i < 2; i++) {
                even[i] = vmlal_s8(even[i], low(u.pair[i][o]), low(x[o]));
                odd[i] = vmlal_high_s8(odd[i], u.pair[i][o], x[o]);
            }
        for (int i = 0; i < 2; i++) p.sum[i] = vpaddq_s16(even[i], odd[i]);
    }
#endif
}

// The dots of the 4 rows of each of N panels.
template <Format F, int N>
[[gnu::always_inline]] inline void dots(const Partial<F> p[N], float32x4_t out[N]) {
    int32x4_t sum[N];
#if defined(SLMD_I8MM)
    each<N>([&](auto k) { sum[k] = p[k].sum; });
#elif defined(SLMD_DOTPROD)
    each<N>([&](auto k) { sum[k] = vpaddq_s32(p[k].sum[0], p[k].sum[1]); });
#else
    if constexpr (F == Format::i8) {
        each<N>([&](auto k) { sum[k] = vpaddq_s32(p[k].sum[0], p[k].sum[1]); });
    } else {
        int32x4_t rows[N][2];
        each<N>([&](auto k) { rows[k][0] = vpaddlq_s16(p[k].sum[0]), rows[k][1] = vpaddlq_s16(p[k].sum[1]); });
        each<N>([&](auto k) { sum[k] = vpaddq_s32(rows[k][0], rows[k][1]); });
    }
#endif
    each<N>([&](auto k) { out[k] = vcvtq_f32_s32(sum[k]); });
}

// B blocks of rows times groups g0 .. g0 + groups - 1 of one token: they share the loads of its octets.
template <Format F, int B>
[[gnu::noinline]] void blocks_times_octets(const Matrix& w, int b, int g0, int groups, const Octets& octets,
                                           const float* sx, const std::int32_t* sum, float* y) {
    const int all = w.cols / group;
    const Tables<F> tables = load_tables<F>(levels_of<F>(w));
    const std::uint8_t *codes[B], *scales[B], *high[B] = {};
    float32x4_t acc[2 * B];
    y += b * block;
    each<B>([&](auto i) {
        const std::size_t first =
            static_cast<std::size_t>(b + i) * static_cast<std::size_t>(all) + static_cast<std::size_t>(g0);
        codes[i] = w.codes + first * code_bytes(F), scales[i] = w.scales + first * scale_bytes(F);
        if constexpr (F == Format::i6) high[i] = w.high + first * high_bytes;
    });
    each<2 * B>([&](auto k) { acc[k] = g0 != 0 ? vld1q_f32(y + 4 * k) : vdupq_n_f32(0); });
    const std::int8_t* q = octets.x;
    for (const float* const end = sx + groups; sx != end; sx++, sum++, q += octets_bytes) {
        int8x16_t x[octets_bytes / 16];
#ifdef SLMD_DOTPROD
        each<octets_bytes / 32>([&](auto o) __attribute__((always_inline)) { load_pair<32 * o>(q, x + 2 * o); });
#else
        for (int o = 0; o < 4; o++) x[o] = vld1q_s8(q + 16 * o);
#endif
        const float32x2_t s = vset_lane_f32(*sx, vdup_n_f32(0), 0);
        float32x4_t sw[2 * B], dot[2 * B];
        Partial<F> p[2 * B];
        each<2 * B>([&](auto k) __attribute__((always_inline)) {
            Packed<F> packed = load_panel<F>(codes[k / 2] + k % 2 * (code_bytes(F) / 2),
                                             F == Format::i6 ? high[k / 2] + k % 2 * (high_bytes / 2) : nullptr);
#ifndef SLMD_DOTPROD
            // Without another block there is so little else to do that GCC would unpack all at once, and spill.
            if constexpr (B == 1 && F == Format::i4 && k > 0)
                for (auto& v : packed.v) asm("" : "+w"(v) : "w"(p[k - 1].sum[0]), "w"(p[k - 1].sum[1]));
#endif
            multiply<F>(unpack<F>(packed, tables), x, p[k]);
        });
        each<B>([&](auto i) __attribute__((always_inline)) { row_scales<F>(scales[i], sw + 2 * i); });
        dots<F, 2 * B>(p, dot);
        each<2 * B>([&](auto k) __attribute__((always_inline)) { sw[k] = vmulq_lane_f32(sw[k], s, 0); });
        each<2 * B>([&](auto k) __attribute__((always_inline)) { acc[k] = vfmaq_f32(acc[k], dot[k], sw[k]); });
        if constexpr (F == Format::i4a) {
            each<B>([&](auto i) __attribute__((always_inline)) { row_scales<F>(scales[i] + 16, sw + 2 * i); });
            const float n = static_cast<float>(*sum);
            each<2 * B>([&](auto k) __attribute__((always_inline)) {
                acc[k] = vfmaq_n_f32(acc[k], vmulq_lane_f32(sw[k], s, 0), n);
            });
        }
        each<B>([&](auto i) { codes[i] += code_bytes(F), scales[i] += scale_bytes(F); });
        if constexpr (F == Format::i6) each<B>([&](auto i) { high[i] += high_bytes; });
    }
    const bool done = g0 + groups == all;
    each<2 * B>([&](auto k) {
        vst1q_f32(y + 4 * k,
                  F == Format::i4 && done ? vmulq_f32(acc[k], vld1q_f32(w.steps + b * block + 4 * k)) : acc[k]);
    });
}

// i4: two. The other kinds need more registers, and the shared loads save less of what they do.
template <Format F>
constexpr int blocks_together = F == Format::i4 ? 2 : 1;

template <Format F>
void blocks_times_token(const Matrix& w, int first, int last, const Quantized& x, int t, float* y) {
    Octets octets;
    const int groups = w.cols / group;
    const float* sx = x.scale + t * (x.stride / group);
    const std::int32_t* sum = x.sum + t * (x.stride / group);
    for (int g = 0; g < groups; g += tile_groups) {
        const int n = groups - g < tile_groups ? groups - g : tile_groups;
        spread_octets(x.q + t * x.stride + g * group, n, octets);
        int b = first;
        for (; b + blocks_together<F> <= last; b += blocks_together<F>)
            blocks_times_octets<F, blocks_together<F>>(w, b, g, n, octets, sx + g, sum + g, y);
        for (; b < last; b++) blocks_times_octets<F, 1>(w, b, g, n, octets, sx + g, sum + g, y);
    }
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

// Tokens of a sweep: as many as keep their sums in registers.
template <Format F>
#ifdef SLMD_DOTPROD
constexpr int most_tokens = F == Format::i4a ? 8 : 16;
#else
constexpr int most_tokens = 4;
#endif

// The tokens of a sweep over rows, gathered so that every load of the inner loop is one next to the last.
template <int T>
struct Tile {
    alignas(64) std::int8_t q[tile_groups * T * group];  // [groups][tokens][32]; smmla: [groups][pairs][4][2][8]
    alignas(64) float scale[tile_groups * T * 2];        // [groups][tokens]; smmla: [groups][pairs][2][2], twice each
    alignas(64) float sum[tile_groups * T * 2];          // i4a: the same
};

template <Format F, int T>
inline void gather(const Quantized& x, int t0, int g0, int groups, Tile<T>& tile) {
    const int gs = x.stride / group;
    for (int t = 0; t < T; t += 2) {
        const std::int8_t* q[2] = {x.q + t0 * x.stride + t * x.stride + g0 * group, nullptr};
        q[1] = q[0] + x.stride;
        const float* sx = x.scale + (t0 + t) * gs + g0;
        const std::int32_t* sum = x.sum + (t0 + t) * gs + g0;
        std::int8_t* to = tile.q + t * group;
#ifdef SLMD_I8MM
        float *scale_to = tile.scale + 2 * t, *sum_to = tile.sum + 2 * t;
#else
        float *scale_to = tile.scale + t, *sum_to = tile.sum + t;
#endif
        for (int g = 0; g < groups; g++, to += T * group) {
            for (int half = 0; half < 2; half++) {
                const int8x16_t a = vld1q_s8(q[0] + 16 * half), b = vld1q_s8(q[1] + 16 * half);
#ifdef SLMD_I8MM
                const int64x2_t c = vreinterpretq_s64_s8(a), d = vreinterpretq_s64_s8(b);
                vst1q_s8(to + 32 * half, vreinterpretq_s8_s64(vzip1q_s64(c, d)));
                vst1q_s8(to + 32 * half + 16, vreinterpretq_s8_s64(vzip2q_s64(c, d)));
#else
                vst1q_s8(to + 16 * half, a);
                vst1q_s8(to + group + 16 * half, b);
#endif
            }
            q[0] += group, q[1] += group;
#ifdef SLMD_I8MM
            for (int i = 0; i < 4; i++) scale_to[i] = sx[(i & 1) * gs + g];
            if constexpr (F == Format::i4a)
                for (int i = 0; i < 4; i++) sum_to[i] = static_cast<float>(sum[(i & 1) * gs + g]);
            scale_to += 2 * T, sum_to += 2 * T;
#else
            for (int i = 0; i < 2; i++) scale_to[i] = sx[i * gs + g];
            if constexpr (F == Format::i4a)
                for (int i = 0; i < 2; i++) sum_to[i] = static_cast<float>(sum[i * gs + g]);
            scale_to += T, sum_to += T;
#endif
        }
    }
}

// Dots of the 4 rows of a turned panel with two tokens of a tile, at q + at. smmla: dots[i] of rows 2 i and 2 i + 1,
// (row, token) from (0, 0), (0, 1) to (1, 1).
template <Format F, int at>
[[gnu::always_inline]] inline void dots_of_two(const Panel& u, const std::int8_t* q, int32x4_t dots[2]) {
#if defined(SLMD_I8MM)
    dots[0] = no_dots(), dots[1] = no_dots();
    each<2>([&](auto half) __attribute__((always_inline)) {
        int8x16_t x[2];
        load_pair<at + 32 * half>(q, x);
        for (int k = 0; k < 2; k++)
            for (int i = 0; i < 2; i++) dots[i] = vmmlaq_s32(dots[i], u.pair[i][2 * half + k], x[k]);
    });
#elif defined(SLMD_DOTPROD)
    // Both at once: an in-order core waits four cycles for a sum to which it has just added.
    int8x16_t x[2][2];
    load_pair<at>(q, x[0]);
    load_pair<at + group>(q, x[1]);
    dots[0] = no_dots(), dots[1] = no_dots();
    each<2>([&](auto half) __attribute__((always_inline)) {
        each<4>([&](auto lane) __attribute__((always_inline)) {
            const int8x16_t w = u.pair[lane % 2][2 * half + lane / 2];
            dots[0] = vdotq_laneq_s32(dots[0], w, x[0][half], lane);
            dots[1] = vdotq_laneq_s32(dots[1], w, x[1][half], lane);
        });
    });
#else
    each<2>([&](auto t) __attribute__((always_inline)) {
        int8x16_t x[2];
        load_pair<at + group * t>(q, x);
        int32x4_t pairs[2];
        for (int i = 0; i < 2; i++) {
            const int8x16_t* w = u.pair[i];
            if constexpr (F == Format::i8) {
                int32x4_t rows[2];
                for (int r = 0; r < 2; r++) {
                    rows[r] = vpaddlq_s16(vmlal_high_s8(vmull_s8(vget_low_s8(w[r]), vget_low_s8(x[0])), w[r], x[0]));
                    rows[r] = vpadalq_s16(
                        rows[r], vmlal_high_s8(vmull_s8(vget_low_s8(w[r + 2]), vget_low_s8(x[1])), w[r + 2], x[1]));
                }
                pairs[i] = vpaddq_s32(rows[0], rows[1]);
            } else {
                int16x8_t rows[2];
                for (int r = 0; r < 2; r++) {
                    rows[r] = vmlal_high_s8(vmull_s8(vget_low_s8(w[r]), vget_low_s8(x[0])), w[r], x[0]);
                    rows[r] =
                        vmlal_high_s8(vmlal_s8(rows[r], vget_low_s8(w[r + 2]), vget_low_s8(x[1])), w[r + 2], x[1]);
                }
                pairs[i] = vpaddlq_s16(vpaddq_s16(rows[0], rows[1]));
            }
        }
        dots[t] = vpaddq_s32(pairs[0], pairs[1]);
    });
#endif
}

// Scales (or minima) of a panel, as the accumulators of two tokens take them.
#ifdef SLMD_I8MM
inline void spread(float32x4_t rows, float32x4_t out[2]) {
    out[0] = vzip1q_f32(rows, rows);
    out[1] = vzip2q_f32(rows, rows);
}
#else
inline void spread(float32x4_t rows, float32x4_t out[2]) { out[0] = out[1] = rows; }
#endif

// acc of two tokens <-> their rows of y.
inline void load_two(const float* y0, const float* y1, float32x4_t acc[2]) {
    const float32x4_t a = vld1q_f32(y0), b = vld1q_f32(y1);
#ifdef SLMD_I8MM
    acc[0] = vzip1q_f32(a, b), acc[1] = vzip2q_f32(a, b);
#else
    acc[0] = a, acc[1] = b;
#endif
}
inline void rows_of_two(const float32x4_t acc[2], float32x4_t rows[2]) {
#ifdef SLMD_I8MM
    rows[0] = vuzp1q_f32(acc[0], acc[1]), rows[1] = vuzp2q_f32(acc[0], acc[1]);
#else
    rows[0] = acc[0], rows[1] = acc[1];
#endif
}

// One panel of rows times T tokens over groups g0 .. g0 + groups - 1, T even; the accumulators rest in y between tiles.
template <Format F, int T>
__attribute__((noinline)) void panel_times_tile(const Matrix& w, int b, int panel, int g0, int groups,
                                                const Tile<T>& tile, float* y, std::size_t ldy) {
    const int all = w.cols / group;
    const std::size_t first =
        static_cast<std::size_t>(b) * static_cast<std::size_t>(all) + static_cast<std::size_t>(g0);
    const std::uint8_t* codes = w.codes + first * code_bytes(F) + panel * (code_bytes(F) / 2);
    const std::uint8_t* scales = w.scales + first * scale_bytes(F) + panel * (F == Format::i4 ? 4 : 8);
    const std::uint8_t* high = F == Format::i6 ? w.high + first * high_bytes + panel * (high_bytes / 2) : nullptr;
    const std::int8_t* q = tile.q;
    const std::int8_t* const end = q + groups * T * group;
    const float *sx = tile.scale, *sum = tile.sum;
    y += b * block + 4 * panel;
    float32x4_t acc[T / 2][2];
    each<T / 2>([&](auto p) { acc[p][0] = acc[p][1] = vdupq_n_f32(0); });
    if (g0 != 0) each<T / 2>([&](auto p) { load_two(y + 2 * p * ldy, y + (2 * p + 1) * ldy, acc[p]); });
    for (; q != end; q += T * group, codes += code_bytes(F), scales += scale_bytes(F)) {
        float32x4_t sw[2], minimum[2];
        spread(row_scales<F>(scales), sw);
        if constexpr (F == Format::i4a) spread(row_scales<F>(scales + 16), minimum);
        // Loaded each time: in a register it would take the place of a sum.
        const std::int8_t* levels = levels_of<F>(w);
        asm("" : "+r"(levels));
        Panel u = unpack<F>(load_panel<F>(codes, high), load_tables<F>(levels));
        if constexpr (F == Format::i6) high += high_bytes;
        turn(u);
        each<T / 2>([&](auto p) __attribute__((always_inline)) {
            int32x4_t dots[2];
            dots_of_two<F, 2 * group * p>(u, q, dots);
#ifdef SLMD_I8MM
            const float32x4_t s = vld1q_f32(sx);
            sx += 4;
            each<2>([&](auto i) __attribute__((always_inline)) {
                acc[p][i] = vfmaq_f32(acc[p][i], vcvtq_f32_s32(dots[i]), vmulq_f32(sw[i], s));
                if constexpr (F == Format::i4a)
                    acc[p][i] = vfmaq_f32(acc[p][i], vmulq_f32(minimum[i], s), vld1q_f32(sum));
            });
            if constexpr (F == Format::i4a) sum += 4;
#else
            const float32x2_t two = vld1_f32(sx);
            sx += 2;
            each<2>([&](auto i) __attribute__((always_inline)) {
                acc[p][i] = vfmaq_f32(acc[p][i], vcvtq_f32_s32(dots[i]), vmulq_lane_f32(sw[i], two, i));
            });
            if constexpr (F == Format::i4a) {
                const float32x2_t sums = vld1_f32(sum);
                sum += 2;
                each<2>([&](auto i) __attribute__((always_inline)) {
                    acc[p][i] = vfmaq_lane_f32(acc[p][i], vmulq_lane_f32(minimum[i], two, i), sums, i);
                });
            }
#endif
        });
    }
    const bool done = g0 + groups == all;
    const float32x4_t steps = F == Format::i4 && done ? vld1q_f32(w.steps + b * block + 4 * panel) : vdupq_n_f32(1);
    each<T / 2>([&](auto p) {
        float32x4_t rows[2];
        rows_of_two(acc[p], rows);
        each<2>([&](auto i) {
            vst1q_f32(y + static_cast<std::size_t>(2 * p + i) * ldy,
                      F == Format::i4 ? vmulq_f32(rows[i], steps) : rows[i]);
        });
    });
}

// Blocks of rows times T tokens.
template <Format F, int T>
void blocks_times_tokens(const Matrix& w, int first, int last, const Quantized& x, int t0, float* y, std::size_t ldy) {
    Tile<T> tile;
    const int groups = w.cols / group;
    y += static_cast<std::size_t>(t0) * ldy;
    for (int g = 0; g < groups; g += tile_groups) {
        const int n = groups - g < tile_groups ? groups - g : tile_groups;
        gather<F, T>(x, t0, g, n, tile);
        for (int b = first; b < last; b++)
            for (int panel = 0; panel < 2; panel++) panel_times_tile<F, T>(w, b, panel, g, n, tile, y, ldy);
    }
}

// Rows that stay in the second cache while all tokens pass.
constexpr int strip_bytes = 128 * 1024;

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const int bytes = w.cols / group * code_bytes(F), strip = bytes < strip_bytes ? strip_bytes / bytes : 1;
    for (int first = begin; first < end; first += strip) {
        const int last = tokens > 1 && first + strip < end ? first + strip : end;
        int t = 0;
        constexpr int most = most_tokens<F>;
        for (; t + most <= tokens; t += most) blocks_times_tokens<F, most>(w, first, last, x, t, y, ldy);
        if constexpr (most > 8)
            if (t + 8 <= tokens) blocks_times_tokens<F, 8>(w, first, last, x, t, y, ldy), t += 8;
        if constexpr (most > 4)
            if (t + 4 <= tokens) blocks_times_tokens<F, 4>(w, first, last, x, t, y, ldy), t += 4;
        if (t + 2 <= tokens) blocks_times_tokens<F, 2>(w, first, last, x, t, y, ldy), t += 2;
        if (t == tokens) continue;
        blocks_times_token<F>(w, first, last, x, t, y + static_cast<std::size_t>(t) * ldy);
        if (tokens == 1) return;
    }
}

constexpr int heads_together = 4;
constexpr int values_together = 1;
constexpr int rows_together = 4;

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
                const int8x16_t xa = vreinterpretq_s8_s32(vdupq_lane_s32(x, 0)),
                                xb = vreinterpretq_s8_s32(vdupq_lane_s32(x, 1));
                for (int i = 0; i < 2; i++) {
                    acc[r][2 * i] = vpadalq_s16(acc[r][2 * i], vmlal_s8(vmull_s8(vget_low_s8(a[i]), vget_low_s8(xa)),
                                                                        vget_low_s8(b[i]), vget_low_s8(xb)));
                    acc[r][2 * i + 1] =
                        vpadalq_s16(acc[r][2 * i + 1], vmlal_high_s8(vmull_high_s8(a[i], xa), b[i], xb));
                }
            }
        }
        for (; d < head_dim; d += 4, keys += 4 * kv_block)
            for (int r = 0; r < R; r++) {
                const int8x16_t x =
                    vreinterpretq_s8_s32(vld1q_dup_s32(reinterpret_cast<const std::int32_t*>(q + r * q_stride + d)));
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
