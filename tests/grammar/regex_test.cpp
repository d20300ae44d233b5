// Regular expressions, words and what is made of two automata: against std::regex and by hand.
#include "grammar/regex.h"

#include <gtest/gtest.h>

#include <map>
#include <memory>
#include <random>
#include <regex>
#include <set>
#include <string>
#include <vector>

#include "grammar/automaton.h"

using namespace slmd;
using namespace slmd::grammar;

namespace {

constexpr std::uint16_t dead = Automaton::dead;

struct Room {
    explicit Room(std::size_t size = 4u << 20) : block(new std::byte[size]), heap({block.get(), size}) {}
    std::unique_ptr<std::byte[]> block;
    Heap heap;
};

// Everything that automaton.h promises of every automaton.
void check(const Automaton& a) {
    ASSERT_GE(a.states, 0);
    ASSERT_LE(a.states, Automaton::max_states);
    if (a.states == 0) return;
    const auto n = static_cast<std::size_t>(a.states), k = static_cast<std::size_t>(a.classes);
    std::set<int> classes;
    for (int b = 0; b < 256; b++) classes.insert(a.byte_class[b]);
    ASSERT_EQ(classes.size(), k);
    ASSERT_EQ(*classes.rbegin(), a.classes - 1);
    for (std::size_t i = 0; i < n * k; i++) ASSERT_TRUE(a.next[i] == dead || a.next[i] < n);

    // Reached from the start.
    std::vector<std::size_t> reached{0};
    std::vector<bool> seen(n);
    seen[0] = true;
    for (std::size_t i = 0; i < reached.size(); i++)
        for (std::size_t c = 0; c < k; c++)
            if (const auto to = a.next[reached[i] * k + c]; to != dead && !seen[to])
                seen[to] = true, reached.push_back(to);
    ASSERT_EQ(reached.size(), n);

    // to_end, by rounds until nothing changes.
    std::vector<int> far(n, 1 << 20);
    for (bool changed = true; changed;) {
        changed = false;
        for (std::size_t s = n; s-- > 0;) {
            int best = a.label[s] != 0 ? 0 : far[s];
            for (std::size_t c = 0; c < k; c++)
                if (const auto to = a.next[s * k + c]; to != dead) best = std::min(best, far[to] + 1);
            if (best < far[s]) far[s] = best, changed = true;
        }
    }
    for (std::size_t s = 0; s < n; s++) ASSERT_EQ(a.to_end[s], far[s]) << s;

    // No two states are equal: Moore's rounds end with as many blocks as states. They are as many as it has states, and
    // each looks at all of them.
    if (n > 500) return;
    std::vector<int> block(n);
    for (std::size_t s = 0; s < n; s++) block[s] = a.label[s];
    for (std::size_t before = 0;;) {
        std::map<std::vector<int>, int> names;
        std::vector<int> after(n);
        for (std::size_t s = 0; s < n; s++) {
            std::vector<int> row{block[s]};
            for (std::size_t c = 0; c < k; c++)
                row.push_back(a.next[s * k + c] == dead ? -1 : block[a.next[s * k + c]]);
            after[s] = names.try_emplace(std::move(row), static_cast<int>(names.size())).first->second;
        }
        block = after;
        if (names.size() == n) break;
        ASSERT_NE(names.size(), before) << "of " << n << " states";
        before = names.size();
    }
}

void same(const Automaton& a, const Automaton& b) {
    ASSERT_EQ(a.states, b.states);
    ASSERT_EQ(a.classes, b.classes);
    if (a.states == 0) return;
    const auto n = static_cast<std::size_t>(a.states), k = static_cast<std::size_t>(a.classes);
    EXPECT_EQ(std::vector(a.byte_class, a.byte_class + 256), std::vector(b.byte_class, b.byte_class + 256));
    EXPECT_EQ(std::vector(a.next, a.next + n * k), std::vector(b.next, b.next + n * k));
    EXPECT_EQ(std::vector(a.label, a.label + n), std::vector(b.label, b.label + n));
}

std::string json(std::string_view text) {
    std::string out;
    for (const char c : text) {
        switch (c) {
            case '"': out += "\\\""; break;
            case '\\': out += "\\\\"; break;
            case '\b': out += "\\b"; break;
            case '\f': out += "\\f"; break;
            case '\n': out += "\\n"; break;
            case '\r': out += "\\r"; break;
            case '\t': out += "\\t"; break;
            default:
                if (static_cast<unsigned char>(c) < 0x20) {
                    char form[8];
                    std::snprintf(form, sizeof form, "\\u%04x", static_cast<unsigned>(c));
                    out += form;
                } else {
                    out += c;
                }
        }
    }
    return out;
}

std::string utf8(char32_t c) {
    const auto byte = [](char32_t b) { return static_cast<char>(static_cast<unsigned char>(b)); };
    if (c < 0x80) return {byte(c)};
    if (c < 0x800) return {byte(0xC0 | c >> 6), byte(0x80 | (c & 63))};
    if (c < 0x10000) return {byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
    return {byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63))};
}

// The automaton of a pattern, which must be right in itself.
struct Pattern : Room {
    explicit Pattern(std::string_view pattern, bool whole = true, Encoding encoding = Encoding::utf8) {
        auto made = regex(pattern, whole, encoding, heap);
        if (!made) {
            ADD_FAILURE() << pattern << ": " << made.error().what();
            return;
        }
        automaton = made.value();
        check(automaton);
        EXPECT_LE(heap.used(), 2u * static_cast<unsigned>(automaton.states * (automaton.classes + 2)) + 256) << pattern;
    }
    bool takes(std::string_view text) const { return accepts(automaton, text); }
    Automaton automaton;
};

Error error_of(std::string_view pattern, std::size_t size = 4u << 20) {
    Room room(size);
    (void)room.heap.take<char>(3);
    auto made = regex(pattern, true, Encoding::utf8, room.heap);
    EXPECT_FALSE(made) << pattern;
    EXPECT_EQ(room.heap.used(), 3u);
    return made ? Error::make(Code::unknown, "none") : made.error();
}

bool found(const std::string& pattern, const std::string& text, bool whole) {
    const std::regex r(pattern, std::regex_constants::ECMAScript | std::regex_constants::__polynomial);
    return whole ? std::regex_match(text, r) : std::regex_search(text, r);
}

class Random {
  public:
    explicit Random(unsigned seed) : engine_(seed) {}
    unsigned below(unsigned n) { return static_cast<unsigned>(engine_() % n); }
    std::string text(unsigned most, std::string_view alphabet) {
        std::string s(below(most + 1), ' ');
        for (char& c : s) c = alphabet[below(static_cast<unsigned>(alphabet.size()))];
        return s;
    }
    std::string pattern(int depth) {
        std::string s = branch(depth);
        while (below(4) == 0) s += "|" + branch(depth);
        return s;
    }

  private:
    std::string branch(int depth) {
        std::string s;
        for (unsigned n = below(4); n > 0; n--) {
            switch (below(14)) {
                case 0: s += "^"; continue;
                case 1: s += "$"; continue;
                case 2: s += "\\b"; continue;
                case 3: s += "\\B"; continue;
                default: break;
            }
            static constexpr const char* atoms[] = {"a",      "b",      ".",       "\\d",    "\\w", "\\W",    "\\s",
                                                    "\\S",    "[ab]",   "[^a]",    "[a-c1]", "\\D", "\\n",    "ab",
                                                    "[\\d ]", "[^\\w]", "[^\\s1]", "\\x61",  " ",   "\\u0062"};
            if (depth > 0 && below(3) == 0)
                s += (below(2) == 0 ? "(" : "(?:") + pattern(depth - 1) + ")";
            else
                s += atoms[below(std::size(atoms))];
            static constexpr const char* repeats[] = {"*", "+", "?", "{2}", "{1,}", "{0,2}", "{1,3}", "*?", "+?", "??"};
            if (below(3) == 0) s += repeats[below(std::size(repeats))];
        }
        return s;
    }
    std::mt19937 engine_;
};

}  // namespace

TEST(Regex, FindsWhatStdRegexFinds) {
    Random random(7);
    int matches = 0, misses = 0;
    for (int i = 0; i < 400; i++) {
        const std::string pattern = random.pattern(2);
        SCOPED_TRACE(pattern);
        const std::regex r(pattern, std::regex_constants::ECMAScript | std::regex_constants::__polynomial);
        const Pattern found_in(pattern, false), whole(pattern, true);
        const Pattern found_json(pattern, false, Encoding::json), whole_json(pattern, true, Encoding::json);
        if (HasFatalFailure()) return;
        for (int t = 0; t < 40; t++) {
            const std::string text = random.text(7, "aab1 \n_c");
            const bool in = std::regex_search(text, r), all = std::regex_match(text, r);
            ASSERT_EQ(found_in.takes(text), in) << testing::PrintToString(text);
            ASSERT_EQ(whole.takes(text), all) << testing::PrintToString(text);
            ASSERT_EQ(found_json.takes(json(text)), in) << testing::PrintToString(text);
            ASSERT_EQ(whole_json.takes(json(text)), all) << testing::PrintToString(text);
            (in ? matches : misses)++;
        }
    }
    EXPECT_GT(matches, 1000);
    EXPECT_GT(misses, 1000);
}

TEST(Regex, FindsWhatStdRegexFindsInPatternsOfUse) {
    const struct {
        const char* pattern;
        const char* alphabet;
        std::vector<std::string> texts;
    } all[] = {
        {"^[0-9]{4}-[0-9]{2}-[0-9]{2}$", "0123456789-", {"2024-01-31", "2024-1-31", "x2024-01-31", "2024-01-31\n"}},
        {"^(GET|PUT|POST) /[a-z/]*( HTTP/1\\.[01])?$",
         "GETPUOS /a1.",
         {"GET /a/b", "PUT / HTTP/1.1", "PUT / HTTP/1.2"}},
        {"^[A-Z][a-z]+( [A-Z][a-z]+)*$", "Aab ", {"Anna Bell", "Anna  Bell", "anna", "A"}},
        {"^#?([a-f0-9]{6}|[a-f0-9]{3})$", "#abf019", {"#aabb00", "abc", "abcd", "#abcdefa"}},
        {"^\\+?\\d{1,3}[- ]?\\d{3,}$", "+- 0123", {"+49 1234567", "49-123", "1-12", "++1 123"}},
        {"colou?r", "colur", {"a colour", "color", "colouur"}},
        {"^(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)(?:\\.(?:25[0-5]|2[0-4]\\d|1?\\d?\\d)){3}$",
         "0125.",
         {"10.0.255.1", "256.1.1.1", "1.2.3"}},
        {"^\\w+([.-]\\w+)*@\\w+([.-]\\w+)+$", "ab.@-", {"a.b@c.de", "a@b", "a..b@c.d"}},
        {"\\bfoo\\b", "fo -_", {"a foo b", "foo", "food", "-foo-", "_foo"}},
        {"^(a|ab)(c|bcd)(d*)$", "abcd", {"abcd", "abcdd", "acd", "abbcd"}},
        {"(^a|b$|^$)", "abc", {"", "a", "ca", "cb", "bc"}},
        {"^-?(0|[1-9]\\d*)(\\.\\d+)?([eE][+-]?\\d+)?$", "-01.eE+", {"0", "-1.5e10", "01", "1.", "1e", "-0.0E-0"}},
    };
    Random random(11);
    for (const auto& c : all) {
        SCOPED_TRACE(c.pattern);
        std::vector<std::string> texts = c.texts;
        for (int i = 0; i < 100; i++) texts.push_back(random.text(12, c.alphabet));
        for (const bool whole : {false, true}) {
            const Pattern p(c.pattern, whole), j(c.pattern, whole, Encoding::json);
            for (const std::string& text : texts) {
                const bool expected = found(c.pattern, text, whole);
                EXPECT_EQ(p.takes(text), expected) << text;
                EXPECT_EQ(j.takes(json(text)), expected) << text;
            }
        }
    }
}

TEST(Regex, Unicode) {
    const Pattern dot("."), umlauts("[\u00e4\u00f6\u00fc\u00df]+"), not_a("[^a]"), any("[^]"), nothing("[]"),
        greek("[\u03b1-\u03c9]");
    const Pattern face("\\u{1F600}"), pair("\\uD83D\\uDE00"), pair_in_set("[\\uD83D\\uDE00-\\uD83D\\uDE05]");
    EXPECT_TRUE(umlauts.takes("\u00e4\u00df\u00fc"));
    EXPECT_FALSE(umlauts.takes("\u00c3"));
    EXPECT_TRUE(greek.takes("\u03b1") && greek.takes("\u03c0") && greek.takes("\u03c9"));
    EXPECT_FALSE(greek.takes("\u03b0") || greek.takes("\u03ca"));
    EXPECT_TRUE(face.takes("\U0001F600"));
    same(face.automaton, pair.automaton);
    EXPECT_TRUE(pair_in_set.takes("\U0001F605"));
    EXPECT_FALSE(pair_in_set.takes("\U0001F606"));
    EXPECT_EQ(nothing.automaton.states, 0);
    EXPECT_EQ(Pattern("\\uD800").automaton.states, 0);  // half a pair is in no text
    EXPECT_EQ(Pattern("[\\uD800-\\uDFFF]").automaton.states, 0);
    same(Pattern("[^\\uD900]").automaton, any.automaton);
    same(Pattern("[\\uD83D\\u{1F600}\\uDE00]").automaton, face.automaton);
    same(Pattern("[\\u0000-\\u{10FFFF}]").automaton, any.automaton);
    same(Pattern("[\\s\\S]").automaton, any.automaton);
    same(Pattern("[^\\d\\D]").automaton, nothing.automaton);

    // Every code point and what is none, in sets with all kinds of edges.
    const Pattern odd(
        "[\\u007F-\\u0080\\u07FF-\\u0800\\u0FFF-\\u1000\\uD7FF\\uE000\\uFFFF-\\u{10000}\\u{3FFFF}\\u{40000}-\\u{80001}"
        "\\u{10FFFF}]");
    const Pattern spaces("\\s"), no_spaces("\\S"), line_ends("[^.\\n]|.");
    for (char32_t c = 0; c <= 0x10FFFF; c += c > 0x3100 && (c & 0xFFF) > 2 && (c & 0xFFF) < 0xFFC ? 7 : 1) {
        const bool half = c >= 0xD800 && c < 0xE000;
        const std::string text = utf8(c);
        const bool in = c == 0x7F || c == 0x80 || c == 0x7FF || c == 0x800 || c == 0xFFF || c == 0x1000 ||
                        c == 0xD7FF || c == 0xE000 || c == 0xFFFF || c == 0x10000 || c == 0x3FFFF ||
                        (c >= 0x40000 && c <= 0x80001) || c == 0x10FFFF;
        const bool space = (c >= 9 && c <= 13) || c == ' ' || c == 0xA0 || c == 0x1680 ||
                           (c >= 0x2000 && c <= 0x200A) || c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F ||
                           c == 0x3000 || c == 0xFEFF;
        const bool line_end = c == '\n' || c == '\r' || c == 0x2028 || c == 0x2029;
        ASSERT_EQ(odd.takes(text), in) << static_cast<unsigned>(c);
        ASSERT_EQ(spaces.takes(text), space) << static_cast<unsigned>(c);
        ASSERT_EQ(no_spaces.takes(text), !space && !half) << static_cast<unsigned>(c);
        ASSERT_EQ(dot.takes(text), !line_end && !half) << static_cast<unsigned>(c);
        ASSERT_EQ(any.takes(text), !half) << static_cast<unsigned>(c);
        ASSERT_EQ(not_a.takes(text), c != 'a' && !half) << static_cast<unsigned>(c);
    }
    for (const char* wrong :
         {"\x80", "\xC0\x80", "\xC1\xBF", "\xE0\x80\x80", "\xE0\x9F\xBF", "\xED\xA0\x80", "\xF0\x8F\xBF\xBF",
          "\xF4\x90\x80\x80", "\xF5\x80\x80\x80", "\xFF", "\xC3", "\xE2\x82", "\xF0\x9F\x98", "ab", ""})
        EXPECT_FALSE(any.takes(wrong)) << testing::PrintToString(wrong);
}

TEST(Regex, Escapes) {
    const struct {
        const char* pattern;
        std::string_view text;
    } all[] = {
        {"\\t\\n\\v\\f\\r", "\t\n\v\f\r"},
        {"\\0", {"\0", 1}},
        {"\\cA\\cz", "\x01\x1A"},
        {"\\x41\\u0042\\u{43}\\u{000044}", "ABCD"},
        {"\\^\\$\\\\\\.\\*\\+\\?\\(\\)\\[\\]\\{\\}\\|\\/\\-", "^$\\.*+?()[]{}|/-"},
        {"\\!\\#\\%\\&\\,\\:\\;\\<\\=\\>\\@\\_\\`\\~\\'\\\"", "!#%&,:;<=>@_`~'\""},
        {"[\\b][\\-][\\]][\\^][a\\-z]", "\b-]^-"},
        {"[-a][a-][^-][+--]", "-ab,"},
        {"(?<year>a)(?<_x1>b)", "ab"},
        {"[.*+?(){}|$^/[]{12}", ".*+?(){}|$^["},
        {"a{0}b{1}c{2}", "bcc"},
        {"\u00e4{2}", "\u00e4\u00e4"},
    };
    for (const auto& c : all) {
        EXPECT_TRUE(Pattern(c.pattern).takes(c.text)) << c.pattern;
        EXPECT_TRUE(Pattern(c.pattern, true, Encoding::json).takes(json(c.text))) << c.pattern;
        EXPECT_FALSE(Pattern(c.pattern).takes(std::string(c.text) + "x")) << c.pattern;
    }
}

TEST(Regex, Anchors) {
    const struct {
        const char* pattern;
        const char* same_as;  // from end to end
    } all[] = {
        {"", "[^]*"},
        {"a", "[^]*a[^]*"},
        {"^a", "a[^]*"},
        {"a$", "[^]*a"},
        {"^a$", "a"},
        {"^$", ""},
        {"$^", ""},
        {"^^$$^", ""},
        {"a^", "[]"},
        {"$a", "[]"},
        {"a*^b", "b[^]*"},
        {"a$b*", "[^]*a"},
        {"(^|x)a", "a[^]*|[^]*xa[^]*"},
        {"a($|x)", "[^]*a|[^]*ax[^]*"},
        {"^a|b$", "a[^]*|[^]*b"},
        {"(?:^a$|^b$)", "[ab]"},
        {"(^a)*$", "[^]*"},
        {"^(^a)*$", "a?"},
        {"^(a$)*$", "a?"},
        {"^(?:a|$b)*$", "a*"},
        {"^[^]{0,3}$", "[^]{0,3}"},
        {"\\b", "[^]*\\w[^]*"},
        {"^\\B$", ""},
        {"\\Ba", "[^]*\\wa[^]*"},
    };
    for (const auto& c : all) {
        SCOPED_TRACE(c.pattern);
        same(Pattern(c.pattern, false).automaton, Pattern(c.same_as).automaton);
        same(Pattern(c.pattern, false, Encoding::json).automaton, Pattern(c.same_as, true, Encoding::json).automaton);
    }
    same(Pattern("a\\b.").automaton, Pattern("a[^\\w\\n\\r\\u2028\\u2029]").automaton);
    // The last byte of an escape belongs to no word, whatever letter it is.
    same(Pattern("\\n\\b.", true, Encoding::json).automaton, Pattern("\\n\\w", true, Encoding::json).automaton);
    same(Pattern("a\\b\\n", true, Encoding::json).automaton, Pattern("a\\n", true, Encoding::json).automaton);
    same(Pattern("\\x01\\B[^]", true, Encoding::json).automaton, Pattern("\\x01\\W", true, Encoding::json).automaton);
}

TEST(Regex, JsonStringsInTheirOneForm) {
    const Pattern any("[^]", true, Encoding::json);
    std::set<std::string> forms;
    for (int c = 0; c < 0x80; c++) {
        const std::string text(1, static_cast<char>(c));
        EXPECT_TRUE(any.takes(json(text))) << c;
        EXPECT_EQ(any.takes(text), c >= 0x20 && c != '"' && c != '\\') << c;
        forms.insert(json(text));
    }
    // Two bytes behind a backslash, or four hexadecimal digits: nothing else passes.
    for (int c = 0; c < 256; c++) {
        const std::string form = std::string("\\") + static_cast<char>(c);
        EXPECT_EQ(any.takes(form), forms.count(form) == 1) << c;
    }
    for (unsigned c = 0; c < 0x10000; c++) {
        for (const char* format : {"\\u%04x", "\\u%04X"}) {
            char form[8];
            std::snprintf(form, sizeof form, format, c);
            ASSERT_EQ(any.takes(form), forms.count(form) == 1) << form;
        }
    }
    EXPECT_TRUE(any.takes("\u00e4") && any.takes("\U0001F600") && any.takes("\x7F") && any.takes("/"));
    const Pattern quote("\"[\\x00-\\x1F]", true, Encoding::json), backslash("\\\\n", true, Encoding::json);
    EXPECT_TRUE(quote.takes("\\\"\\u001f") && quote.takes("\\\"\\n"));
    EXPECT_FALSE(quote.takes("\"\\n") || quote.takes("\\\"\\u000a") || quote.takes("\\\"\\u001F"));
    EXPECT_TRUE(backslash.takes("\\\\n"));
    EXPECT_FALSE(backslash.takes("\\n"));
}

TEST(Regex, EqualLanguagesGiveEqualAutomata) {
    const std::pair<const char*, const char*> all[] = {
        {"a|b|c", "[a-c]"},
        {"(a*)*", "a*"},
        {"(a|b)*", "(a*b*)*"},
        {"a+", "aa*"},
        {"a{2,4}", "aa(a(a)?)?"},
        {"(ab|ac)d", "a[bc]d"},
        {"a??b", "ab|b"},
        {"x(yz)*?", "x|xyz(yz)*"},
        {"[^\\n]", "[\\0-\\t\\v-\\u{10FFFF}]"},
        {"(a|ab)(c|bc)", "ac|abc|abbc"},
        {"(?:a|b)*abb", "[ab]*abb"},
        {"[]", "[]a|b[]"},
        {"(a{0,2}){0}", ""},
        {"(){100000000}", ""},
        {"(){0,100000000}", ""},
        {"(()*){3,}", ""},
        {"([]){100000000}", "[]"},
        {"(a?){3}", "a{0,3}"},
        {"[a-z]", "[a-mn-z]"},
    };
    for (const auto& [a, b] : all) {
        SCOPED_TRACE(a);
        for (const Encoding e : {Encoding::utf8, Encoding::json})
            for (const bool whole : {false, true}) same(Pattern(a, whole, e).automaton, Pattern(b, whole, e).automaton);
    }
    EXPECT_EQ(Pattern("[]").automaton.states, 0);
    EXPECT_EQ(Pattern("").automaton.states, 1);
    EXPECT_EQ(Pattern("abc").automaton.states, 4);
    EXPECT_EQ(Pattern("(a|b)*abb").automaton.states, 4);
    EXPECT_EQ(Pattern("", false).automaton.states, 8);  // what UTF-8 itself takes
}

TEST(Regex, Refuses) {
    const struct {
        const char* pattern;
        Code code;
        const char* text;
    } all[] = {
        {"ab(?=c)", Code::not_supported, "pattern: a lookahead at byte 2 is not supported"},
        {"(?!c)", Code::not_supported, "pattern: a lookahead at byte 0 is not supported"},
        {"a(?<=c)", Code::not_supported, "pattern: a lookbehind at byte 1 is not supported"},
        {"a(?<!c)", Code::not_supported, "pattern: a lookbehind at byte 1 is not supported"},
        {"(?i:a)", Code::not_supported, "pattern: a modifier at byte 0 is not supported"},
        {"(?-s:a)", Code::not_supported, "pattern: a modifier at byte 0 is not supported"},
        {"(a)\\1", Code::not_supported, "pattern: a backreference at byte 3 is not supported"},
        {"(?<n>a)\\k<n>", Code::not_supported, "pattern: a backreference at byte 7 is not supported"},
        {"\u00e4\\p{L}", Code::not_supported, "pattern: a Unicode property (\\p) at byte 2 is not supported"},
        {"[\\P{Nd}]", Code::not_supported, "pattern: a Unicode property (\\p) at byte 1 is not supported"},
        {"a(b", Code::incorrect_parameters, "pattern: unmatched ( at byte 1"},
        {"((a)", Code::incorrect_parameters, "pattern: unmatched ( at byte 0"},
        {"a)b", Code::incorrect_parameters, "pattern: unmatched ) at byte 1"},
        {"ab[c", Code::incorrect_parameters, "pattern: unmatched [ at byte 2"},
        {"[a-", Code::incorrect_parameters, "pattern: unmatched [ at byte 0"},
        {"a]", Code::incorrect_parameters, "pattern: unmatched ] (the character is written \\]) at byte 1"},
        {"a}", Code::incorrect_parameters, "pattern: unmatched } (the character is written \\}) at byte 1"},
        {"{1}", Code::incorrect_parameters,
         "pattern: { without anything to repeat (the character is written \\{) at byte 0"},
        {"*a", Code::incorrect_parameters, "pattern: nothing to repeat at byte 0"},
        {"a|?", Code::incorrect_parameters, "pattern: nothing to repeat at byte 2"},
        {"^*", Code::incorrect_parameters, "pattern: nothing to repeat at byte 1"},
        {"\\b+", Code::incorrect_parameters, "pattern: nothing to repeat at byte 2"},
        {"a**", Code::incorrect_parameters, "pattern: a repetition of a repetition at byte 2"},
        {"a*+", Code::incorrect_parameters, "pattern: a repetition of a repetition at byte 2"},
        {"a{1}{2}", Code::incorrect_parameters, "pattern: a repetition of a repetition at byte 4"},
        {"a{,2}", Code::incorrect_parameters, "pattern: { that is not {n}, {n,} or {n,m} at byte 1"},
        {"a{x", Code::incorrect_parameters, "pattern: { that is not {n}, {n,} or {n,m} at byte 1"},
        {"a{1", Code::incorrect_parameters, "pattern: { that is not {n}, {n,} or {n,m} at byte 1"},
        {"a{3,2}", Code::incorrect_parameters, "pattern: numbers in the wrong order in {n,m} at byte 1"},
        {"[b-a]", Code::incorrect_parameters, "pattern: a range in the wrong order at byte 1"},
        {"[\\d-z]", Code::incorrect_parameters, "pattern: a range that begins or ends with a class at byte 1"},
        {"[a-\\s]", Code::incorrect_parameters, "pattern: a range that begins or ends with a class at byte 1"},
        {"a\\", Code::incorrect_parameters, "pattern: \\ without a character at byte 1"},
        {"[a\\", Code::incorrect_parameters, "pattern: \\ without a character at byte 2"},
        {"\\q", Code::incorrect_parameters, "pattern: unknown escape at byte 0"},
        {"\\ ", Code::incorrect_parameters, "pattern: unknown escape at byte 0"},
        {"\\\u00e4", Code::incorrect_parameters, "pattern: unknown escape at byte 0"},
        {"[\\1]", Code::incorrect_parameters, "pattern: unknown escape at byte 1"},
        {"[\\B]", Code::incorrect_parameters, "pattern: unknown escape at byte 1"},
        {"\\01", Code::incorrect_parameters, "pattern: \\0 before a digit at byte 0"},
        {"\\c1", Code::incorrect_parameters, "pattern: \\c without a letter at byte 0"},
        {"\\c", Code::incorrect_parameters, "pattern: \\c without a letter at byte 0"},
        {"\\x1", Code::incorrect_parameters, "pattern: \\x without two hexadecimal digits at byte 0"},
        {"\\u12g4", Code::incorrect_parameters, "pattern: \\u without four hexadecimal digits at byte 0"},
        {"\\u{}", Code::incorrect_parameters, "pattern: wrong \\u{..} at byte 0"},
        {"\\u{110000}", Code::incorrect_parameters, "pattern: wrong \\u{..} at byte 0"},
        {"\\u{FFFFFFFFFFFF}", Code::incorrect_parameters, "pattern: wrong \\u{..} at byte 0"},
        {"\\u{41", Code::incorrect_parameters, "pattern: wrong \\u{..} at byte 0"},
        {"a(?x)", Code::incorrect_parameters, "pattern: unknown group at byte 1"},
        {"(?", Code::incorrect_parameters, "pattern: unknown group at byte 0"},
        {"(?<>a)", Code::incorrect_parameters, "pattern: wrong name of the group at byte 0"},
        {"(?<a", Code::incorrect_parameters, "pattern: wrong name of the group at byte 0"},
        {"(?<1a>a)", Code::incorrect_parameters, "pattern: wrong character in a group's name at byte 3"},
        {"(?<a-b>a)", Code::incorrect_parameters, "pattern: wrong character in a group's name at byte 4"},
        {"ab\xFF", Code::incorrect_parameters, "pattern: not UTF-8 at byte 2"},
        {"ab\xC3", Code::incorrect_parameters, "pattern: not UTF-8 at byte 2"},
    };
    for (const auto& c : all) {
        const Error e = error_of(c.pattern);
        EXPECT_EQ(e.code, c.code) << c.pattern;
        EXPECT_STREQ(e.what(), c.text) << c.pattern;
    }
}

TEST(Regex, Limits) {
    const auto nested = [](int depth) {
        return std::string(static_cast<std::size_t>(depth), '(') + "a" +
               std::string(static_cast<std::size_t>(depth), ')');
    };
    EXPECT_TRUE(Pattern(nested(64)).takes("a"));
    const Error deep = error_of(nested(65));
    EXPECT_EQ(deep.code, Code::not_supported);
    EXPECT_STREQ(deep.what(), "pattern: groups nested deeper than 64 at byte 64");
    EXPECT_EQ(error_of(nested(30000)).code, Code::not_supported);

    // 16383 times and the state behind are as many as there may be.
    EXPECT_EQ(Pattern("a{16383}").automaton.states, Automaton::max_states);
    EXPECT_EQ(error_of("a{16384}").code, Code::text_too_long);
    for (const char* large : {"a{100000}", "a{99999999999999999999}", "(a{1000}){1000}", "(((a{99}){99}){99}){99}",
                              "[^]{0,60000}", "[ab]*a[ab]{20}", "c[^]{30}$"}) {
        Room room(32u << 20);
        const auto made = regex(large, false, Encoding::json, room.heap);
        ASSERT_FALSE(made) << large;
        EXPECT_EQ(made.error().code, Code::text_too_long) << large << made.error().what();
        EXPECT_EQ(room.heap.used(), 0u);
    }
    for (const char* large : {"[ab]*a[ab]{20}", "[^]{0,17000}", "((a*)*|(b*)*){9000}"})
        EXPECT_EQ(error_of(large, 32u << 20).code, Code::text_too_long) << large;
    // Much to build of which nothing remains.
    std::string groups = "(a";
    for (int i = 0; i < 10000; i++) groups += "()";
    EXPECT_EQ(error_of(groups + "){9999}").code, Code::text_too_long);
    EXPECT_EQ(error_of(std::string(65536, 'a')).code, Code::text_too_long);
    EXPECT_EQ(error_of("(" + std::string(30000, '|') + "){3}" + "(" + std::string(20000, '(') + ")").code,
              Code::not_supported);

    const Pattern string("[^]{0,256}", true, Encoding::json);
    EXPECT_TRUE(string.takes(std::string(256, 'x')));
    EXPECT_TRUE(string.takes(json(std::string(256, '\n'))));
    EXPECT_FALSE(string.takes(std::string(257, 'x')));
}

TEST(Regex, EveryHeapIsEitherEnoughOrFull) {
    constexpr std::string_view pattern = "^(ab|[c-e]\\b.)*$";
    constexpr std::size_t guard = 64;
    bool enough = false;
    Room room;
    const Automaton reference = regex(pattern, false, Encoding::json, room.heap).value();
    const std::size_t peak = room.heap.peak();
    ASSERT_LT(peak, 60'000u);
    for (std::size_t size = 0; size <= peak + 16; size += size < 4096 ? 1 : 5) {
        std::vector<std::byte> block(size + 2 * guard, std::byte{0xA5});
        Heap heap(std::span<std::byte>(block).subspan(guard, size));
        auto made = regex(pattern, false, Encoding::json, heap);
        for (std::size_t i = 0; i < guard; i++) {
            ASSERT_EQ(block[i], std::byte{0xA5}) << size;
            ASSERT_EQ(block[guard + size + i], std::byte{0xA5}) << size;
        }
        if (made) {
            same(made.value(), reference);
            enough = true;
        } else {
            ASSERT_FALSE(enough) << size;
            ASSERT_EQ(made.error().code, Code::memory_full) << size;
            ASSERT_EQ(heap.used(), 0u);
        }
    }
    EXPECT_TRUE(enough);
    Heap none;
    EXPECT_EQ(regex(pattern, false, Encoding::utf8, none).error().code, Code::memory_full);
}

// Once it is found, what else it might have been is not kept for every byte that follows.
TEST(Regex, FindingTakesLessThanMatching) {
    const auto peak = [](std::string_view pattern, bool whole) {
        Room room;
        EXPECT_TRUE(regex(pattern, whole, Encoding::json, room.heap)) << pattern;
        return room.heap.peak();
    };
    for (const char* pattern : {"[^]{0,64}", "[a-z]{0,64}"})
        EXPECT_LT(peak(pattern, false), peak(pattern, true)) << pattern;
}

TEST(Regex, AutomataShareAHeap) {
    Room room;
    const Automaton a = regex("ab*", true, Encoding::utf8, room.heap).value();
    const std::size_t used = room.heap.used();
    const std::vector<std::byte> before(room.block.get(), room.block.get() + used);
    const Automaton b = regex("[^]c", false, Encoding::utf8, room.heap).value();
    EXPECT_FALSE(regex("(", false, Encoding::utf8, room.heap));
    EXPECT_EQ(before, std::vector<std::byte>(room.block.get(), room.block.get() + used));
    EXPECT_TRUE(accepts(a, "abb"));
    EXPECT_TRUE(accepts(b, "xxcx"));
}

TEST(Words, Labels) {
    Room room;
    const std::string_view list[] = {"on", "off", "on", "one", "", "\u00e4\"\n", "o\x01"};
    for (const Encoding e : {Encoding::utf8, Encoding::json}) {
        const Automaton a = words(list, e, room.heap).value();
        check(a);
        const auto label = [&](std::string_view text) -> int {
            std::uint16_t s = 0;
            for (const char c : e == Encoding::json ? json(text) : std::string(text)) {
                s = a.step(s, static_cast<unsigned char>(c));
                if (s == dead) return -1;
            }
            return a.label[s];
        };
        EXPECT_EQ(label("on"), 1);
        EXPECT_EQ(label("off"), 2);
        EXPECT_EQ(label("one"), 4);
        EXPECT_EQ(label(""), 5);
        EXPECT_EQ(label("\u00e4\"\n"), 6);
        EXPECT_EQ(label("o\x01"), 7);
        EXPECT_EQ(label("o"), 0);
        EXPECT_EQ(label("of"), 0);
        EXPECT_EQ(label("ons"), -1);
        EXPECT_EQ(label("x"), -1);
    }
    EXPECT_EQ(words({}, Encoding::utf8, room.heap).value().states, 0);
}

TEST(Words, AreWrittenInTheirOneForm) {
    Room room;
    for (int c = 0; c < 0x80; c++) {
        const std::string text(1, static_cast<char>(c));
        const std::string_view list[] = {text};
        const Automaton a = words(list, Encoding::json, room.heap).value();
        EXPECT_TRUE(accepts(a, json(text))) << c;
        EXPECT_EQ(static_cast<std::size_t>(a.states), json(text).size() + 1) << c;
    }
}

TEST(Words, AreThePatternOfTheirAlternatives) {
    Room room;
    const std::string_view list[] = {"red", "green", "blue", "redder", "gray"};
    const Automaton w = words(list, Encoding::utf8, room.heap).value();
    const auto one = [](void*, std::uint16_t a, std::uint16_t) -> std::uint16_t { return a != 0; };
    same(combine(w, Automaton{}, one, nullptr, room.heap).value(), Pattern("red|green|blue|redder|gray").automaton);
}

TEST(Words, Limits) {
    Room room;
    const std::string_view malformed[] = {"a", "\xC3"};
    const auto refused = words(malformed, Encoding::utf8, room.heap);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::invalid_characters);
    EXPECT_STREQ(refused.error().what(), "grammar: word 2 is not UTF-8");
    const std::string longest(16383, 'a'), longer(16384, 'a');
    const std::string_view fits[] = {longest}, too_long[] = {longer};
    EXPECT_EQ(words(fits, Encoding::utf8, room.heap).value().states, Automaton::max_states);
    const std::size_t used = room.heap.used();
    EXPECT_EQ(words(too_long, Encoding::utf8, room.heap).error().code, Code::text_too_long);
    EXPECT_EQ(room.heap.used(), used);

    // More words than labels, most of them equal.
    std::vector<std::string_view> many(65536, "a");
    many[65534] = "b";
    EXPECT_EQ(words(many, Encoding::utf8, room.heap).value().states, 3);
    many[65535] = "c";
    EXPECT_EQ(words(many, Encoding::utf8, room.heap).error().code, Code::text_too_long);

    std::vector<std::string> names;
    for (int i = 0; i < 500; i++) names.push_back("name-" + std::to_string(i * 7919 % 10007));
    const std::vector<std::string_view> views(names.begin(), names.end());
    const Automaton a = words(views, Encoding::json, room.heap).value();
    for (const std::string& name : names) EXPECT_TRUE(accepts(a, name));
    EXPECT_FALSE(accepts(a, "name-"));

    Room whole;
    const Automaton reference = words(views, Encoding::json, whole.heap).value();
    for (std::size_t size = 0; size < whole.heap.peak(); size += 1009) {
        Room small(size);
        EXPECT_EQ(words(views, Encoding::json, small.heap).error().code, Code::memory_full) << size;
    }
    Room exact(whole.heap.peak());
    same(words(views, Encoding::json, exact.heap).value(), reference);
}

TEST(Combine, Classifies) {
    // A number is 1, a word that is known its label + 1, and another word 100.
    Room room;
    const std::string_view list[] = {"yes", "no"};
    const Automaton known = words(list, Encoding::utf8, room.heap).value();
    const Automaton other = regex("[a-z]+|\\d+", true, Encoding::utf8, room.heap).value();
    int calls = 0;
    const auto label_of = [](void* context, std::uint16_t a, std::uint16_t b) -> std::uint16_t {
        ++*static_cast<int*>(context);
        return a != 0 ? static_cast<std::uint16_t>(a + 1) : b != 0 ? 100 : 0;
    };
    const Automaton a = combine(known, other, label_of, &calls, room.heap).value();
    check(a);
    EXPECT_GT(calls, 0);
    const auto label = [&](std::string_view text) -> int {
        std::uint16_t s = 0;
        for (const char c : text) {
            s = a.step(s, static_cast<unsigned char>(c));
            if (s == dead) return -1;
        }
        return a.label[s];
    };
    EXPECT_EQ(label("yes"), 2);
    EXPECT_EQ(label("no"), 3);
    EXPECT_EQ(label("ye"), 100);
    EXPECT_EQ(label("yess"), 100);
    EXPECT_EQ(label("12"), 100);
    EXPECT_EQ(label("1a"), -1);
    EXPECT_EQ(label(""), 0);
}

TEST(Combine, IntersectionAndDifference) {
    Random random(3);
    for (int i = 0; i < 150; i++) {
        const std::string p = random.pattern(1), q = random.pattern(1);
        SCOPED_TRACE(p + "   " + q);
        Room room;
        const Automaton a = regex(p, false, Encoding::utf8, room.heap).value();
        const Automaton b = regex(q, false, Encoding::utf8, room.heap).value();
        const Automaton both = intersection(a, b, room.heap).value(), only = difference(a, b, room.heap).value();
        check(both);
        check(only);
        for (int t = 0; t < 50; t++) {
            const std::string text = random.text(6, "ab1 \n");
            ASSERT_EQ(accepts(both, text), accepts(a, text) && accepts(b, text)) << text;
            ASSERT_EQ(accepts(only, text), accepts(a, text) && !accepts(b, text)) << text;
        }
        // (a and b) or (a without b) is a; nothing is in a without a.
        const auto either = [](void*, std::uint16_t x, std::uint16_t y) -> std::uint16_t { return x != 0 || y != 0; };
        same(combine(both, only, either, nullptr, room.heap).value(), a);
        same(intersection(a, a, room.heap).value(), a);
        EXPECT_EQ(difference(a, a, room.heap).value().states, 0);
    }
}

TEST(Combine, ComplementAgainstAllTexts) {
    for (const Encoding e : {Encoding::utf8, Encoding::json}) {
        Room room;
        const Automaton all = regex("[^]*", true, e, room.heap).value();
        const Automaton a = regex("^[^a]*$", false, e, room.heap).value();
        const Automaton with_a = difference(all, a, room.heap).value();
        same(with_a, Pattern("a", false, e).automaton);
        same(difference(all, with_a, room.heap).value(), a);
        EXPECT_EQ(difference(a, all, room.heap).value().states, 0);
    }
}

TEST(Combine, WithNothing) {
    Room room;
    const Automaton a = regex("ab", true, Encoding::utf8, room.heap).value(), nothing{};
    EXPECT_EQ(intersection(a, nothing, room.heap).value().states, 0);
    EXPECT_EQ(intersection(nothing, a, room.heap).value().states, 0);
    EXPECT_EQ(difference(nothing, a, room.heap).value().states, 0);
    EXPECT_EQ(intersection(nothing, nothing, room.heap).value().states, 0);
    same(difference(a, nothing, room.heap).value(), a);
    EXPECT_FALSE(accepts(nothing, ""));
}

TEST(Combine, Limits) {
    Room room(8u << 20);
    const Automaton a = regex("(a{127})*", true, Encoding::utf8, room.heap).value();
    const Automaton b = regex("(a{131})*", true, Encoding::utf8, room.heap).value();
    const Automaton c = regex("(a{113})*", true, Encoding::utf8, room.heap).value();
    const std::size_t used = room.heap.used();
    EXPECT_EQ(intersection(a, b, room.heap).error().code, Code::text_too_long);  // 16637 states
    EXPECT_EQ(room.heap.used(), used);
    Room other(8u << 20);
    const Automaton both = intersection(a, c, other.heap).value();
    EXPECT_EQ(both.states, 127 * 113);
    EXPECT_TRUE(accepts(both, std::string(127 * 113, 'a')));
    const std::size_t peak = other.heap.peak();
    for (std::size_t size = 0; size < peak; size += 40009) {
        Room small(size);
        EXPECT_EQ(intersection(a, c, small.heap).error().code, Code::memory_full) << size;
        EXPECT_EQ(small.heap.used(), 0u);
    }
}
