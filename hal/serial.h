// Serial lines: raw, 8N1, non-blocking, ours alone. Works on ptys too.
#pragma once
#include <cstdint>

#include "base/result.h"

namespace slmd::hal {

struct SerialConfig {
    const char* path = nullptr;  // "/dev/serial0"
    int baud = 115200;           // 9600 .. 921600
    bool rtscts = false;         // hardware flow control
    bool xonxoff = false;        // flow control by DC3 and DC1 in both directions
};

// Counters of the driver since it was loaded; zeros where it has none (ptys).
struct SerialErrors {
    std::uint32_t frame = 0, overrun = 0, parity = 0, brk = 0;
};

bool serial_baud_ok(int baud);

class Serial {
  public:
    virtual ~Serial() = default;
    // A descriptor. Errors: incorrect_parameters (a rate that is not one of the standard ones); device_io with path,
    // reason and what to do.
    virtual Result<int> open(const SerialConfig& config) = 0;
    // Gives the line back. Exclusive use would outlive us while anyone else has the line open.
    virtual void close(int fd) = 0;
    virtual SerialErrors errors(int fd) const = 0;
};

}  // namespace slmd::hal
