// A quantized tensor in plain rows, and the same tensor in the order of the kernels (R4K8-g32, runtime/image/format.h).
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <vector>

#include "image/format.h"

namespace slmd::pack {

// In rows; G = ceil(cols / 32) groups a row, the last one may be short.
struct TensorData {
    image::Kind kind{};
    std::uint32_t rows = 0, cols = 0;
    std::vector<std::int8_t> codes{};       // rows * cols; i4, i4a: 0..15; i6: -32..31; i8: -127..127
    std::vector<std::uint8_t> indices{};    // i4: rows * G, sign and log2 of the scale
    std::vector<float> steps{};             // i4: rows
    std::array<std::int8_t, 16> book{};     // i4
    std::vector<std::uint16_t> scales{};    // i4a, i6, i8: rows * G, f16
    std::vector<std::uint16_t> minimums{};  // i4a: rows * G, f16
    std::vector<float> values{};            // f32: rows * cols
};

// The magnitude that an i4 scale index (0..127) stands for, before the row's step.
float scale_value(std::uint8_t index);

struct Streams {
    std::vector<std::byte> codes, scales, steps;
};

// Sizes are those of image::stream_sizes(); padding is zero.
Streams lay_out(const TensorData& tensor);

}  // namespace slmd::pack
