// From what was handed in to the text that the model reads.
#include <algorithm>
#include <cmath>

#include "agent/agent.h"
#include "agent/fill.h"
#include "base/json.h"
#include "base/utf8.h"

namespace slmd::agent {
namespace {

Result<void> check_value(const Field& field, std::string_view value) {
    const auto name = [&] { return static_cast<int>(field.name.size()); };
    if (field.type == Field::text || field.type == Field::line) {
        if (!utf8_valid(value))
            return Error::make(Code::invalid_characters, "%.*s: not UTF-8", name(), field.name.data());
        if (value.find_first_not_of(" \t\r\n") == std::string_view::npos)
            return Error::make(Code::incorrect_parameters, "%.*s is empty", name(), field.name.data());
        if (static_cast<double>(value.size()) < field.min)
            return Error::make(Code::incorrect_parameters, "%.*s is %zu bytes; at least %.0f", name(),
                               field.name.data(), value.size(), field.min);
        if (static_cast<double>(value.size()) > field.max)
            return Error::make(Code::text_too_long, "%.*s is %zu bytes; at most %.0f", name(), field.name.data(),
                               value.size(), field.max);
        if (field.type == Field::line && value.find_first_of("\r\n") != std::string_view::npos)
            return Error::make(Code::invalid_characters, "%.*s is one line: no line breaks in it", name(),
                               field.name.data());
        return {};
    }
    // A number as JSON has it: the same reader decides.
    JsonNode node[1];
    char copy[40];
    if (value.size() < sizeof copy) {
        std::copy(value.begin(), value.end(), copy);
        JsonReader reader(node, 1);
        if (reader.parse({copy, value.size()}) && node[0].type == JsonType::number &&
            (field.type == Field::number || node[0].number == std::floor(node[0].number))) {
            if (node[0].number >= field.min && node[0].number <= field.max) return {};
            return Error::make(Code::incorrect_parameters, "%.*s is %g to %g", name(), field.name.data(), field.min,
                               field.max);
        }
    }
    return Error::make(Code::incorrect_parameters, "%.*s is a %s", name(), field.name.data(),
                       field.type == Field::integer ? "whole number" : "number");
}

}  // namespace

Result<void> read_input(const Agent& agent, std::span<char> written, bool object,
                        std::span<std::string_view, Agent::max_fields> values) {
    std::fill(values.begin(), values.end(), std::string_view{});
    if (agent.fields.size() == 1 && !object) {
        values[0] = {written.data(), written.size()};
        return check_value(agent.fields[0], values[0]);
    }
    constexpr int max_nodes = 64;
    JsonNode nodes[max_nodes];
    JsonReader reader(nodes, 2);
    if (auto read = reader.parse(written); !read)
        return Error::make(Code::incorrect_parameters, "the input is a JSON object of fields: %s", read.error().text);
    const JsonNode& root = reader.root();
    if (root.type != JsonType::object)
        return Error::make(Code::incorrect_parameters, "the input is a JSON object with a member for each field");
    for (int i = reader.first(root); i < root.next; i = reader.node(i).next) {
        const JsonNode& member = reader.node(i);
        const auto field = std::find_if(agent.fields.begin(), agent.fields.end(),
                                        [&](const Field& f) { return f.name == member.key; });
        if (field == agent.fields.end())
            return Error::make(Code::incorrect_parameters, "the agent has no field \"%.*s\"",
                               static_cast<int>(std::min<std::size_t>(member.key.size(), 40)), member.key.data());
        const bool text = field->type == Field::text || field->type == Field::line;
        if (member.type != (text ? JsonType::string : JsonType::number))
            return Error::make(Code::incorrect_parameters, "%.*s is a %s", static_cast<int>(field->name.size()),
                               field->name.data(), text ? "text" : "number");
        values[static_cast<std::size_t>(field - agent.fields.begin())] = member.text;
        TRY(check_value(*field, member.text));
    }
    for (std::size_t f = 0; f < agent.fields.size(); f++)
        if (values[f].data() == nullptr)
            return Error::make(Code::incorrect_parameters, "%.*s is missing",
                               static_cast<int>(agent.fields[f].name.size()), agent.fields[f].name.data());
    return {};
}

Result<std::string_view> fill_in(const Agent& agent, std::string_view prompt,
                                 std::span<const std::string_view, Agent::max_fields> values, std::span<char> out) {
    std::size_t size = 0;
    bool full = false;
    const auto put = [&](std::string_view text) {
        full = full || text.size() > out.size() - size;
        if (full) return;
        std::copy(text.begin(), text.end(), out.begin() + static_cast<std::ptrdiff_t>(size));
        size += text.size();
    };
    fill(prompt, put, [&](std::string_view name) -> std::optional<std::string_view> {
        const auto field =
            std::find_if(agent.fields.begin(), agent.fields.end(), [&](const Field& f) { return f.name == name; });
        if (field == agent.fields.end()) return {};
        return values[static_cast<std::size_t>(field - agent.fields.begin())];
    });
    if (full) return Error::make(Code::text_too_long, "the prompt with its input is over %zu bytes", out.size());
    return std::string_view{out.data(), size};
}

}  // namespace slmd::agent
