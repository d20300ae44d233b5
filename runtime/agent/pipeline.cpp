#include "agent/pipeline.h"

#include <string.h>

#include <algorithm>
#include <charconv>

#include "agent/fill.h"
#include "agent/heap_toml.h"
#include "agent/pointer.h"
#include "base/json.h"

namespace slmd::agent {
namespace {

struct Reader : HeapToml {
    Pipeline pipeline{};

    Reader(const char* file, grammar::Heap& h) : HeapToml{{file}, h} {}

    Result<void> root(const toml::table& t) {
        const toml::array* steps = nullptr;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "description")
                pipeline.description = TRY(text("description", node, 200));
            else if (k == "limits")
                TRY(limits(*TRY(table("limits", node))));
            else if (k == "step")
                steps = TRY(list("step", node, Pipeline::max_steps));
            else
                return unknown(key, "description, [limits], [[step]]");
        }
        return read_steps(*steps);
    }

    Result<void> limits(const toml::table& t) {
        for (const auto& [key, node] : t)
            if (key.str() == "steps")
                pipeline.runs = static_cast<int>(TRY(number("steps", node, 1, Pipeline::max_runs, true)));
            else if (key.str() == "tokens")
                pipeline.tokens = static_cast<int>(TRY(number("tokens", node, 1, 1e6, true)));
            else if (key.str() == "deadline_ms")
                pipeline.deadline_ms = static_cast<std::int64_t>(TRY(number("deadline_ms", node, 1, 86400000, true)));
            else
                return unknown(key, "steps, tokens, deadline_ms");
        return {};
    }

    Result<void> read_steps(const toml::array& list) {
        const auto steps = TRY(many<Step>(list.size()));
        pipeline.steps = steps;
        for (std::size_t i = 0; i < list.size(); i++) {  // their names first: rules point forwards, too
            const toml::node* const node = list[i].as_table()->get("name");
            if (node == nullptr) return at(list[i], "a step has a name");
            steps[i].name = TRY(text("name", *node, Agent::name_bytes));
            if (!is_name(steps[i].name) || steps[i].name == "input" || steps[i].name == "last" ||
                steps[i].name == "end")
                return at(*node,
                          "a step's name is letters, digits, - and _, and none of \"input\", \"last\" and \"end\"");
            for (std::size_t k = 0; k < i; k++)
                if (steps[k].name == steps[i].name)
                    return at(*node, ("two steps are called " + std::string(steps[i].name)).c_str());
        }
        for (std::size_t i = 0; i < list.size(); i++) TRY(read_step(*list[i].as_table(), i, steps[i]));
        return check_reached(list);
    }

    Result<void> read_step(const toml::table& t, std::size_t i, Step& step) {
        const toml::node *input = nullptr, *next = nullptr;
        step.line = static_cast<unsigned>(t.source().begin.line);
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "agent")
                step.agent = TRY(text("agent", node, Agent::name_bytes));
            else if (k == "input")
                input = &node;
            else if (k == "next")
                next = &node;
            else if (k == "join") {
                if (!node.is_boolean()) return at(node, "join is true or false");
                step.join = node.value_or(false);
            } else if (k != "name")
                return unknown(key, "name, agent, input, next, join");
        }
        if (step.agent.empty()) return at(t, "a step has an agent");
        TRY(read_inputs(input, step));
        if (next != nullptr) return read_rules(*next, step);
        // The next one of the file.
        if (i + 1 == pipeline.steps.size()) return {};
        const auto rules = TRY(many<Rule>(1));
        const auto to = TRY(many<std::uint8_t>(1));
        to[0] = static_cast<std::uint8_t>(i + 1);
        rules[0].to = to;
        step.rules = rules;
        return {};
    }

    // Without one, a step reads what led to it.
    Result<void> read_inputs(const toml::node* node, Step& step) {
        const auto* const fields = node == nullptr ? nullptr : node->as_table();
        const auto inputs = TRY(many<Step::Input>(fields == nullptr ? 1 : fields->size()));
        step.inputs = inputs;
        if (node == nullptr) {
            inputs[0].text = "{last}";
            return {};
        }
        if (fields == nullptr) {
            inputs[0].text = TRY(pattern(*node));
            return {};
        }
        if (fields->empty() || fields->size() > Agent::max_fields) return at(*node, "input has 1 to 8 fields");
        std::size_t n = 0;
        for (const auto& [key, value] : *fields) {
            inputs[n].field = TRY(keep(key.str()));
            inputs[n++].text = TRY(pattern(value));
        }
        return {};
    }
    Result<std::string_view> pattern(const toml::node& node) {
        const std::string_view s = TRY(text("input", node, 4096));
        for (std::size_t i = s.find('{'); i != std::string_view::npos; i = s.find('{', i + 1)) {
            const std::size_t end = s.find('}', i);
            if (end == std::string_view::npos) break;
            const std::string_view inside = s.substr(i + 1, end - i - 1), name = inside.substr(0, inside.find('/'));
            if (!is_name(name) || inside == "input" || inside == "last") continue;
            if (find(name) < 0) return at(node, ("{" + std::string(inside) + "}: there is no such step").c_str());
        }
        return s;
    }
    int find(std::string_view name) const {
        for (std::size_t i = 0; i < pipeline.steps.size(); i++)
            if (pipeline.steps[i].name == name) return static_cast<int>(i);
        return -1;
    }

    Result<void> read_rules(const toml::node& node, Step& step) {
        const auto* const several = node.as_array();
        const bool tables = several != nullptr && !several->empty() && (*several)[0].is_table();
        if (!tables) {  // next = "step", next = ["a", "b"]
            const auto rules = TRY(many<Rule>(1));
            rules[0].to = TRY(steps_of(node));
            step.rules = rules;
            return {};
        }
        const auto& list = *TRY(this->list("step.next", node, Pipeline::max_rules));
        const auto rules = TRY(many<Rule>(list.size()));
        for (std::size_t i = 0; i < list.size(); i++) TRY(read_rule(*list[i].as_table(), rules[i]));
        step.rules = rules;
        return {};
    }
    Result<void> read_rule(const toml::table& t, Rule& rule) {
        bool there = false, value = false;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "answer")
                rule.answer = TRY(text("answer", node, 400));
            else if (k == "verdict") {
                rule.verdict = TRY(text("verdict", node, 16));
                constexpr std::string_view known[] = {"pass", "fail", "unsure", "error"};
                if (std::find(std::begin(known), std::end(known), rule.verdict) == std::end(known))
                    return at(node, "verdict is \"pass\", \"fail\", \"unsure\" or \"error\"");
            } else if (k == "confidence_below")
                rule.below = TRY(number("confidence_below", node, 0, 1, false));
            else if (k == "confidence_least")
                rule.least = TRY(number("confidence_least", node, 0, 1, false));
            else if (k == "at") {
                rule.at = TRY(text("at", node, 200));
                if (!rule.at.starts_with('/')) return at(node, "at is a JSON Pointer, \"/total\"");
            } else if (k == "is")
                rule.is = TRY(text("is", node, 400)), value = true;
            else if (k == "above")
                rule.above = TRY(number("above", node, -1e300, 1e300, false)), value = true;
            else if (k == "under")
                rule.under = TRY(number("under", node, -1e300, 1e300, false)), value = true;
            else if (k == "to")
                rule.to = TRY(steps_of(node)), there = true;
            else
                return unknown(key, "answer, verdict, confidence_below, confidence_least, at, is, above, under, to");
        }
        if (!there) return at(t, "a rule says where to: to = \"STEP\", a list of steps, or \"end\"");
        if (value == rule.at.empty()) return at(t, "at goes with is, above or under, and they with at");
        return {};
    }
    Result<std::span<const std::uint8_t>> steps_of(const toml::node& node) {
        const auto* const several = node.as_array();
        const std::size_t n = several == nullptr ? 1 : several->size();
        if (n == 0 || n > Pipeline::max_branches) return at(node, "1 to 4 steps");
        const auto to = TRY(many<std::uint8_t>(n));
        for (std::size_t i = 0; i < n; i++) {
            const toml::node& one = several == nullptr ? node : (*several)[i];
            const auto name = one.value<std::string_view>();
            if (!name) return at(one, "a step is called by its name");
            if (*name == "end" && n == 1) return std::span<const std::uint8_t>{};
            const int step = find(*name);
            if (step < 0) return at(one, ("there is no step \"" + std::string(*name) + "\"").c_str());
            to[i] = static_cast<std::uint8_t>(step);
        }
        return std::span<const std::uint8_t>(to);
    }

    Result<void> check_reached(const toml::array& list) const {
        bool reached[Pipeline::max_steps] = {true};
        for (std::size_t round = 0; round < pipeline.steps.size(); round++)
            for (std::size_t i = 0; i < pipeline.steps.size(); i++)
                for (const Rule& rule : pipeline.steps[i].rules)
                    for (const std::uint8_t to : rule.to) reached[to] = reached[to] || reached[i];
        for (std::size_t i = 0; i < pipeline.steps.size(); i++)
            if (!reached[i])
                return at(list[i], ("no way leads to the step " + std::string(pipeline.steps[i].name)).c_str());
        return {};
    }
};

// The value at a JSON Pointer of an answer, as text; data() null: it is not there, or no number, text or truth.
std::string_view value_at(std::string_view answer, std::string_view pointer, std::span<std::byte> scratch) {
    constexpr std::size_t max_nodes = 1024;
    if (scratch.size() < answer.size() + (max_nodes + 1) * sizeof(JsonNode)) return {};
    auto* const nodes =
        reinterpret_cast<JsonNode*>((reinterpret_cast<std::uintptr_t>(scratch.data()) + alignof(JsonNode) - 1) /
                                    alignof(JsonNode) * alignof(JsonNode));
    for (std::size_t i = 0; i < max_nodes; i++) new (nodes + i) JsonNode;
    char* const text = reinterpret_cast<char*>(nodes + max_nodes);
    std::copy(answer.begin(), answer.end(), text);
    JsonReader reader({nodes, max_nodes}, 48);
    if (!reader.parse({text, answer.size()})) return {};
    int at = 0;
    while (!pointer.empty()) {
        const std::size_t end = std::min(pointer.find('/', 1), pointer.size());
        at = child_at(reader, at, pointer.substr(1, end - 1));
        pointer.remove_prefix(end);
        if (at < 0) return {};
    }
    const JsonNode* const node = &reader.node(at);
    switch (node->type) {
        case JsonType::string:
        case JsonType::number: return node->text.empty() ? std::string_view("", 0) : node->text;
        case JsonType::boolean: return node->truth ? "true" : "false";
        default: return {};
    }
}

// Text that is being written; what does not fit is noticed in the end.
struct Out {
    std::span<char> out;
    std::size_t size = 0;
    bool full = false;
    void put(std::string_view text, bool escaped) {
        char escape[6];
        for (const char& c : text) {
            const std::string_view code = escaped ? json_written(c, escape) : std::string_view(&c, 1);
            full = full || code.size() > out.size() - size;
            if (full) return;
            std::copy(code.begin(), code.end(), out.data() + size);
            size += code.size();
        }
    }
};

}  // namespace

bool is_pipeline(const char* path) {
    const auto parsed = hal::TomlFile{path}.parse();
    return parsed && parsed.value().contains("step");
}

Result<Pipeline> read_pipeline(const char* path, grammar::Heap& heap) {
    const std::size_t mark = heap.used();
    Reader reader(path, heap);
    const auto read = [&]() -> Result<void> {
        reader.pipeline.name = TRY(reader.keep(TRY(reader.name_of_file())));
        return reader.root(TRY(reader.parse()));
    }();
    if (!read) {
        heap.release(mark);
        return read.error();
    }
    return reader.pipeline;
}

Result<void> check_step(const Step& step, const Agent* agent) {
    const auto wrong = [&](const char* what, std::string_view name) {
        return Error::make(Code::incorrect_parameters, "step %.*s: %s \"%.*s\"", static_cast<int>(step.name.size()),
                           step.name.data(), what, static_cast<int>(name.size()), name.data());
    };
    if (agent == nullptr) return wrong("there is no agent", step.agent);
    const bool object = !step.inputs[0].field.empty();
    if (!object && agent->fields.size() > 1) return wrong("input is a table of the fields of the agent", step.agent);
    for (const Step::Input& in : step.inputs)
        if (object && std::none_of(agent->fields.begin(), agent->fields.end(),
                                   [&](const Field& f) { return f.name == in.field; }))
            return wrong("its agent has no field", in.field);
    for (const Field& f : agent->fields)
        if (object && std::none_of(step.inputs.begin(), step.inputs.end(),
                                   [&](const Step::Input& in) { return in.field == f.name; }))
            return wrong("input lacks the field", f.name);
    for (const Rule& r : step.rules)
        if (!r.answer.empty() && !agent->labels.empty() &&
            std::none_of(agent->labels.begin(), agent->labels.end(),
                         [&](const Label& l) { return l.name == r.answer; }))
            return wrong("its agent never answers", r.answer);
    return {};
}

bool holds(const Rule& rule, const Came& came, std::span<std::byte> scratch) {
    if (!rule.answer.empty() && rule.answer != came.answer) return false;
    // An error is what a rule has to ask for: it is no answer.
    if (rule.verdict.empty() ? came.verdict == "error" : rule.verdict != came.verdict) return false;
    if (!(came.confidence < rule.below && came.confidence >= rule.least)) return false;
    if (rule.at.empty()) return true;
    if (!came.json) return false;
    const std::string_view value = value_at(came.answer, rule.at, scratch);
    if (value.data() == nullptr || (!rule.is.empty() && value != rule.is)) return false;
    if (rule.above <= -1e308 && rule.under >= 1e308) return true;
    double number = 0;
    const auto [end, wrong] = std::from_chars(value.data(), value.data() + value.size(), number);
    return wrong == std::errc() && end == value.data() + value.size() && number > rule.above && number < rule.under;
}

Result<std::string_view> fill_in(const Pipeline& pipeline, const Step& step, const Agent& agent, std::string_view last,
                                 std::string_view input, std::span<const Came> came, std::span<char> out,
                                 std::span<std::byte> scratch) {
    Out o{out};
    const bool object = !step.inputs[0].field.empty();
    const char* comma = "";
    if (object) o.put("{", false);
    for (const Step::Input& in : step.inputs) {
        const auto field =
            std::find_if(agent.fields.begin(), agent.fields.end(), [&](const Field& f) { return f.name == in.field; });
        const bool quoted =
            object && (field == agent.fields.end() || field->type == Field::text || field->type == Field::line);
        if (object) {
            o.put(comma, false), o.put("\"", false), o.put(in.field, true), o.put(quoted ? "\":\"" : "\":", false);
            comma = ",";
        }
        fill(
            in.text, [&](std::string_view text) { o.put(text, quoted); },
            [&](std::string_view inside) -> std::optional<std::string_view> {
                if (inside == "input") return input;
                if (inside == "last") return last;
                const std::string_view name = inside.substr(0, inside.find('/'));
                const auto from = std::find_if(pipeline.steps.begin(), pipeline.steps.end(),
                                               [&](const Step& s) { return s.name == name; });
                if (name.empty() || from == pipeline.steps.end()) return {};
                const Came& c = came[static_cast<std::size_t>(from - pipeline.steps.begin())];
                const std::string_view pointer = inside.substr(name.size());
                return c.answer.data() == nullptr || pointer.empty() ? c.answer : value_at(c.answer, pointer, scratch);
            });
        if (quoted) o.put("\"", false);
    }
    if (object) o.put("}", false);
    if (o.full)
        return Error::make(Code::text_too_long, "step %.*s: its input is over %zu bytes",
                           static_cast<int>(step.name.size()), step.name.data(), out.size());
    return std::string_view{out.data(), o.size};
}

}  // namespace slmd::agent
