// slmctl docs: files as passages that slmd finds, and what it finds.
#pragma once
#include <string>
#include <vector>

#include "client/connection.h"

namespace slmd::client {

struct DocsCommand {
    std::vector<std::string> arguments;  // add FILE..., list, remove NAME..., search TEXT, ask TEXT
    std::string by;                      // of search: "both", "words", "meaning"; "": both
    int top = 0;                         // 0: as many as is usual
    bool json = false;
};

// What is wrong with it; "": nothing.
const char* wrong_docs(const DocsCommand& command);
// Returns the exit status.
int run_docs(Connection& connection, const DocsCommand& command);

}  // namespace slmd::client
