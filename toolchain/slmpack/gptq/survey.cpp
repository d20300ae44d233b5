#include "survey.h"

#include <cmath>

#include "draw.h"
#include "toolchain/slmpack/image/parallel.h"

namespace slmd::pack {
namespace {

constexpr long piece = 64;  // positions whose logits are held at once, a thread

struct End {
    const image::ModelParams& params;
    const std::vector<float>& norm;
    const std::vector<float>& output;
    const Matrix transposed;  // of the output matrix

    // From the last layer's hidden states to the logits and back: the gradient at the hidden states.
    Matrix gradient(const Matrix& hidden, std::uint64_t sequence, std::vector<double>& tokens, Matrix& normed) const {
        normed = rms_norm(hidden, norm.data(), params.norm_eps);
        Matrix d(hidden.rows(), hidden.cols());
        for (long at = 0; at < hidden.rows(); at += piece) {
            const long n = std::min(piece, hidden.rows() - at);
            Matrix logits = linear(normed.middleRows(at, n), output.data(), long(params.vocab)) * params.logit_scale;
            soft_cap(logits, params.final_softcap);
            Matrix slope;
            if (params.final_softcap != 0) slope = 1 - (logits.array() / params.final_softcap).square();
            for (long r = 0; r < n; r++) {
                auto row = logits.row(r).array();
                row = (row - row.maxCoeff()).exp();
                row /= row.sum();
            }
            for (long r = 0; r < n; r++) {
                auto p = logits.row(r);
                for (long i = 0; i < p.size(); i++) tokens[std::size_t(i)] += double(p(i)) * (1 - double(p(i)));
                const long drawn = draw({p.data(), std::size_t(p.size())}, 1, sequence, std::uint64_t(at + r));
                p = -p;
                p(drawn) += 1;
            }
            if (params.final_softcap != 0) logits.array() *= slope.array();
            d.middleRows(at, n) = linear(logits, transposed.data(), hidden.cols()) * params.logit_scale;
        }
        return rms_norm_backward(hidden, norm.data(), params.norm_eps, d);
    }
};

}  // namespace

Result<Survey> survey(const Source& source, std::span<const Sequence> sequences, unsigned threads,
                      const LayerSeen& layer_seen, const std::function<void(double)>& progress,
                      std::optional<SurveyState> state, const SurveyKept& kept) {
    const image::ModelParams& p = source.params;
    const bool tied = (p.flags & image::flag_tied_output) != 0;
    const std::size_t count = sequences.size();
    std::size_t positions = 0;
    for (const Sequence& s : sequences) positions += s.size();
    const std::uint32_t layers = state ? state->layers : p.layers;  // whose hidden states are needed
    const double steps = 2.0 * layers + 2;
    double done = 0;
    const auto step = [&] {
        if (progress) progress(++done / steps);
    };

    std::vector<std::vector<Matrix>> hidden(layers + 1,
                                            std::vector<Matrix>(count));  // before each layer, and behind the last
    {
        const std::vector<float> embedding = TRY(source.read(*source.find("token_embd")));
        for (std::size_t s = 0; s < count; s++) {
            hidden[0][s].resize(long(sequences[s].size()), long(p.dim));
            for (std::size_t i = 0; i < sequences[s].size(); i++)
                hidden[0][s].row(long(i)) =
                    Eigen::Map<const Vector>(embedding.data() + std::size_t(sequences[s][i]) * p.dim, long(p.dim)) *
                    p.embed_scale;
        }
    }
    for (std::uint32_t layer = 0; layer < layers; layer++) {
        const Block block = TRY(Block::open(source, layer));
        parallel(
            count, 1,
            [&](std::size_t s) {
                Matrix h = hidden[layer][s];
                block.forward(h);
                hidden[layer + 1][s] = std::move(h);
            },
            threads);
        step();
    }

    const bool begun = state.has_value();
    if (!begun) state.emplace(SurveyState{layers, {}, std::vector<Matrix>(count)});
    Survey& out = state->so_far;
    std::vector<Matrix>& gradient = state->gradient;
    if (!begun) {
        out.tokens.resize(p.vocab);
        const std::vector<float> norm = TRY(source.read(*source.find("output_norm")));
        const std::vector<float> output = TRY(source.read(*source.find(tied ? "token_embd" : "output")));
        const End end{p, norm, output, Eigen::Map<const Matrix>(output.data(), long(p.vocab), long(p.dim)).transpose()};
        std::vector<std::vector<double>> tokens(count);
        std::vector<Matrix> normed(count);
        parallel(
            count, 1,
            [&](std::size_t s) {
                tokens[s].resize(p.vocab);
                gradient[s] = end.gradient(hidden[p.layers][s], s, tokens[s], normed[s]);
            },
            threads);
        Eigen::MatrixXd hessian = Eigen::MatrixXd::Zero(long(p.dim), long(p.dim));
        for (std::size_t s = 0; s < count; s++) {
            for (std::size_t i = 0; i < p.vocab; i++)
                out.tokens[i] += tokens[s][i] / double(positions) * p.logit_scale * p.logit_scale;
            const Matrix t = normed[s].transpose();
            hessian += linear(t, t.data(), t.rows()).cast<double>() / double(positions);
        }
        out.output_hessian.assign(hessian.data(), hessian.data() + hessian.size());
    }
    hidden[layers].clear();
    step();
    for (std::uint32_t layer = layers; layer-- > 0;) {
        const Block block = TRY(Block::open(source, layer));
        std::vector<Sensitivity> parts(count);
        parallel(
            count, 1, [&](std::size_t s) { gradient[s] = block.backward(hidden[layer][s], gradient[s], parts[s]); },
            threads);
        for (const Sensitivity& part : parts)
            for (const auto& [name, sums] : part) {
                out.outputs[name].resize(sums.size());
                for (std::size_t i = 0; i < sums.size(); i++) out.outputs[name][i] += sums[i] / double(positions);
            }
        TRY(layer_seen(block, hidden[layer], out.outputs));
        hidden[layer].clear();
        state->layers = layer;
        if (kept) TRY(kept(*state));
        step();
    }
    out.embedding.resize(p.dim);
    for (const Matrix& g : gradient)
        for (long r = 0; r < g.rows(); r++)
            for (long c = 0; c < g.cols(); c++)
                out.embedding[std::size_t(c)] +=
                    double(g(r, c)) * g(r, c) * p.embed_scale * p.embed_scale / double(positions);
    step();
    return std::move(out);
}

}  // namespace slmd::pack
