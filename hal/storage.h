// What a folder lies on.
#pragma once
#include <cstdint>

#include "base/result.h"

namespace slmd::hal {

struct Volume {
    std::uint64_t free = 0, total = 0;  // bytes
    bool read_only = false;
    char kind[8] = "";  // "sd", "emmc", "nvme", "usb", "disk", "memory"; "": not known
    int worn = -1;      // per cent of its life used, as an eMMC tells; -1: not told
};

class Storage {
  public:
    virtual ~Storage() = default;
    // Errors: not_found, device_io.
    virtual Result<Volume> volume(const char* folder) = 0;
};

}  // namespace slmd::hal
