// The memory of SQLite: a fixed piece, handed out by halves (a buddy allocator: Knuth, TAOCP 1, 2.5). Neighbours that
// are free become one again, so that it does not crumble over the years; what does not fit is refused, which SQLite
// takes as an error of that statement.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace slmd::docs {

class Pool {
  public:
    static constexpr std::size_t least = 64;  // bytes of a piece; the others are powers of two times it

    Pool() = default;
    // memory stays the caller's, and is aligned to 64 bytes.
    explicit Pool(std::span<std::byte> memory);

    void* take(std::size_t bytes);  // null: it is full, or fragmented
    void give(void* piece);
    static std::size_t round(std::size_t bytes);  // what a piece of so many bytes takes
    std::size_t size(const void* piece) const;    // of the whole piece
    std::size_t used() const { return used_; }    // bytes in pieces
    std::size_t most() const { return most_; }    // the most that they were

  private:
    static constexpr int orders = 24;
    static constexpr std::uint8_t taken = 0x80, inside = 0x7f;  // inside: of a piece that begins before it
    struct Free {
        Free *before, *after;
    };
    void put(std::size_t block, int order);
    void drop(std::size_t block, int order);
    Free* at(std::size_t block) const { return reinterpret_cast<Free*>(begin_ + block * least); }
    std::size_t block(const void* piece) const {
        return static_cast<std::size_t>(static_cast<const std::byte*>(piece) - begin_) / least;
    }

    std::byte* begin_ = nullptr;
    std::uint8_t* orders_ = nullptr;  // of each block: the order of the piece that begins there, | taken
    std::size_t blocks_ = 0, used_ = 0, most_ = 0;
    Free* free_[orders] = {};
};

// All that SQLite needs comes from `memory` from now on: once, before anything of it is open. Only one thread at a time
// may use SQLite then. Errors: not_allowed when something is open; unknown.
Result<void> give_memory(std::span<std::byte> memory);
// The pool that give_memory made.
const Pool& memory();

}  // namespace slmd::docs
