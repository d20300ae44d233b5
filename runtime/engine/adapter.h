// An adapter (LoRA) as the forward pass uses it: two thin matrices beside each one that it changes.
#pragma once
#include "engine/model.h"

namespace slmd::engine {

// A matrix W [outputs, inputs] becomes W + scale * B A. rank 0: it stays as it is, and the rest is not set.
struct LowRank {
    int rank;
    float scale;
    Linear a, b;  // [rank, inputs], [outputs, rank]
};

// The seven matrices of a layer that may have one, as image::adapted_matrices orders them.
enum Adapted { adapted_q, adapted_k, adapted_v, adapted_output, adapted_gate, adapted_up, adapted_down };
static_assert(adapted_down + 1 == image::adapted_count);

// That it was made for this very base. Errors: model_format, saying what to do.
Result<void> check_base(const image::Image& adapter, const image::Image& base);

// Checks an adapter against the model's shapes; returns its largest rank. The hostile file may hold anything that
// image::Image lets pass. Of one whose tensors are there (not only its index) scales are checked, too. targets
// [layers * adapted_count]: views into the adapter; null: they are not wanted. Errors: not_found and model_format,
// naming the tensor.
Result<int> bind(const image::Image& adapter, const image::ModelParams& base, LowRank* targets);

// Both of them; the largest rank.
Result<int> check_adapter(const image::Image& adapter, const image::Image& base);

}  // namespace slmd::engine
