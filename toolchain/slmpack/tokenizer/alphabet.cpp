#include "toolchain/slmpack/tokenizer/alphabet.h"

#include <array>
#include <cstdint>

#include "text/unicode.h"

namespace slmd::pack {

std::optional<std::string> decode_byte_alphabet(std::string_view token) {
    static const auto byte_of = [] {
        std::array<std::int16_t, 0x144> table;
        table.fill(-1);
        std::uint32_t next = 0x100;  // bytes that are not printable in Latin-1 get the characters from U+0100 on
        for (std::uint32_t b = 0; b < 256; ++b) {
            const bool printable = (b >= '!' && b <= '~') || (b >= 0xA1 && b <= 0xAC) || b >= 0xAE;
            table[printable ? b : next++] = static_cast<std::int16_t>(b);
        }
        return table;
    }();
    std::string out;
    for (std::size_t at = 0; at < token.size();) {
        const text::Char c = text::char_at(token, at);
        if (c.code >= byte_of.size() || byte_of[c.code] < 0) return std::nullopt;
        out.push_back(static_cast<char>(byte_of[c.code]));
        at += c.bytes;
    }
    return out;
}

}  // namespace slmd::pack
