#include "agent/pointer.h"

#include <cstdio>

namespace slmd::agent {
namespace {

// One segment of a JSON Pointer (RFC 6901), with its escapes, is the name of a member.
bool names(std::string_view segment, std::string_view key) {
    std::size_t n = 0;
    for (std::size_t i = 0; i < segment.size(); i++, n++) {
        char c = segment[i];
        if (c == '~' && i + 1 < segment.size()) c = segment[++i] == '0' ? '~' : '/';
        if (n >= key.size() || key[n] != c) return false;
    }
    return n == key.size();
}

bool is_index(std::string_view segment, std::size_t number) {
    char text[24];
    return segment == std::string_view(text, static_cast<std::size_t>(std::snprintf(text, sizeof text, "%zu", number)));
}

}  // namespace

int child_at(const JsonReader& reader, int node, std::string_view segment) {
    const JsonNode& n = reader.node(node);
    std::size_t number = 0;
    int found = -1;
    for (int i = reader.first(n); i < n.next; i = reader.node(i).next, number++)
        if (n.type == JsonType::array ? is_index(segment, number) : names(segment, reader.node(i).key)) found = i;
    return found;
}

}  // namespace slmd::agent
