#include "agent/calls.h"

#include <algorithm>

#include "base/json.h"

namespace slmd::agent {
namespace {

Error wrong(const char* what) { return Error::make(Code::incorrect_parameters, "the answer's calls: %s", what); }

// One of the tool's, which outlives the answer.
Result<std::string_view> one_of(std::span<const std::string_view> names, const JsonNode* name) {
    const auto found = name == nullptr ? names.end() : std::find(names.begin(), names.end(), name->text);
    if (found == names.end()) return wrong("none of the tool's names");
    return *found;
}

// {"name": READING, "above" or "below": NUMBER} or {"name": LINE, "on": true or false}
Result<void> read_condition(Call& call, const JsonReader& reader, const JsonNode& condition) {
    if (condition.type != JsonType::object) return wrong("if is an object");
    const JsonNode *name = reader.find(condition, "name"), *above = reader.find(condition, "above"),
                   *below = reader.find(condition, "below"), *on = reader.find(condition, "on");
    if ((above != nullptr) + (below != nullptr) + (on != nullptr) != 1)
        return wrong("if has one of above, below and on");
    if (on != nullptr) {
        call.of = TRY(one_of(call.tool->if_pins, name));
        if (on->type != JsonType::boolean) return wrong("on is true or false");
        call.when = on->truth ? Call::active : Call::inactive;
        return {};
    }
    const JsonNode& bound = above != nullptr ? *above : *below;
    if (bound.type != JsonType::number) return wrong("above and below are numbers");
    call.of = TRY(one_of(call.tool->if_hardware, name));
    call.when = above != nullptr ? Call::above : Call::below;
    call.bound = bound.number;
    return {};
}

Result<void> read_arguments(Call& call) {
    constexpr std::size_t most = 256;  // whatever the tool's schema lets through fits
    char text[most];
    if (call.arguments.size() > most) return wrong("arguments are too long");
    std::copy(call.arguments.begin(), call.arguments.end(), text);
    JsonNode nodes[12];
    JsonReader reader(nodes, 3);
    TRY(reader.parse({text, call.arguments.size()}));
    const JsonNode& root = reader.root();
    if (root.type != JsonType::object) return wrong("arguments are an object");
    const auto& subjects = call.tool->subjects;
    const JsonNode *on = reader.find(root, "on"), *ms = reader.find(root, "ms"), *times = reader.find(root, "times"),
                   *condition = reader.find(root, "if");
    call.subject = subjects.size() == 1 ? subjects[0] : TRY(one_of(subjects, reader.find(root, "name")));
    if (call.tool->kind != Tool::output) return {};
    if (on == nullptr || on->type != JsonType::boolean) return wrong("on is true or false");
    call.on = on->truth;
    if (condition != nullptr) TRY(read_condition(call, reader, *condition));
    const auto whole = [](const JsonNode* node, int largest, int& value) {
        if (node == nullptr) return true;
        if (node->type != JsonType::number || !(node->number >= 1 && node->number <= largest)) return false;
        value = static_cast<int>(node->number);
        return true;
    };
    if (!whole(ms, call.tool->max_ms, call.ms)) return wrong("ms");
    if (!whole(times, call.tool->max_times, call.times)) return wrong("times");
    return {};
}

}  // namespace

Result<Calls> read_calls(const Agent& agent, std::span<char> answer) {
    JsonNode nodes[2 + 3 * max_calls];
    JsonReader reader(nodes, 4);
    constexpr std::string_view left[] = {"arguments"};
    reader.leave(left);
    TRY(reader.parse(answer));
    const JsonNode& root = reader.root();
    if (root.type != JsonType::object) return wrong("it is an object");
    Calls out;
    if (const JsonNode* const text = reader.find(root, "text"); text != nullptr) return out.text = text->text, out;
    const JsonNode* const calls = reader.find(root, "calls");
    if (calls == nullptr || calls->type != JsonType::array) return wrong("neither calls nor text");
    for (int i = reader.first(*calls); i < calls->next; i = reader.node(i).next) {
        const JsonNode& node = reader.node(i);
        if (node.type != JsonType::object || out.count == max_calls) return wrong("at most 8 objects");
        const JsonNode *name = reader.find(node, "name"), *arguments = reader.find(node, "arguments");
        const auto tool = std::find_if(agent.tools.begin(), agent.tools.end(),
                                       [&](const Tool& t) { return name != nullptr && name->text == t.name; });
        if (tool == agent.tools.end() || arguments == nullptr) return wrong("no tool of the agent");
        Call& call = out.calls[out.count++];
        call.tool = &*tool;
        call.arguments = arguments->text;
        TRY(read_arguments(call));
    }
    return out;
}

}  // namespace slmd::agent
