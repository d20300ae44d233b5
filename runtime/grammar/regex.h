// Regular expressions of ECMA 262 (the part that describes a regular language) to automata.
#pragma once
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::grammar {

// Texts in which the pattern is found (JSON Schema's `pattern`: not anchored), or that it matches from end to end when
// whole is set; label 1. The subset, with the meaning that the flag u gives it: characters, `.`, classes with ranges and
// ^, \d \D \w \W \s \S, \t \n \v \f \r \0 \cX \xHH \uHHHH (surrogate pairs too) \u{H}, escaped ASCII punctuation,
// groups (also ?: and ?<name>), |, * + ? {n} {n,} {n,m} greedy or lazy, ^ and $. Not: references to groups, lookahead and
// lookbehind, \b and \B, \p.
// Errors: not_supported and incorrect_parameters, naming what and at which byte of the pattern; text_too_long (more
// than Automaton::max_states states, or repetitions that large), memory_full.
Result<Automaton> regex(std::string_view pattern, bool whole, Encoding encoding, Heap& heap);

}  // namespace slmd::grammar
