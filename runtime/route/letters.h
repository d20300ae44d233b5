// Bytes of a text, as the finders look at them.
#pragma once
#include <cstddef>
#include <string_view>

#include "base/ascii.h"

namespace slmd::route {

inline bool is_hex(char c) { return is_digit(c) || (c >= 'a' && c <= 'f') || (c >= 'A' && c <= 'F'); }
inline bool is_blank(char c) { return c == ' ' || c == '\t' || c == '\n' || c == '\r'; }
inline bool is_utf8(char c) { return static_cast<unsigned char>(c) >= 0x80; }
inline bool is_word(char c) { return is_alnum(c) || c == '_' || is_utf8(c); }

inline char at_or_0(std::string_view text, std::size_t at) { return at < text.size() ? text[at] : '\0'; }
// Whatever the case of `word`'s letters, which are written small.
inline bool begins(std::string_view text, std::size_t at, std::string_view word) {
    if (text.size() < at + word.size()) return false;
    for (std::size_t i = 0; i < word.size(); i++)
        if (lower(text[at + i]) != word[i]) return false;
    return true;
}
// From a place on, as long as f holds, at most n bytes.
template <class F>
std::size_t run(std::string_view text, std::size_t at, F&& f, std::size_t n = std::string_view::npos) {
    std::size_t end = at;
    while (end < text.size() && end - at < n && f(text[end])) end++;
    return end;
}
// A blank as people write it between groups of digits, U+00A0 and U+202F among them: its length, or 0.
inline std::size_t gap(std::string_view text, std::size_t at) {
    if (at_or_0(text, at) == ' ') return 1;
    if (begins(text, at, "\xC2\xA0")) return 2;
    return begins(text, at, "\xE2\x80\xAF") ? 3 : 0;
}

}  // namespace slmd::route
