// AVX-512 with VNNI: a (block, group) of 4-bit codes is two registers, one a panel; vpdpbusd sums four products into 32
// bits. vpdpbusd multiplies unsigned by signed bytes, so weights are shifted to be unsigned and the shift times the sum
// of the activations starts the sum.
#include "compute/common/each.h"
#include "compute/common/row_scales_x86.h"
#include "compute/common/v16_avx512.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

template <Format F>
constexpr int shift = F == Format::i4   ? 32
                      : F == Format::i8 ? 128
                                        : 0;

// Unsigned weights of one (block, group): for each panel k 0..15 (lo) and 16..31 (hi); 128-bit lanes are
// {rows 0 1, k 0..7}, {rows 2 3, k 0..7}, {rows 0 1, k 8..15}, {rows 2 3, k 8..15}.
struct Weights {
    __m512i lo[2], hi[2];
};

template <Format F>
inline __m512i unsigned_book(const Matrix& w) {
    if constexpr (F != Format::i4) return _mm512_setzero_si512();
    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.book));
    return _mm512_broadcast_i32x4(_mm_add_epi8(levels, _mm_set1_epi8(32)));
}

template <Format F>
inline Weights unpack(const std::uint8_t* codes, __m512i book) {
    Weights u;
    const __m512i low = _mm512_set1_epi8(15);
    for (int panel = 0; panel < 2; panel++) {
        if constexpr (F == Format::i8) {
            const __m512i flip = _mm512_set1_epi8(-128);
            u.lo[panel] = _mm512_xor_si512(_mm512_loadu_si512(codes + 128 * panel), flip);
            u.hi[panel] = _mm512_xor_si512(_mm512_loadu_si512(codes + 128 * panel + 64), flip);
        } else {
            const __m512i c = _mm512_loadu_si512(codes + 64 * panel);
            u.lo[panel] = _mm512_and_si512(c, low);
            u.hi[panel] = _mm512_and_si512(_mm512_srli_epi16(c, 4), low);
            if constexpr (F == Format::i4) {
                u.lo[panel] = _mm512_shuffle_epi8(book, u.lo[panel]);
                u.hi[panel] = _mm512_shuffle_epi8(book, u.hi[panel]);
            }
        }
    }
    return u;
}

// For one token: partial sums of 8 rows, in 128-bit lanes {rows 0 1 4 5, k 0..7 16..23}, {rows 2 3 6 7, same}, {0 1 4
// 5, k 8..15 24..31}, {2 3 6 7, same}.
template <Format F>
inline __m512i partial_dots(const Weights& u, const std::int8_t* q, std::int32_t sum) {
    const __m512i spread = _mm512_setr_epi64(0, 0, 0, 0, 1, 1, 1, 1);
    const __m512i x_lo =
        _mm512_permutexvar_epi64(spread, _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q))));
    const __m512i x_hi = _mm512_permutexvar_epi64(
        spread, _mm512_castsi128_si512(_mm_loadu_si128(reinterpret_cast<const __m128i*>(q + 16))));
    const __m512i start = shift<F> == 0 ? _mm512_setzero_si512() : _mm512_maskz_set1_epi32(0x0055, -shift<F> * sum);
    const __m512i a = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, u.lo[0], x_lo), u.hi[0], x_hi);
    const __m512i b = _mm512_dpbusd_epi32(_mm512_dpbusd_epi32(start, u.lo[1], x_lo), u.hi[1], x_hi);
    const __m512 even = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0x88);
    const __m512 odd = _mm512_shuffle_ps(_mm512_castsi512_ps(a), _mm512_castsi512_ps(b), 0xDD);
    return _mm512_add_epi32(_mm512_castps_si512(even), _mm512_castps_si512(odd));
}

// One block of rows times one token.
template <Format F>
inline void one_token(const Matrix& w, const std::uint8_t* codes, const std::uint8_t* scales, __m512i book,
                      const Quantized& x, int t, __m256 steps, float* y) {
    const int groups = w.cols / group;
    const std::int8_t* q = x.q + t * x.stride;
    const float* sx = x.scale + t * (x.stride / group);
    const std::int32_t* sum = x.sum + t * (x.stride / group);
    __m256 acc = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F)) {
        _mm_prefetch(reinterpret_cast<const char*>(codes + 1024), _MM_HINT_T0);
        const __m512i p = partial_dots<F>(unpack<F>(codes, book), q + g * group, sum[g]);
        const __m256i dot = _mm256_add_epi32(_mm512_castsi512_si256(p), _mm512_extracti64x4_epi64(p, 1));
        const __m256 s = _mm256_set1_ps(sx[g]);
        acc = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(row_scales<F>(scales), s), acc);
        if constexpr (F == Format::i4a)
            acc = _mm256_fmadd_ps(_mm256_set1_ps(static_cast<float>(sum[g])), _mm256_mul_ps(row_minimums(scales), s),
                                  acc);
    }
    _mm256_storeu_ps(y, _mm256_mul_ps(_mm256_permutevar8x32_ps(acc, row_order()), steps));
}

// One block of rows times 2 * P tokens: two tokens share a register of accumulators.
template <Format F, int P>
inline void token_pairs(const Matrix& w, const std::uint8_t* codes, const std::uint8_t* scales, __m512i book,
                        const Quantized& x, int t0, __m256 steps, float* y, std::size_t ldy) {
    const int groups = w.cols / group, gs = x.stride / group;
    const std::int8_t* q = x.q + t0 * x.stride;
    const float* sx = x.scale + t0 * gs;
    const std::int32_t* sum = x.sum + t0 * gs;
    __m512 acc[P];
    for (int p = 0; p < P; p++) acc[p] = _mm512_setzero_ps();
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F)) {
        const Weights u = unpack<F>(codes, book);
        const __m256 sw = row_scales<F>(scales);
        const __m512 sw2 = _mm512_broadcast_f32x8(sw);
        __m512 min2;
        if constexpr (F == Format::i4a) min2 = _mm512_broadcast_f32x8(row_minimums(scales));
#pragma GCC unroll 8
        for (int p = 0; p < P; p++) {
            const int a = 2 * p * gs + g, b = a + gs;
            const __m512i d0 = partial_dots<F>(u, q + (2 * p) * x.stride + g * group, sum[a]);
            const __m512i d1 = partial_dots<F>(u, q + (2 * p + 1) * x.stride + g * group, sum[b]);
            const __m512i dot =
                _mm512_add_epi32(_mm512_shuffle_i64x2(d0, d1, 0x44), _mm512_shuffle_i64x2(d0, d1, 0xEE));
            const __m512 s = _mm512_insertf32x8(_mm512_set1_ps(sx[a]), _mm256_set1_ps(sx[b]), 1);
            acc[p] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(sw2, s), acc[p]);
            if constexpr (F == Format::i4a) {
                const __m512 total = _mm512_insertf32x8(_mm512_set1_ps(static_cast<float>(sum[a])),
                                                        _mm256_set1_ps(static_cast<float>(sum[b])), 1);
                acc[p] = _mm512_fmadd_ps(total, _mm512_mul_ps(min2, s), acc[p]);
            }
        }
    }
    for (int p = 0; p < P; p++) {
        float* out = y + static_cast<std::size_t>(t0 + 2 * p) * ldy;
        _mm256_storeu_ps(out,
                         _mm256_mul_ps(_mm256_permutevar8x32_ps(_mm512_castps512_ps256(acc[p]), row_order()), steps));
        _mm256_storeu_ps(
            out + ldy, _mm256_mul_ps(_mm256_permutevar8x32_ps(_mm512_extractf32x8_ps(acc[p], 1), row_order()), steps));
    }
}

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const std::size_t groups = static_cast<std::size_t>(w.cols / group);
    const __m512i book = unsigned_book<F>(w);
    // Tokens outside: a tile of activations stays in the first-level cache while the weights stream past it.
    int t = 0;
    do {
        for (int b = begin; b < end; b++) {
            const std::uint8_t* codes = w.codes + static_cast<std::size_t>(b) * groups * code_bytes(F);
            const std::uint8_t* scales = w.scales + static_cast<std::size_t>(b) * groups * scale_bytes(F);
            const __m256 steps = F == Format::i4 ? _mm256_loadu_ps(w.steps + b * block) : _mm256_set1_ps(1.0f);
            float* out = y + b * block;
            if (tokens - t >= 16)
                token_pairs<F, 8>(w, codes, scales, book, x, t, steps, out, ldy);
            else if (tokens - t >= 8)
                token_pairs<F, 4>(w, codes, scales, book, x, t, steps, out, ldy);
            else if (tokens - t >= 2)
                token_pairs<F, 1>(w, codes, scales, book, x, t, steps, out, ldy);
            else
                one_token<F>(w, codes, scales, book, x, t, steps, out + static_cast<std::size_t>(t) * ldy);
        }
        t += tokens - t >= 16 ? 16 : tokens - t >= 8 ? 8 : tokens - t >= 2 ? 2 : 1;
    } while (t < tokens);
}

constexpr int heads_together = 4;
constexpr int values_together = 4;

template <int R>
void dot_positions(const std::int8_t* k, int head_dim, const std::int8_t* q, int q_stride, std::int32_t* dots) {
    __m512i acc[R];
    const __m512i flip = _mm512_set1_epi8(-128);
    for (int r = 0; r < R; r++) acc[r] = _mm512_setzero_si512();
    __m512i total[R];  // -128 * sum of q, in four parts, taken from the same instruction
    for (int r = 0; r < R; r++) total[r] = _mm512_setzero_si512();
    for (int d = 0; d < head_dim; d += 4) {
        const __m512i keys = _mm512_xor_si512(_mm512_loadu_si512(k + d * kv_block), flip);
        for (int r = 0; r < R; r++) {
            std::int32_t four;
            __builtin_memcpy(&four, q + r * q_stride + d, 4);
            const __m512i x = _mm512_set1_epi32(four);
            acc[r] = _mm512_dpbusd_epi32(acc[r], keys, x);
            total[r] = _mm512_dpbusd_epi32(total[r], flip, x);  // 128 * (x0 + x1 + x2 + x3)
        }
    }
    for (int r = 0; r < R; r++) _mm512_storeu_si512(dots + r * kv_block, _mm512_sub_epi32(acc[r], total[r]));
}

#include "compute/common/ops.inl"

}  // namespace

const Kernels avx512_level = table_for("avx512");

}  // namespace slmd::compute
