// NAME.calibration beside NAME.toml: what slmctl calibrate found out about an agent, for slmd.
#pragma once
#include <span>

#include "agent/confidence.h"
#include "base/result.h"

namespace slmd::agent {

// The file beside an agent's: of "agents/invoice.toml" and ".calibration", "agents/invoice.calibration". Errors:
// incorrect_parameters for what does not end in .toml; text_too_long.
Result<void> path_beside(const char* agent_path, const char* ending, std::span<char> out);

// Errors: not_found when there is no such file; storage_failure; incorrect_parameters as "file:line: what". out is
// changed only when all is good.
Result<void> read_calibration(const char* path, Calibration& out);
// Whole or not at all; what is read back is the same to the last bit. Errors: storage_failure; invalid_characters for a
// model's name that is not UTF-8.
Result<void> write_calibration(const char* path, const Calibration& calibration);

}  // namespace slmd::agent
