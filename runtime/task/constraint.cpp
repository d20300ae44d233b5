#include "task/constraint.h"

#include <bit>

namespace slmd::task {

void build(const text::Tokenizer& tokenizer, grammar::Vocabulary& vocabulary) {
    vocabulary.build(
        [](const void* context, std::int32_t token) {
            const auto& t = *static_cast<const text::Tokenizer*>(context);
            return token >= t.vocab() || t.is_end(token) ? std::string_view{} : t.piece(token);
        },
        &tokenizer);
}

void Constraint::lay_out(Arena& arena, const grammar::Vocabulary& vocabulary) {
    vocabulary_ = &vocabulary;
    heap_ = grammar::Heap({arena.scratch<std::byte>(grammar::heap_bytes), grammar::heap_bytes});
    matcher_.lay_out(arena);
    source_.lay_out(arena);
    mask_ = arena.scratch<std::uint64_t>(vocabulary.words());
}

Result<void> Constraint::open(Kind kind, std::span<char> written, std::string_view text, std::span<std::byte> scratch) {
    heap_.release(0);
    if (written.size() > grammar::max_source)
        return Error::make(Code::text_too_long, "the schema has %zu bytes; at most %zu", written.size(),
                           grammar::max_source);
    if (kind == Kind::schema) {
        grammar::Heap temporary(scratch);
        grammar_ = TRY(grammar::compile_schema(written, {}, heap_, temporary));
    } else {
        grammar_ = TRY(grammar::compile_regex({written.data(), written.size()}, heap_));
    }
    if (grammar_.from_source) TRY(source_.open(text, grammar_.searches, heap_));
    matcher_.open(grammar_, &source_);
    return {};
}

bool Constraint::allows(const text::Tokenizer& tokenizer, std::int32_t token) {
    if (tokenizer.is_end(token)) return matcher_.accepting();
    const std::string_view piece = tokenizer.piece(token);
    return !piece.empty() && matcher_.would_take(piece);
}

std::span<const std::uint64_t> Constraint::allowed(const text::Tokenizer& tokenizer) {
    vocabulary_->allowed(matcher_, {mask_, vocabulary_->words()});
    return with_ends(tokenizer);
}

std::span<const std::uint64_t> Constraint::few(const text::Tokenizer& tokenizer) {
    constexpr int most = 32;
    if (matcher_.in_free_string(1)) return {};
    const grammar::Matcher::Bytes next = matcher_.next();
    int bytes = 0;
    for (const std::uint64_t word : next.bits) bytes += std::popcount(word);
    if (bytes > most) return {};
    vocabulary_->allowed(matcher_, next, {mask_, vocabulary_->words()});
    return with_ends(tokenizer);
}

// What ends an answer may come where the answer may end.
std::span<const std::uint64_t> Constraint::with_ends(const text::Tokenizer& tokenizer) {
    const std::span<std::uint64_t> mask(mask_, vocabulary_->words());
    if (matcher_.accepting())
        for (std::int32_t t = 0; t < tokenizer.vocab(); t++)
            if (tokenizer.is_end(t)) mask[static_cast<std::size_t>(t) / 64] |= std::uint64_t{1} << t % 64;
    return mask;
}

}  // namespace slmd::task
