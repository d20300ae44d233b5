// What can be found wrong with a configuration without starting: slmd --check-config.
#pragma once
#include "daemon/plan.h"

namespace slmd::daemon {

// Opens the images' indexes, plans, and looks at what the configuration names: serial lines, the socket's folder and
// group. Opens no serial line (that would disturb it), loads nothing, listens on nothing; a running slmd does not
// notice. Writes a line about what slmd would do into out. Errors: incorrect_parameters as "file:line: what and what to
// do"; where an option said it, without file and line.
Result<void> check_config(const Config& config, char* out, std::size_t size);

// The outputs and lines that an agent's tools name are those of the configuration. Errors: not_found, naming the tool.
Result<void> check_tools(const Config& config, const agent::Agent& agent);

// The folder that holds path; "." when it names none.
void folder_of(const char* path, char* out, std::size_t size);

}  // namespace slmd::daemon
