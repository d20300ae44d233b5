// Reciprocal rank fusion (Cormack, Clarke and Buettcher, SIGIR 2009): rankings of different scales become one.
#pragma once
#include <cstdint>
#include <span>

namespace slmd::docs {

struct Ranked {
    std::int64_t passage;
    float score;                 // the sum of 1 / (60 + rank) over the rankings that have it
    std::int16_t first, second;  // its ranks, from 1; 0: not in that ranking
};

constexpr float fusion_k = 60;

// Two rankings, best first, each passage once in each. out: room for all of both; returns those that it is of, best
// first; of equal ones the one that the first ranking has higher, then the lower number.
std::span<Ranked> fuse(std::span<const std::int64_t> first, std::span<const std::int64_t> second,
                       std::span<Ranked> out);

}  // namespace slmd::docs
