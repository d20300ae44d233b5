// An encoder (BERT, arXiv 1810.04805): texts as tokens in, their embeddings out. Plans before it loads; allocates
// nothing after open().
#pragma once
#include <atomic>
#include <cstdint>
#include <span>

#include "engine/engine.h"

namespace slmd::engine {

// Errors: incorrect_parameters (with the range), model_format. Of Config context, threads, with and residency count.
Result<Plan> plan_encoder(const image::Image& image, const Config& config);

class Encoder {
  public:
    static constexpr std::uint32_t max_dim = 4096;
    // The image must outlive the encoder, and so must config.with. Errors: as plan_encoder(), and model_memory.
    static Result<Encoder*> open(const image::Image& image, const Config& config);
    ~Encoder();
    Encoder(const Encoder&) = delete;
    Encoder& operator=(const Encoder&) = delete;

    int vocab() const;
    int dim() const;
    int context() const;  // tokens of a text, and of all texts of a pass
    int threads() const;
    void work_with(int threads);  // 1 .. threads()
    const char* level() const;
    std::uint64_t arena_bytes() const;

    struct Text {
        std::span<const std::int32_t> tokens;  // 1 .. context
        float* embedding;                      // [dim], of length 1
    };
    // One pass over as many of the texts, from the first on, as fit one together; returns how many. Each embedding has
    // the same bits whatever stands beside it. Errors: context_full, incorrect_parameters (a token outside the
    // vocabulary, no text), nothing is computed then; aborted.
    Result<int> embed(std::span<const Text> texts, const std::atomic<bool>& cancel);

  private:
    friend Result<Plan> plan_encoder(const image::Image&, const Config&);
    Encoder() = default;
    struct State;
    State* state_ = nullptr;
};

// v, of n values, becomes v / |v|: 0 stays. Sixteen lanes, as every sum. n: a multiple of 16.
void to_unit_length(float* v, int n);

}  // namespace slmd::engine
