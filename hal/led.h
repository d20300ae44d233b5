// One LED of the board.
#pragma once
#include "base/result.h"

namespace slmd::hal {

class Led {
  public:
    virtual ~Led() = default;
    // Takes an LED of sysfs by name ("ACT", "green:status") from whatever trigger it has. Errors: not_found,
    // device_io.
    virtual Result<void> take(const char* name) = 0;
    virtual Result<void> set(bool on) = 0;
    // Its trigger again, as it was.
    virtual void give_back() = 0;
};

}  // namespace slmd::hal
