#include "task/embed.h"

#include <algorithm>

namespace slmd::task {

Result<void> Embedding::open(const text::Tokenizer& tokenizer, std::span<EmbeddedText> texts, int dim,
                             std::span<float> vectors, std::span<std::int32_t> tokens, std::int64_t deadline_ns,
                             const Workspace& workspace) {
    *this = {};
    const std::size_t most = std::min<std::size_t>(max_texts, vectors.size() / static_cast<std::size_t>(dim));
    if (texts.empty() || texts.size() > most)
        return Error::make(Code::incorrect_parameters, "%zu texts: 1 to %zu at a time, of %d numbers each",
                           texts.size(), most, dim);
    tokenizer_ = &tokenizer;
    texts_ = texts;
    dim_ = dim;
    vectors_ = vectors;
    tokens_ = tokens;
    deadline_ns_ = deadline_ns;
    scratch_ = workspace.scratch;
    return {};
}

Result<void> Embedding::check_deadline(std::int64_t now_ns) const {
    if (deadline_ns_ == 0 || now_ns < deadline_ns_) return {};
    return Error::make(Code::deadline, "the deadline passed when %d of %zu texts were embedded", done_, texts_.size());
}

Result<bool> Embedding::work(engine::Encoder& encoder, const std::atomic<bool>& cancel, std::int64_t now_ns) {
    TRY(check_deadline(now_ns));
    engine::Encoder::Text pass[max_texts];
    const auto context = static_cast<std::size_t>(encoder.context());
    std::size_t n = 0, used = 0;
    for (auto i = static_cast<std::size_t>(done_); i < texts_.size() && context - used >= 2; i++) {
        const auto room = tokens_.subspan(used, context - used);
        const auto fitted = TRY(tokenizer_->encode_fitting(texts_[i].text, room, scratch_));
        if (fitted.cut && used > 0) break;  // alone, or with others, in the next pass
        texts_[i].tokens = static_cast<int>(fitted.tokens);
        texts_[i].cut = fitted.cut;
        pass[n++] = {room.first(fitted.tokens), vectors_.data() + i * static_cast<std::size_t>(dim_)};
        used += fitted.tokens;
    }
    const auto embedded = encoder.embed({pass, n}, cancel);
    if (!embedded && embedded.error().code == Code::aborted) return finish_ = Finish::cancelled, true;
    done_ += TRY(embedded);
    read_ += static_cast<int>(used);
    if (done_ < static_cast<int>(texts_.size())) return false;
    finish_ = Finish::stop;
    return true;
}

Result<bool> Embedding::ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns,
                            engine::Engine::Step& step) {
    if (finish_ != Finish::none) return false;
    TRY(check_deadline(now_ns));
    EmbeddedText& text = texts_[static_cast<std::size_t>(done_)];
    if (!opened_) {
        const auto fitted = TRY(tokenizer_->encode_fitting(text.text, tokens_, scratch_));
        if (fitted.tokens == 0)
            return Error::make(Code::incorrect_parameters, "text %d has no tokens: nothing can be said of it",
                               done_ + 1);
        text.tokens = static_cast<int>(fitted.tokens);
        text.cut = fitted.cut;
        pool_ = {vectors_.data() + done_ * dim_, 0};
        opened_ = true;
    }
    step = {.slot = slot,
            .tokens = tokens_.first(static_cast<std::size_t>(text.tokens)),
            .max_tokens = chunk,
            .cancel = &cancel,
            .pool = &pool_};
    return true;
}

bool Embedding::take(const engine::Engine::Step& step) {
    if (step.cancelled) return finish_ = Finish::cancelled, true;
    read_ = before_ + pool_.tokens;
    if (pool_.tokens < static_cast<int>(step.tokens.size())) return false;
    const float part = 1 / static_cast<float>(pool_.tokens);
    for (int i = 0; i < dim_; i++) pool_.sum[i] *= part;
    engine::to_unit_length(pool_.sum, dim_);
    before_ = read_;
    opened_ = false;
    if (++done_ < static_cast<int>(texts_.size())) return false;
    finish_ = Finish::stop;
    return true;
}

}  // namespace slmd::task
