// slmctl board and slmctl hw record: the hardware of this machine, without slmd.
#pragma once
#include <csignal>
#include <span>
#include <vector>

#include "base/result.h"

namespace slmd::client {

// Prints which board this is and what of its file is found here. name: "" as the device tree says.
Result<void> show_board(const char* folder, const char* name);
// Prints a line a file; 0: all are good, else 1.
int check_boards(std::span<char* const> files);
// Writes a trace to path until interrupted, or for so many seconds. Errors: storage_failure, device_io.
Result<void> record(const char* path, std::span<const char* const> lines, int seconds, const char* folder,
                    const char* name, const volatile std::sig_atomic_t& interrupts);

}  // namespace slmd::client
