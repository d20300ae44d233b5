// What texts are to a model, as vectors of length 1: by an encoder, or by a model that writes, of whose hidden states
// the mean is taken.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "engine/encoder.h"
#include "engine/engine.h"
#include "task/generate.h"
#include "task/prompt.h"

namespace slmd::task {

struct EmbeddedText {
    std::string_view text;
    int tokens = 0;    // that were read
    bool cut = false;  // it has more of them
};

// Texts are read as they are: no chat template, and nothing in them is a special token. Of a text that is longer than
// the context its beginning counts, which is told.
class Embedding {
  public:
    static constexpr int max_texts = 64;

    // texts, vectors [texts, dim] and tokens stay the caller's. tokens: as many as the context of encoder or engine,
    // which bounds a text. Errors: incorrect_parameters for no text or too many.
    Result<void> open(const text::Tokenizer& tokenizer, std::span<EmbeddedText> texts, int dim,
                      std::span<float> vectors, std::span<std::int32_t> tokens, std::int64_t deadline_ns,
                      const Workspace& workspace);

    // The next pass of an encoder: as many texts as fit it. True when all are embedded, or when it was cancelled.
    // Errors: deadline, text_too_long.
    Result<bool> work(engine::Encoder& encoder, const std::atomic<bool>& cancel, std::int64_t now_ns);

    // With an engine, as Generation's: one text after the other.
    Result<bool> ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns,
                     engine::Engine::Step& step);
    bool take(const engine::Engine::Step& step);

    std::span<const float> vectors() const { return vectors_.first(texts_.size() * static_cast<std::size_t>(dim_)); }
    int done() const { return done_; }  // texts
    int read() const { return read_; }  // tokens of all texts so far
    Finish finish() const { return finish_; }

  private:
    Result<void> check_deadline(std::int64_t now_ns) const;

    const text::Tokenizer* tokenizer_ = nullptr;
    std::span<EmbeddedText> texts_;
    std::span<float> vectors_;
    std::span<std::int32_t> tokens_;
    std::span<std::byte> scratch_;
    std::int64_t deadline_ns_ = 0;
    engine::Pool pool_{};
    int dim_ = 0, done_ = 0, read_ = 0, before_ = 0;  // before_: of the texts that are done
    bool opened_ = false;                             // the next text is tokenized, for an engine
    Finish finish_ = Finish::none;
};

}  // namespace slmd::task
