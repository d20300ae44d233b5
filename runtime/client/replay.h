// slmctl ledger replay: the board decides again what it decided, and must come to the same.
#pragma once
#include <functional>
#include <string>

#include "client/ledger.h"

namespace slmd::client {

// What answers now. Hashes in hex, "": not told.
struct Replayer {
    struct Agent {
        std::string adapter_sha256;
    };
    std::function<Result<std::string>(const std::string& agent, const std::string& input, bool object)> answer;
    std::function<Result<Agent>(const std::string& agent)> about;
    std::string image;  // of the model
};

// Each decision on its facts, and, where its request is among those of --requests (found by SHA-256), the agent's
// answer by its SHA-256. Prints what differs and why, and how many did not. False: something differs. Errors: those of
// reading the ledger and the requests, and the replayer's.
Result<bool> replay_ledger(const LedgerCommand& command, const Replayer& replayer, FILE* out);

}  // namespace slmd::client
