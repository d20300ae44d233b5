// The engine: one model, a fixed number of KV-cache slots, a team of threads. Plans before it loads; allocates nothing
// after open().
#pragma once
#include <atomic>
#include <cstdint>
#include <span>

#include "base/arena.h"
#include "base/result.h"
#include "image/image.h"

namespace slmd::engine {

struct Config {
    int context = 2048;           // tokens a slot can hold
    int slots = 1;                // KV caches: sequences that decode without being prefilled again
    int threads = 0;              // 0: one a core of the fastest cluster
    int batch = 32;               // prompt tokens a pass, 1..128
    int draft = 3;                // guessed tokens that a pass may check beside the real one, 0..8; logits for each
    const char* level = nullptr;  // "scalar", "neon", "dotprod", "avx2", "avx512"; null: the best that the CPU has
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

// Errors: incorrect_parameters (with the range), model_format (a family or shape that this engine does not run).
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
    int context() const;
    int slots() const;
    int threads() const;
    int batch() const;
    const char* level() const;
    std::uint64_t arena_bytes() const;

    // Tokens of slot that are in its cache.
    std::span<const std::int32_t> cached(int slot) const;
    void forget(int slot);

    struct Progress {
        int cached, total;        // cached == total: done, logits valid
        std::span<float> logits;  // [vocab] after the last token; valid until the next call; the sampler may change it
        int drafted;              // guesses that this call computed
        bool guessed;             // the logits were there: the last token was guessed by an earlier call
    };
    // Moves slot towards holding exactly `tokens` (1..context of them): keeps the longest prefix that it shares with
    // them, or copies a longer one from another slot, and computes at most max_tokens of the rest. Call again until
    // cached == total: so that a long prompt does not hold up other slots. At least the last token is always computed
    // anew, unless it was guessed. draft: tokens that may follow; the pass that ends `tokens` computes as many as
    // Config::draft allows with it, and if the caller's next tokens are those, their logits are there: the same bits,
    // in fewer passes. cancel is looked at between layers. Errors: aborted (the slot keeps what was complete),
    // context_full, invalid_index, incorrect_parameters (a token outside the vocabulary).
    Result<Progress> advance(int slot, std::span<const std::int32_t> tokens, int max_tokens,
                             const std::atomic<bool>& cancel, std::span<const std::int32_t> draft = {});

    // Logits of every position, for evaluation: sink is called once a position, in order. batch: tokens a pass.
    Result<void> score(std::span<const std::int32_t> tokens, int batch,
                       void (*sink)(void* context, int position, std::span<const float> logits), void* context);

  private:
    friend Result<Plan> plan(const image::Image&, const Config&);
    Engine() = default;
    struct State;
    State* state_ = nullptr;
};

}  // namespace slmd::engine
