#include "logits.h"

#include <algorithm>
#include <cmath>

namespace slmd::pack {

double log_sum(std::span<const float> x) {
    const float largest = *std::max_element(x.begin(), x.end());
    double sum = 0;
    for (const float v : x) sum += static_cast<double>(std::exp(v - largest));
    return static_cast<double>(largest) + std::log(sum);
}

double divergence(std::span<const float> p, double p_sum, std::span<const float> q, double q_sum) {
    double kl = 0;
    for (std::size_t t = 0; t < p.size(); t++) {
        const double a = static_cast<double>(p[t]) - p_sum, b = static_cast<double>(q[t]) - q_sum;
        if (a > -50) kl += static_cast<double>(std::exp(static_cast<float>(a))) * (a - b);
    }
    return kl;
}

}  // namespace slmd::pack
