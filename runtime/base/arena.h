// One block of memory, carved from both ends: persistent data from the front, scratch from the back.
#pragma once
#include <algorithm>
#include <cstddef>
#include <cstdint>
#include <span>
#include <utility>

namespace slmd {

// The same layout code runs twice: over an Arena without memory it only counts, which is the plan; over the real block
// it hands out the bytes. So a plan cannot drift from what is used.
class Arena {
  public:
    static constexpr std::size_t align = 64;

    Arena() = default;  // counts only: every pointer is null
    explicit Arena(std::span<std::byte> block) : base_(block.data()), size_(block.size()) {}

    // n elements of T, 64-byte aligned, zeroed by whoever made the block. Null when counting or when the block is full
    // (see overflow()).
    template <class T>
    T* persistent(std::size_t n) {
        return reinterpret_cast<T*>(take(n * sizeof(T), front_));
    }
    template <class T>
    T* scratch(std::size_t n) {
        return reinterpret_cast<T*>(take(n * sizeof(T), back_));
    }
    // What `first` and `second` take from scratch lies in the same place: for what never lives at the same time.
    template <class First, class Second>
    void overlay(First&& first, Second&& second) {
        const std::size_t begin = back_;
        first();
        const std::size_t end = std::exchange(back_, begin);
        second();
        back_ = std::max(back_, end);
    }
    std::size_t persistent_bytes() const { return front_; }
    std::size_t scratch_bytes() const { return back_; }
    std::size_t used() const { return front_ + back_; }
    bool overflow() const { return overflow_; }

  private:
    std::byte* take(std::size_t bytes, std::size_t& end) {
        bytes = (bytes + align - 1) / align * align;
        const std::size_t at = end;
        end += bytes;
        if (base_ == nullptr) return nullptr;
        if (front_ + back_ > size_) {
            overflow_ = true;
            end = at;
            return nullptr;
        }
        return &end == &front_ ? base_ + at : base_ + size_ - end;
    }

    std::byte* base_ = nullptr;
    std::size_t size_ = 0, front_ = 0, back_ = 0;
    bool overflow_ = false;
};

}  // namespace slmd
