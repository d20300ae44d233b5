// Hugging Face folders and llama2.c files: what they mean, and what is said about damaged ones.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/pack/tiny.h"
#include "toolchain/slmpack/source/safetensors.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;

FileBytes lend(const std::string& s) {
    FileBytes f;
    f.bytes = std::as_bytes(std::span(s));
    return f;
}

Result<std::unique_ptr<Source>> open_folder(const std::string& config, const std::string& file) {
    std::vector<std::pair<std::string, FileBytes>> shards;
    shards.emplace_back("model.safetensors", lend(file));
    return open_hugging_face(config, std::move(shards), "/models/tiny");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return text.replace(at, from.size(), to);
}

#define EXPECT_SAYS(result, part)                                                              \
    do {                                                                                       \
        const auto& said = result;                                                             \
        EXPECT_FALSE(said);                                                                    \
        EXPECT_TRUE(!said && std::string(said.error().what()).find(part) != std::string::npos) \
            << (said ? "ok" : said.error().what());                                            \
    } while (0)

class Folder : public testing::Test {
  protected:
    Folder() : path_(fs::temp_directory_path() / ("slmd-folder-" + std::to_string(getpid()))) {
        fs::create_directories(path_);
    }
    ~Folder() override { fs::remove_all(path_); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    fs::path path_;
};

TEST(HuggingFace, TinyLlama) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file();
    const auto opened = open_folder(tiny::llama_config, file);
    ASSERT_TRUE(opened) << opened.error().what();
    const Source& s = *opened.value();
    EXPECT_STREQ(s.params.name, "tiny");
    EXPECT_STREQ(s.params.family, "llama");
    EXPECT_EQ(s.params.head_dim, 8u);
    EXPECT_EQ(s.params.rope_dims, 8u);
    EXPECT_EQ(s.params.kv_heads, 2u);
    EXPECT_EQ(s.params.context, 64u);
    EXPECT_EQ(s.params.flags, image::flag_tied_output);
    EXPECT_FLOAT_EQ(s.params.norm_eps, 1e-5f);
    EXPECT_EQ(s.tensors.size(), 20u);
    for (const auto& t : s.tensors) {
        ASSERT_TRUE(s.read(t)) << t.name;
        EXPECT_FALSE(s.codes(t).value()) << t.name;
    }
    // Rows stay where they are: the folder is in halves order already.
    const auto q = s.read(*s.find("blk.1.attn_q")).value();
    const auto& stored = model.tensors[17];
    ASSERT_EQ(stored.name, "model.layers.1.self_attn.q_proj.weight");
    for (std::size_t i = 0; i < q.size(); i++)
        ASSERT_EQ(q[i], half_to_float(std::uint16_t(std::uint8_t(stored.data[2 * i]) |
                                                    std::uint8_t(stored.data[2 * i + 1]) << 8)));
}

TEST(HuggingFace, TiedAndUntied) {
    auto model = tiny::llama_safetensors();
    const std::string untied =
        replaced(tiny::llama_config, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    std::string file = model.file();
    EXPECT_SAYS(open_folder(untied, file), "lm_head.weight is missing");
    model.tensors.push_back({"lm_head.weight", "F32", {24, 32}, model.tensors[0].data});
    file = model.file();
    const auto two = open_folder(untied, file);
    ASSERT_TRUE(two) << two.error().what();
    EXPECT_EQ(two.value()->params.flags, 0u);
    EXPECT_EQ(two.value()->tensors.back().name, "output");
    const auto copy = open_folder(tiny::llama_config, file);  // tied, with a copy of the matrix in the file
    ASSERT_TRUE(copy) << copy.error().what();
    EXPECT_EQ(copy.value()->find("output"), nullptr);
}

TEST(HuggingFace, RopeOldAndNewStyle) {
    const std::string file = tiny::llama_safetensors().file();
    const auto frequencies = [&](const std::string& rope) {
        const auto s =
            open_folder(replaced(tiny::llama_config, R"("rope_theta": 10000.0, "rope_scaling": null)", rope), file);
        EXPECT_TRUE(s) << s.error().what();
        return s ? s.value()->inv_freq : std::vector<float>{};
    };
    const auto plain = frequencies(R"("rope_theta": 10000.0)");
    EXPECT_EQ(plain, (std::vector<float>{1, 0.1f, 0.01f, 0.001f}));
    EXPECT_EQ(frequencies(R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})"), plain);
    EXPECT_EQ(frequencies(R"("rope_scaling": {"type": "linear", "factor": 4.0})"),
              (std::vector<float>{0.25f, 0.025f, 0.0025f, 0.00025f}));

    const auto old_style = frequencies(
        R"("rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                          "original_max_position_embeddings": 128})");
    EXPECT_EQ(
        frequencies(
            R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 128})"),
        old_style);
    ASSERT_EQ(old_style.size(), 4u);
    EXPECT_EQ(old_style[0], 1.0f);                      // a wavelength of 6 is short: below 128 / 4
    EXPECT_FLOAT_EQ(old_style[2], 0.01f / 8);           // one of 628 is long: above 128
    const double smooth = (128 / (20 * M_PI) - 1) / 3;  // one of 62.8 lies between
    EXPECT_NEAR(old_style[1], (1 - smooth) * 0.1 / 8 + smooth * 0.1, 1e-8);
}

TEST(HuggingFace, RefusalsNameWhatIsWrong) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file(), config = tiny::llama_config;
    EXPECT_SAYS(open_folder("{", file), "config.json is not JSON: wrong at byte");
    EXPECT_SAYS(open_folder("[]", file), "architectures");
    EXPECT_SAYS(open_folder(std::string(100000, '['), file), "nested too deeply");
    EXPECT_SAYS(open_folder(replaced(config, "LlamaForCausalLM", "BertModel"), file), "\"BertModel\" is not supported");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": \"32\""), file),
                "hidden_size is not a number");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32,", ""), file), "\"hidden_size\" is missing");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 32.5"), file),
                "hidden_size is 32.5");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": -32"), file),
                "hidden_size is -32");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 1e300"), file),
                "hidden_size is 1e+300");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 64"), file),
                "model.embed_tokens.weight is 24 x 32");
    EXPECT_SAYS(open_folder(replaced(config, "silu", "gelu"), file), "hidden_act is \"gelu\"");
    EXPECT_SAYS(
        open_folder(replaced(config, "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"dynamic\"}"), file),
        "\"dynamic\" is not supported");
    EXPECT_SAYS(
        open_folder(replaced(config, "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}"), file),
        "factor");
    EXPECT_SAYS(open_folder(replaced(config, "\"rope_scaling\": null", "\"partial_rotary_factor\": 0.3"), file),
                "partial_rotary_factor is 2.4");
    EXPECT_SAYS(open_folder(replaced(config, "\"rope_scaling\": null", "\"attention_bias\": true"), file),
                "attention_bias is true");
    EXPECT_SAYS(
        open_folder(replaced(config, "\"rope_scaling\": null", "\"quantization_config\": {\"quant_method\": \"awq\"}"),
                    file),
        "awq");
    EXPECT_SAYS(open_folder(replaced(config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"), file),
                "model.layers.1.input_layernorm.weight is not part of family llama");

    const auto with = [&](const std::string& from, const std::string& to) {
        return model.file(replaced(model.header(), from, to));
    };
    const auto says = [&](const std::string& bytes, const char* part) {
        EXPECT_SAYS(open_folder(config, bytes), part);
    };
    says("", "empty or truncated");
    says(tiny::raw<std::uint64_t>(~0ull) + "{}", "its header says it is 18446744073709551615 bytes");
    says(model.file("[]"), "not a JSON object");
    says(model.file("{"), "is not JSON");
    says(with("\"dtype\":\"F32\"", "\"dtype\":\"F8_E4M3\""), "model.embed_tokens.weight is of type F8_E4M3");
    says(with("\"dtype\":\"F32\"", "\"dtype\":32"), "has no dtype");
    says(with("[24,32]", "[24,32,1]"), "3 dimensions");
    says(with("[24,32]", "[24,0]"), "a dimension is zero");
    says(with("[24,32]", "[24,-32]"), "a dimension is zero");
    says(with("[24,32]", "[24,33]"), "3072 bytes do not hold 792 values of type F32");
    says(with("[24,32]", "[4294967295,4294967295]"), "bytes do not hold");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[3072,0]"), "ends at offset 0");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[0,18446744073709551615]"),
         "ends at offset 18446744073709551615");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[32,3104]"), "behind a hole");
    says(with("\"data_offsets\":[3072,3136]", "\"data_offsets\":[3008,3072]"), "inside the one before it");
    says(file + "x", "longer than its tensors");
    auto damaged = file;
    damaged[damaged.size() - 1] = 0x7F;
    damaged[damaged.size() - 2] = char(0x80);  // the last norm weight becomes infinite
    const auto s = open_folder(config, damaged);
    ASSERT_TRUE(s);
    EXPECT_SAYS(s.value()->read(*s.value()->find("output_norm")),
                "output_norm holds a value that is not finite, at row 0, column 31");
}

TEST(HuggingFace, EveryTruncationIsAnError) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file();
    std::vector<std::size_t> cuts = {0, 1, 7, 8, 9};
    std::size_t at = 8 + model.header().size();
    for (const auto& t : model.tensors) {
        for (const std::size_t cut : {at - 1, at, at + 1}) cuts.push_back(cut);
        at += t.data.size();
    }
    ASSERT_EQ(at, file.size());
    for (std::size_t cut = 10; cut < file.size(); cut += 61) cuts.push_back(cut);
    cuts.push_back(file.size() - 1);
    for (const std::size_t cut : cuts) EXPECT_FALSE(open_folder(tiny::llama_config, file.substr(0, cut))) << cut;
}

TEST(HuggingFace, FlippedBitsAreAnErrorOrAModel) {
    const auto model = tiny::llama_safetensors();
    const std::string good = model.file();
    const std::size_t head = 8 + model.header().size();
    std::mt19937 random(13);
    int refused = 0;
    for (int round = 0; round < 2000; round++) {
        std::string file = good, config = tiny::llama_config;
        if (round % 3 == 0)
            config[random() % config.size()] ^= char(1 << random() % 8);
        else
            file[random() % (round % 3 == 1 ? head : file.size())] ^= char(1 << random() % 8);
        const auto s = open_folder(config, file);
        refused += !s;
        if (!s) continue;
        for (const auto& t : s.value()->tensors) {
            const auto values = s.value()->read(t);
            EXPECT_TRUE(!values || values.value().size() == std::size_t(t.rows) * t.cols);
        }
    }
    EXPECT_GT(refused, 500);
    EXPECT_LT(refused, 2000);
}

TEST_F(Folder, OneFileOrShards) {
    auto model = tiny::llama_safetensors();
    EXPECT_SAYS(Source::open(path_), "no config.json");
    write("config.json", tiny::llama_config);
    EXPECT_SAYS(Source::open(path_), "neither model.safetensors nor");
    write("pytorch_model.bin", "x");
    EXPECT_SAYS(Source::open(path_), "pytorch_model.bin is not read");
    write("model.safetensors", model.file());
    write("chat_template.jinja", "{{ x }}");
    const auto whole = Source::open(path_);
    ASSERT_TRUE(whole) << whole.error().what();
    EXPECT_EQ(whole.value()->chat_template, "{{ x }}");
    EXPECT_TRUE(whole.value()->tokenizer.tokens.empty());

    tiny::Safetensors first, second;
    std::string index = R"({"metadata": {}, "weight_map": {)";
    for (std::size_t i = 0; i < model.tensors.size(); i++) {
        const bool one = i % 3 == 0;
        (one ? first : second).tensors.push_back(model.tensors[i]);
        index += (i ? ", \"" : "\"") + model.tensors[i].name +
                 (one ? "\": \"model-00001-of-00002.safetensors\"" : "\": \"model-00002-of-00002.safetensors\"");
    }
    index += "}}";
    fs::remove(path_ / "model.safetensors");
    write("model-00001-of-00002.safetensors", first.file());
    write("model-00002-of-00002.safetensors", second.file());
    write("model.safetensors.index.json", index);
    const auto sharded = Source::open(path_);
    ASSERT_TRUE(sharded) << sharded.error().what();
    ASSERT_EQ(sharded.value()->tensors.size(), whole.value()->tensors.size());
    for (const auto& t : whole.value()->tensors)
        EXPECT_EQ(sharded.value()->read(t).value(), whole.value()->read(t).value()) << t.name;

    write("model.safetensors.index.json", replaced(index, "model-00001", "../model-00001"));
    EXPECT_SAYS(Source::open(path_), "is no safetensors file beside it");
    write("model.safetensors.index.json", "{}");
    EXPECT_SAYS(Source::open(path_), "weight_map");
    second.tensors.push_back(first.tensors[0]);
    write("model-00002-of-00002.safetensors", second.file());
    write("model.safetensors.index.json", index);
    EXPECT_SAYS(Source::open(path_), "stands in another file too");
    fs::remove(path_ / "model-00002-of-00002.safetensors");
    EXPECT_SAYS(Source::open(path_), "model-00002-of-00002.safetensors");
}

TEST_F(Folder, TokenizerAndTemplateComeAlong) {
    write("config.json", tiny::llama_config);
    write("model.safetensors", tiny::llama_safetensors().file());
    const std::string smollm = SLMD_SHARED "/tokenizers/smollm/tokenizer.json";
    if (!fs::exists(smollm)) GTEST_SKIP() << "no " << smollm;
    fs::create_symlink(fs::absolute(smollm), path_ / "tokenizer.json");
    EXPECT_SAYS(Source::open(path_), "the tokenizer has 49152 tokens, the embedding 24 rows");

    auto model = tiny::llama_safetensors();
    auto& embedding = model.tensor("model.embed_tokens.weight");
    std::mt19937 random(1);
    embedding.dtype = "F16";
    embedding.shape = {49152, 32};
    embedding.data = tiny::blocks("F16", 49152 * 32, random);
    write("model.safetensors", model.file());
    write("config.json",
          replaced(tiny::llama_config, "\"vocab_size\": 24", "\"vocab_size\": 49152, \"eos_token_id\": 2"));
    write("tokenizer_config.json",
          R"({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]})");
    const auto s = Source::open(path_);
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_EQ(s.value()->tokenizer.tokens.size(), 49152u);
    EXPECT_EQ(s.value()->tokenizer.pre, "smollm");
    EXPECT_EQ(s.value()->chat_template, "b");
    write("tokenizer_config.json", "{");
    EXPECT_SAYS(Source::open(path_), "tokenizer_config.json");
}

TEST_F(Folder, ChoosesTheReader) {
    EXPECT_SAYS(Source::open(path_ / "absent.gguf"), "absent.gguf");
    write("model.safetensors", "x");
    EXPECT_SAYS(Source::open(path_ / "model.safetensors"), "give the folder");
    write("model.onnx", "x");
    EXPECT_SAYS(Source::open(path_ / "model.onnx"), "not a model that slmpack knows");
    write("a.gguf", "x");
    EXPECT_SAYS(Source::open(path_ / "a.gguf"), "does not begin with \"GGUF\"");
    write("empty.gguf", "");
    EXPECT_FALSE(Source::open(path_ / "empty.gguf"));
    write("named-otherwise", tiny::llama_gguf().file());
    const auto gguf = Source::open(path_ / "named-otherwise");
    ASSERT_TRUE(gguf) << gguf.error().what();
    EXPECT_EQ(gguf.value()->format, "GGUF v3");
    write("model.bin", tiny::llama_llama2c(true));
    const auto llama2c = Source::open(path_ / "model.bin");
    ASSERT_TRUE(llama2c) << llama2c.error().what();
    EXPECT_EQ(llama2c.value()->format, "llama2.c");
    write("model.bin", std::string("PK\x03\x04", 4) + std::string(100, 'x'));
    EXPECT_SAYS(Source::open(path_ / "model.bin"), "PyTorch");
}

TEST_F(Folder, Llama2cFindsItsTokenizer) {
    write("model.bin", tiny::llama_llama2c(true));
    write("tok_other.bin", "not a tokenizer");
    EXPECT_TRUE(Source::open(path_ / "model.bin").value()->tokenizer.tokens.empty());
    std::string tokenizer = tiny::raw<std::int32_t>(8);
    for (int i = 0; i < 24; i++) {
        const std::string piece = i == 0   ? "<unk>"
                                  : i == 1 ? "\n<s>\n"
                                  : i == 2 ? "\n</s>\n"
                                           : std::string(1, char('a' + i));
        tokenizer += tiny::raw<float>(0) + tiny::raw<std::int32_t>(int(piece.size())) + piece;
    }
    write("tokenizer.bin", tokenizer);
    const auto s = Source::open(path_ / "model.bin");
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_EQ(s.value()->tokenizer.tokens.size(), 24u);
    EXPECT_EQ(s.value()->tokenizer.tokens[3], "d");
}

TEST(Llama2cSource, EveryTensorIsWhereTheFormatSays) {
    for (const bool tied : {true, false}) {
        const std::string file = tiny::llama_llama2c(tied);
        const auto opened = open_llama2c(lend(file), "tiny.bin");
        ASSERT_TRUE(opened) << opened.error().what();
        const Source& s = *opened.value();
        EXPECT_EQ(s.params.vocab, 24u);
        EXPECT_EQ(s.params.head_dim, 8u);
        EXPECT_EQ(bool(s.params.flags & image::flag_tied_output), tied);
        const auto first = [&](const char* name) { return s.read(*s.find(name)).value()[0]; };
        float at = 0;
        EXPECT_EQ(first("token_embd"), at);
        at += 24 * 32;
        EXPECT_EQ(first("blk.0.attn_norm"), at);
        EXPECT_EQ(first("blk.1.attn_norm"), at + 32);
        at += 64;
        EXPECT_EQ(first("blk.0.attn_q"), at);
        EXPECT_EQ(first("blk.1.attn_q"), at + 1024);
        // Rows 0, 2, 4, 6 of a head, then rows 1, 3, 5, 7.
        const auto q = s.read(*s.find("blk.0.attn_q")).value();
        for (std::size_t head = 0; head < 4; head++)
            for (std::size_t i = 0; i < 8; i++)
                EXPECT_EQ(q[(head * 8 + i) * 32], at + float(32 * (head * 8 + (i < 4 ? 2 * i : 2 * (i - 4) + 1))));
        at += 2048;
        EXPECT_EQ(first("blk.0.attn_k"), at);
        EXPECT_EQ(first("blk.0.attn_v"), at + 1024);
        EXPECT_EQ(first("blk.0.attn_output"), at + 2048);
        EXPECT_EQ(first("blk.0.ffn_norm"), at + 4096);
        at += 4096 + 64;
        EXPECT_EQ(first("blk.0.ffn_gate"), at);
        EXPECT_EQ(first("blk.0.ffn_down"), at + 2 * 48 * 32);
        EXPECT_EQ(first("blk.1.ffn_up"), at + 5 * 48 * 32);
        at += 6 * 48 * 32;
        EXPECT_EQ(first("output_norm"), at);
        if (!tied) {
            EXPECT_EQ(first("output"), at + 32 + 64 * 8);
        }
    }
}

TEST(Llama2cSource, DamagedFilesAreRefused) {
    std::vector<std::size_t> boundaries;
    const std::string file = tiny::llama_llama2c(false, &boundaries);
    for (const std::size_t b : boundaries)
        for (const std::size_t cut : {b - 1, b, b + 1, b + 4})
            EXPECT_FALSE(open_llama2c(lend(file.substr(0, cut)), "t.bin")) << cut;
    EXPECT_SAYS(open_llama2c(lend(file.substr(0, boundaries[3])), "t.bin"),
                "truncated: blk.0.attn_k, 16 x 32, from offset");
    const std::string longer = file + "x";
    EXPECT_SAYS(open_llama2c(lend(longer), "t.bin"), "1 bytes behind its last tensor");
    for (std::size_t i = 0; i < 7; i++)
        for (const std::int32_t v : {0, -1, INT32_MIN, INT32_MAX, 1 << 20, 3, 0x616B3432}) {
            std::string changed = file;
            std::memcpy(changed.data() + 4 * i, &v, 4);
            EXPECT_FALSE(open_llama2c(lend(changed), "t.bin")) << "number " << i << ": " << v;
        }
}

}  // namespace
}  // namespace slmd::pack
