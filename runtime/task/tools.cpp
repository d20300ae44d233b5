#include "task/tools.h"

#include <algorithm>

#include "base/json.h"
#include "task/generate.h"

namespace slmd::task {
namespace {

struct Tool {
    std::string_view name, description, parameters;
};

// Text that is being written; what does not fit is noticed in the end.
class Writer {
  public:
    explicit Writer(std::span<char> out) : out_(out) {}
    Writer& put(std::string_view text) {
        full_ = full_ || text.size() > out_.size() - size_;
        if (full_) return *this;
        std::copy(text.begin(), text.end(), out_.begin() + static_cast<std::ptrdiff_t>(size_));
        size_ += text.size();
        return *this;
    }
    Writer& string(std::string_view text) {
        char escape[6];
        put("\"");
        for (const char& c : text) put(json_written(c, escape));
        return put("\"");
    }
    std::size_t size() const { return size_; }
    bool full() const { return full_; }

  private:
    std::span<char> out_;
    std::size_t size_ = 0;
    bool full_ = false;
};

bool is_name(std::string_view text) {
    return !text.empty() && text.size() <= 64 && std::all_of(text.begin(), text.end(), [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_' ||
               c == '.';
    });
}

Result<Tool> read_tool(const JsonReader& reader, const JsonNode& given, int number) {
    const auto wrong = [&](const char* what) {
        return Error::make(Code::incorrect_parameters, "tools: number %d: %s", number, what);
    };
    if (given.type != JsonType::object) return wrong("it is an object");
    const JsonNode* const inner = reader.find(given, "function");
    const JsonNode& f = inner != nullptr ? *inner : given;
    if (f.type != JsonType::object) return wrong("function is an object");
    for (const JsonNode* const object : {&given, &f})
        for (int i = reader.first(*object); i < object->next; i = reader.node(i).next) {
            const std::string_view key = reader.node(i).key;
            const bool known = key == "type" || key == "strict" || key == "function" || key == "name" ||
                               key == "description" || key == "parameters";
            if (!known)
                return Error::make(Code::incorrect_parameters,
                                   "tools: number %d: unknown member \"%.*s\"; known: type, function, name, "
                                   "description, parameters, strict",
                                   number, static_cast<int>(std::min<std::size_t>(key.size(), 40)), key.data());
        }
    const JsonNode *name = reader.find(f, "name"), *description = reader.find(f, "description"),
                   *parameters = reader.find(f, "parameters"), *type = reader.find(given, "type");
    if (type != nullptr && inner != nullptr && type->text != "function") return wrong("type is \"function\"");
    if (name == nullptr || name->type != JsonType::string || !is_name(name->text))
        return wrong("name is letters, digits, _ - and ., at most 64");
    if (description != nullptr && description->type != JsonType::string) return wrong("description is a text");
    if (parameters != nullptr && parameters->type != JsonType::object) return wrong("parameters is a JSON Schema");
    return Tool{name->text, description != nullptr ? description->text : "",
                parameters != nullptr ? parameters->text : ""};
}

// A tool's parameters, as they are written, with a base of their own for what refers within them.
void write_parameters(Writer& w, std::string_view parameters, int number) {
    const bool refers = parameters.find("\"$ref\"") != std::string_view::npos;
    if (!refers) {
        w.put(parameters.empty() ? "{}" : parameters);
        return;
    }
    const char digits[] = {static_cast<char>('0' + number / 10), static_cast<char>('0' + number % 10)};
    w.put("{\"$id\":\"tool:").put({digits, sizeof digits}).put("\",").put(parameters.substr(1));
}

}  // namespace

Result<ToolTexts> describe_tools(std::span<char> tools, std::string_view choice, std::string_view before, CallForm form,
                                 std::span<char> out) {
    constexpr int members = 9;  // of a tool, at most, with the objects
    JsonNode nodes[members * max_tools + 1];
    JsonReader reader(nodes, 4);
    constexpr std::string_view left[] = {"parameters"};
    reader.leave(left);
    if (auto read = reader.parse(tools); !read)
        return Error::make(Code::incorrect_parameters, "tools: %s", read.error().text);
    const JsonNode& root = reader.root();
    Tool all[max_tools];
    int count = 0;
    if (root.type != JsonType::array || root.next == 1)
        return Error::make(Code::incorrect_parameters, "tools is an array of functions");
    for (int i = reader.first(root); i < root.next; i = reader.node(i).next) {
        if (count == max_tools) return Error::make(Code::incorrect_parameters, "tools: at most %d", max_tools);
        const Tool tool = TRY(read_tool(reader, reader.node(i), count + 1));
        for (int k = 0; k < count; k++)
            if (all[k].name == tool.name)
                return Error::make(Code::incorrect_parameters, "tools: two are called %.*s",
                                   static_cast<int>(tool.name.size()), tool.name.data());
        all[count++] = tool;
    }
    const bool none = choice == "none", words = choice.empty() || choice == "auto",
               one = !words && !none && choice != "required";
    if (one && std::none_of(all, all + count, [&](const Tool& t) { return t.name == choice; }))
        return Error::make(Code::incorrect_parameters,
                           "tool_choice is \"auto\", \"none\", \"required\" or the name of a tool");

    Writer w(out);
    w.put(before).put(before.empty() ? "" : "\n\n");
    w.put(
        "# Tools\n\nYou may call one or more functions to assist with the user query.\n\nYou are provided with "
        "function signatures within <tools></tools> XML tags:\n<tools>\n");
    for (const Tool& t : std::span(all, static_cast<std::size_t>(count))) {
        w.put("{\"type\": \"function\", \"function\": {\"name\": ").string(t.name);
        if (!t.description.empty()) w.put(", \"description\": ").string(t.description);
        w.put(", \"parameters\": ").put(t.parameters.empty() ? "{}" : t.parameters).put("}}\n");
    }
    w.put("</tools>\n\n");
    if (none) {
        w.put("Answer in words; do not call them now.");
    } else {
        w.put(form == CallForm::bare
                  ? "For each function call, return a json object with function name and arguments:\n{\"name\":"
                    "<function-name>,\"arguments\":<args-json-object>}\nSeveral calls are an array of such objects."
                  : "To call functions, answer with {\"calls\":[{\"name\":<function-name>,\"arguments\":"
                    "<args-json-object>}]}, one element for each call.");
        if (words) w.put(" If none of the functions can help with the query, answer with {\"text\":<answer>}.");
    }
    const std::size_t system = w.size();
    if (!none) {
        constexpr std::string_view object = "{\"type\":\"object\",\"additionalProperties\":false,";
        const auto may_come = [&](const Tool& t) { return !one || t.name == choice; };
        // What is wrong with parameters is told with the place where they stand: under the tool's name.
        w.put("{\"$defs\":{");
        const char* comma = "";
        for (int i = 0; i < count; i++) {
            if (!may_come(all[i])) continue;
            w.put(comma).string(all[i].name).put(":");
            write_parameters(w, all[i].parameters, i);
            comma = ",";
        }
        w.put(comma).put("\"$call\":{\"anyOf\":[");  // no tool has such a name
        comma = "";
        for (const Tool& t : std::span(all, static_cast<std::size_t>(count))) {
            if (!may_come(t)) continue;
            w.put(comma).put(object).put("\"required\":[\"name\",\"arguments\"],\"properties\":{\"name\":{");
            w.put("\"const\":").string(t.name).put("},\"arguments\":{\"type\":\"object\",\"$ref\":\"#/$defs/");
            w.put(t.name).put("\",\"unevaluatedProperties\":false}}}");
            comma = ",";
        }
        w.put("]}},\"anyOf\":[");
        if (words) w.put(words_schema).put(",");
        constexpr std::string_view list =
            "{\"type\":\"array\",\"minItems\":1,\"maxItems\":8,\"items\":{\"$ref\":\"#/$defs/$call\"}}";
        static_assert(max_calls == 8);
        if (form == CallForm::bare)
            w.put("{\"$ref\":\"#/$defs/$call\"},").put(list);
        else
            w.put(object).put("\"required\":[\"calls\"],\"properties\":{\"calls\":").put(list).put("}}");
        w.put("]}");
    }
    if (w.full())
        return Error::make(Code::text_too_long, "the tools take more than %zu bytes in the prompt", out.size());
    return ToolTexts{{out.data(), system}, {out.data() + system, w.size() - system}};
}

std::string_view bare_calls(std::string_view answer) {
    constexpr std::string_view begin = "{\"calls\":[";
    if (!answer.starts_with(begin) || !answer.ends_with("]}")) return answer;
    const std::string_view list = answer.substr(begin.size() - 1, answer.size() - begin.size()),
                           inside = list.substr(1, list.size() - 2);
    int depth = 0;
    bool quoted = false;
    for (std::size_t i = 0; i < inside.size(); i++) {
        const char c = inside[i];
        if (quoted)
            i += c == '\\', quoted = c != '"';
        else if (c == '"')
            quoted = true;
        else if (c == ',' && depth == 0)
            return list;
        else
            depth += (c == '{' || c == '[') - (c == '}' || c == ']');
    }
    return inside.empty() ? answer : inside;
}

// {"name"... is a call, {"text"... are words, [ begins several calls: the third byte tells.
void CallList::append(std::string_view text, TextSink& sink) {
    for (; !text.empty() && at_ < words; text.remove_prefix(1)) {
        if (at_ == nothing)
            at_ = text[0] == '[' ? several : brace;
        else
            at_ = at_ == brace ? quote : text[0] == 't' ? words : one;
        if (at_ == several) sink.append("{\"calls\":");
        if (at_ == words) sink.append("{\"");
        if (at_ == one) sink.append("{\"calls\":[{\"");
        if (at_ >= words) break;
    }
    if (!text.empty()) sink.append(text);
}

void CallList::end(TextSink& sink) {
    if (at_ == one) sink.append("]}");
    if (at_ == several) sink.append("}");
}

}  // namespace slmd::task
