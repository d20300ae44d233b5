// Writes a model image, stored or raw, tensor by tensor: memory is bounded by the largest tensor.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "layout.h"

namespace slmd::pack {

struct TensorSpec {
    std::string name;
    image::Kind kind;
    std::uint32_t rows, cols, residency = 0;
};

struct StreamSummary {
    std::uint64_t raw = 0, stored = 0;
};
struct TensorSummary {
    StreamSummary codes, scales, steps;
};
struct ImageContents {
    image::ModelParams params{};
    std::vector<std::byte> tokenizer, chat;                       // sections; left out when empty
    std::vector<TensorSpec> tensors;                              // in execution order, which is the order in the file
    std::function<Result<TensorData>(const TensorSpec&)> tensor;  // called once for each, in order
    std::function<void(const TensorSpec&, const TensorSummary&)> written;  // may be empty; after each tensor
    std::function<std::string()> provenance;                               // called after the last tensor; JSON
    image::AdapterBase base{};                                             // of an adapter
};

struct WriteOptions {
    bool raw = false;  // write the raw form
    int level = 3;     // of zstd, for tensors
    // A frame that zstd makes smaller by less than this part is stored as it is: 4-bit codes shrink by 3 % only and
    // decode ten times as slowly as they copy.
    double least_saving = 0.05;
    std::function<void(std::uint64_t done, std::uint64_t total)> progress{};  // raw bytes
};

struct WriteSummary {
    std::uint64_t raw = 0, stored = 0;  // whole image; stored: bytes of the file
};

// The file appears whole or not at all. Errors: storage_failure; model_format (names, shapes, counts that the format
// does not hold); those of `tensor`, with the tensor's name in front.
Result<WriteSummary> write_image(const std::string& path, const ImageContents& contents, const WriteOptions& options);

}  // namespace slmd::pack
