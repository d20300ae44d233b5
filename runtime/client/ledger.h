// slmctl ledger: what was decided, whether the record of it is as it was written, and what it adds up to.
#pragma once
#include <stdio.h>

#include <span>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::client {

struct LedgerCommand {
    const char* verb = "";
    std::vector<const char*> paths;  // of the ledger
    const char* agent = nullptr;     // only its records
    const char* since = nullptr;
    const char* prices = nullptr;  // "IN,OUT": of a million tokens
    const char *csv = nullptr, *svg = nullptr;
    const char* key = nullptr;       // public, for verify; private, for sign
    const char* requests = nullptr;  // JSON lines, for replay
    const char* pairs = nullptr;     // a folder of them, for export
    int last = 0;                    // records; 0: all
    bool json = false;
};

// Prints what is wrong with it, a line each, and at the end what it has. False: something is wrong.
Result<bool> verify_ledger(const LedgerCommand& command, FILE* out);
// Signs the last record, and so all before it, in the file `heads` beside the ledger's. Errors: those of reading them;
// check_failed: it has faults.
Result<void> sign_ledger(const LedgerCommand& command, FILE* out);
// A line each record.
Result<void> show_ledger(const LedgerCommand& command, FILE* out);

}  // namespace slmd::client
