#include "engine/model.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace slmd::engine {
namespace {

int padded(std::uint32_t n, int to) { return static_cast<int>(round_up(n, static_cast<std::size_t>(to))); }

}  // namespace

Result<Linear> bind_matrix(const image::Image& image, const char* name, std::uint32_t rows, std::uint32_t cols,
                           bool floats) {
    const image::Tensor t = TRY(image.tensor(name));
    if ((t.kind == image::Kind::f32 && (!floats || rows == 1)) || t.rows != rows || t.cols != cols)
        return Error::make(Code::model_format, "tensor %s is %u x %u of kind %u; the family needs %u x %u%s", name,
                           t.rows, t.cols, static_cast<unsigned>(t.kind), rows, cols, floats ? "" : ", quantized");
    return as_linear(t);
}

Result<const float*> bind_vector(const image::Image& image, const char* name, std::uint32_t n) {
    const image::Tensor t = TRY(image.tensor(name));
    if (t.kind != image::Kind::f32 || t.rows != 1 || t.cols != n)
        return Error::make(Code::model_format,
                           "tensor %s has %u x %u values of kind %u; the family needs %u of kind f32", name, t.rows,
                           t.cols, static_cast<unsigned>(t.kind), n);
    return reinterpret_cast<const float*>(t.codes.data());
}

namespace {

// Null when the model has none.
Result<const float*> optional_vector(const image::Image& image, const char* name, std::uint32_t n) {
    if (!image.has(name)) return static_cast<const float*>(nullptr);
    return bind_vector(image, name, n);
}

Result<void> bind_layer(const image::Image& image, std::uint32_t i, Layer& l) {
    l = {};
    const image::ModelParams& p = image.params();
    const std::uint32_t q_rows = p.heads * p.head_dim, kv_rows = p.kv_heads * p.head_dim;
    char name[64];
    const auto part = [&](const char* suffix) {
        std::snprintf(name, sizeof name, "blk.%u.%s", i, suffix);
        return name;
    };
    l.attn_norm = TRY(optional_vector(image, part("attn_norm"), p.dim));
    l.post_attention_norm = TRY(optional_vector(image, part("post_attention_norm"), p.dim));
    l.q = TRY(bind_matrix(image, part("attn_q"), q_rows, p.dim));
    l.k = TRY(bind_matrix(image, part("attn_k"), kv_rows, p.dim));
    l.v = TRY(bind_matrix(image, part("attn_v"), kv_rows, p.dim));
    l.q_bias = TRY(optional_vector(image, part("attn_q.bias"), q_rows));
    l.k_bias = TRY(optional_vector(image, part("attn_k.bias"), kv_rows));
    l.v_bias = TRY(optional_vector(image, part("attn_v.bias"), kv_rows));
    if (image.has(part("attn_q_norm"))) {
        l.norms_rows = TRY(image.tensor(name)).cols != p.head_dim;
        l.q_norm = TRY(bind_vector(image, name, l.norms_rows ? q_rows : p.head_dim));
        l.k_norm = TRY(bind_vector(image, part("attn_k_norm"), l.norms_rows ? kv_rows : p.head_dim));
        if (l.norms_rows && (l.q_bias != nullptr || l.k_bias != nullptr))
            return Error::make(Code::model_format,
                               "tensor %s is for whole rows: with a bias this version does not run it", name);
        if ((l.norms_rows ? kv_rows : p.head_dim) % compute::lanes != 0)
            return Error::make(Code::model_format, "head_dim %u: norms of query and key need a multiple of %d",
                               p.head_dim, compute::lanes);
    }
    l.rotates = !image::layer_bit(p.no_rope, i);
    const bool slides = image::layer_bit(p.sliding, i);
    l.local = slides && p.rope_theta_local != 0;
    l.window = slides ? static_cast<int>(p.window) : 0;
    l.attn_output = TRY(bind_matrix(image, part("attn_output"), p.dim, q_rows));
    l.ffn_norm = TRY(optional_vector(image, part("ffn_norm"), p.dim));
    l.post_ffw_norm = TRY(optional_vector(image, part("post_ffw_norm"), p.dim));
    if (p.experts == 0) {
        l.gate = TRY(bind_matrix(image, part("ffn_gate"), p.hidden, p.dim));
        l.up = TRY(bind_matrix(image, part("ffn_up"), p.hidden, p.dim));
        l.down = TRY(bind_matrix(image, part("ffn_down"), p.dim, p.hidden));
        return {};
    }
    const Linear router = TRY(bind_matrix(image, part("ffn_gate_inp"), p.experts, p.dim, true));
    if (router.kind != image::Kind::f32)
        return Error::make(Code::model_format, "tensor %s is quantized; the choice of experts is made in f32", name);
    l.router = reinterpret_cast<const float*>(router.w.codes);
    l.gate = TRY(bind_matrix(image, part("ffn_gate_exps"), p.experts * p.hidden, p.dim));
    l.up = TRY(bind_matrix(image, part("ffn_up_exps"), p.experts * p.hidden, p.dim));
    l.down = TRY(bind_matrix(image, part("ffn_down_exps"), p.experts * p.dim, p.hidden));
    return {};
}

// What bind() and bind_layer() look for. A tensor under another name is part of a forward pass that this version does
// not know.
Result<void> check_names(const image::Image& image) {
    constexpr const char* of_model[] = {"token_embd", "output", "output_norm", "rope.inv_freq", "rope.inv_freq_local"};
    constexpr const char* of_layer[] = {"attn_norm",    "post_attention_norm",
                                        "attn_q",       "attn_k",
                                        "attn_v",       "attn_q.bias",
                                        "attn_k.bias",  "attn_v.bias",
                                        "attn_q_norm",  "attn_k_norm",
                                        "attn_output",  "ffn_norm",
                                        "ffn_gate",     "ffn_up",
                                        "ffn_down",     "post_ffw_norm",
                                        "ffn_gate_inp", "ffn_gate_exps",
                                        "ffn_up_exps",  "ffn_down_exps"};
    for (const image::TensorEntry& entry : image.tensors()) {
        unsigned layer = 0;
        int suffix = 0;
        bool known = false;
        if (std::sscanf(entry.name, "blk.%u.%n", &layer, &suffix) == 1 && suffix > 0) {
            for (const char* name : of_layer)
                known |= layer < image.params().layers && std::strcmp(entry.name + suffix, name) == 0;
        } else {
            for (const char* name : of_model) known |= std::strcmp(entry.name, name) == 0;
        }
        if (!known)
            return Error::make(Code::model_format,
                               "tensor %s has no place in this version's forward pass: the image needs a newer slmd",
                               entry.name);
    }
    return {};
}

}  // namespace

Linear as_linear(const image::Tensor& t) {
    return {matrix(padded(t.rows, compute::block), padded(t.cols, compute::group), t.codes.data(), t.scales.data(),
                   t.steps.data(), t.book),
            t.kind, static_cast<int>(t.rows)};
}

Result<void> check_limits(std::span<const Limit> limits) {
    for (const auto& l : limits)
        if (l.value < l.low || l.value > l.high)
            return Error::make(Code::model_format, "%s is %u; this version runs %u to %u", l.name, l.value, l.low,
                               l.high);
    return {};
}

Result<void> check_params(const image::ModelParams& p) {
    if ((p.flags & image::flag_encoder) != 0)
        return Error::make(Code::model_format, "%.63s is an encoder: it embeds texts, and does not write any", p.name);
    if ((p.flags & ~image::known_flags) != 0)
        return Error::make(Code::model_format, "the model has properties (flags %#x) that this version does not know",
                           p.flags & ~image::known_flags);
    const Limit limits[] = {{"layers", p.layers, 1, max_layers}, {"dim", p.dim, 32, 16384},
                            {"hidden", p.hidden, 1, 65536},      {"heads", p.heads, 1, 256},
                            {"kv_heads", p.kv_heads, 1, 256},    {"head_dim", p.head_dim, 4, compute::max_head_dim},
                            {"vocab", p.vocab, 1, 1u << 20},     {"context", p.context, 1, 1u << 20}};
    TRY(check_limits(limits));
    if (p.dim % compute::group != 0 || p.heads * p.head_dim % compute::group != 0)
        return Error::make(Code::model_format, "dim %u and heads x head_dim %u must be multiples of 32", p.dim,
                           p.heads * p.head_dim);
    if (p.head_dim % 4 != 0 || p.heads % p.kv_heads != 0 || p.rope_dims > p.head_dim || p.rope_dims % 2 != 0)
        return Error::make(Code::model_format, "heads %u, kv_heads %u, head_dim %u, rope_dims %u do not fit together",
                           p.heads, p.kv_heads, p.head_dim, p.rope_dims);
    if (p.experts != 0 && (p.experts_used == 0 || p.experts_used > p.experts || p.experts > image::max_experts ||
                           p.experts_used > max_experts_used || p.hidden % compute::block != 0))
        return Error::make(
            Code::model_format,
            "%u experts, %u of them used, of %u hidden rows; this version runs %u, %d, and multiples of %d", p.experts,
            p.experts_used, p.hidden, image::max_experts, max_experts_used, compute::block);
    if (!(p.norm_eps > 0 && p.norm_eps < 1))
        return Error::make(Code::model_format, "norm_eps is %g; it must be between 0 and 1",
                           static_cast<double>(p.norm_eps));
    struct {
        const char* name;
        float value;
    } const factors[] = {{"embed_scale", p.embed_scale},    {"residual_scale", p.residual_scale},
                         {"logit_scale", p.logit_scale},    {"attn_scale", p.attn_scale},
                         {"rope_scale", p.rope_scale},      {"attn_softcap", p.attn_softcap},
                         {"final_softcap", p.final_softcap}};
    for (const auto& f : factors)
        if (!(f.value >= 0 && f.value <= 1e6f))
            return Error::make(Code::model_format, "%s is %g; it must be between 0 and 1e6", f.name,
                               static_cast<double>(f.value));
    return {};
}

Result<void> bind(const image::Image& image, Model& m) {
    const image::ModelParams& p = m.params = image.params();
    TRY(check_params(p));
    TRY(check_names(image));
    const float hadamard = static_cast<float>(p.head_dim & (0u - p.head_dim));
    m.attn_scale = (p.attn_scale != 0 ? p.attn_scale : 1.0f / std::sqrt(static_cast<float>(p.head_dim))) / hadamard;
    m.inv_freq = TRY(bind_vector(image, "rope.inv_freq", p.rope_dims / 2));
    m.inv_freq_local = nullptr;
    if (p.rope_theta_local != 0) m.inv_freq_local = TRY(bind_vector(image, "rope.inv_freq_local", p.rope_dims / 2));
    m.rows = image.rows();
    m.experts = image.experts();
    m.stream = image.layers();
    m.embedding = TRY(bind_matrix(image, "token_embd", p.vocab, p.dim));
    m.output = (p.flags & image::flag_tied_output) ? m.embedding : TRY(bind_matrix(image, "output", p.vocab, p.dim));
    m.output_norm = TRY(bind_vector(image, "output_norm", p.dim));
    for (std::uint32_t i = 0; i < p.layers; i++) TRY(bind_layer(image, i, m.layers[i]));
    return {};
}

}  // namespace slmd::engine
