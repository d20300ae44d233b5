// slmctl agent, adapter and extract: agents as files, and as slmd runs them.
#pragma once
#include <span>
#include <string>

#include "client/caller.h"

namespace slmd::client {

// Prints a line a file; 0: all are good, else 1.
int check_agents(std::span<char* const> files);

int list_agents(Connection& connection, bool json);
int list_adapters(Connection& connection, bool json);
int show_agent(Connection& connection, const char* name);
// Prints the answer, and to standard error what there is to say of it. 0: pass, 3: unsure, 4: a check failed. settings:
// JSON members of run, or "".
int run_agent(Connection& connection, const char* name, std::string input, const std::string& settings, bool json);
// The same of a result that has come.
int print_answer(const Caller& caller, const JsonNode& result, bool json);
// Runs it on labelled inputs, of lines {"input": ..., "output": ...}, or the examples of its own file that the model
// does not see: how many answers are right, and how long they take.
int bench_agent(Connection& connection, const char* name, const char* file);

// The same, and what it shows as a calibration beside the agent's file (calibrate.h).
int calibrate_agent(Connection& connection, const char* name, const char* file);

// Prints the values, and where they stand.
int extract(Connection& connection, std::string text, const std::string& settings, bool json);

}  // namespace slmd::client
