// slmctl calibrate: how sure the answers of an agent are, from those that somebody judged.
#pragma once
#include <stdio.h>

#include <functional>
#include <string_view>

#include "agent/calibrate.h"
#include "base/result.h"

namespace slmd::client {

// Gives the next judged answer; false: there are no more. Its errors end the calibration.
using NextExample = std::function<Result<bool>(agent::Example&)>;

// Takes all judged answers, prints what they show, and writes NAME.svg and NAME.calibration beside the agent's
// NAME.toml: those that are there stay until all is well. The agent's hash is that of the file before the first answer.
// model: as slmd names it. Errors: those of `next`, of agent::fit and of agent::path_beside; storage_failure;
// text_too_long.
Result<void> calibrate(const char* agent_path, std::string_view model, const NextExample& next, FILE* out);

}  // namespace slmd::client
