// A LoRA adapter as published: a folder of PEFT's (adapter_config.json, adapter_model.safetensors) or a GGUF of
// llama.cpp's (general.type = adapter). All input is hostile.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/format.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {

struct AdapterTarget {
    std::string matrix;              // the image's name: blk.0.attn_q
    std::uint32_t rank, rows, cols;  // rows and cols: of the matrix that it changes
    double scale;                    // of B A: alpha / rank, or what the source says instead
    std::vector<float> a;            // [rank, cols]
    std::vector<float> b;            // [rows, rank], rows in the image's order
};

struct Adapter {
    std::string format, path;            // "PEFT", "GGUF v3"
    std::vector<AdapterTarget> targets;  // in execution order
};

// base: the params of the image that it is for. What is not LoRA on the seven matrices of a layer is refused by name:
// leaving it out would change the answers. Errors: not_supported, model_format, storage_failure, model_integrity (a
// value that is not finite).
Result<Adapter> open_adapter(const std::string& path, const image::ModelParams& base);

// The readers; the bytes may come from elsewhere. config: the text of adapter_config.json.
Result<Adapter> open_peft(std::string_view config, const FileBytes& tensors, const std::string& path,
                          const image::ModelParams& base);
Result<Adapter> open_gguf_adapter(const FileBytes& file, const std::string& path, const image::ModelParams& base);

}  // namespace slmd::pack
