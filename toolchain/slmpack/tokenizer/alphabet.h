// GPT-2's printable alphabet: one Unicode character for each byte (encoder.py, bytes_to_unicode).
#pragma once
#include <optional>
#include <string>
#include <string_view>

namespace slmd::pack {

// The bytes that a token spelled in the alphabet stands for; nullopt when it holds any other character.
std::optional<std::string> decode_byte_alphabet(std::string_view token);

}  // namespace slmd::pack
