// What binds an answer to a grammar: the grammar itself, where the answer stands in it, and the tokens that it allows.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/arena.h"
#include "base/result.h"
#include "grammar/grammar.h"
#include "grammar/matcher.h"
#include "grammar/vocabulary.h"
#include "text/tokenizer.h"

namespace slmd::task {

// The vocabulary that all constraints of a model share.
void build(const text::Tokenizer& tokenizer, grammar::Vocabulary& vocabulary);

class Constraint {
  public:
    enum class Kind : unsigned char { none, schema, regex };
    // While a grammar is compiled; constraints of a thread share it.
    static constexpr std::size_t scratch_bytes = grammar::scratch_bytes;

    void lay_out(Arena& arena, const grammar::Vocabulary& vocabulary);
    // Compiles it; written is changed. text: what values with "from": "source" have to stand in; it must outlive this.
    // Errors: of compile_schema, compile_regex and Source::open.
    Result<void> open(Kind kind, std::span<char> written, std::string_view text, std::span<std::byte> scratch);

    grammar::Matcher& matcher() { return matcher_; }
    // The token may come next: its text, or the end.
    bool allows(const text::Tokenizer& tokenizer, std::int32_t token);
    // Bits of all that may, [vocab] rounded up to 64.
    std::span<const std::uint64_t> allowed(const text::Tokenizer& tokenizer);
    // The same where few bytes may come next, so that only few logits have to be computed; else nothing.
    std::span<const std::uint64_t> few(const text::Tokenizer& tokenizer);
    // Of the last token of what is forced, which the matcher has just taken: a longer one may stand in its place, so
    // the model draws it. The quote that a string begins with stands by itself, whatever may follow.
    bool draws_last(std::int32_t token) {
        return !matcher_.accepting() && !matcher_.begins_string() && vocabulary_->may_be_longer(matcher_, token);
    }

  private:
    grammar::Heap heap_;
    grammar::Grammar grammar_;
    grammar::Matcher matcher_;
    grammar::Source source_;
    std::span<const std::uint64_t> with_ends(const text::Tokenizer& tokenizer);

    const grammar::Vocabulary* vocabulary_ = nullptr;
    std::uint64_t* mask_ = nullptr;  // [vocabulary words]
};

}  // namespace slmd::task
