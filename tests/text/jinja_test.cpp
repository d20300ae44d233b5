// The subset of Jinja in which chat templates are read: rendered as Jinja renders it (jinja_cases.json, made by
// make_jinja_cases.py), refused with the line, and bounded.
#include "toolchain/slmpack/tokenizer/jinja.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>

#include "tests/text/fixtures.h"

namespace slmd::tests {
namespace {

using Json = nlohmann::json;
using pack::jinja::Message;
using pack::jinja::Rendered;
using pack::jinja::Template;

constexpr std::int64_t enough = 100'000;

Result<Rendered> render(std::string_view source, std::span<const Message> messages = {}, std::int64_t steps = enough,
                        const char* bos = "<s>", const char* eos = "</s>") {
    const Template t = TRY(Template::parse(source));
    return t.render({.messages = messages, .bos_token = bos, .eos_token = eos, .now = 0}, steps);
}

std::string repeated(std::string_view s, int n) {
    std::string out;
    for (int i = 0; i < n; ++i) out += s;
    return out;
}

TEST(Jinja, RendersAsJinjaDoes) {
    const Json file = Json::parse(read_file(SLMD_TESTS "/jinja_cases.json"));
    std::vector<Message> messages;
    for (const Json& m : file["messages"]) messages.push_back({m["role"], m["content"]});
    int rendered = 0, refused = 0;
    for (const Json& c : file["cases"]) {
        const std::string source = c["template"];
        const auto got = render(source, messages);
        if (c["text"].is_null()) {
            EXPECT_FALSE(got) << source;
            ++refused;
        } else {
            ASSERT_TRUE(got) << source << ": " << got.error().text;
            EXPECT_EQ(got.value().text, c["text"].get<std::string>()) << source;
            ++rendered;
        }
    }
    EXPECT_GE(rendered, 65);
    EXPECT_GE(refused, 25);
}

// What Jinja has and the subset does not: each refused with the line on which it stands and what it is.
TEST(Jinja, RefusesWithTheLine) {
    struct {
        const char *source, *error;
    } const cases[] = {
        {"a\n\n{% include 'x' %}", "line 3: {% include %} is not in the subset"},
        {"{% if x %}\n{% endif %}\n{% call f() %}{% endcall %}", "line 3: {% call %} is not in the subset"},
        {"\n{% raw %}{{{% endraw %}", "line 2: {% raw %} is not in the subset"},
        {"{{ 1 }}\n{{ 1.5 }}", "line 2: numbers other than decimal integers"},
        {"{{ 0x10 }}", "line 1: numbers other than decimal integers"},
        {"\n\n{{ 2 ** 3 }}", "line 3: the operator ** is not"},
        {"{{ f(*messages) }}", "line 1: arguments after * are not"},
        {"{% for x in [] recursive %}{% endfor %}", "line 1: recursive loops are not"},
        {"\n{{ 'a' | wordwrap }}", "line 2: the filter wordwrap is not in the subset"},
        {"\n{{ 'a' is sameas 'b' }}", "line 2: the test sameas is not in the subset"},
        {"\n{{ 'a'.encode() }}", "line 2: the method encode is not in the subset"},
        {"{{ [].append(1) }}", "line 1: the method append is not in the subset"},
        {"\n{{ cycler(1) }}", "line 2: the function cycler is not in the subset"},
        {"{{ {} | tojson(indent=2) }}", "line 1: tojson(indent) is not in the subset"},
        {"{{ messages }}", "line 1: a list is no text"},
        {"{{ '\xC3\x84' | lower }}", "line 1: the case of letters beyond ASCII is not changed"},
        {"{{ pad_token }}", "line 1: the template needs pad_token, which is not known here"},
        {"{{ strftime_now is defined }}{{ x }}\n{{ x.y }}", "line 2: \"x\" is undefined; it has no \"y\""},
        {"{% if a %}\n{% else %}\n{% elif b %}{% endif %}", "line 3: elif where endif should be"},
        {"\n{% if a %}\n\n", "line 2: no {% endif %} follows"},
        {"\n{% for a in b %}{% if c %}\n{% endfor %}", "line 3: endfor where endif should be"},
        {"{% break %}", "line 1: break outside of a loop"},
        {"{{ 'a'\n}", "line 2: unexpected \"}\""},
        {"{{ 9223372036854775807 + 1 }}", "line 1: the number is too large"},
        {"{{ 9223372036854775808 }}", "line 1: the number is too large"},
        {"{% set ns = namespace() %}{% set ns.self = ns %}", "line 1: a namespace inside of another value"},
        {"{% set ns = namespace() %}{% set ns.self = [ns] %}", "line 1: a namespace inside of another value"},
        {"{% set x.y = 1 %}", "line 1: \"x.y\" is no namespace"},
    };
    for (const auto& c : cases) {
        const auto got = render(c.source);
        ASSERT_FALSE(got) << c.source;
        EXPECT_EQ(got.error().code, Code::not_supported) << c.source;
        EXPECT_TRUE(std::string_view(got.error().text).starts_with(c.error)) << c.source << ": " << got.error().text;
    }
}

TEST(Jinja, WhatIsNotReachedNeedNotBeKnown) {
    const auto got = render("{% if tools %}{{ tools | unheard_of(1) }}{{ x is odd_one }}{{ f() }}{% endif %}ok");
    ASSERT_TRUE(got) << got.error().text;
    EXPECT_EQ(got.value().text, "ok");
}

TEST(Jinja, RaiseExceptionIsToldApart) {
    const auto got = render("\n{{ raise_exception('No ' ~ 1) }}");
    ASSERT_FALSE(got);
    EXPECT_EQ(got.error().code, Code::incorrect_parameters);
    EXPECT_STREQ(got.error().text, "line 2: No 1");
}

TEST(Jinja, TokensThatTheModelDoesNotName) {
    EXPECT_EQ(render("{{ bos_token is defined }}", {}, enough, "", "").value().text, "False");
    for (const char* source : {"{{ bos_token }}", "{{ bos_token + 'x' }}", "{{ 'x' ~ eos_token }}"}) {
        const auto got = render(source, {}, enough, "", "");
        ASSERT_FALSE(got) << source;
        EXPECT_NE(std::string(got.error().text).find("of-sequence token, which the tokenizer does not name"),
                  std::string::npos);
    }
}

TEST(Jinja, LinesOfTheOutput) {
    const Rendered r =
        render("a{{ 'b' }}\n{% for x in [1, 2] %}\n{{ x }}{% endfor %}\n\n{{ '' }}{{ 'e' ~\n'f' }}").value();
    EXPECT_EQ(r.text, "ab\n12\nef");
    // Text stands on the line where it begins.
    EXPECT_EQ(r.line_at(0), 1);
    EXPECT_EQ(r.line_at(2), 1);
    EXPECT_EQ(r.line_at(3), 3);
    EXPECT_EQ(r.line_at(4), 3);
    EXPECT_EQ(r.line_at(r.text.find('e')), 5);
    EXPECT_EQ(r.line_at(100), 5);
    EXPECT_EQ(Rendered{}.line_at(0), 1);
}

TEST(Jinja, DateOfPacking) {
    const Template t = Template::parse("{{ strftime_now('%d %b %Y') }}{{ strftime_now is defined }}").value();
    std::int64_t steps = enough;
    EXPECT_EQ(t.render({.now = 86400 * 31}, steps).value().text, "01 Feb 1970False");
}

TEST(Jinja, Bounds) {
    const struct {
        const char* what;
        std::string source, error;
    } cases[] = {
        {"source", std::string(pack::jinja::max_source + 1, 'x'), "longer than"},
        {"parentheses", "{{ " + repeated("(", 10000) + "1" + repeated(")", 10000) + " }}", "nested more than"},
        {"lists", "{{ " + repeated("[", 10000) + repeated("]", 10000) + " }}", "nested more than"},
        {"signs", "{{ " + repeated("-", 10000) + "1 }}", "nested more than"},
        {"not", "{{ " + repeated("not ", 10000) + "1 }}", "nested more than"},
        {"blocks", repeated("{% if 1 %}", 10000), "nested more than"},
        {"sum", "{{ 1" + repeated("+1", 10000) + " }}", "operations in a row"},
        {"subscripts", "{{ a" + repeated("[0]", 10000) + " }}", "operations in a row"},
        {"filters", "{{ a" + repeated("|trim", 10000) + " }}", "operations in a row"},
        {"recursion", "{% macro m() %}{{ m() }}{% endmacro %}{{ m() }}", "calls nested too deep"},
        {"loops", repeated("{% for x in range(1000) %}", 5) + repeated("{% endfor %}", 5), "takes too long"},
        {"text", "{% set ns = namespace(s='x') %}{% for i in range(40) %}{% set ns.s = ns.s ~ ns.s %}{% endfor %}",
         "a text of more than 64 KiB"},
        {"output", "{% for i in range(4000) %}{{ 'xxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxxx' }}{% endfor %}",
         "a text of more than 64 KiB"},
        {"range", "{{ range(100000) | length }}", "a range of more than 4096 numbers"},
        {"list", "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = ns.l + ns.l %}{% endfor %}",
         "a list of more than 4096 elements"},
        {"depth", "{% set ns = namespace(l=[1]) %}{% for i in range(40) %}{% set ns.l = [ns.l] %}{% endfor %}",
         "values nested more than"},
        {"shared lists",  // small to hold, endless to compare
         "{% set ns = namespace(l=[1]) %}{% for i in range(15) %}{% set ns.l = [ns.l, ns.l, ns.l, ns.l] %}{% endfor %}",
         "a list or mapping of more than"},
        {"names",
         "{% set ns = namespace() %}" +
             [] {
                 std::string s;
                 for (int i = 0; i < 100; ++i) s += "{% set ns.x" + std::to_string(i) + " = 1 %}";
                 return s;
             }(),
         "a namespace of more than 64 names"},
    };
    for (const auto& c : cases) {
        const auto got = render(c.source);
        ASSERT_FALSE(got) << c.what;
        EXPECT_NE(std::string(got.error().text).find(c.error), std::string::npos) << c.what << ": " << got.error().text;
    }
    // What is long, but not nested, is fine.
    const auto flat = render("{{ 'a'" + repeated(" ~ 'b'", 5000) + " }}" + repeated("{% if 1 %}x{% endif %}", 3000));
    ASSERT_TRUE(flat) << flat.error().text;
    EXPECT_EQ(flat.value().text.size(), 8001u);
}

TEST(Jinja, EveryBeginningOfATemplateIsReadOrRefused) {
    const std::string source = read_file(SLMD_TESTS "/templates/reasoning-and-tools.jinja");
    const Message messages[] = {{"user", "a"}, {"assistant", "<think>b</think>c"}, {"user", "d"}};
    int read = 0;
    for (std::size_t n = 0; n < source.size(); ++n)
        if (const auto got = render(source.substr(0, n), messages))
            ++read;
        else
            EXPECT_TRUE(std::string_view(got.error().text).starts_with("line ")) << got.error().text;
    EXPECT_GT(read, 0);
    EXPECT_LT(read, 400);
}

}  // namespace
}  // namespace slmd::tests
