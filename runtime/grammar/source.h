// A text whose parts can be said again: which bytes may follow, so that what has been said stands in it.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/arena.h"
#include "base/result.h"
#include "grammar/grammar.h"

namespace slmd::grammar {

class Source {
  public:
    static constexpr std::size_t max_bytes = 16384, max_part = 512;  // of the text; of what is said again
    static constexpr std::size_t max_match = 255;                    // bytes of what is searched for

    // The places where what was said stands: suffixes first .. last - 1 of the sorted ones, and its length.
    struct Part {
        std::uint32_t first, last, length;
    };

    // Memory for one, from scratch.
    void lay_out(Arena& arena);
    // Sorts the places of the text, which must outlive this, and finds what the searches match from each, for which
    // heap keeps a byte a place and search. A match neither begins nor ends between two digits or two letters. Errors:
    // text_too_long, memory_full.
    Result<void> open(std::string_view text, std::span<const Automaton> searches, Heap& heap);

    std::size_t size() const { return text_.size(); }
    Part whole() const { return {0, static_cast<std::uint32_t>(text_.size()), 0}; }
    // One byte more; false when it stands nowhere then.
    bool step(Part& part, char byte) const;
    // Whether what was said is, or can become, a match of the search. What was said must be the beginning of one.
    bool can_match(const Part& part, int search) const;
    // Whether what was said, which the search accepts, is a match.
    bool is_match(const Part& part, int search) const;
    // At most so many bytes, as they are written in JSON, make it one: searches[search] is in `state` after what was
    // said, behind which a backslash stands when escaped. never: none do.
    std::uint32_t bytes_to_match(const Part& part, int search, std::uint16_t state, bool escaped) const;
    // The byte that follows at the i-th place of a part; -1 at the end of the text.
    int follows(const Part& part, std::uint32_t i) const {
        const std::size_t at = places_[part.first + i] + part.length;
        return at < text_.size() ? static_cast<unsigned char>(text_[at]) : -1;
    }

    // What JSON writes behind a backslash for the byte, one of escapes, and back; 0: there is no such escape.
    static constexpr std::string_view escapes = "\"\\bfnrt";
    static char escaped(char byte);
    static char unescaped(char written);

  private:
    template <class Matched>
    void run(const Automaton& search, std::uint16_t state, std::size_t begin, std::size_t at, Matched&& matched) const;

    std::string_view text_;
    std::span<const Automaton> searches_;
    std::uint16_t* places_ = nullptr;  // [max_bytes] in the order of what stands there, the first max_part bytes of it
    std::uint8_t* matches_ = nullptr;  // [searches, text] bytes of the longest match that begins there
};

}  // namespace slmd::grammar
