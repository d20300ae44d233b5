// The reference level: plain C++, written to be read. Every other level must give its bits.
#include "compute/common/each.h"
#include "compute/common/scale.h"
#include "compute/common/v16_scalar.h"
#include "compute/kernels.h"
#include "compute/levels.h"

namespace slmd::compute {
namespace {

// Code of (row r of the block, column k of the group) from the codes, and the high bits, of one (block, group).
template <Format F>
inline int code_at(const std::uint8_t* codes, [[maybe_unused]] const std::uint8_t* high, int r, int k) {
    if constexpr (F == Format::i8) {
        const int vector = (r / 4) * 8 + (k / 8) * 2 + (r % 4) / 2;
        return static_cast<std::int8_t>(codes[vector * 16 + (r % 2) * 8 + k % 8]);
    } else {
        const int vector = (r / 4) * 4 + (k % 16 / 8) * 2 + (r % 4) / 2;
        const std::uint8_t pair = codes[vector * 16 + (r % 2) * 8 + k % 8];
        const int low = k < 16 ? pair & 15 : pair >> 4;
        if constexpr (F == Format::i6) return static_cast<std::int8_t>(low ^ fold[high[r * 8 + k % 8] >> k / 8 * 2 & 3]);
        return low;
    }
}

template <Format F>
void matmul(const Matrix& w, int begin, int end, const Quantized& x, int tokens, float* y, std::size_t ldy) {
    const int groups = w.cols / group;
    for (int t = 0; t < tokens; t++)
        for (int row = begin * block; row < end * block; row++) {
            const int r = row % block;
            float acc = 0;
            for (int g = 0; g < groups; g++) {
                const std::size_t cell = static_cast<std::size_t>(row / block) * static_cast<std::size_t>(groups) + static_cast<std::size_t>(g);
                const std::uint8_t *codes = w.codes + cell * code_bytes(F), *scales = w.scales + cell * scale_bytes(F),
                                   *high = F == Format::i6 ? w.high + cell * high_bytes : nullptr;
                const std::int8_t* q = x.q + t * x.stride + g * group;
                std::int32_t dot = 0;
                for (int k = 0; k < group; k++) {
                    const int code = code_at<F>(codes, high, r, k);
                    dot += (F == Format::i4 ? w.book[code] : code) * q[k];
                }
                const float sx = x.scale[t * (x.stride / group) + g];
                const float sw = F == Format::i4 ? scale_of_index(scales[r]) : load_f16(scales + 2 * r);
                acc = __builtin_fmaf(static_cast<float>(dot), sw * sx, acc);
                [[maybe_unused]] const std::int32_t sum = x.sum[t * (x.stride / group) + g];
                if constexpr (F == Format::i4a)
                    acc = __builtin_fmaf(static_cast<float>(sum), load_f16(scales + 16 + 2 * r) * sx, acc);
            }
            y[static_cast<std::size_t>(t) * ldy + static_cast<std::size_t>(row)] = F == Format::i4 ? acc * w.steps[row] : acc;
        }
}

constexpr int heads_together = 1;
constexpr int values_together = 4;
constexpr int rows_together = 1;

// Dot products of R query vectors with the 16 positions of one K block.
template <int R>
void dot_positions(const std::int8_t* k, int head_dim, const std::int8_t* q, int q_stride, std::int32_t* dots) {
    for (int r = 0; r < R; r++)
        for (int p = 0; p < kv_block; p++) {
            std::int32_t dot = 0;
            for (int d = 0; d < head_dim; d++) dot += q[r * q_stride + d] * k[(d / 4) * 64 + p * 4 + d % 4];
            dots[r * kv_block + p] = dot;
        }
}

#include "compute/common/ops.inl"

template <Format F>
void row_as_floats(const Matrix& w, int row, float* out) {
    const int groups = w.cols / group, r = row % block;
    for (int g = 0; g < groups; g++) {
        const std::size_t cell = static_cast<std::size_t>(row / block) * static_cast<std::size_t>(groups) + static_cast<std::size_t>(g);
        const std::uint8_t *codes = w.codes + cell * code_bytes(F), *scales = w.scales + cell * scale_bytes(F),
                                   *high = F == Format::i6 ? w.high + cell * high_bytes : nullptr;
        for (int k = 0; k < group; k++) {
            const int code = code_at<F>(codes, high, r, k);
            if constexpr (F == Format::i4) out[g * group + k] = static_cast<float>(w.book[code]) * (scale_of_index(scales[r]) * w.steps[row]);
            if constexpr (F == Format::i4a) out[g * group + k] = __builtin_fmaf(static_cast<float>(code), load_f16(scales + 2 * r), load_f16(scales + 16 + 2 * r));
            if constexpr (F == Format::i6 || F == Format::i8) out[g * group + k] = static_cast<float>(code) * load_f16(scales + 2 * r);
        }
    }
}

}  // namespace

extern const Kernels scalar_level;
const Kernels scalar_level = table_for("scalar");

void row_i4(const Matrix& w, int row, float* out) { row_as_floats<Format::i4>(w, row, out); }
void row_i4a(const Matrix& w, int row, float* out) { row_as_floats<Format::i4a>(w, row, out); }
void row_i6(const Matrix& w, int row, float* out) { row_as_floats<Format::i6>(w, row, out); }
void row_i8(const Matrix& w, int row, float* out) { row_as_floats<Format::i8>(w, row, out); }

}  // namespace slmd::compute
