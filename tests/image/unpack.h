// Reads one element of a tensor straight from the definition in runtime/image/format.h, sharing no code with the
// writer.
#pragma once
#include <cmath>
#include <cstring>

#include "image/image.h"
#include "toolchain/slmpack/image/half.h"

namespace slmd::test {

template <class T>
T at(std::span<const std::byte> s, std::size_t i) {
    T v;
    std::memcpy(&v, s.data() + i * sizeof v, sizeof v);
    return v;
}

struct Element {
    int code;
    std::size_t group;  // of scales
};
inline Element element(const image::Tensor& t, std::uint32_t row, std::uint32_t col) {
    const std::size_t groups = (t.cols + 31) / 32, cell = row / 8 * groups + col / 32;
    const std::uint32_t panel = row % 8 / 4, r = row % 4, k = col % 32;
    // vectors: 0 {rows 0, 1} k 0..7 · 1 {rows 2, 3} k 0..7 · 2 {rows 0, 1} k 8..15 · 3 {rows 2, 3} k 8..15
    const std::uint32_t vector = (k % 16 < 8 ? 0 : 2) + (r < 2 ? 0 : 1), byte = vector * 16 + (r & 1) * 8 + k % 8;
    if (t.kind == image::Kind::i8)
        return {at<std::int8_t>(t.codes, cell * 256 + panel * 128 + (k < 16 ? 0 : 64) + byte), cell * 8 + row % 8};
    const auto both = at<std::uint8_t>(t.codes, cell * 128 + panel * 64 + byte);
    const int low = k < 16 ? both & 15 : both >> 4;
    if (t.kind == image::Kind::i6) {
        const int h = at<std::uint8_t>(t.steps, cell * 64 + row % 8 * 8 + k % 8) >> k / 8 * 2 & 3,
                  n = low + (h & 1) * 16;
        return {h > 1 ? -1 - n : n, cell * 8 + row % 8};
    }
    return {low, cell * 8 + row % 8};
}

inline float value(const image::Tensor& t, std::uint32_t row, std::uint32_t col) {
    if (t.kind == image::Kind::f32) return at<float>(t.codes, std::size_t{row} * t.cols + col);
    const Element e = element(t, row, col);
    const std::size_t cell = e.group / 8, lane = e.group % 8;
    switch (t.kind) {
        case image::Kind::i4: {
            const auto index = at<std::uint8_t>(t.scales, e.group);
            const double scale = std::exp2((index >> 4 & 7) - 7) * (1 + (index & 15) / 16.0) * at<float>(t.steps, row);
            return static_cast<float>(t.book[e.code] * (index > 127 ? -scale : scale));
        }
        case image::Kind::i4a:
            return static_cast<float>(e.code) * pack::from_half(at<std::uint16_t>(t.scales, cell * 16 + lane)) +
                   pack::from_half(at<std::uint16_t>(t.scales, cell * 16 + 8 + lane));
        default: return static_cast<float>(e.code) * pack::from_half(at<std::uint16_t>(t.scales, e.group));
    }
}

}  // namespace slmd::test
