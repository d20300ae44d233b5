// slmctl compare: which local agent, with how much of a large model's help, is good enough for a user's own cases.
#pragma once
#include <stdio.h>

#include <functional>
#include <string>
#include <vector>

#include "base/result.h"
#include "client/labelled.h"
#include "client/mix.h"

namespace slmd::client {

struct CompareCommand {
    const char* cases = nullptr;    // lines {"input": ..., "output": ...}
    std::string agents;             // "a,b"
    const char* answers = nullptr;  // the large model's: lines {"input", "answer", "tokens_in", "tokens_out", "ms"}
    bool ask_upstream = false;      // for those that are not there
    const char* prices = nullptr;
    double quality = -1;      // below 0: that of the large model alone
    double volume = 100'000;  // requests a month
    const char *csv = nullptr, *svg = nullptr;
};

// What an agent says to a case now; `right` is filled in by compare().
struct Asked {
    std::string answer;
    LocalAnswer said;
};
using Ask = std::function<Result<Asked>(const std::string& agent, const Labelled& one)>;

// Prints a table each; with --csv and --svg the curves. Errors: of the files and of `ask`; incorrect_parameters,
// not_found: a case has no answer of the large model.
Result<void> compare(const CompareCommand& command, const Ask& ask, FILE* out);

}  // namespace slmd::client
