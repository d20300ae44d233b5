// The weights of one model as the forward pass uses them: views into the image, checked once.
#pragma once
#include "base/arena.h"
#include "base/result.h"
#include "compute/kernels.h"
#include "image/image.h"

namespace slmd::engine {

struct Linear {
    compute::Matrix w;  // [rows, cols], padded
    image::Kind kind;
    int rows;  // without padding
};

struct Layer {
    const float* attn_norm;  // [dim]
    Linear q, k, v;          // [heads * head_dim, dim], [kv_heads * head_dim, dim] twice
    Linear attn_output;      // [dim, heads * head_dim]
    const float* ffn_norm;   // [dim]
    Linear gate, up;         // [hidden, dim]
    Linear down;             // [dim, hidden]
};

constexpr int max_layers = 256;

struct Model {
    image::ModelParams params;
    const float* inv_freq;     // [rope_dims / 2]
    Linear embedding, output;  // [vocab, dim]; one matrix when tied
    const float* output_norm;  // [dim]
    Layer layers[max_layers];
    float attn_scale;  // of a score of two rotated int8 vectors: 1 / sqrt(head_dim) / Hadamard size
};

// Limits of shapes that this engine runs; names what is outside. Errors: model_format.
Result<void> check_params(const image::ModelParams& params);

// Errors: not_found and model_format, naming the tensor.
Result<void> bind(const image::Image& image, Model& model);

}  // namespace slmd::engine
