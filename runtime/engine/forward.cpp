// The transformer of the Llama family (arXiv 2302.13971), every member of the team running the same lines; sync() is a
// barrier. Work is divided in whole blocks of rows, whole heads, whole chunks of positions or whole tokens, so the
// division never changes a result.
#include "engine/forward.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "base/bytes.h"
#include "engine/exp.h"
#include "image/layout.h"

namespace slmd::engine {

using compute::block;
using compute::group;
using compute::partial_extra;

Shapes shapes_of(const image::ModelParams& p) {
    const auto up = [](std::uint32_t n, std::uint32_t to) { return static_cast<int>((n + to - 1) / to * to); };
    Shapes s{};
    s.dim = static_cast<int>(p.dim);
    s.heads = static_cast<int>(p.heads);
    s.kv_heads = static_cast<int>(p.kv_heads);
    s.head_dim = static_cast<int>(p.head_dim);
    s.head_stride = up(p.head_dim, 16);
    s.q_rows = s.heads * s.head_dim;
    s.kv_rows = up(p.kv_heads * p.head_dim, block);
    s.qkv_stride = s.q_rows + 2 * s.kv_rows;
    s.hidden_stride = up(p.hidden, group);
    s.mid_stride = std::max(s.q_rows, s.hidden_stride);
    s.vocab_rows = up(p.vocab, compute::lanes);
    s.pairs = static_cast<int>(p.rope_dims / 2);
    s.local_pairs = p.rope_theta_local != 0 ? s.pairs : 0;
    s.experts = static_cast<int>(p.experts);
    s.experts_used = static_cast<int>(p.experts_used);
    s.unit_heads = std::lcm(s.heads / s.kv_heads, group / std::gcd(group, s.head_dim));
    return s;
}

void lay_out(Arena& arena, const Shapes& s, const BufferSizes& sizes, Buffers& b) {
    const auto times = [](int rows, int columns) {
        return static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns);
    };
    const auto rows = [&](int columns) { return times(sizes.batch, columns); };
    const auto quantized = [&](int n, int stride) {
        return compute::Quantized{arena.scratch<std::int8_t>(times(n, stride) + 64),
                                  arena.scratch<float>(times(n, stride / group)),
                                  arena.scratch<std::int32_t>(times(n, stride / group)), stride};
    };
    const int all_rows = sizes.batch + sizes.threads * few_rows;
    const int chunks = (sizes.context + compute::chunk - 1) / compute::chunk;
    b.batch = sizes.batch;
    b.x = arena.scratch<float>(times(all_rows, s.dim));
    b.delta = arena.scratch<float>(rows(s.dim));
    b.in = quantized(all_rows, s.dim);
    const int routes = sizes.batch * std::max(1, s.experts_used);
    b.mid = quantized(routes, s.mid_stride);
    b.cos = arena.scratch<float>(rows(s.pairs));
    b.sin = arena.scratch<float>(rows(s.pairs));
    b.cos_local = arena.scratch<float>(rows(s.local_pairs));
    b.sin_local = arena.scratch<float>(rows(s.local_pairs));
    b.member = arena.scratch<float>(times(sizes.threads, s.member_floats()));
    b.logits = arena.scratch<float>(times(sizes.logit_rows, s.vocab_rows));
    if (s.rank != 0) {
        b.low = arena.scratch<float>(rows(3 * s.rank));
        b.low_q = quantized(all_rows, 3 * s.rank);
        b.raised = arena.scratch<float>(times(sizes.threads, adapted_rows * raised_rows));
    }
    const auto heads = [&](int n, int k_stride) {
        return Buffers::Heads{
            arena.scratch<std::int8_t>(times(n, k_stride)), arena.scratch<std::int8_t>(times(n, s.head_stride)),
            arena.scratch<float>(static_cast<std::size_t>(n)), arena.scratch<float>(static_cast<std::size_t>(n))};
    };
    b.tail = heads(sizes.threads * tail_positions, s.head_dim);
    arena.overlay(
        [&] {
            b.qkv = arena.scratch<float>(rows(s.qkv_stride));
            b.query = arena.scratch<std::int8_t>(rows(s.heads * s.head_stride));
            b.query_scale = arena.scratch<float>(rows(s.heads));
            b.partial = arena.scratch<float>(times(few_rows * chunks * s.heads, s.head_stride + partial_extra));
            b.branch = heads(sizes.batch * s.kv_heads, s.head_stride);
        },
        [&] {
            b.gate = arena.scratch<float>(times(routes, s.hidden_stride));
            b.up = arena.scratch<float>(times(routes, s.hidden_stride));
            if (s.experts == 0) return;
            const auto experts = static_cast<std::size_t>(s.experts), all = static_cast<std::size_t>(routes);
            b.route_logits = arena.scratch<float>(rows(static_cast<int>(round_up(experts, compute::panel))));
            b.routed_to = arena.scratch<std::uint16_t>(all);
            b.routed_weight = arena.scratch<float>(all);
            b.route_of = arena.scratch<int>(all);
            b.runs = arena.scratch<Buffers::ExpertRun>(experts);
            b.run_experts = arena.scratch<std::uint16_t>(experts);
            b.run_count = arena.scratch<int>(1);
            b.routed_row = arena.scratch<int>(all);
            b.routed_in = quantized(routes, s.dim);
            b.routed_out = arena.scratch<float>(times(routes, s.dim));
        });
}

void lay_out(Arena& arena, const image::ModelParams& p, int context, int batch, Cache& c) {
    const Shapes s = shapes_of(p);
    const int all = static_cast<int>(round_up(static_cast<std::size_t>(context), compute::kv_block));
    // A pass writes its tokens before any of them is looked at: the ring holds the window of the first and all others.
    // The way to a node of a tree may be written in several passes before another one begins where it began.
    const int ahead = std::max(batch, max_tree_depth + 1);
    const int ring = p.window == 0 ? all
                                   : static_cast<int>(round_up(p.window + static_cast<std::size_t>(ahead) - 1,
                                                               static_cast<std::size_t>(compute::chunk)));
    const std::size_t heads = p.layers * p.kv_heads;
    c = {};
    c.adapter = -1;
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

// From a row on, and in it from a column, a multiple of 32.
compute::Quantized rows_from(compute::Quantized q, int row, int column = 0) {
    const auto at = [&](int stride, int in_row) { return static_cast<std::ptrdiff_t>(row) * stride + in_row; };
    const std::ptrdiff_t first = at(q.stride / group, column / group);
    return {q.q + at(q.stride, column), q.scale + first, q.sum + first, q.stride};
}

// What a product takes as the place of its row 0 when its row `row` is to come to `at`. As an integer: no array begins
// there.
float* as_row(int row, float* at) {
    return reinterpret_cast<float*>(reinterpret_cast<std::uintptr_t>(at) - sizeof(float) * static_cast<unsigned>(row));
}

void copy_row(const compute::Quantized& from, int row, const compute::Quantized& to, int at) {
    const compute::Quantized a = rows_from(from, row), b = rows_from(to, at);
    const auto groups = static_cast<std::size_t>(a.stride / group);
    std::memcpy(b.q, a.q, static_cast<std::size_t>(a.stride));
    std::memcpy(b.scale, a.scale, groups * sizeof *a.scale);
    std::memcpy(b.sum, a.sum, groups * sizeof *a.sum);
}

// Rows of an embedding that is decoded on demand, to delta, which nothing else needs before the first layer.
Result<void> decode_rows(const Pass& p) {
    const Linear& e = p.model->embedding;
    float* out = p.buffers->delta;
    for (const Row& row : p.rows) {
        const image::RowBlock rows = TRY(p.model->rows->block(static_cast<std::uint32_t>(row.token)));
        const compute::Matrix w = matrix(block, e.w.cols, rows.codes, rows.scales, rows.steps, e.w.book);
        row_decoder(e.kind)(w, row.token % block, out);
        out += p.shapes.dim;
    }
    return {};
}

// One member's view of a pass.
struct Worker {
    Pass& p;
    const int rank;
    const Shapes& s = p.shapes;
    const Buffers& b = *p.buffers;
    const compute::Kernels& k = *p.kernels;
    const image::ModelParams& params = p.model->params;
    const int count = static_cast<int>(p.rows.size());

    // The residual streams that this member keeps: of few rows all, in a place of its own; else those of its part.
    const bool each = p.members > 1 && count <= few_rows;
    const int place = each ? b.batch + rank * few_rows : 0;
    const Team::Part own = each ? Team::Part{0, count} : part(count);
    float* const x = b.x + static_cast<std::ptrdiff_t>(place) * s.dim;
    const compute::Quantized in = rows_from(b.in, place);

    // Of this member alone.
    float* const scores = b.member + static_cast<std::ptrdiff_t>(rank) * s.member_floats();
    float* const vector = scores + 4 * compute::chunk;                        // [max(dim, max_head_dim)]
    float* const attended = vector + std::max(s.dim, compute::max_head_dim);  // [heads, head_stride + partial_extra]
    float* const attended_next = attended + s.heads * (s.head_stride + partial_extra);
    const bool branches =
        std::any_of(p.rows.begin(), p.rows.end(), [](const Row& r) { return r.branch != Row::in_cache; });
    // Whose cached part is in `tail`: in one pass all branches of a cache begin at one position.
    const compute::KvHead* tail_of = nullptr;

    unsigned turn = 0;

    void sync() const { p.team->sync(); }
    void sync_unless_each() const {
        if (!each) sync();
    }
    Team::Part part(int n) const { return p.team->part(n, rank); }
    // Pieces of about an eighth of a part: what a late member can hold up the others by. An even number of units, since
    // kernels take blocks of rows two at a time.
    template <class F>
    void deal(int n, F&& f) {
        p.team->deal(n, (n / (8 * p.members) + 2) & ~1, rank, turn, f);
    }

    void multiply(const Linear& l, int begin, int end, const compute::Quantized& input, int rows, float* y,
                  int ldy) const {
        matmul_of(k, l.kind)(l.w, begin, end, input, rows, y, static_cast<std::size_t>(ldy));
    }
    // The place of a layer's matrix among those that adapters change.
    static int adapted(std::uint32_t layer, Adapted matrix) {
        return static_cast<int>(layer) * image::adapted_count + matrix;
    }
    // b.delta = a matrix [dim, ...], with what adapters add to it, times the input.
    void multiply(const Linear& l, int of, const compute::Quantized& input) {
        lower(of, 1, input);
        deal(s.dim / block, [&](int begin, int end) {
            multiply(l, begin, end, input, count, b.delta, s.dim);
            raise(of, 0, begin, end, b.delta, s.dim);
        });
    }

    // Adapters: u = A x of n matrices that follow each other, `of` being the first's place among a layer's.
    void lower(int of, int n, const compute::Quantized& input) {
        if (p.adapted.empty()) return;
        const int stride = b.low_q.stride, blocks = s.rank / block;
        // A unit: a block of one matrix's rows, for the rows of one adapter. Of a lower rank than the largest some are
        // empty.
        deal(static_cast<int>(p.adapted.size()) * n * blocks, [&](int begin, int end) {
            for (int u = begin, next; u < end; u = next) {
                const int at = u % blocks, m = u / blocks % n;
                const AdaptedRows& rows = p.adapted[static_cast<std::size_t>(u / blocks / n)];
                next = std::min(end, u - at + blocks);
                const LowRank& l = rows.targets[of + m];
                const int all = (l.rank + block - 1) / block, last = std::min(all, at + next - u);
                if (at >= last) continue;
                float* const y = b.low + rows.first * stride + m * s.rank;
                multiply(l.a, at, last, rows_from(input, rows.first), rows.count, y, stride);
                const int used = all * block, whole = round_to_group(used);
                for (int t = 0; t < rows.count && last == all; t++)
                    std::fill(y + t * stride + used, y + t * stride + whole, 0.0f);
            }
        });
        sync();
        const compute::Quantized to = rows_from(b.low_q, place);
        for (const AdaptedRows& rows : p.adapted)
            for (int t = std::max(rows.first, own.begin); t < std::min(rows.first + rows.count, own.end); t++)
                for (int m = 0; m < n; m++) {
                    const int values = rows.targets[of + m].rank, column = m * s.rank;
                    const compute::Quantized q = rows_from(to, t, column);
                    if (values != 0)
                        k.quantize(b.low + t * stride + column, round_to_group(values), q.q, q.scale, q.sum);
                }
        sync_unless_each();
    }

    // y += s * B u for blocks of rows of the matrix at place `of`, which is the m-th of those that were lowered.
    void raise(int of, int m, int begin, int end, float* y, int ldy) const {
        if (p.adapted.empty()) return;
        float* const sums = b.raised + rank * (adapted_rows * raised_rows);
        constexpr int blocks = raised_rows / block;
        for (const AdaptedRows& rows : p.adapted) {
            const LowRank& l = rows.targets[of];
            if (l.rank == 0) continue;
            for (int at = begin; at < end; at += blocks) {
                const int last = std::min(end, at + blocks);
                multiply(l.b, at, last, rows_from(b.low_q, place + rows.first, m * s.rank), rows.count,
                         as_row(at * block, sums), raised_rows);
                for (int t = 0; t < rows.count; t++)
                    add_rows(y + (rows.first + t) * ldy + at * block, sums + t * raised_rows, l.scale,
                             (last - at) * block);
            }
        }
    }
    static int round_to_group(int n) { return (n + group - 1) / group * group; }

    // n is a multiple of 8: behind the last row may stand what another member computes.
    void add_rows(float* y, const float* more, float factor, int n) const {
        const int whole = n / compute::lanes * compute::lanes;
        k.add(y, more, factor, whole);
        if (whole == n) return;
        float last[compute::lanes] = {};
        std::memcpy(last, y + whole, block * sizeof(float));
        k.add(last, more + whole, factor, compute::lanes);
        std::memcpy(y + whole, last, block * sizeof(float));
    }

    void embed() const {
        for (int t = own.begin; t < own.end; t++) {
            float* const row = x + t * s.dim;
            if (p.model->rows != nullptr)
                std::memcpy(row, b.delta + t * s.dim, static_cast<std::size_t>(s.dim) * sizeof(float));
            else
                row_decoder(p.model->embedding.kind)(p.model->embedding.w, p.rows[static_cast<std::size_t>(t)].token,
                                                     row);
            if (params.embed_scale != 1) k.cap(row, params.embed_scale, 0, s.dim);
        }
        const auto angles = [&](int t, const float* inv_freq, float* cos, float* sin) {
            cos += t * s.pairs;
            sin += t * s.pairs;
            compute::rope_angles(p.rows[static_cast<std::size_t>(t)].position, inv_freq, s.pairs, cos, sin);
            for (int i = 0; i < s.pairs && params.rope_scale != 0; i++) {
                cos[i] *= params.rope_scale;
                sin[i] *= params.rope_scale;
            }
        };
        const auto tokens = part(count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            angles(t, p.model->inv_freq, b.cos, b.sin);
            if (p.model->inv_freq_local != nullptr) angles(t, p.model->inv_freq_local, b.cos_local, b.sin_local);
        }
    }

    // x += what the last half layer gave, normed where the family does that.
    void add_delta(const float* post_norm) const {
        for (int t = own.begin; t < own.end; t++) {
            const float* delta = b.delta + t * s.dim;
            if (post_norm != nullptr) {
                k.rms_norm(delta, post_norm, s.dim, params.norm_eps, vector);
                delta = vector;
            }
            k.add(x + t * s.dim, delta, params.residual_scale, s.dim);
        }
    }

    // A vector of the residual stream, normed unless weights is null, as row t of `to`.
    void norm(const float* from, const float* weights, const compute::Quantized& to, int t) const {
        const compute::Quantized q = rows_from(to, t);
        if (weights != nullptr)
            k.rms_norm_quantize(from, weights, s.dim, params.norm_eps, q.q, q.scale, q.sum);
        else
            k.quantize(from, s.dim, q.q, q.scale, q.sum);
    }
    void norm_all(const float* weights) const {
        for (int t = own.begin; t < own.end; t++) norm(x + t * s.dim, weights, in, t);
    }

    // Query, key and value rows in one sweep over the blocks of the three matrices.
    void project(const Layer& l, std::uint32_t layer) {
        lower(adapted(layer, adapted_q), 3, in);
        const int q_blocks = s.q_rows / block, kv_blocks = s.kv_rows / block;
        deal(q_blocks + 2 * kv_blocks, [&](int first, int last) {
            const auto overlap = [&](const Linear& m, Adapted which, int from, int blocks, float* y) {
                const int begin = std::max(first - from, 0), end = std::min(last - from, blocks);
                if (begin >= end) return;
                multiply(m, begin, end, in, count, y, s.qkv_stride);
                raise(adapted(layer, which), which - adapted_q, begin, end, y, s.qkv_stride);
            };
            overlap(l.q, adapted_q, 0, q_blocks, b.qkv);
            overlap(l.k, adapted_k, q_blocks, kv_blocks, b.qkv + s.q_rows);
            overlap(l.v, adapted_v, q_blocks + kv_blocks, kv_blocks, b.qkv + s.q_rows + s.kv_rows);
        });
    }

    // Norms over whole query and key rows: a head needs all of its row.
    void norm_rows(const Layer& l) const {
        const auto tokens = part(count);
        for (int t = tokens.begin; t < tokens.end; t++) {
            float *q = b.qkv + t * s.qkv_stride, *key = q + s.q_rows;
            k.rms_norm(q, l.q_norm, s.q_rows, params.norm_eps, q);
            k.rms_norm(key, l.k_norm, s.kv_heads * s.head_dim, params.norm_eps, key);
        }
    }

    // One head of one row: bias, norm, RoPE, rotation, where they apply. Returns the member's vector.
    const float* prepare_head(const Layer& l, int t, const float* row, const float* bias, const float* norm,
                              bool turns) const {
        std::memcpy(vector, row, static_cast<std::size_t>(s.head_dim) * sizeof(float));
        std::memset(vector + s.head_dim, 0, static_cast<std::size_t>(s.head_stride - s.head_dim) * sizeof(float));
        if (bias != nullptr)
            for (int d = 0; d < s.head_dim; d++) vector[d] += bias[d];
        if (!turns) return vector;
        if (norm != nullptr && !l.norms_rows) k.rms_norm(vector, norm, s.head_dim, params.norm_eps, vector);
        const float *cos = l.local ? b.cos_local : b.cos, *sin = l.local ? b.sin_local : b.sin;
        if (l.rotates) k.rope(vector, cos + t * s.pairs, sin + t * s.pairs, s.pairs);
        k.hadamard(vector, s.head_dim);
        return vector;
    }

    // Queries to the buffers, keys and values into the cache, in int8. Units: one head of one token.
    void write_heads(const Layer& l, std::uint32_t layer) const {
        const int per_token = s.heads + 2 * s.kv_heads;
        const auto units = part(count * per_token);
        const auto at = [](const float* values, int i) { return values == nullptr ? nullptr : values + i; };
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
            const compute::KvHead& c = kv_head(t, layer, index);
            const bool branch = p.rows[static_cast<std::size_t>(t)].branch != Row::in_cache;
            const int slot = p.rows[static_cast<std::size_t>(t)].position % c.capacity;
            const int of_branch = t * s.kv_heads + index;
            if (is_key) {
                const float* head = prepare_head(l, t, row + s.q_rows + first, at(l.k_bias, first), l.k_norm, true);
                std::int8_t q[compute::max_head_dim];
                const float scale = k.quantize_head(head, s.head_dim, q);
                if (branch) {
                    b.branch.k_scale[of_branch] = scale;
                    std::memcpy(b.branch.k + of_branch * s.head_stride, q, static_cast<std::size_t>(s.head_dim));
                } else {
                    put_key(c, slot, q, scale);
                }
            } else {
                const float* head =
                    prepare_head(l, t, row + s.q_rows + s.kv_rows + first, at(l.v_bias, first), nullptr, false);
                std::int8_t* const to =
                    branch ? b.branch.v + of_branch * s.head_stride
                           : c.v + static_cast<std::size_t>(slot) * static_cast<std::size_t>(s.head_stride);
                (branch ? b.branch.v_scale[of_branch] : c.v_scale[slot]) = k.quantize_head(head, s.head_dim, to);
            }
        }
    }

    static void put_key(const compute::KvHead& c, int slot, const std::int8_t* key, float scale) {
        c.k_scale[slot] = scale;
        std::int8_t* to =
            c.k + static_cast<std::size_t>(slot - slot % compute::kv_block) * static_cast<std::size_t>(c.head_dim) +
            slot % compute::kv_block * 4;
        for (int d = 0; d < c.head_dim; d += 4, to += 4 * compute::kv_block) std::memcpy(to, key + d, 4);
    }

    const compute::KvHead& kv_head(int t, std::uint32_t layer, int index) const {
        return p.rows[static_cast<std::size_t>(t)].cache->heads[layer * params.kv_heads + static_cast<unsigned>(index)];
    }
    compute::Visible visible(const Layer& l, int t) const {
        const int end = p.rows[static_cast<std::size_t>(t)].position + 1;
        return {l.window == 0 ? 0 : std::max(0, end - l.window), end, params.attn_softcap};
    }

    // Heads first .. last - 1 of row t, which are whole KV heads', as they come from the kernel, to mid.
    void attended_to_mid(int t, int first, int last, float* sums) const {
        const int stride = s.head_stride + partial_extra;
        float* packed = sums;
        for (int h = first; h < last; h++, sums += stride, packed += s.head_dim) {
            k.cap(sums, 1.0f / sums[s.head_stride + 1], 0, s.head_stride);
            std::memmove(packed, sums, static_cast<std::size_t>(s.head_dim) * sizeof(float));
        }
        const int columns = (last - first) * s.head_dim, at = t * b.mid.stride + first * s.head_dim;
        k.quantize(packed - columns, columns, b.mid.q + at, b.mid.scale + at / group, b.mid.sum + at / group);
    }

    // Query heads that share a KV head share its loads.
    void attend_unit(const Layer& l, std::uint32_t layer, int t, int first) const {
        const int sharing = s.heads / s.kv_heads, stride = s.head_stride + partial_extra;
        for (int h = first; h < first + s.unit_heads; h += sharing) {
            const int at = t * s.heads + h;
            k.attend(kv_head(t, layer, h / sharing), visible(l, t), b.query + at * s.head_stride, b.query_scale + at,
                     sharing, attended + (h - first) * stride, scores);
        }
        attended_to_mid(t, first, first + s.unit_heads, attended);
    }

    // What row t of a branch sees of one KV head from the chunk on in which its branch begins, at the same distance
    // from a chunk's begin as it would have in a cache: the order of every sum depends on that.
    compute::KvHead gather_tail(int t, const compute::KvHead& kv, int index) {
        const auto to = [&](auto* base, int stride) {
            return base + static_cast<std::ptrdiff_t>(rank) * tail_positions * stride;
        };
        const compute::KvHead tail{.k = to(b.tail.k, s.head_dim),
                                   .k_scale = to(b.tail.k_scale, 1),
                                   .v = to(b.tail.v, s.head_stride),
                                   .v_scale = to(b.tail.v_scale, 1),
                                   .head_dim = s.head_dim,
                                   .v_stride = s.head_stride,
                                   .capacity = tail_positions};
        const Row* row = &p.rows[static_cast<std::size_t>(t)];
        const int end = row->branch, begin = end / compute::chunk * compute::chunk;
        if (tail_of != &kv) {
            const auto n = static_cast<std::size_t>(end - begin);
            const int from = begin % kv.capacity, at = begin % tail_positions;
            std::memcpy(tail.k + at * s.head_dim, kv.k + static_cast<std::ptrdiff_t>(from) * s.head_dim,
                        round_up(n, compute::kv_block) * static_cast<std::size_t>(s.head_dim));
            std::memcpy(tail.k_scale + at, kv.k_scale + from, n * sizeof(float));
            std::memcpy(tail.v + at * s.head_stride, kv.v + static_cast<std::ptrdiff_t>(from) * s.head_stride,
                        n * static_cast<std::size_t>(s.head_stride));
            std::memcpy(tail.v_scale + at, kv.v_scale + from, n * sizeof(float));
            tail_of = &kv;
        }
        for (;; row = &p.rows[static_cast<std::size_t>(t)]) {
            const int at = row->position % tail_positions, of_branch = t * s.kv_heads + index;
            put_key(tail, at, b.branch.k + of_branch * s.head_stride, b.branch.k_scale[of_branch]);
            std::memcpy(tail.v + at * s.head_stride, b.branch.v + of_branch * s.head_stride,
                        static_cast<std::size_t>(s.head_dim));
            tail.v_scale[at] = b.branch.v_scale[of_branch];
            if (row->parent < 0) return tail;
            t = row->parent;
        }
    }

    // As attend_unit, of a row in a branch: whole chunks of the cache, then those of the tail, merged in their order.
    void attend_branch_unit(const Layer& l, std::uint32_t layer, int t, int first) {
        const int sharing = s.heads / s.kv_heads, stride = s.head_stride + partial_extra;
        const compute::Visible all = visible(l, t);
        const int tail_begin = p.rows[static_cast<std::size_t>(t)].branch / compute::chunk * compute::chunk;
        for (int h = first; h < first + s.unit_heads; h += sharing) {
            const int at = t * s.heads + h;
            const compute::KvHead& kv = kv_head(t, layer, h / sharing);
            float* const into = attended + (h - first) * stride;
            const auto attend_to = [&](const compute::KvHead& from, int begin, int end, float* sums) {
                k.attend(from, {begin, end, all.soft_cap}, b.query + at * s.head_stride, b.query_scale + at, sharing,
                         sums, scores);
            };
            bool any = all.begin < tail_begin;
            if (any) attend_to(kv, all.begin, tail_begin, into);
            const compute::KvHead tail = gather_tail(t, kv, h / sharing);
            for (int c = tail_begin; c < all.end; c += compute::chunk) {
                const int begin = std::max(all.begin, c), end = std::min(all.end, c + compute::chunk);
                if (begin >= end) continue;
                attend_to(tail, begin, end, any ? attended_next : into);
                for (int i = 0; i < sharing && any; i++)
                    k.merge(into + i * stride, attended_next + i * stride, s.head_stride);
                any = true;
            }
        }
        attended_to_mid(t, first, first + s.unit_heads, attended);
    }

    // Few rows that see much: units are chunks of positions of one KV head, merged in their order afterwards.
    void attend_in_chunks(const Layer& l, std::uint32_t layer, int chunks) {
        const int sharing = s.heads / s.kv_heads, stride = s.head_stride + partial_extra;
        const auto partial = [&](int t, int c, int h) {
            return b.partial + static_cast<std::ptrdiff_t>((t * chunks + c) * s.heads + h) * stride;
        };
        deal(count * s.kv_heads * chunks, [&](int begin, int end) {
            for (int u = begin; u < end; u++) {
                const int t = u / chunks / s.kv_heads, h = u / chunks % s.kv_heads * sharing, at = t * s.heads + h;
                const compute::Visible all = visible(l, t);
                const int c = u % chunks, first = (all.begin / compute::chunk + c) * compute::chunk;
                const compute::Visible see{std::max(all.begin, first), std::min(all.end, first + compute::chunk),
                                           all.soft_cap};
                if (see.begin < see.end)
                    k.attend(kv_head(t, layer, h / sharing), see, b.query + at * s.head_stride, b.query_scale + at,
                             sharing, partial(t, c, h), scores);
            }
        });
        sync();
        const int units = s.heads / s.unit_heads;
        const auto mine = part(count * units);
        for (int u = mine.begin; u < mine.end; u++) {
            const int t = u / units, first = u % units * s.unit_heads;
            const compute::Visible all = visible(l, t);
            const int of_row = (all.end - 1) / compute::chunk - all.begin / compute::chunk + 1;
            for (int h = first; h < first + s.unit_heads; h++)
                for (int c = 1; c < of_row; c++) k.merge(partial(t, 0, h), partial(t, c, h), s.head_stride);
            attended_to_mid(t, first, first + s.unit_heads, partial(t, 0, first));
        }
    }

    void attend(const Layer& l, std::uint32_t layer) {
        int chunks = 0;
        for (int t = 0; t < count && each && !branches; t++) {
            const compute::Visible see = visible(l, t);
            chunks = std::max(chunks, (see.end - 1) / compute::chunk - see.begin / compute::chunk + 1);
        }
        if (chunks > 2) return attend_in_chunks(l, layer, chunks);
        const int units = s.heads / s.unit_heads;
        if (branches) {  // one head after the other: the rows of a branch see nearly the same of it
            p.team->deal(count * units, 1, rank, turn, [&](int begin, int end) {
                for (int u = begin; u < end; u++) {
                    const int t = u % count, first = u / count * s.unit_heads;
                    if (p.rows[static_cast<std::size_t>(t)].branch == Row::in_cache)
                        attend_unit(l, layer, t, first);
                    else
                        attend_branch_unit(l, layer, t, first);
                }
            });
            return;
        }
        p.team->deal(count * units, 1, rank, turn, [&](int begin, int end) {
            for (int u = begin; u < end; u++) attend_unit(l, layer, u / units, u % units * s.unit_heads);
        });
    }

    // gate and up of the same rows, then the gated values, quantized. Units: a group of 32 rows.
    void feed_forward(const Layer& l, std::uint32_t layer) {
        lower(adapted(layer, adapted_gate), 2, in);
        constexpr int unit = group / block;
        const auto gated = (params.flags & image::flag_gelu) != 0 ? k.gelu_mul : k.silu_mul;
        const int blocks = l.gate.w.rows / block;
        deal(s.hidden_stride / group, [&](int begin, int end) {
            const int last = std::min(end * unit, blocks), columns = (end - begin) * group;
            multiply(l.gate, begin * unit, last, in, count, b.gate, s.hidden_stride);
            multiply(l.up, begin * unit, last, in, count, b.up, s.hidden_stride);
            raise(adapted(layer, adapted_gate), 0, begin * unit, last, b.gate, s.hidden_stride);
            raise(adapted(layer, adapted_up), 1, begin * unit, last, b.up, s.hidden_stride);
            for (int t = 0; t < count; t++)
                gate(gated, b.gate + t * s.hidden_stride, b.up + t * s.hidden_stride, begin * group,
                     (last - begin * unit) * block, columns, t);
        });
    }

    // Gated values of one row from a column on, `filled` of them there, quantized as row t of the next input.
    void gate(decltype(compute::Kernels::silu_mul) gated, float* gates, float* ups, int from, int filled, int columns,
              int t) const {
        gates += from;
        ups += from;
        for (int i = filled; i < columns; i++) gates[i] = ups[i] = 0;
        gated(gates, ups, columns, gates);
        const int to = t * b.mid.stride + from;
        k.quantize(gates, columns, b.mid.q + to, b.mid.scale + to / group, b.mid.sum + to / group);
    }

    // The experts of the highest logits, ascending, and their weights: of equal ones the first. What is not a number is
    // never higher than another.
    void choose(int t) const {
        const float* const logits = b.route_logits + t * round_to_panel(s.experts);
        std::uint16_t* const to = b.routed_to + t * s.experts_used;
        float* const weight = b.routed_weight + t * s.experts_used;
        std::uint64_t taken[image::max_experts / 64] = {};
        int first = 0;
        for (int n = 0; n < s.experts_used; n++) {
            int best = -1;
            for (int e = 0; e < s.experts; e++)
                if ((taken[e / 64] >> e % 64 & 1) == 0 && (best < 0 || logits[e] > logits[best])) best = e;
            if (n == 0) first = best;
            taken[best / 64] |= std::uint64_t{1} << best % 64;
        }
        const bool share = (params.flags & image::flag_expert_share) != 0;
        const auto power = [&](int e) {
            return exp_of(static_cast<double>(std::min(logits[e] - logits[first], 0.0f)));
        };
        double sum = 0;
        for (int e = 0, n = 0; e < s.experts; e++) {
            const bool chosen = (taken[e / 64] >> e % 64 & 1) != 0;
            if (chosen) to[n++] = static_cast<std::uint16_t>(e);
            if (chosen || !share) sum += power(e);
        }
        for (int n = 0; n < s.experts_used; n++) weight[n] = static_cast<float>(power(to[n]) / sum);
    }
    static int round_to_panel(int n) { return (n + compute::panel - 1) / compute::panel * compute::panel; }

    // The routes, expert by expert and of each in the order of rows.
    void sort_routes() const {
        int first = 0, runs = 0;
        for (int e = 0; e < s.experts; e++) {
            const int begin = first;
            for (int at = 0; at < count * s.experts_used; at++) {
                if (b.routed_to[at] != e) continue;
                b.routed_row[first] = at / s.experts_used;
                b.route_of[at] = first++;
            }
            if (first == begin) continue;
            b.runs[runs] = {e, begin, first - begin};
            b.run_experts[runs++] = static_cast<std::uint16_t>(e);
        }
        *b.run_count = runs;
    }

    // An expert's rows of a stacked matrix.
    Linear matrix_of(const Linear& l, int which, std::uint32_t layer, int expert, int rows) const {
        if (p.model->experts != nullptr) {
            const image::Expert at = p.model->experts->place(static_cast<int>(layer), expert);
            return {matrix(rows, l.w.cols, at.codes[which], at.scales[which], at.steps[which], l.w.book), l.kind, rows};
        }
        const image::StreamSizes share =
            image::stream_sizes(l.kind, static_cast<std::uint64_t>(rows), static_cast<std::uint64_t>(l.w.cols));
        const auto n = static_cast<std::uint64_t>(expert);
        const auto part = [n](const std::uint8_t* stream, std::uint64_t bytes) {
            return reinterpret_cast<const std::byte*>(stream) + n * bytes;
        };
        return {matrix(rows, l.w.cols, part(l.w.codes, share.codes), part(l.w.scales, share.scales),
                       part(l.w.high, share.steps), l.w.book),
                l.kind, rows};
    }

    // Which experts each row goes to; and they are there.
    void route(const Layer& l, std::uint32_t layer) {
        const auto mine = each ? Team::Part{0, rank == 0 ? count : 0} : part(count);
        for (int t = mine.begin; t < mine.end; t++) {
            const float* row = x + t * s.dim;
            if (l.ffn_norm != nullptr) {
                k.rms_norm(row, l.ffn_norm, s.dim, params.norm_eps, vector);
                row = vector;
            }
            const int stride = round_to_panel(s.experts);
            for (int at = 0; at < stride; at += compute::panel)
                k.product(l.router + static_cast<std::ptrdiff_t>(at) * s.dim, compute::panel, s.dim, row,
                          static_cast<std::size_t>(s.dim), 1, b.route_logits + t * stride + at,
                          static_cast<std::size_t>(stride));
            choose(t);
        }
        sync_unless_each();
        image::Experts* const experts = p.model->experts;
        if (rank == 0) {
            sort_routes();
            if (experts != nullptr)
                experts->reserve(static_cast<int>(layer), {b.run_experts, static_cast<std::size_t>(*b.run_count)});
        }
        sync();
    }

    // What of the experts is not in memory, by as many members as there are readers.
    void read_experts() {
        image::Experts& experts = *p.model->experts;
        const int readers = std::min(p.members, image::Experts::readers);
        for (int i = rank; rank < readers && i < experts.missing(); i += readers) experts.read(i, rank);
        sync();
        if (rank == 0)
            if (auto done = experts.finish(); !done) {
                p.streamed = done;
                p.stopped = true;
            }
        sync();
    }

    // Routes of an expert and their input, in one piece: the row itself where it is alone.
    compute::Quantized input_of(const Buffers::ExpertRun& run) const {
        return run.count == 1 ? rows_from(in, b.routed_row[run.first]) : rows_from(b.routed_in, run.first);
    }
    // f(run, first unit, last unit) over units of `of_run` for each expert that has routes.
    template <class F>
    void deal_runs(int of_run, F&& f) {
        deal(*b.run_count * of_run, [&](int begin, int end) {
            for (int u = begin, next; u < end; u = next) {
                next = std::min(end, u - u % of_run + of_run);
                f(b.runs[u / of_run], u % of_run, u % of_run + next - u);
            }
        });
    }

    // As feed_forward() and the down matrix, of the experts that each row goes to; b.delta is what they give, weighted.
    // False for every member when one of them cannot be read.
    bool experts(const Layer& l, std::uint32_t layer) {
        route(l, layer);
        if (p.model->experts != nullptr) {
            read_experts();
            if (!p.streamed) return false;
        }
        if (count > 1) {  // rows that an expert has several of, one behind the other
            deal(count * s.experts_used, [&](int begin, int end) {
                for (int at = begin; at < end; at++) copy_row(in, b.routed_row[at], b.routed_in, at);
            });
            sync();
        }
        constexpr int unit = group / block;
        const int hidden = static_cast<int>(params.hidden), blocks = hidden / block;
        const auto gated = (params.flags & image::flag_gelu) != 0 ? k.gelu_mul : k.silu_mul;
        deal_runs(s.hidden_stride / group, [&](const Buffers::ExpertRun& run, int begin, int end) {
            const int last = std::min(end * unit, blocks), columns = (end - begin) * group;
            const compute::Quantized input = input_of(run);
            float *const gates = b.gate + static_cast<std::ptrdiff_t>(run.first) * s.hidden_stride,
                         *const ups = b.up + static_cast<std::ptrdiff_t>(run.first) * s.hidden_stride;
            multiply(matrix_of(l.gate, 0, layer, run.expert, hidden), begin * unit, last, input, run.count, gates,
                     s.hidden_stride);
            multiply(matrix_of(l.up, 1, layer, run.expert, hidden), begin * unit, last, input, run.count, ups,
                     s.hidden_stride);
            for (int t = 0; t < run.count; t++)
                gate(gated, gates + t * s.hidden_stride, ups + t * s.hidden_stride, begin * group,
                     last * block - begin * group, columns, run.first + t);
        });
        sync();
        deal_runs(s.dim / block, [&](const Buffers::ExpertRun& run, int begin, int end) {
            multiply(matrix_of(l.down, 2, layer, run.expert, s.dim), begin, end, rows_from(b.mid, run.first), run.count,
                     b.routed_out + static_cast<std::ptrdiff_t>(run.first) * s.dim, s.dim);
        });
        sync();
        // In the order of the experts, so that a row's sum does not depend on who else is in the pass.
        const int pieces = s.dim / compute::lanes;
        deal(count * pieces, [&](int begin, int end) {
            for (int u = begin, next; u < end; u = next) {
                const int t = u / pieces, from = u % pieces * compute::lanes;
                next = std::min(end, (t + 1) * pieces);
                const int n = (next - u) * compute::lanes;
                float* const to = b.delta + t * s.dim + from;
                std::fill_n(to, n, 0.0f);
                for (int i = t * s.experts_used; i < (t + 1) * s.experts_used; i++)
                    k.add(to, b.routed_out + static_cast<std::ptrdiff_t>(b.route_of[i]) * s.dim + from,
                          b.routed_weight[i], n);
            }
        });
        sync();
        return true;
    }

    bool cancelled() const {
        return std::all_of(p.rows.begin(), p.rows.end(), [](const Row& r) {
            return r.cancel != nullptr && r.cancel->load(std::memory_order_relaxed);
        });
    }

    void forward() {
        const Model& m = *p.model;
        embed();
        sync();
        for (std::uint32_t i = 0; i < params.layers; i++) {
            const Layer& l = m.layers[i];
            if (rank == 0 && cancelled()) p.stopped = true;
            if (rank == 0 && p.progress != nullptr) p.progress->fetch_add(1, std::memory_order_relaxed);
            if (rank == 0 && m.stream != nullptr && !p.stopped) {
                p.streamed = m.stream->acquire(static_cast<int>(i));
                p.stopped = !p.streamed;
            }
            if (i > 0) add_delta(m.layers[i - 1].post_ffw_norm);
            norm_all(l.attn_norm);
            if (!each || m.stream != nullptr) sync();
            if (m.stream != nullptr && p.stopped) return;  // its matrices are not there
            project(l, i);
            sync();
            if (p.stopped) return;
            if (l.norms_rows) {
                norm_rows(l);
                sync();
            }
            write_heads(l, i);
            sync();
            attend(l, i);
            sync();
            multiply(l.attn_output, adapted(i, adapted_output), b.mid);
            sync();
            add_delta(l.post_attention_norm);
            norm_all(l.ffn_norm);
            sync_unless_each();
            if (l.router != nullptr) {
                if (!experts(l, i)) return;
                continue;
            }
            feed_forward(l, i);
            sync();
            multiply(l.down, adapted(i, adapted_down), b.mid);
            sync();
        }
        if (rank == 0 && m.stream != nullptr) m.stream->rewind();
        add_delta(m.layers[params.layers - 1].post_ffw_norm);
        sync_unless_each();
        if (rank == 0) pool();
        logits();
    }

    // In the order of the rows, by one member: little beside the layers.
    void pool() const {
        for (const PoolRows& rows : p.pools)
            for (int t = rows.begin; t < rows.end; t++) {
                k.rms_norm(x + t * s.dim, p.model->output_norm, s.dim, params.norm_eps, vector);
                k.add(rows.sum, vector, 1, s.dim);
            }
    }

    // Rows of the output matrix that one mask allows, for wanted row i. Units of 16 rows: what a mask has two bytes
    // for.
    void logits_allowed(const compute::Quantized& input, int i, const std::uint64_t* allowed) {
        constexpr int unit = compute::lanes / block;
        const auto* mask = reinterpret_cast<const std::uint8_t*>(allowed);
        float* y = b.logits + static_cast<std::ptrdiff_t>(i) * s.vocab_rows;
        const int blocks = p.model->output.w.rows / block;
        const auto wanted = [&](int u) {
            return mask[u * unit] != 0 || (u * unit + 1 < blocks && mask[u * unit + 1] != 0);
        };
        deal(s.vocab_rows / compute::lanes, [&](int begin, int end) {
            for (int u = begin; u < end;) {
                int last = u;
                while (last < end && wanted(last)) last++;
                if (last > u) {
                    multiply(p.model->output, u * unit, std::min(last * unit, blocks), rows_from(input, i), 1, y, 0);
                    scale_logits(y + u * compute::lanes, (last - u) * compute::lanes);
                }
                last = std::max(last, u + 1);
                for (int r = u * compute::lanes; r < std::min(last * compute::lanes, blocks * block); r++)
                    if ((mask[r / 8] >> (r % 8) & 1) == 0) y[r] = -INFINITY;
                u = last;
            }
        });
    }

    void scale_logits(float* y, int n) const {
        if (params.logit_scale != 1 || params.final_softcap != 0) k.cap(y, params.logit_scale, params.final_softcap, n);
    }

    // Rows of the output matrix for the picks alone, 16 at a time: what scale_logits takes.
    void logits_picked(const compute::Quantized& forks) {
        constexpr int unit = compute::lanes / block;
        const int blocks = p.model->output.w.rows / block;
        deal(static_cast<int>(p.picks.size()), [&](int begin, int end) {
            for (int i = begin; i < end; i++) {
                const Pick& pick = p.picks[static_cast<std::size_t>(i)];
                const int u = pick.node->token / compute::lanes * unit;
                alignas(64) float y[compute::lanes] = {};
                multiply(p.model->output, u, std::min(u + unit, blocks), rows_from(forks, pick.fork), 1,
                         as_row(u * block, y), 0);
                scale_logits(y, compute::lanes);
                pick.node->logit = y[pick.node->token % compute::lanes];
            }
        });
    }

    void logits() {
        const int wanted = static_cast<int>(p.wanted.size()), n = wanted + static_cast<int>(p.forks.size());
        if (n == 0) return;
        const bool alone = p.members > 1 && n <= few_rows;  // each member norms all of them, for itself
        const compute::Quantized normed = rows_from(b.in, alone ? b.batch + rank * few_rows : 0);
        const auto mine = alone ? Team::Part{0, n} : part(n);
        for (int i = mine.begin; i < mine.end; i++) {
            const int row =
                i < wanted ? p.wanted[static_cast<std::size_t>(i)].row : p.forks[static_cast<std::size_t>(i - wanted)];
            norm(x + row * s.dim, p.model->output_norm, normed, i);
        }
        if (!alone) sync();
        constexpr int unit = compute::lanes / block;
        const int blocks = p.model->output.w.rows / block;
        if (!p.picks.empty()) {
            logits_picked(rows_from(normed, wanted));
            if (wanted > 0) sync();
        }
        for (int i = 0; i < wanted;) {
            if (i > 0) sync();
            if (const auto* allowed = p.wanted[static_cast<std::size_t>(i)].allowed; allowed != nullptr) {
                logits_allowed(normed, i++, allowed);
                continue;
            }
            const int first = i;
            while (i < wanted && p.wanted[static_cast<std::size_t>(i)].allowed == nullptr) i++;
            float* y = b.logits + static_cast<std::ptrdiff_t>(first) * s.vocab_rows;
            deal(s.vocab_rows / compute::lanes, [&](int begin, int end) {
                multiply(p.model->output, begin * unit, std::min(end * unit, blocks), rows_from(normed, first),
                         i - first, y, s.vocab_rows);
                for (int t = 0; t < i - first; t++)
                    scale_logits(y + static_cast<std::ptrdiff_t>(t) * s.vocab_rows + begin * compute::lanes,
                                 (end - begin) * compute::lanes);
            });
        }
    }
};

}  // namespace

Result<void> run(Pass& pass) {
    pass.stopped = true;
    if (pass.model->rows != nullptr) TRY(decode_rows(pass));
    pass.stopped = false;
    pass.team->run(
        pass.members,
        [](void* context, int rank) {
            Worker{*static_cast<Pass*>(context), rank}.forward();
        },
        &pass);
    return pass.streamed;
}

void run_logits(Pass& pass) {
    pass.team->run(
        pass.members,
        [](void* context, int rank) {
            Worker{*static_cast<Pass*>(context), rank}.logits();
        },
        &pass);
}

}  // namespace slmd::engine
