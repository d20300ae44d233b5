// Structured pruning: what does nothing is found to be worth nothing, and what is left is the model that it should be.
#include "toolchain/slmpack/prune/prune.h"

#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <numeric>

#include "tests/image/synthetic.h"
#include "tests/pack/tiny.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {
namespace {

using test::TemporaryFolder;

// Of llama_safetensors(), 4 layers of 64 channels in F32, in a folder.
struct Tiny {
    TemporaryFolder folder;
    std::string path = folder / "model";
    tiny::Safetensors weights;
    std::string config = R"({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 32,
  "intermediate_size": 64, "max_position_embeddings": 64, "num_attention_heads": 4, "num_hidden_layers": 4,
  "num_key_value_heads": 2, "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "tie_word_embeddings": true, "vocab_size": 24,
  "custom": [1, 2]})";

    Tiny() {
        std::mt19937 random(3);
        const auto add = [&](const std::string& name, std::vector<std::size_t> shape, const char* type = "F32") {
            const std::size_t n =
                std::accumulate(shape.begin(), shape.end(), std::size_t{1}, std::multiplies<std::size_t>());
            weights.tensors.push_back({name, type, shape, tiny::blocks(type, n, random)});
        };
        add("model.embed_tokens.weight", {24, 32});
        for (int l = 0; l < 4; l++) {
            const std::string b = "model.layers." + std::to_string(l) + ".";
            add(b + "input_layernorm.weight", {32}, "BF16");
            add(b + "mlp.down_proj.weight", {32, 64});
            add(b + "mlp.gate_proj.weight", {64, 32}, "BF16");
            add(b + "mlp.up_proj.weight", {64, 32}, "F16");
            add(b + "post_attention_layernorm.weight", {32}, "BF16");
            add(b + "self_attn.k_proj.weight", {16, 32}, "BF16");
            add(b + "self_attn.o_proj.weight", {32, 32});
            add(b + "self_attn.q_proj.weight", {32, 32}, "F16");
            add(b + "self_attn.v_proj.weight", {16, 32}, "BF16");
        }
        add("model.norm.weight", {32}, "BF16");
    }
    // Values [row, column] of a matrix in F32 become 0 where `of` says so.
    template <class Of>
    void clear(const std::string& name, std::size_t cols, const Of& of) {
        std::string& data = weights.tensor(name).data;
        for (std::size_t i = 0; i < data.size() / 4; i++)
            if (of(i / cols, i % cols)) std::memset(data.data() + 4 * i, 0, 4);
    }
    std::unique_ptr<Source> write() {
        std::filesystem::create_directories(path);
        std::ofstream(path + "/config.json") << config;
        std::ofstream(path + "/model.safetensors", std::ios::binary) << weights.file();
        std::ofstream(path + "/notes.txt") << "beside it";
        auto source = Source::open(path);
        EXPECT_TRUE(source) << source.error().what();
        return std::move(source).value();
    }
};

std::vector<Sequence> texts() {
    std::vector<Sequence> all;
    for (int s = 0; s < 5; s++) {
        all.emplace_back();
        for (int i = 0; i < 20; i++) all.back().push_back((s * 7 + i * i * 5 + i) % 24);
    }
    return all;
}

std::vector<float> logits(const Source& source) {
    const auto reference = Reference::open(source);
    EXPECT_TRUE(reference) << reference.error().what();
    return reference.value()->logits(texts()[1]).value();
}

void expect_near(const std::vector<float>& a, const std::vector<float>& b) {
    ASSERT_EQ(a.size(), b.size());
    for (std::size_t i = 0; i < a.size(); i++) ASSERT_NEAR(a[i], b[i], 1e-4f * (1 + std::fabs(b[i]))) << i;
}

TEST(Prune, what_does_nothing_goes_and_the_answers_stay) {
    Tiny model;
    for (const char* const name : {"self_attn.o_proj.weight", "mlp.down_proj.weight"})
        model.clear(std::string("model.layers.2.") + name, name[0] == 's' ? 32 : 64, [](auto, auto) { return true; });
    for (int l = 0; l < 4; l++)
        model.clear("model.layers." + std::to_string(l) + ".mlp.down_proj.weight", 64,
                    [&](std::size_t, std::size_t c) { return (c + static_cast<std::size_t>(l)) % 2 == 0; });
    const auto source = model.write();
    auto priced = price(*source, texts(), 1, {});
    ASSERT_TRUE(priced) << priced.error().what();
    const Prices& prices = priced.value();
    EXPECT_EQ(prices.layers[2], 0);
    for (const int l : {0, 1, 3}) {
        EXPECT_GT(prices.layers[static_cast<std::size_t>(l)], 0);
        for (std::size_t c = 0; c < 64; c++)
            EXPECT_EQ(prices.channels[static_cast<std::size_t>(l)][c] == 0, (c + static_cast<std::size_t>(l)) % 2 == 0)
                << l << " " << c;
    }
    const auto kept = choose(prices, 3, 32);
    ASSERT_TRUE(kept) << kept.error().what();
    EXPECT_EQ(kept.value().layers, (std::vector<std::uint32_t>{0, 1, 3}));
    EXPECT_EQ(kept.value().channels[1][0], 0u);  // of layer 1 the even ones
    EXPECT_EQ(kept.value().channels[2][31], 62u);

    const std::string left = model.folder / "left";
    const auto written = write_pruned(*source, kept.value(), left);
    ASSERT_TRUE(written) << written.error().what();
    const auto pruned = Source::open(left);
    ASSERT_TRUE(pruned) << pruned.error().what();
    EXPECT_EQ(pruned.value()->params.layers, 3u);
    EXPECT_EQ(pruned.value()->params.hidden, 32u);
    for (const SourceTensor& t : pruned.value()->tensors) {  // each in the type that it had
        const std::string was = t.name.starts_with("blk.2.") ? "blk.3." + t.name.substr(6) : t.name;
        EXPECT_EQ(t.type, source->find(was)->type) << t.name;
    }
    expect_near(logits(*pruned.value()), logits(*source));
    std::ifstream config(left + "/config.json"), notes(left + "/notes.txt");
    const auto now = nlohmann::json::parse(config);
    EXPECT_EQ(now["num_hidden_layers"], 3);
    EXPECT_EQ(now["intermediate_size"], 32);
    EXPECT_EQ(now["custom"], nlohmann::json({1, 2}));
    EXPECT_TRUE(notes.good());
    EXPECT_FALSE(std::filesystem::exists(left + ".part"));
}

TEST(Prune, nothing_left_out_is_the_same_model) {
    Tiny model;
    const auto source = model.write();
    const auto kept = choose(price(*source, texts(), 1, {}).value(), 0, 0);
    ASSERT_TRUE(write_pruned(*source, kept.value(), model.folder / "same"));
    const auto same = Source::open(model.folder / "same");
    ASSERT_TRUE(same) << same.error().what();
    for (const SourceTensor& t : source->tensors)
        EXPECT_EQ(source->read(t).value(), same.value()->read(*same.value()->find(t.name)).value()) << t.name;
}

// The estimate is of what really happens: a channel that is taken out changes the answers by about what it says.
TEST(Prune, prices_are_of_the_size_of_the_change) {
    Tiny model;
    const auto source = model.write();
    const std::vector<Sequence> all = texts();
    const Prices prices = price(*source, all, 1, {}).value();
    const auto kl = [&](std::uint32_t layer, std::size_t channel) {
        Tiny without;
        without.clear("model.layers." + std::to_string(layer) + ".mlp.down_proj.weight", 64,
                      [&](std::size_t, std::size_t c) { return c == channel; });
        const auto a = Reference::open(*source), b = Reference::open(*without.write());
        double sum = 0, positions = 0;
        for (const Sequence& s : all) {
            const auto la = a.value()->logits(s).value(), lb = b.value()->logits(s).value();
            for (std::size_t r = 0; r < s.size(); r++) {
                double za = 0, zb = 0;
                for (std::size_t i = 0; i < 24; i++)
                    za += std::exp(double(la[r * 24 + i])), zb += std::exp(double(lb[r * 24 + i]));
                for (std::size_t i = 0; i < 24; i++)
                    sum += std::exp(double(la[r * 24 + i])) / za *
                           (double(la[r * 24 + i]) - std::log(za) - double(lb[r * 24 + i]) + std::log(zb));
                positions++;
            }
        }
        return sum / positions;
    };
    double said = 0, is = 0;
    for (std::uint32_t layer = 0; layer < 4; layer++)
        for (const std::size_t c : {3, 17, 40, 63}) said += prices.channels[layer][c], is += kl(layer, c);
    EXPECT_GT(said, is / 3);
    EXPECT_LT(said, is * 3);
}

TEST(Prune, the_same_on_any_number_of_threads) {
    Tiny model;
    const auto source = model.write();
    const Prices one = price(*source, texts(), 1, {}).value(), four = price(*source, texts(), 4, {}).value();
    EXPECT_EQ(one.layers, four.layers);
    EXPECT_EQ(one.channels, four.channels);
}

TEST(Prune, what_cannot_be_is_said) {
    Tiny model;
    const auto source = model.write();
    const Prices prices = price(*source, texts(), 1, {}).value();
    EXPECT_STREQ(choose(prices, 5, 0).error().text, "5 layers are to be left: the model has 4");
    EXPECT_STREQ(choose(prices, 0, 96).error().text, "96 channels are to be left: the model has 64");
    EXPECT_STREQ(choose(prices, 0, 40).error().text, "40 channels: an image has them in groups of 32; take 32");
    const Kept kept = choose(prices, 3, 0).value();
    std::filesystem::create_directory(model.folder / "there");
    const auto there = write_pruned(*source, kept, model.folder / "there");
    EXPECT_EQ(there.error().code, Code::not_allowed);
    EXPECT_TRUE(std::filesystem::is_empty(model.folder / "there"));
    const auto nowhere = write_pruned(*source, kept, model.folder / "no/such");
    EXPECT_EQ(nowhere.error().code, Code::storage_failure);

    const std::string gguf = tiny::llama_gguf().file();
    std::ofstream(model.folder / "m.gguf", std::ios::binary) << gguf;
    const auto other = Source::open(model.folder / "m.gguf");
    ASSERT_TRUE(other) << other.error().what();
    EXPECT_NE(std::string(write_pruned(*other.value(), kept, model.folder / "x").error().text).find("is GGUF v3"),
              std::string::npos);
}

// A family whose layers differ: each stays what it was, or it is refused.
TEST(Prune, layers_stay_what_they_are) {
    const std::string folder = SLMD_SHARED "/golden/families/";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    for (const char* const family : {"gemma3", "smollm3", "phi3", "qwen3"}) {
        TemporaryFolder out;
        std::filesystem::copy(folder + family, out / "model");
        const auto source = Source::open(out / "model");
        ASSERT_TRUE(source) << source.error().what();
        const image::ModelParams& p = source.value()->params;
        Kept kept;
        std::vector<std::uint32_t> channels(p.hidden / 64 * 32);
        std::iota(channels.begin(), channels.end(), 1u);
        for (std::uint32_t l = 1; l < p.layers; l++) kept.layers.push_back(l), kept.channels.push_back(channels);
        const auto written = write_pruned(*source.value(), kept, out / "left");
        ASSERT_TRUE(written) << family << ": " << written.error().what();
        const auto left = Source::open(out / "left");
        ASSERT_TRUE(left) << left.error().what();
        EXPECT_EQ(left.value()->params.layers, p.layers - 1);
        EXPECT_EQ(left.value()->params.hidden, channels.size());
        const auto row = [](const Source& s, const char* name, std::size_t r) {
            const SourceTensor& t = *s.find(name);
            const auto v = s.read(t).value();
            return std::vector<float>(v.begin() + static_cast<long>(r * t.cols),
                                      v.begin() + static_cast<long>((r + 1) * t.cols));
        };
        EXPECT_EQ(row(*left.value(), "blk.0.attn_norm", 0), row(*source.value(), "blk.1.attn_norm", 0)) << family;
        EXPECT_EQ(row(*left.value(), "blk.0.attn_v", 3), row(*source.value(), "blk.1.attn_v", 3)) << family;
        EXPECT_EQ(row(*left.value(), "blk.0.ffn_up", 4), row(*source.value(), "blk.1.ffn_up", 5)) << family;
    }
    TemporaryFolder out;
    std::filesystem::copy(folder + "gemma3", out / "model");
    auto config = nlohmann::json::parse(std::ifstream(out / "model/config.json"));
    config.erase("layer_types");
    std::ofstream(out / "model/config.json") << config;
    const auto source = Source::open(out / "model");
    ASSERT_TRUE(source) << source.error().what();
    Kept kept;
    std::vector<std::uint32_t> channels(source.value()->params.hidden);
    std::iota(channels.begin(), channels.end(), 0u);
    for (std::uint32_t l = 1; l < source.value()->params.layers; l++)
        kept.layers.push_back(l), kept.channels.push_back(channels);
    const auto written = write_pruned(*source.value(), kept, out / "left");
    ASSERT_FALSE(written);
    EXPECT_NE(std::string(written.error().text).find("its layers differ in a fixed pattern"), std::string::npos)
        << written.error().text;
    EXPECT_FALSE(std::filesystem::exists(out / "left") || std::filesystem::exists(out / "left.part"));
}

}  // namespace
}  // namespace slmd::pack
