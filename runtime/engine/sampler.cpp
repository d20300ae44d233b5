#include "engine/sampler.h"

#include <limits>

#include "engine/exp.h"

namespace slmd::engine {
namespace {

// SplitMix64 (Steele, Lea, Flood 2014), the top 24 bits as a float in [0, 1).
float next_uniform(std::uint64_t& state) {
    std::uint64_t z = state += 0x9E3779B97F4A7C15ull;
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9ull;
    z = (z ^ (z >> 27)) * 0x94D049BB133111EBull;
    return static_cast<float>((z ^ (z >> 31)) >> 40) * 0x1p-24f;
}

}  // namespace

std::int32_t Sampler::sample(std::span<float> logits, std::span<const std::int32_t> history) {
    const auto vocab = static_cast<std::int32_t>(logits.size());
    if (params_.repetition_penalty != 1) {
        const std::size_t window = static_cast<std::size_t>(params_.penalty_window < 0 ? 0 : params_.penalty_window);
        const auto recent = history.size() > window ? history.last(window) : history;
        for (std::size_t i = 0; i < recent.size(); i++) {
            bool seen = false;  // a token counts once, however often it occurs
            for (std::size_t j = 0; j < i && !seen; j++) seen = recent[j] == recent[i];
            if (seen || recent[i] < 0 || recent[i] >= vocab) continue;
            float& l = logits[static_cast<std::size_t>(recent[i])];
            l = l > 0 ? l / params_.repetition_penalty : l * params_.repetition_penalty;
        }
    }
    for (const Bias& b : params_.bias)
        if (b.token >= 0 && b.token < vocab) logits[static_cast<std::size_t>(b.token)] += b.value;
    return sample_again(logits);
}

std::int32_t Sampler::sample_again(std::span<const float> logits) {
    const auto vocab = static_cast<std::int32_t>(logits.size());
    constexpr float ruled_out = -std::numeric_limits<float>::infinity();
    std::int32_t best = 0;
    float first = logits[0], second = ruled_out;
    for (std::int32_t i = 1; i < vocab; i++) {
        const float l = logits[static_cast<std::size_t>(i)];
        if (l > first) {
            second = first;
            first = l;
            best = i;
        } else if (l > second) {
            second = l;
        }
    }
    const double top = static_cast<double>(first);
    // The sums at temperature 1 over the whole vocabulary, for probability(), margin() and entropy().
    double total = 0, moment = 0;
    for (float l : logits)
        if (const double x = static_cast<double>(l) - top; x > -25) {  // the rest is below the precision of the report
            const double e = exp_of(x);
            total += e;
            moment += e * x;
        }
    const double other = second > ruled_out ? exp_of(static_cast<double>(second) - top) : 0;
    margin_ = static_cast<float>((1 - other) / total);
    entropy_ = static_cast<float>(log_of(total) - moment / total);
    if (params_.temperature <= 0) {
        probability_ = static_cast<float>(1 / total);
        return best;
    }

    // The k most probable, best first: a heap would be faster for large k, but the threshold rejects nearly every token
    // at once.
    struct Candidate {
        std::int32_t token;
        float logit;
    } list[max_candidates];
    const int limit = params_.top_k <= 0 || params_.top_k > max_candidates ? max_candidates : params_.top_k;
    int count = 0;
    for (std::int32_t i = 0; i < vocab; i++) {
        const float l = logits[static_cast<std::size_t>(i)];
        if (count == limit && l <= list[count - 1].logit) continue;
        int at = count < limit ? count++ : count - 1;
        for (; at > 0 && list[at - 1].logit < l; at--) list[at] = list[at - 1];
        list[at] = {i, l};
    }
    // Filters at temperature 1 first (top-p, then min-p), then the temperature, as llama.cpp's default chain.
    double kept = 0;
    for (int i = 0; i < count; i++) kept += exp_of(static_cast<double>(list[i].logit) - top);
    double mass = 0;
    int keep = 0;
    for (; keep < count; keep++) {
        const double e = exp_of(static_cast<double>(list[keep].logit) - top);
        if (keep > 0 && (mass >= static_cast<double>(params_.top_p) * kept || e < static_cast<double>(params_.min_p)))
            break;
        mass += e;
    }
    double weights[max_candidates], sum = 0;
    for (int i = 0; i < keep; i++)
        sum += weights[i] =
            exp_of((static_cast<double>(list[i].logit) - top) / static_cast<double>(params_.temperature));
    double u = static_cast<double>(next_uniform(state_)) * sum;
    int chosen = 0;
    while (chosen + 1 < keep && u >= weights[chosen]) u -= weights[chosen++];
    probability_ = static_cast<float>(exp_of(static_cast<double>(list[chosen].logit) - top) / total);
    return list[chosen].token;
}

}  // namespace slmd::engine
