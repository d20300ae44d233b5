#include "toolchain/slmpack/reference/reference.h"

#include <Eigen/Core>
#include <algorithm>
#include <cmath>
#include <cstring>

#include "toolchain/slmpack/reference/product.h"

namespace slmd::pack {
namespace {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

// x w^T, by the best level of this CPU. w: [outputs x x.cols()].
Matrix linear(const Matrix& x, const float* w, long outputs) {
    static const Product product = [] {
#ifdef __x86_64__
        if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return product_avx512;
        if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return product_avx2;
#endif
        return product_baseline;
    }();
    Matrix y(x.rows(), outputs);
    product(x.data(), w, y.data(), x.rows(), outputs, x.cols());
    return y;
}

// x / sqrt(mean(x^2) + eps) * w, a row at a time (Zhang and Sennrich, arXiv 1910.07467).
Matrix rms_norm(const Matrix& x, const float* w, float eps) {
    const Eigen::Map<const Vector> weight(w, x.cols());
    const Eigen::ArrayXf scale = (x.rowwise().squaredNorm().array() / float(x.cols()) + eps).rsqrt();
    return (x.array().colwise() * scale).rowwise() * weight.array();
}

// Rotates element i of every head with element i + inv_freq.size() by position * inv_freq[i] (Su et al., arXiv
// 2104.09864).
void rope(Matrix& x, long head_dim, const std::vector<float>& inv_freq, std::size_t position) {
    const long half = long(inv_freq.size());
    const Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>> frequency(inv_freq.data(), half);
    for (long row = 0; row < x.rows(); row++) {
        const Eigen::Array<float, 1, Eigen::Dynamic> angle = frequency * float(position + std::size_t(row));
        const Eigen::Array<float, 1, Eigen::Dynamic> cosine = angle.cos(), sine = angle.sin();
        for (long at = 0; at < x.cols(); at += head_dim) {
            auto a = x.row(row).segment(at, half).array(), b = x.row(row).segment(at + half, half).array();
            const Eigen::Array<float, 1, Eigen::Dynamic> first = a * cosine - b * sine;
            b = b * cosine + a * sine;
            a = first;
        }
    }
}

// Row r of scores belongs to position before + r and may look at columns 0 .. before + r.
void causal_softmax(Matrix& scores, long before) {
    for (long r = 0; r < scores.rows(); r++) {
        const long visible = before + r + 1;
        auto row = scores.row(r).head(visible).array();
        row = (row - row.maxCoeff()).exp();
        row /= row.sum();
        scores.row(r).tail(scores.cols() - visible).setZero();
    }
}

// silu(gate) * up (Shazeer, arXiv 2002.05202).
Matrix swiglu(const Matrix& gate, const Matrix& up) { return gate.array() / (1 + (-gate.array()).exp()) * up.array(); }

Matrix append(std::vector<float>& cache, const Matrix& rows) {
    cache.insert(cache.end(), rows.data(), rows.data() + rows.size());
    return Eigen::Map<const Matrix>(cache.data(), long(cache.size()) / rows.cols(), rows.cols());
}

}  // namespace

Result<std::unique_ptr<Reference>> Reference::open(const Source& source) {
    const auto& p = source.params;
    if (std::strcmp(p.family, "llama") != 0)
        return Error::make(Code::not_supported, "the reference does not know family %.32s", p.family);
    if (p.attn_scale != 0 || p.embed_scale != 1 || p.residual_scale != 1 || p.logit_scale != 1 || p.attn_softcap != 0 ||
        p.final_softcap != 0)
        return Error::make(Code::not_supported, "the reference does not know the scales of model %.64s", p.name);
    std::unique_ptr<Reference> r(new Reference);
    r->params_ = p;
    r->inv_freq_ = source.inv_freq;
    for (const auto& t : source.tensors) r->weights_[t.name] = TRY(source.read(t));
    return r;
}

Result<void> Reference::check(std::span<const std::int32_t> tokens, std::size_t before) const {
    if (tokens.empty()) return Error::make(Code::incorrect_parameters, "no tokens");
    if (before + tokens.size() > params_.context)
        return Error::make(Code::context_full, "%zu tokens: the model was made for %u", before + tokens.size(),
                           params_.context);
    for (std::size_t i = 0; i < tokens.size(); i++)
        if (tokens[i] < 0 || std::uint32_t(tokens[i]) >= params_.vocab)
            return Error::make(Code::incorrect_parameters, "token %d at %zu is outside the vocabulary of %u", tokens[i],
                               i, params_.vocab);
    return {};
}

std::vector<float> Reference::forward(std::span<const std::int32_t> tokens, std::size_t first, Cache& cache) const {
    const long n = long(tokens.size()), dim = params_.dim, heads = params_.heads, kv_heads = params_.kv_heads,
               head_dim = params_.head_dim;
    const long before = long(cache.length), length = before + n;
    cache.keys.resize(params_.layers);
    cache.values.resize(params_.layers);

    Matrix x(n, dim);
    for (long i = 0; i < n; i++)
        x.row(i) = Eigen::Map<const Vector>(weight("token_embd") + tokens[std::size_t(i)] * dim, dim);

    for (std::uint32_t layer = 0; layer < params_.layers; layer++) {
        const std::string block = "blk." + std::to_string(layer) + ".";
        const Matrix a = rms_norm(x, weight(block + "attn_norm"), params_.norm_eps);
        Matrix q = linear(a, weight(block + "attn_q"), heads * head_dim),
               k = linear(a, weight(block + "attn_k"), kv_heads * head_dim);
        rope(q, head_dim, inv_freq_, cache.length);
        rope(k, head_dim, inv_freq_, cache.length);
        const Matrix keys = append(cache.keys[layer], k),
                     values = append(cache.values[layer], linear(a, weight(block + "attn_v"), kv_heads * head_dim));

        Matrix mixed(n, heads * head_dim);
        for (long h = 0; h < heads; h++) {
            const long at = h * head_dim, kv_at = h / (heads / kv_heads) * head_dim;
            const Matrix key = keys.middleCols(kv_at, head_dim);
            Matrix scores = linear(q.middleCols(at, head_dim), key.data(), length) / std::sqrt(float(head_dim));
            causal_softmax(scores, before);
            const Matrix value = values.middleCols(kv_at, head_dim).transpose();
            mixed.middleCols(at, head_dim) = linear(scores, value.data(), head_dim);
        }
        x += linear(mixed, weight(block + "attn_output"), dim);

        const Matrix f = rms_norm(x, weight(block + "ffn_norm"), params_.norm_eps);
        const Matrix gate = linear(f, weight(block + "ffn_gate"), params_.hidden),
                     up = linear(f, weight(block + "ffn_up"), params_.hidden);
        x += linear(swiglu(gate, up), weight(block + "ffn_down"), dim);
    }
    cache.length = std::size_t(length);
    const Matrix hidden = rms_norm(x.bottomRows(n - long(first)), weight("output_norm"), params_.norm_eps);
    return {hidden.data(), hidden.data() + hidden.size()};
}

std::vector<float> Reference::output(const std::vector<float>& hidden) const {
    const bool tied = params_.flags & image::flag_tied_output;
    const Matrix x = Eigen::Map<const Matrix>(hidden.data(), long(hidden.size() / params_.dim), params_.dim);
    const Matrix logits = linear(x, weight(tied ? "token_embd" : "output"), params_.vocab);
    return {logits.data(), logits.data() + logits.size()};
}

Result<std::vector<float>> Reference::logits(std::span<const std::int32_t> tokens, std::size_t first) const {
    if (auto r = check(tokens, 0); !r) return r.error();
    if (first >= tokens.size())
        return Error::make(Code::incorrect_parameters, "position %zu of %zu tokens", first, tokens.size());
    Cache cache;
    return output(forward(tokens, first, cache));
}

Result<std::vector<Reference::Step>> Reference::greedy(std::span<const std::int32_t> prompt, std::size_t max_tokens,
                                                       std::span<const std::int32_t> ends) const {
    Cache cache;
    std::vector<Step> steps;
    std::vector<std::int32_t> next(prompt.begin(), prompt.end());
    while (steps.size() < max_tokens) {
        if (auto r = check(next, cache.length); !r) return r.error();
        std::vector<float> logits = output(forward(next, next.size() - 1, cache));
        const auto best = std::max_element(logits.begin(), logits.end());
        const float top = *best;
        const auto token = std::int32_t(best - logits.begin());
        *best = -INFINITY;
        steps.push_back({token, top - *std::max_element(logits.begin(), logits.end())});
        if (std::find(ends.begin(), ends.end(), token) != ends.end()) break;
        next.assign(1, token);
    }
    return steps;
}

}  // namespace slmd::pack
