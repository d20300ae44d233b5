#include "task/generate.h"

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/utf8.h"
#include "engine/exp.h"

namespace slmd::task {
namespace {

void rule_out(std::span<const std::uint64_t> allowed, std::span<float> logits) {
    for (std::size_t t = 0; t < logits.size(); t++)
        if ((allowed[t / 64] >> t % 64 & 1) == 0) logits[t] = -std::numeric_limits<float>::infinity();
}

}  // namespace

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
    if (options.constraint != nullptr && !options.stop.empty())
        return Error::make(Code::incorrect_parameters, "an answer under a schema ends by itself: leave out \"stop\"");
    tokenizer_ = &tokenizer;
    constraint_ = options.constraint;
    if (constraint_ != nullptr) constraint_->matcher().refuse_controls();
    scratch_ = workspace.scratch;
    tokens_ = tokens;
    max_ = options.max_tokens;
    left_ = options.max_bytes == 0 ? SIZE_MAX : options.max_bytes;
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
    count_ = prompt_ = value_ = prompt.tokens;
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
    if (constraint_ != nullptr && !begun_) {
        begun_ = true;
        if (!fits(0))
            return Error::make(Code::incorrect_parameters,
                               "the shortest answer that the schema allows is longer than the %d tokens of the limit",
                               std::min(max_, static_cast<int>(tokens_.size()) - count_));
        if (TRY(force(sink))) return false;
    }
    int guesses = 0;
    if (guess_end_ < count_) {  // else the engine has what comes next
        guesses = guess();
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
    // Where little may follow, little is computed.
    if (constraint_ != nullptr && guess_end_ < count_ && (cached_ == prompt_ || cached_ + chunk >= count_ - 1))
        if (const auto few = constraint_->few(*tokenizer_); !few.empty()) step.allowed = few.data();
    return true;
}

// What a text may grow by before it is looked at again.
constexpr std::size_t close_slack = Generation::forced_bytes + grammar::Vocabulary::max_piece;

// The constraint can still be met in time when `more` tokens are added.
bool Generation::fits(int more) {
    const int left = std::min(max_ - answer_, static_cast<int>(tokens_.size()) - count_) - more;
    grammar::Matcher& matcher = constraint_->matcher();
    const std::uint32_t bytes = matcher.close_bytes();
    if (matcher.text().size() + bytes + close_slack > grammar::Matcher::max_text) return false;
    if (bytes <= static_cast<std::uint32_t>(std::max(left, 0))) return true;  // a token is a byte or more
    char text[close_bytes];
    const std::size_t n = matcher.close(text);
    if (n > sizeof text || left < 0) return false;
    return static_cast<bool>(tokenizer_->encode(
        {text, n}, {}, false, tokens_.subspan(static_cast<std::size_t>(count_), static_cast<std::size_t>(left)),
        scratch_));
}

// What can only come next is said without asking the model. True when the answer is complete.
Result<bool> Generation::force(TextSink& sink) {
    grammar::Matcher& matcher = constraint_->matcher();
    char text[forced_bytes];
    const std::size_t n = matcher.forced(text);
    if (n > 0) {
        const auto rest = tokens_.subspan(static_cast<std::size_t>(count_));
        const auto tokens = tokenizer_->encode({text, n}, {}, false, rest, scratch_);
        std::size_t taken = 0, count = tokens ? tokens.value() : 0;
        while (tokens && taken < n && matcher.push(text[taken])) taken++;
        if (!tokens || taken < n || !fits(static_cast<int>(count))) {
            while (taken-- > 0) matcher.pop();
            end(Finish::length, sink);
            return true;
        }
        // The last one may only be the beginning of what the model would write as one token, and then says that the
        // rest of it does not follow: behind "[" alone there is no string, where a model is used to "[\"". So it draws
        // this one.
        if (constraint_->draws_last(rest[count - 1])) {
            likely_ = rest[--count];
            const std::size_t size = tokenizer_->piece(likely_).size(), left = count == 0 ? 0 : n - std::min(n, size);
            for (; taken > left; taken--) matcher.pop();
        }
        matcher.keep();
        guess_end_ = count == 0 ? guess_end_ : 0;
        count_ += static_cast<int>(count);
        value_ = count_;
        answer_ += static_cast<int>(count);
        strip_space_ &= count == 0;
        for (std::size_t at = 0; at < taken; at += held_bytes / 2)
            accept({text + at, std::min(taken - at, held_bytes / 2)}, sink);
    }
    if (!matcher.finished()) return false;
    end(Finish::stop, sink);
    return true;
}

Result<bool> Generation::take(const engine::Engine::Step& step, TextSink& sink) {
    if (step.cancelled) {
        end(Finish::cancelled, sink);
        return true;
    }
    cached_ = std::min(step.cached, prompt_);
    if (step.cached < count_) return false;
    likely_ = -1;
    if (!step.guessed) guess_end_ = count_ + step.drafted;
    if (step.drafted > 0) guesser_->made += step.drafted;

    // The engine may have computed more than the few that may follow: this is all the same to the answer.
    if (constraint_ != nullptr && (step.allowed == nullptr || step.guessed))
        if (const auto few = constraint_->few(*tokenizer_); !few.empty()) rule_out(few, step.logits);
    std::int32_t token = sampler_.sample(step.logits, tokens());
    std::string_view constrained;
    if (constraint_ != nullptr) {
        const auto text_of = [&] {
            constrained = tokenizer_->is_end(token) ? std::string_view{} : tokenizer_->piece(token);
            if (strip_space_ && constrained.starts_with(' ')) constrained.remove_prefix(1);
            return constrained;
        };
        grammar::Matcher& matcher = constraint_->matcher();
        if (tokenizer_->is_end(token) ? !matcher.accepting() : text_of().empty() || !matcher.would_take(constrained)) {
            rule_out(constraint_->allowed(*tokenizer_), step.logits);
            token = sampler_.sample_again(step.logits);
            if (!constraint_->allows(*tokenizer_, token))
                return Error::make(
                    Code::check_failed, "no token of the model continues the answer as the schema wants it: ...%.*s",
                    static_cast<int>(std::min<std::size_t>(matcher.text().size(), 60)),
                    matcher.text().data() + matcher.text().size() - std::min<std::size_t>(matcher.text().size(), 60));
            (void)text_of();
        }
    }
    const float probability = std::max(sampler_.probability(), std::numeric_limits<float>::min());
    probability_ += static_cast<double>(sampler_.probability());
    log_probability_ += engine::log_of(static_cast<double>(probability));
    margin_ += static_cast<double>(sampler_.margin());
    entropy_ += static_cast<double>(sampler_.entropy());
    least_probability_ = std::min(least_probability_, probability);
    drawn_++;
    if (tokenizer_->is_end(token)) {
        end(Finish::stop, sink);
        return true;
    }
    if (constraint_ != nullptr) {
        grammar::Matcher& matcher = constraint_->matcher();
        for (const char c : constrained) (void)matcher.push(c);
        if (!fits(1)) {
            for (std::size_t i = 0; i < constrained.size(); i++) matcher.pop();
            end(Finish::length, sink);
            return true;
        }
        matcher.keep();
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
    if (constraint_ != nullptr && TRY(force(sink))) return true;
    if (answer_ >= max_ || static_cast<std::size_t>(count_) >= tokens_.size()) {
        end(Finish::length, sink);
        return true;
    }
    return false;
}

Features Generation::features() const {
    if (drawn_ == 0) return {};
    return {.min = least_probability_,
            .mean = static_cast<float>(engine::exp_of(log_probability_ / drawn_)),
            .margin = static_cast<float>(margin_ / drawn_),
            .entropy = static_cast<float>(engine::exp_of(-entropy_ / drawn_))};
}

// What may follow, put behind the tokens: returns how many.
int Generation::guess() {
    if (likely_ >= 0 && !forced_.fails()) {
        guesser_ = &forced_;
        tokens_[static_cast<std::size_t>(count_)] = likely_;
        return 1;
    }
    guesser_ = &lookup_;
    return likely_ < 0 && cached_ == prompt_ ? look_up() : 0;
}

// Prompt lookup (Saxena 2023): what followed the last time that the last few tokens stood in the text. Answers that
// quote, extract or repeat are guessed well. A value under a constraint is looked for from its first token on, which
// stands there without the blank that it has in a text.
int Generation::look_up() {
    constexpr int suffix = 3, longest = 8;
    if (lookup_.fails()) return 0;
    const auto has_quote = [&](std::int32_t token) {
        return tokenizer_->piece(token).find('"') != std::string_view::npos;
    };
    int known = constraint_ == nullptr ? suffix : 0;
    while (known < suffix && count_ - known > value_ &&
           !has_quote(tokens_[static_cast<std::size_t>(count_ - known - 1)]))
        known++;
    if (known == 0 || count_ <= known) return 0;
    std::int32_t* const end = tokens_.data() + count_;
    const std::int32_t* const tail = end - known;
    const auto begins_alike = [&](std::int32_t token) {
        std::string_view text = tokenizer_->piece(token);
        if (text.starts_with(' ')) text.remove_prefix(1);
        return text == tokenizer_->piece(*tail);
    };
    for (const std::int32_t* at = end - 1; at >= tokens_.data() + known; at--) {
        if (!std::equal(tail + 1, static_cast<const std::int32_t*>(end), at - known + 1)) continue;
        if (at[-known] != *tail && (constraint_ == nullptr || !begins_alike(at[-known]))) continue;
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
    const bool cut = piece.size() > left_;
    piece = piece.substr(0, left_);
    left_ -= piece.size();
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
    if (!cut) return false;
    // within a character that does not fit any more: it goes
    while (held_size_ > 0 && utf8_length({held_, held_size_}) < 0) held_size_--;
    end(Finish::length, sink);
    return true;
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
    if (constraint_ != nullptr && finish != Finish::cancelled) close(sink);
}

// Completes what the constraint demands, as shortly as can be: the answer is cut short and valid all the same.
void Generation::close(TextSink& sink) {
    char text[close_bytes];
    const std::size_t n = constraint_->matcher().close(text);
    if (n == 0 || n > sizeof text) return;
    sink.append({text, n});
    for (std::size_t at = 0; at < n; at += 512)
        (void)constraint_->matcher().take({text + at, std::min<std::size_t>(n - at, 512)});
    if (const auto tokens =
            tokenizer_->encode({text, n}, {}, false, tokens_.subspan(static_cast<std::size_t>(count_)), scratch_))
        answer_ += static_cast<int>(tokens.value());
}

}  // namespace slmd::task
