// From a published LoRA adapter to an image for one base.
#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"
#include "toolchain/slmpack/image/writer.h"
#include "toolchain/slmpack/source/adapter.h"

namespace slmd::pack {

struct AdapterOptions {
    std::string name{};  // instead of the source's, for people
    WriteOptions write{};
};

struct AdapterSummary {
    std::string base;  // its name
    std::size_t matrices = 0;
    std::uint32_t least_rank = 0, largest_rank = 0;
    std::uint64_t source_bytes = 0, raw_bytes = 0, image_bytes = 0;
    double rounding = 0;  // relative RMS of A's and B's values in 8 bits
};

// source: as open_adapter() takes it; base: the image that it is for, whose own tensors it is bound to. A and B become
// i8, multiplied by powers of two so that the scales of their groups are normal f16 numbers; what is taken away again
// goes into the scale. The same source and base give the same bytes. Errors: those of open_adapter(), of Image::open()
// and of write_image(); model_format when the base does not say how its rows were balanced.
Result<AdapterSummary> pack_adapter(const std::string& source, const std::string& base, const std::string& path,
                                    const AdapterOptions& options);

}  // namespace slmd::pack
