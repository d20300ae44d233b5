// What logits say of the next token.
#pragma once
#include <span>

namespace slmd::pack {

// log(sum of e^x): what makes log-probabilities of logits.
double log_sum(std::span<const float> x);

// KL(p || q) of the distributions that two rows of logits stand for, in nats.
double divergence(std::span<const float> p, std::span<const float> q);

}  // namespace slmd::pack
