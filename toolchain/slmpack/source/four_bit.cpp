#include "toolchain/slmpack/source/four_bit.h"

#include <algorithm>
#include <cmath>
#include <cstring>

#include "base/ascii.h"
#include "base/bytes.h"

namespace slmd::pack {
namespace {

using nlohmann::json;
using Layout = FourBitConfig::Layout;

constexpr TensorType gptq_type{UINT32_MAX, "GPTQ", 1, 0, nullptr}, awq_type{UINT32_MAX, "AWQ", 1, 0, nullptr};
constexpr int awq_nibble[8] = {0, 4, 1, 5, 2, 6, 3, 7};  // where output n of eight is: the inverse of 0 2 4 6 1 3 5 7

bool is_int32(const StoredTensor& t) { return std::strcmp(t.type->name, "I32") == 0; }

std::uint32_t word_at(std::span<const std::byte> words, std::size_t i) {
    return load<std::uint32_t>(words.data() + 4 * i);
}

}  // namespace

Result<FourBitConfig> read_four_bit_config(const json& config) {
    const json none;
    const auto value = [&](const char* key, const char* old) -> const json& {
        for (const char* k : {key, old})
            if (config.is_object() && config.contains(k) && !config[k].is_null()) return config[k];
        return none;
    };
    // Lower case: AutoAWQ has written both "gemm" and "GEMM".
    const auto text = [&](const char* key, const char* absent) {
        const json& v = value(key, key);
        std::string s = v.is_null() ? absent : v.is_string() ? v.get<std::string>() : v.dump();
        std::transform(s.begin(), s.end(), s.begin(), lower);
        return s;
    };
    const auto refused = [](const char* key, const std::string& found, const char* known) {
        return Error::make(
            Code::not_supported,
            "config.json: quantization_config: %s is \"%s\", not %s: take the unquantized model, or a GGUF of it", key,
            shown(found).c_str(), known);
    };
    const std::string method = text("quant_method", "missing");
    FourBitConfig out{};
    if (method == "gptq") {
        const std::string format = text("checkpoint_format", "gptq");
        if (format != "gptq" && format != "gptq_v2") return refused("checkpoint_format", format, "gptq or gptq_v2");
        out.layout = format == "gptq" ? Layout::gptq : Layout::gptq_v2;
        if (const auto packed = text("pack_dtype", "int32"); packed != "int32")
            return refused("pack_dtype", packed, "int32");
    } else if (method == "awq") {
        if (const auto version = text("version", "gemm"); version != "gemm") return refused("version", version, "gemm");
        if (const auto zeros = text("zero_point", "true"); zeros != "true") return refused("zero_point", zeros, "true");
        out.layout = Layout::awq;
    } else {
        return refused("quant_method", method, "gptq or awq");
    }
    const json &bits = value("bits", "w_bit"), &group = value("group_size", "q_group_size");
    if (bits != 4) return refused("bits", bits.dump(), "4");
    if (group != -1) {
        if (!group.is_number_unsigned() || group.get<std::uint64_t>() < 1 || group.get<std::uint64_t>() > 1u << 20)
            return refused("group_size", group.dump(), "-1 or a number of inputs");
        out.group = group.get<std::uint32_t>();
    }
    return out;
}

Result<FourBit> FourBit::open(const FourBitConfig& config, const std::string& name,
                              const std::map<std::string, StoredTensor>& stored) {
    const auto part = [&](const char* suffix) -> Result<const StoredTensor*> {
        const auto found = stored.find(name + suffix);
        if (found == stored.end())
            return Error::make(Code::model_format, "tensor %s%s is missing: a quantized layer has one",
                               shown(name).c_str(), suffix);
        if (is_int32(found->second) != (std::strcmp(suffix, ".scales") != 0))
            return Error::make(Code::model_format, "tensor %s%s is of type %s: not what a quantized layer has there",
                               shown(name).c_str(), suffix, found->second.type->name);
        return &found->second;
    };
    const StoredTensor &weight = *TRY(part(".qweight")), &zeros = *TRY(part(".qzeros")),
                       &scales = *TRY(part(".scales"));
    const bool along_inputs = config.layout != Layout::awq;
    FourBit f;
    f.layout_ = config.layout;
    const std::uint64_t outputs = std::uint64_t(weight.cols) * (along_inputs ? 1 : 8),
                        inputs = std::uint64_t(weight.rows) * (along_inputs ? 8 : 1);
    if (outputs > INT32_MAX || inputs > INT32_MAX || outputs % 8 != 0)
        return Error::make(
            Code::model_format, "tensor %s.qweight: %llu outputs, %llu inputs: too many, or not by eight",
            shown(name).c_str(), static_cast<unsigned long long>(outputs), static_cast<unsigned long long>(inputs));
    f.rows_ = std::uint32_t(outputs);
    f.cols_ = std::uint32_t(inputs);
    f.group_ = config.group == 0 ? f.cols_ : config.group;
    const std::uint32_t groups = (f.cols_ + f.group_ - 1) / f.group_;
    const auto shape = [&](const char* suffix, const StoredTensor& t, std::uint32_t rows,
                           std::uint32_t cols) -> Result<void> {
        if (t.rows == rows && t.cols == cols) return {};
        return Error::make(Code::model_format,
                           "tensor %s%s is %u x %u: %u x %u inputs in 4 bits and groups of %u ask for %u x %u",
                           shown(name).c_str(), suffix, t.rows, t.cols, f.rows_, f.cols_, f.group_, rows, cols);
    };
    TRY(shape(".qzeros", zeros, groups, f.rows_ / 8));
    TRY(shape(".scales", scales, groups, f.rows_));
    f.words_ = weight.bytes;
    f.zeros_ = zeros.bytes;
    f.scales_ = scales;
    if (along_inputs && stored.contains(name + ".g_idx")) {
        const StoredTensor& order = *TRY(part(".g_idx"));
        TRY(shape(".g_idx", order, 1, f.cols_));
        bool contiguous = true;
        for (std::uint32_t k = 0; k < f.cols_; k++) {
            f.groups_.push_back(word_at(order.bytes, k));
            if (f.groups_[k] >= groups)
                return Error::make(Code::model_format, "tensor %s.g_idx holds %u at %u: there are %u groups",
                                   shown(name).c_str(), f.groups_[k], k, groups);
            contiguous &= f.groups_[k] == k / f.group_;
        }
        if (contiguous) f.groups_.clear();
    }
    return f;
}

const TensorType* FourBit::type() const { return layout_ == Layout::awq ? &awq_type : &gptq_type; }

std::vector<std::int8_t> FourBit::unpack(std::uint32_t first_row, std::uint32_t count) const {
    std::vector<std::int8_t> codes(std::size_t(count) * cols_);
    if (layout_ == Layout::awq) {
        for (std::size_t k = 0; k < cols_; k++)
            for (std::uint32_t r = 0; r < count; r++) {
                const std::uint32_t row = first_row + r, word = word_at(words_, k * (rows_ / 8) + row / 8);
                codes[std::size_t(r) * cols_ + k] = std::int8_t(word >> (4 * awq_nibble[row % 8]) & 15);
            }
        return codes;
    }
    for (std::size_t k = 0; k < cols_; k += 8)
        for (std::uint32_t r = 0; r < count; r++) {
            const std::uint32_t word = word_at(words_, k / 8 * rows_ + first_row + r);
            for (int i = 0; i < 8; i++) codes[std::size_t(r) * cols_ + k + i] = std::int8_t(word >> (4 * i) & 15);
        }
    return codes;
}

int FourBit::zero(std::size_t group, std::uint32_t row) const {
    const std::uint32_t word = word_at(zeros_, group * (rows_ / 8) + row / 8);
    if (layout_ == Layout::awq) return int(word >> (4 * awq_nibble[row % 8]) & 15);
    // A zero of 0 less 1 is stored as 15.
    return int(((word >> (4 * (row % 8))) + (layout_ == Layout::gptq ? 1 : 0)) & 15);
}

float FourBit::scale(std::size_t group, std::uint32_t row) const {
    float f;
    scales_.type->dequantize(scales_.bytes.data() + (group * rows_ + row) * scales_.type->bytes, &f, 1);
    return f;
}

std::vector<float> FourBit::read(std::uint32_t first_row, std::uint32_t count) const {
    const std::vector<std::int8_t> codes = unpack(first_row, count);
    std::vector<float> values(codes.size());
    const std::uint32_t groups = (cols_ + group_ - 1) / group_;
    std::vector<float> scales(groups);
    std::vector<int> zeros(groups);
    for (std::uint32_t r = 0; r < count; r++) {
        for (std::uint32_t g = 0; g < groups; g++) {
            scales[g] = scale(g, first_row + r);
            zeros[g] = zero(g, first_row + r);
        }
        for (std::uint32_t k = 0; k < cols_; k++) {
            const std::uint32_t g = groups_.empty() ? k / group_ : groups_[k];
            const std::size_t i = std::size_t(r) * cols_ + k;
            values[i] = float(codes[i] - zeros[g]) * scales[g];
        }
    }
    return values;
}

std::optional<Codes> FourBit::codes(std::uint32_t first_row, std::uint32_t count) const {
    if (!keeps_codes()) return std::nullopt;
    Codes c{image::Kind::i4a, unpack(first_row, count)};
    for (std::uint32_t r = 0; r < count; r++)
        for (std::uint32_t k = 0; k < cols_; k += 32) {
            const std::uint32_t g = k / group_, row = first_row + r;
            c.scales.push_back(float_to_half(scale(g, row)));
            c.minimums.push_back(float_to_half(-float(zero(g, row)) * scale(g, row)));
            for (const std::uint16_t half : {c.scales.back(), c.minimums.back()})
                if ((half & 0x7C00) == 0x7C00) return std::nullopt;
        }
    return c;
}

Result<void> join_four_bit(const FourBitConfig& config, const std::function<bool(const std::string&)>& has_bias,
                           std::map<std::string, StoredTensor>& stored, std::vector<std::string>& warnings) {
    constexpr std::string_view suffix = ".qweight";
    std::vector<std::string> names;
    for (const auto& [name, t] : stored)
        if (name.ends_with(suffix)) names.push_back(name.substr(0, name.size() - suffix.size()));
    std::size_t rounded = 0;
    for (const std::string& name : names) {
        const auto layer = std::make_shared<const FourBit>(TRY(FourBit::open(config, name, stored)));
        for (const char* part : {".qweight", ".qzeros", ".scales", ".g_idx"}) stored.erase(name + part);
        StoredTensor t{layer->type(), layer->rows(), layer->cols(), {}, layer};
        if (!stored.emplace(name + ".weight", std::move(t)).second)
            return Error::make(Code::model_format, "tensor %s is there as .weight and as .qweight",
                               shown(name).c_str());
        rounded += layer->keeps_codes() ? 0 : 1;
        const auto bias = stored.find(name + ".bias");
        if (bias == stored.end() || has_bias(bias->first)) continue;
        if (std::all_of(bias->second.bytes.begin(), bias->second.bytes.end(),
                        [](std::byte b) { return b == std::byte{0}; }))
            stored.erase(bias);
    }
    if (rounded > 0)
        warnings.push_back(std::to_string(rounded) + " of " + std::to_string(names.size()) +
                           " layers have groups that are not contiguous (GPTQ's desc_act) or not of whole 32s: their "
                           "codes cannot stay, they are rounded to 8 bits; --kind i4 takes half the room");
    return {};
}

}  // namespace slmd::pack
