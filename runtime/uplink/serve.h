// What slm-uplink does for slmd: takes requests from it over a Unix socket, now or later, within the budget, and brings
// the answers. LINES.md has what is said.
#pragma once
#include "base/result.h"
#include "uplink/upstreams.h"

namespace slmd::uplink {

// Until SIGTERM or SIGINT. Errors: incorrect_parameters (no state), those of Outbox::open, memory_full.
Result<void> serve(Upstreams& upstreams);

}  // namespace slmd::uplink
