#include "daemon/remote_text.h"

#include <string.h>

#include "base/json.h"

namespace slmd::daemon {
namespace {

constexpr std::string_view white = " \t\r\n";

std::string_view trim(std::string_view s) {
    const std::size_t begin = s.find_first_not_of(white);
    return begin == std::string_view::npos ? std::string_view()
                                           : s.substr(begin, s.find_last_not_of(white) - begin + 1);
}

}  // namespace

std::size_t without_source(std::string_view schema, char* out) {
    constexpr std::string_view key = "\"from\"", value = "\"source\"";
    std::size_t n = 0;
    for (std::size_t i = 0; i < schema.size();) {
        std::size_t end = i;
        if (schema.substr(i).starts_with(key)) {
            end = schema.find_first_not_of(white, i + key.size());
            if (end != schema.npos && schema[end] == ':') end = schema.find_first_not_of(white, end + 1);
            if (end == schema.npos || !schema.substr(end).starts_with(value)) end = i;
        }
        if (end == i) {
            out[n++] = schema[i++];
            continue;
        }
        i = end + value.size();
        std::size_t before = n;
        while (before > 0 && white.find(out[before - 1]) != white.npos) before--;
        const std::size_t behind = schema.find_first_not_of(white, i);
        if (before > 0 && out[before - 1] == ',')
            n = before - 1;
        else if (behind != schema.npos && schema[behind] == ',')
            i = behind + 1;
    }
    return n;
}

std::size_t compact(char* text, std::size_t size) {
    std::size_t n = 0;
    bool inside = false;
    for (std::size_t i = 0; i < size; i++) {
        const char c = text[i];
        if (!inside && white.find(c) != white.npos) continue;
        if (inside && c == '\\' && i + 1 < size)
            text[n++] = text[i++];
        else if (c == '"')
            inside = !inside;
        text[n++] = text[i];
    }
    return n;
}

std::string_view without_fence(std::string_view s) {
    s = trim(s);
    if (!s.starts_with("```") || !s.ends_with("```") || s.size() < 6) return s;
    const std::size_t line = s.find('\n');
    return line == s.npos || line + 4 > s.size() ? s : trim(s.substr(line + 1, s.size() - line - 4));
}

std::string_view label_in(std::string_view answer, std::span<char> room) {
    std::string_view label = without_fence(answer);
    JsonNode nodes[8];
    JsonReader reader(nodes, 2);
    if (label.starts_with('{') && label.size() <= room.size()) {
        memcpy(room.data(), label.data(), label.size());
        if (reader.parse(room.first(label.size())))
            if (const JsonNode* const said = reader.find(reader.root(), "label");
                said != nullptr && said->type == JsonType::string)
                return said->text;
    }
    while (!label.empty() && (label.back() == '.' || label.back() == '"')) label.remove_suffix(1);
    if (label.starts_with('"')) label.remove_prefix(1);
    return label;
}

}  // namespace slmd::daemon
