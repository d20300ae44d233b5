#include "layout.h"

#include <cmath>
#include <cstring>

#include "image/layout.h"

namespace slmd::pack {
namespace {

using image::Kind;

// Where input k (0..15) of row r (0..7) of a block lies: two panels of `panel` bytes, in each four vectors of two rows
// by eight inputs.
std::size_t place(std::uint32_t row, std::uint32_t k, std::size_t panel) {
    const std::uint32_t r = row % 4;
    return row / 4 * panel + (k / 8 * 2 + r / 2) * 16 + r % 2 * 8 + k % 8;
}

void put_i6(int code, std::uint32_t row, std::uint32_t k, std::byte* codes, std::byte* high) {
    const int n = code < 0 ? ~code : code;
    codes[place(row, k % 16, 64)] |= static_cast<std::byte>((n & 15) << (k < 16 ? 0 : 4));
    high[row * 8 + k % 8] |= static_cast<std::byte>((n >> 4 | (code < 0 ? 2 : 0)) << k / 8 * 2);
}

}  // namespace

float scale_value(std::uint8_t index) {
    return std::ldexp(1 + static_cast<float>(index & 15) / 16, (index >> 4 & 7) - 7);
}

Streams lay_out(const TensorData& t) {
    const image::StreamSizes sizes = image::stream_sizes(t.kind, t.rows, t.cols);
    Streams out{std::vector<std::byte>(sizes.codes), std::vector<std::byte>(sizes.scales),
                std::vector<std::byte>(sizes.steps)};
    if (t.kind == Kind::f32) {
        for (std::size_t row = 0; row < t.rows; row++)
            for (std::size_t col = 0; col < t.cols; col++) {
                const std::size_t in_panels =
                    (row / image::panel_rows * t.cols + col) * image::panel_rows + row % image::panel_rows;
                std::memcpy(out.codes.data() + (t.rows == 1 ? col : in_panels) * sizeof(float),
                            &t.values[row * t.cols + col], sizeof(float));
            }
        return out;
    }
    const std::size_t groups = (t.cols + 31) / 32;
    const image::StreamSizes of_cell = image::stream_sizes(t.kind, image::block_rows, image::group_cols);
    for (std::uint32_t row = 0; row < t.rows; row++) {
        const std::int8_t* code = t.codes.data() + std::size_t{row} * t.cols;
        const std::uint32_t lane = row % 8;
        for (std::size_t g = 0; g < groups; g++) {
            const std::size_t cell = row / 8 * groups + g, group = row * groups + g;
            std::byte* codes = out.codes.data() + cell * of_cell.codes;
            for (std::uint32_t k = 0; k < 32 && g * 32 + k < t.cols; k++) {
                const auto value = static_cast<std::byte>(code[g * 32 + k]);
                if (t.kind == Kind::i8)
                    codes[place(lane, k % 16, 128) + k / 16 * 64] = value;
                else if (t.kind == Kind::i6)
                    put_i6(code[g * 32 + k], lane, k, codes, out.steps.data() + cell * of_cell.steps);
                else
                    codes[place(lane, k % 16, 64)] |= k < 16 ? value : value << 4;
            }
            std::byte* scales = out.scales.data() + cell * of_cell.scales;
            if (t.kind == Kind::i4) {
                scales[lane] = static_cast<std::byte>(t.indices[group]);
                continue;
            }
            std::memcpy(scales + lane * 2, &t.scales[group], 2);
            if (t.kind == Kind::i4a) std::memcpy(scales + 16 + lane * 2, &t.minimums[group], 2);
        }
        if (t.kind == Kind::i4) std::memcpy(out.steps.data() + row * 4, &t.steps[row], 4);
    }
    return out;
}

}  // namespace slmd::pack
