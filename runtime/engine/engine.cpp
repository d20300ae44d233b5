#include "engine/engine.h"

#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/bytes.h"
#include "base/cluster.h"
#include "base/memory.h"
#include "engine/forward.h"
#include "image/check.h"

namespace slmd::engine {
namespace {

constexpr int max_draft = 8;
constexpr int worth_copying = 16;  // tokens that another slot shares beyond what the own one does

int cores_to_use() { return std::min(fastest_cluster().cores, Team::max_size); }

Result<Config> checked(const image::Image& image, Config c) {
    const image::ModelParams& p = image.params();
    if (image::is_adapter(image.header()))
        return Error::make(
            Code::model_format,
            "an adapter for %.40s, not a model: give slmd its base as model, and this one in [[adapter]]",
            image.header().base.name);
    TRY(check_params(p));
    if (c.threads == 0) c.threads = c.with != nullptr ? c.with->threads() : cores_to_use();
    struct {
        const char* name;
        int value, low, high;
    } const limits[] = {{"context", c.context, 1, static_cast<int>(p.context)},
                        {"slots", c.slots, 1, max_slots},
                        {"threads", c.threads, 1, Team::max_size},
                        {"batch", c.batch, 1, max_batch},
                        {"draft", c.draft, 0, max_draft},
                        {"adapters", static_cast<int>(c.adapters.size()), 0, max_adapters}};
    for (const auto& l : limits)
        if (l.value < l.low || l.value > l.high)
            return Error::make(Code::incorrect_parameters, "%s = %d: this model takes %d to %d", l.name, l.value, l.low,
                               l.high);
    if (c.with != nullptr && c.threads > c.with->threads())
        return Error::make(Code::incorrect_parameters, "threads = %d: the other engine has %d", c.threads,
                           c.with->threads());
    if (c.draft >= c.batch) c.draft = c.batch - 1;
    if (c.decode_threads == 0) c.decode_threads = c.threads;
    if (c.decode_threads < 1 || c.decode_threads > c.threads)
        return Error::make(Code::incorrect_parameters, "decode_threads = %d: 1 to the %d threads", c.decode_threads,
                           c.threads);
    return c;
}

struct Layout {
    Shapes shapes;
    Buffers buffers;
    Cache slots[max_slots];
    LowRank* adapters[max_adapters];  // [layers * adapted_count] each
};

std::size_t adapter_targets(const image::ModelParams& p) { return std::size_t{p.layers} * image::adapted_count; }

// Of the last token of each slot, and of what is guessed in one pass.
int logit_rows(const Config& c) { return c.slots + c.draft; }

// rank: of the adapters the largest.
void lay_out(Arena& arena, const image::ModelParams& p, const Config& c, int rank, Layout& l) {
    l.shapes = shapes_of(p);
    l.shapes.rank = static_cast<int>(round_up(static_cast<std::size_t>(rank), compute::group));
    for (std::size_t i = 0; i < c.adapters.size(); i++) l.adapters[i] = arena.persistent<LowRank>(adapter_targets(p));
    for (int i = 0; i < c.slots; i++) lay_out(arena, p, c.context, c.batch, l.slots[i]);
    lay_out(arena, l.shapes, {c.context, c.batch, c.threads, logit_rows(c)}, l.buffers);
}

// Checks all of them; the largest rank.
Result<int> check_adapters(const image::Image& image, const Config& c) {
    int rank = 0;
    for (const image::Image* adapter : c.adapters) {
        const auto one = check_adapter(*adapter, image);
        if (!one)
            return Error::make(Code::incorrect_parameters, "adapter %.32s: %s", adapter->params().name,
                               one.error().text);
        rank = std::max(rank, one.value());
    }
    return rank;
}

}  // namespace

struct Engine::State {
    Model model;
    Config config;
    const compute::Kernels* kernels;
    Layout layout;
    Team own_team;
    Team* team = &own_team;
    int prefill_threads, decode_threads;
    // Logits that are there: of tokens first .. first + count - 1 of a slot, from `row` on; next: not yet given.
    struct Ready {
        int first, row, count, next;
    } ready[max_slots]{};
    Row rows[max_batch];
    int forks[max_batch], fork_count = 0;
    Pick picks[max_tree_nodes];
    int pick_count = 0;
    PoolRows pools[max_slots];
    int pool_count = 0;
    Wanted wanted[max_slots + max_draft];
    AdaptedRows adapted[max_batch / adapted_rows + max_slots];
    void* memory = nullptr;
    std::size_t memory_bytes = 0;

    std::span<float> logits(int row) {
        return {
            layout.buffers.logits + static_cast<std::size_t>(row) * static_cast<std::size_t>(layout.shapes.vocab_rows),
            model.params.vocab};
    }
    void forget_logits() {
        for (Ready& r : ready) r = {};
    }
    Result<void> check_adapter(int adapter) const {
        if (adapter < no_adapter || adapter >= static_cast<int>(config.adapters.size()))
            return Error::make(Code::invalid_index, "adapter %d: there are %zu", adapter, config.adapters.size());
        return {};
    }
    bool give_ready(Step& step, int shared);
    int keep_prefix(const Step& step, int shared);
    struct Growth {
        int rows;  // now in the pass
        int held;  // nodes that stand in the cache behind the tokens
        int next;  // of the tree, after the pass
    };
    Growth grow(const Step& step, int rows, int last_row, int room);
    bool pick(const Tree& tree, int fork, int row);
    std::size_t find_adapted(int row_count) {
        std::size_t n = 0;
        for (int i = 0; i < row_count; i++) {
            const int adapter = rows[i].cache->adapter;
            if (adapter == no_adapter) continue;
            const LowRank* const targets = layout.adapters[adapter];
            if (n > 0 && adapted[n - 1].targets == targets && adapted[n - 1].first + adapted[n - 1].count == i &&
                adapted[n - 1].count < adapted_rows)
                adapted[n - 1].count++;
            else
                adapted[n++] = {targets, i, 1};
        }
        return n;
    }
    Pass pass_over(int row_count, int wanted_count) {
        return {&model,
                kernels,
                team,
                row_count <= few_rows ? decode_threads : prefill_threads,
                layout.shapes,
                &layout.buffers,
                {rows, static_cast<std::size_t>(row_count)},
                {wanted, static_cast<std::size_t>(wanted_count)},
                false,
                config.progress,
                {forks, static_cast<std::size_t>(fork_count)},
                {picks, static_cast<std::size_t>(pick_count)},
                {adapted, find_adapted(row_count)},
                {pools, static_cast<std::size_t>(pool_count)}};
    }
};

Result<Plan> plan(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image, wanted));
    Plan plan;
    const image::Footprint image_bytes = image.footprint(c.residency, c.experts);
    plan.add("image", image_bytes.resident);
    if (image_bytes.rows != 0) plan.add("embedding rows", image_bytes.rows);
    if (image_bytes.layers != 0) plan.add(image.params().experts != 0 ? "experts" : "streamed layers", image_bytes.layers);
    const int rank = TRY(check_adapters(image, c));
    Layout layout{};
    Arena arena, tables;
    lay_out(arena, image.params(), c, rank, layout);
    std::uint64_t adapters = 0;
    for (const image::Image* adapter : c.adapters) {
        adapters += adapter->footprint(image::Residency::whole).resident;
        tables.persistent<LowRank>(adapter_targets(image.params()));
    }
    if (!c.adapters.empty()) plan.add("adapters", adapters + tables.persistent_bytes());
    plan.add("KV cache", arena.persistent_bytes() - tables.persistent_bytes());
    plan.add("activations", arena.scratch_bytes());
    plan.add("engine state", sizeof(Engine) + sizeof(Engine::State));
    return plan;
}

Result<const compute::Kernels*> level_named(const char* name) {
    const compute::Kernels* const kernels = name == nullptr ? compute::levels()[0] : compute::find_level(name);
    if (kernels != nullptr) return kernels;
    char names[128] = "";
    for (auto l = compute::levels(); *l != nullptr; l++) {
        std::strncat(names, " ", sizeof names - std::strlen(names) - 1);
        std::strncat(names, (*l)->name, sizeof names - std::strlen(names) - 1);
    }
    return Error::make(Code::incorrect_parameters, "level \"%s\" is not available on this CPU; these are:%s", name,
                       names);
}

Result<void> start_team(Team& team, const Config& c) {
    const Cluster cluster = fastest_cluster();
    if (c.pinned) sched_setaffinity(0, sizeof cluster.cpus, &cluster.cpus);
    return team.start(c.threads, c.pinned ? &cluster.cpus : nullptr);
}

Result<void> check_tokens(std::span<const std::int32_t> tokens, int from, int vocab) {
    for (std::size_t i = static_cast<std::size_t>(from); i < tokens.size(); i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return Error::make(Code::incorrect_parameters, "token %d at position %zu is outside the vocabulary of %d",
                               tokens[i], i, vocab);
    return {};
}

Result<Engine*> Engine::open(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image, wanted));
    const compute::Kernels* const kernels = TRY(level_named(c.level));
    struct Owner {
        Engine* engine;
        ~Owner() { delete engine; }
    } owner{new (std::nothrow) Engine};
    if (owner.engine == nullptr || (owner.engine->state_ = new (std::nothrow) State) == nullptr)
        return Error::make(Code::memory_full, "no memory for the engine's state");
    State& s = *owner.engine->state_;
    TRY(bind(image, s.model));
    const int rank = TRY(check_adapters(image, c));
    s.config = c;
    s.kernels = kernels;

    Arena counting;
    lay_out(counting, image.params(), c, rank, s.layout);
    s.memory_bytes = counting.used();
    if (const std::uint64_t available = available_memory(); s.memory_bytes > available) {
        Config smaller = c;
        while (smaller.context > 64) {
            smaller.context = smaller.context * 3 / 4;
            Arena trial;
            Layout layout{};
            lay_out(trial, image.params(), smaller, rank, layout);
            if (trial.used() <= available) break;
        }
        return Error::make(Code::model_memory,
                           "the engine needs %llu MiB, %llu MiB are available; context = %d would fit",
                           static_cast<unsigned long long>(s.memory_bytes >> 20),
                           static_cast<unsigned long long>(available >> 20), smaller.context);
    }
    // Populated now: a page fault in the middle of an answer would be an allocation by another name.
    s.memory = mmap(nullptr, s.memory_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (s.memory == MAP_FAILED) {
        s.memory = nullptr;
        return Error::make(Code::model_memory, "cannot map %llu MiB for the engine",
                           static_cast<unsigned long long>(s.memory_bytes >> 20));
    }
    Arena real({static_cast<std::byte*>(s.memory), s.memory_bytes});
    lay_out(real, image.params(), c, rank, s.layout);
    if (real.overflow()) return Error::make(Code::unknown, "the plan is smaller than what is used");
    for (std::size_t i = 0; i < c.adapters.size(); i++) TRY(bind(*c.adapters[i], image.params(), s.layout.adapters[i]));
    s.prefill_threads = c.threads;
    s.decode_threads = c.decode_threads;
    if (c.with != nullptr) {
        s.team = c.with->state_->team;
    } else {
        TRY(start_team(s.own_team, c));
    }
    return std::exchange(owner.engine, nullptr);
}

Engine::~Engine() {
    if (state_ == nullptr) return;
    void* memory = state_->memory;
    const std::size_t bytes = state_->memory_bytes;
    delete state_;  // ends the team first
    if (memory != nullptr) munmap(memory, bytes);
}

int Engine::dim() const { return static_cast<int>(state_->model.params.dim); }
int Engine::vocab() const { return static_cast<int>(state_->model.params.vocab); }
int Engine::context() const { return state_->config.context; }
int Engine::slots() const { return state_->config.slots; }
int Engine::threads() const { return state_->config.threads; }
int Engine::batch() const { return state_->config.batch; }
void Engine::work_with(int prefill, int decode) {
    state_->prefill_threads = std::clamp(prefill, 1, state_->config.threads);
    state_->decode_threads = std::clamp(decode, 1, state_->config.threads);
}
int Engine::prefill_threads() const { return state_->prefill_threads; }
int Engine::decode_threads() const { return state_->decode_threads; }
const char* Engine::level() const { return state_->kernels->name; }
std::uint64_t Engine::arena_bytes() const { return state_->memory_bytes; }
Team& Engine::team() { return *state_->team; }

std::span<const std::int32_t> Engine::cached(int slot, int adapter) const {
    const Cache& c = state_->layout.slots[slot];
    if (c.adapter != adapter) return {};
    return {c.tokens, static_cast<std::size_t>(c.count)};
}
void Engine::forget(int slot) {
    state_->layout.slots[slot].count = state_->layout.slots[slot].written = 0;
    state_->ready[slot] = {};
}

int Engine::pieces() const {
    const image::ModelParams& p = state_->model.params;
    return 4 * static_cast<int>(p.layers * p.kv_heads);
}
std::span<std::byte> Engine::piece(int slot, int index, int count) const {
    const compute::KvHead& h = state_->layout.slots[slot].heads[index / 4];
    const auto n = static_cast<std::size_t>(count);
    switch (index % 4) {
        case 0: return std::as_writable_bytes(std::span(h.k, n * static_cast<std::size_t>(h.head_dim)));
        case 1: return std::as_writable_bytes(std::span(h.k_scale, n));
        case 2: return std::as_writable_bytes(std::span(h.v, n * static_cast<std::size_t>(h.v_stride)));
        default: return std::as_writable_bytes(std::span(h.v_scale, n));
    }
}
bool Engine::can_hold(int slot, int count) const {
    const Cache& c = state_->layout.slots[slot];
    return count <= state_->config.context && (c.ring == 0 || (count <= c.ring && c.written <= c.ring));
}
void Engine::hold(int slot, std::span<const std::int32_t> tokens, int adapter) {
    Cache& c = state_->layout.slots[slot];
    std::copy(tokens.begin(), tokens.end(), c.tokens);
    c.count = c.written = static_cast<int>(tokens.size());
    c.adapter = adapter;
    state_->ready[slot] = {};
}

namespace {

int shared_prefix(const Cache& c, std::span<const std::int32_t> tokens, int adapter) {
    if (c.adapter != adapter) return 0;
    const auto end = tokens.begin() + std::min(c.count, static_cast<int>(tokens.size()));
    return static_cast<int>(std::mismatch(tokens.begin(), end, c.tokens).first - tokens.begin());
}

// Parents before children, depth-first, of bounded depth and few enough to fit: what the passes then rely on.
Result<void> check_tree(const Tree& tree, std::size_t tokens, int context, int vocab) {
    const int n = tree.size();
    if (n > max_tree_nodes)
        return Error::make(Code::incorrect_parameters, "a tree of %d nodes: at most %d", n, max_tree_nodes);
    for (int i = 0; i < n; i++) {
        const TreeNode& node = tree[i];
        int inside = i - 1;  // of the nodes before, the last one that has this one below it
        while (inside != Tree::root && tree.end(inside) <= i) inside = tree.parent(inside);
        if (node.parent != inside || node.end <= i || node.end > tree.end(inside))
            return Error::make(Code::incorrect_parameters, "node %d of a tree is not in its place", i);
        if (node.token < 0 || node.token >= vocab)
            return Error::make(Code::incorrect_parameters, "token %d of a tree is outside the vocabulary of %d",
                               node.token, vocab);
        const int depth = tree.depth(i) - 1;
        if (depth > max_tree_depth)
            return Error::make(Code::incorrect_parameters, "a tree %d deep: at most %d", depth, max_tree_depth);
        if (tokens + static_cast<std::size_t>(depth) > static_cast<std::size_t>(context))
            return Error::make(Code::context_full, "%zu tokens and a tree %d deep do not fit the context of %d", tokens,
                               depth, context);
    }
    return {};
}

}  // namespace

// Given once only: the sampler may have changed them.
bool Engine::State::give_ready(Step& step, int shared) {
    const int n = static_cast<int>(step.tokens.size());
    Ready& r = ready[step.slot];
    if (step.tree != nullptr || step.pool != nullptr || shared != n || r.next >= r.count || n - 1 != r.first + r.next)
        return false;
    step.cached = n;
    step.logits = logits(r.row + r.next++);
    step.guessed = true;
    return true;
}

// Leaves in the slot what it shares with the tokens, or what another one does; returns how many.
int Engine::State::keep_prefix(const Step& step, int shared) {
    Cache& cache = layout.slots[step.slot];
    const int n = static_cast<int>(step.tokens.size());
    // Of a tree that has begun, behind the tokens stands the way to its next node, perhaps.
    if (shared == n && step.tree != nullptr && step.tree->fork_from(step.tree->next) != Tree::root &&
        cache.keepable(n) == n)
        return n;
    shared = cache.keepable(std::min(shared, n - 1));  // logits of the last token are not kept
    for (int other = 0; other < config.slots && step.pool == nullptr; other++) {
        const Cache& from = layout.slots[other];
        const int theirs = from.keepable(std::min(shared_prefix(from, step.tokens, step.adapter), n - 1));
        if (other == step.slot || theirs < shared + worth_copying) continue;
        copy(from, theirs, model.params, cache);
        shared = theirs;
    }
    cache.count = shared;
    cache.adapter = step.adapter;
    if (shared == 0) cache.written = 0;
    return shared;
}

// The children of one that forks, whose row is in the pass. False when there is no room for them.
bool Engine::State::pick(const Tree& tree, int fork, int row) {
    int n = pick_count;
    for (int child = fork + 1; child < tree.end(fork); child = tree.end(child)) {
        if (n == max_tree_nodes) return false;
        picks[n++] = {fork_count, &tree.nodes[static_cast<std::size_t>(child)]};
    }
    pick_count = n;
    forks[fork_count++] = row;
    return true;
}

// As many nodes as fit behind the tokens, which are all in the cache or in the pass. Whoever forks needs a row, and
// those before it, which a later pass computes again for the next one; only a way that is longer than the room is
// written to the cache, piece by piece.
Engine::State::Growth Engine::State::grow(const Step& step, int rows_before, int last_row, int room) {
    Tree& tree = *step.tree;
    Cache& cache = layout.slots[step.slot];
    const int n = static_cast<int>(step.tokens.size());
    Growth g{rows_before, 0, tree.fork_from(tree.next)};
    if (g.next == Tree::root) {
        if (!pick(tree, Tree::root, last_row)) return g;
        g.next = tree.fork_from(0);
        if (tree.root_first) return g;
    }
    struct {
        int node, row;
    } way[max_tree_depth + 1];  // to the last node that was added
    int length = 0, held = 0, held_node = Tree::root;
    const auto token_at = [&](int node) { return tree[node].token; };
    for (bool first = true; g.next < tree.size(); first = false) {
        int nodes[max_tree_depth + 1];
        const int depth = tree.depth(g.next);
        for (int i = g.next, at = depth; i != Tree::root; i = tree.parent(i)) nodes[--at] = i;
        if (first && depth > room) {
            const int known = last_row < 0 ? std::min(cache.count - n, depth - 1) : 0;
            while (held < known && cache.tokens[n + held] == token_at(nodes[held])) held++;
            if (depth - held > room) {
                cache.count = std::min(cache.count, n + held);
                for (int i = 0; i < room; i++, held++) {
                    cache.tokens[n + held] = token_at(nodes[held]);
                    rows[g.rows++] = {&cache, token_at(nodes[held]), n + held, step.cancel};
                }
                g.held = held;
                return g;
            }
            if (held > 0) held_node = nodes[held - 1];
            for (; length < held; length++) way[length] = {nodes[length], -1};
        }
        if (g.next >= tree.end(held_node)) break;
        int common = 0;
        while (common < length && common < depth && way[common].node == nodes[common]) common++;
        if (depth - common > room) break;
        const Growth before = g;
        for (length = common; length < depth; length++) {
            rows[g.rows] = {&cache,     token_at(nodes[length]),
                            n + length, step.cancel,
                            n + held,   length > held ? way[length - 1].row : -1};
            way[length] = {nodes[length], g.rows++};
        }
        if (!pick(tree, g.next, way[depth - 1].row)) {
            g = before;
            break;
        }
        room -= depth - common;
        g.next = tree.fork_from(g.next + 1);
    }
    g.held = held;
    return g;
}

Result<void> Engine::advance(std::span<Step> steps) {
    State& s = *state_;
    unsigned used = 0;
    int shared[max_slots];
    for (Step& step : steps) {
        const int n = static_cast<int>(step.tokens.size());
        if (step.slot < 0 || step.slot >= s.config.slots || (used >> step.slot & 1) != 0)
            return Error::make(Code::invalid_index, "slot %d: there are %d, each once", step.slot, s.config.slots);
        used |= 1u << step.slot;
        if (n > s.config.context)
            return Error::make(Code::context_full, "%d tokens do not fit the context of %d", n, s.config.context);
        if (n == 0 || step.max_tokens < 1)
            return Error::make(Code::incorrect_parameters, "nothing to compute: %d tokens, at most %d at a time", n,
                               step.max_tokens);
        TRY(s.check_adapter(step.adapter));
        shared[step.slot] = shared_prefix(s.layout.slots[step.slot], step.tokens, step.adapter);
        if (step.pool != nullptr && (step.pool->tokens == 0 || shared[step.slot] != step.pool->tokens)) {
            shared[step.slot] = step.pool->tokens = 0;
            std::fill_n(step.pool->sum, dim(), 0.0f);
        }
        TRY(check_tokens(step.tokens, shared[step.slot], vocab()));
        TRY(check_tokens(step.draft, 0, vocab()));
        if (step.tree != nullptr) TRY(check_tree(*step.tree, step.tokens.size(), s.config.context, vocab()));
        step.cached = shared[step.slot];
        step.logits = {};
        step.drafted = 0;
        step.guessed = step.cancelled = false;
    }
    bool waiting = false;
    for (Step& step : steps) waiting |= s.give_ready(step, shared[step.slot]);
    if (waiting) {
        for (Step& step : steps) step.cached -= !step.guessed && step.cached == static_cast<int>(step.tokens.size());
        return {};
    }
    s.forget_logits();
    for (Step& step : steps) step.cached = s.keep_prefix(step, shared[step.slot]);

    // Who needs one token more goes first: an answer does not wait for a prompt.
    int rows = 0, wanted = 0, guesses = s.config.draft;
    int ends[max_slots], next[max_slots];  // of each slot: what its cache will hold; where its tree will be
    s.fork_count = s.pick_count = s.pool_count = 0;
    for (const bool last_tokens : {true, false})
        for (Step& step : steps) {
            Cache& cache = s.layout.slots[step.slot];
            const int n = static_cast<int>(step.tokens.size()), first = step.cached;
            if ((n - first == 1 && step.tree == nullptr) != last_tokens) continue;
            const int count = std::min({n - first, s.config.batch - rows, step.max_tokens});
            const auto add = [&](int position, std::int32_t token) {
                cache.tokens[position] = token;
                s.rows[rows++] = {&cache, token, position, step.cancel};
            };
            for (int i = first; i < first + count; i++) add(i, step.tokens[static_cast<std::size_t>(i)]);
            step.cached = first + count;
            ends[step.slot] = step.cached;
            if (step.tree != nullptr) {
                next[step.slot] = step.tree->next;
                const int room = std::min(s.config.batch - rows, step.max_tokens - count);
                if (step.cached == n) {
                    const auto grown = s.grow(step, rows, count > 0 ? rows - 1 : -1, room);
                    ends[step.slot] = n + grown.held;
                    rows = grown.rows;
                    next[step.slot] = grown.next;
                }
                cache.written = std::max(cache.written, ends[step.slot]);
                continue;
            }
            if (step.pool != nullptr) {
                if (count > 0) s.pools[s.pool_count++] = {rows - count, rows, step.pool->sum};
                cache.written = std::max(cache.written, step.cached);
                continue;
            }
            if (step.cached == n && count > 0) {
                s.ready[step.slot] = {n - 1, wanted, 1, 1};
                s.wanted[wanted++] = {rows - 1, step.allowed};
                // What is allowed after a guess, nobody has said yet: all of its logits are computed.
                const int most = std::min(guesses, s.config.context - n);
                for (const std::int32_t token :
                     step.draft.first(std::min(step.draft.size(), static_cast<std::size_t>(most)))) {
                    if (rows == s.config.batch) break;
                    add(n + step.drafted++, token);
                    s.wanted[wanted++] = {rows - 1, nullptr};
                }
                s.ready[step.slot].count += step.drafted;
                guesses -= step.drafted;
            }
            ends[step.slot] = step.cached + step.drafted;
            cache.written = std::max(cache.written, ends[step.slot]);
        }
    if (rows == 0) return {};
    Pass pass = s.pass_over(rows, wanted);
    const auto done = run(pass);
    if (pass.stopped) s.forget_logits();
    for (Step& step : steps) {
        Cache& cache = s.layout.slots[step.slot];
        const bool whole = step.cached == static_cast<int>(step.tokens.size());
        if (pass.stopped) {
            step.cached = std::min(cache.count, static_cast<int>(step.tokens.size()));
            step.drafted = 0;
            step.cancelled = true;
            continue;
        }
        cache.count = ends[step.slot];
        if (step.tree != nullptr)
            step.tree->next = next[step.slot];
        else if (step.pool != nullptr)
            step.pool->tokens = step.cached;
        else if (whole)
            step.logits = s.logits(s.ready[step.slot].row);
    }
    return done;
}

Result<Engine::Progress> Engine::advance(int slot, std::span<const std::int32_t> tokens, int max_tokens,
                                         const std::atomic<bool>& cancel, std::span<const std::int32_t> draft,
                                         int adapter) {
    Step step{.slot = slot,
              .tokens = tokens,
              .max_tokens = max_tokens,
              .draft = draft,
              .cancel = &cancel,
              .adapter = adapter};
    const int n = static_cast<int>(tokens.size());
    do {
        TRY(advance({&step, 1}));
        if (step.cancelled) return Error::make(Code::aborted, "cancelled at token %d of %d", step.cached, n);
        step.max_tokens -= state_->config.batch;
    } while (step.cached < n && step.max_tokens > 0);
    return Progress{step.cached, n, step.logits, step.drafted, step.guessed};
}

Result<void> Engine::score(std::span<const std::int32_t> tokens, int batch,
                           void (*sink)(void*, int, std::span<const float>), void* context, int adapter) {
    State& s = *state_;
    const int n = static_cast<int>(tokens.size());
    if (n > s.config.context)
        return Error::make(Code::context_full, "%d tokens do not fit the context of %d", n, s.config.context);
    if (batch < 1 || batch > s.config.batch)
        return Error::make(Code::incorrect_parameters, "batch = %d: 1 to %d", batch, s.config.batch);
    TRY(check_tokens(tokens, 0, vocab()));
    TRY(s.check_adapter(adapter));
    s.forget_logits();
    s.fork_count = s.pick_count = s.pool_count = 0;
    Cache& cache = s.layout.slots[0];
    cache.count = 0;
    cache.adapter = adapter;
    cache.written = n;
    for (int first = 0; first < n; first += batch) {
        const int count = std::min(n - first, batch);
        for (int i = 0; i < count; i++)
            s.rows[i] = {&cache, tokens[static_cast<std::size_t>(first + i)], first + i, nullptr};
        Pass pass = s.pass_over(count, 0);
        TRY(run(pass));
        for (int t = 0, rows = logit_rows(s.config); t < count; t += rows) {
            const int wanted = std::min(count - t, rows);
            for (int i = 0; i < wanted; i++) s.wanted[i] = {t + i, nullptr};
            pass.wanted = {s.wanted, static_cast<std::size_t>(wanted)};
            run_logits(pass);
            for (int i = 0; i < wanted; i++) sink(context, first + t + i, s.logits(i));
        }
    }
    std::memcpy(cache.tokens, tokens.data(), tokens.size_bytes());
    cache.count = n;
    return {};
}

}  // namespace slmd::engine
