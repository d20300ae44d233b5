// The tokens of a model in the order of their bytes, and which of them a grammar allows next.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/arena.h"
#include "grammar/matcher.h"

namespace slmd::grammar {

class Vocabulary {
  public:
    static constexpr std::size_t max_piece = 255;  // bytes; longer tokens are never allowed

    // The bytes of a token as it continues a text, the same each time; "" for one that writes nothing.
    using Piece = std::string_view (*)(const void* context, std::int32_t token);

    // Memory for one of `count` tokens, 6 bytes each.
    void lay_out(Arena& arena, int count);
    // context must outlive this.
    void build(Piece bytes, const void* context);

    int count() const { return count_; }
    std::size_t words() const { return (static_cast<std::size_t>(count_) + 63) / 64; }
    std::string_view piece(std::int32_t token) const { return piece_(context_, token); }
    // Sets the bit of each token that the matcher would take, clears the others: [words()].
    void allowed(Matcher& matcher, std::span<std::uint64_t> bits) const;
    // The same where matcher.next() is known to be `first`.
    void allowed(Matcher& matcher, const Matcher::Bytes& first, std::span<std::uint64_t> bits) const;
    // A longer token may stand in the place of this one, which the matcher has just taken.
    bool may_be_longer(Matcher& matcher, std::int32_t token) const;

  private:
    std::string_view ending(std::int32_t token) const;
    // Of texts in the order of their bytes, first .. last, calls take(i) for those that the matcher would take.
    template <class Text, class Take>
    static void walk(Matcher& matcher, int first, int last, const std::uint8_t* shared, Text text, Take take);

    Piece piece_ = nullptr;
    const void* context_ = nullptr;
    int count_ = 0, pieces_ = 0, closing_ = 0, endings_ = 0;
    std::int32_t first_[257]{};        // where in sorted_ the pieces begin that begin with a byte
    std::int32_t* sorted_ = nullptr;   // [pieces] by their bytes
    std::uint8_t* shared_ = nullptr;   // [pieces] bytes that one begins with as the one before does
    std::uint64_t* inside_ = nullptr;  // [words] tokens that stay within a JSON string whatever it may contain
    // Tokens that end such a string, by the ending that they share: the quote and what stands behind it.
    std::int32_t* closers_ = nullptr;        // [closing]
    std::int32_t* ending_ = nullptr;         // [endings + 1] the first closer of each
    std::uint8_t* ending_shared_ = nullptr;  // [endings]
};

}  // namespace slmd::grammar
