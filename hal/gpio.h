// Lines of the board's GPIO chips, by name.
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"

namespace slmd::hal {

enum class Pull : unsigned char { as_is, up, down, off };

struct LineConfig {
    // "GPIO17" as the kernel names it, "PIN11" as the board file does, "CHIP:OFFSET" with the chip's label, or
    // "GPIO1_C6" as Rockchip does (its chips are labelled gpio0, gpio1, ...)
    const char* name = "";
    bool output = false;      // starts inactive
    bool active_low = false;  // active means a low level
    bool edges = false;       // an input whose changes edges() reports
    Pull pull = Pull::as_is;
};

struct Edge {
    int line;         // as request() numbered it
    bool active;      // what it changed to
    std::int64_t ns;  // CLOCK_MONOTONIC of the interrupt, the hardware clock's in the other back ends
};

// A line that fails with device_io (its chip is gone) is to be released and requested again.
class Gpio {
  public:
    static constexpr int max_lines = 32;
    virtual ~Gpio() = default;
    // Takes a line for us alone; returns its number, below max_lines. Errors: not_found (no such line); busy (another
    // program holds it, with its name); device_io; incorrect_parameters (the chip cannot do it).
    virtual Result<int> request(const LineConfig& config) = 0;
    virtual void release(int line) = 0;
    // Active or not. Errors: device_io.
    virtual Result<bool> get(int line) = 0;
    virtual Result<void> set(int line, bool active) = 0;
    // What has happened since the last call, oldest first; 0: nothing. Errors: device_io, for any line.
    virtual Result<int> edges(std::span<Edge> out) = 0;
    // Readable while edges() has something; for epoll.
    virtual int fd() const = 0;
};

}  // namespace slmd::hal
