// Where the values of an answer stand in the text that they were taken from.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::agent {

struct Span {
    std::string_view at;                // JSON Pointer to the value
    std::int32_t begin = -1, end = -1;  // bytes of the source; -1: it does not stand there
};

// Of every text and number of a JSON answer, in its order: where it first stands, as a word of its own where it can. As
// many as out and paths, where the pointers are kept, have room for; returns how many. Errors: memory_full; those of
// JsonReader::parse.
Result<std::size_t> find_spans(std::string_view answer, std::string_view source, std::span<char> paths,
                               std::span<std::byte> scratch, std::span<Span> out);

}  // namespace slmd::agent
