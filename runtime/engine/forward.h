// One forward pass: its buffers, its cache, and the pass itself, run by every member of a team.
#pragma once
#include <atomic>

#include "base/arena.h"
#include "base/team.h"
#include "engine/model.h"

namespace slmd::engine {

// The KV cache of one slot: [layer][kv head].
struct Cache {
    compute::KvHead* heads;  // [layers * kv_heads]
    std::int32_t* tokens;    // [context]
    int count;               // tokens whose K and V are complete in every layer
    int written;             // positions below this may have been written, in rings over those a ring's length before
    int ring;                // slots of a sliding layer; 0: every layer holds the whole context
    int window;              // positions that a sliding layer sees

    // The longest part of a shared prefix of n tokens from which computing can go on: all of it, or nothing when a ring
    // no longer holds what the next token sees.
    int keepable(int n) const { return ring == 0 || n >= written - ring + window - 1 || written <= ring ? n : 0; }
};

// Scratch of a pass over up to `batch` tokens. Strides are in elements.
struct Buffers {
    float* x;               // [batch, dim] residual stream
    float* normed;          // [batch, dim]
    compute::Quantized in;  // [batch, widest input]
    float* qkv;             // [batch, (heads + 2 kv_heads) * head_dim, rows padded to blocks]
    float* delta;           // [batch, dim] what is added to x next
    float* gate;            // [batch, hidden padded to 32]
    float* up;              // the same
    float* cos;             // [batch, rope_dims / 2]
    float* sin;
    float *cos_local, *sin_local;  // the same for sliding layers
    std::int8_t* query;            // [batch, heads, head stride]
    float* query_scale;            // [batch, heads]
    float* attended;               // [batch, heads, head stride]
    float* head;                   // [threads, max_head_dim]
    float* scores;                 // [threads, 4 * chunk]
    float* logits;                 // [1 + draft, vocab padded to lanes]
};

struct Shapes {
    int dim, hidden, heads, kv_heads, head_dim, head_stride, q_rows, kv_rows, qkv_stride, hidden_stride, in_stride,
        vocab_rows, pairs, local_pairs;
};
Shapes shapes_of(const image::ModelParams& params);

void lay_out(Arena& arena, const Shapes& shapes, int batch, int threads, int logit_rows, Buffers& buffers);
void lay_out(Arena& arena, const image::ModelParams& params, int context, int batch, Cache& cache);

// The first `count` positions of another sequence.
void copy(const Cache& from, int count, const image::ModelParams& params, Cache& to);

struct Pass {
    const Model* model;
    const compute::Kernels* kernels;
    Team* team;
    Shapes shapes;
    Buffers* buffers;
    Cache* cache;
    const std::int32_t* tokens;       // [count]
    int first, count;                 // positions first .. first + count - 1
    int logits_first, logits_count;   // the tokens whose logits are wanted, by index; count 0: none
    const std::atomic<bool>* cancel;  // may be null
    bool stopped;                     // out: cancelled between layers
};

// Runs the pass on the team. K and V of the tokens are in the cache afterwards unless stopped.
void run(Pass& pass);
// Logits of the wanted tokens of the last pass (their residual streams are still in the buffers), from row 0 on.
void run_logits(Pass& pass);

}  // namespace slmd::engine
