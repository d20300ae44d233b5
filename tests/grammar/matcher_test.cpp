// Following a text through a grammar, what must come next, and ending it.
#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <random>
#include <set>

#include "compiled.h"

namespace slmd::grammar {
namespace {

constexpr const char* person =
    R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150}},)"
    R"("required":["name","age"],"additionalProperties":false})";

std::string forced(Matcher& m) {
    char out[1024];
    return {out, m.forced(out)};
}

std::string closing(Matcher& m) {
    char out[4096];
    const std::size_t n = m.close(out);
    return n > sizeof out ? "(no way)" : std::string(out, n);
}

TEST(Matcher, takes_what_obeys_and_nothing_else) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(person, {.ordered = false}));
    for (const char* good : {R"({"name":"Ada","age":36})", R"({"age":36,"name":"Ada"})",
                             R"({"name":"\u0001\"","age":0})", R"({"name":"\u65e5","age":150})"})
        EXPECT_EQ(accepts(m, c.grammar, good), std::string_view(good).find("u65e5") == std::string_view::npos)
            << good;  // one form a character
    for (const char* bad : {R"({"name":"Ada","age":151})", R"({"name":"Ada"})", R"({"name":"Ada","name":"x","age":3})",
                            R"({"name":"Ada","age":3.0})", R"({"name":"Ada", "age":3})", R"({"name":"Ada","age":03})",
                            R"({"name":"Ada","age":3}})", R"({"nom":"Ada","age":3})", "[]", ""})
        EXPECT_FALSE(accepts(m, c.grammar, bad)) << bad;
}

TEST(Matcher, refuses_the_control_character_that_another_escape_begins_with) {
    Compiled c;
    TestMatcher m;
    const auto takes = [&](std::string_view text) {
        m.open(c.grammar);
        m.refuse_controls();
        return m.take(text) && m.accepting();
    };
    ASSERT_TRUE(
        c.schema(R"({"anyOf":[{"type":"object","additionalProperties":{"type":"string"}},{"const":"\u0001"}]})"));
    EXPECT_TRUE(accepts(m, c.grammar, R"({"a":"\u000b3"})"));
    EXPECT_FALSE(takes(R"({"a":"\u000b3"})"));
    EXPECT_TRUE(takes("{\"a\":\"m\u00b3 \\\\u000b \\n\"}"));
    EXPECT_TRUE(takes(R"("\u0001")"));  // where nothing else is right
}

TEST(Matcher, forces_what_can_only_come_next) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"object","properties":{"label":{"enum":["spam","spam, likely","ham"]}},"required":["label"],"additionalProperties":false})"));
    m.open(c.grammar);
    EXPECT_EQ(forced(m), R"({"label":")");
    EXPECT_EQ(m.text(), "");
    ASSERT_TRUE(m.take(R"({"label":"s)"));
    EXPECT_EQ(forced(m), "pam");
    ASSERT_TRUE(m.take("pam"));
    EXPECT_EQ(forced(m), "");
    ASSERT_TRUE(m.take(","));
    EXPECT_EQ(forced(m), R"( likely"})");
    ASSERT_TRUE(m.take(" likely\"}"));
    EXPECT_TRUE(m.finished());
    EXPECT_EQ(forced(m), "");
}

// In order, the keys of what must be there are no choice.
TEST(Matcher, forces_required_properties_in_their_order) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"object","properties":{"b":{"type":"null"},"opt":{"type":"null"},"a":{"type":"null"},"z":{"type":"null"}},"required":["a","b"]})"));
    m.open(c.grammar);
    EXPECT_EQ(forced(m), R"({")");  // another one may come first
    for (const char* good :
         {R"({"b":null,"a":null})", R"({"b":null,"opt":null,"a":null,"z":null})", R"({"b":null,"x":1,"a":null})"})
        EXPECT_TRUE(accepts(m, c.grammar, good)) << good;
    for (const char* bad : {R"({"a":null,"b":null})", R"({"b":null,"z":null,"a":null})",
                            R"({"opt":null,"b":null,"a":null})", R"({"b":null})"})
        EXPECT_FALSE(accepts(m, c.grammar, bad)) << bad;
    ASSERT_TRUE(c.schema(
        R"({"type":"object","properties":{"b":{"type":"null"},"a":{"type":"null"}},"required":["a","b"],"additionalProperties":false})"));
    m.open(c.grammar);
    EXPECT_EQ(forced(m), R"({"b":null,"a":null})");
}

// Whatever is said stands in the source, byte for byte, and all that stands there can be said.
TEST(Matcher, says_again_what_stands_in_the_source) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"object","properties":{"who":{"type":"string","from":"source","minLength":1},"free":{"type":"string"}},"required":["who"],"additionalProperties":false})"));
    EXPECT_TRUE(c.grammar.from_source);
    const std::string text = "Ada \"Countess\" Lovelace,\n36, of \xC3\x89pernay \\ London. Ada wrote. \x01!";
    TestSource source;
    ASSERT_TRUE(source.open(text, {}, c.heap));
    const auto says = [&](std::string_view who) {
        m.open(c.grammar, &source);
        return m.take("{\"who\":\"") && m.take(who) && m.take("\"}") && m.accepting();
    };
    for (const char* good : {"Ada", "A", "Lovelace", R"(\"Countess\" L)", R"(,\n36)", "\xC3\x89pernay",
                             R"( \\ London. Ada wrote.)", "36", "."})
        EXPECT_TRUE(says(good)) << good;
    for (const char* bad : {"", "ada", "Ada L", "Ada Lovelace", "Eve", R"(\\\\)", R"(\t)", "\x89pernay", "\xC3",
                            R"(\u0001)", "36, of Paris"})
        EXPECT_FALSE(says(bad)) << bad;
    // At random: what next() offers can be said, stands in the text, and can be closed.
    std::mt19937 random(17);
    for (int i = 0; i < 300; i++) {
        m.open(c.grammar, &source);
        ASSERT_TRUE(m.take("{\"who\":\""));
        for (std::size_t n = random() % 30; n > 0; n--) {
            const Matcher::Bytes next = m.next();
            std::vector<char> choices;
            for (unsigned b = 0; b < 256; b++)
                if (next.has(static_cast<unsigned char>(b)) && b != '"') choices.push_back(static_cast<char>(b));
            if (choices.empty()) break;
            ASSERT_TRUE(m.push(choices[random() % choices.size()]));
        }
        const std::string all = std::string(m.text()) + closing(m);
        ASSERT_TRUE(accepts(m, c.grammar, all, &source)) << all;
        const std::string who = nlohmann::json::parse(all)["who"];
        EXPECT_NE(text.find(who), std::string::npos) << who;
        EXPECT_FALSE(who.empty());
    }
    EXPECT_FALSE(source.open(std::string(Source::max_bytes + 1, 'x'), {}, c.heap));
    for (const char* refused : {R"({"from":"source","enum":["a"]})", R"({"from":"prompt"})"})
        EXPECT_EQ(c.schema(refused).error().code, Code::not_supported) << refused;
}

// What is said stands in the source and obeys its pattern, and nothing is begun that cannot end so.
TEST(Matcher, searches_the_source) {
    Compiled c;
    TestMatcher m;
    TestSource source;
    ASSERT_TRUE(
        c.schema(R"({"type":"object","properties":{"date":{"type":["string","null"],"from":"source","format":"date"},)"
                 R"("sum":{"type":["string","null"],"from":"source","pattern":"^[0-9]+\\.[0-9]{2}$","maxLength":7},)"
                 R"("quoted":{"type":["string","null"],"from":"source","pattern":"^\"[^\" ]*\"$"},)"
                 R"("due":{"type":["string","null"],"from":"source","format":"date"}},)"
                 R"("required":["date","sum","quoted","due"],"additionalProperties":false})"));
    EXPECT_EQ(c.grammar.searches.size(), 3u);  // of equal ones one
    const std::string text =
        "No. 2024-0117, \"Caf\xC3\xA9\nNord\" of 2024-03-04: 25.00, 1234567.50 and 4.7; due 2024-03-18 \"";
    const std::size_t mark = c.heap.used();
    std::string kept;
    const auto open = [&](const std::string& of) {
        kept = of;
        c.heap.release(mark);
        ASSERT_TRUE(source.open(kept, c.grammar.searches, c.heap));
        m.open(c.grammar, &source);
    };
    open(text);
    EXPECT_EQ(forced(m), R"({"date":)");
    ASSERT_TRUE(m.take(R"({"date":")"));
    EXPECT_EQ(forced(m), "2024-03-");
    EXPECT_FALSE(m.would_take("2024-01"));  // stands there, and is no beginning of a date
    ASSERT_TRUE(m.take("2024-03-1"));
    EXPECT_EQ(forced(m), R"(8","sum":)");
    ASSERT_TRUE(m.take(R"(8","sum":")"));
    EXPECT_FALSE(m.would_take("4.7"));
    EXPECT_FALSE(m.would_take("1234567"));  // too long with what has to follow
    EXPECT_FALSE(m.would_take("2024"));
    EXPECT_FALSE(m.would_take("567.50"));  // within a number
    EXPECT_EQ(forced(m), R"(25.00","quoted":)");
    ASSERT_TRUE(m.take("25."));
    EXPECT_EQ(closing(m), R"(00","quoted":null,"due":null})");
    ASSERT_TRUE(m.take(R"(00","quoted":")"));
    EXPECT_EQ(forced(m), "\\\"Caf\xC3\xA9\\nNord\\\"\",\"due\":");
    ASSERT_TRUE(m.take("\\\"Caf\xC3\xA9\\n"));
    EXPECT_EQ(closing(m), R"(Nord\"","due":null})");
    ASSERT_TRUE(m.take(R"(Nord\)"));
    EXPECT_EQ(closing(m), R"("","due":null})");

    // At random: what next() offers can be said, and what is said is one of these.
    std::mt19937 random(18);
    const std::set<nlohmann::json> dates{nullptr, "2024-03-04", "2024-03-18"}, quoted{nullptr, "\"Caf\xC3\xA9\nNord\""},
        sums{nullptr, "25.00"};
    std::set<nlohmann::json> said;
    for (int i = 0; i < 300; i++) {
        open(text);
        for (std::size_t n = random() % 110; n > 0; n--) {
            const Matcher::Bytes next = m.next();
            std::vector<char> choices;
            for (unsigned b = 0; b < 256; b++)
                if (next.has(static_cast<unsigned char>(b))) choices.push_back(static_cast<char>(b));
            if (choices.empty()) break;
            const std::uint32_t before = m.close_bytes();
            ASSERT_TRUE(m.push(choices[random() % choices.size()]));
            ASSERT_LT(m.close_bytes(), before + 20) << m.text();
        }
        const std::uint32_t bound = m.close_bytes();
        const std::string end = closing(m);
        EXPECT_LE(end.size(), bound) << m.text();
        const auto value = nlohmann::json::parse(std::string(m.text()) + end);
        EXPECT_TRUE(dates.contains(value["date"]) && dates.contains(value["due"]) && sums.contains(value["sum"]) &&
                    quoted.contains(value["quoted"]))
            << value;
        for (const auto& v : value) said.insert(v);
    }
    EXPECT_EQ(said.size(), 1u + 2 + 1 + 1);

    open("nothing of the kind");
    EXPECT_EQ(forced(m), R"({"date":null,"sum":null,"quoted":null,"due":null})");
    open("");
    EXPECT_EQ(forced(m), R"({"date":null,"sum":null,"quoted":null,"due":null})");
    // Longer than what a search looks at.
    const std::string longest = std::string(Source::max_match - 2, 'a');
    for (const bool fits : {true, false}) {
        open("\"" + longest + (fits ? "" : "a") + "\"");
        ASSERT_TRUE(m.take(R"({"date":null,"sum":null,"quoted":)"));
        EXPECT_EQ(m.would_take("\"\\\"" + longest), fits);
    }

    Heap small(std::span(c.scratch_block.memory, 3 * text.size() - 1));
    EXPECT_EQ(source.open(text, c.grammar.searches, small).error().code, Code::memory_full);

    // A pattern that nothing obeys as well, and a length alone.
    ASSERT_TRUE(c.schema(R"({"type":"string","from":"source","pattern":"^[0-9]*$"})"));
    ASSERT_TRUE(source.open("a7 33 a5b 6", c.grammar.searches, c.heap));
    for (const char* good : {R"("")", R"("7")", R"("33")", R"("5")", R"("6")"})
        EXPECT_TRUE(accepts(m, c.grammar, good, &source)) << good;
    for (const char* bad : {R"("a7")", R"("3")"}) EXPECT_FALSE(accepts(m, c.grammar, bad, &source)) << bad;
    ASSERT_TRUE(c.schema(R"({"type":["string","null"],"from":"source","minLength":2})"));
    ASSERT_TRUE(source.open("d\xC3\xA9j\xC3\xA0 vu \xE6\x97\xA5\xE6\x9C\xAC\xE8\xAA\x9E", c.grammar.searches, c.heap));
    for (const char* good :
         {"vu", "d\xC3\xA9j\xC3\xA0 vu", " vu ", "\xE6\x97\xA5\xE6\x9C\xAC"})  // not all write spaces
        EXPECT_TRUE(accepts(m, c.grammar, "\"" + std::string(good) + "\"", &source)) << good;
    for (const char* bad : {"v", "d\xC3\xA9", "j\xC3\xA0", "\xC3\xA0 vu", "d\xC3\xA9j\xC3\xA0 v", ""})
        EXPECT_FALSE(accepts(m, c.grammar, "\"" + std::string(bad) + "\"", &source)) << bad;
    m.open(c.grammar, &source);
    EXPECT_FALSE(m.would_take("\"u"));

    const auto refused = c.schema(R"({"properties":{"a":{"type":"string","from":"source","pattern":"a"}}})");
    EXPECT_STREQ(
        refused.error().text,
        "schema, #/properties/a/from: a source may have nothing that fits the pattern: another type is needed, "
        "as in \"type\": [\"string\", \"null\"]");
    std::string many = R"({"properties":{)";
    for (std::size_t i = 0; i <= Grammar::max_searches; i++) {
        const std::string n = std::to_string(i + 2);
        many +=
            (i > 0 ? "," : "") + ("\"" + n) + R"(":{"type":["string","null"],"from":"source","minLength":)" + n + "}";
    }
    EXPECT_STREQ(c.schema(many + "}}").error().text, "schema: \"from\" is beside more than 8 different patterns");
}

// Items that must differ never lead where nothing else is left.
TEST(Matcher, strings_that_must_differ_and_are_short) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(R"({"type":"array","items":{"type":"string","maxLength":1},"uniqueItems":true})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take("[\"a\",\""));
    EXPECT_FALSE(m.would_take("a"));
    EXPECT_TRUE(m.would_take("b\""));
    EXPECT_TRUE(m.would_take("\"]"));
    ASSERT_TRUE(m.take("\",\""));
    EXPECT_FALSE(m.would_take("\""));
    ASSERT_TRUE(c.schema(R"({"type":"array","items":{"type":"string","maxLength":0},"uniqueItems":true})"));
    EXPECT_TRUE(accepts(m, c.grammar, R"([""])"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take(R"([""])"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take(R"(["")"));
    EXPECT_FALSE(m.would_take(","));
    EXPECT_FALSE(
        c.schema(R"({"type":"array","items":{"type":"string","maxLength":0},"uniqueItems":true,"minItems":2})"));
    EXPECT_FALSE(c.schema(R"({"type":"array","items":{"type":"string","from":"source"},"uniqueItems":true})"));
}

TEST(Matcher, numbers_that_must_differ_and_are_long) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(R"({"type":"array","uniqueItems":true,"minItems":10})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take("[0e261,"));
    EXPECT_TRUE(m.would_take("0.01,"));
    EXPECT_FALSE(m.would_take("0e"));  // an exponent makes no other number of it
    EXPECT_FALSE(m.would_take("0.000E"));
    ASSERT_TRUE(m.take("1e100,"));
    EXPECT_TRUE(m.would_take("1e10,"));
    EXPECT_FALSE(m.would_take("1e100"));
    EXPECT_FALSE(m.would_take("10e99,"));  // the same number
    ASSERT_TRUE(
        c.schema(R"({"type":"array","uniqueItems":true,"items":{"type":"integer","minimum":100,"maximum":999}})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take("[100,101,102,103,104,105,106,107,108,"));
    EXPECT_TRUE(m.would_take("109,"));
    ASSERT_TRUE(m.take("109,"));
    EXPECT_TRUE(m.would_take("1"));
    EXPECT_FALSE(m.would_take("10"));
}

TEST(Matcher, objects_and_arrays_that_must_differ) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"type":"object","properties":{"b":{"type":"string"},"a":{"type":"boolean"}},"required":["b","a"],"additionalProperties":false}})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take(R"([{"b":"x","a":true},{"b":"x","a":)"));
    EXPECT_FALSE(m.would_take("t"));
    ASSERT_TRUE(m.take(R"(false},{"b":"x)"));
    EXPECT_FALSE(m.would_take("\""));
    EXPECT_TRUE(m.would_take(R"(y","a":true}])"));
    char text[64];
    const std::size_t n = m.close(text);
    ASSERT_LE(n, sizeof text);
    EXPECT_TRUE(m.would_take({text, n}));

    ASSERT_TRUE(c.schema(
        R"({"type":"array","uniqueItems":true,"items":{"type":"array","items":{"type":"null"},"maxItems":1}})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take("[[null],["));
    EXPECT_FALSE(m.would_take("n"));
    ASSERT_TRUE(m.take("]"));
    EXPECT_FALSE(m.would_take(","));
    EXPECT_TRUE(m.would_take("]"));

    EXPECT_STREQ(
        c.schema(
             R"({"type":"array","uniqueItems":true,"minItems":3,"items":{"type":"object","properties":{"a":{"type":"boolean"}},"required":["a"],"additionalProperties":false}})")
            .error()
            .text,
        "schema: uniqueItems and minItems 3 where there may be too few different arrays or objects");
}

// Keys that can have no value are none of the few that are left.
TEST(Matcher, few_keys_beside_those_that_are_not_allowed) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"object","maxProperties":2,"patternProperties":{"^[ab]$":{"type":"boolean"}},"additionalProperties":false})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take(R"({"a":false,")"));
    EXPECT_FALSE(m.would_take("a"));
    EXPECT_TRUE(m.would_take(R"(b":true})"));
}

TEST(Matcher, closes_as_shortly_as_can_be) {
    Compiled c;
    TestMatcher m;
    const struct {
        const char *schema, *begin, *end;
    } cases[] = {{person, "", R"({"name":"","age":0})"},
                 {person, R"({"name":"Ad)", R"(","age":0})"},
                 {person, R"({"na)", R"(me":"","age":0})"},
                 {R"({"type":"array","minItems":3,"items":{"type":"boolean"}})", "[true,f", "alse,true]"},
                 {R"({"type":"string","minLength":4})", "\"a", nullptr},
                 {R"({"type":"integer","minimum":100,"multipleOf":7})", "1", "05"},
                 {R"({"type":"string"})", "\"\xE6\x97", nullptr},
                 {R"({"const":[1,{"a":null}]})", "[1", R"(,{"a":null}])"}};
    for (const auto& k : cases) {
        ASSERT_TRUE(c.schema(k.schema));
        m.open(c.grammar);
        ASSERT_TRUE(m.take(k.begin)) << k.begin;
        const std::string end = closing(m);
        if (k.end != nullptr) {
            EXPECT_EQ(end, k.end) << k.schema;
        }
        EXPECT_TRUE(accepts(m, c.grammar, k.begin + end)) << k.begin << end;
        EXPECT_LE(end.size(), 6u + (k.end == nullptr ? 0 : std::strlen(k.end)));
    }
}

TEST(Matcher, gives_back_what_was_not_kept) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(person));
    m.open(c.grammar);
    const std::string text = R"({"name":"Ada Lovelace","age":36})";
    std::mt19937 random(5);
    std::size_t at = 0, kept = 0;
    for (int i = 0; i < 20000; i++) {
        if (random() % 5 < 3 && at < text.size()) {
            ASSERT_FALSE(m.push('\x01'));  // refused anywhere, and leaves nothing behind
            ASSERT_TRUE(m.push(text[at++]));
        } else if (at > kept) {
            m.pop(), at--;
        } else if (at == text.size()) {
            m.open(c.grammar), at = kept = 0;
        }
        if (random() % 50 == 0) m.keep(), kept = at;
        ASSERT_EQ(m.text(), text.substr(0, at));
        ASSERT_EQ(m.accepting(), at == text.size());
    }
}

// Memory is given back while a long text is written.
TEST(Matcher, follows_texts_as_long_as_its_memory) {
    Compiled c;
    TestMatcher m;
    ASSERT_TRUE(c.schema(
        R"({"type":"array","items":{"anyOf":[{"type":"object","properties":{"a":{"type":"string"}},"required":["a"]},{"type":"object"}]}})"));
    m.open(c.grammar);
    ASSERT_TRUE(m.take("["));
    std::size_t taken = 1;
    while (taken + 64 < Matcher::max_text) {
        const std::string item = R"({"a":"0123456789","b":[{},{"c":null}]})";
        ASSERT_TRUE(m.take(taken > 1 ? "," + item : item)) << taken;
        taken = m.text().size();
    }
    ASSERT_TRUE(m.take("]"));
    EXPECT_TRUE(m.accepting());
    std::size_t more = 0;
    m.open(c.grammar);
    ASSERT_TRUE(m.take("[{\"a\":\""));
    while (m.take("x")) more++;
    EXPECT_EQ(m.text().size(), Matcher::max_text);
}

TEST(Matcher, follows_regular_expressions) {
    Compiled c;
    TestMatcher m;
    auto words = compile_regex("yes|no|not sure", c.heap);
    ASSERT_TRUE(words);
    EXPECT_TRUE(accepts(m, *words, "not sure"));
    EXPECT_TRUE(accepts(m, *words, "no"));
    EXPECT_FALSE(m.finished());
    EXPECT_FALSE(accepts(m, *words, "maybe"));
    auto date = compile_regex("[0-9]{4}-(0[1-9]|1[0-2])", c.heap);
    ASSERT_TRUE(date);
    EXPECT_TRUE(accepts(m, *date, "2026-11"));
    EXPECT_FALSE(accepts(m, *date, "2026-13"));
    EXPECT_FALSE(compile_regex("[]", c.heap));
}

// Whatever memory there is: a grammar, or the error that says so, and nothing written beside it.
TEST(Matcher, compiles_in_the_memory_that_it_is_given) {
    Block block(1u << 16), scratch(1u << 18);
    const std::string schema =
        R"({"type":"object","properties":{"when":{"type":"string","pattern":"^[0-9]{4}-[0-9]{2}$"},"n":{"type":"integer","maximum":7}},"required":["n"]})";
    int good = 0, refused = 0;
    for (std::size_t size = 64; size < block.size; size += 509)
        for (const bool small_scratch : {false, true}) {
            std::memset(block.memory, 0xAB, block.size);
            std::memset(scratch.memory, 0xAB, scratch.size);
            const std::size_t scratch_size = small_scratch ? size : scratch.size / 2;
            Heap heap(block.view().first(size)), temporary(scratch.view().first(scratch_size));
            std::string text = schema;
            const auto g = compile_schema(text, {}, heap, temporary);
            good += bool(g), refused += !g;
            if (!g) {
                EXPECT_EQ(g.error().code, Code::memory_full) << g.error().what();
            }
            for (std::size_t i = size; i < block.size; i++) ASSERT_EQ(block.memory[i], std::byte{0xAB});
            for (std::size_t i = scratch_size; i < scratch.size; i++) ASSERT_EQ(scratch.memory[i], std::byte{0xAB});
        }
    EXPECT_GT(good, 10);
    EXPECT_GT(refused, 10);
}

TEST(Matcher, says_what_a_schema_has_that_it_cannot) {
    Compiled c;
    const struct {
        const char *schema, *error;
    } cases[] = {
        {R"({"properties":{"a":{"typ":"string"}}})", "schema, #/properties/a/typ: this keyword is not supported"},
        {R"({"$dynamicRef":"#x"})", "schema, #/$dynamicRef: this keyword is not supported"},
        {R"({"type":"strnig"})", "schema, #/type: is no type of JSON Schema"},
        {R"({"minLength":-1})", "schema, #/minLength: must be a whole number from 0 to 1000000000"},
        {R"({"type":"string","type":"null"})", "schema, #/type: is there twice"},
        {R"({"$ref":"#/$defs/x"})", "schema, #/$ref: refers to no schema of this document"},
        {R"({"$ref":"https://example.com/x"})", "schema, #/$ref: refers to a document that is not in this one"},
        {R"({"$ref":"#"})", "schema, #: refers to itself without an object or array between"},
        {R"({"pattern":"(a"})", "schema, #/pattern: "},
        {R"({"format":"color"})", "schema, #/format: is none of the formats"},
        {R"({"type":"object","properties":{"a":{"$ref":"#"}},"required":["a"]})", "schema, #: no value obeys it"},
        {R"({"type":"integer","minimum":5,"maximum":4})", "schema, #: no value obeys it"},
        {R"({"multipleOf":1e-20})", "schema, #/multipleOf: 1e-20 has more than 18 digits behind the point"},
        {R"({"type":)", "JSON, column 9: a value is missing"},
        {"{\n\"type\": x}", "JSON, line 2, column 9: not a JSON value"},
        {"3", "schema, #: a schema is an object or a boolean"},
        {R"({"$schema":"http://json-schema.org/draft-04/schema#"})",
         "schema, #/$schema: is not https://json-schema.org/draft/2020-12/schema, the only one"},
    };
    for (const auto& k : cases) {
        const auto r = c.schema(k.schema);
        ASSERT_FALSE(r) << k.schema;
        EXPECT_EQ(std::string(r.error().what()).substr(0, std::strlen(k.error)), k.error) << k.schema;
    }
}

}  // namespace
}  // namespace slmd::grammar
