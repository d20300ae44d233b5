// What a running slmd takes from a configuration that has been read again (SIGHUP), and what it cannot.
#pragma once
#include "daemon/config.h"

namespace slmd::daemon {

// Names what differs and holds only after a restart, as in the file: "model, [engine] slots"; "" when nothing does.
// clients, queue: what the memory was planned for.
void needs_restart(const Config& now, const Config& fresh, int clients, int queue, char* out, std::size_t size);

// The line of `config` with this path, or -1.
int find_tty(const Config& config, const char* path);
bool same_tty(const Config::Tty& a, const Config::Tty& b);

}  // namespace slmd::daemon
