// AVX-512 with VNNI: the codes of two blocks are turned once into registers of 16 rows x 4 columns, so that vpdpbusd
// sums a row's products into the row's own lane and the activations are broadcasts from memory. vpdpbusd multiplies
// unsigned by signed bytes, so weights are shifted to be unsigned and the shift times the sum of the activations starts
// the sum.
#include "compute/common/each.h"
#include "compute/common/scale.h"
#include "compute/common/v16_avx512.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

template <Format F>
constexpr int shift = F == Format::i4 || F == Format::i6 ? 32
                      : F == Format::i8                  ? 128
                                                         : 0;

template <Format F>
inline __m512i unsigned_book(const Matrix& w) {
    if constexpr (F != Format::i4) return _mm512_setzero_si512();
    const __m128i levels = _mm_loadu_si128(reinterpret_cast<const __m128i*>(w.book));
    return _mm512_broadcast_i32x4(_mm_add_epi8(levels, _mm_set1_epi8(32)));
}

// Unsigned weights of 16 rows and a group: 32-bit lane r of [i] has columns 4 i .. 4 i + 3 of row r.
struct Weights {
    __m512i quad[8];
};

// Four panels of 4 rows x 16 columns, {rows 0 1, k 0..7}, {rows 2 3, k 0..7}, {rows 0 1, k 8..15}, {rows 2 3, k 8..15}
// each, as quads.
[[gnu::always_inline]] inline void to_quads(__m512i p0, __m512i p1, __m512i p2, __m512i p3, __m512i quad[4]) {
    const __m512i first = _mm512_setr_epi32(0, 2, 4, 6, 16, 18, 20, 22, 1, 3, 5, 7, 17, 19, 21, 23);
    const __m512i last = _mm512_setr_epi32(8, 10, 12, 14, 24, 26, 28, 30, 9, 11, 13, 15, 25, 27, 29, 31);
    const __m512i a = _mm512_permutex2var_epi32(p0, first, p1), b = _mm512_permutex2var_epi32(p2, first, p3),
                  c = _mm512_permutex2var_epi32(p0, last, p1), d = _mm512_permutex2var_epi32(p2, last, p3);
    quad[0] = _mm512_shuffle_i64x2(a, b, 0x44);
    quad[1] = _mm512_shuffle_i64x2(a, b, 0xEE);
    quad[2] = _mm512_shuffle_i64x2(c, d, 0x44);
    quad[3] = _mm512_shuffle_i64x2(c, d, 0xEE);
}

constexpr FoldTables unsigned_fold = fold_tables(32);
inline __m512i fold_table(int i) {
    return _mm512_broadcast_i32x4(_mm_load_si128(reinterpret_cast<const __m128i*>(unsigned_fold.of[i])));
}

template <Format F>
[[gnu::always_inline]] inline Weights unpack(const std::uint8_t* const codes[2],
                                             [[maybe_unused]] const std::uint8_t* const high[2], __m512i book) {
    Weights u;
    constexpr int panel = code_bytes(F) / 2;
    const auto turn = [&](int at, __m512i* quad) __attribute__((always_inline)) {
        to_quads(_mm512_loadu_si512(codes[0] + at), _mm512_loadu_si512(codes[0] + at + panel),
                 _mm512_loadu_si512(codes[1] + at), _mm512_loadu_si512(codes[1] + at + panel), quad);
    };
    turn(0, u.quad);
    if constexpr (F == Format::i8) {
        turn(64, u.quad + 4);
        each<8>([&](auto i) { u.quad[i] = _mm512_xor_si512(u.quad[i], _mm512_set1_epi8(-128)); });
    } else {
        const __m512i low = _mm512_set1_epi8(15);
        each<4>([&](auto i) {
            u.quad[i + 4] = _mm512_srli_epi16(u.quad[i], 4);
            if constexpr (F != Format::i6) {
                u.quad[i + 4] = _mm512_and_si512(u.quad[i + 4], low);
                u.quad[i] = _mm512_and_si512(u.quad[i], low);
            }
        });
        if constexpr (F == Format::i4) each<8>([&](auto i) { u.quad[i] = _mm512_shuffle_epi8(book, u.quad[i]); });
        if constexpr (F == Format::i6) {  // of the 16 rows, columns 0 .. 3 and 4 .. 7 of every octet
            const __m512i even = _mm512_setr_epi32(0, 2, 4, 6, 8, 10, 12, 14, 16, 18, 20, 22, 24, 26, 28, 30),
                          a = _mm512_loadu_si512(high[0]), b = _mm512_loadu_si512(high[1]);
            const __m512i halves[2] = {_mm512_permutex2var_epi32(a, even, b),
                                       _mm512_permutex2var_epi32(a, _mm512_add_epi32(even, _mm512_set1_epi32(1)), b)};
            each<8>([&](auto i) {
                const __m512i part = i < 4 ? halves[i % 2] : _mm512_srli_epi16(halves[i % 2], 4);
                constexpr int and_xor = 0x6A;  // (a & b) ^ c
                u.quad[i] = _mm512_ternarylogic_epi32(
                    u.quad[i], low, _mm512_shuffle_epi8(fold_table(i % 4 / 2), _mm512_and_si512(part, low)), and_xor);
            });
        }
    }
    return u;
}

inline __m128i load8(const std::uint8_t* p) { return _mm_loadl_epi64(reinterpret_cast<const __m128i*>(p)); }
inline __m512 halves(const std::uint8_t* a, const std::uint8_t* b) {
    return _mm512_cvtph_ps(_mm256_set_m128i(_mm_loadu_si128(reinterpret_cast<const __m128i*>(b)),
                                            _mm_loadu_si128(reinterpret_cast<const __m128i*>(a))));
}
// f32 scales of the 16 rows.
template <Format F>
inline __m512 row_scales(const std::uint8_t* const scales[2]) {
    if constexpr (F == Format::i4) {
        const __m512i index = _mm512_cvtepi8_epi32(_mm_unpacklo_epi64(load8(scales[0]), load8(scales[1])));
        const __m512i bits =
            _mm512_and_si512(_mm512_slli_epi32(index, 19), _mm512_set1_epi32(static_cast<int>(0x83F80000u)));
        return _mm512_castsi512_ps(_mm512_add_epi32(bits, _mm512_set1_epi32(index_bias)));
    } else {
        return halves(scales[0], scales[1]);
    }
}

// Two blocks of rows, or one twice, times T tokens.
template <Format F, int T>
inline void tile(const Matrix& w, int b, bool two, __m512i book, const Quantized& x, int t0, float* y,
                 std::size_t ldy) {
    const int groups = w.cols / group, gs = x.stride / group;
    const std::size_t cell = static_cast<std::size_t>(b) * static_cast<std::size_t>(groups),
                      next = two ? static_cast<std::size_t>(groups) : 0;
    const std::uint8_t *codes[2] = {w.codes + cell * code_bytes(F), w.codes + (cell + next) * code_bytes(F)},
                       *scales[2] = {w.scales + cell * scale_bytes(F), w.scales + (cell + next) * scale_bytes(F)},
                       *high[2] = {};
    if constexpr (F == Format::i6) high[0] = w.high + cell * high_bytes, high[1] = w.high + (cell + next) * high_bytes;
    const std::int8_t* q = x.q + t0 * x.stride;
    const float* sx = x.scale + t0 * gs;
    const std::int32_t* sum = x.sum + t0 * gs;
    __m512 acc[T];
    each<T>([&](auto t) { acc[t] = _mm512_setzero_ps(); });
    for (int g = 0; g < groups; g++, q += group, sx++, sum++) {
        if constexpr (T == 1) {
            _mm_prefetch(reinterpret_cast<const char*>(codes[0] + 2048), _MM_HINT_T0);
            _mm_prefetch(reinterpret_cast<const char*>(codes[1] + 2048), _MM_HINT_T0);
            if constexpr (F == Format::i6) {
                _mm_prefetch(reinterpret_cast<const char*>(high[0] + 1024), _MM_HINT_T0);
                _mm_prefetch(reinterpret_cast<const char*>(high[1] + 1024), _MM_HINT_T0);
            }
        }
        const Weights u = unpack<F>(codes, high, book);
        const __m512 sw = row_scales<F>(scales);
        __m512 minimum;
        if constexpr (F == Format::i4a) minimum = halves(scales[0] + 16, scales[1] + 16);
        each<T>([&](auto t) __attribute__((always_inline)) {
            const std::int32_t n = sum[t * gs];
            __m512i dot = shift<F> == 0 ? _mm512_setzero_si512() : _mm512_set1_epi32(-shift<F> * n);
            each<8>([&](auto i) __attribute__((always_inline)) {
                std::int32_t four;
                __builtin_memcpy(&four, q + t * x.stride + 4 * i, 4);
                dot = _mm512_dpbusd_epi32(dot, u.quad[i], _mm512_set1_epi32(four));
            });
            const __m512 s = _mm512_set1_ps(sx[t * gs]);
            acc[t] = _mm512_fmadd_ps(_mm512_cvtepi32_ps(dot), _mm512_mul_ps(sw, s), acc[t]);
            if constexpr (F == Format::i4a)
                acc[t] = _mm512_fmadd_ps(_mm512_set1_ps(static_cast<float>(n)), _mm512_mul_ps(minimum, s), acc[t]);
        });
        for (int i = 0; i < 2; i++) codes[i] += code_bytes(F), scales[i] += scale_bytes(F);
        if constexpr (F == Format::i6) high[0] += high_bytes, high[1] += high_bytes;
    }
    const __mmask16 rows = two ? 0xFFFF : 0x00FF;
    if constexpr (F == Format::i4) {
        const __m512 steps = _mm512_maskz_loadu_ps(rows, w.steps + b * block);
        each<T>([&](auto t) { acc[t] = _mm512_mul_ps(acc[t], steps); });
    }
    each<T>(
        [&](auto t) { _mm512_mask_storeu_ps(y + static_cast<std::size_t>(t0 + t) * ldy + b * block, rows, acc[t]); });
}

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const __m512i book = unsigned_book<F>(w);
    // Tokens outside: a tile of activations stays in the first-level cache while the weights stream past it.
    for (int t = 0; t < tokens;) {
        const int left = tokens - t, together = left >= 16 ? 16 : left >= 8 ? 8 : left >= 4 ? 4 : left >= 2 ? 2 : 1;
        for (int b = begin; b < end; b += 2) {
            const bool two = b + 1 < end;
            switch (together) {
                case 16: tile<F, 16>(w, b, two, book, x, t, y, ldy); break;
                case 8: tile<F, 8>(w, b, two, book, x, t, y, ldy); break;
                case 4: tile<F, 4>(w, b, two, book, x, t, y, ldy); break;
                case 2: tile<F, 2>(w, b, two, book, x, t, y, ldy); break;
                default: tile<F, 1>(w, b, two, book, x, t, y, ldy); break;
            }
        }
        t += together;
    }
}

constexpr int heads_together = 4;
constexpr int values_together = 4;
constexpr int rows_together = 8;

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
