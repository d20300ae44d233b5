#include "prune.h"
#include "toolchain/slmpack/image/parallel.h"

namespace slmd::pack {
namespace {

// Sums over the positions of one sequence.
struct Seen {
    std::vector<double> attention, feed;  // squares of what is added to the residual, a value a row
    std::vector<double> channels;         // squares of what goes into ffn_down
};

void add_squares(const Matrix& x, std::vector<double>& sums) {
    sums.assign(static_cast<std::size_t>(x.cols()), 0);
    for (long r = 0; r < x.rows(); r++)
        for (long c = 0; c < x.cols(); c++) sums[static_cast<std::size_t>(c)] += double(x(r, c)) * double(x(r, c));
}

Seen look(const Block& block, const Matrix& before) {
    const auto through = [&](const Matrix& x, const char* name) {
        return linear(x, block.weight(name).data(), block.rows(name));
    };
    Seen seen;
    Matrix hidden = before;
    const Matrix mixed = block.output_input(block.attention_input(hidden));
    add_squares(through(mixed, "attn_output"), seen.attention);
    block.add_attention(hidden, mixed);
    const Matrix active = block.down_input(block.feed_input(hidden));
    add_squares(through(active, "ffn_down"), seen.feed);
    add_squares(active, seen.channels);
    return seen;
}

void add(std::vector<double>& to, const std::vector<double>& more) {
    to.resize(more.size());
    for (std::size_t i = 0; i < more.size(); i++) to[i] += more[i];
}

}  // namespace

Result<Prices> price(const Source& source, std::span<const Sequence> sequences, unsigned threads,
                     const std::function<void(double)>& progress) {
    const image::ModelParams& p = source.params;
    if ((p.flags & image::flag_encoder) != 0)
        return Error::make(Code::not_supported, "an encoder: slmpack prunes models that write");
    if (p.experts != 0)
        return Error::make(Code::not_supported,
                           "a mixture of experts: slmpack prunes models whose feed-forward is one");
    double positions = 0;
    for (const Sequence& s : sequences) positions += static_cast<double>(s.size());
    Prices out{std::vector<double>(p.layers), std::vector<std::vector<double>>(p.layers)};
    std::uint32_t layer = p.layers;
    const auto seen = [&](const Block& block, std::span<const Matrix> hidden,
                          const Sensitivity& sensitivity) -> Result<void> {
        layer--;
        std::vector<Seen> parts(hidden.size());
        parallel(
            hidden.size(), 1, [&](std::size_t s) { parts[s] = look(block, hidden[s]); }, threads);
        Seen all;
        for (const Seen& one : parts)
            add(all.attention, one.attention), add(all.feed, one.feed), add(all.channels, one.channels);
        const std::vector<double>& at_attention = sensitivity.at(block.full("attn_output"));
        const std::vector<double>& at_feed = sensitivity.at(block.full("ffn_down"));
        for (std::size_t row = 0; row < p.dim; row++)
            out.layers[layer] +=
                (at_attention[row] * all.attention[row] + at_feed[row] * all.feed[row]) / positions / 2;
        const std::vector<float>& down = block.weight("ffn_down");
        std::vector<double>& channels = out.channels[layer];
        channels.resize(p.hidden);
        for (std::size_t row = 0; row < p.dim; row++)
            for (std::size_t c = 0; c < p.hidden; c++)
                channels[c] += at_feed[row] * double(down[row * p.hidden + c]) * double(down[row * p.hidden + c]) / 2;
        for (std::size_t c = 0; c < p.hidden; c++) channels[c] *= all.channels[c] / positions;
        return {};
    };
    TRY(survey(source, sequences, threads, seen, progress));
    return out;
}

}  // namespace slmd::pack
