// The engine: one model, a fixed number of KV-cache slots, a team of threads. Plans before it loads; allocates nothing
// after open().
#pragma once
#include <atomic>
#include <cstdint>
#include <span>

#include "base/arena.h"
#include "base/result.h"
#include "base/team.h"
#include "engine/tree.h"
#include "image/image.h"

namespace slmd::engine {

class Engine;
class Encoder;

constexpr int max_slots = 16;
constexpr int max_batch = 128;
constexpr int max_adapters = 16;
constexpr int no_adapter = -1;

struct Config {
    int context = 2048;      // tokens a slot can hold
    int slots = 1;           // KV caches: sequences that decode without being prefilled again
    int threads = 0;         // 0: one a core of the fastest cluster
    int decode_threads = 0;  // of them that work on a pass over few tokens, which memory limits; 0: all
    bool pinned = false;     // all of them, the one that calls open() too, stay on the fastest cluster
    int batch = 32;          // tokens a pass, 1..128
    int draft = 3;           // guessed tokens that a pass may check beside the real one, 0..8; logits for each
    Engine* with = nullptr;  // another engine, used by the same thread, whose threads work for this one as well
    // "scalar", "neon", "dotprod", "i8mm", "avx2", "avx512"; null: the best that the CPU has
    const char* level = nullptr;
    image::Residency residency = image::Residency::whole;  // for plan(): how the image will be opened
    std::uint64_t experts = 0;                             // for plan(): OpenOptions::experts
    // Images of adapters for this model, at most max_adapters, opened whole; they must outlive the engine. A step names
    // one by its place here.
    std::span<const image::Image* const> adapters{};
    // Counts the layers that are computed: a pass over a long prompt may take longer than a watchdog waits. null: none.
    std::atomic<std::uint64_t>* progress = nullptr;
};

// The sum of a sequence's hidden states, as they are behind the last norm.
struct Pool {
    float* sum;      // [dim]
    int tokens = 0;  // that are in it
};

// Every byte that the engine will use, by purpose.
struct Plan {
    struct Item {
        const char* name;
        std::uint64_t bytes;
    };
    Item items[16];
    int count = 0;
    void add(const char* name, std::uint64_t bytes) { items[count++] = {name, bytes}; }
    std::uint64_t total() const {
        std::uint64_t t = 0;
        for (int i = 0; i < count; i++) t += items[i].bytes;
        return t;
    }
};

// Of the images their indexes are enough. Errors: incorrect_parameters (with the range; an adapter that does not fit),
// model_format (a family or shape that this engine does not run).
Result<Plan> plan(const image::Image& image, const Config& config);

class Engine {
  public:
    // The image must outlive the engine. Errors: as plan(), and model_memory with need and available in MiB and the
    // nearest context that fits.
    static Result<Engine*> open(const image::Image& image, const Config& config);
    ~Engine();
    Engine(const Engine&) = delete;
    Engine& operator=(const Engine&) = delete;

    int vocab() const;
    int dim() const;
    int context() const;
    int slots() const;
    int threads() const;  // that there are
    // How many of them work on passes over many tokens, and on those over few. Each 1 .. threads().
    void work_with(int prefill, int decode);
    int prefill_threads() const;
    int decode_threads() const;
    int batch() const;
    const char* level() const;
    std::uint64_t arena_bytes() const;

    // Tokens of slot that are in its cache, computed under that adapter.
    std::span<const std::int32_t> cached(int slot, int adapter = no_adapter) const;
    void forget(int slot);

    // K and V of the first `count` positions of a slot, a multiple of kv_block, as they lie in memory, in an order that
    // the model alone decides: to be kept elsewhere and brought back. can_hold(): nothing of them was overwritten by
    // later ones in the ring of a sliding layer. hold(): the slot then holds these tokens, whose pieces were filled.
    int pieces() const;
    std::span<std::byte> piece(int slot, int index, int count) const;
    bool can_hold(int slot, int count) const;
    void hold(int slot, std::span<const std::int32_t> tokens, int adapter = no_adapter);

    // What one sequence wants: that its slot holds exactly `tokens`.
    struct Step {
        int slot;
        std::span<const std::int32_t> tokens;    // 1 .. context of them
        int max_tokens = 1 << 30;                // of them to compute in this pass
        std::span<const std::int32_t> draft{};   // that may follow
        // [vocab] bits: behind `tokens` the logits of others are -infinity, and not computed; behind guesses all are.
        const std::uint64_t* allowed = nullptr;
        const std::atomic<bool>* cancel = nullptr;  // null: never
        // What may follow, instead of a draft: the passes that hold all of `tokens` compute its logits, and `logits`
        // stay empty. Done when tree->done(). The tokens and the tree's depth must fit the context together.
        Tree* tree = nullptr;
        int adapter = no_adapter;  // what a slot holds under another one is of no use
        // Where what the model makes of the tokens is added up, instead of logits; none of them is taken from a cache.
        // The step is done when all of `tokens` are cached.
        Pool* pool = nullptr;

        // Filled by advance().
        int cached = 0;             // of tokens; all: done, and logits are there
        std::span<float> logits{};  // [vocab] after the last token; until the next call; the sampler may change it
        int drafted = 0;            // guesses that this pass computed
        bool guessed = false;       // the logits were there: the last token was guessed by an earlier pass
        bool cancelled = false;     // the slot keeps what was complete
    };
    // One pass for all of them: of each slot it keeps the longest prefix that it shares with the tokens, or copies a
    // longer one from another slot, and computes as much of the rest as fits the batch: last tokens first, then prompts
    // in the order given. At least the last token is always computed anew, unless it was guessed. The pass that ends
    // `tokens` computes as many tokens of the draft as Config::draft allows with it, and if the caller's next tokens
    // are those, their logits are there: the same bits, in fewer passes. (While such logits wait for one step, the
    // others wait as well.) Of a tree it computes as much as fits the batch behind the tokens. The tree's logits have
    // the bits that they have in the plain sequences to which they belong, whatever the passes. cancel is looked at
    // between layers; a pass that serves others too goes on. Errors: context_full, invalid_index (a slot that is not
    // there, or twice; an adapter that is not there), incorrect_parameters (a token outside the vocabulary, a tree that
    // is too large or too deep), nothing is computed then; model_integrity and storage_failure, where a part of the
    // image is read while it runs, naming it: the slots keep what was complete.
    Result<void> advance(std::span<Step> steps);

    struct Progress {
        int cached, total;        // cached == total: done, logits valid
        std::span<float> logits;  // as Step::logits
        int drafted;
        bool guessed;
    };
    // The same for one sequence, in as many passes as max_tokens need. Errors: also aborted.
    Result<Progress> advance(int slot, std::span<const std::int32_t> tokens, int max_tokens,
                             const std::atomic<bool>& cancel, std::span<const std::int32_t> draft = {},
                             int adapter = no_adapter);

    // Logits of every position, for evaluation: sink is called once a position, in order. batch: tokens a pass.
    Result<void> score(std::span<const std::int32_t> tokens, int batch,
                       void (*sink)(void* context, int position, std::span<const float> logits), void* context,
                       int adapter = no_adapter);

  private:
    friend Result<Plan> plan(const image::Image&, const Config&);
    friend Encoder;  // works with this one's threads
    Engine() = default;
    Team& team();
    struct State;
    State* state_ = nullptr;
};

}  // namespace slmd::engine
