// How much memory the machine can still give.
#pragma once
#include <cstdint>

namespace slmd {

// MemAvailable in bytes (proc(5)); all ones when the kernel does not say, which refuses nothing.
std::uint64_t available_memory();

}  // namespace slmd
