// A small random Llama model as an image: every kind, short heads, a hidden size that needs padding. The same bytes on
// every machine.
#pragma once
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <cstdio>
#include <cstring>
#include <map>
#include <memory>
#include <string>
#include <vector>

#include "image/image.h"
#include "toolchain/slmpack/image/half.h"
#include "toolchain/slmpack/image/writer.h"

namespace slmd::test {

// A generator of our own: distributions of the standard library differ between implementations.
struct Random {
    std::uint64_t state;
    std::uint32_t next() {
        state = state * 6364136223846793005ull + 1442695040888963407ull;
        return static_cast<std::uint32_t>(state >> 33);
    }
    int between(int low, int high) {
        return low + static_cast<int>(next() % static_cast<std::uint32_t>(high - low + 1));
    }
};

struct TinyModel {
    pack::ImageContents contents;
    std::map<std::string, pack::TensorData> data;
    Random random{42};

    void matrix(const std::string& name, image::Kind kind, std::uint32_t rows, std::uint32_t cols) {
        const std::size_t n = std::size_t{rows} * cols, groups = std::size_t{rows} * ((cols + 31) / 32);
        pack::TensorData t{.kind = kind, .rows = rows, .cols = cols};
        const float size = 1.0f / std::sqrt(static_cast<float>(cols));
        for (std::size_t i = 0; i < n; i++)
            t.codes.push_back(static_cast<std::int8_t>(kind == image::Kind::i8   ? random.between(-127, 127)
                                                       : kind == image::Kind::i6 ? random.between(-32, 31)
                                                                                 : random.between(0, 15)));
        for (std::size_t i = 0; i < groups; i++) {
            if (kind == image::Kind::i4)
                t.indices.push_back(static_cast<std::uint8_t>(random.between(80, 127) + 128 * random.between(0, 1)));
            if (kind != image::Kind::i4)
                t.scales.push_back(pack::to_half(size * static_cast<float>(random.between(50, 100)) /
                                                 (kind == image::Kind::i8   ? 7000
                                                  : kind == image::Kind::i6 ? 1800
                                                                            : 500)));
            if (kind == image::Kind::i4a)
                t.minimums.push_back(pack::to_half(-size * static_cast<float>(random.between(50, 100)) / 66));
        }
        if (kind == image::Kind::i4) {
            for (std::uint32_t i = 0; i < rows; i++)
                t.steps.push_back(size * static_cast<float>(random.between(50, 100)) / 1500);
            for (int i = 0; i < 16; i++)
                t.book[static_cast<std::size_t>(i)] = static_cast<std::int8_t>(-31 + 4 * i + random.between(0, 1));
        }
        contents.tensors.push_back({name, kind, rows, cols});
        data[name] = std::move(t);
    }
    void vector(const std::string& name, std::uint32_t n, float center) {
        pack::TensorData t{.kind = image::Kind::f32, .rows = 1, .cols = n};
        for (std::uint32_t i = 0; i < n; i++)
            t.values.push_back(center + static_cast<float>(random.between(-50, 50)) / 500);
        contents.tensors.push_back({name, image::Kind::f32, 1, n});
        data[name] = std::move(t);
    }

    explicit TinyModel(image::Kind kind_of_embedding = image::Kind::i8) {
        auto& p = contents.params;
        std::strcpy(p.name, "tiny random");
        std::strcpy(p.family, "llama");
        p.layers = 3, p.dim = 64, p.hidden = 172, p.heads = 8, p.kv_heads = 2, p.head_dim = 8, p.vocab = 301,
        p.context = 512, p.rope_dims = 8;
        p.norm_eps = 1e-5f, p.embed_scale = p.residual_scale = p.logit_scale = 1, p.rope_theta = 10000;
        pack::TensorData freq{.kind = image::Kind::f32, .rows = 1, .cols = 4};
        freq.values = {1.0f, 0.1f, 0.01f, 0.001f};
        contents.tensors.push_back({"rope.inv_freq", image::Kind::f32, 1, 4});
        data["rope.inv_freq"] = freq;
        const image::Kind kinds[] = {image::Kind::i4, image::Kind::i4a, image::Kind::i8};
        matrix("token_embd", kind_of_embedding, p.vocab, p.dim);
        for (std::uint32_t i = 0; i < p.layers; i++) {
            const std::string layer = "blk." + std::to_string(i) + ".";
            const image::Kind kind = kinds[i];
            vector(layer + "attn_norm", p.dim, 1);
            matrix(layer + "attn_q", kind, 64, 64);
            matrix(layer + "attn_k", kind, 16, 64);
            matrix(layer + "attn_v", kind, 16, 64);
            matrix(layer + "attn_output", kind, 64, 64);
            vector(layer + "ffn_norm", p.dim, 1);
            matrix(layer + "ffn_gate", kind, p.hidden, 64);
            matrix(layer + "ffn_up", kind, p.hidden, 64);
            matrix(layer + "ffn_down", kind, 64, p.hidden);
        }
        vector("output_norm", p.dim, 1);
        matrix("output", image::Kind::i4, p.vocab, p.dim);
        contents.tensor = [this](const pack::TensorSpec& spec) -> Result<pack::TensorData> {
            return data.at(spec.name);
        };
        contents.provenance = [] { return std::string("{}"); };
    }
    TinyModel(const TinyModel&) = delete;
};

// The model as an image that is open; its file is gone.
inline std::unique_ptr<image::Image> open_image(const TinyModel& model) {
    const std::string path = ::testing::TempDir() + "slmd-tiny-" + std::to_string(getpid()) + ".slm";
    const auto written = pack::write_image(path, model.contents, {});
    EXPECT_TRUE(written) << (written ? "" : written.error().what());
    auto opened = image::Image::open(path.c_str(), {});
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().what());
    std::remove(path.c_str());
    return std::make_unique<image::Image>(std::move(opened).value());
}

inline std::vector<std::int32_t> tokens_of(int n, unsigned seed = 1) {
    Random r{seed};
    std::vector<std::int32_t> t;
    for (int i = 0; i < n; i++) t.push_back(r.between(0, 300));
    return t;
}

}  // namespace slmd::test
