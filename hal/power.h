// The supply, and what the board takes from it. What has no sensor is not_found: nothing is estimated.
#pragma once
#include <cstdint>

#include "base/result.h"

namespace slmd::hal {

class Power {
  public:
    virtual ~Power() = default;
    // The supply's voltage is too low now. Errors: not_found, device_io.
    virtual Result<bool> undervoltage() = 0;
    // Taken since some moment in the past, millionths of a joule; only differences mean something. From a counter
    // (RAPL), or from watts (hwmon, INA over IIO, the Pi 5's PMIC) summed up at each call: call it every second or so
    // while it matters. Errors: not_found, device_io.
    virtual Result<std::uint64_t> microjoules() = 0;
};

}  // namespace slmd::hal
