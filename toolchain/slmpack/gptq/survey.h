// What the answers of a model depend on: gradients of its own log-likelihood, measured once on the source in float32.
#pragma once
#include <functional>
#include <optional>
#include <span>
#include <vector>

#include "block.h"

namespace slmd::pack {

using Sequence = std::vector<std::int32_t>;

struct Survey {
    // Mean square of the gradient of a token's log-probability, tokens drawn from the model's own distribution, summed
    // over what follows: the diagonal of the Fisher information. Half of it, times a squared error, is KL in nats a
    // token.
    Sensitivity outputs;                 // of every matrix of every layer: a value a row
    std::vector<double> embedding;       // at the embedding's output: dim values
    std::vector<double> tokens;          // at the logits: mean of p (1 - p), vocab values
    std::vector<double> output_hessian;  // mean of x x^T before the output matrix: dim x dim
};

// What a layer was given, and what its outputs weigh (means over positions).
using LayerSeen =
    std::function<Result<void>(const Block& block, std::span<const Matrix> hidden, const Sensitivity& sensitivity)>;

// On its way back through the layers: what is known of those that were seen, to go on from.
struct SurveyState {
    std::uint32_t layers = 0;      // that are still to be seen
    Survey so_far;                 // of the layers behind them
    std::vector<Matrix> gradient;  // at their output, of each sequence
};
using SurveyKept = std::function<Result<void>(const SurveyState&)>;

// layer_seen: called for every layer, the last one first; kept: behind it, null: not. state: from where to go on, null:
// from the beginning; hidden states are computed anew. Memory: the hidden states of all sequences before every
// layer. The same on any number of threads, and from any state. Errors: those of the source, of layer_seen and of kept.
Result<Survey> survey(const Source& source, std::span<const Sequence> sequences, unsigned threads,
                      const LayerSeen& layer_seen, const std::function<void(double part)>& progress,
                      std::optional<SurveyState> state = std::nullopt, const SurveyKept& kept = nullptr);

}  // namespace slmd::pack
