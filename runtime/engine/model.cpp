#include "engine/model.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"

namespace slmd::engine {
namespace {

int padded(std::uint32_t n, int to) { return static_cast<int>(round_up(n, static_cast<std::size_t>(to))); }

Result<Linear> linear(const image::Image& image, const char* name, std::uint32_t rows, std::uint32_t cols) {
    const image::Tensor t = TRY(image.tensor(name));
    if (t.kind == image::Kind::f32 || t.rows != rows || t.cols != cols)
        return Error::make(Code::model_format, "tensor %s is %u x %u of kind %u; the family needs %u x %u, quantized",
                           name, t.rows, t.cols, static_cast<unsigned>(t.kind), rows, cols);
    Linear l{};
    l.kind = t.kind;
    l.rows = static_cast<int>(rows);
    l.w = {padded(rows, compute::block),
           padded(cols, compute::group),
           reinterpret_cast<const std::uint8_t*>(t.codes.data()),
           reinterpret_cast<const std::uint8_t*>(t.scales.data()),
           reinterpret_cast<const float*>(t.steps.data()),
           t.book};
    return l;
}

Result<const float*> vector(const image::Image& image, const char* name, std::uint32_t n) {
    const image::Tensor t = TRY(image.tensor(name));
    if (t.kind != image::Kind::f32 || t.rows * static_cast<std::uint64_t>(t.cols) != n)
        return Error::make(Code::model_format,
                           "tensor %s has %u x %u values of kind %u; the family needs %u of kind f32", name, t.rows,
                           t.cols, static_cast<unsigned>(t.kind), n);
    return reinterpret_cast<const float*>(t.codes.data());
}

}  // namespace

Result<void> check_params(const image::ModelParams& p) {
    if (std::strncmp(p.family, "llama", sizeof p.family) != 0)
        return Error::make(Code::model_format, "family \"%.31s\" is not known to this version: it runs llama",
                           p.family);
    const auto within = [](std::uint32_t v, std::uint32_t low, std::uint32_t high) { return v >= low && v <= high; };
    struct {
        const char* name;
        std::uint32_t value, low, high;
    } const limits[] = {{"layers", p.layers, 1, max_layers}, {"dim", p.dim, 32, 16384},
                        {"hidden", p.hidden, 1, 65536},      {"heads", p.heads, 1, 256},
                        {"kv_heads", p.kv_heads, 1, 256},    {"head_dim", p.head_dim, 4, compute::max_head_dim},
                        {"vocab", p.vocab, 1, 1u << 20},     {"context", p.context, 1, 1u << 20}};
    for (const auto& l : limits)
        if (!within(l.value, l.low, l.high))
            return Error::make(Code::model_format, "%s is %u; this version runs %u to %u", l.name, l.value, l.low,
                               l.high);
    if (p.dim % compute::group != 0 || p.heads * p.head_dim % compute::group != 0)
        return Error::make(Code::model_format, "dim %u and heads x head_dim %u must be multiples of 32", p.dim,
                           p.heads * p.head_dim);
    if (p.head_dim % 4 != 0 || p.heads % p.kv_heads != 0 || p.rope_dims > p.head_dim || p.rope_dims % 2 != 0)
        return Error::make(Code::model_format, "heads %u, kv_heads %u, head_dim %u, rope_dims %u do not fit together",
                           p.heads, p.kv_heads, p.head_dim, p.rope_dims);
    if (!(p.norm_eps > 0 && p.norm_eps < 1))
        return Error::make(Code::model_format, "norm_eps is %g; it must be between 0 and 1",
                           static_cast<double>(p.norm_eps));
    if (p.embed_scale != 1 || p.residual_scale != 1 || p.logit_scale != 1 || p.attn_softcap != 0 ||
        p.final_softcap != 0)
        return Error::make(Code::model_format, "this version does not run models with multipliers or soft caps");
    return {};
}

Result<void> bind(const image::Image& image, Model& m) {
    const image::ModelParams& p = m.params = image.params();
    TRY(check_params(p));
    const float hadamard = static_cast<float>(p.head_dim & (0u - p.head_dim));
    m.attn_scale = (p.attn_scale != 0 ? p.attn_scale : 1.0f / std::sqrt(static_cast<float>(p.head_dim))) / hadamard;
    m.inv_freq = TRY(vector(image, "rope.inv_freq", p.rope_dims / 2));
    m.embedding = TRY(linear(image, "token_embd", p.vocab, p.dim));
    m.output = (p.flags & image::flag_tied_output) ? m.embedding : TRY(linear(image, "output", p.vocab, p.dim));
    m.output_norm = TRY(vector(image, "output_norm", p.dim));
    const std::uint32_t q_rows = p.heads * p.head_dim, kv_rows = p.kv_heads * p.head_dim;
    for (std::uint32_t i = 0; i < p.layers; i++) {
        Layer& l = m.layers[i];
        char name[64];
        const auto part = [&](const char* suffix) {
            std::snprintf(name, sizeof name, "blk.%u.%s", i, suffix);
            return name;
        };
        l.attn_norm = TRY(vector(image, part("attn_norm"), p.dim));
        l.q = TRY(linear(image, part("attn_q"), q_rows, p.dim));
        l.k = TRY(linear(image, part("attn_k"), kv_rows, p.dim));
        l.v = TRY(linear(image, part("attn_v"), kv_rows, p.dim));
        l.attn_output = TRY(linear(image, part("attn_output"), p.dim, q_rows));
        l.ffn_norm = TRY(vector(image, part("ffn_norm"), p.dim));
        l.gate = TRY(linear(image, part("ffn_gate"), p.hidden, p.dim));
        l.up = TRY(linear(image, part("ffn_up"), p.hidden, p.dim));
        l.down = TRY(linear(image, part("ffn_down"), p.dim, p.hidden));
    }
    return {};
}

}  // namespace slmd::engine
