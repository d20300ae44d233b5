// Sizes that follow from kind, rows and cols: the writer produces exactly these, the reader accepts nothing else.
#pragma once
#include <cstdint>

#include "base/bytes.h"
#include "image/format.h"

namespace slmd::image {

constexpr std::uint32_t group_cols = 32, block_rows = 8, panel_rows = 16;
constexpr std::uint64_t stream_align = 64;         // of codes, scales and steps in the raw form
constexpr std::uint32_t max_dimension = 1u << 24;  // rows or cols; keeps every size below 2^48

struct StreamSizes {
    std::uint64_t codes, scales, steps;  // bytes; steps: of i6 its high bits
};

inline StreamSizes stream_sizes(Kind kind, std::uint64_t rows, std::uint64_t cols) {
    const std::uint64_t padded_rows = round_up(rows, block_rows);
    const std::uint64_t cells = padded_rows / block_rows * (round_up(cols, group_cols) / group_cols);  // (block, group)
    switch (kind) {
        case Kind::f32: return {(rows == 1 ? 1 : round_up(rows, panel_rows)) * cols * 4, 0, 0};
        case Kind::i4: return {cells * 128, cells * 8, padded_rows * 4};
        case Kind::i4a: return {cells * 128, cells * 32, 0};
        case Kind::i8: return {cells * 256, cells * 16, 0};
        case Kind::i6: return {cells * 128, cells * 16, cells * 64};
    }
    return {};
}

inline const char* kind_name(Kind kind) {
    switch (kind) {
        case Kind::f32: return "f32";
        case Kind::i4: return "i4";
        case Kind::i4a: return "i4a";
        case Kind::i8: return "i8";
        case Kind::i6: return "i6";
    }
    return "?";
}

inline const char* section_name(std::uint32_t id) {
    constexpr const char* names[] = {"?",          "index",   "params", "tokenizer", "chat",
                                     "provenance", "tensors", "golden", "prefixes"};
    return id < sizeof names / sizeof *names ? names[id] : "?";
}

}  // namespace slmd::image
