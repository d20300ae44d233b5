// One answer as an object that can be stopped after every token: prompt to tokens, tokens to text, stop strings,
// limits.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/features.h"
#include "base/result.h"
#include "engine/engine.h"
#include "engine/sampler.h"
#include "task/constraint.h"
#include "task/prompt.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace slmd::task {

enum class Finish : unsigned char { none, stop, length, deadline, cancelled };
const char* finish_name(Finish finish);  // "stop", "length", "deadline", "cancelled"

// Where the text goes. append() gets whole, well-formed UTF-8 and must take it.
class TextSink {
  public:
    virtual void append(std::string_view text) = 0;

  protected:
    ~TextSink() = default;
};

struct GenerateOptions {
    engine::SamplerParams sampler;
    int max_tokens = 256;
    std::size_t max_bytes = 0;  // of text, 0: any; not with a constraint
    bool raw = false;           // the last message as it is, no chat template
    std::span<const std::string_view> stop;
    std::int64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
    Constraint* constraint =
        nullptr;  // opened; the answer obeys it, whole or cut short. No stop texts then. null: none
};

class Generation {
  public:
    static constexpr int max_stops = 4, max_bias = 8;
    static constexpr std::size_t stop_bytes = 32, held_bytes = 1024;
    static constexpr std::size_t forced_bytes = 1024, close_bytes = 4096;
    // Of text that one take() appends, at most; and what more where there is a constraint.
    static constexpr std::size_t append_bytes = 3 * held_bytes, bound_bytes = forced_bytes + close_bytes;

    // Tokenizes the prompt. tokens: as many as the engine's context; prompt and answer live there. Copies the options'
    // texts. Errors: context_full with the numbers, text_too_long, incorrect_parameters.
    Result<void> open(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                      std::span<const text::Message> messages, const GenerateOptions& options,
                      std::span<std::int32_t> tokens, const Workspace& workspace);

    // What it wants of the engine's next pass, at most `chunk` prompt tokens of it. The slot may have been used by
    // others in between: what is missing is computed again. drafter: an engine with a smaller model of the same
    // tokenizer and at least as many slots, which guesses what follows (Leviathan et al., arXiv 2211.17192), or null.
    // False when the answer is complete and the engine is not needed. Errors: deadline when it passes before the first
    // token, and the drafter's.
    Result<bool> ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns, engine::Engine* drafter,
                     engine::Engine::Step& step, TextSink& sink);
    // Takes what the pass gave: nothing yet, or one token of the answer. Returns true when the answer is complete.
    // Errors: model_format.
    Result<bool> take(const engine::Engine::Step& step, TextSink& sink);
    // Ends it here: what is held back is text after all, and what a constraint still demands is said as shortly as can
    // be.
    void end(Finish finish, TextSink& sink);

    std::span<const std::int32_t> tokens() const { return tokens_.first(static_cast<std::size_t>(count_)); }
    int prompt_tokens() const { return prompt_; }
    int answer_tokens() const { return answer_; }    // without the end token
    int cached() const { return cached_; }           // of the prompt
    int guessed_tokens() const { return guessed_; }  // of the answer, computed together with the token before
    Finish finish() const { return finish_; }
    float probability() const { return drawn_ == 0 ? 0 : static_cast<float>(probability_ / drawn_); }  // mean
    Features features() const;  // of the tokens drawn so far, the end among them
    std::int64_t deadline_ns() const { return deadline_ns_; }

  private:
    // Where guesses come from, and whether they are worth making: where they fail, no more are made.
    struct Guesser {
        int made, right;
        bool fails() const { return made > 32 + 3 * right; }
    };
    int guess();
    int look_up();
    Result<int> draft(engine::Engine& drafter, int slot, int chunk, const std::atomic<bool>& cancel);
    Result<bool> force(TextSink& sink);
    bool fits(int more);
    void close(TextSink& sink);
    bool accept(std::string_view piece, TextSink& sink);
    void flush(std::size_t bytes, bool all, TextSink& sink);

    const text::Tokenizer* tokenizer_ = nullptr;
    std::span<std::int32_t> tokens_;
    int count_ = 0, prompt_ = 0, answer_ = 0, cached_ = 0, max_ = 0, drawn_ = 0, stops_ = 0;
    int guessed_ = 0;    // tokens of the answer that were guessed
    int guess_end_ = 0;  // tokens_[count_ .. guess_end_) were guessed and the engine has their logits; 0: none
    int value_ = 0;      // where the tokens begin that came after what was forced last
    std::int32_t likely_ = -1;  // the last token of what is forced, which the model draws; -1: none
    Guesser forced_{}, lookup_{}, drafter_{};
    Guesser* guesser_ = nullptr;  // of those
    Finish finish_ = Finish::none;
    bool strip_space_ = false;
    Constraint* constraint_ = nullptr;
    bool begun_ = false;            // what the constraint forces at the beginning has been said
    std::span<std::byte> scratch_;  // of the workspace
    double probability_ = 0, log_probability_ = 0, margin_ = 0, entropy_ = 0;  // sums over the drawn tokens
    float least_probability_ = 1;
    std::int64_t deadline_ns_ = 0;
    engine::Sampler sampler_;
    engine::Bias bias_[max_bias];
    struct {
        char text[stop_bytes];
        std::size_t size;
    } stop_[max_stops];
    char held_[held_bytes];
    std::size_t held_size_ = 0, left_ = 0;  // left_: bytes of text that may still come
};

}  // namespace slmd::task
