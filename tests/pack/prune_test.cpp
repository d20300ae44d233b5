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
#include "text/tokenizer.h"
#include "toolchain/slmpack/prune/vocabulary.h"
#include "toolchain/slmpack/reference/reference.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

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

// A byte-level tokenizer of the 24 tokens of Tiny: two special tokens, letters, and words of them.
constexpr const char* tokenizer_json = R"({"version": "1.0",
  "added_tokens": [{"id": 0, "content": "<s>", "special": true}, {"id": 23, "content": "<|reserved_special_token_0|>", "special": true},
                   {"id": 22, "content": "<|end|>", "special": true}],
  "normalizer": null, "pre_tokenizer": {"type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true},
  "post_processor": {"type": "TemplateProcessing", "single": [{"SpecialToken": {"id": "<s>", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}],
                     "special_tokens": {"<s>": {"id": "<s>", "ids": [0], "tokens": ["<s>"]}}},
  "decoder": {"type": "ByteLevel"},
  "model": {"type": "BPE", "vocab": {"<s>": 0, "a": 1, "b": 2, "c": 3, "d": 4, "e": 5, "f": 6, "g": 7, "h": 8, "i": 9,
    "ab": 10, "cd": 11, "abc": 12, "abcd": 13, "ef": 14, "gh": 15, "efgh": 16, "hi": 17, "bc": 18, "ei": 19, "gi": 20, "fi": 21},
    "merges": ["b c", "a b", "c d", "ab c", "ab cd", "e f", ["g", "h"], "ef gh", "h i", "e i", "g i", "f i"]}})";

TEST(Prune, a_vocabulary_without_what_is_never_used) {
    Tiny model;
    model.config.insert(model.config.rfind('}'),
                        R"(, "bos_token_id": 0, "eos_token_id": [22, 23], "pad_token_id": 23)");
    model.write();
    std::ofstream(model.path + "/tokenizer.json") << tokenizer_json;
    std::ofstream(model.path + "/generation_config.json") << R"({"eos_token_id": 22, "temperature": 0.2})";
    std::ofstream(model.path + "/tokenizer_config.json")
        << R"({"eos_token": "<|end|>", "added_tokens_decoder": {"22": {"content": "<|end|>", "special": true}}})";
    std::ofstream(model.path + "/vocab.json") << "{}";
    const auto opened = Source::open(model.path);
    ASSERT_TRUE(opened) << opened.error().what();
    const Source& source = *opened.value();

    // "efgh" is made of "ef" and "gh"; letters and special tokens stay, <|reserved is an end of text, too.
    const std::int32_t used[] = {16};
    auto tokens = choose_tokens(source.tokenizer, used, 15);
    ASSERT_TRUE(tokens) << tokens.error().what();
    EXPECT_EQ(tokens.value(), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 14, 15, 16, 22, 23}));
    EXPECT_STREQ(choose_tokens(source.tokenizer, used, 14).error().text,
                 "14 entries are too few: the text, single bytes and special tokens need 15");
    EXPECT_STREQ(choose_tokens(source.tokenizer, used, 25).error().text,
                 "25 entries are to be left: the vocabulary has 24");
    // then what is merged first
    tokens = choose_tokens(source.tokenizer, used, 17);
    EXPECT_EQ(tokens.value(), (std::vector<std::uint32_t>{0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 14, 15, 16, 18, 22, 23}));

    Kept kept{{0, 1, 2, 3}, {}, tokens.value()};
    std::vector<std::uint32_t> channels(64);
    std::iota(channels.begin(), channels.end(), 0u);
    kept.channels.assign(4, channels);
    const std::string left = model.folder / "left";
    const auto written = write_pruned(source, kept, left);
    ASSERT_TRUE(written) << written.error().what();
    const auto pruned = Source::open(left);
    ASSERT_TRUE(pruned) << pruned.error().what();
    EXPECT_EQ(pruned.value()->params.vocab, 17u);
    const TokenizerSpec& t = pruned.value()->tokenizer;
    EXPECT_EQ(t.tokens[13], "efgh");
    EXPECT_EQ(t.bos, 0);
    EXPECT_TRUE(t.add_bos);
    EXPECT_EQ(t.eos, 15);
    EXPECT_EQ(t.ends, std::vector<std::int32_t>{16});
    EXPECT_EQ(t.merges, (std::vector<std::string>{"b c", "a b", "e f", "g h", "ef gh"}));
    const auto json = [&](const char* name) { return nlohmann::json::parse(std::ifstream(left + "/" + name)); };
    EXPECT_EQ(json("config.json")["vocab_size"], 17);
    EXPECT_EQ(json("config.json")["pad_token_id"], 16);
    EXPECT_EQ(json("generation_config.json"), nlohmann::json({{"eos_token_id", 15}, {"temperature", 0.2}}));
    EXPECT_TRUE(json("tokenizer_config.json")["added_tokens_decoder"].contains("15"));
    EXPECT_FALSE(std::filesystem::exists(left + "/vocab.json"));

    // Over what is left the model says what it said.
    const Sequence before = {0, 10, 16, 3, 18, 9};
    Sequence after;
    for (const std::int32_t id : before)
        after.push_back(static_cast<std::int32_t>(
            std::lower_bound(kept.tokens.begin(), kept.tokens.end(), static_cast<std::uint32_t>(id)) -
            kept.tokens.begin()));
    const auto a = Reference::open(source).value()->logits(before).value(),
               b = Reference::open(*pruned.value()).value()->logits(after).value();
    for (std::size_t r = 0; r < before.size(); r++)
        for (std::size_t i = 0; i < kept.tokens.size(); i++)
            ASSERT_NEAR(b[r * 17 + i], a[r * 24 + kept.tokens[i]], 1e-5f) << r << " " << i;
}

// A text that a vocabulary is pruned for is cut as it was; any other text is still all there.
TEST(Prune, a_real_vocabulary_cuts_its_text_as_before) {
    const std::string from = SLMD_SHARED "/tokenizers/smollm";
    if (!std::filesystem::exists(from)) GTEST_SKIP() << "no " << from;
    TemporaryFolder to;
    const auto open = [](const std::string& folder) {
        const auto spec = read_tokenizer_folder(folder);
        EXPECT_TRUE(spec) << spec.error().what();
        return std::pair(spec.value(), build_tokenizer(spec.value()).value());
    };
    const auto [spec, section] = open(from);
    const auto encode = [](const std::vector<std::byte>& of, std::string_view words) {
        std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(words.size()));
        std::vector<std::int32_t> tokens(words.size() + 2);
        const auto tokenizer = text::Tokenizer::open(of);
        tokens.resize(tokenizer.value().encode(words, {}, false, tokens, scratch).value());
        std::string all;
        for (const std::int32_t id : tokens) all += tokenizer.value().piece(id);
        EXPECT_EQ(all, words);
        return tokens;
    };
    const auto text_of = [](const char* name) {
        std::ifstream in(std::string(SLMD_SOURCE "/") + name);
        return std::string(std::istreambuf_iterator<char>(in), {});
    };
    const std::string text = text_of("README.md"), other = text_of("CONTRIBUTING.md") + "Grüße, 你好\n";
    ASSERT_GT(text.size(), 4000u);
    const auto was = encode(section, text);
    const auto kept = choose_tokens(spec, was, 6000);
    ASSERT_TRUE(kept) << kept.error().what();
    EXPECT_EQ(kept.value().size(), 6000u);
    const auto written = write_vocabulary(from, kept.value(), to / "");
    ASSERT_TRUE(written) << written.error().what();
    const auto [less, small] = open(to / "");
    EXPECT_EQ(less.tokens.size(), 6000u);
    const auto is = encode(small, text);
    ASSERT_EQ(is.size(), was.size());
    for (std::size_t i = 0; i < is.size(); i++)
        ASSERT_EQ(kept.value()[static_cast<std::size_t>(is[i])], static_cast<std::uint32_t>(was[i])) << i;
    EXPECT_GE(encode(small, other).size(), encode(section, other).size());
}

}  // namespace
}  // namespace slmd::pack
