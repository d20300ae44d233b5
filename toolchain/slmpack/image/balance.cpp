#include "balance.h"

#include <algorithm>
#include <cmath>
#include <span>

#include "half.h"

namespace slmd::pack {
namespace {

constexpr float deviations = 4;  // of a row's product with a normed input: what it reaches now and then
constexpr int most = 6;          // exponent: f16 scales stay normal, but for those of groups that are nearly zero

// How far every row of a projection reaches: |bias| and a few standard deviations of row times normed input.
Result<std::vector<float>> reach(const Source& source, const std::string& name, std::span<const float> norm) {
    const SourceTensor &weight = *source.find(name), &bias = *source.find(name + ".bias");
    const std::vector<float> w = TRY(source.read(weight)), b = TRY(source.read(bias));
    std::vector<float> out(weight.rows);
    for (std::size_t r = 0; r < out.size(); r++) {
        double square = 0;
        for (std::size_t c = 0; c < weight.cols; c++) {
            const double v = static_cast<double>(w[r * weight.cols + c]) * norm[c];
            square += v * v;
        }
        out[r] = std::abs(b[r]) + deviations * static_cast<float>(std::sqrt(square));
    }
    return out;
}

}  // namespace

Result<Balance> Balance::of(const Source& source) {
    const image::ModelParams& p = source.params;
    Balance balance;
    for (std::uint32_t layer = 0; layer < p.layers; layer++) {
        const std::string block = "blk." + std::to_string(layer) + ".";
        const SourceTensor* norm = source.find(block + "attn_norm");
        if (norm == nullptr || source.find(block + "attn_q.bias") == nullptr ||
            source.find(block + "attn_k.bias") == nullptr || source.find(block + "attn_q_norm") != nullptr)
            continue;
        const std::uint32_t half = p.rope_dims / 2, sharing = p.heads / p.kv_heads;
        const std::vector<float> normed = TRY(source.read(*norm));
        const std::vector<float> q = TRY(reach(source, block + "attn_q", normed)),
                                 k = TRY(reach(source, block + "attn_k", normed));
        std::vector<int> up(q.size()), down(k.size());
        for (std::uint32_t head = 0; head < p.kv_heads; head++) {
            // log2 of max|k|^0.7 / max|q|^0.3, a channel; both of a RoPE pair have the same.
            std::vector<float> factor(p.head_dim);
            for (std::uint32_t i = 0; i < p.head_dim; i++) {
                const std::uint32_t pair = i < half ? i + half : i < p.rope_dims ? i - half : i;
                const auto both = [&](const std::vector<float>& v, std::uint32_t h) {
                    return std::max({v[h * p.head_dim + i], v[h * p.head_dim + pair], 1e-20f});
                };
                float queries = 0;
                for (std::uint32_t s = 0; s < sharing; s++) queries = std::max(queries, both(q, head * sharing + s));
                factor[i] = 0.7f * std::log2(both(k, head)) - 0.3f * std::log2(queries);
            }
            std::vector<float> sorted = factor;
            std::nth_element(sorted.begin(), sorted.begin() + sorted.size() / 2, sorted.end());
            const float median = sorted[sorted.size() / 2];  // most channels stay as they are
            for (std::uint32_t i = 0; i < p.head_dim; i++) {
                const int e = std::clamp(static_cast<int>(std::lround(factor[i] - median)), -most, most);
                down[head * p.head_dim + i] = -e;
                for (std::uint32_t s = 0; s < sharing; s++) up[(head * sharing + s) * p.head_dim + i] = e;
            }
        }
        balance.exponents_[block + "attn_q"] = up;
        balance.exponents_[block + "attn_k"] = down;
    }
    return balance;
}

std::map<std::string, std::string> Balance::letters() const {
    std::map<std::string, std::string> out;
    for (const auto& [name, exponents] : exponents_)
        if (name.ends_with("attn_k"))
            for (const int e : exponents) out[name] += static_cast<char>('m' - e);
    return out;
}

Result<Balance> Balance::of_letters(const std::map<std::string, std::string>& letters, const image::ModelParams& p) {
    Balance balance;
    for (std::uint32_t layer = 0; layer < p.layers; layer++) {
        const std::string block = "blk." + std::to_string(layer) + ".";
        const auto found = letters.find(block + "attn_k");
        if (found == letters.end() || found->second.size() != std::size_t{p.kv_heads} * p.head_dim ||
            std::any_of(found->second.begin(), found->second.end(),
                        [](char c) { return c < 'm' - most || c > 'm' + most; }))
            return Error::make(Code::model_format, "the provenance does not say how %sattn_k is balanced",
                               block.c_str());
        std::vector<int>&q = balance.exponents_[block + "attn_q"], &k = balance.exponents_[block + "attn_k"];
        for (const char c : found->second) k.push_back('m' - c);
        for (std::uint32_t r = 0; r < p.heads * p.head_dim; r++)
            q.push_back(-k[r / p.head_dim / (p.heads / p.kv_heads) * p.head_dim + r % p.head_dim]);
    }
    return balance;
}

Result<void> Balance::apply(const std::string& name, TensorData& t) const {
    const bool is_bias = name.ends_with(".bias");
    const auto found = exponents_.find(is_bias ? name.substr(0, name.size() - 5) : name);
    if (found == exponents_.end()) return {};
    const std::vector<int>& e = found->second;
    for (std::size_t i = 0; i < t.values.size(); i++)
        t.values[i] = std::ldexp(t.values[i], e[t.rows == 1 ? i : i / t.cols]);
    for (std::size_t r = 0; r < t.steps.size(); r++) t.steps[r] = std::ldexp(t.steps[r], e[r]);
    const std::size_t groups = (t.cols + 31) / 32;
    for (auto* halves : {&t.scales, &t.minimums})
        for (std::size_t i = 0; i < halves->size(); i++) {
            (*halves)[i] = to_half(std::ldexp(from_half((*halves)[i]), e[i / groups]));
            if (!std::isfinite(from_half((*halves)[i])))
                return Error::make(Code::model_format, "row %zu: a scale is too large to be balanced", i / groups);
        }
    return {};
}

}  // namespace slmd::pack
