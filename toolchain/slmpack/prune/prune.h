// Structured pruning: whole layers, whole channels of the feed-forward and entries of the vocabulary are left out, so
// that what is left is an ordinary model of the same family, smaller in the file, in memory and in time alike. What
// each is worth is estimated on text of the task; what it costs is to be measured on the result (slmpack eval), and
// healed (models/recipes).
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "toolchain/slmpack/gptq/survey.h"
#include "toolchain/slmpack/source.h"

namespace slmd::pack {

// What leaving it out is likely to cost, in nats (KL) a token: half of the Fisher information at the outputs that
// change, times the mean square of the change. A second-order estimate (LeCun et al., Optimal Brain Damage, 1989) with
// the diagonal alone: right in order rather than in size, and too low for several together.
struct Prices {
    std::vector<double> layers;                 // layers: what attention and feed-forward add to the residual
    std::vector<std::vector<double>> channels;  // layers x hidden: a column of ffn_down
};

// The same on any number of threads. Memory: as survey(). Errors: not_supported (an encoder, a mixture of experts),
// those of survey().
Result<Prices> price(const Source& source, std::span<const Sequence> sequences, unsigned threads,
                     const std::function<void(double part)>& progress);

struct Kept {
    std::vector<std::uint32_t> layers;                 // in their order
    std::vector<std::vector<std::uint32_t>> channels;  // of each of those, in their order; equally many
    std::vector<std::uint32_t> tokens = {};            // in their order; empty: all
};

// The dearest `layers`, and in each of them the dearest `channels`; 0: all. A lower index wins a tie.
// Errors: incorrect_parameters (more than there are; channels that are no whole number of groups of 32).
Result<Kept> choose(const Prices& prices, std::uint32_t layers, std::uint32_t channels);

// `count` entries of a vocabulary: the tokens of the task that are `used`, whatever encoding goes through on its way to
// them, single bytes and special tokens, then what was merged first. A text whose tokens are kept is cut as before, any
// other text into more. Errors: incorrect_parameters (fewer than needed, more than there are), not_supported (no
// byte-pair encoding).
Result<std::vector<std::uint32_t>> choose_tokens(const TokenizerSpec& tokenizer, std::span<const std::int32_t> used,
                                                 std::uint32_t count);

// Writes the model that is left into a new folder, in the form of `source`, a Hugging Face folder: config.json with its
// new sizes, model.safetensors in the source's number format, tokenizer.json of the entries that are left, everything
// else as it was. There is no folder after an error. Errors: not_supported (another form, weights in 4 bits, layers
// that differ in a fixed pattern, a vocabulary that stands in no tokenizer.json), not_allowed (the folder is there),
// model_format, storage_failure.
Result<void> write_pruned(const Source& source, const Kept& kept, const std::string& folder);

}  // namespace slmd::pack
