// A random adapter for any open model, written by the real writer: all seven matrices of every layer. The same bytes on
// every machine.
#pragma once
#include <cmath>
#include <cstring>
#include <map>
#include <string>

#include "image/image.h"
#include "tests/engine/tiny_model.h"

namespace slmd::test {

struct TinyAdapter {
    pack::ImageContents contents;
    std::map<std::string, pack::TensorData> data;

    void matrix(const std::string& name, std::uint32_t rows, std::uint32_t cols, Random& random) {
        pack::TensorData t{.kind = image::Kind::i8, .rows = rows, .cols = cols};
        for (std::size_t i = 0; i < std::size_t{rows} * cols; i++)
            t.codes.push_back(static_cast<std::int8_t>(random.between(-127, 127)));
        const float size = 1.0f / std::sqrt(static_cast<float>(cols));
        for (std::size_t i = 0; i < std::size_t{rows} * ((cols + 31) / 32); i++)
            t.scales.push_back(pack::to_half(size * static_cast<float>(random.between(50, 100)) / 7000));
        contents.tensors.push_back({name, image::Kind::i8, rows, cols});
        data[name] = std::move(t);
    }

    // rank 0: from 1 to 40, another one for every matrix.
    TinyAdapter(const image::Image& base, const char* name, std::uint64_t seed, std::uint32_t rank = 0) {
        Random random{seed};
        const image::ModelParams& p = contents.params = base.params();
        std::memset(contents.params.name, 0, sizeof contents.params.name);
        std::strcpy(contents.params.name, name);
        std::memcpy(contents.base.index_sha256, base.header().index_sha256, sizeof contents.base.index_sha256);
        std::memcpy(contents.base.name, base.params().name, sizeof contents.base.name);
        const std::uint32_t n = p.layers * image::adapted_count, q = p.heads * p.head_dim, kv = p.kv_heads * p.head_dim;
        const std::pair<std::uint32_t, std::uint32_t> shapes[] = {
            {q, p.dim}, {kv, p.dim}, {kv, p.dim}, {p.dim, q}, {p.hidden, p.dim}, {p.hidden, p.dim}, {p.dim, p.hidden}};
        contents.tensors.push_back({"lora.scale", image::Kind::f32, 1, n});
        pack::TensorData scales{.kind = image::Kind::f32, .rows = 1, .cols = n};
        for (std::uint32_t layer = 0; layer < p.layers; layer++)
            for (int m = 0; m < image::adapted_count; m++) {
                const std::string at = "blk." + std::to_string(layer) + "." + image::adapted_matrices[m];
                const auto r = rank != 0 ? rank : static_cast<std::uint32_t>(random.between(1, 40));
                matrix(at + ".lora_a", r, shapes[m].second, random);
                matrix(at + ".lora_b", shapes[m].first, r, random);
                scales.values.push_back(static_cast<float>(random.between(50, 100)) / 100);
            }
        data["lora.scale"] = scales;
        contents.tensor = [this](const pack::TensorSpec& spec) -> Result<pack::TensorData> {
            return data.at(spec.name);
        };
    }
    TinyAdapter(const TinyAdapter&) = delete;
};

}  // namespace slmd::test
