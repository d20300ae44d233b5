// What is known of nodes when all of them are there: how many values they have, what the shortest costs, what may
// follow.
#pragma once
#include <span>

#include "grammar/grammar.h"

namespace slmd::grammar {

inline Error full() { return Error::make(Code::memory_full, "schema: it is too large to compile"); }

// Sets Node::values and unequal, and what it takes to know which values are left, where items of an array must differ.
// Before price_values(). Errors: not_supported, memory_full.
Result<void> count_values(std::span<Node> nodes, Heap& heap, Heap& scratch);
// Sets costs and depths of nodes and rules, and which keys can still be meant in an object; drops rules without a
// value. Errors: memory_full.
Result<void> price_values(std::span<Node> nodes, Heap& heap);

// Sets Node::at_least, where arrays or objects are items that must differ; true: they are. After price_values().
// Errors: not_supported, memory_full.
Result<bool> count_nested(std::span<Node> nodes, Heap& scratch);

}  // namespace slmd::grammar
