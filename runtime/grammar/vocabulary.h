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

    // Memory for one of `count` tokens, 10 bytes each.
    void lay_out(Arena& arena, int count);
    // n log n in the tokens. context must outlive this.
    void build(Piece bytes, const void* context);

    int count() const { return count_; }
    std::size_t words() const { return (static_cast<std::size_t>(count_) + 63) / 64; }
    std::string_view piece(std::int32_t token) const { return piece_(context_, token); }
    // Sets the bit of each token that the matcher would take, clears the others: [words()].
    void allowed(Matcher& matcher, std::span<std::uint64_t> bits) const;

  private:
    void walk(Matcher& matcher, std::span<const std::int32_t> tokens, const std::uint8_t* shared,
              const std::uint8_t* offset, std::span<std::uint64_t> bits) const;

    Piece piece_ = nullptr;
    const void* context_ = nullptr;
    int count_ = 0, pieces_ = 0, closing_ = 0;
    std::int32_t* sorted_ = nullptr;   // [pieces] by their bytes
    std::uint8_t* shared_ = nullptr;   // [pieces] bytes that one begins with as the one before does
    std::uint64_t* inside_ = nullptr;  // [words] tokens that stay within a JSON string whatever it may contain
    // Tokens that end such a string, by what stands behind its end:
    std::int32_t* closers_ = nullptr;         // [closing]
    std::uint8_t* closers_shared_ = nullptr;  // [closing]
    std::uint8_t* closers_at_ = nullptr;      // [closing] where the quote stands
};

}  // namespace slmd::grammar
