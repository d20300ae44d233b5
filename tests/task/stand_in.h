// Writes a given text by the code that answers, with a stand-in for the engine that wants just that text.
#pragma once
#include <algorithm>
#include <string_view>
#include <vector>

#include "task/generate.h"

namespace slmd::test {

struct Written {
    int passes = 0;              // a token that was guessed rightly needs none
    int guesses = 0, right = 0;  // tokens computed in case that they follow
};

// Writes `text` under the constraint, behind the raw prompt. draft: guesses that a pass checks. Errors: those of
// Generation; check_failed when another text comes out.
inline Result<Written> write(const text::Tokenizer& tokenizer, task::Constraint& constraint, std::string_view text,
                             std::string_view prompt, int draft, task::TextSink& sink) {
    static constexpr int context = 8192;
    static std::vector<std::int32_t> tokens(context), rest(context);
    static std::vector<char> rendered(65536);
    static std::vector<text::Trusted> trusted(64);
    static std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(65536));
    std::vector<float> logits(static_cast<std::size_t>(tokenizer.vocab()));
    task::Generation g;
    const std::atomic<bool> never{false};
    task::GenerateOptions options;
    options.raw = true;
    options.max_tokens = context / 2;
    options.constraint = &constraint;
    const text::Message message{text::Role::user, prompt};
    TRY(g.open(tokenizer, text::ChatTemplate{}, {&message, 1}, options, tokens, {rendered, trusted, scratch}));
    std::vector<std::int32_t> ready;  // what the pass before has computed, guesses at its end
    std::size_t known = 0;
    Written made;
    for (bool done = false; !done;) {
        engine::Engine::Step step;
        if (!TRY(g.ask(0, context, never, 0, nullptr, step, sink))) break;
        step.cached = static_cast<int>(step.tokens.size());
        step.guessed = step.tokens.size() > known && step.tokens.size() <= ready.size() &&
                       std::equal(step.tokens.begin(), step.tokens.end(), ready.begin());
        if (!step.guessed) {
            made.passes++;
            known = step.tokens.size();
            ready.assign(step.tokens.begin(), step.tokens.end());
            step.drafted = std::min(draft, static_cast<int>(step.draft.size()));
            made.guesses += step.drafted;
            ready.insert(ready.end(), step.draft.begin(), step.draft.begin() + step.drafted);
        }
        const std::string_view written = constraint.matcher().text();
        if (!text.starts_with(written)) break;
        const std::size_t n = TRY(tokenizer.encode(text.substr(written.size()), {}, false, rest, scratch));
        std::fill(logits.begin(), logits.end(), 0.0f);
        std::int32_t next = n > 0 ? rest[0] : 0;
        while (n == 0 && !tokenizer.is_end(next)) next++;
        logits[static_cast<std::size_t>(next)] = 1000;
        step.logits = logits;
        done = TRY(g.take(step, sink));
    }
    if (constraint.matcher().text() != text) return Error::make(Code::check_failed, "another text came out");
    made.right = g.guessed_tokens();
    return made;
}

}  // namespace slmd::test
