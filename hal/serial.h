// A serial line: raw, 8N1, non-blocking, ours alone. Works on ptys too.
#pragma once
#include <cstdint>
#include <utility>

#include "base/result.h"

namespace slmd::hal {

struct SerialConfig {
    const char* path = nullptr;  // "/dev/serial0"
    int baud = 115200;           // 9600 .. 921600
    bool rtscts = false;         // hardware flow control
};

// Counters of the driver since it was loaded; zeros where it has none (ptys).
struct SerialErrors {
    std::uint32_t frame = 0, overrun = 0, parity = 0, brk = 0;
};

bool serial_baud_ok(int baud);

class Serial {
  public:
    // Errors: incorrect_parameters (a rate that is not one of the standard ones), device_io with path, reason and what
    // to do.
    static Result<Serial> open(const SerialConfig& config);
    Serial(Serial&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    Serial& operator=(Serial&& o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }
    ~Serial();
    int fd() const { return fd_; }
    // The descriptor without its owner; close() it.
    int release() { return std::exchange(fd_, -1); }
    // Gives the line back. Exclusive use would outlive us while anyone else has the line open.
    static void close(int fd);
    SerialErrors errors() const;

  private:
    explicit Serial(int fd) : fd_(fd) {}
    int fd_;
};

}  // namespace slmd::hal
