// [[check]] of an agent's file.
#pragma once
#include "agent/evidence.h"
#include "hal/toml.h"

namespace slmd::agent {

constexpr std::size_t max_lookup_entries = 4096, max_lookup_bytes = 65536;  // of one check

// Reads one; what it has lies in heap, in which its pattern is compiled, too. A lookup's file lies beside the agent's.
// Errors: incorrect_parameters with file and line; memory_full when heap is.
Result<Check> read_check(const hal::TomlFile& file, const toml::table& table, grammar::Heap& heap);

}  // namespace slmd::agent
