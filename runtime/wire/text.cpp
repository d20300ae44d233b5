#include "wire/text.h"

#include <cmath>
#include <cstdio>

namespace slmd::wire {
namespace {

// Escaped size of the code point (or stray byte) at the start of text, and its own length.
struct Unit {
    std::size_t bytes, escaped;
};

Unit unit(std::string_view text, std::size_t control_size) {
    const char c = text[0];
    if (c == '"' || c == '\\' || c == '\n' || c == '\r' || c == '\t') return {1, 2};
    if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return {1, control_size};
    const int n = utf8_length(text);
    return n > 0 ? Unit{static_cast<std::size_t>(n), static_cast<std::size_t>(n)} : Unit{1, 1};
}

std::size_t fit(std::string_view text, std::size_t room, std::size_t control_size) {
    std::size_t at = 0, used = 0;
    while (at < text.size()) {
        const Unit u = unit(text.substr(at), control_size);
        if (used + u.escaped > room) break;
        at += u.bytes, used += u.escaped;
    }
    return at;
}

constexpr char hex[] = "0123456789ABCDEF";

}  // namespace

int utf8_length(std::string_view text) {
    if (text.empty()) return -1;
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char c = byte(0);
    if (c < 0x80) return 1;
    const int n = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n == 0) return 0;
    for (int i = 1; i < n; i++) {
        if (static_cast<std::size_t>(i) >= text.size()) return -1;
        unsigned char low = 0x80, high = 0xBF;
        if (i == 1) {  // no overlong forms, no surrogates, nothing above U+10FFFF
            if (c == 0xE0) low = 0xA0;
            if (c == 0xED) high = 0x9F;
            if (c == 0xF0) low = 0x90;
            if (c == 0xF4) high = 0x8F;
        }
        if (byte(static_cast<std::size_t>(i)) < low || byte(static_cast<std::size_t>(i)) > high) return 0;
    }
    return n;
}

bool utf8_valid(std::string_view text) {
    while (!text.empty()) {
        const int n = utf8_length(text);
        if (n <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

Line& Line::number(long long value) {
    char digits[24];
    const int n = std::snprintf(digits, sizeof digits, "%lld", value);
    return put({digits, static_cast<std::size_t>(n)});
}

Line& Line::real(double value, int digits) {
    if (!std::isfinite(value)) return put('0');
    char text[64];
    int n = std::snprintf(text, sizeof text, "%.*f", digits, value);
    if (n >= static_cast<int>(sizeof text))
        n = std::snprintf(text, sizeof text, "%.6g", value);
    else if (digits > 0) {
        while (text[n - 1] == '0') n--;
        if (text[n - 1] == '.') n--;
    }
    return put({text, static_cast<std::size_t>(n)});
}

Line& Line::at_escaped(std::string_view text) {
    for (const char c : text) switch (c) {
            case '"': put("\\\""); break;
            case '\\': put("\\\\"); break;
            case '\n': put("\\n"); break;
            case '\r': put("\\r"); break;
            case '\t': put("\\t"); break;
            default: {
                const auto u = static_cast<unsigned char>(c);
                if (u < 0x20 || u == 0x7f)
                    put("\\x").put(hex[u >> 4]).put(hex[u & 15]);
                else
                    put(c);
            }
        }
    return *this;
}

Line& Line::json_escaped(std::string_view text) {
    for (const char c : text) switch (c) {
            case '"': put("\\\""); break;
            case '\\': put("\\\\"); break;
            case '\n': put("\\n"); break;
            case '\r': put("\\r"); break;
            case '\t': put("\\t"); break;
            default: {
                const auto u = static_cast<unsigned char>(c);
                if (u < 0x20 || u == 0x7f)
                    put("\\u00").put(hex[u >> 4]).put(hex[u & 15]);
                else
                    put(c);
            }
        }
    return *this;
}

Line& Line::hex4(std::uint16_t value) {
    return put(hex[value >> 12]).put(hex[value >> 8 & 15]).put(hex[value >> 4 & 15]).put(hex[value & 15]);
}

std::size_t fit_at(std::string_view text, std::size_t room) { return fit(text, room, 4); }
std::size_t fit_json(std::string_view text, std::size_t room) { return fit(text, room, 6); }

}  // namespace slmd::wire
