// A text whose parts can be said again: which bytes may follow, so that what has been said stands in it.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/arena.h"
#include "base/result.h"

namespace slmd::grammar {

class Source {
  public:
    static constexpr std::size_t max_bytes = 16384, max_part = 512;  // of the text; of what is said again

    // The places where what was said stands: suffixes first .. last - 1 of the sorted ones, and its length.
    struct Part {
        std::uint32_t first, last, length;
    };

    // Memory for one, from scratch.
    void lay_out(Arena& arena);
    // Sorts the places of the text, which must outlive this. Errors: text_too_long.
    Result<void> open(std::string_view text);

    std::size_t size() const { return text_.size(); }
    Part whole() const { return {0, static_cast<std::uint32_t>(text_.size()), 0}; }
    // One byte more; false when it stands nowhere then.
    bool step(Part& part, char byte) const;
    // The byte that follows at the i-th place of a part; -1 at the end of the text.
    int follows(const Part& part, std::uint32_t i) const {
        const std::size_t at = places_[part.first + i] + part.length;
        return at < text_.size() ? static_cast<unsigned char>(text_[at]) : -1;
    }

  private:
    std::string_view text_;
    std::uint16_t* places_ = nullptr;  // [max_bytes] in the order of what stands there, the first max_part bytes of it
};

}  // namespace slmd::grammar
