// Pre-tokenizers: the regular expressions that cut a text into the words inside which byte-level BPE merges.
#pragma once
#include <cstddef>
#include <string_view>

#include "text/section.h"

namespace slmd::text {

// Walks a text word by word; the words cover it without gaps.
class Splitter {
  public:
    Splitter(Pre pre, std::string_view text) : pre_(pre), text_(text) {}
    // The next word, empty at the end.
    std::string_view next();

  private:
    std::size_t word_end(std::string_view text) const;

    Pre pre_;
    std::string_view text_;
    std::size_t at_ = 0;
    std::size_t segment_end_ = 0;  // smollm: the next number, which cuts before the expression looks
};

}  // namespace slmd::text
