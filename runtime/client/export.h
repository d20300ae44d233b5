// slmctl ledger export: pairs of what was asked and what the large model answered, to train an adapter on.
#pragma once
#include "client/ledger.h"

namespace slmd::client {

constexpr char pairs_folder[] = "/var/lib/slmd/pairs";

// Joins the files of pairs (AGENT.jsonl of folders, or files) in one of JSON lines, "-" for `out`; each line once, and
// those that a power cut has left in part not at all. Says to `said` how many. Errors: storage_failure, not_found.
Result<void> export_pairs(const LedgerCommand& command, FILE* out, FILE* said);

}  // namespace slmd::client
