// AVX2 with FMA: vpmaddubsw multiplies unsigned by signed bytes and adds pairs in 16 bits; weights are shifted to be
// unsigned (4 and 6 bit) or lend their sign to the activations (8 bit), so that no pair overflows: 2 * 63 * 127 and 2 *
// 127 * 127 are below 32768.
#include <immintrin.h>

#include "compute/common/each.h"
#include "compute/common/scale.h"
#include "compute/common/v16_avx2.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

// The order in which the pairwise sums leave the rows of a block; its own inverse.
inline __m256i row_order() { return _mm256_setr_epi32(0, 1, 4, 5, 2, 3, 6, 7); }

template <Format F>
inline __m256 row_scales(const std::uint8_t* scales) {
    __m256 s;
    if constexpr (F == Format::i4) {
        const __m256i index = _mm256_cvtepi8_epi32(_mm_loadl_epi64(reinterpret_cast<const __m128i*>(scales)));
        s = _mm256_castsi256_ps(_mm256_add_epi32(
            _mm256_and_si256(_mm256_slli_epi32(index, 19), _mm256_set1_epi32(static_cast<int>(0x83F80000u))),
            _mm256_set1_epi32(index_bias)));
    } else {
        s = _mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales)));
    }
    return _mm256_permutevar8x32_ps(s, row_order());
}
inline __m256 row_minimums(const std::uint8_t* scales) {
    return _mm256_permutevar8x32_ps(_mm256_cvtph_ps(_mm_loadu_si128(reinterpret_cast<const __m128i*>(scales + 16))),
                                    row_order());
}

// Weights of one panel and group: k 0..7, 8..15, 16..23, 24..31; each {rows 0 1 | rows 2 3}.
struct Panel {
    __m256i octet[4];
};

template <Format F>
inline __m256i unsigned_book(const Matrix& w) {
    if constexpr (F != Format::i4) return _mm256_setzero_si256();
    return _mm256_broadcastsi128_si256(
        _mm_add_epi8(_mm_loadu_si128(reinterpret_cast<const __m128i*>(w.book)), _mm_set1_epi8(32)));
}

constexpr FoldTables unsigned_fold = fold_tables(32);
inline __m256i fold_table(int i) {
    return _mm256_broadcastsi128_si256(_mm_load_si128(reinterpret_cast<const __m128i*>(unsigned_fold.of[i])));
}

template <Format F>
inline Panel unpack(const std::uint8_t* codes, [[maybe_unused]] const std::uint8_t* high, __m256i book) {
    Panel u;
    const __m256i* c = reinterpret_cast<const __m256i*>(codes);
    if constexpr (F == Format::i8) {
        for (int o = 0; o < 4; o++) u.octet[o] = _mm256_loadu_si256(c + o);
    } else {
        const __m256i low = _mm256_set1_epi8(15);
        for (int h = 0; h < 2; h++) {
            const __m256i v = _mm256_loadu_si256(c + h);
            u.octet[h] = _mm256_and_si256(v, low);
            u.octet[h + 2] = _mm256_and_si256(_mm256_srli_epi16(v, 4), low);
            if constexpr (F == Format::i4) {
                u.octet[h] = _mm256_shuffle_epi8(book, u.octet[h]);
                u.octet[h + 2] = _mm256_shuffle_epi8(book, u.octet[h + 2]);
            }
        }
        if constexpr (F == Format::i6) {
            const __m256i v = _mm256_loadu_si256(reinterpret_cast<const __m256i*>(high));
            const __m256i parts[2] = {_mm256_and_si256(v, low), _mm256_and_si256(_mm256_srli_epi16(v, 4), low)};
            for (int o = 0; o < 4; o++)
                u.octet[o] = _mm256_xor_si256(u.octet[o], _mm256_shuffle_epi8(fold_table(o % 2), parts[o / 2]));
        }
    }
    return u;
}

template <Format F>
inline __m256i pair_products(__m256i w, __m256i x) {
    if constexpr (F == Format::i8) return _mm256_maddubs_epi16(_mm256_abs_epi8(w), _mm256_sign_epi8(x, w));
    return _mm256_maddubs_epi16(w, x);
}

// 32-bit partial dots of a panel: {rows 0 0 1 1 | rows 2 2 3 3}.
template <Format F>
inline __m256i panel_dots(const Panel& u, const __m256i x[4]) {
    const __m256i ones = _mm256_set1_epi16(1);
    if constexpr (F == Format::i8) {
        __m256i dot = _mm256_madd_epi16(pair_products<F>(u.octet[0], x[0]), ones);
        for (int o = 1; o < 4; o++)
            dot = _mm256_add_epi32(dot, _mm256_madd_epi16(pair_products<F>(u.octet[o], x[o]), ones));
        return dot;
    } else {  // two pairs fit 16 bits: 4 * 63 * 127 = 32004
        const __m256i a = _mm256_add_epi16(pair_products<F>(u.octet[0], x[0]), pair_products<F>(u.octet[1], x[1]));
        const __m256i b = _mm256_add_epi16(pair_products<F>(u.octet[2], x[2]), pair_products<F>(u.octet[3], x[3]));
        return _mm256_add_epi32(_mm256_madd_epi16(a, ones), _mm256_madd_epi16(b, ones));
    }
}

// One block of rows times T tokens.
template <Format F, int T>
inline void tile(const Matrix& w, const std::uint8_t* codes, const std::uint8_t* high, const std::uint8_t* scales,
                 __m256i book, const Quantized& x, int t0, __m256 steps, float* y, std::size_t ldy) {
    const int groups = w.cols / group, gs = x.stride / group;
    __m256 acc[T];
    for (int t = 0; t < T; t++) acc[t] = _mm256_setzero_ps();
    for (int g = 0; g < groups; g++, codes += code_bytes(F), scales += scale_bytes(F)) {
        const Panel a = unpack<F>(codes, high, book),
                    b = unpack<F>(codes + code_bytes(F) / 2, F == Format::i6 ? high + high_bytes / 2 : nullptr, book);
        if constexpr (F == Format::i6) high += high_bytes;
        __m256 sw;
        if constexpr (T > 1) sw = row_scales<F>(scales);
        for (int t = 0; t < T; t++) {
            const std::int8_t* q = x.q + (t0 + t) * x.stride + g * group;
            const float sx = x.scale[(t0 + t) * gs + g];
            const std::int32_t sum = x.sum[(t0 + t) * gs + g];
            __m256i xs[4];
            for (int o = 0; o < 4; o++) {
                long long eight;
                __builtin_memcpy(&eight, q + 8 * o, 8);
                xs[o] = _mm256_set1_epi64x(eight);
            }
            __m256i dot = _mm256_hadd_epi32(panel_dots<F>(a, xs), panel_dots<F>(b, xs));
            if constexpr (F == Format::i4 || F == Format::i6) dot = _mm256_sub_epi32(dot, _mm256_set1_epi32(32 * sum));
            if constexpr (T == 1) sw = row_scales<F>(scales);  // late: the weights have the registers
            acc[t] = _mm256_fmadd_ps(_mm256_cvtepi32_ps(dot), _mm256_mul_ps(sw, _mm256_set1_ps(sx)), acc[t]);
            if constexpr (F == Format::i4a)
                acc[t] = _mm256_fmadd_ps(_mm256_set1_ps(static_cast<float>(sum)),
                                         _mm256_mul_ps(row_minimums(scales), _mm256_set1_ps(sx)), acc[t]);
        }
    }
    for (int t = 0; t < T; t++)
        _mm256_storeu_ps(y + static_cast<std::size_t>(t0 + t) * ldy,
                         _mm256_mul_ps(_mm256_permutevar8x32_ps(acc[t], row_order()), steps));
}

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const std::size_t groups = static_cast<std::size_t>(w.cols / group);
    const __m256i book = unsigned_book<F>(w);
    int t = 0;
    do {
        for (int b = begin; b < end; b++) {
            const std::uint8_t* codes = w.codes + static_cast<std::size_t>(b) * groups * code_bytes(F);
            const std::uint8_t* scales = w.scales + static_cast<std::size_t>(b) * groups * scale_bytes(F);
            const std::uint8_t* high =
                F == Format::i6 ? w.high + static_cast<std::size_t>(b) * groups * high_bytes : nullptr;
            const __m256 steps = F == Format::i4 ? _mm256_loadu_ps(w.steps + b * block) : _mm256_set1_ps(1.0f);
            if (tokens - t >= 4)
                tile<F, 4>(w, codes, high, scales, book, x, t, steps, y + b * block, ldy);
            else
                tile<F, 1>(w, codes, high, scales, book, x, t, steps, y + b * block, ldy);
        }
        t += tokens - t >= 4 ? 4 : 1;
    } while (t < tokens);
}

constexpr int heads_together = 1;
constexpr int values_together = 4;
constexpr int rows_together = 4;

template <int R>
void dot_positions(const std::int8_t* k, int head_dim, const std::int8_t* q, int q_stride, std::int32_t* dots) {
    const __m256i ones = _mm256_set1_epi16(1);
    for (int r = 0; r < R; r++) {
        __m256i a = _mm256_setzero_si256(), b = a;
        for (int d = 0; d < head_dim; d += 4) {
            std::int32_t four;
            __builtin_memcpy(&four, q + r * q_stride + d, 4);
            const __m256i x = _mm256_set1_epi32(four);
            const __m256i* keys = reinterpret_cast<const __m256i*>(k + d * kv_block);
            a = _mm256_add_epi32(a, _mm256_madd_epi16(pair_products<Format::i8>(_mm256_loadu_si256(keys), x), ones));
            b = _mm256_add_epi32(b,
                                 _mm256_madd_epi16(pair_products<Format::i8>(_mm256_loadu_si256(keys + 1), x), ones));
        }
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots + r * kv_block), a);
        _mm256_storeu_si256(reinterpret_cast<__m256i*>(dots + r * kv_block + 8), b);
    }
}

#include "compute/common/ops.inl"

}  // namespace

const Kernels avx2_level = table_for("avx2");

}  // namespace slmd::compute
