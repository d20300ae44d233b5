#include "toolchain/slmpack/reference/reference.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "toolchain/slmpack/reference/layer.h"

namespace slmd::pack {
namespace {

Matrix append(std::vector<float>& cache, const Matrix& rows) {
    cache.insert(cache.end(), rows.data(), rows.data() + rows.size());
    return Eigen::Map<const Matrix>(cache.data(), long(cache.size()) / rows.cols(), rows.cols());
}

}  // namespace

Result<std::unique_ptr<Reference>> Reference::open(const Source& source) {
    const auto& p = source.params;
    if ((p.flags & image::flag_encoder) != 0)
        return Error::make(Code::not_supported,
                           "%.100s is an encoder: it embeds texts and has no logits; slmpack import takes it",
                           source.path.c_str());
    std::unique_ptr<Reference> r(new Reference);
    r->params_ = p;
    r->inv_freq_ = source.inv_freq;
    r->inv_freq_local_ = source.inv_freq_local;
    for (const auto& t : source.tensors) r->weights_[t.name] = TRY(source.read(t));
    return r;
}

void Reference::adapt(Adapter adapter) {
    adapted_.clear();
    for (AdapterTarget& t : adapter.targets) adapted_[t.matrix] = std::move(t);
}

Result<void> Reference::check(std::span<const std::int32_t> tokens, std::size_t length) const {
    if (tokens.empty()) return Error::make(Code::incorrect_parameters, "no tokens");
    if (length > params_.context)
        return Error::make(Code::context_full, "%zu tokens: the model was made for %u", length, params_.context);
    for (std::size_t i = 0; i < tokens.size(); i++)
        if (tokens[i] < 0 || std::uint32_t(tokens[i]) >= params_.vocab)
            return Error::make(Code::incorrect_parameters, "token %d at %zu is outside the vocabulary of %u", tokens[i],
                               i, params_.vocab);
    return {};
}

// Parts of a layer, with what the family has of them.
struct Reference::Pass {
    const Reference& model;
    Cache& cache;
    const std::vector<std::int32_t>& parents;   // of a tree; empty: a sequence
    const std::vector<std::size_t>& positions;  // of each row
    const image::ModelParams& params = model.params_;

    // x, normed by the tensor where the model has it.
    Matrix normed(const Matrix& x, const std::string& name, long width) const {
        const auto found = model.weights_.find(name);
        if (found == model.weights_.end()) return x;
        const Matrix parts = Eigen::Map<const Matrix>(x.data(), x.size() / width, width);
        const Matrix y = rms_norm(parts, found->second.data(), params.norm_eps);
        return Eigen::Map<const Matrix>(y.data(), x.rows(), x.cols());
    }

    // Times a matrix of a layer, and what an adapter adds to it.
    Matrix times(const Matrix& x, const std::string& name, long rows) const {
        Matrix y = linear(x, model.weight(name), rows);
        if (const auto found = model.adapted_.find(name); found != model.adapted_.end()) {
            const AdapterTarget& t = found->second;
            y += linear(linear(x, t.a.data(), t.rank), t.b.data(), rows) * float(t.scale);
        }
        return y;
    }

    // The rows of a query, key or value matrix, with bias and norm where the model has them.
    Matrix heads(const Matrix& x, const std::string& name, long rows) const {
        Matrix y = times(x, name, rows);
        if (const auto bias = model.weights_.find(name + ".bias"); bias != model.weights_.end())
            y.rowwise() += Eigen::Map<const Vector>(bias->second.data(), rows);
        const auto norm = model.weights_.find(name + "_norm");
        return norm == model.weights_.end() ? y : normed(y, name + "_norm", long(norm->second.size()));
    }

    // Each row through the experts of the highest logits, weighted by their softmax (Shazeer et al., arXiv 1701.06538):
    // among those alone, or among all.
    Matrix experts(const Matrix& x, const std::string& block) const {
        const long hidden = params.hidden, dim = params.dim, count = params.experts, used = params.experts_used;
        const bool gelu = (params.flags & image::flag_gelu) != 0;
        const float *gates = model.weight(block + "ffn_gate_exps"), *ups = model.weight(block + "ffn_up_exps"),
                    *downs = model.weight(block + "ffn_down_exps");
        const Matrix logits = linear(x, model.weight(block + "ffn_gate_inp"), count);
        Matrix out = Matrix::Zero(x.rows(), dim);
        for (long r = 0; r < x.rows(); r++) {
            std::vector<long> order(static_cast<std::size_t>(count));
            std::iota(order.begin(), order.end(), 0);
            std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return logits(r, a) > logits(r, b); });
            const bool share = (params.flags & image::flag_expert_share) != 0;
            float sum = 0;
            for (long i = 0; i < (share ? used : count); i++)
                sum += std::exp(logits(r, order[std::size_t(i)]) - logits(r, order[0]));
            const Matrix row = x.row(r);
            for (long i = 0; i < used; i++) {
                const long e = order[std::size_t(i)];
                const Matrix mixed = gated(linear(row, gates + e * hidden * dim, hidden),
                                           linear(row, ups + e * hidden * dim, hidden), gelu);
                out.row(r) +=
                    linear(mixed, downs + e * dim * hidden, dim) * (std::exp(logits(r, e) - logits(r, order[0])) / sum);
            }
        }
        return out;
    }

    Matrix feed_forward(const Matrix& x, const std::string& block) const {
        if (params.experts != 0) return experts(x, block);
        const Matrix gate = times(x, block + "ffn_gate", params.hidden), up = times(x, block + "ffn_up", params.hidden);
        return times(gated(gate, up, (params.flags & image::flag_gelu) != 0), block + "ffn_down", params.dim);
    }

    Matrix attention(const Matrix& x, std::uint32_t layer) const {
        const std::string block = "blk." + std::to_string(layer) + ".";
        const long head_dim = params.head_dim, heads_count = params.heads, kv_heads = params.kv_heads;
        const long before = long(cache.length), length = before + x.rows();
        const bool sliding = image::layer_bit(params.sliding, layer);
        Matrix q = heads(x, block + "attn_q", heads_count * head_dim),
               k = heads(x, block + "attn_k", kv_heads * head_dim);
        if (!image::layer_bit(params.no_rope, layer)) {
            const auto& inv_freq = sliding && !model.inv_freq_local_.empty() ? model.inv_freq_local_ : model.inv_freq_;
            const float scale = params.rope_scale == 0 ? 1 : params.rope_scale;
            rope(q, head_dim, inv_freq, scale, positions);
            rope(k, head_dim, inv_freq, scale, positions);
        }
        const Matrix keys = append(cache.keys[layer], k),
                     values = append(cache.values[layer], heads(x, block + "attn_v", kv_heads * head_dim));
        const float scale = params.attn_scale != 0 ? params.attn_scale : 1 / std::sqrt(float(head_dim));
        Matrix mixed(x.rows(), heads_count * head_dim);
        for (long h = 0; h < heads_count; h++) {
            const long at = h * head_dim, kv_at = h / (heads_count / kv_heads) * head_dim;
            const Matrix key = keys.middleCols(kv_at, head_dim);
            Matrix scores = linear(q.middleCols(at, head_dim), key.data(), length) * scale;
            soft_cap(scores, params.attn_softcap);
            const long window = sliding && params.window != 0 ? long(params.window) : length;
            if (parents.empty())
                causal_softmax(scores, before, window);
            else
                tree_softmax(scores, before, parents, window);
            const Matrix value = values.middleCols(kv_at, head_dim).transpose();
            mixed.middleCols(at, head_dim) = linear(scores, value.data(), head_dim);
        }
        return times(mixed, block + "attn_output", params.dim);
    }
};

std::vector<float> Reference::forward(std::span<const std::int32_t> tokens, std::size_t first, Cache& cache,
                                      const std::vector<std::int32_t>& parents) const {
    const long n = long(tokens.size()), dim = params_.dim;
    cache.keys.resize(params_.layers);
    cache.values.resize(params_.layers);

    Matrix x(n, dim);
    for (long i = 0; i < n; i++)
        x.row(i) = Eigen::Map<const Vector>(weight("token_embd") + tokens[std::size_t(i)] * dim, dim);
    x *= params_.embed_scale;
    std::vector<std::size_t> positions;
    for (std::size_t i = 0; i < tokens.size(); i++)
        positions.push_back(parents.empty()  ? cache.length + i
                            : parents[i] < 0 ? cache.length
                                             : positions[std::size_t(parents[i])] + 1);
    const Pass pass{*this, cache, parents, positions};

    for (std::uint32_t layer = 0; layer < params_.layers; layer++) {
        const std::string block = "blk." + std::to_string(layer) + ".";
        const Matrix a = pass.attention(pass.normed(x, block + "attn_norm", dim), layer);
        x += pass.normed(a, block + "post_attention_norm", dim) * params_.residual_scale;

        const Matrix down = pass.feed_forward(pass.normed(x, block + "ffn_norm", dim), block);
        x += pass.normed(down, block + "post_ffw_norm", dim) * params_.residual_scale;
    }
    cache.length += std::size_t(n);
    const Matrix hidden = pass.normed(x.bottomRows(n - long(first)), "output_norm", dim);
    return {hidden.data(), hidden.data() + hidden.size()};
}

std::vector<float> Reference::output(const std::vector<float>& hidden) const {
    const bool tied = params_.flags & image::flag_tied_output;
    const Matrix x = Eigen::Map<const Matrix>(hidden.data(), long(hidden.size() / params_.dim), params_.dim);
    Matrix logits = linear(x, weight(tied ? "token_embd" : "output"), params_.vocab) * params_.logit_scale;
    soft_cap(logits, params_.final_softcap);
    return {logits.data(), logits.data() + logits.size()};
}

Result<std::vector<float>> Reference::logits(std::span<const std::int32_t> tokens, std::size_t first) const {
    if (auto r = check(tokens, tokens.size()); !r) return r.error();
    if (first >= tokens.size())
        return Error::make(Code::incorrect_parameters, "position %zu of %zu tokens", first, tokens.size());
    Cache cache;
    return output(forward(tokens, first, cache));
}

Result<Reference::Cache> Reference::read(std::span<const std::int32_t> tokens) const {
    Cache cache;
    if (tokens.empty()) return cache;
    TRY(check(tokens, tokens.size()));
    forward(tokens, tokens.size(), cache);
    return cache;
}

Result<void> Reference::tree(const Cache& before, std::span<const std::int32_t> tokens,
                             std::span<const std::int32_t> parents, std::span<const std::size_t> wanted,
                             const std::function<void(std::size_t, std::span<const float>)>& sink) const {
    constexpr std::size_t together = 16;  // rows of the output, which are long
    std::vector<std::size_t> depths;
    for (std::size_t i = 0; i < parents.size(); i++) {
        if (parents[i] >= std::int32_t(i))
            return Error::make(Code::incorrect_parameters, "token %zu of a tree continues one that comes later", i);
        depths.push_back(parents[i] < 0 ? 1 : depths[std::size_t(parents[i])] + 1);
    }
    const std::size_t deepest = depths.empty() ? 0 : *std::max_element(depths.begin(), depths.end());
    if (parents.size() != tokens.size() ||
        std::any_of(wanted.begin(), wanted.end(), [&](auto i) { return i >= tokens.size(); }))
        return Error::make(Code::incorrect_parameters, "a tree of %zu tokens and %zu parents", tokens.size(),
                           parents.size());
    TRY(check(tokens, before.length + deepest));
    Cache cache = before;
    const std::vector<float> hidden = forward(tokens, 0, cache, {parents.begin(), parents.end()});
    const std::size_t dim = params_.dim, vocab = params_.vocab;
    for (std::size_t first = 0; first < wanted.size(); first += together) {
        const std::size_t n = std::min(together, wanted.size() - first);
        std::vector<float> rows;
        for (std::size_t i = 0; i < n; i++) {
            const auto row = hidden.begin() + std::ptrdiff_t(wanted[first + i] * dim);
            rows.insert(rows.end(), row, row + std::ptrdiff_t(dim));
        }
        const std::vector<float> logits = output(rows);
        for (std::size_t i = 0; i < n; i++) sink(first + i, std::span(logits).subspan(i * vocab, vocab));
    }
    return {};
}

Result<std::vector<Reference::Step>> Reference::greedy(std::span<const std::int32_t> prompt, std::size_t max_tokens,
                                                       std::span<const std::int32_t> ends) const {
    Cache cache;
    std::vector<Step> steps;
    std::vector<std::int32_t> next(prompt.begin(), prompt.end());
    while (steps.size() < max_tokens) {
        if (auto r = check(next, cache.length + next.size()); !r) return r.error();
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
