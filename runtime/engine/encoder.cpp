#include "engine/encoder.h"

#include <sys/mman.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/cluster.h"
#include "base/memory.h"
#include "base/team.h"
#include "engine/model.h"

namespace slmd::engine {

using compute::block;
using compute::group;
using compute::panel;

namespace {

constexpr std::uint32_t max_encoder_layers = 48;

// Queries that attend together: their scores stay in the cache.
constexpr int tile = 32;

struct Dense {
    Linear matrix;
    const float* bias;
};
struct Norm {
    const float *weight, *bias;
};
struct EncoderLayer {
    Dense q, k, v, output, up, down;
    Norm output_norm, layer_norm;
};
struct EncoderModel {
    image::ModelParams params;
    Linear tokens, positions, types;
    Norm norm;
    bool floats;  // the matrices of the layers
    EncoderLayer layers[max_encoder_layers];
};

Result<void> check_encoder(const image::ModelParams& p) {
    if ((p.flags & image::flag_encoder) == 0)
        return Error::make(Code::model_format, "%.63s is no encoder, but a model that writes", p.name);
    if (p.flags != image::flag_encoder)
        return Error::make(Code::model_format, "the model has properties (flags %#x) that this version does not know",
                           p.flags & ~image::flag_encoder);
    const Limit limits[] = {{"layers", p.layers, 1, max_encoder_layers},
                            {"dim", p.dim, 32, Encoder::max_dim},
                            {"hidden", p.hidden, 32, 16384},
                            {"heads", p.heads, 1, 256},
                            {"head_dim", p.head_dim, 16, 256},
                            {"vocab", p.vocab, 1, 1u << 20},
                            {"context", p.context, 2, 8192}};
    TRY(check_limits(limits));
    if (p.dim % group != 0 || p.hidden % group != 0 || p.head_dim % compute::lanes != 0 || p.kv_heads != p.heads ||
        p.heads * p.head_dim != p.dim)
        return Error::make(Code::model_format,
                           "dim %u, hidden %u, heads %u and head_dim %u of an encoder do not fit together", p.dim,
                           p.hidden, p.heads, p.head_dim);
    if (!(p.norm_eps > 0 && p.norm_eps < 1))
        return Error::make(Code::model_format, "norm_eps is %g; it must be between 0 and 1",
                           static_cast<double>(p.norm_eps));
    return {};
}

constexpr const char* of_layer[] = {"attn_q",           "attn_k", "attn_v",   "attn_output",
                                    "attn_output_norm", "ffn_up", "ffn_down", "layer_output_norm"};
constexpr int of_layer_tensors = 2 * static_cast<int>(std::size(of_layer)), of_model_tensors = 5;

struct Binder {
    const image::Image& image;
    char name[64]{};

    Result<Norm> norm(const char* of, std::uint32_t n) {
        std::snprintf(name, sizeof name, "%s.bias", of);
        return Norm{TRY(bind_vector(image, of, n)), TRY(bind_vector(image, name, n))};
    }
    Result<Dense> dense(const char* of, std::uint32_t rows, std::uint32_t cols) {
        std::snprintf(name, sizeof name, "%s.bias", of);
        return Dense{TRY(bind_matrix(image, of, rows, cols, true)), TRY(bind_vector(image, name, rows))};
    }
};

Result<void> bind(const image::Image& image, EncoderModel& m) {
    const image::ModelParams& p = m.params = image.params();
    TRY(check_encoder(p));
    // All that the forward pass uses, and nothing else: what it has no use for is part of another one.
    if (image.tensors().size() != of_model_tensors + p.layers * static_cast<std::size_t>(of_layer_tensors))
        return Error::make(Code::model_format,
                           "%zu tensors; an encoder of %u layers has %u, the image needs another slmd",
                           image.tensors().size(), p.layers, of_model_tensors + p.layers * of_layer_tensors);
    Binder b{image};
    m.tokens = TRY(bind_matrix(image, "token_embd", p.vocab, p.dim, true));
    const std::uint32_t positions = TRY(image.tensor("position_embd")).rows;
    if (positions < p.context)
        return Error::make(Code::model_format, "tensor position_embd has %u rows for a context of %u", positions,
                           p.context);
    m.positions = TRY(bind_matrix(image, "position_embd", positions, p.dim, true));
    m.types = TRY(bind_matrix(image, "token_types", 2, p.dim, true));
    m.norm = TRY(b.norm("token_embd_norm", p.dim));
    for (std::uint32_t i = 0; i < p.layers; i++) {
        EncoderLayer& l = m.layers[i];
        char names[std::size(of_layer)][48];
        for (std::size_t k = 0; k < std::size(of_layer); k++)
            std::snprintf(names[k], sizeof names[k], "blk.%u.%s", i, of_layer[k]);
        l.q = TRY(b.dense(names[0], p.dim, p.dim));
        l.k = TRY(b.dense(names[1], p.dim, p.dim));
        l.v = TRY(b.dense(names[2], p.dim, p.dim));
        l.output = TRY(b.dense(names[3], p.dim, p.dim));
        l.output_norm = TRY(b.norm(names[4], p.dim));
        l.up = TRY(b.dense(names[5], p.hidden, p.dim));
        l.down = TRY(b.dense(names[6], p.dim, p.hidden));
        l.layer_norm = TRY(b.norm(names[7], p.dim));
        for (const Dense* d : {&l.q, &l.k, &l.v, &l.output, &l.up, &l.down}) {
            const bool floats = d->matrix.kind == image::Kind::f32;
            if (i == 0 && d == &l.q) m.floats = floats;
            if (floats != m.floats)
                return Error::make(Code::model_format,
                                   "the matrices of an encoder's layers are all f32 or none: blk.%u has both", i);
        }
    }
    return {};
}

struct Sizes {
    int rows, threads, dim, hidden, head_dim;
    bool floats;
    int member_floats() const {  // keys of a head, and scores of a tile
        return (head_dim + tile) * static_cast<int>(round_up(static_cast<std::size_t>(rows), compute::lanes));
    }
};

struct EncoderBuffers {
    float* x;                // [rows, dim] residual stream
    float* delta;            // [rows, dim] what is added to x next
    compute::Quantized in;   // [rows] x, or what was attended
    compute::Quantized mid;  // [rows] hidden
    float* qkv;              // [rows, 3 dim]
    float* attended;         // [rows, dim]
    float* hidden;           // [rows, hidden]
    float* member;           // [threads] of each member alone
};

void lay_out(Arena& arena, const Sizes& s, EncoderBuffers& b) {
    const auto floats = [&](int rows, int columns) {
        return arena.scratch<float>(static_cast<std::size_t>(rows) * static_cast<std::size_t>(columns));
    };
    const auto quantized = [&](int stride) {
        if (s.floats) return compute::Quantized{};
        const auto n = static_cast<std::size_t>(s.rows) * static_cast<std::size_t>(stride);
        return compute::Quantized{arena.scratch<std::int8_t>(n + 64), arena.scratch<float>(n / group),
                                  arena.scratch<std::int32_t>(n / group), stride};
    };
    b.x = floats(s.rows, s.dim);
    b.delta = floats(s.rows, s.dim);
    b.in = quantized(s.dim);
    b.mid = quantized(s.hidden);
    b.member = floats(s.threads, s.member_floats());
    arena.overlay(
        [&] {
            b.qkv = floats(s.rows, 3 * s.dim);
            b.attended = floats(s.rows, s.dim);
        },
        [&] { b.hidden = floats(s.rows, s.hidden); });
}

Result<Config> checked(const image::ModelParams& p, Config c) {
    TRY(check_encoder(p));
    const auto most = static_cast<int>(p.context);
    if (c.residency == image::Residency::streamed)
        return Error::make(Code::incorrect_parameters, "an encoder is small, and not streamed: leave out stream");
    if (c.context == 0) c.context = most;
    if (c.context < 2 || c.context > most)
        return Error::make(Code::incorrect_parameters, "context = %d: this model takes 2 to %d", c.context, most);
    if (c.threads == 0)
        c.threads = c.with != nullptr ? c.with->threads() : std::min(fastest_cluster().cores, Team::max_size);
    const int threads = c.with != nullptr ? c.with->threads() : Team::max_size;
    if (c.threads < 1 || c.threads > threads)
        return Error::make(Code::incorrect_parameters, "threads = %d: 1 to %d", c.threads, threads);
    return c;
}

Sizes sizes_of(const image::Image& image, const Config& c) {
    const image::ModelParams& p = image.params();
    bool floats = true;
    for (const image::TensorEntry& t : image.tensors())
        if (std::strcmp(t.name, "blk.0.attn_q") == 0) floats = t.kind == image::Kind::f32;
    return {c.context, c.threads, static_cast<int>(p.dim), static_cast<int>(p.hidden), static_cast<int>(p.head_dim),
            floats};
}

struct Sequence {
    int begin, count;  // rows
    float* embedding;
};

void row_of(const Linear& m, int row, float* out) {
    if (m.kind != image::Kind::f32) return row_decoder(m.kind)(m.w, row, out);
    const auto* values = reinterpret_cast<const float*>(m.w.codes) +
                         static_cast<std::size_t>(row / panel) * static_cast<std::size_t>(m.w.cols * panel) +
                         row % panel;
    for (int i = 0; i < m.w.cols; i++, values += panel) out[i] = *values;
}

}  // namespace

void to_unit_length(float* v, int n) {
    float lanes[compute::lanes] = {};
    for (int i = 0; i < n; i++) lanes[i % compute::lanes] = std::fma(v[i], v[i], lanes[i % compute::lanes]);
    for (int half = compute::lanes / 2; half > 0; half /= 2)
        for (int i = 0; i < half; i++) lanes[i] += lanes[i + half];
    const float length = std::sqrt(lanes[0]);
    if (!(length > 0)) return;
    const float factor = 1 / length;
    for (int i = 0; i < n; i++) v[i] *= factor;
}

struct Encoder::State {
    EncoderModel model;
    Config config;
    Sizes sizes;
    const compute::Kernels* kernels;
    EncoderBuffers buffers;
    Team own_team;
    Team* team = &own_team;
    int members = 1;
    void* memory = nullptr;
    std::size_t memory_bytes = 0;

    // Of a pass: as many texts as there are tokens, at most.
    Sequence* sequences = nullptr;   // [rows]
    std::int32_t* tokens = nullptr;  // [rows]
    std::int32_t* places = nullptr;  // [rows] position in its text
    int sequence_count = 0, rows = 0;
    const std::atomic<bool>* cancel = nullptr;
    bool stopped = false;

    void lay_out_all(Arena& arena) {
        const auto n = static_cast<std::size_t>(sizes.rows);
        sequences = arena.persistent<Sequence>(n);
        tokens = arena.persistent<std::int32_t>(n);
        places = arena.persistent<std::int32_t>(n);
        lay_out(arena, sizes, buffers);
    }
    struct Worker;
};

// One member's view of a pass: every member runs the same lines. Work is divided in whole blocks of rows, whole heads
// or whole tokens, so the division never changes a result.
struct Encoder::State::Worker {
    State& s;
    const int rank;
    const compute::Kernels& k = *s.kernels;
    const EncoderBuffers& b = s.buffers;
    const int dim = s.sizes.dim, hidden = s.sizes.hidden, head_dim = s.sizes.head_dim, rows = s.rows;
    float* const keys = b.member + static_cast<std::ptrdiff_t>(rank) * s.sizes.member_floats();
    const Team::Part own = s.team->part(rows, rank);
    unsigned turn = 0;

    void sync() const { s.team->sync(); }
    template <class F>
    void deal(int n, F&& f) {
        s.team->deal(n, n / (8 * s.members) + 1, rank, turn, f);
    }

    // Columns [32 * begin, 32 * end) of y = matrix times x, with bias.
    void multiply(const Dense& d, int begin, int end, const float* x, const compute::Quantized& q, float* y,
                  int ldy) const {
        const compute::Matrix& w = d.matrix.w;
        if (d.matrix.kind == image::Kind::f32) {
            for (int at = begin * group; at < end * group; at += panel)
                k.product(reinterpret_cast<const float*>(w.codes) + static_cast<std::ptrdiff_t>(at) * w.cols, panel,
                          w.cols, x, static_cast<std::size_t>(w.cols), rows, y + at, static_cast<std::size_t>(ldy));
        } else {
            matmul_of(k, d.matrix.kind)(w, begin * (group / block), end * (group / block), q, rows, y,
                                        static_cast<std::size_t>(ldy));
        }
        for (int t = 0; t < rows; t++)
            k.add(y + static_cast<std::ptrdiff_t>(t) * ldy + begin * group, d.bias + begin * group, 1,
                  (end - begin) * group);
    }

    void quantize(const float* x, int n, const compute::Quantized& q, int t, int at = 0) const {
        if (s.model.floats) return;
        const std::ptrdiff_t to = static_cast<std::ptrdiff_t>(t) * q.stride + at;
        k.quantize(x, n, q.q + to, q.scale + to / group, q.sum + to / group);
    }

    void norm(int t, const Norm& n) const {
        float* const row = b.x + static_cast<std::ptrdiff_t>(t) * dim;
        k.layer_norm(row, n.weight, n.bias, dim, s.model.params.norm_eps, row);
        quantize(row, dim, b.in, t);
    }
    void add_and_norm(const Norm& n) const {
        for (int t = own.begin; t < own.end; t++) {
            k.add(b.x + static_cast<std::ptrdiff_t>(t) * dim, b.delta + static_cast<std::ptrdiff_t>(t) * dim, 1, dim);
            norm(t, n);
        }
    }

    void embed() const {
        for (int t = own.begin; t < own.end; t++) {
            float *const row = b.x + static_cast<std::ptrdiff_t>(t) * dim, *const other =
                                                                               b.delta +
                                                                               static_cast<std::ptrdiff_t>(t) * dim;
            row_of(s.model.tokens, s.tokens[t], row);
            row_of(s.model.positions, s.places[t], other);
            k.add(row, other, 1, dim);
            row_of(s.model.types, 0, other);
            k.add(row, other, 1, dim);
            norm(t, s.model.norm);
        }
    }

    void project(const EncoderLayer& l) {
        const int units = dim / group;
        const float scale = 1 / std::sqrt(static_cast<float>(head_dim));
        deal(3 * units, [&](int first, int last) {
            int from = 0;
            for (const Dense* d : {&l.q, &l.k, &l.v}) {
                const int begin = std::max(first - from, 0), end = std::min(last - from, units);
                float* const y = b.qkv + from * group;
                if (begin < end) multiply(*d, begin, end, b.x, b.in, y, 3 * dim);
                for (int t = 0; d == &l.q && begin < end && t < rows; t++)
                    k.cap(y + static_cast<std::ptrdiff_t>(t) * 3 * dim + begin * group, scale, 0,
                          (end - begin) * group);
                from += units;
            }
        });
    }

    // One head of one text: its keys are turned, so that 16 positions lie together, its values lie so already.
    void attend(const Sequence& text, int head) const {
        const int n = text.count, padded = static_cast<int>(round_up(static_cast<std::size_t>(n), compute::lanes));
        const auto ld = static_cast<std::size_t>(3 * dim), stride = static_cast<std::size_t>(padded);
        const float* const q = b.qkv + static_cast<std::ptrdiff_t>(text.begin) * 3 * dim + head * head_dim;
        const float *const key = q + dim, *const value = q + 2 * dim;
        for (int d = 0; d < head_dim; d++) {
            float* const to = keys + d * padded;
            for (int t = 0; t < n; t++) to[t] = key[static_cast<std::size_t>(t) * ld + static_cast<std::size_t>(d)];
            std::fill(to + n, to + padded, 0.0f);
        }
        float* const scores = keys + head_dim * padded;
        float* const out = b.attended + static_cast<std::ptrdiff_t>(text.begin) * dim + head * head_dim;
        for (int first = 0; first < n; first += tile) {
            const int count = std::min(tile, n - first);
            for (int at = 0; at < padded; at += compute::lanes)
                k.product(keys + at, stride, head_dim, q + static_cast<std::size_t>(first) * ld, ld, count, scores + at,
                          stride);
            float totals[tile];
            for (int t = 0; t < count; t++) totals[t] = k.exponentials(scores + t * padded, n);
            float* const to = out + static_cast<std::ptrdiff_t>(first) * dim;
            for (int at = 0; at < head_dim; at += compute::lanes)
                k.product(value + at, ld, n, scores, stride, count, to + at, static_cast<std::size_t>(dim));
            for (int t = 0; t < count; t++)
                k.cap(to + static_cast<std::ptrdiff_t>(t) * dim, 1 / totals[t], 0, head_dim);
        }
    }

    void feed_forward(const EncoderLayer& l) {
        deal(hidden / group, [&](int begin, int end) {
            multiply(l.up, begin, end, b.x, b.in, b.hidden, hidden);
            for (int t = 0; t < rows; t++) {
                float* const row = b.hidden + static_cast<std::ptrdiff_t>(t) * hidden + begin * group;
                k.gelu(row, (end - begin) * group);
                quantize(row, (end - begin) * group, b.mid, t, begin * group);
            }
        });
    }

    void pool() {
        deal(s.sequence_count, [&](int begin, int end) {
            for (int i = begin; i < end; i++) {
                const Sequence& text = s.sequences[i];
                std::fill_n(text.embedding, dim, 0.0f);
                for (int t = 0; t < text.count; t++)
                    k.add(text.embedding, b.x + static_cast<std::ptrdiff_t>(text.begin + t) * dim, 1, dim);
                k.cap(text.embedding, 1 / static_cast<float>(text.count), 0, dim);
                to_unit_length(text.embedding, dim);
            }
        });
    }

    void forward() {
        embed();
        sync();
        for (std::uint32_t i = 0; i < s.model.params.layers; i++) {
            const EncoderLayer& l = s.model.layers[i];
            if (rank == 0 && s.cancel->load(std::memory_order_relaxed)) s.stopped = true;
            if (rank == 0 && s.config.progress != nullptr) s.config.progress->fetch_add(1, std::memory_order_relaxed);
            project(l);
            sync();
            if (s.stopped) return;
            const int heads = dim / head_dim;
            s.team->deal(s.sequence_count * heads, 1, rank, turn, [&](int begin, int end) {
                for (int u = begin; u < end; u++) attend(s.sequences[u / heads], u % heads);
            });
            sync();
            for (int t = own.begin; t < own.end; t++)
                quantize(b.attended + static_cast<std::ptrdiff_t>(t) * dim, dim, b.in, t);
            sync();
            deal(dim / group,
                 [&](int begin, int end) { multiply(l.output, begin, end, b.attended, b.in, b.delta, dim); });
            sync();
            add_and_norm(l.output_norm);
            sync();
            feed_forward(l);
            sync();
            deal(dim / group, [&](int begin, int end) { multiply(l.down, begin, end, b.hidden, b.mid, b.delta, dim); });
            sync();
            add_and_norm(l.layer_norm);
            sync();
        }
        pool();
    }
};

Result<Plan> plan_encoder(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image.params(), wanted));
    Plan plan;
    plan.add("image", image.footprint(c.residency).resident);
    Encoder::State state{};
    state.sizes = sizes_of(image, c);
    Arena arena;
    state.lay_out_all(arena);
    plan.add("activations", arena.used());
    plan.add("engine state", sizeof(Encoder) + sizeof(Encoder::State));
    return plan;
}

Result<Encoder*> Encoder::open(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image.params(), wanted));
    const compute::Kernels* const kernels = TRY(level_named(c.level));
    struct Owner {
        Encoder* encoder;
        ~Owner() { delete encoder; }
    } owner{new (std::nothrow) Encoder};
    if (owner.encoder == nullptr || (owner.encoder->state_ = new (std::nothrow) State) == nullptr)
        return Error::make(Code::memory_full, "no memory for the encoder's state");
    State& s = *owner.encoder->state_;
    TRY(bind(image, s.model));
    s.config = c;
    s.sizes = sizes_of(image, c);
    s.kernels = kernels;
    Arena counting;
    s.lay_out_all(counting);
    s.memory_bytes = counting.used();
    // Populated now: a page fault in the middle of an answer would be an allocation by another name.
    s.memory = mmap(nullptr, s.memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (s.memory == MAP_FAILED) {
        s.memory = nullptr;
        return Error::make(Code::model_memory, "cannot map %llu MiB for the encoder",
                           static_cast<unsigned long long>(s.memory_bytes >> 20));
    }
    Arena real({static_cast<std::byte*>(s.memory), s.memory_bytes});
    s.lay_out_all(real);
    if (real.overflow()) return Error::make(Code::unknown, "the plan is smaller than what is used");
    s.members = c.threads;
    if (c.with != nullptr)
        s.team = &c.with->team();
    else
        TRY(start_team(s.own_team, c));
    return std::exchange(owner.encoder, nullptr);
}

Encoder::~Encoder() {
    if (state_ == nullptr) return;
    void* const memory = state_->memory;
    const std::size_t bytes = state_->memory_bytes;
    delete state_;  // ends the team first
    if (memory != nullptr) munmap(memory, bytes);
}

int Encoder::vocab() const { return static_cast<int>(state_->model.params.vocab); }
int Encoder::dim() const { return state_->sizes.dim; }
int Encoder::context() const { return state_->config.context; }
int Encoder::threads() const { return state_->config.threads; }
void Encoder::work_with(int threads) { state_->members = std::clamp(threads, 1, state_->config.threads); }
const char* Encoder::level() const { return state_->kernels->name; }
std::uint64_t Encoder::arena_bytes() const { return state_->memory_bytes; }

Result<int> Encoder::embed(std::span<const Text> texts, const std::atomic<bool>& cancel) {
    State& s = *state_;
    s.sequence_count = s.rows = 0;
    for (const Text& text : texts) {
        const auto n = static_cast<int>(text.tokens.size());
        if (n == 0) return Error::make(Code::incorrect_parameters, "a text without tokens");
        if (n > context())
            return Error::make(Code::context_full, "%d tokens do not fit the context of %d", n, context());
        if (s.rows + n > context()) break;
        TRY(check_tokens(text.tokens, 0, vocab()));
        std::copy(text.tokens.begin(), text.tokens.end(), s.tokens + s.rows);
        for (int i = 0; i < n; i++) s.places[s.rows + i] = i;
        s.sequences[s.sequence_count++] = {s.rows, n, text.embedding};
        s.rows += n;
    }
    if (s.sequence_count == 0) return Error::make(Code::incorrect_parameters, "no text");
    s.cancel = &cancel;
    s.stopped = false;
    s.team->run(
        s.members,
        [](void* context, int rank) {
            State::Worker{*static_cast<State*>(context), rank}.forward();
        },
        &s);
    if (s.stopped) return Error::make(Code::aborted, "cancelled");
    return s.sequence_count;
}

}  // namespace slmd::engine
