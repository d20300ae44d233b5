// NumPy's array files (https://numpy.org/doc/stable/reference/generated/numpy.lib.format.html), as far as tokens and
// logits need them.
#pragma once
#include <cstdint>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::pack {

template <class T>
struct NpyArray {
    std::vector<std::size_t> shape;
    std::vector<T> values;  // C order
};

// Token ids, any shape: int32, or int64 whose values fit. Errors (incorrect_parameters) name the file and what it holds
// instead.
Result<NpyArray<std::int32_t>> read_npy_tokens(const std::string& path);
// float32.
Result<NpyArray<float>> read_npy_floats(const std::string& path);
// float32, version 1.0, written whole or not at all. values.size() must be the product of the shape.
Result<void> write_npy(const std::string& path, std::span<const std::size_t> shape, std::span<const float> values);

}  // namespace slmd::pack
