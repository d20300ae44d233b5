// A line to slmd: Unix socket or serial line, whole lines in, whole lines out.
#pragma once
#include <string>

#include "base/result.h"
#include "hal/hardware.h"

namespace slmd::client {

struct Address {
    std::string socket;  // path; or
    std::string tty;     // device
    int baud = 115200;
};

class Connection {
  public:
    // Errors: device_io with what to do.
    static Result<Connection> open(const Address& address);
    Connection(Connection&& o) noexcept;
    Connection& operator=(Connection&&) = delete;
    ~Connection();
    bool tty() const { return machine_ != nullptr; }
    Result<void> send(std::string_view bytes);
    enum class Got { line, timeout, interrupted };
    // The next line, without its end. Errors: device_io when slmd has gone.
    Result<Got> receive(std::string& line, int timeout_ms);

  private:
    Connection() = default;
    int fd_ = -1;
    std::unique_ptr<hal::Hardware> machine_;  // when it is a serial line
    std::string name_, pending_;
};

}  // namespace slmd::client
