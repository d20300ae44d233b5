// WordPiece: the tokens that Hugging Face's tokenizers gives, what is left out of a long text, and what is refused.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>

#include "tests/text/fixtures.h"

namespace slmd::tests {
namespace {

using nlohmann::json;

json cases(const std::string& path) { return json::parse(read_file(path)); }

TEST(WordPiece, TokensAreThoseOfTheTokenizersLibrary) {
    const Loaded t(small_wordpiece());
    int cut = 0;
    for (const json& c : cases(SLMD_SOURCE "/tests/pack/bert/cases.json")) {
        const auto text = c["text"].get<std::string>();
        const auto tokens = c["tokens"].get<Ids>();
        EXPECT_EQ(t.encode(text, false, true), tokens) << text;
        Ids out(24);
        std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
        const auto fitted = t->encode_fitting(text, out, scratch);
        ASSERT_TRUE(fitted);
        ASSERT_EQ(fitted.value().tokens, c["read"].get<std::size_t>()) << text;
        EXPECT_EQ(fitted.value().cut, tokens.size() > 24) << text;
        EXPECT_EQ(out[fitted.value().tokens - 1], tokens.back()) << text;
        out.resize(fitted.value().tokens - 1);
        EXPECT_EQ(out, Ids(tokens.begin(), tokens.begin() + static_cast<std::ptrdiff_t>(out.size()))) << text;
        cut += fitted.value().cut;
    }
    EXPECT_EQ(cut, 2);
}

TEST(WordPiece, MiniLmHasItsGoldenTokens) {
    const std::string golden = shared("golden/all-minilm-l6-v2/cases.json"), folder = cached_model("all-MiniLM-L6-v2");
    if (!exists(golden) || !exists(folder)) GTEST_SKIP() << "needs " << golden << " and toolchain/fetch-model minilm";
    const auto spec = pack::read_tokenizer_folder(folder);
    ASSERT_TRUE(spec) << spec.error().what();
    const Loaded t(spec.value());
    for (const json& c : cases(golden)) {
        const auto text = c["text"].get<std::string>();
        Ids out(256);
        std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
        const auto fitted = t->encode_fitting(text, out, scratch);
        ASSERT_TRUE(fitted);
        out.resize(fitted.value().tokens);
        EXPECT_EQ(out, c["tokens"].get<Ids>()) << text;
    }
}

// What was typed is text: a client cannot end it, nor begin another one.
TEST(WordPiece, SpecialTokensCountWhereTheyAreTrustedAlone) {
    const Loaded t(small_wordpiece());
    EXPECT_EQ(t.encode("[SEP]", true), (Ids{3}));
    const Ids plain = t.encode("[SEP]", false);
    EXPECT_EQ(std::count(plain.begin(), plain.end(), 3), 0);
    EXPECT_GT(plain.size(), 2u);
}

TEST(WordPiece, CasedKeepsCaseAndAccents) {
    auto spec = small_wordpiece();
    spec.uncased = false;
    const Loaded t(spec);
    const auto pump = t.encode("pump"), unknown = t.encode("☃");
    EXPECT_EQ(pump.size(), 1u);
    EXPECT_EQ(t.encode("PUMP"), unknown);
    EXPECT_EQ(t.encode("pümp"), unknown);
    EXPECT_EQ(t.encode("pump,pump").size(), 3u);
}

TEST(WordPiece, BytesThatAreNoTextAreLeftOut) {
    const Loaded t(small_wordpiece());
    EXPECT_EQ(t.encode("pu\xFFmp"), t.encode("pump"));
    EXPECT_EQ(t.encode("\xE6\x9D"), Ids{});
}

TEST(WordPiece, TwoTokensAreTheLeastRoom) {
    const Loaded t(small_wordpiece());
    Ids out(2);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(8));
    const auto fitted = t->encode_fitting("the pump", out, scratch);
    ASSERT_TRUE(fitted);
    EXPECT_EQ(fitted.value().tokens, 2u);
    EXPECT_TRUE(fitted.value().cut);
    EXPECT_EQ(out, (Ids{2, 3}));
    const auto none = t->encode_fitting("the pump", std::span(out).first(1), scratch);
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Code::incorrect_parameters);
}

TEST(WordPiece, OtherTokenizersOfTheKindAreRefused) {
    const json good = json::parse(read_file(SLMD_SOURCE "/tests/pack/bert/tokenizer.json"));
    const auto said = [&](const char* pointer, const json& value) {
        json bad = good;
        bad[json::json_pointer(pointer)] = value;
        const auto spec = pack::read_tokenizer_json(bad.dump(), "tokenizer.json");
        return std::string(spec ? "taken" : spec.error().what());
    };
    EXPECT_NE(said("/normalizer/strip_accents", false).find("BertNormalizer is"), std::string::npos);
    EXPECT_NE(said("/normalizer/type", "NFC").find("the normalizer NFC"), std::string::npos);
    EXPECT_NE(said("/pre_tokenizer/type", "Whitespace").find("the pre-tokenizer Whitespace"), std::string::npos);
    EXPECT_NE(said("/model/max_input_chars_per_word", 50).find("at most 100"), std::string::npos);
    EXPECT_NE(said("/model/continuing_subword_prefix", "@@").find("prefix ##"), std::string::npos);
    EXPECT_NE(said("/model/unk_token", "[NONE]").find("[UNK]"), std::string::npos);
    EXPECT_NE(said("/model/vocab", json::object()).find("no vocabulary"), std::string::npos);
    EXPECT_NE(said("/model/vocab/pump", -1).find("impossible id"), std::string::npos);
    EXPECT_NE(said("/post_processor", nullptr).find("post-processor"), std::string::npos);
    EXPECT_EQ(said("/post_processor", json{{"type", "BertProcessing"}, {"sep", {"[SEP]", 3}}, {"cls", {"[CLS]", 2}}}),
              "taken");
}

}  // namespace
}  // namespace slmd::tests
