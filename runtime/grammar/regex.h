// Regular expressions of ECMA 262 (the part that describes a regular language) to automata.
#pragma once
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::grammar {

// Texts in which the pattern is found (JSON Schema's `pattern`: not anchored), or that it matches from end to end when
// whole is set; label 1. As with the flag u: literals, `.`, [..] and [^..] with ranges and classes, \d \D \w \W \s \S,
// \t \n \v \f \r \0 \cX \xHH \u{H..} and \uHHHH (two surrogates are one character; one alone is in no text), a
// backslash before ASCII punctuation (u itself takes fewer), groups (..) (?:..) (?<name>..) at most 64 within one
// another, |, * + ? {n} {n,} {n,m} and their lazy forms, which find the same texts, and ^ $ \b \B of the whole text
// (there is no flag m) wherever they stand. Not: \p{..}, backreferences, lookaheads, lookbehinds, modifiers (?i:..).
// Errors: not_supported and incorrect_parameters, naming what and at which byte of the pattern; text_too_long (more
// than Automaton::max_states states, or repetitions that large), memory_full.
Result<Automaton> regex(std::string_view pattern, bool whole, Encoding encoding, Heap& heap);

}  // namespace slmd::grammar
