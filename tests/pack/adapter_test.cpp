// LoRA adapters as published: what PEFT's folders and llama.cpp's GGUF mean, and what is refused by name.
#include "toolchain/slmpack/source/adapter.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <nlohmann/json.hpp>

#include "tests/pack/tiny.h"

namespace slmd::pack {
namespace {

FileBytes lend(const std::string& s) {
    FileBytes f;
    f.bytes = std::as_bytes(std::span(s));
    return f;
}

// Of tiny::llama_config.
image::ModelParams params(const char* family = "llama") {
    image::ModelParams p{};
    std::strcpy(p.family, family);
    p.layers = 2, p.dim = 32, p.hidden = 48, p.heads = 4, p.kv_heads = 2, p.head_dim = 8, p.rope_dims = 8;
    p.vocab = 24, p.context = 64, p.norm_eps = 1e-5f, p.rope_theta = 10000;
    return p;
}

Result<Adapter> open(const tiny::Lora& lora, const image::ModelParams& base = params()) {
    const std::string file = lora.file.file();
    return open_peft(lora.config, lend(file), "/adapters/tiny", base);
}
Result<Adapter> open(const tiny::Gguf& gguf, const image::ModelParams& base = params()) {
    const std::string file = gguf.file();
    return open_gguf_adapter(lend(file), "/adapters/tiny.gguf", base);
}

// The config with one more entry, or another one in its place.
tiny::Lora with(const std::string& entry, tiny::Lora lora = tiny::llama_lora()) {
    auto config = nlohmann::json::parse(lora.config);
    config.update(nlohmann::json::parse("{" + entry + "}"));
    lora.config = config.dump();
    return lora;
}

TEST(Peft, AllSevenMatricesWithAlphaByRank) {
    const tiny::Lora lora = tiny::llama_lora();
    auto adapter = open(lora);
    ASSERT_TRUE(adapter) << adapter.error().what();
    ASSERT_EQ(adapter->targets.size(), 14u);
    EXPECT_EQ(adapter->targets[0].matrix, "blk.0.attn_q");
    EXPECT_EQ(adapter->targets[13].matrix, "blk.1.ffn_down");
    for (const AdapterTarget& t : adapter->targets) {
        EXPECT_EQ(t.rank, 4u);
        EXPECT_EQ(t.scale, 2) << t.matrix;
        EXPECT_EQ(t.a.size(), 4 * t.cols);
        EXPECT_EQ(t.b.size(), 4 * t.rows);
    }
    // Rows are in halves order there as here.
    EXPECT_EQ(
        std::memcmp(adapter->targets[0].b.data(), lora.file.tensors[1].data.data(), lora.file.tensors[1].data.size()),
        0);
}

TEST(Peft, RankStabilizedAndPatterns) {
    auto rs = open(with("\"use_rslora\": true"));
    ASSERT_TRUE(rs) << rs.error().what();
    EXPECT_EQ(rs->targets[0].scale, 8 / std::sqrt(4.0));
    // A module's name, the end of one, and a whole one.
    auto patterns = open(with(R"("alpha_pattern": {"k_proj": 2, "layers.1.self_attn.v_proj": 12, "^proj": 5})"));
    ASSERT_TRUE(patterns) << patterns.error().what();
    for (const AdapterTarget& t : patterns->targets)
        EXPECT_EQ(t.scale, t.matrix.ends_with("attn_k") ? 0.5 : t.matrix == "blk.1.attn_v" ? 3 : 2) << t.matrix;
    // One module of another rank.
    tiny::Lora lora = tiny::llama_lora();
    const tiny::Lora other({{"model.layers.1.mlp.up_proj", 48, 32}}, 2);
    for (const auto& t : other.file.tensors) lora.file.tensor(t.name) = t;
    EXPECT_SAYS(open(lora), "model.layers.1.mlp.up_proj has rank 2, adapter_config.json says 4");
    auto ranks = open(with(R"("rank_pattern": {"layers.1.mlp.up_proj": 2})", lora));
    ASSERT_TRUE(ranks) << ranks.error().what();
    EXPECT_EQ(ranks->targets[12].rank, 2u);
    EXPECT_EQ(ranks->targets[12].scale, 4);
    EXPECT_EQ(ranks->targets[11].rank, 4u);
    EXPECT_SAYS(open(with(R"("alpha_pattern": {".*k_proj": 2})")),
                "alpha_pattern names \".*k_proj\": a regular expression");
}

TEST(Peft, SomeMatricesAlone) {
    auto adapter =
        open(with(R"("target_modules": ["q_proj", "k_proj", "v_proj", "o_proj"])", tiny::llama_lora(4, true)));
    ASSERT_TRUE(adapter) << adapter.error().what();
    EXPECT_EQ(adapter->targets.size(), 8u);
    EXPECT_SAYS(open(with(R"("target_modules": ["q_proj", "up_proj"])", tiny::llama_lora(4, true))),
                "target_modules names up_proj, and model.layers.0.mlp.up_proj has no lora_A");
}

TEST(Peft, WhatIsNotPlainLoraIsRefusedByName) {
    for (const char* entry :
         {R"("use_dora": true)", R"("modules_to_save": ["lm_head"])", R"("lora_bias": true)",
          R"("fan_in_fan_out": true)", R"("layer_replication": [[0, 1]])", R"("trainable_token_indices": [3])",
          R"("target_parameters": ["x"])", R"("use_qalora": true)", R"("alora_invocation_tokens": [1, 2])"}) {
        const std::string key(entry + 1, std::strchr(entry + 1, '"'));
        EXPECT_SAYS(open(with(entry)), "adapter_config.json: " + key + " is ");
    }
    EXPECT_SAYS(open(with(R"("bias": "all")")), "bias is \"all\"");
    EXPECT_SAYS(open(with(R"("peft_type": "IA3")")), "peft_type is \"IA3\": LORA is supported");
    EXPECT_SAYS(open(with(R"("init_lora_weights": "pissa_niter_4")")), "which changed the base");
    EXPECT_TRUE(open(with(R"("init_lora_weights": "gaussian")")));
    for (const char* name : {"base_model.model.lm_head", "base_model.model.model.embed_tokens",
                             "base_model.model.model.layers.2.self_attn.q_proj"}) {
        tiny::Lora lora = tiny::llama_lora();
        lora.file.tensors.push_back({std::string(name) + ".lora_A.weight", "F32", {4, 32}, std::string(512, 0)});
        EXPECT_SAYS(open(lora), std::string("tensor ") + name);
    }
    tiny::Lora dora = tiny::llama_lora();
    dora.file.tensors.push_back(
        {"base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector", "F32", {32}, std::string(128, 0)});
    EXPECT_SAYS(open(dora), "lora_magnitude");
}

TEST(Peft, DamagedAndForeignFilesAreRefused) {
    tiny::Lora lora = tiny::llama_lora();
    lora.config = "{";
    EXPECT_SAYS(open(lora), "adapter_config.json");
    EXPECT_SAYS(open(with("\"r\": \"four\"")), "key r is missing or not a number");
    EXPECT_SAYS(open(with("\"lora_alpha\": 0")), "is 0: not a number up to 1e6");
    EXPECT_SAYS(open(with("\"lora_alpha\": 1e30")), "not a number up to 1e6");
    lora = tiny::llama_lora();
    lora.file.tensors.erase(lora.file.tensors.begin() + 1);
    EXPECT_SAYS(open(lora), "q_proj.lora_B");
    lora = tiny::llama_lora();
    const float nan = NAN;
    std::memcpy(lora.file.tensors[1].data.data() + 40, &nan, 4);
    EXPECT_SAYS(open(lora), "holds a value that is not finite, at row 2, column 2");
    EXPECT_SAYS(open(tiny::llama_lora(300)), "has rank 300: at most 256");
    image::ModelParams other = params();
    other.dim = 64;
    EXPECT_SAYS(open(tiny::llama_lora(), other), "is --base the model that was fine-tuned?");
    EXPECT_SAYS(open(tiny::llama_lora(), params("unheard")), "no family \"unheard\"");
    lora = tiny::llama_lora();
    lora.file.tensors.clear();
    EXPECT_SAYS(open(lora), "changes no matrix");
    const std::string file = tiny::llama_lora().file.file();
    for (const std::size_t n : {std::size_t{0}, std::size_t{7}, std::size_t{100}, file.size() / 2, file.size() - 1})
        EXPECT_FALSE(open_peft(tiny::llama_lora().config, lend(file.substr(0, n)), "/adapters/cut", params())) << n;
    EXPECT_SAYS(open_adapter("/nowhere", params()), "/nowhere");
}

// The query and key rows of a Llama are in another order there.
TEST(GgufAdapter, IsThePeftAdapterThatItWasMadeOf) {
    const tiny::Lora lora = tiny::llama_lora();
    auto peft = open(lora), gguf = open(tiny::lora_gguf(lora, 8));
    ASSERT_TRUE(peft) << peft.error().what();
    ASSERT_TRUE(gguf) << gguf.error().what();
    ASSERT_EQ(gguf->targets.size(), peft->targets.size());
    for (std::size_t i = 0; i < peft->targets.size(); i++) {
        EXPECT_EQ(gguf->targets[i].matrix, peft->targets[i].matrix);
        EXPECT_EQ(gguf->targets[i].scale, peft->targets[i].scale);
        EXPECT_EQ(gguf->targets[i].a, peft->targets[i].a) << peft->targets[i].matrix;
        EXPECT_EQ(gguf->targets[i].b, peft->targets[i].b) << peft->targets[i].matrix;
    }
    tiny::Gguf plain = tiny::lora_gguf(lora, 8);
    plain.erase("adapter.lora.alpha");
    EXPECT_EQ(open(plain)->targets[0].scale, 1);
    // Mistral's files say llama.
    EXPECT_TRUE(open(tiny::lora_gguf(lora, 8), params("mistral")));
}

TEST(GgufAdapter, WhatIsNoLoraForTheBaseIsRefused) {
    const tiny::Gguf good = tiny::lora_gguf(tiny::llama_lora(), 8);
    const auto changed = [&](const char* key, const char* value) {
        tiny::Gguf g = good;
        g.erase(key);
        g.text(key, value);
        return open(g);
    };
    EXPECT_SAYS(changed("general.type", "model"), "general.type is not adapter");
    EXPECT_SAYS(changed("adapter.type", "control"), "adapter.type is \"control\"");
    EXPECT_SAYS(changed("general.architecture", "qwen3"), "architecture qwen3, the base is of family llama");
    EXPECT_SAYS(changed("general.architecture", "mamba"), "mamba");
    EXPECT_SAYS(open(good, params("qwen3")), "architecture llama, the base is of family qwen3");
    tiny::Gguf g = good;
    g.array<std::uint32_t>("adapter.alora.invocation_tokens", 4, {1, 2});
    EXPECT_SAYS(open(g), "adapter.alora.invocation_tokens");
    g = good;
    g.tensors.push_back({"token_embd.weight.lora_a", {24, 4}, 0, std::string(384, 0)});
    EXPECT_SAYS(open(g), "tensor token_embd.weight.lora_a");
    g = good;
    g.tensors.pop_back();
    EXPECT_SAYS(open(g), "is missing");
    const std::string file = good.file();
    for (std::size_t n = 0; n < file.size(); n += 97)
        EXPECT_FALSE(open_gguf_adapter(lend(file.substr(0, n)), "/adapters/cut.gguf", params())) << n;
}

// Phi 3 has query, key and value in one matrix, gate and up in another: A is theirs together, B is cut.
TEST(Peft, FusedMatricesAreCut) {
    std::vector<tiny::Lora::Module> modules;
    for (int l = 0; l < 2; l++) {
        const std::string b = "model.layers." + std::to_string(l) + ".";
        modules.push_back({b + "self_attn.qkv_proj", 64, 32});
        modules.push_back({b + "mlp.gate_up_proj", 96, 32});
    }
    const tiny::Lora lora(modules, 4);
    auto adapter = open(lora, params("phi3"));
    ASSERT_TRUE(adapter) << adapter.error().what();
    ASSERT_EQ(adapter->targets.size(), 10u);
    const struct {
        std::size_t target, tensor, first;
    } parts[] = {{0, 0, 0}, {1, 0, 32}, {2, 0, 48}, {3, 2, 0}, {4, 2, 48}};
    for (const auto& part : parts) {
        const AdapterTarget& t = adapter->targets[part.target];
        EXPECT_EQ(std::memcmp(t.a.data(), lora.file.tensors[part.tensor].data.data(), t.a.size() * 4), 0) << t.matrix;
        EXPECT_EQ(
            std::memcmp(t.b.data(), lora.file.tensors[part.tensor + 1].data.data() + part.first * 16, t.b.size() * 4),
            0)
            << t.matrix;
    }
}

}  // namespace
}  // namespace slmd::pack
