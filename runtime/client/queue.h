// slmctl queue and route budget: what waits for the large model, its answers, and what was spent.
#pragma once
#include <string>

#include "client/connection.h"

namespace slmd::client {

int list_queue(Connection& connection, bool json);
// The answer of one that was queued, as `agent run` prints one.
int show_queued(Connection& connection, const std::string& key, bool json);
int drop_queued(Connection& connection, const std::string& key);
int show_budget(Connection& connection, bool json);

}  // namespace slmd::client
