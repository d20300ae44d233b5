#include "client/labelled.h"

#include <algorithm>

#include "agent/evidence.h"
#include "client/caller.h"

namespace slmd::client {

std::string text_of(const JsonReader& reader, const JsonNode& object, const char* name) {
    const JsonNode* n = reader.find(object, name);
    return n == nullptr ? "" : std::string(n->text);
}

std::string answer_of(const wire::JsonLine& reader, const JsonNode& result) {
    for (const char* name : {"value", "label", "text"})
        if (const JsonNode* n = reader.find(result, name)) return std::string(n->text);
    return "";
}

std::string judged_of(const wire::JsonLine& reader, const JsonNode& result) {
    const JsonNode* const calls = reader.find(result, "calls");
    std::string written = calls != nullptr ? std::string(calls->text) : "", out;
    constexpr std::string_view left[] = {"arguments"};
    JsonNode nodes[512];
    JsonReader each(nodes, 3);
    each.leave(left);
    if (calls == nullptr || !each.parse(written)) return answer_of(reader, result);
    for (int i = each.first(each.root()); i < each.root().next; i = each.node(i).next) {
        const JsonNode& call = each.node(i);
        out += out.empty() ? "{\"calls\":[" : ",";
        out += "{\"name\":" + client::quoted(text_of(each, call, "name")) +
               ",\"arguments\":" + text_of(each, call, "arguments") + "}";
    }
    return out.empty() ? answer_of(reader, result) : out + "]}";
}

std::string run_params(const char* name, std::string_view input, bool object) {
    return "\"agent\":" + quoted(name) + ",\"input\":" + (object ? std::string(input) : quoted(input));
}

std::string local_params(const char* name, std::string_view input, bool object) {
    return run_params(name, input, object) + ",\"route\":\"local\",\"dry_run\":true";
}

bool same_answer(const std::string& wanted, const std::string& got, std::span<std::byte> memory) {
    if (wanted == got) return true;
    const agent::Check whole{};
    const auto compared = agent::compare(whole, wanted, got, true, memory);
    if (compared && compared.value().verdict == agent::Verdict::pass) return true;
    std::string words = wanted;
    JsonNode nodes[2];
    JsonReader reader(nodes, 2);
    if (!reader.parse(words) || reader.root().type != JsonType::object) return false;
    const JsonNode* const text = reader.find(reader.root(), "text");
    return text != nullptr && text->type == JsonType::string && text->text == got;
}

Result<void> read_json_lines(const char* path, std::span<const std::string_view> left,
                             const std::function<Result<void>(const JsonReader&, int)>& use) {
    std::string all = TRY(read_text(path));
    int number = 0;
    for (std::size_t at = 0; at < all.size();) {
        const std::size_t end = std::min(all.find('\n', at), all.size());
        const std::span<char> line(all.data() + at, end - at);
        at = end + 1;
        number++;
        if (std::string_view(line.data(), line.size()).find_first_not_of(" \t\r") == std::string_view::npos) continue;
        JsonNode nodes[64];
        JsonReader reader(nodes, 4);
        reader.leave(left);
        if (const auto read = reader.parse(line); !read)
            return Error::make(Code::incorrect_parameters, "%s:%d: %s", path, number, read.error().text);
        TRY(use(reader, number));
    }
    return {};
}

Result<std::vector<Labelled>> read_labelled(const char* path, bool outputs) {
    std::vector<Labelled> out;
    constexpr std::string_view left[] = {"input", "output"};
    TRY(read_json_lines(path, left, [&](const JsonReader& reader, int number) -> Result<void> {
        const JsonNode &root = reader.root(), *input = reader.find(root, "input"),
                       *output = reader.find(root, "output");
        if (root.type != JsonType::object || input == nullptr || (outputs && output == nullptr))
            return Error::make(Code::incorrect_parameters, "%s:%d: a line is {\"input\": ...%s}", path, number,
                               outputs ? ", \"output\": ..." : "");
        out.push_back({std::string(input->text), output != nullptr ? std::string(output->text) : "",
                       input->type == JsonType::object});
        return {};
    }));
    if (out.empty()) return Error::make(Code::incorrect_parameters, "%s: there is no line in it", path);
    return out;
}

}  // namespace slmd::client
