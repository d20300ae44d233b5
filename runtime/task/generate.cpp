#include "task/generate.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace slmd::task {
const char* finish_name(Finish finish) {
    switch (finish) {
        case Finish::none: return "";
        case Finish::stop: return "stop";
        case Finish::length: return "length";
        case Finish::deadline: return "deadline";
        case Finish::cancelled: return "cancelled";
    }
    return "";
}

Result<void> Generation::open(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                              std::span<const text::Message> messages, const GenerateOptions& options,
                              std::span<std::int32_t> tokens, const Workspace& workspace) {
    *this = {};
    if (options.stop.size() > max_stops || options.sampler.bias.size() > max_bias)
        return Error::make(Code::incorrect_parameters, "at most %d stop texts and %d biases", max_stops, max_bias);
    tokenizer_ = &tokenizer;
    tokens_ = tokens;
    max_ = options.max_tokens;
    deadline_ns_ = options.deadline_ns;
    for (const std::string_view s : options.stop) {
        if (s.empty() || s.size() > stop_bytes)
            return Error::make(Code::text_too_long, "a stop text has 1 to %zu bytes", stop_bytes);
        std::memcpy(stop_[stops_].text, s.data(), s.size());
        stop_[stops_++].size = s.size();
    }
    engine::SamplerParams params = options.sampler;
    std::copy(params.bias.begin(), params.bias.end(), bias_);
    for (const engine::Bias& b : params.bias)
        if (b.token < 0 || b.token >= tokenizer.vocab())
            return Error::make(Code::incorrect_parameters, "bias: token %d is outside the vocabulary of %d", b.token,
                               tokenizer.vocab());
    params.bias = {bias_, params.bias.size()};
    sampler_.reset(params);

    const Prompt prompt = TRY(encode_prompt(tokenizer, chat, messages, options.raw, tokens, workspace));
    strip_space_ = prompt.rendered && tokenizer.strip_first_space();
    count_ = prompt_ = prompt.tokens;
    return {};
}

Result<bool> Generation::ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns,
                             engine::Engine* drafter, engine::Engine::Step& step, TextSink& sink) {
    if (finish_ != Finish::none) return false;
    if (deadline_ns_ != 0 && now_ns >= deadline_ns_) {
        if (drawn_ == 0)
            return Error::make(Code::deadline,
                               "the deadline passed before the first token (%d of %d prompt tokens read)", cached_,
                               prompt_);
        end(Finish::deadline, sink);
        return false;
    }
    int guesses = 0;
    if (guess_end_ < count_) {  // else the engine has what comes next
        if (cached_ == prompt_) guesses = look_up();
        guesser_ = &lookup_;
        if (drafter != nullptr && guesses == 0) {
            guesses = TRY(draft(*drafter, slot, chunk, cancel));
            guesser_ = &drafter_;
        }
    }
    step = {.slot = slot,
            .tokens = tokens(),
            .max_tokens = chunk,
            .draft = tokens_.subspan(static_cast<std::size_t>(count_), static_cast<std::size_t>(guesses)),
            .cancel = &cancel};
    return true;
}

Result<bool> Generation::take(const engine::Engine::Step& step, TextSink& sink) {
    if (step.cancelled) {
        end(Finish::cancelled, sink);
        return true;
    }
    cached_ = std::min(step.cached, prompt_);
    if (step.cached < count_) return false;
    if (!step.guessed) guess_end_ = count_ + step.drafted;
    if (step.drafted > 0) guesser_->made += step.drafted;

    const std::int32_t token = sampler_.sample(step.logits, tokens());
    probability_ += static_cast<double>(sampler_.probability());
    drawn_++;
    if (tokenizer_->is_end(token)) {
        end(Finish::stop, sink);
        return true;
    }
    if (count_ < guess_end_ && tokens_[static_cast<std::size_t>(count_)] == token) {
        guesser_->right++;
        guessed_++;
    } else {
        guess_end_ = 0;
    }
    answer_++;
    tokens_[static_cast<std::size_t>(count_++)] = token;
    const std::string_view piece = tokenizer_->piece(token);
    if (piece.size() > held_bytes - 64)
        return Error::make(Code::model_format, "token %d is %zu bytes long", token, piece.size());
    if (accept(piece, sink)) return true;
    if (answer_ >= max_ || static_cast<std::size_t>(count_) >= tokens_.size()) {
        end(Finish::length, sink);
        return true;
    }
    return false;
}

// Prompt lookup (Saxena 2023): what followed the last time that the last few tokens stood in the text. Answers that
// quote, extract or repeat are guessed well. Puts the guesses behind the tokens, returns how many.
int Generation::look_up() {
    constexpr int suffix = 3, longest = 8;
    if (count_ <= suffix || lookup_.fails()) return 0;
    std::int32_t* const end = tokens_.data() + count_;
    for (const std::int32_t* at = end - 1; at >= tokens_.data() + suffix; at--)
        if (std::equal(end - suffix, end, at - suffix)) {
            const auto n =
                std::min({end - at, std::ptrdiff_t{longest}, static_cast<std::ptrdiff_t>(tokens_.size()) - count_});
            std::copy(at, at + n, end);
            return static_cast<int>(n);
        }
    return 0;
}

// What a smaller model would say, drawn with the random numbers that the answer will be drawn with: where the two
// models agree roughly, they then mostly agree exactly. It reads the prompt beside the model, a chunk at a time.
Result<int> Generation::draft(engine::Engine& drafter, int slot, int chunk, const std::atomic<bool>& cancel) {
    constexpr int longest = 3;
    if (drafter_.fails()) return 0;
    engine::Sampler sampler = sampler_;
    const int most = std::min(longest, static_cast<int>(tokens_.size()) - count_);
    int n = 0;
    for (; n < most; n++) {
        const auto so_far = tokens_.first(static_cast<std::size_t>(count_ + n));
        const auto progress = drafter.advance(slot, so_far, chunk, cancel);
        if (!progress && progress.error().code != Code::aborted) return progress.error();
        if (!progress || progress.value().cached < count_ + n || cached_ < prompt_) break;
        const std::int32_t token = sampler.sample(progress.value().logits, so_far);
        if (token >= tokenizer_->vocab() || tokenizer_->is_end(token)) break;
        tokens_[static_cast<std::size_t>(count_ + n)] = token;
    }
    return n;
}

// Adds a piece to what is held back and lets go what cannot become a stop text any more. True when a stop text is
// complete.
bool Generation::accept(std::string_view piece, TextSink& sink) {
    if (strip_space_ && !piece.empty()) {
        strip_space_ = false;
        if (piece.front() == ' ') piece.remove_prefix(1);
    }
    std::memcpy(held_ + held_size_, piece.data(), piece.size());
    held_size_ += piece.size();
    const std::string_view held{held_, held_size_};
    std::size_t first = std::string_view::npos;
    for (int i = 0; i < stops_; i++) first = std::min(first, held.find({stop_[i].text, stop_[i].size}));
    if (first != std::string_view::npos) {
        held_size_ = first;
        end(Finish::stop, sink);
        return true;
    }
    std::size_t keep = 0;  // the longest end of the text that a stop text begins with
    for (int i = 0; i < stops_; i++)
        for (std::size_t n = std::min(stop_[i].size - 1, held.size()); n > keep; n--)
            if (held.ends_with(std::string_view{stop_[i].text, n})) keep = n;
    flush(held_size_ - keep, false, sink);
    return false;
}

// Lets go the first `bytes`: malformed bytes become U+FFFD; a sequence that is not complete yet stays, unless all is
// set.
void Generation::flush(std::size_t bytes, bool all, TextSink& sink) {
    std::size_t at = 0, from = 0;
    const auto send = [&](std::size_t to) {
        if (to > from) sink.append({held_ + from, to - from});
    };
    while (at < bytes) {
        // what follows `bytes` is held back as text, but tells whether a sequence is complete
        const int n = utf8_length({held_ + at, held_size_ - at});
        if (n > 0 && at + static_cast<std::size_t>(n) <= bytes) {
            at += static_cast<std::size_t>(n);
            continue;
        }
        if (n != 0 && !all) break;
        send(at);
        sink.append("\xEF\xBF\xBD");
        from = at = n < 0 ? bytes : at + 1;
    }
    send(at);
    std::memmove(held_, held_ + at, held_size_ - at);
    held_size_ -= at;
}

void Generation::end(Finish finish, TextSink& sink) {
    if (finish_ != Finish::none) return;
    finish_ = finish;
    flush(held_size_, true, sink);
}

}  // namespace slmd::task
