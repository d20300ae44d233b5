// The tokenizer on small vocabularies of our own: merging against a plain reference, words, special tokens, bytes,
// limits.
#include "text/tokenizer.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <random>

#include "tests/text/fixtures.h"
#include "text/split.h"

namespace slmd::tests {
namespace {

using text::Trusted;

std::vector<std::string> pieces(const Loaded& t, const Ids& ids) {
    std::vector<std::string> out;
    for (const auto id : ids) out.emplace_back(t->piece(id, true));
    return out;
}
using Pieces = std::vector<std::string>;

std::vector<std::string> split(text::Pre pre, std::string_view s) {
    std::vector<std::string> out;
    text::Splitter splitter(pre, s);
    for (auto w = splitter.next(); !w.empty(); w = splitter.next()) out.emplace_back(w);
    return out;
}

// The textbook: look for the lowest rank, leftmost first, merge, start again.
Ids plain_bpe(const pack::TokenizerSpec& spec, std::string_view word) {
    std::map<std::string, std::int32_t> id;
    for (std::size_t i = 0; i < spec.tokens.size(); ++i)
        if (spec.types[i] == 1) id.emplace(spec.tokens[i], static_cast<std::int32_t>(i));
    std::map<std::string, std::size_t> rank;
    for (std::size_t i = 0; i < spec.merges.size(); ++i) rank.emplace(spec.merges[i], i);
    std::vector<std::string> symbols;
    for (const char c : word) symbols.push_back(spell(std::string(1, c)));
    while (true) {
        std::size_t best = ~std::size_t{0}, where = 0;
        for (std::size_t i = 0; i + 1 < symbols.size(); ++i)
            if (const auto m = rank.find(symbols[i] + ' ' + symbols[i + 1]); m != rank.end() && m->second < best)
                best = m->second, where = i;
        if (best == ~std::size_t{0}) break;
        symbols[where] += symbols[where + 1];
        symbols.erase(symbols.begin() + static_cast<std::ptrdiff_t>(where) + 1);
    }
    Ids out;
    for (const auto& s : symbols) out.push_back(id.at(s));
    return out;
}

TEST(Bpe, MergesByRank) {
    const Loaded t(small_bpe("gpt-2"));
    EXPECT_EQ(pieces(t, t.encode("the hello world")), (Pieces{"th", "e", " ", "he", "ll", "o", " world"}));
    EXPECT_EQ(pieces(t, t.encode("a the")), (Pieces{"a", " ", "th", "e"}));
    EXPECT_TRUE(t.encode("").empty());
}

TEST(Bpe, ShortAndLongWordsAgreeWithTheTextbook) {
    const auto spec = small_bpe("gpt-2");
    const Loaded t(spec);
    std::mt19937 random(7);
    for (int round = 0; round < 400; ++round) {
        // Letters only, so that the pre-tokenizer sees one word; lengths on both sides of the limit of the short path.
        std::string word;
        for (std::size_t n = 1 + random() % 200; n > 0; --n) word += "thelowrdinga"[random() % 12];
        ASSERT_EQ(t.encode(word), plain_bpe(spec, word)) << word;
    }
    for (const std::size_t n : {63u, 64u, 65u, 66u, 127u, 128u, 129u, 1000u}) {
        const std::string word(n, 'a');  // every pair has the same rank: leftmost first
        ASSERT_EQ(t.encode(word), plain_bpe(spec, word)) << n;
    }
}

TEST(Bpe, OneWordOf64KiB) {
    const Loaded t(small_bpe("gpt-2"));
    for (const char* unit : {"a", "thelo", "\xC3\xA9"}) {
        std::string word;
        while (word.size() < 65536) word += unit;
        const Ids ids = t.encode(word);
        EXPECT_LT(ids.size(), word.size());
        EXPECT_EQ(t.decode(ids), word);
    }
}

TEST(Bpe, AnyBytesRoundTrip) {
    std::mt19937 random(11);
    for (const char* pre : {"gpt-2", "smollm", "llama-bpe", "qwen2"}) {
        const Loaded t(small_bpe(pre));
        for (int round = 0; round < 300; ++round) {
            std::string s;
            for (std::size_t n = random() % 100; n > 0; --n)
                s += static_cast<char>(random() % 3 ? random() : " \n12a'\xC3"[random() % 7]);
            ASSERT_EQ(t.decode(t.encode(s)), s) << pre;
        }
    }
}

TEST(Split, Gpt2) {
    using enum text::Pre;
    EXPECT_EQ(split(gpt2, "I'll say  \"yes\" 42 times!\n\n ok"),
              (Pieces{"I", "'ll", " say", " ", " \"", "yes", "\"", " 42", " times", "!", "\n\n", " ok"}));
    EXPECT_EQ(split(gpt2, "'S 'RE"), (Pieces{"'", "S", " '", "RE"}));
    EXPECT_EQ(split(gpt2, "a   "), (Pieces{"a", "   "}));
    EXPECT_EQ(split(gpt2, "\t\tx"), (Pieces{"\t", "\t", "x"}));
    EXPECT_EQ(split(gpt2, "d\u00E9j\u00E0\u00A0vu \u0661\u0662"),
              (Pieces{"d\u00E9j\u00E0", "\u00A0", "vu", " \u0661\u0662"}));
    EXPECT_EQ(split(gpt2, "a\xFF\xFE b"), (Pieces{"a", "\xFF\xFE", " b"}));
}

TEST(Split, SmolLM) {
    using enum text::Pre;
    EXPECT_EQ(split(smollm, "in 2024, x  7"), (Pieces{"in", " ", "2", "0", "2", "4", ",", " x", "  ", "7"}));
    EXPECT_EQ(split(smollm, "12"), (Pieces{"1", "2"}));
    EXPECT_EQ(split(smollm, "\u00BD\u2167a"), (Pieces{"\u00BD", "\u2167", "a"}));
}

TEST(Split, Llama3AndQwen2) {
    using enum text::Pre;
    EXPECT_EQ(split(llama_bpe, "12345 ab"), (Pieces{"123", "45", " ab"}));
    EXPECT_EQ(split(qwen2, "12345 ab"), (Pieces{"1", "2", "3", "4", "5", " ab"}));
    EXPECT_EQ(split(llama_bpe, "He'S (ok)!\r\n\nnext"), (Pieces{"He", "'S", " (", "ok", ")!\r\n\n", "next"}));
    EXPECT_EQ(split(llama_bpe, "a \n  \n  b"), (Pieces{"a", " \n  \n", " ", " b"}));
    EXPECT_EQ(split(llama_bpe, "(ok \tx\n\ny"), (Pieces{"(ok", " ", "\tx", "\n\n", "y"}));
    EXPECT_EQ(split(llama_bpe, "i'\u017Fx"), (Pieces{"i", "'\u017F", "x"}));  // the long s folds to s
}

TEST(Special, OnlyInTrustedRanges) {
    const Loaded t(small_bpe("smollm"));
    const std::string s = "<|im_start|>user\n<|im_end|>";
    EXPECT_EQ(pieces(t, t.encode(s, true)), (Pieces{"<|im_start|>", "u", "s", "er", "\n", "<|im_end|>"}));
    for (const auto id : t.encode(s, false)) EXPECT_GT(id, 2) << "a forged special token";
    // The same text inside a message between template parts, also where it touches them.
    const auto ids = t.encode(s + s + s, std::vector<Trusted>{{0, 27}, {54, 81}});
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 1), 2);
    EXPECT_EQ(std::count(ids.begin(), ids.end(), 2), 2);
    // A special token half in a trusted range is ordinary text.
    for (const auto id : t.encode(s, std::vector<Trusted>{{0, 11}, {11, 17}})) EXPECT_GT(id, 2);
    // Ranges past the end of the text do no harm.
    EXPECT_EQ(t.encode("<|im_end|>", std::vector<Trusted>{{0, 4000000000u}}), Ids{2});
}

TEST(Special, UserDefinedTokensCountEverywhere) {
    const auto spec = small_bpe("gpt-2");
    const Loaded t(spec);
    const auto tool = static_cast<std::int32_t>(spec.tokens.size()) - 1;
    EXPECT_EQ(t.encode("<tool>"), Ids{tool});
    EXPECT_EQ(t.encode("a<tool>a", true), (Ids{t.encode("a")[0], tool, t.encode("a")[0]}));
    EXPECT_EQ(t->piece(tool), "<tool>");
}

TEST(Special, LongestWins) {
    auto spec = small_bpe("gpt-2");
    for (const char* s : {"<a", "<a>", "<a>b>"}) spec.tokens.emplace_back(s), spec.types.push_back(3);
    const auto n = static_cast<std::int32_t>(spec.tokens.size());
    const Loaded t(spec);
    EXPECT_EQ(t.encode("<a>b><a><a", true), (Ids{n - 1, n - 2, n - 3}));
    EXPECT_EQ(t->find("<a>"), n - 2);
    EXPECT_EQ(t->find("<a>b"), -1);
    EXPECT_EQ(t->find("the"), -1);
    EXPECT_EQ(t->find(""), -1);
}

TEST(Special, EndsAndPieces) {
    auto spec = small_bpe("gpt-2");
    spec.ends = {3};
    const Loaded t(spec);
    EXPECT_TRUE(t->is_end(0));  // <|endoftext|>, by its name
    EXPECT_TRUE(t->is_end(2));  // eos
    EXPECT_TRUE(t->is_end(3));  // named
    EXPECT_FALSE(t->is_end(1));
    EXPECT_FALSE(t->is_end(-1));
    EXPECT_FALSE(t->is_end(1 << 30));
    EXPECT_EQ(t->piece(2), "");
    EXPECT_EQ(t->piece(2, true), "<|im_end|>");
    EXPECT_EQ(t->piece(-1), "");
    EXPECT_EQ(t->piece(1 << 30), "");
    EXPECT_EQ(t->vocab(), static_cast<std::int32_t>(spec.tokens.size()));
    EXPECT_EQ(t->bos(), 1);
}

TEST(Bpe, BosOnlyWhenTheModelWantsIt) {
    auto spec = small_bpe("gpt-2");
    EXPECT_EQ(Loaded(spec).encode("a", false, true).size(), 1u);
    spec.add_bos = true;
    EXPECT_EQ(Loaded(spec).encode("a", false, true)[0], 1);
    EXPECT_EQ(Loaded(spec).encode("a", false, false).size(), 1u);
}

TEST(Bpe, IgnoreMergesTakesWholeWords) {
    auto spec = small_bpe("llama-bpe");
    spec.tokens.push_back(spell("dog")), spec.types.push_back(1);  // no merge makes it
    EXPECT_EQ(Loaded(spec).encode("dog").size(), 1u);
    spec.pre = "gpt-2";
    EXPECT_EQ(Loaded(spec).encode("dog").size(), 3u);
    spec.ignore_merges = true;
    EXPECT_EQ(Loaded(spec).encode("dog").size(), 1u);
}

TEST(SentencePiece, MergesByScore) {
    const Loaded t(small_sentencepiece());
    EXPECT_EQ(pieces(t, t.encode("the world")), (Pieces{" the", " world"}));
    EXPECT_EQ(pieces(t, t.encode("hello  hello")), (Pieces{" hello", " ", " hello"}));
    EXPECT_EQ(t.encode("a", false, true)[0], 1);
    EXPECT_TRUE(t.encode("").empty());
    EXPECT_TRUE(t->strip_first_space());
}

TEST(SentencePiece, BytesFallBackAndRoundTrip) {
    const Loaded t(small_sentencepiece());
    EXPECT_EQ(pieces(t, t.encode("\u20AC")), (Pieces{" ", "\xE2", "\x82", "\xAC"}));
    // A literal U+2581 is not a space.
    EXPECT_EQ(t.decode(t.encode("a\u2581b c")), "a\u2581b c");
    std::mt19937 random(5);
    for (int round = 0; round < 500; ++round) {
        std::string s;
        for (std::size_t n = random() % 150; n > 0; --n)
            s += static_cast<char>(random() % 3 ? "the lowrd ing"[random() % 13] : random());
        ASSERT_EQ(t.decode(t.encode(s)), s);
    }
    std::string spaces(70000, ' ');
    EXPECT_EQ(t.decode(t.encode(spaces)), spaces);
    EXPECT_EQ(t.decode(t.encode(std::string(70000, 'a'))), std::string(70000, 'a'));
}

TEST(SentencePiece, PrefixAfterEachSpecialToken) {
    const Loaded t(small_sentencepiece());
    EXPECT_EQ(pieces(t, t.encode("<s>the</s>the", true)), (Pieces{"<s>", " the", "</s>", " the"}));
}

TEST(SentencePiece, WithoutByteTokensTheUnknownTokenStands) {
    auto spec = small_sentencepiece();
    for (int i = 3; i < 259; ++i) spec.types[static_cast<std::size_t>(i)] = 5;
    const Loaded t(spec);
    EXPECT_EQ(t.encode("\u20AC").back(), 0);
    EXPECT_EQ(t->piece(0), "");
}

TEST(Limits, ClearErrors) {
    const Loaded t(small_bpe("gpt-2"));
    const std::string text = "the hello world";
    std::vector<std::int32_t> out(64);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    auto few = t->encode(text, {}, false, std::span(out).first(2), scratch);
    ASSERT_FALSE(few);
    EXPECT_EQ(few.error().code, Code::context_full);
    auto small = t->encode(text, {}, false, out, std::span(scratch).first(10));
    ASSERT_FALSE(small);
    EXPECT_EQ(small.error().code, Code::memory_full);
    // Scratch of just that size, at any address.
    std::vector<std::byte> odd(text::Tokenizer::scratch_bytes(200) + 1);
    const std::string word(200, 'a');
    EXPECT_TRUE(t->encode(word, {}, false, std::span(out).first(50), std::span(odd).subspan(1)));
}

}  // namespace
}  // namespace slmd::tests
