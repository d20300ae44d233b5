// Agents' files: what they say, what is wrong with them and where; inputs and prompts; sets of folders; spans.
#include "agent/agent.h"

#include <gtest/gtest.h>

#include <filesystem>
#include <fstream>

#include "agent/calls.h"
#include "agent/set.h"
#include "agent/spans.h"

namespace slmd::agent {
namespace {

namespace fs = std::filesystem;

struct Folder {
    fs::path path;
    Folder() {
        char name[] = "/tmp/slmd-test-XXXXXX";
        path = mkdtemp(name);
    }
    ~Folder() { fs::remove_all(path); }
    std::string write(const std::string& name, const std::string& text) const {
        std::ofstream(path / name) << text;
        return path / name;
    }
};

constexpr char whole[] = R"(description = "Totals"
model = "Some-Model"
system = "You add {labels-like} things, {\"a\": 1}."
prompt = """
{text} of {n}: {"x": {}}
"""
escalate = "unsure"

[input.text]
max = 40

[input.n]
type = "integer"
min = -1
max = 10

[output]
schema = '{"type":"object","properties":{"a":{"type":"string","from":"source"}},"required":["a"]}'
source = "text"

[limits]
max_tokens = 9
deadline_ms = 500

[confidence]
threshold = 0.25

[[check]]
kind = "source"
at = "/a"

[[example]]
input = { text = "one \"two\"\n", n = 3 }
output = '{"a":"two"}'
show = true

[[example]]
input = { text = "four", n = 4 }
output = '{"a":"four"}'
)";

struct Memory {
    std::vector<std::byte> block = std::vector<std::byte>(1 << 20);
    grammar::Heap heap{block};
};

TEST(Agent, is_what_its_file_says) {
    const Folder folder;
    Memory m;
    std::string text = whole;
    text.replace(text.find("{labels-like}"), 13, "some");
    const auto read = read_agent(folder.write("sum-1.toml", text).c_str(), m.heap);
    ASSERT_TRUE(read) << read.error().text;
    const Agent& a = read.value();
    EXPECT_EQ(a.name, "sum-1");
    EXPECT_EQ(a.description, "Totals");
    EXPECT_EQ(a.model, "Some-Model");
    EXPECT_EQ(a.system, "You add some things, {\"a\": 1}.");
    EXPECT_EQ(a.prompt, "{text} of {n}: {\"x\": {}}");
    ASSERT_EQ(a.fields.size(), 2u);
    EXPECT_EQ(a.output, Output::schema);
    EXPECT_EQ(a.fields[a.source].name, "text");
    EXPECT_EQ(a.max_tokens, 9);
    EXPECT_EQ(a.deadline_ms, 500);
    EXPECT_FLOAT_EQ(a.threshold, 0.25f);
    EXPECT_EQ(a.escalate, Escalate::unsure);
    ASSERT_EQ(a.checks.size(), 1u);
    EXPECT_EQ(a.checks[0].kind, CheckKind::source);
    ASSERT_EQ(a.shots.size(), 1u);
    EXPECT_EQ(a.shots[0].prompt, "one \"two\"\n of 3: {\"x\": {}}");
    EXPECT_EQ(a.shots[0].answer, "{\"a\":\"two\"}");
    ASSERT_EQ(a.examples.size(), 2u);
    EXPECT_FALSE(a.examples[1].shown);
    EXPECT_EQ(a.examples[1].input, R"({"n":4,"text":"four"})");

    std::string_view values[Agent::max_fields];
    const auto given = [&](std::string input) {
        static std::string kept;
        kept = std::move(input);
        const auto r = read_input(a, kept, false, values);
        return r ? std::string() : std::string(r.error().text);
    };
    EXPECT_EQ(given(R"({"text":"{n} and {text}","n":-1})"), "");
    char out[100];
    const auto filled = fill_in(a, a.prompt, values, out);
    ASSERT_TRUE(filled);
    EXPECT_EQ(filled.value(), "{n} and {text} of -1: {\"x\": {}}");  // what comes in is not filled in again
    EXPECT_FALSE(fill_in(a, a.prompt, values, std::span(out).first(20)));
    EXPECT_EQ(fill_in(a, "{n} {n", values, out).value(), "-1 {n");  // a brace that nothing closes is one

    EXPECT_EQ(given("plain"), "the input is a JSON object of fields: JSON, column 1: not a JSON value");
    EXPECT_EQ(given("[1]"), "the input is a JSON object with a member for each field");
    EXPECT_EQ(given(R"({"text":"a"})"), "n is missing");
    EXPECT_EQ(given(R"({"text":"a","n":1,"m":2})"), "the agent has no field \"m\"");
    EXPECT_EQ(given(R"({"text":1,"n":1})"), "text is a text");
    EXPECT_EQ(given(R"({"text":"a","n":"1"})"), "n is a number");
    EXPECT_EQ(given(R"({"text":"a","n":1.5})"), "n is a whole number");
    EXPECT_EQ(given(R"({"text":"a","n":11})"), "n is -1 to 10");
    EXPECT_EQ(given(R"({"text":" \n","n":1})"), "text is empty");
    EXPECT_EQ(given(R"({"text":")" + std::string(41, 'x') + R"(","n":1})"), "text is 41 bytes; at most 40");
    EXPECT_NE(given(R"({"text":["a"],"n":1})"), "");
    EXPECT_NE(given(std::string("{\"text\":") + std::string(100, '[') + "}"), "");
}

TEST(Agent, with_a_choice_lists_its_labels_and_has_one_field_in_plain_text) {
    const Folder folder;
    Memory m;
    const auto read = read_agent(folder
                                     .write("pick.toml", R"(
system = "One of: {labels}."
prompt = "{line}: {labels}?"
input.line = { type = "line" }
output = { choice = ["a", { label = "b c", about = "both", prior = 2.5 }], none = true }
)")
                                     .c_str(),
                                 m.heap);
    ASSERT_TRUE(read) << read.error().text;
    const Agent& a = read.value();
    EXPECT_EQ(a.system, "One of: - a\n- b c: both\n- none.");
    ASSERT_EQ(a.labels.size(), 3u);
    EXPECT_EQ(a.labels[1].name, "b c");
    EXPECT_FLOAT_EQ(a.labels[1].prior, 2.5f);
    EXPECT_EQ(a.labels[2].name, "none");
    std::string_view values[Agent::max_fields];
    std::string input = R"({"line":"x"})";
    ASSERT_TRUE(read_input(a, input, false, values));
    EXPECT_EQ(values[0], input);  // it is the text, whatever it looks like
    ASSERT_TRUE(read_input(a, input, true, values));
    EXPECT_EQ(values[0], "x");
    input = "two\nlines";
    EXPECT_STREQ(read_input(a, input, false, values).error().text, "line is one line: no line breaks in it");
    input = "\xff";
    EXPECT_STREQ(read_input(a, input, false, values).error().text, "line: not UTF-8");
}

TEST(Agent, says_what_may_leave) {
    const Folder folder;
    Memory m;
    const std::string text = "prompt = '{x}'\nescalate = 'fail'\ninput.x = {}\noutput = { text = 10 }\n[remote]\n";
    const auto read = [&](const std::string& more) {
        return read_agent(folder.write("a.toml", text + more).c_str(), m.heap);
    };
    EXPECT_EQ(read("").value().remote.policy, Remote::never);
    const auto a = read(
        "policy = 'redacted'\nwait = true\nwait_hours = 0.5\npriority = -3\nlearn = true\nterms = ['Nord', 'licht']\n"
        "patterns = ['K-[0-9]{3,5}', '\\u{e4}+']\n");
    ASSERT_TRUE(a) << a.error().text;
    const Remote& r = a.value().remote;
    EXPECT_EQ(r.policy, Remote::redacted);
    EXPECT_TRUE(r.wait && r.learn);
    EXPECT_EQ(r.wait_ms, 1'800'000);
    EXPECT_EQ(r.priority, -3);
    ASSERT_EQ(r.terms.size(), 2u);
    EXPECT_EQ(r.terms[1], "licht");
    const std::string t = "of K-1234567 and \xC3\xA4\xC3\xA4.";
    EXPECT_EQ(secret_at(r.patterns, t, 3), 10u);  // K-12345
    EXPECT_EQ(secret_at(r.patterns, t, 4), 0u);
    EXPECT_EQ(secret_at(r.patterns, t, 17), 21u);
    EXPECT_EQ(secret_at(r.patterns, t, t.size()), 0u);
    EXPECT_EQ(secret_at(read("patterns = ['a+']\n").value().remote.patterns, std::string(9000, 'a'), 1),
              1 + max_secret);
    for (const auto& [bad, why] : {std::pair{"policy = 'maybe'", "policy is \"never\", \"redacted\""},
                                   {"wait = 1", "true or false"},
                                   {"priority = 101", "-100"},
                                   {"wait_hours = 0", "0.01"},
                                   {"patterns = ['a*']", "matches the empty text"},
                                   {"patterns = ['(?=a)']", "lookahead"},
                                   {"patterns = 'a'", "list"},
                                   {"terms = [1]", "text"},
                                   {"words = []", "unknown key \"words\"; known: policy, wait"}}) {
        const auto no = read(bad);
        ASSERT_FALSE(no) << bad;
        EXPECT_NE(std::string(no.error().text).find(why), std::string::npos) << no.error().text;
    }
    const auto tools = read_agent(
        folder.write("t.toml", text + "policy = 'allowed'\n[[tool]]\nname = 'led'\noutput = 'led'\ndescription = 'x'\n")
            .c_str(),
        m.heap);
    ASSERT_FALSE(tools);
    EXPECT_NE(std::string(tools.error().text).find("works on the board"), std::string::npos) << tools.error().text;
}

TEST(Agent, that_is_wrong_says_where_and_why) {
    const Folder folder;
    const auto wrong = [&](const std::string& from, const std::string& to) {
        std::string text = whole;
        text.replace(text.find("{labels-like}"), 13, "some");
        const auto at = text.find(from);
        EXPECT_NE(at, std::string::npos) << from;
        text.replace(at, from.size(), to);
        Memory m;
        const auto read = read_agent(folder.write("bad.toml", text).c_str(), m.heap);
        EXPECT_FALSE(read) << to;
        EXPECT_EQ(m.heap.used(), 0u);
        return read ? std::string() : std::string(read.error().text).substr(folder.path.string().size() + 1);
    };
    EXPECT_EQ(wrong("description", "descriptoin").substr(0, 38), "bad.toml:1: unknown key \"descriptoin\";");
    EXPECT_EQ(wrong("\"Totals\"", "7"), "bad.toml:1: description is a text in quotes");
    EXPECT_NE(wrong("\"Totals\"", "\"Totals").find("bad.toml:1: "), std::string::npos);
    EXPECT_EQ(wrong("{text} of", "{txt} of {text}"),
              "bad.toml:4: {txt} is no input field; [input.txt] would make it one");
    EXPECT_EQ(wrong("{text} of {n}", "{text}"), "bad.toml:4: the prompt has no {n}: the model would not see it");
    EXPECT_EQ(wrong("You add", "You {text}"),
              "bad.toml:3: system is the same for every call: fields, {NAME}, go into the prompt");
    EXPECT_EQ(wrong("\"unsure\"", "\"always\""),
              "bad.toml:7: escalate is \"never\", \"fail\" (what failed a check) or \"unsure\" (that too)");
    EXPECT_EQ(wrong("max = 40", "max = 1e9"), "bad.toml:10: max is a whole number");
    EXPECT_EQ(wrong("max = 40", "max = 40000"), "bad.toml:10: max is 0 to 16384");
    EXPECT_EQ(wrong("\"integer\"", "\"int\""),
              "bad.toml:13: type is \"text\", \"line\" (no line breaks), \"integer\" or \"number\"");
    EXPECT_EQ(wrong("min = -1", "min = 11"), "bad.toml:14: min is above max");
    EXPECT_EQ(wrong("\"from\":\"source\"", "\"pattern\":\"\\\\p{L}\"").substr(0, 20), "bad.toml:18: schema,");
    EXPECT_NE(wrong("\"required\"", "\"$dynamicRef\":\"#a\",\"required\"").find("$dynamicRef"), std::string::npos);
    EXPECT_EQ(wrong("source = \"text\"", "source = \"txt\""), "bad.toml:19: source is the name of an input field");
    EXPECT_EQ(wrong("source = \"text\"\n", ""),
              "bad.toml:17: there are several input fields: source = \"NAME\" says in which one the values stand");
    EXPECT_EQ(wrong("source = \"text\"", "text = 9"),
              "bad.toml:17: [output] has exactly one of choice, schema and text");
    EXPECT_EQ(wrong("source = \"text\"", "none = true"), "bad.toml:17: none goes with choice");
    EXPECT_EQ(wrong("max_tokens = 9", "max_tokens = 0"), "bad.toml:22: max_tokens is 1 to 32768");
    EXPECT_EQ(wrong("threshold = 0.25", "threshold = true"), "bad.toml:26: threshold is a number");
    EXPECT_NE(wrong("kind = \"source\"", "kind = \"sauce\"").find("bad.toml:29: "), std::string::npos);
    EXPECT_EQ(wrong("n = 3", "m = 3"), "bad.toml:33: the agent has no field \"m\"");
    EXPECT_EQ(wrong("'{\"a\":\"two\"}'", "'{\"a\":'").substr(0, 12), "bad.toml:34:");
    EXPECT_EQ(wrong("show = true", "show = 1"), "bad.toml:35: show is true or false");
    EXPECT_EQ(wrong("[[check]]", "[check]"), "bad.toml:28: check is a list: write [[check]] on a line of its own");

    Memory m;
    const auto of = [&](const char* name, const char* text) {
        return std::string(read_agent(folder.write(name, text).c_str(), m.heap).error().text)
            .substr(folder.path.string().size() + 1);
    };
    EXPECT_EQ(of("a b.toml", ""),
              "a b.toml: an agent's file is NAME.toml; a name is letters, digits, - and _, at most 32");
    EXPECT_EQ(of("a.toml", ""), "a.toml:1: there is no prompt");
    EXPECT_EQ(of("a.toml", "prompt = '{x}'\ninput.x = {}\noutput = { choice = ['a', 'a'] }"),
              "a.toml:3: two labels are \"a\"");
    EXPECT_EQ(of("a.toml", "prompt = '{x}'\ninput.x = {}\noutput = { choice = ['a'] }"),
              "a.toml:3: choice is a list of 2 to 512 labels");
    EXPECT_EQ(of("a.toml", "prompt = '{x}'\ninput.x = {}\noutput = { choice = ['a|b', 'c'] }"),
              "a.toml:3: a label holds a control character or a |");
    EXPECT_EQ(of("a.toml",
                 "prompt = '{x}'\ninput.x = {}\noutput.choice = ['a', 'c']\n[[example]]\ninput = 'q'\noutput = 'b'"),
              "a.toml:6: no label is \"b\"");
    EXPECT_NE(read_agent("/nowhere/a.toml", m.heap).error().text[0], 0);
    grammar::Heap small(std::span(m.block).first(100));
    std::string text = whole;
    text.replace(text.find("{labels-like}"), 13, "some");
    EXPECT_EQ(read_agent(folder.write("big.toml", text).c_str(), small).error().code, Code::memory_full);
}

namespace {
constexpr char with_tools[] = R"(
prompt = "{wish}"
input.wish = {}
output = { text = 200 }
limits.steps = 2

[[tool]]
name = "light"
description = 'Switches a "light"'
output = ["red", "green"]
max_ms = 2000

[[tool]]
name = "warm"
hardware = "temperature"

[[tool]]
name = "door"
pin = "DOOR"
)";
}

TEST(Tools, are_told_and_their_calls_are_read) {
    const Folder folder;
    Memory m;
    const auto read = read_agent(folder.write("board.toml", with_tools).c_str(), m.heap);
    ASSERT_TRUE(read) << read.error().text;
    const Agent& a = read.value();
    EXPECT_EQ(a.steps, 2);
    EXPECT_EQ(a.tool_list,
              R"([{"name":"light","description":"Switches a \"light\"","parameters":{"type":"object","properties":)"
              R"({"name":{"enum":["red","green"]},"on":{"type":"boolean"},"ms":{"type":"integer","minimum":1,)"
              R"("maximum":2000}},"required":["name","on"]}},{"name":"warm","parameters":{"type":"object",)"
              R"("properties":{}}},{"name":"door","parameters":{"type":"object","properties":{}}}])");
    std::string answer = R"({"calls":[{"name":"light","arguments":{"name":"green","on":true,"ms":500}},)"
                         R"({"name":"warm","arguments":{}},{"name":"light","arguments":{"on":false,"name":"red"}}]})";
    auto calls = read_calls(a, answer);
    ASSERT_TRUE(calls) << calls.error().text;
    ASSERT_EQ(calls->count, 3);
    EXPECT_EQ(calls->calls[0].subject, "green");
    EXPECT_TRUE(calls->calls[0].on);
    EXPECT_EQ(calls->calls[0].ms, 500);
    EXPECT_EQ(calls->calls[0].arguments, R"({"name":"green","on":true,"ms":500})");
    EXPECT_EQ(calls->calls[1].subject, "temperature");
    EXPECT_EQ(calls->calls[1].tool->kind, Tool::hardware);
    EXPECT_FALSE(calls->calls[2].on);
    EXPECT_EQ(calls->calls[2].ms, 0);
    answer = R"({"text":"a \"b\""})";
    EXPECT_EQ(read_calls(a, answer)->text, "a \"b\"");
    for (const char* const bad :
         {"[]", "{}", R"({"calls":5})", R"({"calls":[5]})", R"({"calls":[{"name":"pump","arguments":{}}]})",
          R"({"calls":[{"name":"light","arguments":{"name":"blue","on":true}}]})",
          R"({"calls":[{"name":"light","arguments":{"name":"red"}}]})",
          R"({"calls":[{"name":"light","arguments":{"name":"red","on":true,"ms":0}}]})",
          R"({"calls":[{"name":"light","arguments":{"name":"red","on":true,"ms":1e300}}]})",
          R"({"calls":[{"name":"warm","arguments":[]}]})", R"({"calls":[{"name":"warm"}]})", "{\"text\":"}) {
        answer = bad;
        EXPECT_FALSE(read_calls(a, answer)) << bad;
    }
    std::string nine = "{\"calls\":[";
    for (int i = 0; i < 9; i++) nine += std::string(i == 0 ? "" : ",") + R"({"name":"warm","arguments":{}})";
    nine += "]}";
    EXPECT_FALSE(read_calls(a, nine));
}

TEST(Tools, may_depend_on_readings_and_lines) {
    const Folder folder;
    Memory m;
    std::string text = with_tools;
    text.replace(
        text.find("max_ms = 2000"), 13,
        "max_ms = 2000\nmax_times = 9\nabsent = true\nif = { hardware = ['temperature', 'tank'], pin = 'DOOR' }");
    text.replace(text.find("text = 200"), 10, "text = 200, told = false");
    const auto read = read_agent(folder.write("board.toml", text).c_str(), m.heap);
    ASSERT_TRUE(read) << read.error().text;
    const Agent& a = read.value();
    EXPECT_FALSE(a.told);
    EXPECT_TRUE(a.tools[0].absent);
    EXPECT_FALSE(a.tools[1].absent);
    const std::string one = R"({"type":"object","additionalProperties":false,"required":["name",)";
    EXPECT_NE(a.tool_list.find(R"("times":{"type":"integer","minimum":1,"maximum":9},"if":{"anyOf":[)" + one +
                               R"("above"],"properties":{"name":{"enum":["temperature","tank"]},"above":)" +
                               R"({"type":"number"}}},)" + one +
                               R"("below"],"properties":{"name":{"enum":["temperature","tank"]},"below":)" +
                               R"({"type":"number"}}},)" + one +
                               R"("on"],"properties":{"name":{"enum":["DOOR"]},"on":{"type":"boolean"}}}]}},)" +
                               R"("required":["name","on"]})"),
              std::string::npos)
        << a.tool_list;
    const auto call = [&](const std::string& arguments) {
        std::string answer = R"({"calls":[{"name":"light","arguments":{"name":"red","on":true)" + arguments + "}}]}";
        auto calls = read_calls(a, answer);
        if (!calls) return std::string("wrong");
        const Call& c = calls->calls[0];
        return std::to_string(c.times) + " " + std::to_string(c.when) + " " + std::string(c.of) + " " +
               std::to_string(c.bound);
    };
    EXPECT_EQ(call(""), "0 0  0.000000");
    EXPECT_EQ(call(R"(,"times":9)"), "9 0  0.000000");
    EXPECT_EQ(call(R"(,"ms":5,"times":2,"if":{"name":"tank","above":-2.5})"), "2 1 tank -2.500000");
    EXPECT_EQ(call(R"(,"if":{"name":"temperature","below":4})"), "0 2 temperature 4.000000");
    EXPECT_EQ(call(R"(,"if":{"name":"DOOR","on":true})"), "0 3 DOOR 0.000000");
    EXPECT_EQ(call(R"(,"if":{"name":"DOOR","on":false})"), "0 4 DOOR 0.000000");
    for (const char* const bad :
         {R"(,"times":10)", R"(,"times":0)", R"(,"if":5)", R"(,"if":{})", R"(,"if":{"name":"tank"})",
          R"(,"if":{"name":"DOOR","above":1})", R"(,"if":{"name":"tank","on":true})", R"(,"if":{"above":1})",
          R"(,"if":{"name":"tank","above":1,"below":2})", R"(,"if":{"name":"tank","above":"1"})",
          R"(,"if":{"name":"DOOR","on":1})"})
        EXPECT_EQ(call(bad), "wrong") << bad;
}

TEST(Tools, that_are_wrong_say_where_and_why) {
    const Folder folder;
    const auto wrong = [&](const std::string& from, const std::string& to) {
        std::string text = with_tools;
        text.replace(text.find(from), from.size(), to);
        Memory m;
        const auto read = read_agent(folder.write("bad.toml", text).c_str(), m.heap);
        EXPECT_FALSE(read) << to;
        return read ? std::string() : std::string(read.error().text).substr(folder.path.string().size() + 1);
    };
    EXPECT_EQ(wrong("text = 200", "choice = ['a', 'b']"),
              "bad.toml:7: [[tool]] goes with output = { text = BYTES }: what is said when all is done");
    EXPECT_EQ(wrong("text = 200", "text = 200, must_call = 1"), "bad.toml:4: must_call is true or false");
    EXPECT_EQ(wrong("text = 200", "text = 200, told = 0"), "bad.toml:4: told is true or false");
    EXPECT_EQ(wrong("max_ms = 2000", "max_times = 61"), "bad.toml:11: max_times is 1 to 60");
    EXPECT_EQ(wrong("max_ms = 2000", "if.lines = 'a'"), "bad.toml:11: unknown key \"lines\"; known: hardware, pin");
    EXPECT_EQ(wrong("max_ms = 2000", "absent = 1"), "bad.toml:11: absent is true or false");
    EXPECT_EQ(wrong("pin = \"DOOR\"", "pin = 'DOOR'\nif.pin = 'a'"),
              "bad.toml:20: max_ms, max_times and if go with output");
    EXPECT_EQ(wrong("steps = 2", "steps = 9"), "bad.toml:5: steps is 1 to 8");
    EXPECT_EQ(wrong("name = \"warm\"", "name = \"light\""), "bad.toml:13: two tools are called light");
    EXPECT_EQ(wrong("name = \"warm\"", "name = \"so warm\""),
              "bad.toml:13: a tool's name is letters, digits, - and _, at most 32");
    EXPECT_EQ(wrong("hardware = \"temperature\"", ""),
              "bad.toml:13: a tool has one of output, pin and hardware: a name, or a list of names");
    EXPECT_EQ(wrong("hardware = \"temperature\"", "hardware = 'a'\npin = 'b'"),
              "bad.toml:13: a tool has one of output, pin and hardware");
    EXPECT_EQ(wrong("[\"red\", \"green\"]", "[]"), "bad.toml:10: 1 to 16 names");
    EXPECT_EQ(wrong("[\"red\", \"green\"]", "[\"red\", 7]"), "bad.toml:10: a line or a reading is a text in quotes");
    EXPECT_EQ(wrong("[\"red\", \"green\"]", "''"),
              "bad.toml:10: the name of an output, a line or a reading of slmd is empty");
    EXPECT_EQ(wrong("pin = \"DOOR\"", "pin = 'DOOR'\nmax_ms = 5"),
              "bad.toml:20: max_ms, max_times and if go with output");
    EXPECT_EQ(wrong("max_ms = 2000", "max_ms = 0"), "bad.toml:11: max_ms is 1 to 3.6e+06");
    EXPECT_EQ(
        wrong("pin = \"DOOR\"", "pins = 'DOOR'"),
        "bad.toml:19: unknown key \"pins\"; known: name, description, output, pin, hardware, max_ms, max_times, if, "
        "absent");
    EXPECT_EQ(wrong("pin = \"DOOR\"", "pin = 'DOOR'\n[[check]]\nkind = 'agree'\nprompt = '{wish}'"),
              "bad.toml:20: agree asks again, and with [[tool]] the board would be switched again");
    EXPECT_EQ(wrong("steps = 2", "steps = 1\n[[check]]\nkind = 'quotes'"),
              "bad.toml:6: a check looks at words, and with steps = 1 none are said after a call");
}

TEST(Set, has_the_agents_of_all_folders_the_good_and_the_bad) {
    const Folder a, b;
    constexpr char good[] = "description = '1'\nprompt = '{x}'\ninput.x = {}\noutput = { text = 9 }\n";
    (void)a.write("one.toml", good);
    (void)a.write("two.toml", good);
    (void)a.write("bad.toml", "prompt = 1");
    (void)a.write("notes.txt", "not an agent");
    (void)a.write(".hidden.toml", "not either");
    (void)b.write("two.toml", "description = '2'\nprompt = '{x}'\ninput.x = {}\noutput = { text = 9 }\n");
    std::vector<std::byte> block(64 << 10);
    Set set(block);
    const std::string nowhere = b.path / "nowhere";
    const char* const folders[] = {a.path.c_str(), nowhere.c_str(), b.path.c_str()};
    ASSERT_TRUE(set.read(folders));
    ASSERT_EQ(set.entries().size(), 3u);
    EXPECT_EQ(set.entries()[0].agent.name, "bad");
    EXPECT_NE(set.entries()[0].error.find("bad.toml:1: there is no"), std::string_view::npos) << set.entries()[0].error;
    EXPECT_EQ(set.find("one")->agent.description, "1");
    EXPECT_EQ(set.find("two")->agent.description, "2");
    EXPECT_EQ(set.find("two")->file, (b.path / "two.toml").string());
    EXPECT_EQ(set.find("three"), nullptr);

    (void)a.write("bad.toml", good);  // mended
    ASSERT_TRUE(set.read(folders));
    EXPECT_EQ(set.find("bad")->error, "");

    std::vector<std::byte> little(sizeof(Entry) * Set::max_agents + 300);
    Set full(little);
    const auto read = full.read(folders);
    EXPECT_TRUE(!read || std::any_of(full.entries().begin(), full.entries().end(),
                                     [](const Entry& e) { return e.error.find("no room") != std::string_view::npos; }));
}

TEST(Spans, are_where_the_values_stand) {
    std::vector<std::byte> scratch(1 << 20);
    char paths[256];
    Span out[8];
    const std::string source = "2012: pump 12 \xC3\xA9t\xC3\xA9 says \"on\" 3.50 EUR";
    const auto found = [&](const std::string& answer) {
        const auto n = find_spans(answer, source, paths, scratch, out);
        std::string all;
        for (std::size_t i = 0; n && i < n.value(); i++)
            all += std::string(out[i].at) + "=" +
                   (out[i].begin < 0 ? "-"
                                     : source.substr(static_cast<std::size_t>(out[i].begin),
                                                     static_cast<std::size_t>(out[i].end - out[i].begin)) +
                                           "@" + std::to_string(out[i].begin)) +
                   " ";
        return all;
    };
    EXPECT_EQ(found(R"({"a":12,"b":"\"on\"","c~/d":["été",true,null,"off"],"e":{"f":3.50}})"),
              "/a=12@11 /b=\"on\"@25 /c~0~1d/0=\xC3\xA9t\xC3\xA9@14 /c~0~1d/3=- /e/f=3.50@30 ");
    EXPECT_EQ(found("01"), "");
    EXPECT_EQ(found("201"), "=201@0 ");  // within a word when it stands nowhere else
    EXPECT_EQ(found("\"\""), "=- ");
    EXPECT_EQ(found("[1,2,3,4,5,6,7,8,9,10]").substr(0, 9), "/0=1@2 /1");
    std::vector<std::byte> little(100);
    EXPECT_FALSE(find_spans("{\"a\":1}", source, paths, little, out));
}

TEST(Agents, that_are_shipped_are_good) {
    int count = 0;
    for (const auto& file : fs::directory_iterator(SLMD_SOURCE "/models/agents")) {
        if (file.path().extension() != ".toml") continue;
        Memory m;
        const auto read = read_agent(file.path().c_str(), m.heap);
        EXPECT_TRUE(read) << read.error().text;
        count++;
    }
    EXPECT_GE(count, 9);
}

}  // namespace
}  // namespace slmd::agent
