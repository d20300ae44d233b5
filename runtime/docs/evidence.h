// Which sentence of the passages that were found says most of what a question asks.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "docs/store.h"

namespace slmd::docs {

struct Evidence {
    std::size_t hit;         // of the passages
    std::size_t begin, end;  // of its text
    float coverage;          // part of the question's words that it has, by their weight; those that only stand in its
                             // headings count half
};

// The best sentence; coverage 0 when there is none. Of equal ones that of the better passage, the first. Sentences end
// with a line or behind . ! ? and a space, unless what comes next begins small; none is longer than `most`. Words are
// the same when they are, or when their first letters are, four or more and all but the last two: what inflection
// changes is mostly there.
Evidence find_evidence(std::span<const Word> words, std::span<const Hit> hits, std::size_t most);

// Where an answer stands in a sentence, in whole words: grown to both sides until it has them. npos: nowhere.
struct Stand {
    std::size_t begin, end;
    static constexpr std::size_t npos = static_cast<std::size_t>(-1);
};
Stand find_answer(std::string_view answer, std::string_view sentence);

// Every word of the answer is one of the question's.
bool repeats(std::string_view answer, std::string_view question);

}  // namespace slmd::docs
