// Which cores there are and how fast they may run.
#pragma once
#include <span>

#include "base/result.h"

namespace slmd::hal {

struct CoreCluster {
    int first = 0, cores = 0;
    int capacity = 0;   // the kernel's scale, 1024 the fastest; 0: not told
    unsigned midr = 0;  // MIDR_EL1: implementer and part; 0: not told
};

struct Frequency {    // kHz, of the fastest cluster
    int cap = 0;      // what the kernel allows now: lowered by heat, power, or an administrator
    int maximum = 0;  // what the hardware can
};

class Cpu {
  public:
    virtual ~Cpu() = default;
    // Slowest first; returns how many. Errors: device_io.
    virtual Result<int> clusters(std::span<CoreCluster> out) = 0;
    // Errors: not_found (no cpufreq, as in most virtual machines).
    virtual Result<Frequency> frequency() = 0;
};

// "Cortex-A76", or "" for a part that is not known. Source: the Main ID Register's part numbers.
const char* core_name(unsigned midr);

}  // namespace slmd::hal
