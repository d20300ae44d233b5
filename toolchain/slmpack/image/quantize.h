// Rounds float tensors to the image's kinds, without calibration data.
#pragma once
#include <span>

#include "base/result.h"
#include "layout.h"

namespace slmd::pack {

// 16 levels a tensor (trained, or uniform where that is better), an 8-bit scale a group of 32, a float step a row;
// least squared error. values: rows x cols, row-major. Errors: model_format naming the first value that is not finite.
Result<TensorData> quantize_i4(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

// Codes -127..127, f16 scale = max|w| / 127 a group of 32. Errors as above, and values too large for f16.
Result<TensorData> quantize_i8(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

TensorData keep_f32(std::span<const float> values, std::uint32_t rows, std::uint32_t cols);

// What the image will say the tensor is: rows x cols, row-major.
std::vector<float> dequantize(const TensorData& tensor);

}  // namespace slmd::pack
