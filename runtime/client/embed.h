// slmctl embed: texts as vectors.
#pragma once
#include <string>
#include <vector>

#include "client/connection.h"

namespace slmd::client {

// A line a text on standard output: its numbers, or with bytes its scale and its bytes in base64; with json what slmd
// sent, a line a request. Returns the exit status.
int embed(Connection& connection, const std::vector<std::string>& texts, bool bytes, bool json);

}  // namespace slmd::client
