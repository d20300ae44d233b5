#include "text/unicode.h"

#include <algorithm>
#include <array>
#include <iterator>

namespace slmd::text {
namespace {

constexpr std::uint32_t changes[] = {
#include "text/unicode_classes.inc"
};

constexpr CharClass lookup(std::uint32_t code) {
    const auto* past = std::upper_bound(std::begin(changes), std::end(changes), code << 2 | 3);
    return static_cast<CharClass>(past[-1] & 3);
}

constexpr auto ascii = [] {
    std::array<CharClass, 128> table{};
    for (std::uint32_t c = 0; c < 128; ++c) table[c] = lookup(c);
    return table;
}();

}  // namespace

CharClass char_class(std::uint32_t code) { return code < 128 ? ascii[code] : lookup(std::min(code, 0x10FFFFu)); }

Char char_at(std::string_view text, std::size_t at) {
    const auto byte = [&](std::size_t i) { return static_cast<std::uint8_t>(text[at + i]); };
    const std::uint32_t lead = byte(0);
    if (lead < 128) return {lead, 1, ascii[lead]};
    const std::uint32_t n = utf8_bytes(static_cast<unsigned char>(lead));
    const Char bad{0xFFFFFFFF, 1, CharClass::other};
    if (n == 1 || n > text.size() - at) return bad;
    std::uint32_t code = lead & (0x7Fu >> n);
    for (std::uint32_t i = 1; i < n; ++i) {
        if ((byte(i) & 0xC0) != 0x80) return bad;
        code = code << 6 | (byte(i) & 0x3F);
    }
    // Overlong forms, surrogates and what lies beyond Unicode.
    constexpr std::uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
    if (code < least[n] || (code >= 0xD800 && code < 0xE000) || code > 0x10FFFF) return bad;
    return {code, n, lookup(code)};
}

std::string_view stripped(std::string_view s, bool left, bool right) {
    const auto blank = [](Char c) { return c.cls == CharClass::space || (c.code >= 0x1C && c.code <= 0x1F); };
    while (left && !s.empty() && blank(char_at(s, 0))) s.remove_prefix(char_at(s, 0).bytes);
    while (right && !s.empty()) {
        std::size_t last = s.size() - 1;
        while (last > 0 && s.size() - last < 4 && (static_cast<unsigned char>(s[last]) & 0xC0) == 0x80) --last;
        const Char c = char_at(s, last);
        if (!blank(c) || last + c.bytes != s.size()) break;
        s.remove_suffix(c.bytes);
    }
    return s;
}

}  // namespace slmd::text
