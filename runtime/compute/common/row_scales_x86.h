// The scales of a block's 8 rows in one register, in the order in which the x86 levels keep their accumulators.
#pragma once
#include <immintrin.h>

#include "compute/common/scale.h"

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

}  // namespace
