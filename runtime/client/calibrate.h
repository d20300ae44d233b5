// slmctl calibrate: how sure the answers of an agent are, from those that somebody judged.
#pragma once
#include <stdio.h>

#include <functional>
#include <string_view>

#include "agent/calibrate.h"
#include "base/result.h"

namespace slmd::client {

// Gives the next judged answer; false: there are no more. Its errors end the calibration.
using NextSample = std::function<Result<bool>(agent::Sample&)>;

// Takes all judged answers, prints what they show, and writes NAME.svg and NAME.calibration beside the agent's
// NAME.toml: those that are there stay until all is well. sha256: of the text of the agent that slmd has, in hex;
// model: as slmd names it; adapter_sha256: of the agent's adapter, as slmd says it, "" without one. Errors: not_allowed
// when the file is another one by now; those of `next`, of agent::fit and of agent::path_beside; storage_failure;
// text_too_long.
Result<void> calibrate(const char* agent_path, std::string_view sha256, std::string_view model,
                       std::string_view adapter_sha256, const NextSample& next, FILE* out);

}  // namespace slmd::client
