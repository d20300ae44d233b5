#include "wire/text.h"

#include <algorithm>
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

Line& Line::escaped(std::string_view text, const char* control) {
    for (const char c : text) switch (c) {
            case '"': put("\\\""); break;
            case '\\': put("\\\\"); break;
            case '\n': put("\\n"); break;
            case '\r': put("\\r"); break;
            case '\t': put("\\t"); break;
            default: {
                const auto u = static_cast<unsigned char>(c);
                if (u < 0x20 || u == 0x7f)
                    put(control).put(hex[u >> 4]).put(hex[u & 15]);
                else
                    put(c);
            }
        }
    return *this;
}

Line& Line::base64(std::span<const std::int8_t> bytes) {
    constexpr char digits[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
    for (std::size_t i = 0; i < bytes.size(); i += 3) {
        const std::size_t n = std::min<std::size_t>(3, bytes.size() - i);
        unsigned three = 0;
        for (std::size_t k = 0; k < 3; k++) three = three << 8 | (k < n ? static_cast<std::uint8_t>(bytes[i + k]) : 0);
        put(digits[three >> 18]).put(digits[three >> 12 & 63]);
        put(n > 1 ? digits[three >> 6 & 63] : '=').put(n > 2 ? digits[three & 63] : '=');
    }
    return *this;
}

Line& Line::at_escaped(std::string_view text) { return escaped(text, "\\x"); }
Line& Line::json_escaped(std::string_view text) { return escaped(text, "\\u00"); }

Line& Line::hex4(std::uint16_t value) {
    return put(hex[value >> 12]).put(hex[value >> 8 & 15]).put(hex[value >> 4 & 15]).put(hex[value & 15]);
}

float scale_of(std::span<const float> vector) {
    float peak = 0;
    for (const float v : vector) peak = std::max(peak, std::fabs(v));
    return peak / 127;
}

std::size_t quantize(std::span<const float> part, float scale, std::int8_t* out) {
    for (const float v : part) *out++ = static_cast<std::int8_t>(scale > 0 ? std::lrint(v / scale) : 0);
    return part.size();
}

std::size_t fit_at(std::string_view text, std::size_t room) { return fit(text, room, 4); }
std::size_t fit_json(std::string_view text, std::size_t room) { return fit(text, room, 6); }

}  // namespace slmd::wire
