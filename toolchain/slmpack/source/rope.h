// The kinds of RoPE that checkpoints name, as the frequencies that come of them.
#pragma once
#include <string>
#include <vector>

#include "base/result.h"
#include "image/format.h"

namespace slmd::pack {

// Named as in Hugging Face transformers (modeling_rope_utils.py); what a kind does not use is ignored.
struct RopeScaling {
    std::string type = "default";  // default, linear, llama3, yarn
    double factor = 0;
    double original_context = 0;                       // llama3, yarn
    double low_freq_factor = 0, high_freq_factor = 0;  // llama3
    double beta_fast = 32, beta_slow = 1;              // yarn
    double attention_factor = 0;                       // yarn; 0: 0.1 ln(factor) + 1
};

// 1 / theta^(2 i / dims), i < dims / 2.
std::vector<float> plain_inv_freq(double theta, std::uint32_t dims);

// The frequencies of the model's full-attention layers; sets params.rope_scale. Errors: not_supported (another type),
// model_format (a value that makes no sense), both naming it.
Result<std::vector<float>> scaled_inv_freq(image::ModelParams& params, const RopeScaling& scaling);

}  // namespace slmd::pack
