#include "toolchain/slmpack/source/stored.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <functional>

#include "base/bytes.h"
#include "toolchain/slmpack/source/four_bit.h"

namespace slmd::pack {
namespace {

constexpr std::uint32_t group = 32;

bool is(const TensorType* type, const char* name) { return std::strcmp(type->name, name) == 0; }
bool finite(std::uint16_t half) { return (half & 0x7C00) != 0x7C00; }

// What codes become of a type. Q4_K and IQ4_XS multiply two scales: their products are rounded to f16, the rest is
// exact. Not here, and rounded: Q5_1, Q5_K (5 bits and a minimum), Q2_K, Q6_K (a scale for every 16), Q3_K (the same,
// and -32 times -4 is one more than i8 holds).
std::optional<image::Kind> kind_of_codes(const TensorType* type) {
    for (const char* name : {"Q4_0", "Q4_1", "Q4_K"})
        if (is(type, name)) return image::Kind::i4a;
    if (is(type, "Q5_0")) return image::Kind::i6;
    for (const char* name : {"Q8_0", "IQ4_NL", "IQ4_XS"})  // IQ4's levels are more than a book's 31
        if (is(type, name)) return image::Kind::i8;
    return std::nullopt;
}

// One row of a 4-bit or 8-bit type as codes. False when a value does not fit (a code of -128, a scale beyond f16).
bool row_codes(const TensorType* type, const std::byte* from, std::uint32_t cols, std::int8_t* code,
               std::uint16_t* scale, std::uint16_t* minimum) {
    const auto nibbles = [](const std::byte* q, std::int8_t* to) {
        for (int j = 0; j < 16; j++) {
            to[j] = std::int8_t(std::to_integer<int>(q[j]) & 15);
            to[j + 16] = std::int8_t(std::to_integer<int>(q[j]) >> 4);
        }
    };
    const auto levels = [&](const std::byte* q, std::int8_t* to) {
        nibbles(q, to);
        for (std::uint32_t j = 0; j < group; j++) to[j] = iq4_levels[to[j]];
    };
    if (is(type, "IQ4_XS")) {
        for (std::uint32_t b = 0; b < cols / 256; b++, from += 136)
            for (int g = 0; g < 8; g++, code += group) {
                *scale = float_to_half(half_to_float(load<std::uint16_t>(from)) * float(scale_iq4_xs(from, g)));
                if (!finite(*scale++)) return false;
                levels(from + 8 + g * 16, code);
            }
        return true;
    }
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
        } else if (is(type, "IQ4_NL")) {
            levels(from + 2, code);
        } else {  // Q8_0
            std::memcpy(code, from + 2, group);
            for (std::uint32_t j = 0; j < group; j++)
                if (code[j] == -128) return false;
        }
    }
    return true;
}

// MXFP4 in the first kind that holds it exactly: i4 has MXFP4's levels as its book and eight octaves of scales a row,
// i6 the scales that f16 has. Nullopt: neither.
std::optional<Codes> mxfp4_codes(std::uint32_t rows, std::uint32_t cols,
                                 const std::function<const std::byte*(std::uint32_t row)>& row_at) {
    const std::size_t groups = cols / group;
    Codes c{image::Kind::i4, std::vector<std::int8_t>(std::size_t(rows) * cols)};
    c.indices.resize(rows * groups);
    c.steps.resize(rows);
    std::copy_n(mxfp4_levels, 16, c.book.begin());
    std::vector<std::uint8_t> exponents(rows * groups);
    bool octaves = true, halves = true;
    for (std::uint32_t r = 0; r < rows; r++) {
        const std::byte* from = row_at(r);
        std::uint8_t *exponent = exponents.data() + r * groups, least = 255, most = 0;
        std::int8_t* code = c.codes.data() + std::size_t(r) * cols;
        for (std::size_t g = 0; g < groups; g++, from += 17, code += group) {
            bool zero = true;
            for (int j = 0; j < 16; j++) {
                code[j] = std::int8_t(std::to_integer<int>(from[1 + j]) & 15);
                code[j + 16] = std::int8_t(std::to_integer<int>(from[1 + j]) >> 4);
                zero &= ((code[j] | code[j + 16]) & 7) == 0;
            }
            if (zero) continue;  // whatever its exponent
            exponent[g] = std::to_integer<std::uint8_t>(from[0]);
            least = std::min(least, exponent[g]);
            most = std::max(most, exponent[g]);
            halves &= exponent[g] >= 128 - 24 && exponent[g] <= 128 + 15;
        }
        if (most < least) continue;                 // zeros alone
        octaves &= most - least < 8 && least >= 2;  // below are the subnormal ones
        c.steps[r] = std::ldexp(1.0f, most - 128);
        for (std::size_t g = 0; g < groups; g++)
            c.indices[r * groups + g] = std::uint8_t(std::max(exponent[g] - most + 7, 0) << 4);
    }
    if (octaves) return c;
    if (!halves) return std::nullopt;
    c.kind = image::Kind::i6;
    for (std::int8_t& code : c.codes) code = mxfp4_levels[code];
    for (const std::uint8_t e : exponents) c.scales.push_back(e == 0 ? 0 : float_to_half(std::ldexp(1.0f, e - 128)));
    c.indices.clear();
    c.steps.clear();
    c.book = {};
    return c;
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
    for (const auto& e : expected)
        for (std::uint32_t i = 0; i < e.parts; i++) used[e.source_of(i)] += e.rows / e.parts;
    for (const auto& e : expected) {
        if (e.parts > 1) {
            TRY(take_experts(e, family, stored, used));
            continue;
        }
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
        if (t.packed)
            t.first_row = e.first_row;
        else
            t.bytes = t.bytes.subspan(e.first_row * row_bytes, e.rows * row_bytes);
        t.rows = e.rows;
        add(e.name, t, pairs && e.rope, e.plus_one);
    }
    for (const auto& [name, rows] : used) stored.erase(name);
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

Result<void> StoredSource::take_experts(const Expected& e, const Family& family,
                                        const std::map<std::string, StoredTensor>& stored,
                                        const std::map<std::string, std::uint64_t>& used) {
    StoredTensor all{};
    const std::uint32_t rows = e.rows / e.parts;  // of a run
    for (std::uint32_t i = 0; i < e.parts; i++) {
        const std::string name = e.source_of(i);
        const auto found = stored.find(name);
        if (found == stored.end())
            return Error::make(Code::model_format,
                               "tensor %s is missing: a %s model of %u layers and %u experts has one", name.c_str(),
                               family.name.c_str(), params.layers, e.parts);
        const StoredTensor& t = found->second;
        if (t.packed)
            return Error::make(Code::not_supported,
                               "tensor %s: experts in 4 bits of GPTQ or AWQ are not read: import "
                               "the model in floats",
                               name.c_str());
        if (t.rows != used.at(name) || t.cols != e.cols)
            return Error::make(Code::model_format, "tensor %s is %u x %u, the model's parameters ask for %llu x %u",
                               name.c_str(), t.rows, t.cols, static_cast<unsigned long long>(used.at(name)), e.cols);
        if (i > 0 && t.type != all.type)
            return Error::make(Code::not_supported, "tensor %s is of type %s, that of another expert of type %s",
                               name.c_str(), t.type->name, all.type->name);
        const bool own = name != e.source;  // a tensor of its own
        const std::size_t row_bytes = std::size_t(t.cols / t.type->block) * t.type->bytes,
                          first = e.first_row + (own ? 0 : std::size_t(t.rows / e.parts) * i);
        all.type = t.type;
        all.runs.push_back(t.bytes.subspan(first * row_bytes, rows * row_bytes));
    }
    all.rows = e.rows;
    all.cols = e.cols;
    add(e.name, all, false, e.plus_one);
    return {};
}

Result<const StoredSource::Place*> StoredSource::place(const SourceTensor& tensor) const {
    const auto found = places_.find(tensor.name);
    if (found == places_.end())
        return Error::make(Code::not_found, "the source has no tensor %s", shown(tensor.name).c_str());
    return &found->second;
}

std::uint32_t row_of_pairs(const image::ModelParams& params, std::uint32_t r) {
    const std::uint32_t i = r % params.head_dim, half = params.rope_dims / 2;
    if (i >= params.rope_dims) return r;
    return r - i + (i < half ? 2 * i : 2 * (i - half) + 1);
}

Result<std::vector<float>> StoredSource::read(const SourceTensor& tensor) const {
    const Place& p = *TRY(place(tensor));
    const StoredTensor& s = p.stored;
    const std::size_t blocks = s.cols / s.type->block;
    std::vector<float> values =
        s.packed ? s.packed->read(s.first_row, s.rows) : std::vector<float>(std::size_t(s.rows) * s.cols);
    for (std::uint32_t r = 0; r < s.rows; r++) {
        float* row = values.data() + std::size_t(r) * s.cols;
        if (!s.packed) s.type->dequantize(s.row(source_row(p, r)), row, blocks);
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
    if (s.packed) return s.packed->codes(s.first_row, s.rows);
    const std::size_t groups = s.cols / group;
    if (is(s.type, "MXFP4"))
        return mxfp4_codes(s.rows, s.cols, [&](std::uint32_t r) { return s.row(source_row(p, r)); });
    const auto kind = kind_of_codes(s.type);
    if (!kind) return Maybe{};
    const bool four = *kind == image::Kind::i4a;
    Codes c{*kind, {}};
    c.codes.resize(std::size_t(s.rows) * s.cols);
    c.scales.resize(s.rows * groups);
    c.minimums.resize(four ? s.rows * groups : 0);
    for (std::uint32_t r = 0; r < s.rows; r++) {
        std::uint16_t *scales = c.scales.data() + r * groups,
                      *minimums = four ? c.minimums.data() + r * groups : nullptr;
        if (!row_codes(s.type, s.row(source_row(p, r)), s.cols, c.codes.data() + std::size_t(r) * s.cols, scales,
                       minimums))
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
