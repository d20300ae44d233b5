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
    s.vocab_rows = up(p.vocab, compute::lanes);
    s.pairs = static_cast<int>(p.rope_dims / 2);
    s.local_pairs = p.rope_theta_local != 0 ? s.pairs : 0;
    return s;
}

void lay_out(Arena& arena, const Shapes& s, int batch, int threads, int logit_rows, Buffers& b) {
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
    b.cos_local = arena.scratch<float>(n(s.local_pairs));
    b.sin_local = arena.scratch<float>(n(s.local_pairs));
    b.query = arena.scratch<std::int8_t>(n(s.heads * s.head_stride));
    b.query_scale = arena.scratch<float>(n(s.heads));
    b.attended = arena.scratch<float>(n(s.heads * s.head_stride));
    b.head = arena.scratch<float>(static_cast<std::size_t>(threads) * compute::max_head_dim);
    b.scores = arena.scratch<float>(static_cast<std::size_t>(threads) * 4 * compute::chunk);
    b.logits = arena.scratch<float>(static_cast<std::size_t>(s.vocab_rows) * static_cast<std::size_t>(logit_rows));
}

void lay_out(Arena& arena, const image::ModelParams& p, int context, int batch, Cache& c) {
    const Shapes s = shapes_of(p);
    const int all = static_cast<int>(round_up(static_cast<std::size_t>(context), compute::kv_block));
    // A pass writes its tokens before any of them is looked at: the ring holds the window of the first and all others.
    const int ring = p.window == 0 ? all
                                   : static_cast<int>(round_up(p.window + static_cast<std::size_t>(batch) - 1,
                                                               static_cast<std::size_t>(compute::chunk)));
    const std::size_t heads = p.layers * p.kv_heads;
    c = {};
    c.heads = arena.persistent<compute::KvHead>(heads);
    c.tokens = arena.persistent<std::int32_t>(static_cast<std::size_t>(context));
    if (ring < all) {
        c.ring = ring;
        c.window = static_cast<int>(p.window);
    }
    for (std::size_t h = 0; h < heads; h++) {
        compute::KvHead kv{};
        kv.head_dim = s.head_dim;
        kv.v_stride = s.head_stride;
        const bool slides = image::layer_bit(p.sliding, static_cast<std::uint32_t>(h / p.kv_heads));
        kv.capacity = slides && ring < all ? ring : all;
        const auto slots = static_cast<std::size_t>(kv.capacity);
        kv.k = arena.persistent<std::int8_t>(slots * static_cast<std::size_t>(s.head_dim));
        kv.k_scale = arena.persistent<float>(slots);
        kv.v = arena.persistent<std::int8_t>(slots * static_cast<std::size_t>(s.head_stride));
        kv.v_scale = arena.persistent<float>(slots);
        if (c.heads != nullptr) c.heads[h] = kv;
    }
}

void copy(const Cache& from, int count, const image::ModelParams& p, Cache& to) {
    for (std::size_t h = 0; h < std::size_t{p.layers} * p.kv_heads; h++) {
        const compute::KvHead &a = from.heads[h], &b = to.heads[h];
        // A ring that has gone round is copied whole: where it begins does not matter.
        const auto slots = static_cast<std::size_t>(
            a.capacity == from.ring ? a.capacity
                                    : static_cast<int>(round_up(static_cast<std::size_t>(count), compute::kv_block)));
        std::memcpy(b.k, a.k, slots * static_cast<std::size_t>(a.head_dim));
        std::memcpy(b.k_scale, a.k_scale, slots * sizeof(float));
        std::memcpy(b.v, a.v, slots * static_cast<std::size_t>(a.v_stride));
        std::memcpy(b.v_scale, a.v_scale, slots * sizeof(float));
    }
    std::memcpy(to.tokens, from.tokens, static_cast<std::size_t>(count) * sizeof(std::int32_t));
    to.count = count;
    to.written = from.written;
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

    // The residual of this member's tokens: x += what the last half layer gave, normed where the family does that.
    void add_delta(const float* post_norm) const {
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            float* delta = b.delta + t * s.dim;
            if (post_norm != nullptr) k.rms_norm(delta, post_norm, s.dim, p.model->params.norm_eps, delta);
            k.add(b.x + t * s.dim, delta, p.model->params.residual_scale, s.dim);
        }
    }

    // x -> in, normed (unless weights is null) and quantized, for this member's tokens.
    void norm(const float* weights) const {
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            const float* x = b.x + t * s.dim;
            float* y = b.normed + t * s.dim;
            if (weights != nullptr) k.rms_norm(x, weights, s.dim, p.model->params.norm_eps, y);
            quantize(t, weights != nullptr ? y : x, s.dim);
        }
    }

    void embed() const {
        const auto tokens = part(p.count);
        const image::ModelParams& params = p.model->params;
        const Linear& e = p.model->embedding;
        const auto row = e.kind == image::Kind::i4    ? compute::row_i4
                         : e.kind == image::Kind::i4a ? compute::row_i4a
                                                      : compute::row_i8;
        const auto angles = [&](int t, const float* inv_freq, float* cos, float* sin) {
            compute::rope_angles(p.first + t, inv_freq, s.pairs, cos + t * s.pairs, sin + t * s.pairs);
            if (params.rope_scale == 0) return;
            for (int i = t * s.pairs; i < (t + 1) * s.pairs; i++) {
                cos[i] *= params.rope_scale;
                sin[i] *= params.rope_scale;
            }
        };
        for (int t = tokens.begin; t < tokens.end; t++) {
            float* x = b.x + t * s.dim;
            row(e.w, p.tokens[t], x);
            if (params.embed_scale != 1) k.cap(x, params.embed_scale, 0, s.dim);
            angles(t, p.model->inv_freq, b.cos, b.sin);
            if (p.model->inv_freq_local != nullptr) angles(t, p.model->inv_freq_local, b.cos_local, b.sin_local);
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

    // Norms over whole query and key rows, for this member's tokens: a head needs all of its row.
    void norm_rows(const Layer& l) const {
        const auto tokens = part(p.count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            float *q = b.qkv + t * s.qkv_stride, *key = q + s.q_rows;
            k.rms_norm(q, l.q_norm, s.q_rows, p.model->params.norm_eps, q);
            k.rms_norm(key, l.k_norm, s.kv_heads * s.head_dim, p.model->params.norm_eps, key);
        }
    }

    // One head of one row: bias, norm, RoPE, rotation, where they apply. Returns the member's scratch.
    float* prepare_head(const Layer& l, int t, const float* row, const float* bias, const float* norm,
                        bool turns) const {
        float* head = b.head + rank * compute::max_head_dim;
        std::memcpy(head, row, static_cast<std::size_t>(s.head_dim) * sizeof(float));
        std::memset(head + s.head_dim, 0, static_cast<std::size_t>(s.head_stride - s.head_dim) * sizeof(float));
        if (bias != nullptr)
            for (int d = 0; d < s.head_dim; d++) head[d] += bias[d];
        if (!turns) return head;
        if (norm != nullptr && !l.norms_rows) k.rms_norm(head, norm, s.head_dim, p.model->params.norm_eps, head);
        const float *cos = l.local ? b.cos_local : b.cos, *sin = l.local ? b.sin_local : b.sin;
        if (l.rotates) k.rope(head, cos + t * s.pairs, sin + t * s.pairs, s.pairs);
        k.hadamard(head, s.head_dim);
        return head;
    }

    // Queries to the buffers, keys and values into the cache, in int8. Units: one head of one token.
    void write_heads(const Layer& l, const compute::KvHead* kv) const {
        const int per_token = s.heads + 2 * s.kv_heads;
        const auto units = part(p.count * per_token);
        const auto at = [](const float* vector, int i) { return vector == nullptr ? nullptr : vector + i; };
        for (int u = units.begin; u < units.end; u++) {
            const int t = u / per_token, h = u % per_token;
            const float* row = b.qkv + t * s.qkv_stride;
            if (h < s.heads) {
                const int first = h * s.head_dim, to = t * s.heads + h;
                const float* head = prepare_head(l, t, row + first, at(l.q_bias, first), l.q_norm, true);
                b.query_scale[to] =
                    k.quantize_head(head, s.head_dim, b.query + to * s.head_stride) * p.model->attn_scale;
                continue;
            }
            const bool is_key = h < s.heads + s.kv_heads;
            const int index = is_key ? h - s.heads : h - s.heads - s.kv_heads, first = index * s.head_dim;
            const compute::KvHead& c = kv[index];
            const int slot = (p.first + t) % c.capacity;
            if (is_key) {
                const float* head = prepare_head(l, t, row + s.q_rows + first, at(l.k_bias, first), l.k_norm, true);
                std::int8_t q[compute::max_head_dim];
                c.k_scale[slot] = k.quantize_head(head, s.head_dim, q);
                std::int8_t* to =
                    c.k +
                    static_cast<std::size_t>(slot - slot % compute::kv_block) * static_cast<std::size_t>(s.head_dim) +
                    slot % compute::kv_block * 4;
                for (int d = 0; d < s.head_dim; d += 4, to += 4 * compute::kv_block) std::memcpy(to, q + d, 4);
            } else {
                const float* head =
                    prepare_head(l, t, row + s.q_rows + s.kv_rows + first, at(l.v_bias, first), nullptr, false);
                c.v_scale[slot] = k.quantize_head(
                    head, s.head_dim, c.v + static_cast<std::size_t>(slot) * static_cast<std::size_t>(s.head_stride));
            }
        }
    }

    // Units: one query head of one token; those that share a KV head share its loads.
    void attend(const Layer& l, const compute::KvHead* kv) const {
        const int sharing = s.heads / s.kv_heads;
        const auto units = part(p.count * s.heads);
        float* scores = b.scores + rank * 4 * compute::chunk;
        for (int u = units.begin; u < units.end;) {
            const int t = u / s.heads, h = u % s.heads, kv_head = h / sharing;
            const int heads = std::min((kv_head + 1) * sharing - h, units.end - u);
            const int end = p.first + t + 1;
            const compute::Visible see{l.window == 0 ? 0 : std::max(0, end - l.window), end,
                                       p.model->params.attn_softcap};
            k.attend(kv[kv_head], see, b.query + u * s.head_stride, b.query_scale + u, heads,
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

    // gate and up for the same blocks; activate() then makes them one.
    void feed_forward(const Layer& l) const {
        const auto mine = part(l.gate.w.rows / block);
        multiply(l.gate, mine.begin, mine.end, p.count, b.gate, s.hidden_stride);
        multiply(l.up, mine.begin, mine.end, p.count, b.up, s.hidden_stride);
    }
    void activate() const {
        const int groups = s.hidden_stride / group;
        const bool gelu = (p.model->params.flags & image::flag_gelu) != 0;
        const auto units = part(p.count * groups);  // a group of one token
        for (int u = units.begin; u < units.end; u++) {
            const int t = u / groups, g = u % groups, at = t * s.hidden_stride + g * group;
            (gelu ? k.gelu_mul : k.silu_mul)(b.gate + at, b.up + at, group, b.gate + at);
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
            if (i > 0) add_delta(m.layers[i - 1].post_ffw_norm);
            norm(l.attn_norm);
            sync();
            if (p.stopped) return;
            project(l);
            sync();
            if (l.norms_rows) {
                norm_rows(l);
                sync();
            }
            write_heads(l, kv);
            sync();
            attend(l, kv);
            sync();
            gather_heads();
            sync();
            const auto rows = part(s.dim / block);
            multiply(l.attn_output, rows.begin, rows.end, p.count, b.delta, s.dim);
            sync();
            add_delta(l.post_attention_norm);
            norm(l.ffn_norm);
            sync();
            feed_forward(l);
            sync();
            activate();
            sync();
            multiply(l.down, rows.begin, rows.end, p.count, b.delta, s.dim);
            sync();
        }
        add_delta(m.layers[m.params.layers - 1].post_ffw_norm);
        sync();
        if (p.logits_count > 0) logits();
    }

    void logits() const {
        const auto mine = part(p.logits_count);
        for (int i = mine.begin; i < mine.end; i++) {
            float* y = b.normed + i * s.dim;
            k.rms_norm(b.x + (p.logits_first + i) * s.dim, p.model->output_norm, s.dim, p.model->params.norm_eps, y);
            quantize(i, y, s.dim);
        }
        sync();
        const auto rows = part(p.model->output.w.rows / block);
        multiply(p.model->output, rows.begin, rows.end, p.logits_count, b.logits, s.vocab_rows);
        const image::ModelParams& params = p.model->params;
        if (params.logit_scale == 1 && params.final_softcap == 0) return;
        sync();
        const auto units = part(p.logits_count * s.vocab_rows / compute::lanes);
        k.cap(b.logits + units.begin * compute::lanes, params.logit_scale, params.final_softcap,
              (units.end - units.begin) * compute::lanes);
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
