// From a name to a connected socket, by way of a proxy where there is one.
#pragma once
#include <unistd.h>

#include <span>
#include <utility>

#include "uplink/config.h"
#include "uplink/wait.h"

namespace slmd::uplink {

class Socket {
  public:
    Socket() = default;
    explicit Socket(int fd) : fd_(fd) {}
    Socket(Socket&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    Socket& operator=(Socket&& o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }
    ~Socket() {
        if (fd_ >= 0) close(fd_);
    }
    int fd() const { return fd_; }

  private:
    int fd_ = -1;
};

// A socket, non-blocking, at whose other end the upstream is. Each address that the name has is tried. Errors:
// not_found (the name), device_io (no address takes a connection; the proxy refuses), deadline, aborted (cut).
Result<Socket> dial(const Upstream& upstream, const Until& until);

// At least one byte, or 0 at the end. Errors: device_io, deadline, aborted.
Result<std::size_t> read_some(int fd, std::span<char> out, const Until& until);
Result<std::size_t> write_some(int fd, std::span<const char> bytes, const Until& until);

// The error of a wait that was not Waited::ready. doing: "reading the answer".
Error waited_in_vain(Waited waited, const char* doing);

}  // namespace slmd::uplink
