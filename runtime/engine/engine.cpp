#include "engine/engine.h"

#include <sched.h>
#include <sys/mman.h>

#include <algorithm>
#include <cstring>
#include <new>

#include "base/memory.h"
#include "engine/forward.h"

namespace slmd::engine {
namespace {

constexpr int max_slots = 16, max_batch = 128, max_draft = 8;
constexpr int worth_copying = 16;  // tokens that another slot shares beyond what the own one does

int usable_cores() {
    cpu_set_t set;
    if (sched_getaffinity(0, sizeof set, &set) != 0) return 1;
    const int n = CPU_COUNT(&set);
    return n < 1 ? 1 : n > Team::max_size ? Team::max_size : n;
}

Result<Config> checked(const image::ModelParams& p, Config c) {
    TRY(check_params(p));
    if (c.threads == 0) c.threads = usable_cores();
    struct {
        const char* name;
        int value, low, high;
    } const limits[] = {{"context", c.context, 1, static_cast<int>(p.context)},
                        {"slots", c.slots, 1, max_slots},
                        {"threads", c.threads, 1, Team::max_size},
                        {"batch", c.batch, 1, max_batch},
                        {"draft", c.draft, 0, max_draft}};
    for (const auto& l : limits)
        if (l.value < l.low || l.value > l.high)
            return Error::make(Code::incorrect_parameters, "%s = %d: this model takes %d to %d", l.name, l.value, l.low,
                               l.high);
    if (c.draft >= c.batch) c.draft = c.batch - 1;
    return c;
}

struct Layout {
    Shapes shapes;
    Buffers buffers;
    Cache slots[max_slots];
};

void lay_out(Arena& arena, const image::ModelParams& p, const Config& c, Layout& l) {
    l.shapes = shapes_of(p);
    for (int i = 0; i < c.slots; i++) lay_out(arena, p, c.context, c.batch, l.slots[i]);
    lay_out(arena, l.shapes, c.batch, c.threads, c.draft + 1, l.buffers);
}

}  // namespace

struct Engine::State {
    Model model;
    Config config;
    const compute::Kernels* kernels;
    Layout layout;
    Team team;
    struct {
        int slot, first, count,
            next;  // rows of logits that are there: of tokens first .. of a slot; next: not yet given
    } ready{};
    void* memory = nullptr;
    std::size_t memory_bytes = 0;

    std::span<float> logits(int row) {
        return {
            layout.buffers.logits + static_cast<std::size_t>(row) * static_cast<std::size_t>(layout.shapes.vocab_rows),
            model.params.vocab};
    }

    Pass pass_over(Cache& cache, const std::int32_t* tokens, int first, int count, const std::atomic<bool>* cancel) {
        return {&model, kernels, &team,  layout.shapes, &layout.buffers, &cache, tokens, first, count,
                0,      0,       cancel, false};
    }
};

Result<Plan> plan(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image.params(), wanted));
    Plan plan;
    plan.add("image", image.sizes().raw);
    Layout layout{};
    Arena arena;
    lay_out(arena, image.params(), c, layout);
    plan.add("KV cache", arena.persistent_bytes());
    plan.add("activations", arena.scratch_bytes());
    plan.add("engine state", sizeof(Engine) + sizeof(Engine::State));
    return plan;
}

Result<Engine*> Engine::open(const image::Image& image, const Config& wanted) {
    const Config c = TRY(checked(image.params(), wanted));
    const compute::Kernels* kernels = c.level == nullptr ? compute::levels()[0] : compute::find_level(c.level);
    if (kernels == nullptr) {
        char names[128] = "";
        for (auto l = compute::levels(); *l != nullptr; l++) {
            std::strncat(names, " ", sizeof names - std::strlen(names) - 1);
            std::strncat(names, (*l)->name, sizeof names - std::strlen(names) - 1);
        }
        return Error::make(Code::incorrect_parameters, "level \"%s\" is not available on this CPU; these are:%s",
                           c.level, names);
    }
    struct Owner {
        Engine* engine;
        ~Owner() { delete engine; }
    } owner{new (std::nothrow) Engine};
    if (owner.engine == nullptr || (owner.engine->state_ = new (std::nothrow) State) == nullptr)
        return Error::make(Code::memory_full, "no memory for the engine's state");
    State& s = *owner.engine->state_;
    TRY(bind(image, s.model));
    s.config = c;
    s.kernels = kernels;

    Arena counting;
    lay_out(counting, image.params(), c, s.layout);
    s.memory_bytes = counting.used();
    if (const std::uint64_t available = available_memory(); s.memory_bytes > available) {
        Config smaller = c;
        while (smaller.context > 64) {
            smaller.context = smaller.context * 3 / 4;
            Arena trial;
            Layout layout{};
            lay_out(trial, image.params(), smaller, layout);
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
    lay_out(real, image.params(), c, s.layout);
    if (real.overflow()) return Error::make(Code::unknown, "the plan is smaller than what is used");
    TRY(s.team.start(c.threads));
    return std::exchange(owner.engine, nullptr);
}

Engine::~Engine() {
    if (state_ == nullptr) return;
    void* memory = state_->memory;
    const std::size_t bytes = state_->memory_bytes;
    delete state_;  // ends the team first
    if (memory != nullptr) munmap(memory, bytes);
}

int Engine::vocab() const { return static_cast<int>(state_->model.params.vocab); }
int Engine::context() const { return state_->config.context; }
int Engine::slots() const { return state_->config.slots; }
int Engine::threads() const { return state_->config.threads; }
int Engine::batch() const { return state_->config.batch; }
const char* Engine::level() const { return state_->kernels->name; }
std::uint64_t Engine::arena_bytes() const { return state_->memory_bytes; }

std::span<const std::int32_t> Engine::cached(int slot) const {
    const Cache& c = state_->layout.slots[slot];
    return {c.tokens, static_cast<std::size_t>(c.count)};
}
void Engine::forget(int slot) {
    state_->layout.slots[slot].count = state_->layout.slots[slot].written = 0;
    state_->ready = {};
}

namespace {

int shared_prefix(const Cache& c, std::span<const std::int32_t> tokens) {
    const auto end = tokens.begin() + std::min(c.count, static_cast<int>(tokens.size()));
    return static_cast<int>(std::mismatch(tokens.begin(), end, c.tokens).first - tokens.begin());
}

Result<void> check_tokens(std::span<const std::int32_t> tokens, int from, int vocab) {
    for (std::size_t i = static_cast<std::size_t>(from); i < tokens.size(); i++)
        if (tokens[i] < 0 || tokens[i] >= vocab)
            return Error::make(Code::incorrect_parameters, "token %d at position %zu is outside the vocabulary of %d",
                               tokens[i], i, vocab);
    return {};
}

}  // namespace

Result<Engine::Progress> Engine::advance(int slot, std::span<const std::int32_t> tokens, int max_tokens,
                                         const std::atomic<bool>& cancel, std::span<const std::int32_t> draft) {
    State& s = *state_;
    const int n = static_cast<int>(tokens.size());
    if (slot < 0 || slot >= s.config.slots)
        return Error::make(Code::invalid_index, "slot %d: there are %d", slot, s.config.slots);
    if (n > s.config.context)
        return Error::make(Code::context_full, "%d tokens do not fit the context of %d", n, s.config.context);
    if (n == 0 || max_tokens < 1)
        return Error::make(Code::incorrect_parameters, "nothing to compute: %d tokens, at most %d at a time", n,
                           max_tokens);
    Cache& cache = s.layout.slots[slot];
    int shared = shared_prefix(cache, tokens);
    TRY(check_tokens(tokens, shared, vocab()));
    // Given once only: the sampler may have changed it.
    if (auto& r = s.ready; shared == n && r.slot == slot && r.next < r.count && n - 1 == r.first + r.next)
        return Progress{n, n, s.logits(r.next++), 0, true};
    s.ready = {};
    if (shared == n) shared = n - 1;  // logits of the last token are not kept
    shared = cache.keepable(shared);
    for (int other = 0; other < s.config.slots; other++) {
        const Cache& from = s.layout.slots[other];
        const int theirs = from.keepable(std::min(shared_prefix(from, tokens), n - 1));
        if (other == slot || theirs < shared + worth_copying) continue;
        copy(from, theirs, s.model.params, cache);
        shared = theirs;
    }
    cache.count = shared;
    if (shared == 0) cache.written = 0;
    Progress progress{shared, n, {}, 0, false};
    for (int left = max_tokens; cache.count < n && left > 0;) {
        const int first = cache.count, count = std::min({n - first, s.config.batch, left});
        const bool last = first + count == n;
        const int guesses = !last ? 0
                                  : std::min({s.config.draft, static_cast<int>(draft.size()), s.config.batch - count,
                                              s.config.context - n});
        std::memcpy(cache.tokens + first, tokens.data() + first,
                    static_cast<std::size_t>(count) * sizeof(std::int32_t));
        for (int i = 0; i < guesses; i++) {
            TRY(check_tokens(draft.subspan(static_cast<std::size_t>(i), 1), 0, vocab()));
            cache.tokens[n + i] = draft[static_cast<std::size_t>(i)];
        }
        Pass pass = s.pass_over(cache, cache.tokens + first, first, count + guesses, &cancel);
        if (last) {
            pass.logits_first = count - 1;
            pass.logits_count = 1 + guesses;
        }
        cache.written = std::max(cache.written, first + count + guesses);
        run(pass);
        if (pass.stopped) return Error::make(Code::aborted, "cancelled at token %d of %d", first, n);
        cache.count = first + count + guesses;
        left -= count;
        if (!last) continue;
        s.ready = {slot, n - 1, 1 + guesses, 1};
        progress.logits = s.logits(0);
        progress.drafted = guesses;
    }
    progress.cached = std::min(cache.count, n);
    return progress;
}

Result<void> Engine::score(std::span<const std::int32_t> tokens, int batch,
                           void (*sink)(void*, int, std::span<const float>), void* context) {
    State& s = *state_;
    const int n = static_cast<int>(tokens.size());
    if (n > s.config.context)
        return Error::make(Code::context_full, "%d tokens do not fit the context of %d", n, s.config.context);
    if (batch < 1 || batch > s.config.batch)
        return Error::make(Code::incorrect_parameters, "batch = %d: 1 to %d", batch, s.config.batch);
    TRY(check_tokens(tokens, 0, vocab()));
    s.ready = {};
    Cache& cache = s.layout.slots[0];
    cache.count = 0;
    cache.written = n;
    for (int first = 0; first < n; first += batch) {
        const int count = n - first < batch ? n - first : batch;
        Pass pass = s.pass_over(cache, tokens.data() + first, first, count, nullptr);
        run(pass);
        for (int t = 0; t < count; t += pass.logits_count) {
            pass.logits_first = t;
            pass.logits_count = std::min(count - t, s.config.draft + 1);
            run_logits(pass);
            for (int i = 0; i < pass.logits_count; i++) sink(context, first + t + i, s.logits(i));
        }
    }
    std::memcpy(cache.tokens, tokens.data(), tokens.size_bytes());
    cache.count = n;
    return {};
}

}  // namespace slmd::engine
