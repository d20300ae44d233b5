#include "toolchain/slmpack/source/stored.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace slmd::pack {
namespace {

constexpr std::uint32_t group = 32;

bool is(const TensorType* type, const char* name) { return std::strcmp(type->name, name) == 0; }
bool finite(std::uint16_t half) { return (half & 0x7C00) != 0x7C00; }

// One row of a 4-bit or 8-bit type as codes. False when a value does not fit (a code of -128, a scale beyond f16).
bool row_codes(const TensorType* type, const std::byte* from, std::uint32_t cols, std::int8_t* code,
               std::uint16_t* scale, std::uint16_t* minimum) {
    const auto nibbles = [](const std::byte* q, std::int8_t* to) {
        for (int j = 0; j < 16; j++) {
            to[j] = std::int8_t(std::to_integer<int>(q[j]) & 15);
            to[j + 16] = std::int8_t(std::to_integer<int>(q[j]) >> 4);
        }
    };
    if (is(type, "Q4_K")) {
        for (std::uint32_t b = 0; b < cols / 256; b++, from += 144, code += 256) {
            const float d = half_to_float(load<std::uint16_t>(from)),
                        min = half_to_float(load<std::uint16_t>(from + 2));
            for (int g = 0; g < 8; g++) {
                const auto s = scale_min_k4(reinterpret_cast<const std::uint8_t*>(from + 4), g);
                *scale = float_to_half(d * s.scale);
                *minimum = float_to_half(-(min * s.min));
                if (!finite(*scale++) || !finite(*minimum++)) return false;
                const std::byte* q = from + 16 + g / 2 * 32;
                for (int l = 0; l < 32; l++)
                    code[g * 32 + l] = std::int8_t(std::to_integer<int>(q[l]) >> (g % 2 * 4) & 15);
            }
        }
        return true;
    }
    for (std::uint32_t g = 0; g < cols / group; g++, from += type->bytes, code += group) {
        scale[g] = load<std::uint16_t>(from);
        if (is(type, "Q4_0")) {
            minimum[g] = float_to_half(-8 * half_to_float(scale[g]));
            if (!finite(minimum[g])) return false;
            nibbles(from + 2, code);
        } else if (is(type, "Q4_1")) {
            minimum[g] = load<std::uint16_t>(from + 2);
            nibbles(from + 4, code);
        } else if (is(type, "Q5_0")) {
            const std::uint32_t high = load<std::uint32_t>(from + 2);
            nibbles(from + 6, code);
            for (std::uint32_t j = 0; j < group; j++) code[j] = std::int8_t((code[j] | int(high >> j & 1) << 4) - 16);
        } else {  // Q8_0
            std::memcpy(code, from + 2, group);
            for (std::uint32_t j = 0; j < group; j++)
                if (code[j] == -128) return false;
        }
    }
    return true;
}

}  // namespace

Result<FileBytes> FileBytes::open(const std::string& path) {
    FileBytes f;
    f.map = TRY(MappedFile::open(path.c_str()));
    f.bytes = f.map->bytes();
    return f;
}

void StoredSource::add(const std::string& name, const StoredTensor& stored, bool pairs, bool plus_one) {
    tensors.push_back({name, stored.type->name, stored.rows, stored.cols});
    places_[name] = {stored, pairs, plus_one};
}

Result<void> StoredSource::take(const Family& family, Form form, std::map<std::string, StoredTensor> stored) {
    bool pairs = false;
    for (const Form f : family.pairs) pairs |= f == form;
    std::map<std::string, std::uint64_t> used;  // rows of each source tensor, which may hold several of ours
    const auto expected = expected_tensors(family, form, params);
    for (const auto& e : expected) used[e.source] += e.rows;
    for (const auto& e : expected) {
        const auto found = stored.find(e.source);
        if (found == stored.end())
            return Error::make(Code::model_format, "tensor %s is missing: a %s model of %u layers has one",
                               e.source.c_str(), family.name.c_str(), params.layers);
        StoredTensor t = found->second;
        if (t.rows != used[e.source] || t.cols != e.cols)
            return Error::make(Code::model_format, "tensor %s is %u x %u, the model's parameters ask for %llu x %u",
                               e.source.c_str(), t.rows, t.cols, static_cast<unsigned long long>(used[e.source]),
                               e.cols);
        const std::size_t row_bytes = std::size_t(t.cols / t.type->block) * t.type->bytes;
        t.bytes = t.bytes.subspan(e.first_row * row_bytes, e.rows * row_bytes);
        t.rows = e.rows;
        add(e.name, t, pairs && e.rope, e.plus_one);
    }
    for (const auto& e : expected) stored.erase(e.source);
    // Some tied checkpoints hold the output matrix all the same.
    image::ModelParams untied = params;
    untied.flags &= ~image::flag_tied_output;
    for (const auto& e : expected_tensors(family, form, untied)) stored.erase(e.source);
    for (const auto& [name, t] : stored)
        if (!is_ignored(family, form, name))
            return Error::make(Code::not_supported,
                               "tensor %s is not part of family %s: leaving it out would change the model's answers",
                               shown(name).c_str(), family.name.c_str());
    return {};
}

Result<const StoredSource::Place*> StoredSource::place(const SourceTensor& tensor) const {
    const auto found = places_.find(tensor.name);
    if (found == places_.end())
        return Error::make(Code::not_found, "the source has no tensor %s", shown(tensor.name).c_str());
    return &found->second;
}

std::uint32_t StoredSource::source_row(const Place& p, std::uint32_t r) const {
    if (!p.pairs) return r;
    const std::uint32_t i = r % params.head_dim, half = params.rope_dims / 2;
    if (i >= params.rope_dims) return r;
    return r - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

Result<std::vector<float>> StoredSource::read(const SourceTensor& tensor) const {
    const Place& p = *TRY(place(tensor));
    const StoredTensor& s = p.stored;
    const std::size_t blocks = s.cols / s.type->block, row_bytes = blocks * s.type->bytes;
    std::vector<float> values(std::size_t(s.rows) * s.cols);
    for (std::uint32_t r = 0; r < s.rows; r++) {
        float* row = values.data() + std::size_t(r) * s.cols;
        s.type->dequantize(s.bytes.data() + source_row(p, r) * row_bytes, row, blocks);
        if (p.plus_one)
            for (std::uint32_t c = 0; c < s.cols; c++) row[c] += 1;
        for (std::uint32_t c = 0; c < s.cols; c++)
            if (!std::isfinite(row[c]))
                return Error::make(
                    Code::model_integrity,
                    "tensor %s holds a value that is not finite, at row %u, column %u: the file is damaged",
                    tensor.name.c_str(), r, c);
    }
    return values;
}

Result<std::optional<Codes>> StoredSource::codes(const SourceTensor& tensor) const {
    using Maybe = std::optional<Codes>;
    const Place& p = *TRY(place(tensor));
    const StoredTensor& s = p.stored;
    const bool four = is(s.type, "Q4_0") || is(s.type, "Q4_1") || is(s.type, "Q4_K"),
               eight = is(s.type, "Q8_0") || is(s.type, "Q5_0");
    if (!four && !eight) return Maybe{};
    const std::size_t row_bytes = std::size_t(s.cols / s.type->block) * s.type->bytes, groups = s.cols / group;
    Codes c{four ? image::Kind::i4a : image::Kind::i8, {}, {}, {}};
    c.codes.resize(std::size_t(s.rows) * s.cols);
    c.scales.resize(s.rows * groups);
    c.minimums.resize(four ? s.rows * groups : 0);
    for (std::uint32_t r = 0; r < s.rows; r++) {
        std::uint16_t *scales = c.scales.data() + r * groups,
                      *minimums = four ? c.minimums.data() + r * groups : nullptr;
        if (!row_codes(s.type, s.bytes.data() + source_row(p, r) * row_bytes, s.cols,
                       c.codes.data() + std::size_t(r) * s.cols, scales, minimums))
            return Maybe{};
        for (std::size_t g = 0; g < groups; g++)
            if (!finite(scales[g]) || (four && !finite(minimums[g])))
                return Error::make(
                    Code::model_integrity,
                    "tensor %s holds a scale that is not finite, at row %u, column %zu: the file is damaged",
                    tensor.name.c_str(), r, g * group);
    }
    return Maybe(std::move(c));
}

}  // namespace slmd::pack
