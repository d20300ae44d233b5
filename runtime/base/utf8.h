// UTF-8 as RFC 3629 has it.
#pragma once
#include <cstddef>
#include <string_view>

namespace slmd {

// Length of the well-formed sequence at the start of text (not empty): 0 when it is malformed, -1 when text ends within
// it. No overlong forms, no surrogates, nothing above U+10FFFF.
inline int utf8_length(std::string_view text) {
    const auto byte = [&](std::size_t i) { return static_cast<unsigned char>(text[i]); };
    const unsigned char c = byte(0);
    if (c < 0x80) return 1;
    const std::size_t n = c >= 0xC2 && c <= 0xDF ? 2 : (c & 0xF0) == 0xE0 ? 3 : c >= 0xF0 && c <= 0xF4 ? 4 : 0;
    if (n == 0) return 0;
    for (std::size_t i = 1; i < n; i++) {
        if (i >= text.size()) return -1;
        const unsigned char low = i > 1 ? 0x80 : c == 0xE0 ? 0xA0 : c == 0xF0 ? 0x90 : 0x80;
        const unsigned char high = i > 1 ? 0xBF : c == 0xED ? 0x9F : c == 0xF4 ? 0x8F : 0xBF;
        if (byte(i) < low || byte(i) > high) return 0;
    }
    return static_cast<int>(n);
}

inline bool utf8_valid(std::string_view text) {
    while (!text.empty()) {
        const int n = utf8_length(text);
        if (n <= 0) return false;
        text.remove_prefix(static_cast<std::size_t>(n));
    }
    return true;
}

}  // namespace slmd
