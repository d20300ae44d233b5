#include "toolchain/slmpack/source/rope.h"

#include <algorithm>
#include <cmath>
#include <numbers>

#include "toolchain/slmpack/source/family.h"

namespace slmd::pack {
namespace {

Result<void> check(const char* name, double value, double least) {
    if (value >= least && value <= 1e9) return {};
    return Error::make(Code::model_format, "RoPE scaling needs %s, a number from %g to 1e9; it is %g", name, least,
                       value);
}

// Long wavelengths are slowed by the factor, short ones stay, those between are mixed.
Result<void> apply_llama3(const RopeScaling& s, std::vector<float>& f) {
    TRY(check("low_freq_factor", s.low_freq_factor, 1e-3));
    TRY(check("high_freq_factor", s.high_freq_factor, 1e-3));
    TRY(check("original_max_position_embeddings", s.original_context, 1));
    if (!(s.high_freq_factor > s.low_freq_factor))
        return Error::make(Code::model_format, "RoPE scaling: high_freq_factor %g must be above low_freq_factor %g",
                           s.high_freq_factor, s.low_freq_factor);
    for (float& v : f) {
        const double turns = s.original_context * v / (2 * std::numbers::pi);
        if (turns > s.high_freq_factor) continue;
        const double smooth =
            turns < s.low_freq_factor ? 0 : (turns - s.low_freq_factor) / (s.high_freq_factor - s.low_freq_factor);
        v = float((1 - smooth) * v / s.factor + smooth * v);
    }
    return {};
}

// Peng et al., arXiv 2309.00071: dimensions that turn often keep their frequency, those that turn less than once are
// interpolated, a ramp lies between; the attention's temperature goes into cosine and sine.
Result<void> apply_yarn(const RopeScaling& s, image::ModelParams& p, std::vector<float>& f) {
    TRY(check("original_max_position_embeddings", s.original_context, 1));
    TRY(check("beta_slow", s.beta_slow, 1e-3));
    TRY(check("beta_fast", s.beta_fast, s.beta_slow));
    if (!(s.attention_factor >= 0 && s.attention_factor <= 100))
        return Error::make(Code::model_format, "RoPE scaling: attention_factor %g is not a number from 0 to 100",
                           s.attention_factor);
    const double dims = p.rope_dims;
    const auto dimension_of = [&](double turns) {
        return dims * std::log(s.original_context / (turns * 2 * std::numbers::pi)) /
               (2 * std::log(double(p.rope_theta)));
    };
    const double low = std::max(std::floor(dimension_of(s.beta_fast)), 0.0),
                 high = std::min(std::ceil(dimension_of(s.beta_slow)), dims - 1), length = std::max(high - low, 1e-3);
    for (std::size_t i = 0; i < f.size(); i++) {
        const double interpolated = std::clamp((double(i) - low) / length, 0.0, 1.0);
        f[i] = float(f[i] / s.factor * interpolated + f[i] * (1 - interpolated));
    }
    p.rope_scale =
        s.attention_factor > 0 ? float(s.attention_factor) : float(s.factor > 1 ? 0.1 * std::log(s.factor) + 1 : 1);
    return {};
}

}  // namespace

std::vector<float> plain_inv_freq(double theta, std::uint32_t dims) {
    std::vector<float> f(dims / 2);
    for (std::size_t i = 0; i < f.size(); i++) f[i] = float(std::pow(theta, -2.0 * double(i) / dims));
    return f;
}

Result<std::vector<float>> scaled_inv_freq(image::ModelParams& p, const RopeScaling& s) {
    std::vector<float> f = plain_inv_freq(p.rope_theta, p.rope_dims);
    if (s.type == "default" || s.type == "none") return f;
    if (s.type != "linear" && s.type != "llama3" && s.type != "yarn")
        return Error::make(Code::not_supported,
                           "RoPE scaling \"%s\" is not supported: default, linear, llama3 and yarn are",
                           shown(s.type).c_str());
    TRY(check("factor", s.factor, 1e-3));
    if (s.type == "linear") {
        for (float& v : f) v = float(v / s.factor);
    } else if (s.type == "llama3") {
        TRY(apply_llama3(s, f));
    } else {
        TRY(apply_yarn(s, p, f));
    }
    return f;
}

}  // namespace slmd::pack
