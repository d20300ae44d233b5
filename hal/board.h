// Which board this is, and its memory.
#pragma once
#include <cstdint>

#include "base/result.h"

namespace slmd::hal {

struct Identity {
    char name[32] = "";        // of the board file
    char model[80] = "";       // as the device tree or the firmware says
    char compatible[64] = "";  // the string by which the board file was found
    char serial[64] = "";
};

struct MemoryState {
    std::uint64_t total = 0, available = 0;  // bytes, of the machine
    std::uint64_t limit = 0;                 // of our control group; 0: none, or no memory controller
    std::uint64_t reserve = 0;               // that the rest of the system needs, as the board file says
    double pressure = -1;  // per cent of the last 10 s in which some task waited for memory (PSI); -1: not told
};

class Board {
  public:
    virtual ~Board() = default;
    virtual Identity identity() = 0;
    // Errors: device_io.
    virtual Result<MemoryState> memory() = 0;
};

}  // namespace slmd::hal
