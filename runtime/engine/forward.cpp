// The transformer of the Llama family (arXiv 2302.13971), every member of the team running the same lines; sync() is a
// barrier. Work is divided in whole blocks of rows, whole heads or whole tokens, so the division never changes a
// result.
#include "engine/forward.h"

#include <algorithm>
#include <cstring>

#include "base/bytes.h"

namespace slmd::engine {

using compute::block;
using compute::group;

Shapes shapes_of(const image::ModelParams& p) {
    const auto up = [](std::uint32_t n, std::uint32_t to) { return static_cast<int>((n + to - 1) / to * to); };
    Shapes s{};
    s.dim = static_cast<int>(p.dim);
    s.hidden = static_cast<int>(p.hidden);
    s.heads = static_cast<int>(p.heads);
    s.kv_heads = static_cast<int>(p.kv_heads);
    s.head_dim = static_cast<int>(p.head_dim);
    s.head_stride = up(p.head_dim, 16);
    s.q_rows = s.heads * s.head_dim;
    s.kv_rows = up(p.kv_heads * p.head_dim, block);
    s.qkv_stride = s.q_rows + 2 * s.kv_rows;
    s.hidden_stride = up(p.hidden, group);
    s.in_stride = std::max({s.dim, s.q_rows, s.hidden_stride});
    s.vocab_rows = up(p.vocab, block);
    s.pairs = static_cast<int>(p.rope_dims / 2);
    return s;
}

void lay_out(Arena& arena, const Shapes& s, int batch, int threads, Buffers& b) {
    const auto n = [&](int per_token) { return static_cast<std::size_t>(per_token) * static_cast<std::size_t>(batch); };
    b.x = arena.scratch<float>(n(s.dim));
    b.normed = arena.scratch<float>(n(std::max(s.dim, s.q_rows)));
    b.in.stride = s.in_stride;
    b.in.q = arena.scratch<std::int8_t>(n(s.in_stride) + 64);
    b.in.scale = arena.scratch<float>(n(s.in_stride / group));
    b.in.sum = arena.scratch<std::int32_t>(n(s.in_stride / group));
    b.qkv = arena.scratch<float>(n(s.qkv_stride));
    b.delta = arena.scratch<float>(n(s.dim));
    b.gate = arena.scratch<float>(n(s.hidden_stride));
    b.up = arena.scratch<float>(n(s.hidden_stride));
    b.cos = arena.scratch<float>(n(s.pairs));
    b.sin = arena.scratch<float>(n(s.pairs));
    b.query = arena.scratch<std::int8_t>(n(s.heads * s.head_stride));
    b.query_scale = arena.scratch<float>(n(s.heads));
    b.attended = arena.scratch<float>(n(s.heads * s.head_stride));
    b.head = arena.scratch<float>(static_cast<std::size_t>(threads) * compute::max_head_dim);
    b.scores = arena.scratch<float>(static_cast<std::size_t>(threads) * 4 * compute::chunk);
    b.logits = arena.scratch<float>(static_cast<std::size_t>(s.vocab_rows));
}

void lay_out(Arena& arena, const Shapes& s, int layers, int context, Cache& c) {
    const std::size_t positions = round_up(static_cast<std::size_t>(context), compute::kv_block);
    const int heads = layers * s.kv_heads;
    c.heads = arena.persistent<compute::KvHead>(static_cast<std::size_t>(heads));
    c.tokens = arena.persistent<std::int32_t>(static_cast<std::size_t>(context));
    c.count = 0;
    for (int h = 0; h < heads; h++) {
        compute::KvHead kv{};
        kv.head_dim = s.head_dim;
        kv.v_stride = s.head_stride;
        kv.k = arena.persistent<std::int8_t>(positions * static_cast<std::size_t>(s.head_dim));
        kv.k_scale = arena.persistent<float>(positions);
        kv.v = arena.persistent<std::int8_t>(positions * static_cast<std::size_t>(s.head_stride));
        kv.v_scale = arena.persistent<float>(positions);
        if (c.heads != nullptr) c.heads[h] = kv;
    }
}

namespace {

// One member's view of a pass.
struct Worker {
    Pass& p;
    int rank;
    const Shapes& s = p.shapes;
    const Buffers& b = *p.buffers;
    const compute::Kernels& k = *p.kernels;

    void sync() const { p.team->sync(); }
    Team::Part part(int n) const { return p.team->part(n, rank); }

    void multiply(const Linear& l, int begin, int end, int tokens, float* y, int ldy) const {
        const auto f = l.kind == image::Kind::i4 ? k.i4 : l.kind == image::Kind::i4a ? k.i4a : k.i8;
        f(l.w, begin, end, b.in, tokens, y, static_cast<std::size_t>(ldy));
    }

    void quantize(int t, const float* x, int n) const {
        const int at = t * b.in.stride;
        k.quantize(x, n, b.in.q + at, b.in.scale + at / group, b.in.sum + at / group);
    }

    // x -> in, normed and quantized, for this member's tokens. delta, when given, is added to x first: the residual.
    void norm(const float* weights, const float* delta) const {
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            float* x = b.x + t * s.dim;
            if (delta != nullptr) k.add(x, delta + t * s.dim, s.dim);
            float* y = b.normed + t * s.dim;
            k.rms_norm(x, weights, s.dim, p.model->params.norm_eps, y);
            quantize(t, y, s.dim);
        }
    }

    void embed() const {
        const auto tokens = part(p.count);
        const Linear& e = p.model->embedding;
        const auto row = e.kind == image::Kind::i4    ? compute::row_i4
                         : e.kind == image::Kind::i4a ? compute::row_i4a
                                                      : compute::row_i8;
        for (int t = tokens.begin; t < tokens.end; t++) {
            row(e.w, p.tokens[t], b.x + t * s.dim);
            compute::rope_angles(p.first + t, p.model->inv_freq, s.pairs, b.cos + t * s.pairs, b.sin + t * s.pairs);
        }
    }

    // Query, key and value rows in one sweep over the blocks of the three matrices.
    void project(const Layer& l) const {
        const int q_blocks = s.q_rows / block, kv_blocks = s.kv_rows / block;
        const auto mine = part(q_blocks + 2 * kv_blocks);
        const auto overlap = [&](const Linear& m, int first, int blocks, float* y) {
            const int begin = std::max(mine.begin - first, 0), end = std::min(mine.end - first, blocks);
            if (begin < end) multiply(m, begin, end, p.count, y, s.qkv_stride);
        };
        overlap(l.q, 0, q_blocks, b.qkv);
        overlap(l.k, q_blocks, kv_blocks, b.qkv + s.q_rows);
        overlap(l.v, q_blocks + kv_blocks, kv_blocks, b.qkv + s.q_rows + s.kv_rows);
    }

    // RoPE, rotation, int8: queries to the buffers, keys and values into the cache. Units: one head of one token.
    void write_heads(const compute::KvHead* kv) const {
        const int per_token = s.heads + 2 * s.kv_heads;
        const auto units = part(p.count * per_token);
        float* head = b.head + rank * compute::max_head_dim;
        for (int u = units.begin; u < units.end; u++) {
            const int t = u / per_token, h = u % per_token, position = p.first + t;
            const bool is_query = h < s.heads, is_key = !is_query && h < s.heads + s.kv_heads;
            const int index = is_query ? h : is_key ? h - s.heads : h - s.heads - s.kv_heads;
            const float* row = b.qkv + t * s.qkv_stride +
                               (is_query ? 0
                                : is_key ? s.q_rows
                                         : s.q_rows + s.kv_rows) +
                               index * s.head_dim;
            std::memcpy(head, row, static_cast<std::size_t>(s.head_dim) * sizeof(float));
            std::memset(head + s.head_dim, 0, static_cast<std::size_t>(s.head_stride - s.head_dim) * sizeof(float));
            if (is_query || is_key) {
                k.rope(head, b.cos + t * s.pairs, b.sin + t * s.pairs, s.pairs);
                k.hadamard(head, s.head_dim);
            }
            if (is_query) {
                const int at = t * s.heads + index;
                b.query_scale[at] =
                    k.quantize_head(head, s.head_dim, b.query + at * s.head_stride) * p.model->attn_scale;
            } else if (is_key) {
                std::int8_t q[compute::max_head_dim];
                const compute::KvHead& c = kv[index];
                c.k_scale[position] = k.quantize_head(head, s.head_dim, q);
                std::int8_t* to = c.k +
                                  static_cast<std::size_t>(position / compute::kv_block) * compute::kv_block *
                                      static_cast<std::size_t>(s.head_dim) +
                                  position % compute::kv_block * 4;
                for (int d = 0; d < s.head_dim; d += 4, to += 4 * compute::kv_block) std::memcpy(to, q + d, 4);
            } else {
                const compute::KvHead& c = kv[index];
                c.v_scale[position] =
                    k.quantize_head(head, s.head_dim,
                                    c.v + static_cast<std::size_t>(position) * static_cast<std::size_t>(s.head_stride));
            }
        }
    }

    // Units: one query head of one token; those that share a KV head share its loads.
    void attend(const compute::KvHead* kv) const {
        const int sharing = s.heads / s.kv_heads;
        const auto units = part(p.count * s.heads);
        float* scores = b.scores + rank * 4 * compute::chunk;
        for (int u = units.begin; u < units.end;) {
            const int t = u / s.heads, h = u % s.heads, kv_head = h / sharing;
            const int heads = std::min((kv_head + 1) * sharing - h, units.end - u);
            k.attend(kv[kv_head], p.first + t + 1, b.query + u * s.head_stride, b.query_scale + u, heads,
                     b.attended + u * s.head_stride, scores);
            u += heads;
        }
    }

    // attended -> in, for this member's tokens.
    void gather_heads() const {
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            const float* from = b.attended + t * s.heads * s.head_stride;
            if (s.head_stride != s.head_dim) {  // close the gaps between short heads
                float* to = b.normed + t * s.q_rows;
                for (int h = 0; h < s.heads; h++)
                    std::memcpy(to + h * s.head_dim, from + h * s.head_stride,
                                static_cast<std::size_t>(s.head_dim) * sizeof(float));
                from = to;
            }
            quantize(t, from, s.q_rows);
        }
    }

    // gate and up for the same blocks, then SiLU(gate) * up in place.
    void feed_forward(const Layer& l) const {
        const auto mine = part(l.gate.w.rows / block);
        multiply(l.gate, mine.begin, mine.end, p.count, b.gate, s.hidden_stride);
        multiply(l.up, mine.begin, mine.end, p.count, b.up, s.hidden_stride);
    }
    void activate() const {
        const int groups = s.hidden_stride / group;
        const auto units = part(p.count * groups);  // a group of one token
        for (int u = units.begin; u < units.end; u++) {
            const int t = u / groups, g = u % groups, at = t * s.hidden_stride + g * group;
            k.silu_mul(b.gate + at, b.up + at, group, b.gate + at);
            const int to = t * b.in.stride + g * group;
            k.quantize(b.gate + at, group, b.in.q + to, b.in.scale + to / group, b.in.sum + to / group);
        }
    }

    void forward() const {
        const Model& m = *p.model;
        embed();
        sync();
        for (std::uint32_t i = 0; i < m.params.layers; i++) {
            const Layer& l = m.layers[i];
            const compute::KvHead* kv = p.cache->heads + i * m.params.kv_heads;
            if (rank == 0 && p.cancel != nullptr && p.cancel->load(std::memory_order_relaxed)) p.stopped = true;
            norm(l.attn_norm, i == 0 ? nullptr : b.delta);  // with the residual of the layer before
            sync();
            if (p.stopped) return;
            project(l);
            sync();
            write_heads(kv);
            sync();
            attend(kv);
            sync();
            gather_heads();
            sync();
            const auto rows = part(s.dim / block);
            multiply(l.attn_output, rows.begin, rows.end, p.count, b.delta, s.dim);
            sync();
            norm(l.ffn_norm, b.delta);
            sync();
            feed_forward(l);
            sync();
            activate();
            sync();
            multiply(l.down, rows.begin, rows.end, p.count, b.delta, s.dim);
            sync();
        }
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) k.add(b.x + t * s.dim, b.delta + t * s.dim, s.dim);
        sync();
        if (p.logits_of >= 0) logits();
    }

    void logits() const {
        if (rank == 0) {
            k.rms_norm(b.x + p.logits_of * s.dim, p.model->output_norm, s.dim, p.model->params.norm_eps, b.normed);
            quantize(0, b.normed, s.dim);
        }
        sync();
        const auto rows = part(s.vocab_rows / block);
        multiply(p.model->output, rows.begin, rows.end, 1, b.logits, s.vocab_rows);
    }
};

}  // namespace

void run(Pass& pass) {
    pass.stopped = false;
    pass.team->run([](void* context, int rank) { Worker{*static_cast<Pass*>(context), rank}.forward(); }, &pass);
}

void run_logits(Pass& pass) {
    pass.team->run([](void* context, int rank) { Worker{*static_cast<Pass*>(context), rank}.logits(); }, &pass);
}

}  // namespace slmd::engine
