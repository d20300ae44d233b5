#include "agent/calls.h"

#include <algorithm>

#include "base/json.h"

namespace slmd::agent {
namespace {

Error wrong(const char* what) { return Error::make(Code::incorrect_parameters, "the answer's calls: %s", what); }

Result<void> read_arguments(Call& call) {
    constexpr std::size_t most = 256;  // whatever the tool's schema lets through fits
    char text[most];
    if (call.arguments.size() > most) return wrong("arguments are too long");
    std::copy(call.arguments.begin(), call.arguments.end(), text);
    JsonNode nodes[8];
    JsonReader reader(nodes, 2);
    TRY(reader.parse({text, call.arguments.size()}));
    const JsonNode& root = reader.root();
    if (root.type != JsonType::object) return wrong("arguments are an object");
    const auto& subjects = call.tool->subjects;
    const JsonNode *name = reader.find(root, "name"), *on = reader.find(root, "on"), *ms = reader.find(root, "ms");
    if (subjects.size() == 1) {
        call.subject = subjects[0];
    } else {
        const auto found = name == nullptr ? subjects.end() : std::find(subjects.begin(), subjects.end(), name->text);
        if (found == subjects.end()) return wrong("none of the tool's names");
        call.subject = *found;
    }
    if (call.tool->kind != Tool::output) return {};
    if (on == nullptr || on->type != JsonType::boolean) return wrong("on is true or false");
    call.on = on->truth;
    if (ms == nullptr) return {};
    if (ms->type != JsonType::number || !(ms->number >= 1 && ms->number <= call.tool->max_ms)) return wrong("ms");
    call.ms = static_cast<int>(ms->number);
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
        call = {&*tool, {}, arguments->text};
        TRY(read_arguments(call));
    }
    return out;
}

}  // namespace slmd::agent
