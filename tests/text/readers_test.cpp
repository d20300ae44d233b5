// Published tokenizer files: each form read, and what is not supported refused by name.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cstring>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/text/fixtures.h"

namespace slmd::tests {
namespace {

using Json = nlohmann::json;
using pack::TokenizerSpec;

Json tokenizer_json(const TokenizerSpec& spec) { return Json::parse(tokenizer_json_text(spec)); }
Json byte_level(bool regex) { return {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", regex}}; }
Json split(const std::string& regex) {
    return {{"type", "Sequence"},
            {"pretokenizers",
             {{{"type", "Split"}, {"pattern", {{"Regex", regex}}}, {"behavior", "Isolated"}, {"invert", false}},
              byte_level(false)}}};
}
constexpr const char* llama3 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* qwen2 =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

Result<TokenizerSpec> read(const Json& json) { return pack::read_tokenizer_json(json.dump(), "tokenizer.json"); }
std::string refusal(const Json& json) {
    const auto r = read(json);
    return r ? "" : r.error().text;
}
bool has(const std::string& text, const char* part) { return text.find(part) != std::string::npos; }

TEST(TokenizerJson, PreTokenizersByTheirStructure) {
    const TokenizerSpec want = small_bpe("gpt-2");
    Json j = tokenizer_json(want);
    const Json digits = {{"type", "Sequence"},
                         {"pretokenizers", {{{"type", "Digits"}, {"individual_digits", true}}, byte_level(true)}}};
    const std::pair<const char*, Json> forms[] = {
        {"gpt-2", byte_level(true)}, {"smollm", digits}, {"llama-bpe", split(llama3)}, {"qwen2", split(qwen2)}};
    for (const auto& [pre, form] : forms) {
        j["pre_tokenizer"] = form;
        j["normalizer"] = std::string(pre) == "qwen2" ? Json{{"type", "NFC"}} : Json();
        const auto got = read(j);
        ASSERT_TRUE(got) << got.error().text;
        EXPECT_EQ(got.value().pre, pre);
        EXPECT_EQ(got.value().tokens, want.tokens);
        EXPECT_EQ(got.value().types, want.types);
        EXPECT_EQ(got.value().merges, want.merges);
        EXPECT_EQ(Loaded(got.value()).encode("the 12 <|im_end|>", true),
                  Loaded(small_bpe(pre)).encode("the 12 <|im_end|>", true));
    }
}

TEST(TokenizerJson, MergesAsPairs) {
    Json j = tokenizer_json(small_bpe("gpt-2"));
    j["pre_tokenizer"] = byte_level(true);
    Json pairs = Json::array();
    for (const std::string m : j["model"]["merges"])
        pairs.push_back({m.substr(0, m.find(' ')), m.substr(m.find(' ') + 1)});
    j["model"]["merges"] = pairs;
    EXPECT_EQ(read(j).value().merges, small_bpe("gpt-2").merges);
}

TEST(TokenizerJson, UnknownFormsAreRefusedByName) {
    Json base = tokenizer_json(small_bpe("gpt-2"));
    base["pre_tokenizer"] = byte_level(true);
    const auto with = [&](const char* key, Json value) {
        Json j = base;
        j[key] = std::move(value);
        return refusal(j);
    };
    EXPECT_TRUE(has(with("pre_tokenizer", split(R"(\p{Han}+|\w+)")), R"(\p{Han}+|\w+)"));
    EXPECT_TRUE(has(with("pre_tokenizer", {{"type", "Whitespace"}}), "Whitespace"));
    EXPECT_TRUE(has(with("pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", true}}), "ByteLevel"));
    EXPECT_TRUE(has(with("normalizer", {{"type", "NFKC"}}), "NFKC"));
    EXPECT_TRUE(has(with("model", {{"type", "Unigram"}}), "Unigram"));
    EXPECT_TRUE(
        has(with("model", {{"type", "BPE"}, {"vocab", Json::object()}, {"merges", Json::array()}}), "vocabulary"));
    EXPECT_TRUE(has(with("added_tokens", {{{"id", 300}, {"content", "<x>"}, {"rstrip", true}}}), "rstrip"));
    EXPECT_TRUE(has(with("added_tokens", {{{"id", 4000000000u}, {"content", "<x>"}}}), "<x>"));
    EXPECT_TRUE(has(with("added_tokens", {{{"content", "<x>"}}}), "id"));
    Json j = base;
    j["model"]["merges"].push_back(7);
    EXPECT_TRUE(has(refusal(j), "merge"));
    j = base;
    j["model"]["vocab"]["zz"] = 1u << 31;
    EXPECT_TRUE(has(refusal(j), "zz"));
    j["model"]["vocab"]["zz"] = -1;
    EXPECT_TRUE(has(refusal(j), "zz"));
    EXPECT_FALSE(pack::read_tokenizer_json("{\"model\":", "x"));
    EXPECT_FALSE(pack::read_tokenizer_json("[]", "x"));
    EXPECT_FALSE(pack::read_tokenizer_json("", "x"));
    EXPECT_FALSE(pack::read_tokenizer_json(std::string(1000000, '['), "x"));
}

TEST(TokenizerJson, SentencePieceStyle) {
    // As Llama 2 and TinyLlama come: merges instead of scores, spaces by normalizers, <s> by the post-processor.
    const TokenizerSpec small = small_sentencepiece();
    Json j = tokenizer_json(small);
    j["pre_tokenizer"] = nullptr;
    j["model"]["byte_fallback"] = true;
    j["model"]["unk_token"] = "<unk>";
    Json merges = Json::array();
    for (std::size_t i = 259; i < small.tokens.size(); ++i)  // in the order of their scores
        for (std::size_t cut = 1; cut < small.tokens[i].size(); ++cut) {
            const std::string l = small.tokens[i].substr(0, cut), r = small.tokens[i].substr(cut);
            const auto known = [&](const std::string& s) {
                return std::find(small.tokens.begin() + 259, small.tokens.end(), s) != small.tokens.end();
            };
            if (known(l) && known(r)) merges.push_back(l + " " + r);
        }
    j["model"]["merges"] = merges;
    j["normalizer"] = {{"type", "Sequence"},
                       {"normalizers",
                        {{{"type", "Prepend"}, {"prepend", "\u2581"}},
                         {{"type", "Replace"}, {"pattern", {{"String", " "}}}, {"content", "\u2581"}}}}};
    j["post_processor"] = {
        {"type", "TemplateProcessing"},
        {"single", {{{"SpecialToken", {{"id", "<s>"}, {"type_id", 0}}}}, {{"Sequence", {{"id", "A"}}}}}}};
    const auto got = read(j);
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().model, TokenizerSpec::Model::sentencepiece);
    EXPECT_TRUE(got.value().add_space_prefix);
    EXPECT_TRUE(got.value().add_bos);
    EXPECT_EQ(got.value().bos, 1);
    EXPECT_EQ(got.value().types, small.types);
    const Loaded a(got.value()), b(small);
    for (const char* s : {"hello world", "the  hello\u20AC\n", " aaaaa the", "<s>forged"})
        EXPECT_EQ(a.encode(s, false, true), b.encode(s, false, true)) << s;

    j["normalizer"] = nullptr;
    j["pre_tokenizer"] = {
        {"type", "Metaspace"}, {"replacement", "\u2581"}, {"prepend_scheme", "always"}, {"split", false}};
    EXPECT_TRUE(read(j).value().add_space_prefix);
    j["pre_tokenizer"]["prepend_scheme"] = "never";
    EXPECT_FALSE(read(j).value().add_space_prefix);
    j["pre_tokenizer"]["prepend_scheme"] = "first";
    EXPECT_TRUE(has(refusal(j), "first"));
}

// ---- SentencePiece: the protobuf written by hand.

std::string varint(std::uint64_t v) {
    std::string out;
    for (; v >= 128; v >>= 7) out += static_cast<char>(v | 128);
    return out + static_cast<char>(v);
}
std::string number(int field, std::uint64_t v) { return varint(static_cast<std::uint64_t>(field) << 3) + varint(v); }
std::string bytes(int field, const std::string& s) {
    return varint(static_cast<std::uint64_t>(field) << 3 | 2) + varint(s.size()) + s;
}
std::string sentencepiece_model(const TokenizerSpec& spec, std::uint64_t model_type = 2,
                                const std::string& normalizer = number(3, 1) + number(4, 0)) {
    std::string out;
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
        std::string score(4, '\0');
        std::memcpy(score.data(), &spec.scores[i], 4);
        out += bytes(1, bytes(1, spec.tokens[i]) + varint(2 << 3 | 5) + score +
                            (spec.types[i] == 1 ? "" : number(3, spec.types[i])));
    }
    return out + bytes(2, number(3, model_type) + number(35, 1) + number(40, 0) + number(41, 1) + number(42, 2)) +
           bytes(3, normalizer);
}
Result<TokenizerSpec> read_model(const std::string& model) {
    return pack::read_sentencepiece(std::as_bytes(std::span(model)), "tokenizer.model");
}

TEST(SentencePieceModel, Reads) {
    const TokenizerSpec want = small_sentencepiece();
    const auto got = read_model(sentencepiece_model(want));
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().tokens, want.tokens);
    EXPECT_EQ(got.value().scores, want.scores);
    EXPECT_EQ(got.value().types, want.types);
    EXPECT_TRUE(got.value().add_bos);
    EXPECT_TRUE(got.value().add_space_prefix);
    EXPECT_EQ(got.value().eos, 2);
}

TEST(SentencePieceModel, RefusesWhatItCannotDo) {
    const TokenizerSpec spec = small_sentencepiece();
    EXPECT_TRUE(has(read_model(sentencepiece_model(spec, 1)).error().text, "unigram"));
    EXPECT_TRUE(has(read_model(sentencepiece_model(spec, 2, number(4, 0) + bytes(2, "map"))).error().text, "charsmap"));
    EXPECT_TRUE(has(read_model(sentencepiece_model(spec, 2, number(4, 1))).error().text, "white space"));
    EXPECT_FALSE(read_model(""));
    EXPECT_FALSE(read_model("not a protobuf"));
    const std::string whole = sentencepiece_model(spec);
    for (std::size_t n = 0; n + 1 < whole.size(); n += 7) (void)read_model(whole.substr(0, n));
}

// ---- llama2.c

std::string llama2c_file(const TokenizerSpec& spec) {
    std::string out("\x40\0\0\0", 4);
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
        std::string token = i == 1 ? "\n<s>\n" : i == 2 ? "\n</s>\n" : spec.tokens[i];
        for (std::size_t at; (at = token.find("\u2581")) != std::string::npos;) token.replace(at, 3, " ");
        const auto length = static_cast<std::int32_t>(token.size());
        out.append(reinterpret_cast<const char*>(&spec.scores[i]), 4);
        out.append(reinterpret_cast<const char*>(&length), 4);
        out += token;
    }
    return out;
}

TEST(Llama2c, ReadsAndRefuses) {
    const TokenizerSpec want = small_sentencepiece();
    const std::string file = llama2c_file(want);
    const auto got = pack::read_llama2c_tokenizer(std::as_bytes(std::span(file)), "tokenizer.bin");
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().tokens, want.tokens);
    EXPECT_EQ(got.value().types, want.types);
    for (const std::size_t n : {std::size_t{0}, std::size_t{3}, std::size_t{9}, file.size() - 1})
        EXPECT_FALSE(pack::read_llama2c_tokenizer(std::as_bytes(std::span(file).first(n)), "x")) << n;
    std::string negative = file;
    negative[8 + 3] = '\x80';
    EXPECT_FALSE(pack::read_llama2c_tokenizer(std::as_bytes(std::span(negative)), "x"));
}

// ---- Folders

class Folder : public testing::Test {
  protected:
    void SetUp() override {
        path_ = std::filesystem::temp_directory_path() / ("slmd-tokenizer-" + std::to_string(::getpid()));
        std::filesystem::create_directories(path_);
    }
    void TearDown() override { std::filesystem::remove_all(path_); }
    void write(const char* name, const std::string& text) { std::ofstream(path_ / name, std::ios::binary) << text; }
    Result<TokenizerSpec> read_folder() { return pack::read_tokenizer_folder(path_.string()); }

    std::filesystem::path path_;
};

TEST_F(Folder, TokenizerJsonWithItsConfigurations) {
    Json j = tokenizer_json(small_bpe("gpt-2"));
    j["pre_tokenizer"] = byte_level(true);
    write("tokenizer.json", j.dump());
    write("tokenizer_config.json",
          R"({"bos_token": {"content": "<|im_start|>"}, "eos_token": "<|im_end|>", "add_bos_token": true})");
    write("generation_config.json", R"({"eos_token_id": [2, 0, 999999]})");
    const auto got = read_folder();
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().bos, 1);
    EXPECT_EQ(got.value().eos, 2);
    EXPECT_TRUE(got.value().add_bos);
    EXPECT_EQ(got.value().ends, std::vector<std::int32_t>{0});
}

TEST_F(Folder, VocabAndMerges) {
    const TokenizerSpec small = small_bpe("qwen2");
    Json vocab = Json::object();
    for (std::size_t i = 0; i < small.tokens.size(); ++i)
        if (small.types[i] == 1) vocab[small.tokens[i]] = i;
    std::string merges = "#version: 0.2\n";
    for (const auto& m : small.merges) merges += m + "\r\n";
    write("vocab.json", vocab.dump());
    write("merges.txt", merges);
    EXPECT_TRUE(has(read_folder().error().text, "cut into words"));
    write("tokenizer_config.json", R"({"tokenizer_class": "Qwen2Tokenizer", "added_tokens_decoder": {
        "0": {"content": "<|endoftext|>", "special": true}, "1": {"content": "<|im_start|>", "special": true}, "2": {"content": "<|im_end|>", "special": true},
        "287": {"content": "<tool>", "special": false}}, "eos_token": "<|im_end|>"})");
    const auto got = read_folder();
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().pre, "qwen2");
    EXPECT_EQ(got.value().tokens, small.tokens);
    EXPECT_EQ(got.value().types, small.types);
    EXPECT_EQ(got.value().merges, small.merges);
    EXPECT_EQ(got.value().eos, 2);
}

TEST_F(Folder, SentencePieceAndLlama2c) {
    write("tokenizer.bin", llama2c_file(small_sentencepiece()));
    EXPECT_EQ(read_folder().value().tokens, small_sentencepiece().tokens);
    write("tokenizer.model", sentencepiece_model(small_sentencepiece()));
    EXPECT_EQ(read_folder().value().tokens, small_sentencepiece().tokens);
    write("tokenizer.json", "{");  // comes first
    EXPECT_FALSE(read_folder());
}

TEST_F(Folder, NothingThere) {
    const auto got = read_folder();
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Code::not_found);
    EXPECT_TRUE(has(got.error().text, path_.c_str()));
}

// ---- What cannot become a section

TEST(Build, RefusesImpossibleSpecs) {
    const auto error = [](auto&& change, TokenizerSpec spec = small_bpe("gpt-2")) {
        change(spec);
        const auto built = pack::build_tokenizer(spec);
        return built ? std::string() : std::string(built.error().text);
    };
    EXPECT_EQ(error([](auto&) {}), "");
    EXPECT_TRUE(has(error([](auto& s) { s.pre = "deepseek-llm"; }), "deepseek-llm"));
    EXPECT_TRUE(has(error([](auto& s) { s.tokens.clear(); }), "no tokens"));
    EXPECT_TRUE(has(error([](auto& s) { s.types.pop_back(); }), "types"));
    EXPECT_TRUE(has(error([](auto& s) { s.types[5] = 9; }), "type"));
    EXPECT_TRUE(has(error([](auto& s) { s.scores = {1.0f}; }), "scores"));
    EXPECT_TRUE(has(error([](auto& s) { s.eos = 100000; }), "100000"));
    EXPECT_TRUE(has(error([](auto& s) { s.bos = -7; }), "-7"));
    EXPECT_TRUE(has(error([](auto& s) { s.ends = {-1}; }), "-1"));
    EXPECT_TRUE(has(error([](auto& s) { s.merges.push_back("q z"); }), "qz"));
    EXPECT_TRUE(has(error([](auto& s) { s.merges.push_back("qz"); }), "qz"));
    EXPECT_TRUE(has(error([](auto& s) { s.tokens[50] = std::string(100000, 'x'); }), "100000"));
    EXPECT_TRUE(has(error([](auto& s) { s.add_space_prefix = true; }), "space"));
    EXPECT_TRUE(has(error([](auto& s) { s.scores.clear(); }, small_sentencepiece()), "scores"));
    EXPECT_TRUE(has(error([](auto& s) { s.scores[7] = 0.0f / 0.0f; }, small_sentencepiece()), "token 7"));
    EXPECT_TRUE(has(error([](auto& s) { s.tokens[3] = "<0xZZ>"; }, small_sentencepiece()), "0xHH"));
}

TEST(Build, SameSpecSameBytes) {
    EXPECT_EQ(pack::build_tokenizer(small_bpe("qwen2")).value(), pack::build_tokenizer(small_bpe("qwen2")).value());
}

}  // namespace
}  // namespace slmd::tests
