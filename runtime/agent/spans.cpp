#include "agent/spans.h"

#include <algorithm>
#include <cstdio>
#include <new>

#include "base/json.h"
#include "grammar/automaton.h"

namespace slmd::agent {
namespace {

constexpr int max_depth = 48;

bool is_word(char c) {
    return (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c & 0x80) != 0;
}

// 12 stands in "12 km" rather than in "2012".
std::size_t find_word(std::string_view source, std::string_view value) {
    for (std::size_t at = source.find(value); at != std::string_view::npos; at = source.find(value, at + 1)) {
        const std::size_t end = at + value.size();
        if ((at == 0 || !is_word(source[at - 1]) || !is_word(value.front())) &&
            (end == source.size() || !is_word(source[end]) || !is_word(value.back())))
            return at;
    }
    return source.find(value);
}

struct Walk {
    const JsonReader& reader;
    std::string_view source;
    grammar::Heap& heap;
    std::span<Span> out;
    char path[512];
    std::size_t count = 0;

    // A key or an index goes behind the path; what does not fit is left out with all below it.
    static std::size_t step(char (&path)[512], std::size_t size, std::string_view key) {
        if (size + 2 * key.size() + 1 > sizeof path) return 0;
        path[size++] = '/';
        for (const char c : key) {
            if (c == '~' || c == '/') path[size++] = '~';
            path[size++] = c == '~' ? '0' : c == '/' ? '1' : c;
        }
        return size;
    }

    void value(const JsonNode& node, std::size_t size) {
        if (node.type == JsonType::object || node.type == JsonType::array) {
            int index = 0;
            for (int i = reader.first(node); i < node.next; i = reader.node(i).next) {
                char number[16];
                const int n = snprintf(number, sizeof number, "%d", index++);
                const std::string_view key = node.type == JsonType::object
                                                 ? reader.node(i).key
                                                 : std::string_view(number, static_cast<std::size_t>(n));
                if (const std::size_t longer = step(path, size, key); longer != 0) value(reader.node(i), longer);
            }
            return;
        }
        if ((node.type != JsonType::string && node.type != JsonType::number) || count == out.size()) return;
        char* const kept = heap.take<char>(size);
        if (kept == nullptr) return;
        std::copy(path, path + size, kept);
        Span& span = out[count++];
        span = {{kept, size}};
        const std::size_t at = node.text.empty() ? std::string_view::npos : find_word(source, node.text);
        if (at == std::string_view::npos) return;
        span.begin = static_cast<std::int32_t>(at);
        span.end = static_cast<std::int32_t>(at + node.text.size());
    }
};

}  // namespace

Result<std::size_t> find_spans(std::string_view answer, std::string_view source, std::span<char> paths,
                               std::span<std::byte> memory, std::span<Span> out) {
    grammar::Heap kept(std::as_writable_bytes(paths)), scratch(memory);
    char* const copy = scratch.take<char>(answer.size());
    const std::size_t max_nodes = answer.size() / 2 + 2;  // a value and what divides it from the next one
    JsonNode* const nodes = scratch.take<JsonNode>(max_nodes);
    if (copy == nullptr || nodes == nullptr)
        return Error::make(Code::memory_full, "no memory for the spans of an answer of %zu bytes", answer.size());
    std::copy(answer.begin(), answer.end(), copy);
    for (std::size_t i = 0; i < max_nodes; i++) new (nodes + i) JsonNode;
    JsonReader reader({nodes, max_nodes}, max_depth);
    TRY(reader.parse({copy, answer.size()}));
    Walk walk{reader, source, kept, out, {}};
    walk.value(reader.root(), 0);
    return walk.count;
}

}  // namespace slmd::agent
