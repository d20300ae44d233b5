// Functions that may be called: what the model is told, what it may answer, and what is wrong with a description.
#include "task/tools.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <vector>

#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "task/generate.h"

namespace slmd::task {
namespace {

using nlohmann::json;

struct Described {
    std::string system, schema, error;
    std::vector<std::byte> block = std::vector<std::byte>(1 << 20), scratch = std::vector<std::byte>(4 << 20),
                           memory = std::vector<std::byte>(4 << 20);

    Described(std::string tools, std::string_view choice = "", std::string_view before = "", std::size_t room = 65536,
              CallForm form = CallForm::listed) {
        std::vector<char> out(room);
        const auto r = describe_tools(tools, choice, before, form, out);
        if (!r) error = r.error().text;
        if (r) system = r.value().system, schema = r.value().schema;
    }
    // The whole text is an answer.
    bool takes(const std::string& answer) {
        grammar::Heap heap(block), temporary(scratch);
        std::string copy = schema;
        const auto compiled = grammar::compile_schema(copy, {}, heap, temporary);
        EXPECT_TRUE(compiled) << compiled.error().text << "\n" << schema;
        if (!compiled) return false;
        Arena counting;
        grammar::Matcher m;
        m.lay_out(counting);
        Arena arena({memory.data(), memory.size()});
        EXPECT_LE(counting.used(), memory.size());
        m.lay_out(arena);
        m.open(compiled.value());
        return m.take(answer) && m.accepting();
    }
};

constexpr char weather[] =
    R"([{"type":"function","function":{"name":"get_weather","description":"Now, \"here\"","strict":true,
         "parameters":{"type":"object","properties":{"city":{"type":"string"},"unit":{"enum":["C","F"]}},"required":["city"]}}},
        {"name":"beep"}])";

TEST(Tools, are_told_to_the_model_and_bind_its_answer) {
    Described d(weather, "auto", "Be brief.");
    ASSERT_EQ(d.error, "");
    EXPECT_EQ(d.system.substr(0, 19), "Be brief.\n\n# Tools\n");
    EXPECT_NE(
        d.system.find(
            R"({"type": "function", "function": {"name": "get_weather", "description": "Now, \"here\"", "parameters": {"type":)"),
        std::string::npos)
        << d.system;
    EXPECT_NE(d.system.find(R"("name": "beep", "parameters": {}}})"), std::string::npos);
    EXPECT_TRUE(d.takes(R"({"text":"It is raining."})"));
    EXPECT_TRUE(d.takes(R"({"calls":[{"name":"get_weather","arguments":{"city":"Rome"}}]})"));
    EXPECT_TRUE(d.takes(
        R"({"calls":[{"name":"beep","arguments":{}},{"name":"get_weather","arguments":{"city":"Rome","unit":"F"}}]})"));
    EXPECT_FALSE(d.takes(R"({"calls":[]})"));
    EXPECT_FALSE(d.takes(R"({"calls":[{"name":"boop","arguments":{}}]})"));
    EXPECT_FALSE(d.takes(R"({"calls":[{"name":"get_weather","arguments":{"unit":"F"}}]})"));
    EXPECT_FALSE(d.takes(R"({"calls":[{"name":"get_weather","arguments":{"city":"Rome","country":"Italy"}}]})"));
    EXPECT_FALSE(d.takes(R"({"calls":[{"name":"beep","arguments":{"x":1}}]})"));
    std::string nine = R"({"calls":[)";
    for (int i = 0; i < 9; i++) nine += std::string(i ? "," : "") + R"({"name":"beep","arguments":{}})";
    EXPECT_FALSE(d.takes(nine + "]}"));
}

struct Text final : TextSink {
    std::string text;
    void append(std::string_view more) override { text += more; }
};

TEST(Tools, of_the_bare_form_are_called_alone_or_in_an_array_and_listed_as_they_come) {
    Described d(weather, "auto", "", 65536, CallForm::bare);
    const std::string beep = R"({"name":"beep","arguments":{}})",
                      rome = R"({"name":"get_weather","arguments":{"city":"Rome"}})";
    const auto listed = [](const std::string& answer, std::size_t step) {
        CallList list;
        Text out;
        for (std::size_t at = 0; at < answer.size(); at += step)
            list.append(std::string_view(answer).substr(at, step), out);
        list.end(out);
        return out.text;
    };
    for (const auto& [answer, list] : {std::pair{beep, "{\"calls\":[" + beep + "]}"},
                                       {rome, "{\"calls\":[" + rome + "]}"},
                                       {"[" + beep + "]", "{\"calls\":[" + beep + "]}"},
                                       {"[" + rome + "," + beep + "]", "{\"calls\":[" + rome + "," + beep + "]}"},
                                       {R"({"text":"name"})", R"({"text":"name"})"},
                                       {R"({"text":""})", R"({"text":""})"}}) {
        EXPECT_TRUE(d.takes(answer)) << answer;
        EXPECT_EQ(bare_calls(list), answer == "[" + beep + "]" ? beep : answer);
        for (const std::size_t step : {1, 2, 3, 5, 1000}) EXPECT_EQ(listed(answer, step), list);
    }
    for (const std::string& bad : {"{\"calls\":[" + beep + "]}", std::string("[]"), "[" + beep, beep + beep})
        EXPECT_FALSE(d.takes(bad)) << bad;
    std::string nine = "[" + beep;
    for (int i = 1; i < 9; i++) nine += "," + beep;
    EXPECT_FALSE(d.takes(nine + "]"));
    EXPECT_FALSE(Described(weather, "beep", "", 65536, CallForm::bare).takes(rome));
    EXPECT_FALSE(Described(weather, "required", "", 65536, CallForm::bare).takes(R"({"text":"x"})"));
    EXPECT_EQ(listed("", 1), "");  // one that was cancelled
    EXPECT_EQ(bare_calls(R"({"calls":[{"name":"a","arguments":{"b":"},{\"\\","c":[1,2]}}]})"),
              R"({"name":"a","arguments":{"b":"},{\"\\","c":[1,2]}})");
    for (const char* text : {"", "It rains.", "{\"calls\":[", "{\"calls\":5}", "{\"calls\":[]}"})
        EXPECT_EQ(bare_calls(text), text);
}

TEST(Tools, choice_says_whether_and_which) {
    Described required(weather, "required");
    EXPECT_FALSE(required.takes(R"({"text":"x"})"));
    EXPECT_TRUE(required.takes(R"({"calls":[{"name":"beep","arguments":{}}]})"));
    EXPECT_EQ(required.system.find("{\"text\":"), std::string::npos);
    Described one(weather, "beep");
    EXPECT_TRUE(one.takes(R"({"calls":[{"name":"beep","arguments":{}}]})"));
    EXPECT_FALSE(one.takes(R"({"calls":[{"name":"get_weather","arguments":{"city":"Rome"}}]})"));
    Described none(weather, "none");
    EXPECT_EQ(none.schema, "");
    EXPECT_NE(none.system.find("get_weather"), std::string::npos);
    EXPECT_EQ(Described(weather, "nothing").error,
              "tool_choice is \"auto\", \"none\", \"required\" or the name of a tool");
}

TEST(Tools, all_of_many_can_be_called) {
    json many = json::array();
    for (int i = 0; i < 64; i++) many.push_back({{"name", "read_the_sensor_of_line_" + std::to_string(i)}});
    Described d(many.dump()), bare(many.dump(), "", "", 65536, CallForm::bare);
    ASSERT_EQ(d.error, "");
    for (int i = 0; i < 64; i++) {
        const std::string call = R"({"name":"read_the_sensor_of_line_)" + std::to_string(i) + R"(","arguments":{}})";
        EXPECT_TRUE(d.takes("{\"calls\":[" + call + "," + call + "]}")) << i;
        EXPECT_TRUE(bare.takes(call) && bare.takes("[" + call + "," + call + "]")) << i;
    }
    EXPECT_TRUE(d.takes(R"({"text":"x"})") && bare.takes(R"({"text":"x"})"));
}

// Whatever stands in the parameters, arguments are an object of what is named; further down, what their schemas say.
TEST(Tools, take_no_argument_that_is_not_described) {
    const auto takes = [](const std::string& parameters, const std::string& arguments) {
        Described d("[{\"name\":\"f\",\"parameters\":" + parameters + "}]");
        EXPECT_EQ(d.error, "");
        return d.takes(R"({"calls":[{"name":"f","arguments":)" + arguments + "}]}");
    };
    const std::string untyped = R"({"properties":{"type":{"type":"integer"}}})";
    EXPECT_TRUE(takes(untyped, R"({"type":5})"));
    EXPECT_FALSE(takes(untyped, "5"));
    EXPECT_FALSE(takes(untyped, R"({"x":5})"));
    const std::string deep =
        R"({"type":"object","properties":{"a":{"type":"object","properties":{"b":{"type":"integer"}},
            "additionalProperties":false},"free":{"type":"object"}}})";
    EXPECT_TRUE(takes(deep, R"({"a":{"b":1},"free":{"x":1}})"));
    EXPECT_FALSE(takes(deep, R"({"a":{"b":1,"c":2}})"));
    EXPECT_FALSE(takes(deep, R"({"z":1})"));
    EXPECT_TRUE(takes(R"({"type":"object","additionalProperties":{"type":"integer"}})", R"({"any":1})"));
    const std::string referring =
        R"({"type":"object","$defs":{"t":{"type":"integer"}},"properties":{"a":{"$ref":"#/$defs/t"}}})";
    EXPECT_TRUE(takes(referring, R"({"a":1})"));
    EXPECT_FALSE(takes(referring, R"({"a":"1"})"));
}

TEST(Tools, whose_parameters_cannot_be_obeyed_are_named) {
    const auto refused = [](const char* parameters) {
        Described d(std::string(R"([{"name":"beep"},{"name":"get.weather-2","parameters":)") + parameters + "}]");
        EXPECT_EQ(d.error, "");
        grammar::Heap heap(d.block), temporary(d.scratch);
        const auto compiled = grammar::compile_schema(d.schema, {}, heap, temporary);
        return compiled ? std::string() : std::string(compiled.error().text);
    };
    EXPECT_EQ(refused(R"({"properties":{"city":{"typ":"string"}}})"),
              "schema, #/$defs/get.weather-2/properties/city/typ: this keyword is not supported");
    EXPECT_EQ(refused(R"({"properties":{"city":{"$ref":"#/$defs/none"}}})"),
              "schema, #/$defs/get.weather-2/properties/city/$ref: refers to no schema of this document");
    EXPECT_NE(refused(R"({"properties":[}})"), "");
}

TEST(Tools, that_are_wrong_are_refused_by_their_number) {
    EXPECT_EQ(Described("{}").error, "tools is an array of functions");
    EXPECT_EQ(Described("[]").error, "tools is an array of functions");
    EXPECT_EQ(Described("[1]").error, "tools: number 1: it is an object");
    EXPECT_EQ(Described("[").error.substr(0, 7), "tools: ");
    EXPECT_EQ(Described(R"([{"name":"f"},{"name":"f"}])").error, "tools: two are called f");
    EXPECT_EQ(Described(R"([{"name":"a b"}])").error,
              "tools: number 1: name is letters, digits, _ - and ., at most 64");
    EXPECT_EQ(Described(R"([{"description":"x"}])").error,
              "tools: number 1: name is letters, digits, _ - and ., at most 64");
    EXPECT_EQ(Described(R"([{"name":"f","parameters":[]}])").error, "tools: number 1: parameters is a JSON Schema");
    EXPECT_EQ(
        Described(R"([{"name":"f"},{"name":"g","params":{}}])").error,
        "tools: number 2: unknown member \"params\"; known: type, function, name, description, parameters, strict");
    EXPECT_EQ(Described(R"([{"type":"web_search","function":{"name":"f"}}])").error,
              "tools: number 1: type is \"function\"");
    json many = json::array();
    for (int i = 0; i < 65; i++) many.push_back({{"name", "f" + std::to_string(i)}});
    EXPECT_EQ(Described(many.dump()).error, "tools: at most 64");
    many.erase(0);
    EXPECT_EQ(Described(many.dump()).error, "");
    EXPECT_EQ(Described(many.dump(), "", "", 2000).error, "the tools take more than 2000 bytes in the prompt");
    EXPECT_NE(Described("[{\"name\":\"f\",\"parameters\":" + std::string(5000, '[') + "}]").error, "");
}

}  // namespace
}  // namespace slmd::task
