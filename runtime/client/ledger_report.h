// What a ledger adds up to: how much stayed on the board, why what left did, how long answers took, and what they cost.
#pragma once
#include "client/ledger.h"

namespace slmd::client {

struct Prices {
    double in = 0, out = 0;  // of a token
    bool known = false;
};
// "0.15,0.60": of a million tokens of a prompt, and of an answer. Null: not known. Errors: incorrect_parameters.
Result<Prices> read_prices(const char* text);

// A table; with --csv and --svg these files, too. Errors: those of reading it, storage_failure.
Result<void> report_ledger(const LedgerCommand& command, FILE* out);

}  // namespace slmd::client
