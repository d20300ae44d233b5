// Masks: the tokens that a grammar allows, found together, are those that it allows one by one.
#include "grammar/vocabulary.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <random>

#include "compiled.h"

namespace slmd::grammar {
namespace {

// Every byte, pieces of JSON as tokenizers have them, words, half characters, and tokens that write nothing.
std::vector<std::string> tokens() {
    std::vector<std::string> all = {"", "<|end|>"};
    all[1] = "";
    for (int b = 0; b < 256; b++) all.emplace_back(1, static_cast<char>(b));
    const char* const pieces[] = {"\"",    "\":",  "\":\"",    "\",\"",     "\"}",     "\"]",   "{\"",  "[\"",  "}}",
                                  "\\\"",  "\\n",  "\\u00",    "\\u001f\"", "\\u000a", "name",  "tags", "tru",  "e",
                                  "false", "null", "1",        "12",        "10",      "0.5",   " a",   "é",    "\xC3",
                                  "\xA9",  "日本", "\xE6\x97", "a\"b",      "ab\",",   "ab\"}", "abc",  "], [", "\"\"",
                                  "-",     "e5",   "{}",       "[]",        ":",       "true,"};
    for (const char* p : pieces) all.emplace_back(p);
    std::mt19937 random(3);
    for (int i = 0; i < 600; i++) {
        std::string s;
        for (unsigned n = 1 + random() % 4; n > 0; n--) s += all[2 + random() % (all.size() - 2)];
        all.push_back(s);
    }
    // Many that begin alike for longer than is sorted byte by byte, some of them twice.
    for (int i = 0; i < 200; i++) all.push_back(std::string(20, 'a') + all[2 + random() % (all.size() - 2)]);
    all.emplace_back(300, 'a');  // longer than any piece that is allowed
    return all;
}

struct TestVocabulary : Vocabulary {
    explicit TestVocabulary(const std::vector<std::string>& list) : block(bytes(list.size())) {
        Arena arena(block.view());
        lay_out(arena, static_cast<int>(list.size()));
        build(
            [](const void* context, std::int32_t t) -> std::string_view {
                return (*static_cast<const std::vector<std::string>*>(context))[static_cast<std::size_t>(t)];
            },
            &list);
    }
    static std::size_t bytes(std::size_t count) {
        Arena counting;
        Vocabulary v;
        v.lay_out(counting, static_cast<int>(count));
        return counting.used();
    }
    Block block;
};

TEST(Vocabulary, allows_together_what_it_allows_one_by_one) {
    const std::vector<std::string> list = tokens();
    TestVocabulary v(list);
    Compiled c;
    TestMatcher m;
    std::mt19937 random(11);
    int masks = 0, free_strings = 0, bits = 0;
    for (
        const char* schema :
        {R"({})", R"({"type":"string"})", R"({"type":"string","minLength":3,"maxLength":9})",
         R"({"type":"object","properties":{"name":{"type":"string"},"tags":{"type":"array","items":{"enum":["a","ab","null"]},"uniqueItems":true}},"required":["name"]})",
         R"({"type":"array","items":{"type":"string"},"uniqueItems":true})",
         R"({"anyOf":[{"type":"string"},{"type":"string","pattern":"^a+$"},{"type":"number","multipleOf":0.5}]})"}) {
        const auto ok = c.schema(schema);
        ASSERT_TRUE(ok) << ok.error().what();
        for (int walk = 0; walk < 12; walk++) {
            m.open(c.grammar);
            m.refuse_controls();
            for (int step = 0; step < 25; step++) {
                std::vector<std::uint64_t> mask(v.words(), ~std::uint64_t{0});
                v.allowed(m, mask);
                masks++;
                free_strings += m.in_free_string(Vocabulary::max_piece);
                std::vector<std::int32_t> good;
                for (std::int32_t t = 0; t < v.count(); t++) {
                    const std::string& piece = list[static_cast<std::size_t>(t)];
                    const bool one = !piece.empty() && piece.size() <= Vocabulary::max_piece && m.would_take(piece);
                    ASSERT_EQ((mask[static_cast<std::size_t>(t) / 64] >> t % 64 & 1) != 0, one)
                        << schema << "\nafter " << m.text() << "\ntoken " << piece;
                    if (one) good.push_back(t);
                }
                bits += static_cast<int>(good.size());
                if (good.empty()) break;
                ASSERT_TRUE(m.take(list[static_cast<std::size_t>(good[random() % good.size()])]));
            }
        }
    }
    EXPECT_GT(masks, 500);
    EXPECT_GT(free_strings, 50);
    EXPECT_GT(bits, 10000);
}

// By brute force over all tokens: which of them begin as this one does and may stand in its place.
TEST(Vocabulary, knows_whether_a_longer_token_may_stand_there) {
    const std::vector<std::string> list = tokens();
    TestVocabulary v(list);
    Compiled c;
    TestMatcher m;
    std::mt19937 random(12);
    int yes = 0, no = 0;
    for (
        const char* schema :
        {R"({"type":"array","items":{"type":"string"}})", R"({"type":"array","items":{"type":"integer"}})",
         R"({"type":"object","properties":{"name":{"enum":["a","ab","null"]}},"required":["name"],"additionalProperties":false})"}) {
        const auto ok = c.schema(schema);
        ASSERT_TRUE(ok) << ok.error().what();
        for (int walk = 0; walk < 30; walk++) {
            m.open(c.grammar);
            for (int step = 0; step < 12; step++) {
                const std::string before(m.text());
                std::vector<std::int32_t> may;
                for (std::size_t t = 0; t < list.size(); t++)
                    if (!list[t].empty() && list[t].size() <= Vocabulary::max_piece && m.would_take(list[t]))
                        may.push_back(static_cast<std::int32_t>(t));
                if (may.empty()) break;
                const auto token = may[random() % may.size()];
                const std::string& piece = list[static_cast<std::size_t>(token)];
                const bool longer = std::any_of(may.begin(), may.end(), [&](std::int32_t other) {
                    const std::string& o = list[static_cast<std::size_t>(other)];
                    return o.size() > piece.size() && o.starts_with(piece);
                });
                ASSERT_TRUE(m.take(piece));
                EXPECT_EQ(v.may_be_longer(m, token), longer) << before << " and " << piece;
                (longer ? yes : no)++;
            }
        }
    }
    EXPECT_GT(yes, 50);
    EXPECT_GT(no, 50);
}

}  // namespace
}  // namespace slmd::grammar
