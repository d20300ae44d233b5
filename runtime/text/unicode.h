// The three Unicode classes that pre-tokenizers ask for, and UTF-8 that never refuses a byte.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

namespace slmd::text {

enum class CharClass : std::uint8_t { other, letter, number, space };  // \p{L}, \p{N}, \s (White_Space)

CharClass char_class(std::uint32_t code_point);

struct Char {
    std::uint32_t code;  // 0xFFFFFFFF for a byte that is not UTF-8
    std::uint32_t bytes;
    CharClass cls;
};

// The character at text[at], at < text.size(). A byte that starts no valid sequence is one character of class other.
Char char_at(std::string_view text, std::size_t at);

// Without the white space at its ends, as Python's str.strip(), lstrip() and rstrip() have it: White_Space and the four
// separators U+001C..U+001F.
std::string_view stripped(std::string_view text, bool left, bool right);

// Bytes that the UTF-8 lead byte announces, 1 for anything that is not one.
inline std::uint32_t utf8_bytes(unsigned char lead) {
    return lead < 0xC2 ? 1 : lead < 0xE0 ? 2 : lead < 0xF0 ? 3 : lead < 0xF5 ? 4 : 1;
}

}  // namespace slmd::text
