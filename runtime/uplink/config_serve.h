// The part of the configuration that serve needs: where slmd is, what may be spent, what may wait.
#pragma once
#include <string_view>

#include "hal/toml.h"
#include "uplink/config.h"

namespace slmd::uplink {

// Whether the key is one of them. Errors: incorrect_parameters as "file:line: what and what to do".
Result<bool> read_serve(const hal::TomlFile& file, std::string_view key, const toml::node& node, Config& config);

}  // namespace slmd::uplink
