// slmctl compare --ask-upstream: what the large model answers to a user's own cases, asked once and kept.
#pragma once
#include "client/caller.h"
#include "client/compare.h"

namespace slmd::client {

// Adds to command.answers a line for each case that has none there yet, each as soon as it has come. It is the first
// of the agents that asks: its policy has to allow it. An answer that cannot be used is kept as "", and told. Errors:
// of the files and the call; not_allowed: it did not leave, or nothing came.
Result<void> ask_upstream(Caller& caller, const CompareCommand& command);

}  // namespace slmd::client
