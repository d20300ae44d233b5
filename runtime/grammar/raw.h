// Automata under construction: states come one by one, every one reachable from state 0; not minimal.
#pragma once
#include <bit>
#include <cstddef>
#include <cstdint>
#include <cstring>

#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::grammar {

Error heap_full();
Error too_many_states();

// Elements of `width` T each, which stay where they are while more are added: chunks, each of twice the size of the one
// before, so that other things can be taken from the heap in between.
template <class T>
class Growing {
  public:
    Growing(Heap& heap, std::size_t width) : heap_(heap), width_(width) {}
    std::size_t size() const { return size_; }
    T* operator[](std::size_t i) const {
        const std::size_t power = std::bit_floor(i / first + 1);
        return chunk_[std::countr_zero(power)] + (i - first * (power - 1)) * width_;
    }
    // Not initialized. Null when the heap is full.
    T* add() {
        const std::size_t power = std::bit_floor(size_ / first + 1);
        if (size_ == first * (power - 1)) {
            const auto k = static_cast<std::size_t>(std::countr_zero(power));
            if (k == chunks) return nullptr;
            chunk_[k] = heap_.take<T>(first * power * width_);
            if (chunk_[k] == nullptr) return nullptr;
        }
        return (*this)[size_++];
    }

  private:
    static constexpr std::size_t first = 16, chunks = 13;  // 16 * (2^13 - 1) elements
    Heap& heap_;
    T* chunk_[chunks] = {};
    std::size_t width_, size_ = 0;
};

class Raw {
  public:
    // More than Automaton::max_states: many of them may turn out to be equal.
    static constexpr int max_states = Automaton::dead;

    // byte_class: [256], numbered in the order of each class's first byte.
    Raw(Heap& heap, const std::uint8_t* byte_class, int classes)
        : classes_(classes), rows_(heap, static_cast<std::size_t>(classes)), labels_(heap, 1) {
        std::memcpy(byte_class_, byte_class, sizeof byte_class_);
    }
    int states() const { return static_cast<int>(labels_.size()); }
    int classes() const { return classes_; }
    const std::uint8_t* byte_class() const { return byte_class_; }
    std::uint16_t* next(int state) const { return rows_[static_cast<std::size_t>(state)]; }
    std::uint16_t& label(int state) const { return *labels_[static_cast<std::size_t>(state)]; }
    // A state from which every byte is dead, and that does not accept. Errors: memory_full, text_too_long.
    Result<std::uint16_t> add();

  private:
    int classes_;
    std::uint8_t byte_class_[256];
    Growing<std::uint16_t> rows_, labels_;
};

// Finds a state by what it stands for: open addressing.
class Index {
  public:
    explicit Index(Heap& heap) : heap_(heap) {}
    // The place of the state for which equal(state), or the empty one (Automaton::dead) for a state of that hash.
    // Null when the heap is full. hash_of(state) is called when the table grows.
    template <class Equal, class HashOf>
    std::uint16_t* find(std::uint32_t hash, int states, Equal&& equal, HashOf&& hash_of) {
        if (2 * static_cast<std::size_t>(states) + 2 > size_) {
            const std::size_t size = size_ == 0 ? 64 : 2 * size_;
            std::uint16_t* const slots = heap_.take<std::uint16_t>(size);
            if (slots == nullptr) return nullptr;
            std::memset(slots, 0xFF, size * sizeof *slots);
            for (std::size_t i = 0; i < size_; i++) {
                if (slots_[i] == Automaton::dead) continue;
                std::size_t at = hash_of(slots_[i]) & (size - 1);
                while (slots[at] != Automaton::dead) at = (at + 1) & (size - 1);
                slots[at] = slots_[i];
            }
            slots_ = slots, size_ = size;
        }
        std::size_t at = hash & (size_ - 1);
        while (slots_[at] != Automaton::dead && !equal(slots_[at])) at = (at + 1) & (size_ - 1);
        return slots_ + at;
    }

  private:
    Heap& heap_;
    std::uint16_t* slots_ = nullptr;
    std::size_t size_ = 0;
};

// The minimal automaton of raw, at mark, which is what the heap is released to. Canonical: raw automata of the same
// language and labels give the same bytes. Errors: memory_full, text_too_long.
Result<Automaton> minimal(const Raw& raw, Heap& heap, std::size_t mark);

// The canonical form of an ASCII character within a JSON string: 1, 2 or 6 bytes into out.
int json_character(unsigned char c, unsigned char out[6]);

}  // namespace slmd::grammar
