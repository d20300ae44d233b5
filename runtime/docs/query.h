// A question as what FTS5 is asked: its words, each quoted, so that nothing in it is syntax.
#pragma once
#include <cstddef>
#include <string_view>

#include "base/ascii.h"

namespace slmd::docs {

struct Query {
    static constexpr std::size_t max_words = 48, word_bytes = 48, bytes = max_words * (word_bytes + 8);
    std::string_view words[max_words];  // of the question, each once, the first ones; ASCII case does not count
    std::size_t count = 0;
    char text[bytes];  // "a" OR "b" OR ...
    std::size_t size = 0;
};

// What unicode61 takes for a word: letters and digits of ASCII, and all else that is not ASCII. Longer ones are cut.
inline bool in_word(char c) { return is_alnum(c) || (c & 0x80) != 0; }
void make_query(std::string_view question, Query& query);

}  // namespace slmd::docs
