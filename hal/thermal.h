// How hot the board is.
#pragma once
#include "base/result.h"

namespace slmd::hal {

class Thermal {
  public:
    virtual ~Thermal() = default;
    // The board's zone, or the hottest where the board file names none; thousandths of a degree Celsius. Errors:
    // not_found (no sensor), device_io.
    virtual Result<int> temperature() = 0;
    // Where the kernel or the firmware begins to slow the board down, same unit. Errors: not_found.
    virtual Result<int> throttle_point() = 0;
};

}  // namespace slmd::hal
