// The board's watchdog: a reset when nobody feeds it. Where systemd owns it (RuntimeWatchdogSec=), leave it alone.
#pragma once
#include "base/result.h"

namespace slmd::hal {

class Watchdog {
  public:
    virtual ~Watchdog() = default;
    // Starts it; seconds: at most what the board can (the BCM2835 of Raspberry Pis: 15). Returns the period that it
    // took. Errors: not_found, busy (systemd has it), device_io.
    virtual Result<int> start(int seconds) = 0;
    virtual Result<void> feed() = 0;
    // Stops it, where the driver lets it be stopped.
    virtual void stop() = 0;
};

}  // namespace slmd::hal
