// Deterministic automata over bytes: minimal, in memory that the caller gives, and what can be made of two of them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::grammar {

// Where a grammar is compiled: a block from which is taken, and given back to a mark.
class Heap {
  public:
    Heap() = default;
    explicit Heap(std::span<std::byte> block) : block_(block) {}

    // n elements of T, not initialized. Null when the block is full.
    template <class T>
    T* take(std::size_t n) {
        const std::size_t at = (used_ + alignof(T) - 1) / alignof(T) * alignof(T);
        if (at > block_.size() || n > (block_.size() - at) / sizeof(T)) return nullptr;
        used_ = at + n * sizeof(T);
        if (used_ > peak_) peak_ = used_;
        return reinterpret_cast<T*>(block_.data() + at);
    }
    std::size_t used() const { return used_; }
    std::size_t peak() const { return peak_; }
    void release(std::size_t mark) { used_ = mark; }

  private:
    std::span<std::byte> block_;
    std::size_t used_ = 0, peak_ = 0;
};

// A minimal automaton. State 0 is where it starts; from every state an accepting one can be reached. Without states it
// accepts nothing.
struct Automaton {
    static constexpr std::uint16_t dead = 0xFFFF;
    static constexpr int max_states = 16384;

    int states = 0, classes = 0;
    const std::uint8_t* byte_class = nullptr;  // [256]
    const std::uint16_t* next = nullptr;       // [states, classes] a state, or dead
    const std::uint16_t* label = nullptr;      // [states] 0: does not accept; else what is accepted
    const std::uint16_t* to_end = nullptr;     // [states] fewest bytes to an accepting state

    std::uint16_t step(std::uint16_t state, unsigned char byte) const {
        return next[static_cast<std::size_t>(state) * static_cast<std::size_t>(classes) + byte_class[byte]];
    }
};

// How a text is written as bytes. json: as the inside of a JSON string in the one form that this project writes:
// \" \\ \b \f \n \r \t, other control characters as \u00xx in lower case, everything else as it is.
enum class Encoding : unsigned char { utf8, json };

// The words, whose labels are 1, 2, ... (of equal ones the first's). Errors: memory_full, text_too_long (more than
// max_states states), invalid_characters (not UTF-8).
Result<Automaton> words(std::span<const std::string_view> list, Encoding encoding, Heap& heap);

// Runs both at once. label_of(context, label of a, label of b) is the label of a text, 0 and 0 included, so that a
// complement is one against all texts; where both are dead a text is refused. Errors: memory_full, text_too_long.
using LabelOf = std::uint16_t (*)(void* context, std::uint16_t a, std::uint16_t b);
Result<Automaton> combine(const Automaton& a, const Automaton& b, LabelOf label_of, void* context, Heap& heap);

// Texts of which both, or the first only, accept; label 1.
Result<Automaton> intersection(const Automaton& a, const Automaton& b, Heap& heap);
Result<Automaton> difference(const Automaton& a, const Automaton& b, Heap& heap);

bool accepts(const Automaton& automaton, std::string_view bytes);

}  // namespace slmd::grammar
