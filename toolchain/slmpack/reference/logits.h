// What logits say of the next token.
#pragma once
#include <span>

namespace slmd::pack {

// log(sum of e^x): what makes log-probabilities of logits.
double log_sum(std::span<const float> x);

// KL(p || q) of the distributions that two rows of logits stand for, in nats; the sums are log_sum() of each.
double divergence(std::span<const float> p, double p_sum, std::span<const float> q, double q_sum);

}  // namespace slmd::pack
