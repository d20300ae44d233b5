// The weights of one model as the forward pass uses them: views into the image, checked once.
#pragma once
#include <span>

#include "base/arena.h"
#include "base/result.h"
#include "base/team.h"
#include "compute/kernels.h"
#include "image/experts.h"
#include "image/image.h"
#include "image/layers.h"
#include "image/rows.h"

namespace slmd::engine {

struct Linear {
    compute::Matrix w;  // [rows, cols], padded
    image::Kind kind;
    int rows;  // without padding
};

// third: the stream of steps, or of high bits.
inline compute::Matrix matrix(int rows, int cols, const std::byte* codes, const std::byte* scales,
                              const std::byte* third, const std::int8_t* book) {
    return {rows,
            cols,
            reinterpret_cast<const std::uint8_t*>(codes),
            reinterpret_cast<const std::uint8_t*>(scales),
            reinterpret_cast<const float*>(third),
            book,
            reinterpret_cast<const std::uint8_t*>(third)};
}

inline compute::Matmul matmul_of(const compute::Kernels& k, image::Kind kind) {
    return kind == image::Kind::i4 ? k.i4 : kind == image::Kind::i4a ? k.i4a : kind == image::Kind::i6 ? k.i6 : k.i8;
}
// One row as floats.
inline auto row_decoder(image::Kind kind) {
    return kind == image::Kind::i4    ? compute::row_i4
           : kind == image::Kind::i4a ? compute::row_i4a
           : kind == image::Kind::i6  ? compute::row_i6
                                      : compute::row_i8;
}

// What the family does not have is null.
struct Layer {
    const float *attn_norm, *post_attention_norm;  // [dim] before and after attention
    Linear q, k, v;                                // [heads * head_dim, dim], [kv_heads * head_dim, dim] twice
    const float *q_bias, *k_bias, *v_bias;         // [rows of q, k, v]
    const float *q_norm, *k_norm;                  // [head_dim], or [rows of q, k] when norms_rows
    bool norms_rows;
    bool rotates, local;                    // RoPE at all; with Model::inv_freq_local
    int window;                             // positions that a query sees, its own included; 0: all
    Linear attn_output;                     // [dim, heads * head_dim]
    const float *ffn_norm, *post_ffw_norm;  // [dim] before and after the feed-forward
    // With experts these are theirs, one below the other: [experts * hidden, dim], [experts * dim, hidden].
    Linear gate, up;      // [hidden, dim]
    Linear down;          // [dim, hidden]
    const float* router;  // [experts, dim] in panels, or null
};

using image::max_layers;
constexpr int max_experts_used = 32;  // that a token goes to, of a layer

struct Model {
    image::ModelParams params;
    const float* inv_freq;        // [rope_dims / 2]
    const float* inv_freq_local;  // the same for sliding layers, or null
    Linear embedding, output;     // [vocab, dim]; one matrix when tied. Without data when there is `rows`:
    image::Rows* rows;            // decodes the embedding's rows; null: the embedding is there
    const float* output_norm;     // [dim]
    image::Experts* experts;      // decodes those of a layer that its tokens go to; null: they are there
    image::Layers* stream;        // brings each layer's matrices before it is computed; null: they are there
    Layer layers[max_layers];
    float attn_scale;  // of a score of two rotated int8 vectors: 1 / sqrt(head_dim) / Hadamard size
};

// As the kernels take a matrix that lies in an image.
Linear as_linear(const image::Tensor& tensor);
// One matrix [rows, cols] and one vector [n] of an image. floats: a matrix of kind f32 will do, whose panels are then
// the matrix's codes. Errors: not_found and model_format, naming the tensor.
Result<Linear> bind_matrix(const image::Image& image, const char* name, std::uint32_t rows, std::uint32_t cols,
                           bool floats = false);
Result<const float*> bind_vector(const image::Image& image, const char* name, std::uint32_t n);

// What engine and encoder begin with. The best level, or the one of that name; threads for Config::threads, the caller
// among them; and whether tokens from .. are in the vocabulary. Errors: incorrect_parameters, memory_full.
struct Config;
Result<const compute::Kernels*> level_named(const char* name);
Result<void> start_team(Team& team, const Config& config);
Result<void> check_tokens(std::span<const std::int32_t> tokens, int from, int vocab);

// "name is value; it must be ...". Errors: model_format.
struct Limit {
    const char* name;
    std::uint32_t value, low, high;
};
Result<void> check_limits(std::span<const Limit> limits);

// Limits of shapes that this engine runs; names what is outside. Errors: model_format.
Result<void> check_params(const image::ModelParams& params);

// Errors: not_found and model_format, naming the tensor.
Result<void> bind(const image::Image& image, Model& model);

}  // namespace slmd::engine
