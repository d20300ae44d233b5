// From logits to a token: repetition penalty, bias, temperature, top-k, top-p, min-p, seed. Nothing is allocated.
#pragma once
#include <cstdint>
#include <span>

#include "base/arena.h"

namespace slmd::engine {

struct Bias {
    std::int32_t token;
    float value;
};

struct SamplerParams {
    float temperature = 0;         // 0: greedy (lowest id wins a tie)
    int top_k = 40;                // 0: all
    float top_p = 0.95f;           // 1: off
    float min_p = 0.05f;           // 0: off; relative to the most probable token
    float repetition_penalty = 1;  // 1: off; applied to the last `penalty_window` tokens (CTRL, arXiv 1909.05858)
    int penalty_window = 64;
    std::uint64_t seed = 0;
    std::span<const Bias> bias{};
};

class Sampler {
  public:
    static constexpr int max_candidates = 256;  // top_k above this is cut to it
    void reset(const SamplerParams& params) {
        params_ = params;
        state_ = params.seed;
    }
    // Changes logits (penalty, bias). history: prompt and answer so far. The same seed, logits and history give the
    // same token everywhere.
    std::int32_t sample(std::span<float> logits, std::span<const std::int32_t> history);
    // The same from logits that sample() has changed, once more: some are -infinity now.
    std::int32_t sample_again(std::span<const float> logits);
    // Probability (temperature 1, no filters) of the token that sample() returned last.
    float probability() const { return probability_; }
    // Of the distribution that it was drawn from, likewise: the most probable token's lead over the second, and the
    // entropy in nats.
    float margin() const { return margin_; }
    float entropy() const { return entropy_; }

  private:
    SamplerParams params_;
    std::uint64_t state_ = 0;
    float probability_ = 0, margin_ = 0, entropy_ = 0;
};

}  // namespace slmd::engine
