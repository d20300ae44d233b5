#include "block.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slmd::pack {

// What attention works on: queries and keys before and after their norms and their rotation.
struct Block::Heads {
    Matrix q_projected, k_projected, q, k, v;
};

Result<Block> Block::open(const Source& source, std::uint32_t layer) {
    Block b;
    b.source_ = &source;
    b.layer_ = layer;
    b.prefix_ = "blk." + std::to_string(layer) + ".";
    for (const SourceTensor& t : source.tensors) {
        if (!t.name.starts_with(b.prefix_)) continue;
        const std::string name = t.name.substr(b.prefix_.size());
        b.weights_[name] = TRY(source.read(t));
        b.cols_[name] = long(t.cols);
    }
    return b;
}

const std::vector<float>& Block::inv_freq() const {
    return image::layer_bit(source_->params.sliding, layer_) && !source_->inv_freq_local.empty()
               ? source_->inv_freq_local
               : source_->inv_freq;
}

// A norm of the row, or of every head where its weights are as many as a head has.
Matrix Block::normed(const Matrix& x, const std::string& name) const {
    const auto found = weights_.find(name);
    if (found == weights_.end()) return x;
    const long width = long(found->second.size());
    const Matrix parts = Eigen::Map<const Matrix>(x.data(), x.size() / width, width);
    const Matrix y = rms_norm(parts, found->second.data(), source_->params.norm_eps);
    return Eigen::Map<const Matrix>(y.data(), x.rows(), x.cols());
}

Matrix Block::norm_backward(const Matrix& x, const std::string& name, const Matrix& gradient) const {
    const auto found = weights_.find(name);
    if (found == weights_.end()) return gradient;
    const long width = long(found->second.size());
    const auto parts = [&](const Matrix& m) -> Matrix {
        return Eigen::Map<const Matrix>(m.data(), m.size() / width, width);
    };
    const Matrix d = rms_norm_backward(parts(x), found->second.data(), source_->params.norm_eps, parts(gradient));
    return Eigen::Map<const Matrix>(d.data(), x.rows(), x.cols());
}

// The gradient before a matrix, or before some of its rows, and what the one behind it weighs.
Matrix Block::back_through(const Matrix& gradient, const std::string& name, long first, long count,
                           Sensitivity& sensitivity) const {
    std::vector<double>& sums = sensitivity[full(name)];
    sums.resize(std::size_t(rows(name)));
    for (long r = 0; r < gradient.rows(); r++)
        for (long c = 0; c < count; c++) sums[std::size_t(first + c)] += double(gradient(r, c)) * gradient(r, c);
    const long width = cols(name);
    const Matrix transposed = Eigen::Map<const Matrix>(weight(name).data() + first * width, count, width).transpose();
    return linear(gradient, transposed.data(), width);
}
Matrix Block::back_through(const Matrix& gradient, const std::string& name, Sensitivity& sensitivity) const {
    return back_through(gradient, name, 0, rows(name), sensitivity);
}

Matrix Block::projected(const Matrix& x, const std::string& name) const {
    Matrix y = through(x, name);
    if (const auto bias = weights_.find(name + ".bias"); bias != weights_.end())
        y.rowwise() += Eigen::Map<const Vector>(bias->second.data(), y.cols());
    return y;
}

Block::Heads Block::heads(const Matrix& x) const {
    const image::ModelParams& p = source_->params;
    Heads h{projected(x, "attn_q"), projected(x, "attn_k"), {}, {}, projected(x, "attn_v")};
    h.q = normed(h.q_projected, "attn_q_norm");
    h.k = normed(h.k_projected, "attn_k_norm");
    if (!image::layer_bit(p.no_rope, layer_))
        for (Matrix* m : {&h.q, &h.k}) rope(*m, p.head_dim, inv_freq(), p.rope_scale == 0 ? 1 : p.rope_scale, 0);
    return h;
}

// How much every position of a head looks at every other; before_cap: what went into the soft cap, for the way back.
Matrix Block::scores(const Heads& heads, long head, Matrix* before_cap) const {
    const image::ModelParams& p = source_->params;
    const long d = p.head_dim, kv = head / (p.heads / p.kv_heads) * d;
    const Matrix key = heads.k.middleCols(kv, d);
    const float scale = p.attn_scale != 0 ? p.attn_scale : 1 / std::sqrt(float(d));
    Matrix s = linear(heads.q.middleCols(head * d, d), key.data(), key.rows()) * scale;
    if (before_cap != nullptr) *before_cap = s;
    soft_cap(s, p.attn_softcap);
    causal_softmax(s, 0, image::layer_bit(p.sliding, layer_) && p.window != 0 ? long(p.window) : s.cols());
    return s;
}

Matrix Block::attention_input(const Matrix& hidden) const { return normed(hidden, "attn_norm"); }

Matrix Block::output_input(const Matrix& attention_input) const {
    const image::ModelParams& p = source_->params;
    const Heads h = heads(attention_input);
    const long d = p.head_dim;
    Matrix mixed(h.q.rows(), h.q.cols());
    for (long head = 0; head < long(p.heads); head++) {
        const Matrix value = h.v.middleCols(head / (p.heads / p.kv_heads) * d, d).transpose();
        mixed.middleCols(head * d, d) = linear(scores(h, head, nullptr), value.data(), d);
    }
    return mixed;
}

void Block::add_attention(Matrix& hidden, const Matrix& mixed) const {
    hidden += normed(through(mixed, "attn_output"), "post_attention_norm") * source_->params.residual_scale;
}

Matrix Block::feed_input(const Matrix& hidden) const { return normed(hidden, "ffn_norm"); }

Matrix Block::down_input(const Matrix& feed_input) const {
    return gated(through(feed_input, "ffn_gate"), through(feed_input, "ffn_up"), gelu());
}

void Block::add_feed(Matrix& hidden, const Matrix& activations) const {
    hidden += normed(through(activations, "ffn_down"), "post_ffw_norm") * source_->params.residual_scale;
}

void Block::forward(Matrix& hidden) const {
    add_attention(hidden, output_input(attention_input(hidden)));
    const Matrix f = feed_input(hidden);
    if (is_mixture())
        add_experts(hidden, f);
    else
        add_feed(hidden, down_input(f));
}

// ---- experts: each position's go by the highest logits, weighted by their softmax among those or among all

// 0: the position does not go to the expert.
Matrix Block::shares(const Matrix& logits) const {
    const image::ModelParams& p = source_->params;
    const bool among_chosen = (p.flags & image::flag_expert_share) != 0;
    Matrix out = Matrix::Zero(logits.rows(), logits.cols());
    std::vector<long> order(p.experts);
    for (long r = 0; r < logits.rows(); r++) {
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(), [&](long a, long b) { return logits(r, a) > logits(r, b); });
        float sum = 0;
        for (std::size_t i = 0; i < (among_chosen ? p.experts_used : p.experts); i++)
            sum += std::exp(logits(r, order[i]) - logits(r, order[0]));
        for (std::size_t i = 0; i < p.experts_used; i++)
            out(r, order[i]) = std::exp(logits(r, order[i]) - logits(r, order[0])) / sum;
    }
    return out;
}

Block::Route Block::route(const Matrix& feed_input) const {
    const Matrix share = shares(through(feed_input, "ffn_gate_inp"));
    Route out{std::vector<std::vector<long>>(source_->params.experts), {}};
    out.shares.resize(out.positions.size());
    for (long r = 0; r < share.rows(); r++)
        for (long e = 0; e < share.cols(); e++)
            if (share(r, e) != 0) {
                out.positions[std::size_t(e)].push_back(r);
                out.shares[std::size_t(e)].push_back(share(r, e));
            }
    return out;
}

Matrix Block::expert_down_input(std::size_t expert, const Matrix& x) const {
    return gated(linear(x, part("ffn_gate_exps", expert), part_rows("ffn_gate_exps")),
                 linear(x, part("ffn_up_exps", expert), part_rows("ffn_up_exps")), gelu());
}

Matrix Block::experts(const Matrix& feed_input) const {
    Matrix out = Matrix::Zero(feed_input.rows(), feed_input.cols());
    const Route route = this->route(feed_input);
    for (std::size_t e = 0; e < route.positions.size(); e++) {
        if (route.positions[e].empty()) continue;
        const Matrix y = linear(expert_down_input(e, picked(feed_input, route.positions[e])), part("ffn_down_exps", e),
                                part_rows("ffn_down_exps"));
        for (long i = 0; i < y.rows(); i++)
            out.row(route.positions[e][std::size_t(i)]) += y.row(i) * route.shares[e][std::size_t(i)];
    }
    return out;
}

void Block::add_experts(Matrix& hidden, const Matrix& feed_input) const {
    hidden += normed(experts(feed_input), "post_ffw_norm") * source_->params.residual_scale;
}

namespace {

// The gradient before the gate's matrix and before the other one, from that behind their product.
void gated_backward(const Matrix& gate, const Matrix& up, bool gelu, const Matrix& gradient, Matrix& d_gate,
                    Matrix& d_up) {
    const Matrix ones = Matrix::Ones(gate.rows(), gate.cols());
    Matrix slope;  // of the gate's function
    if (gelu) {
        const auto g = gate.array();
        const Matrix t = (0.7978845608f * (g + 0.044715f * g.cube())).tanh();
        slope = 0.5f * (1 + t.array()) +
                0.5f * g * (1 - t.array().square()) * 0.7978845608f * (1 + 3 * 0.044715f * g.square());
    } else {
        const Matrix s = 1 / (1 + (-gate.array()).exp());
        slope = s.array() * (1 + gate.array() * (1 - s.array()));
    }
    d_gate = gradient.array() * up.array() * slope.array();
    d_up = gradient.array() * gated(gate, ones, gelu).array();
}

}  // namespace

// The gradient at the experts' input, from that behind their sum.
Matrix Block::experts_backward(const Matrix& feed_input, const Matrix& gradient, Sensitivity& sensitivity) const {
    const Matrix logits = through(feed_input, "ffn_gate_inp"), share = shares(logits);
    const bool among_chosen = (source_->params.flags & image::flag_expert_share) != 0;
    Matrix d_share = Matrix::Zero(share.rows(), share.cols()), d = Matrix::Zero(feed_input.rows(), feed_input.cols());
    const Route route = this->route(feed_input);
    for (std::size_t e = 0; e < route.positions.size(); e++) {
        const std::vector<long>& positions = route.positions[e];
        if (positions.empty()) continue;
        const long hidden = part_rows("ffn_gate_exps"), dim = part_rows("ffn_down_exps"), n = long(e);
        const Matrix x = picked(feed_input, positions), gate = linear(x, part("ffn_gate_exps", e), hidden),
                     up = linear(x, part("ffn_up_exps", e), hidden),
                     y = linear(gated(gate, up, gelu()), part("ffn_down_exps", e), dim);
        Matrix d_y = picked(gradient, positions);
        for (long i = 0; i < d_y.rows(); i++) {
            d_share(positions[std::size_t(i)], n) = d_y.row(i).dot(y.row(i));
            d_y.row(i) *= route.shares[e][std::size_t(i)];
        }
        Matrix d_gate, d_up;
        gated_backward(gate, up, gelu(), back_through(d_y, "ffn_down_exps", n * dim, dim, sensitivity), d_gate, d_up);
        const Matrix d_x = back_through(d_gate, "ffn_gate_exps", n * hidden, hidden, sensitivity) +
                           back_through(d_up, "ffn_up_exps", n * hidden, hidden, sensitivity);
        for (long i = 0; i < d_x.rows(); i++) d.row(positions[std::size_t(i)]) += d_x.row(i);
    }
    // Through the softmax. Which experts are chosen has no slope.
    Matrix all = share;
    for (long r = 0; r < logits.rows() && !among_chosen; r++) {
        all.row(r) = (logits.row(r).array() - logits.row(r).maxCoeff()).exp();
        all.row(r) /= all.row(r).sum();
    }
    const Eigen::ArrayXf mean = (share.array() * d_share.array()).rowwise().sum();
    const Matrix d_logits = all.array() * (d_share.array().colwise() - mean);
    const Matrix router =
        Eigen::Map<const Matrix>(weight("ffn_gate_inp").data(), logits.cols(), feed_input.cols()).transpose();
    return d + linear(d_logits, router.data(), feed_input.cols());
}

Matrix picked(const Matrix& m, const std::vector<long>& rows) {
    Matrix out(long(rows.size()), m.cols());
    for (std::size_t i = 0; i < rows.size(); i++) out.row(long(i)) = m.row(rows[i]);
    return out;
}

Matrix Block::backward(const Matrix& hidden, const Matrix& gradient, Sensitivity& sensitivity) const {
    const image::ModelParams& p = source_->params;
    const long d = p.head_dim;

    const Matrix x = attention_input(hidden);
    const Heads h = heads(x);
    const Matrix mixed = output_input(x);
    const Matrix attention = through(mixed, "attn_output");
    const Matrix middle = hidden + normed(attention, "post_attention_norm") * p.residual_scale;
    const Matrix f = feed_input(middle);
    const Matrix d_added = gradient * p.residual_scale;
    Matrix d_feed;
    if (is_mixture()) {
        d_feed = experts_backward(f, norm_backward(experts(f), "post_ffw_norm", d_added), sensitivity);
    } else {
        const Matrix gate = through(f, "ffn_gate"), up = through(f, "ffn_up"),
                     down = through(gated(gate, up, gelu()), "ffn_down");
        Matrix d_gate, d_up;
        gated_backward(gate, up, gelu(),
                       back_through(norm_backward(down, "post_ffw_norm", d_added), "ffn_down", sensitivity), d_gate,
                       d_up);
        d_feed = back_through(d_gate, "ffn_gate", sensitivity) + back_through(d_up, "ffn_up", sensitivity);
    }
    const Matrix d_middle = gradient + norm_backward(middle, "ffn_norm", d_feed);

    const Matrix d_mixed = back_through(norm_backward(attention, "post_attention_norm", d_middle * p.residual_scale),
                                        "attn_output", sensitivity);
    Matrix d_q(h.q.rows(), h.q.cols()), d_k = Matrix::Zero(h.k.rows(), h.k.cols()),
                                        d_v = Matrix::Zero(h.v.rows(), h.v.cols());
    const float scale = p.attn_scale != 0 ? p.attn_scale : 1 / std::sqrt(float(d));
    for (long head = 0; head < long(p.heads); head++) {
        const long at = head * d, kv = head / (p.heads / p.kv_heads) * d;
        Matrix raw;
        const Matrix looks = scores(h, head, &raw);
        const Matrix value = h.v.middleCols(kv, d), d_out = d_mixed.middleCols(at, d);
        const Matrix looks_t = looks.transpose(), d_out_t = d_out.transpose();
        d_v.middleCols(kv, d) += linear(looks_t, d_out_t.data(), d);
        const Matrix d_looks = linear(d_out, value.data(), value.rows());
        const Eigen::ArrayXf mean = (d_looks.array() * looks.array()).rowwise().sum();
        Matrix d_scores = looks.array() * (d_looks.array().colwise() - mean) * scale;
        if (p.attn_softcap != 0) d_scores.array() *= 1 - (raw.array() / p.attn_softcap).tanh().square();
        const Matrix key_t = h.k.middleCols(kv, d).transpose(), query_t = h.q.middleCols(at, d).transpose(),
                     d_scores_t = d_scores.transpose();
        d_q.middleCols(at, d) = linear(d_scores, key_t.data(), d);
        d_k.middleCols(kv, d) += linear(d_scores_t, query_t.data(), d);
    }
    if (!image::layer_bit(p.no_rope, layer_)) {
        std::vector<float> back = inv_freq();  // a rotation's way back is the rotation by the other sign
        for (float& frequency : back) frequency = -frequency;
        for (Matrix* m : {&d_q, &d_k}) rope(*m, d, back, p.rope_scale == 0 ? 1 : p.rope_scale, 0);
    }
    const Matrix d_x = back_through(norm_backward(h.q_projected, "attn_q_norm", d_q), "attn_q", sensitivity) +
                       back_through(norm_backward(h.k_projected, "attn_k_norm", d_k), "attn_k", sensitivity) +
                       back_through(d_v, "attn_v", sensitivity);
    return d_middle + norm_backward(hidden, "attn_norm", d_x);
}

}  // namespace slmd::pack
