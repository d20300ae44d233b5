// One forward pass: its buffers, its caches, and the pass itself, run by the members of a team.
#pragma once
#include <algorithm>
#include <atomic>
#include <span>

#include "base/arena.h"
#include "base/team.h"
#include "engine/adapter.h"
#include "engine/model.h"
#include "engine/tree.h"

namespace slmd::engine {

// The KV cache of one slot: [layer][kv head].
struct Cache {
    compute::KvHead* heads;  // [layers * kv_heads]
    std::int32_t* tokens;    // [context]
    int count;               // tokens whose K and V are complete in every layer
    int written;             // positions below this may have been written, in rings over those a ring's length before
    int ring;                // slots of a sliding layer; 0: every layer holds the whole context
    int window;              // positions that a sliding layer sees
    int adapter;             // under which K and V were computed; -1: none

    // The longest part of a shared prefix of n tokens from which computing can go on: all of it, or nothing when a ring
    // no longer holds what the next token sees.
    int keepable(int n) const { return ring == 0 || n >= written - ring + window - 1 || written <= ring ? n : 0; }
};

// Up to so many rows are a decode: every member then norms all of them for itself, which costs less than two barriers.
constexpr int few_rows = 4;

// Scratch of a pass over up to `batch` rows. Strides are in elements. What lives in attention and what lives in the
// feed-forward share their place.
struct Buffers {
    int batch;
    float* x;               // [batch + threads * few_rows, dim] residual stream; behind the batch each member's own
    float* delta;           // [batch, dim] what is added to x next
    compute::Quantized in;  // [rows of x] x normed: the input of Q, K, V, gate and up
    compute::Quantized
        mid;           // [batch, or routes] attended values or gated values: the input of the output and down matrices
    float *cos, *sin;  // [batch, rope_dims / 2]
    float *cos_local, *sin_local;  // the same for sliding layers
    float* qkv;                    // [batch, (heads + 2 kv_heads) * head_dim, rows padded to blocks]
    std::int8_t* query;            // [batch, heads, head stride]
    float* query_scale;            // [batch, heads]
    float* partial;                // [few_rows, chunks, heads, head stride + partial_extra]
    struct Heads {                 // K and V as they are quantized
        std::int8_t *k, *v;
        float *k_scale, *v_scale;
    };
    Heads branch;      // [batch, kv_heads, head stride] of the rows that are in no cache
    Heads tail;        // [threads] a KV head of tail_positions: the end of what such a row sees
    float *gate, *up;  // [batch, hidden padded to 32]; with experts [routes, ...]
    // Of a mixture of experts: each row goes to experts_used of them. A route is a row at an expert.
    float* route_logits;       // [batch, experts padded to panels]
    std::uint16_t* routed_to;  // [batch, experts_used] experts, ascending
    float* routed_weight;      // [batch, experts_used]
    int* route_of;             // [batch, experts_used] which of the routes that is; those of an expert stand together
    struct ExpertRun {
        int expert, first, count;  // routes
    };
    ExpertRun* runs;               // [experts]
    std::uint16_t* run_experts;    // [experts] of the runs
    int* routed_row;               // [routes]
    compute::Quantized routed_in;  // [routes, dim] the rows of experts that have several
    float* routed_out;             // [routes, dim]
    int* run_count;                // one
    float* low;                    // [batch, 3 ranks] A x of up to three matrices that have the same input
    compute::Quantized low_q;      // [rows of x, 3 ranks] the same: the input of B
    float* raised;                 // [threads, adapted_rows, raised_rows] B of it
    float* member;                 // [threads] of each member alone: member_floats()
    float* logits;                 // [logit rows, vocab padded to lanes]
};

struct Shapes {
    int dim, heads, kv_heads, head_dim, head_stride, q_rows, kv_rows, qkv_stride, hidden_stride, mid_stride, vocab_rows,
        pairs, local_pairs;
    int experts, experts_used;
    int rank;        // of all adapters the largest, padded to whole groups; 0: there is none
    int unit_heads;  // the least number of heads that are whole KV heads' and whole groups of 32 columns
    int member_floats() const {
        return std::max(dim, compute::max_head_dim) + 4 * compute::chunk +
               2 * heads * (head_stride + compute::partial_extra);
    }
};
Shapes shapes_of(const image::ModelParams& params);

// What of an adapter a member computes at a time, before it is added: rows of the pass, and of a matrix.
constexpr int adapted_rows = 8, raised_rows = 128;

struct BufferSizes {
    int context, batch, threads, logit_rows;
};
void lay_out(Arena& arena, const Shapes& shapes, const BufferSizes& sizes, Buffers& buffers);
void lay_out(Arena& arena, const image::ModelParams& params, int context, int batch, Cache& cache);

// The first `count` positions of another sequence.
void copy(const Cache& from, int count, const image::ModelParams& params, Cache& to);

// The chunk in which a branch begins, and what of a branch lies in the next.
constexpr int tail_positions = 2 * compute::chunk;
static_assert(max_tree_depth <= compute::chunk);

// A token of a pass and where it stands. Rows of one sequence stand in order of their positions. Those of a branch see
// the cache up to where it begins and then each other, parent by parent: several branches may stand at one position.
struct Row {
    static constexpr int in_cache = -1;
    const Cache* cache;
    std::int32_t token;
    int position;
    const std::atomic<bool>* cancel;  // null: never
    int branch = in_cache;            // position where its branch begins
    int parent = -1;                  // the row before it; -1: the cache is before it
};

// Rows of a pass, one behind the other, that an adapter changes: as many as are dealt out together.
struct AdaptedRows {
    const LowRank* targets;  // [layers * adapted_count]
    int first, count;        // at most adapted_rows
};

// A row whose logits are wanted.
struct Wanted {
    int row;
    const std::uint64_t* allowed;  // a bit a token; the others' logits are -infinity; null: all are allowed
};

// A node whose logit is wanted, and which of Pass::forks it follows.
struct Pick {
    int fork;
    TreeNode* node;
};

// Rows of a pass whose hidden states go to a sum.
struct PoolRows {
    int begin, end;
    float* sum;
};

struct Pass {
    const Model* model;
    const compute::Kernels* kernels;
    Team* team;
    int members;  // of the team that work on it
    Shapes shapes;
    Buffers* buffers;
    std::span<const Row> rows;
    std::span<const Wanted> wanted;        // their logits are in rows 0, 1, ... of Buffers::logits
    bool stopped;                          // out: between two layers: every row was cancelled, or one cannot be read
    std::atomic<std::uint64_t>* progress;  // one more a layer; null: nobody asks
    std::span<const int> forks{};          // rows that several picks follow
    std::span<const Pick> picks{};         // their logits go to the nodes
    std::span<const AdaptedRows> adapted{};
    std::span<const PoolRows> pools{};
    Result<void> streamed{};  // out: of a layer that could not be read; stopped is set then
};

// Runs the pass on the team. K and V of the rows are in their caches afterwards unless stopped. Errors: those of
// reading what of the image is not resident; the pass was stopped then.
Result<void> run(Pass& pass);
// Logits of the wanted rows of the last pass (their residual streams are still in the buffers).
void run_logits(Pass& pass);

}  // namespace slmd::engine
