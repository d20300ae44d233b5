// NAME.toml -> Agent. Strict: what is not understood is refused, with its line.
#include <stdio.h>
#include <string.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <new>

#include "agent/agent.h"
#include "agent/checks.h"
#include "agent/heap_toml.h"
#include "base/json.h"
#include "grammar/grammar.h"
#include "grammar/regex.h"
#include "hal/toml.h"

namespace slmd::agent {
namespace {

struct Reader : HeapToml {
    Agent agent{};
    const toml::node *prompt = nullptr, *system = nullptr, *output = nullptr, *source = nullptr;

    Reader(const char* file, grammar::Heap& h) : HeapToml{{file}, h} {}

    Result<void> root(const toml::table& t) {
        const toml::node *input = nullptr, *checks = nullptr, *examples = nullptr, *tools = nullptr;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "description")
                agent.description = TRY(text("description", node, 200));
            else if (k == "model")
                agent.model = TRY(text("model", node, 64));
            else if (k == "adapter")
                agent.adapter = TRY(text("adapter", node, Agent::adapter_bytes));
            else if (k == "system")
                system = &node;
            else if (k == "prompt")
                prompt = &node;
            else if (k == "input")
                input = &node;
            else if (k == "output")
                output = &node;
            else if (k == "check")
                checks = &node;
            else if (k == "tool")
                tools = &node;
            else if (k == "limits")
                TRY(limits(*TRY(table("limits", node))));
            else if (k == "confidence")
                TRY(confidence(*TRY(table("confidence", node))));
            else if (k == "escalate") {
                const auto v = node.value<std::string_view>();
                if (!v || (*v != "never" && *v != "fail" && *v != "unsure"))
                    return at(node, "escalate is \"never\", \"fail\" (what failed a check) or \"unsure\" (that too)");
                agent.escalate = *v == "never" ? Escalate::never : *v == "fail" ? Escalate::fail : Escalate::unsure;
            } else if (k == "remote")
                TRY(remote(*TRY(table("remote", node))));
            else if (k == "example")
                examples = &node;
            else
                return unknown(key,
                               "description, model, adapter, system, prompt, [input.NAME], [output], [[check]], "
                               "[[tool]], [limits], "
                               "[confidence], escalate, [remote], [[example]]");
        }
        for (const auto& [what, node] : {std::pair{"prompt", prompt}, {"[output]", output}, {"[input.NAME]", input}})
            if (node == nullptr) return error(t.source(), (std::string("there is no ") + what).c_str());
        TRY(fields(*TRY(table("input", *input))));
        TRY(outputs(*TRY(table("output", *output))));
        agent.prompt = TRY(pattern("prompt", *prompt));
        if (system != nullptr) agent.system = TRY(pattern("system", *system));
        for (const Field& f : agent.fields)
            if (agent.prompt.find("{" + std::string(f.name) + "}") == std::string_view::npos)
                return at(*prompt,
                          ("the prompt has no {" + std::string(f.name) + "}: the model would not see it").c_str());
        if ((agent.must_call || !agent.told) && tools == nullptr)
            return at(*output, "must_call and told go with [[tool]]");
        TRY(split(*prompt));
        if (tools != nullptr) TRY(read_tools(*TRY(list("tool", *tools, Agent::max_tools))));
        if (tools != nullptr && agent.remote.policy != Remote::never)
            return at(*tools, "an agent with [[tool]] works on the board: [remote] policy is \"never\"");
        if (checks != nullptr) TRY(read_checks(*TRY(list("check", *checks, Agent::max_checks))));
        if (examples != nullptr) TRY(read_examples(*TRY(list("example", *examples, Agent::max_examples))));
        return {};
    }

    // What stands before the first field is computed once, and what stands behind it for every call.
    Result<void> split(const toml::node& node) {
        std::size_t first = agent.prompt.size(), filled = 0;
        std::string_view name;
        for (const Field& f : agent.fields) {
            const std::string pattern = "{" + std::string(f.name) + "}";
            const std::size_t at = agent.prompt.find(pattern);
            for (std::size_t i = at; i != std::string_view::npos; i = agent.prompt.find(pattern, i + 1))
                filled += pattern.size();
            if (at < first) first = at, name = f.name;
        }
        agent.head = agent.prompt.substr(0, first);
        const std::size_t behind = agent.prompt.size() - first - filled;
        if (behind < 256) return {};
        const std::string text =
            "{" + std::string(name) + "} stands before " + std::to_string(behind) +
            " bytes that are the same for every call; put them before it, and they are computed once";
        agent.warning = TRY(keep(at(node, text.c_str()).text));
        return {};
    }

    Result<void> fields(const toml::table& t) {
        if (t.empty() || t.size() > Agent::max_fields) return at(t, "1 to 8 tables [input.NAME]");
        const auto out = TRY(many<Field>(t.size()));
        std::size_t n = 0;
        for (const auto& [key, node] : t) {
            Field& f = out[n++];
            if (!is_name(key.str()) || key.str().size() > 24 || key.str() == "labels")
                return error(key.source(),
                             "a field's name is letters, digits, - and _, at most 24, and not \"labels\"");
            f.name = TRY(keep(key.str()));
            const auto& fields = *TRY(table("input", node));
            const toml::node *min = nullptr, *max = nullptr;
            for (const auto& [k, value] : fields) {
                const auto v = value.value<std::string_view>();
                if (k.str() == "type") {
                    if (!v || (*v != "text" && *v != "line" && *v != "integer" && *v != "number"))
                        return at(value, "type is \"text\", \"line\" (no line breaks), \"integer\" or \"number\"");
                    f.type = *v == "text"      ? Field::text
                             : *v == "line"    ? Field::line
                             : *v == "integer" ? Field::integer
                                               : Field::number;
                } else if (k.str() == "min")
                    min = &value;
                else if (k.str() == "max")
                    max = &value;
                else
                    return unknown(k, "type, min, max");
            }
            const bool text = f.type == Field::text || f.type == Field::line;
            constexpr double exact = 9007199254740992;
            f.min = text ? 0 : -exact, f.max = text ? Agent::field_bytes : exact;
            const double low = f.min, high = f.max;
            if (min != nullptr) f.min = TRY(number("min", *min, low, high, text || f.type == Field::integer));
            if (max != nullptr) f.max = TRY(number("max", *max, low, high, text || f.type == Field::integer));
            if (f.min > f.max) return at(*min, "min is above max");
        }
        agent.fields = out;
        return {};
    }

    Result<void> outputs(const toml::table& t) {
        int ways = 0;
        bool none = false;
        const toml::array* labels = nullptr;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "choice") {
                ways++;
                agent.output = Output::choice;
                labels = node.as_array();
                if (labels == nullptr || labels->size() < 2 || labels->size() > Agent::max_labels)
                    return at(node, "choice is a list of 2 to 512 labels");
            } else if (k == "none") {
                if (!node.is_boolean()) return at(node, "none is true or false");
                none = node.value_or(false);
            } else if (k == "schema") {
                ways++;
                agent.output = Output::schema;
                agent.schema = TRY(text("schema", node, grammar::max_source));
                TRY(compiles(node));
            } else if (k == "text") {
                ways++;
                agent.output = Output::text;
                agent.text_bytes = static_cast<std::size_t>(TRY(number("text", node, 1, 16384, true)));
            } else if (k == "must_call") {
                if (!node.is_boolean()) return at(node, "must_call is true or false");
                agent.must_call = node.value_or(false);
            } else if (k == "told") {
                if (!node.is_boolean()) return at(node, "told is true or false");
                agent.told = node.value_or(true);
            } else if (k == "source")
                source = &node;
            else
                return unknown(key, "choice, none, schema, text, must_call, told, source");
        }
        if (ways != 1) return at(t, "[output] has exactly one of choice, schema and text");
        if (none && labels == nullptr) return at(t, "none goes with choice");
        if (labels != nullptr) TRY(read_labels(*labels, none));
        if (source != nullptr) {
            const auto v = source->value<std::string_view>();
            const auto field = std::find_if(agent.fields.begin(), agent.fields.end(),
                                            [&](const Field& f) { return v && f.name == *v; });
            if (field == agent.fields.end()) return at(*source, "source is the name of an input field");
            agent.source = static_cast<std::size_t>(field - agent.fields.begin());
        } else if (agent.fields.size() > 1 && agent.output == Output::schema &&
                   agent.schema.find("\"source\"") != std::string_view::npos) {
            return at(t, "there are several input fields: source = \"NAME\" says in which one the values stand");
        }
        return {};
    }

    // What the schema uses is supported, and small enough.
    Result<void> compiles(const toml::node& node) {
        const std::unique_ptr<std::byte[]> compiled(new (std::nothrow) std::byte[grammar::heap_bytes]),
            scratch(new (std::nothrow) std::byte[grammar::scratch_bytes]);
        if (!compiled || !scratch) return full();
        grammar::Heap kept({compiled.get(), grammar::heap_bytes}), temporary({scratch.get(), grammar::scratch_bytes});
        std::string copy(agent.schema);
        if (const auto grammar = grammar::compile_schema(copy, {}, kept, temporary); !grammar)
            return at(node, grammar.error().text);
        return {};
    }

    Result<void> read_labels(const toml::array& list, bool none) {
        const auto labels = TRY(many<Label>(list.size() + none));
        std::size_t n = 0;
        for (const toml::node& node : list) {
            Label& label = labels[n++];
            const toml::node* name = &node;
            if (const auto* t = node.as_table()) {
                name = t->get("label");
                for (const auto& [key, value] : *t) {
                    if (key.str() == "about")
                        label.about = TRY(text("about", value, 400));
                    else if (key.str() == "prior")
                        label.prior = static_cast<float>(TRY(number("prior", value, 1e-6, 1e6, false)));
                    else if (key.str() != "label")
                        return unknown(key, "label, about, prior");
                }
            }
            if (name == nullptr || !name->is_string())
                return at(node, "a label is a text, or { label = ..., about = ..., prior = ... }");
            label.name = TRY(text("a label", *name, Agent::label_bytes));
            TRY(check_label(labels.first(n), *name));
        }
        if (none) labels[n++].name = "none", TRY(check_label(labels, list));
        agent.labels = labels;
        return {};
    }
    Result<void> check_label(std::span<const Label> labels, const toml::node& node) const {
        const std::string_view name = labels.back().name;
        if (name.empty()) return at(node, "a label is empty");
        if (std::any_of(name.begin(), name.end(),
                        [](char c) { return static_cast<unsigned char>(c) < 0x20 || c == 0x7f || c == '|'; }))
            return at(node, "a label holds a control character or a |");
        for (const Label& l : labels.first(labels.size() - 1))
            if (l.name == name) return at(node, ("two labels are \"" + std::string(name) + "\"").c_str());
        return {};
    }

    // {labels} is filled in here, {field} for each call. What looks like a field and is none is refused.
    Result<std::string_view> pattern(const char* name, const toml::node& node) {
        const auto* s = node.as_string();
        if (s == nullptr) return at(node, (std::string(name) + " is a text in quotes").c_str());
        std::string out;
        const std::string& in = s->get();
        for (std::size_t i = 0; i < in.size(); i++) {
            const std::size_t end = in[i] == '{' ? in.find('}', i) : std::string::npos;
            const std::string_view inside =
                end == std::string::npos ? std::string_view{} : std::string_view(in).substr(i + 1, end - i - 1);
            if (!is_name(inside)) {
                out += in[i];
            } else if (inside == "labels" && agent.output == Output::choice) {
                out += listed();
                i = end;
            } else if (name[0] == 's') {
                return at(node, "system is the same for every call: fields, {NAME}, go into the prompt");
            } else if (std::any_of(agent.fields.begin(), agent.fields.end(),
                                   [&](const Field& f) { return f.name == inside; })) {
                out += '{';
            } else {
                return at(node, ("{" + std::string(inside) + "} is no input field; [input." + std::string(inside) +
                                 "] would make it one")
                                    .c_str());
            }
        }
        // At its end a text block has a line break that nobody means.
        while (!out.empty() && (out.back() == '\n' || out.back() == ' ')) out.pop_back();
        if (out.empty()) return at(node, (std::string(name) + " is empty").c_str());
        if (out.size() > 32768) return at(node, (std::string(name) + " is at most 32768 bytes").c_str());
        return keep(out);
    }
    // A line for each where something is said about them, else one after the other.
    std::string listed() const {
        const bool lines =
            std::any_of(agent.labels.begin(), agent.labels.end(), [](const Label& l) { return !l.about.empty(); });
        std::string out;
        for (const Label& l : agent.labels) {
            if (!out.empty()) out += lines ? "\n" : ", ";
            if (lines) out += "- ";
            out += l.name;
            if (!l.about.empty()) out.append(": ").append(l.about);
        }
        return out;
    }

    Result<void> limits(const toml::table& t) {
        for (const auto& [key, node] : t)
            if (key.str() == "max_tokens")
                agent.max_tokens = static_cast<int>(TRY(number("max_tokens", node, 1, 32768, true)));
            else if (key.str() == "deadline_ms")
                agent.deadline_ms = static_cast<std::int64_t>(TRY(number("deadline_ms", node, 1, 86400000, true)));
            else if (key.str() == "steps")
                agent.steps = static_cast<int>(TRY(number("steps", node, 1, Agent::max_steps, true)));
            else
                return unknown(key, "max_tokens, deadline_ms, steps");
        return {};
    }
    Result<void> confidence(const toml::table& t) {
        for (const auto& [key, node] : t)
            if (key.str() == "threshold")
                agent.threshold = static_cast<float>(TRY(number("threshold", node, 0, 1, false)));
            else
                return unknown(key, "threshold");
        return {};
    }

    Result<const toml::array*> texts(const toml::node& node, std::size_t most) const {
        const auto* const list = node.as_array();
        if (list == nullptr || list->size() > most)
            return at(node, ("a list of at most " + std::to_string(most) + " texts").c_str());
        return list;
    }

    Result<void> remote(const toml::table& t) {
        Remote& r = agent.remote;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            const auto v = node.value<std::string_view>();
            const auto flag = node.as_boolean();
            if (k == "policy") {
                if (!v || (*v != "never" && *v != "redacted" && *v != "allowed"))
                    return at(node, "policy is \"never\", \"redacted\" (secrets are taken out) or \"allowed\"");
                r.policy = *v == "never" ? Remote::never : *v == "redacted" ? Remote::redacted : Remote::allowed;
            } else if (k == "wait" || k == "learn") {
                if (flag == nullptr) return at(node, "wait and learn are true or false");
                (k == "wait" ? r.wait : r.learn) = flag->get();
            } else if (k == "priority")
                r.priority = static_cast<int>(TRY(number("priority", node, -100, 100, true)));
            else if (k == "wait_hours")
                r.wait_ms = static_cast<std::int64_t>(TRY(number("wait_hours", node, 0.01, 8760, false)) * 3'600'000);
            else if (k == "terms") {
                const toml::array& words = *TRY(texts(node, Agent::max_terms));
                const auto terms = TRY(many<std::string_view>(words.size()));
                for (std::size_t i = 0; i < words.size(); i++) terms[i] = TRY(text("terms", words[i], 64));
                r.terms = terms;
            } else if (k == "patterns") {
                const toml::array& list = *TRY(texts(node, Agent::max_patterns));
                const auto patterns = TRY(many<grammar::Automaton>(list.size()));
                for (std::size_t i = 0; i < list.size(); i++) {
                    const auto one = list[i].value<std::string_view>();
                    if (!one) return at(list[i], "patterns is a list of regular expressions");
                    const auto compiled = grammar::regex(*one, true, grammar::Encoding::utf8, heap);
                    if (!compiled) return at(list[i], compiled.error().text);
                    patterns[i] = compiled.value();
                    if (patterns[i].states > 0 && patterns[i].label[0] != 0)
                        return at(list[i], "the pattern matches the empty text, which is everywhere");
                }
                r.patterns = patterns;
            } else
                return unknown(key, "policy, wait, wait_hours, priority, learn, terms, patterns");
        }
        return {};
    }

    Result<void> read_checks(const toml::array& list) {
        const auto checks = TRY(many<Check>(list.size()));
        for (std::size_t i = 0; i < list.size(); i++) {
            checks[i] = TRY(read_check(*this, *list[i].as_table(), heap));
            if (!agent.tools.empty() && agent.steps == 1)
                return at(list[i], "a check looks at words, and with steps = 1 none are said after a call");
            if (checks[i].kind == CheckKind::agree && !agent.tools.empty())
                return at(list[i], "agree asks again, and with [[tool]] the board would be switched again");
        }
        agent.checks = checks;
        return {};
    }

    Result<void> read_tools(const toml::array& list) {
        if (agent.output != Output::text)
            return at(list, "[[tool]] goes with output = { text = BYTES }: what is said when all is done");
        const auto tools = TRY(many<Tool>(list.size()));
        std::size_t n = 0;
        for (const toml::node& node : list) {
            Tool& tool = tools[n++];
            const toml::node *what = nullptr, *only_output = nullptr;
            for (const auto& [key, value] : *node.as_table()) {
                const std::string_view k = key.str();
                if (k == "name")
                    tool.name = TRY(text("name", value, Agent::name_bytes));
                else if (k == "description")
                    tool.description = TRY(text("description", value, 400));
                else if (k == "output" || k == "pin" || k == "hardware") {
                    if (what != nullptr) return at(node, "a tool has one of output, pin and hardware");
                    what = &value;
                    tool.kind = k == "output" ? Tool::output : k == "pin" ? Tool::pin : Tool::hardware;
                } else if (k == "max_ms") {
                    only_output = &value;
                    tool.max_ms = static_cast<int>(TRY(number("max_ms", value, 1, max_pulse_ms, true)));
                } else if (k == "max_times") {
                    only_output = &value;
                    tool.max_times = static_cast<int>(TRY(number("max_times", value, 1, max_pulses, true)));
                } else if (k == "if") {
                    only_output = &value;
                    TRY(read_conditions(*TRY(table("if", value)), tool));
                } else if (k == "absent") {
                    if (!value.is_boolean()) return at(value, "absent is true or false");
                    tool.absent = value.value_or(false);
                } else
                    return unknown(key, "name, description, output, pin, hardware, max_ms, max_times, if, absent");
            }
            if (!is_name(tool.name)) return at(node, "a tool's name is letters, digits, - and _, at most 32");
            if (what == nullptr)
                return at(node, "a tool has one of output, pin and hardware: a name, or a list of names");
            if (only_output != nullptr && tool.kind != Tool::output)
                return at(*only_output, "max_ms, max_times and if go with output");
            tool.subjects = TRY(read_subjects(*what));
            for (const Tool& other : tools.first(n - 1))
                if (other.name == tool.name)
                    return at(node, ("two tools are called " + std::string(tool.name)).c_str());
        }
        agent.tools = tools;
        std::string json;
        for (const Tool& tool : agent.tools) describe(tool, json);
        agent.tool_list = TRY(keep("[" + json + "]"));
        return {};
    }
    Result<void> read_conditions(const toml::table& t, Tool& tool) {
        for (const auto& [key, node] : t) {
            if (key.str() != "hardware" && key.str() != "pin") return unknown(key, "hardware, pin");
            (key.str() == "pin" ? tool.if_pins : tool.if_hardware) = TRY(read_subjects(node));
        }
        return {};
    }
    static void list_names(std::span<const std::string_view> names, std::string& out) {
        out += "{\"enum\":[";
        for (const std::string_view name : names) {
            if (out.back() != '[') out += ',';
            write_string(name, out);
        }
        out += "]}";
    }
    // One of several ways to say what must be so: a name, and what goes with it.
    static void describe_condition(std::span<const std::string_view> names, const char* key, const char* type,
                                   std::string& out) {
        if (names.empty()) return;
        if (out.back() != '[') out += ',';
        out += std::string("{\"type\":\"object\",\"additionalProperties\":false,\"required\":[\"name\",\"") + key +
               "\"],\"properties\":{\"name\":";
        list_names(names, out);
        out += std::string(",\"") + key + "\":{\"type\":\"" + type + "\"}}}";
    }
    static void describe(const Tool& tool, std::string& out) {
        out += out.empty() ? "{\"name\":" : ",{\"name\":";
        write_string(tool.name, out);
        if (!tool.description.empty()) write_string(tool.description, out += ",\"description\":");
        std::string properties, required;
        if (tool.subjects.size() > 1) {
            properties += "\"name\":";
            list_names(tool.subjects, properties);
            required += "\"name\"";
        }
        if (tool.kind == Tool::output) {
            if (!properties.empty()) properties += ',', required += ',';
            properties += "\"on\":{\"type\":\"boolean\"}";
            if (tool.max_ms > 0)
                properties +=
                    ",\"ms\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":" + std::to_string(tool.max_ms) + "}";
            if (tool.max_times > 0)
                properties +=
                    ",\"times\":{\"type\":\"integer\",\"minimum\":1,\"maximum\":" + std::to_string(tool.max_times) +
                    "}";
            if (!tool.if_hardware.empty() || !tool.if_pins.empty()) {
                properties += ",\"if\":{\"anyOf\":[";
                describe_condition(tool.if_hardware, "above", "number", properties);
                describe_condition(tool.if_hardware, "below", "number", properties);
                describe_condition(tool.if_pins, "on", "boolean", properties);
                properties += "]}";
            }
            required += "\"on\"";
        }
        out += ",\"parameters\":{\"type\":\"object\",\"properties\":{" + properties + "}";
        if (!required.empty()) out += ",\"required\":[" + required + "]";
        out += "}}";
    }
    Result<std::span<const std::string_view>> read_subjects(const toml::node& node) {
        const auto* const list = node.as_array();
        const std::size_t count = list == nullptr ? 1 : list->size();
        if (count == 0 || count > Agent::max_subjects) return at(node, "1 to 16 names");
        const auto names = TRY(many<std::string_view>(count));
        for (std::size_t i = 0; i < count; i++) {
            const toml::node& name = list == nullptr ? node : (*list)[i];
            names[i] = TRY(text("a line or a reading", name, 23));
            if (names[i].empty()) return at(name, "the name of an output, a line or a reading of slmd is empty");
        }
        return std::span<const std::string_view>(names);
    }

    Result<void> read_examples(const toml::array& list) {
        const auto examples = TRY(many<Example>(list.size()));
        const auto shots = TRY(many<Shot>(Agent::max_shots));
        std::size_t n = 0, shown = 0;
        for (const toml::node& node : list) {
            Example& e = examples[n++];
            const toml::node *input = nullptr, *answer = nullptr;
            for (const auto& [key, value] : *node.as_table()) {
                if (key.str() == "input")
                    input = &value;
                else if (key.str() == "output")
                    answer = &value;
                else if (key.str() == "show") {
                    if (!value.is_boolean()) return at(value, "show is true or false");
                    e.shown = value.value_or(false);
                } else
                    return unknown(key, "input, output, show");
            }
            if (input == nullptr || answer == nullptr) return at(node, "an example has an input and an output");
            e.output = TRY(text("output", *answer, Agent::field_bytes));
            TRY(check_output(e.output, *answer));
            std::string written;
            if (const auto* t = input->as_table())
                TRY(as_json(*t, written));
            else if (agent.fields.size() > 1)
                return at(*input, "there are several input fields: input is a table, { name = ..., ... }");
            else
                written = TRY(text("input", *input, Agent::field_bytes));
            e.input = TRY(keep(written));
            std::string_view values[Agent::max_fields];
            const bool object = input->is_table();
            if (auto read = read_input(agent, written, object, values); !read) return at(*input, read.error().text);
            if (!e.shown) continue;
            if (shown == shots.size()) return at(node, "at most 16 examples are shown to the model");
            std::string room(65536, 0);
            shots[shown].prompt = TRY(keep(TRY(fill_in(agent, agent.prompt, values, room))));
            shots[shown++].answer = e.output;
        }
        agent.examples = examples;
        agent.shots = shots.first(shown);
        return {};
    }
    Result<void> check_output(std::string_view written, const toml::node& node) const {
        if (agent.output == Output::choice &&
            std::none_of(agent.labels.begin(), agent.labels.end(), [&](const Label& l) { return l.name == written; }))
            return at(node, ("no label is \"" + std::string(written) + "\"").c_str());
        if (agent.output == Output::schema) {
            const std::unique_ptr<JsonNode[]> nodes(new (std::nothrow) JsonNode[4096]);
            std::string copy(written);
            JsonReader reader({nodes.get(), nodes ? 4096u : 0u}, 48);
            if (auto read = reader.parse(copy); !read) return at(node, read.error().text);
        }
        return {};
    }
    Result<void> as_json(const toml::table& t, std::string& out) const {
        for (const auto& [key, value] : t) {
            out += out.empty() ? '{' : ',';
            write_string(key.str(), out);
            out += ':';
            if (const auto* s = value.as_string()) {
                write_string(s->get(), out);
            } else if (const auto n = value.value<double>(); n && !value.is_boolean()) {
                char text[32];
                snprintf(text, sizeof text, "%.15g", *n);
                out += text;
            } else {
                return at(value, "a field is a text or a number");
            }
        }
        if (out.empty()) out += '{';
        out += '}';
        return {};
    }
    static void write_string(std::string_view s, std::string& out) {
        char escape[6];
        out += '"';
        for (const char& c : s) out += json_written(c, escape);
        out += '"';
    }
};

}  // namespace

Result<Agent> read_agent(const char* path, grammar::Heap& heap) {
    const std::size_t mark = heap.used();
    Reader reader(path, heap);
    const auto read = [&]() -> Result<void> {
        reader.agent.name = TRY(reader.keep(TRY(reader.name_of_file())));
        return reader.root(TRY(reader.parse()));
    }();
    if (!read) {
        heap.release(mark);
        return read.error();
    }
    return reader.agent;
}

}  // namespace slmd::agent
