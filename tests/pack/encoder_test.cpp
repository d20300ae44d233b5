// A folder with an encoder: what is taken of it, and what is said about a damaged one.
#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "toolchain/slmpack/source.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;
using nlohmann::json;

class EncoderFolder : public testing::Test {
  protected:
    void SetUp() override {
        fs::create_directories(path_ / "1_Pooling");
        for (const char* name : {"config.json", "tokenizer.json", "sentence_bert_config.json", "model.safetensors"})
            fs::copy(fs::path(SLMD_SOURCE "/tests/pack/bert") / name, path_ / name,
                     fs::copy_options::overwrite_existing);
        fs::remove(path_ / "1_Pooling/config.json");
    }
    void TearDown() override { fs::remove_all(path_); }
    std::string read(const std::string& name) const {
        std::ifstream in(path_ / name, std::ios::binary);
        return {std::istreambuf_iterator<char>(in), {}};
    }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    std::string said() const {
        const auto source = Source::open(path_.string());
        return source ? "taken" : source.error().what();
    }
    std::string with(const std::string& name, const std::string& key, const json& value) {
        json file = json::parse(read(name));
        const json before = file;
        file[key] = value;
        write(name, file.dump());
        std::string text = said();
        write(name, before.dump());
        return text;
    }
    const fs::path path_ = fs::temp_directory_path() / ("slmd-encoder-folder-" + std::to_string(getpid()));
};

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << (text)

TEST_F(EncoderFolder, IsTakenWhole) {
    const auto source = Source::open(path_.string());
    ASSERT_TRUE(source) << source.error().what();
    const image::ModelParams& p = source.value()->params;
    EXPECT_EQ(p.flags, image::flag_encoder);
    EXPECT_STREQ(p.family, "bert");
    EXPECT_EQ(p.context, 24u);
    EXPECT_EQ(p.head_dim, 16u);
    EXPECT_EQ(p.rope_dims, 0u);
    EXPECT_EQ(source.value()->tensors.size(), 37u);  // no pooler
    EXPECT_EQ(source.value()->find("position_embd")->rows, 48u);
    EXPECT_EQ(source.value()->tokenizer.model, TokenizerSpec::Model::wordpiece);
}

TEST_F(EncoderFolder, SettingsThatAreOthersAreRefused) {
    EXPECT_HAS(with("config.json", "hidden_act", "relu"),
               "hidden_act is \"relu\": family bert is supported with gelu only");
    EXPECT_HAS(with("config.json", "position_embedding_type", "relative_key"), "position_embedding_type");
    EXPECT_HAS(with("config.json", "is_decoder", true), "is_decoder");
    EXPECT_HAS(with("config.json", "type_vocab_size", 1), "type_vocab_size");
    EXPECT_HAS(with("config.json", "num_hidden_layers", 3), "encoder.layer.2.attention.self.query.weight is missing");
    EXPECT_HAS(with("config.json", "num_hidden_layers", 1), "is not part of family bert");
    EXPECT_HAS(with("config.json", "num_hidden_layers", 1e9), "not a whole number");
    EXPECT_HAS(with("config.json", "hidden_size", 48), "the model's parameters ask for");
    EXPECT_HAS(with("config.json", "max_position_embeddings", 49), "position_embeddings.weight is 48 x 32");
    EXPECT_HAS(with("config.json", "num_attention_heads", 0), "num_attention_heads is 0");
    EXPECT_HAS(with("sentence_bert_config.json", "max_seq_length", -5), "max_seq_length is -5");
    EXPECT_HAS(with("sentence_bert_config.json", "max_seq_length", "long"), "max_seq_length is not a number");
    EXPECT_EQ(with("sentence_bert_config.json", "max_seq_length", 4096), "taken");
    write("sentence_bert_config.json", "{");
    EXPECT_HAS(said(), "sentence_bert_config.json is not JSON");
}

TEST_F(EncoderFolder, OnlyTheMeanPools) {
    write("1_Pooling/config.json", R"({"pooling_mode_cls_token": false, "pooling_mode_mean_tokens": true})");
    EXPECT_EQ(said(), "taken");
    write("1_Pooling/config.json", R"({"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false})");
    EXPECT_HAS(said(), "pooling_mode_cls_token is true: the mean over the tokens is supported alone");
}

TEST_F(EncoderFolder, ItsTokenizerIsWordPiece) {
    fs::remove(path_ / "tokenizer.json");
    EXPECT_HAS(said(), "no tokenizer");
    fs::copy(SLMD_SOURCE "/models/tiny/tokenizer.json", path_ / "tokenizer.json");
    EXPECT_HAS(said(), "an encoder is supported with WordPiece alone");
    json config = json::parse(read("config.json"));
    SetUp();
    EXPECT_EQ(said(), "taken");
    EXPECT_HAS(with("config.json", "vocab_size", 10), "word_embeddings.weight is");
}

TEST_F(EncoderFolder, DamagedFilesAreRefused) {
    const std::string whole = read("model.safetensors");
    for (const std::size_t size : {std::size_t{0}, std::size_t{7}, std::size_t{500}, whole.size() - 1}) {
        write("model.safetensors", whole.substr(0, size));
        EXPECT_HAS(said(), "model.safetensors") << size;
    }
    std::string longer = whole;
    const auto at = longer.find("\"F16\"");
    longer.replace(at, 5, "\"I64\"");
    write("model.safetensors", longer);
    EXPECT_HAS(said(), "model.safetensors");
    std::string infinite = whole;
    infinite[infinite.size() - 1] = 0x7C, infinite[infinite.size() - 2] = 0;
    write("model.safetensors", infinite);
    const auto source = Source::open(path_.string());
    ASSERT_TRUE(source) << source.error().what();
    bool found = false;
    for (const SourceTensor& t : source.value()->tensors) {
        const auto values = source.value()->read(t);
        if (!values) {
            EXPECT_HAS(values.error().what(), "not finite");
            found = true;
        }
    }
    EXPECT_TRUE(found);
}

}  // namespace
}  // namespace slmd::pack
