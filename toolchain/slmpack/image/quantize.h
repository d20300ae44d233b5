// Rounds float tensors to the image's kinds, without calibration data.
#pragma once
#include <span>

#include "base/result.h"
#include "layout.h"

namespace slmd::pack {

// The levels of an i4 tensor, rising, in -31..31.
using Book = std::array<std::int8_t, 16>;
// Trained on the tensor's own values; or those of the common 4-bit formats: -7..8 steps, the largest weight on 8.
Book train_book(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);
Book uniform_book();

// The i4 scale index whose value is nearest to v on the logarithmic scale, 0..127.
int nearest_scale_index(float v);

// 16 levels a tensor (trained, or uniform where that is better), an 8-bit scale a group of 32, a float step a row;
// least squared error. values: rows x cols, row-major. Errors: model_format naming the first value that is not finite.
Result<TensorData> quantize_i4(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

// Codes -127..127, f16 scale = max|w| / 127 a group of 32. Errors as above, and values too large for f16.
Result<TensorData> quantize_i6(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);
Result<TensorData> quantize_i8(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

TensorData keep_f32(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

// What the image will say the tensor is: rows x cols, row-major.
std::vector<float> dequantize(const TensorData& tensor);

}  // namespace slmd::pack
