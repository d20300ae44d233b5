#include "client/connection.h"

#include <errno.h>
#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

namespace slmd::client {

Connection::Connection(Connection&& o) noexcept
    : fd_(std::exchange(o.fd_, -1)),
      machine_(std::move(o.machine_)),
      name_(std::move(o.name_)),
      pending_(std::move(o.pending_)) {}

Connection::~Connection() {
    if (fd_ < 0) return;
    if (machine_ != nullptr)
        machine_->serial().close(fd_);
    else
        close(fd_);
}

Result<Connection> Connection::open(const Address& address) {
    Connection c;
    if (!address.tty.empty()) {
        c.name_ = address.tty;
        auto root = hal::Root::open();
        if (!root) return root.error();
        c.machine_ = TRY(hal::open_linux(std::move(root).value(), {}));
        c.fd_ = TRY(c.machine_->serial().open({address.tty.c_str(), address.baud}));
        // Whatever was typed or is running there ends; no echo from here on.
        TRY(c.send("\x1b\r"));
        TRY(c.send("ATE0\r"));
        for (std::string line;;) {
            if (TRY(c.receive(line, 1000)) != Got::line)
                return Error::make(Code::device_io,
                                   "%s: slmd does not answer; is it configured for this line, and for %d baud?",
                                   address.tty.c_str(), address.baud);
            if (line == "OK") break;
        }
        return c;
    }
    c.name_ = address.socket;
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    if (address.socket.size() >= sizeof a.sun_path)
        return Error::make(Code::device_io, "socket path %s is too long", address.socket.c_str());
    memcpy(a.sun_path, address.socket.data(), address.socket.size());
    c.fd_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (c.fd_ < 0 || connect(c.fd_, reinterpret_cast<sockaddr*>(&a), sizeof a) != 0) {
        const char* const advice = errno == EACCES ? "are you in the socket's group? ls -l shows it"
                                                   : "is slmd running? systemctl status slmd";
        return Error::make(Code::device_io, "cannot connect to %s: %s: %s", address.socket.c_str(), strerror(errno),
                           advice);
    }
    return c;
}

Result<void> Connection::send(std::string_view bytes) {
    while (!bytes.empty()) {
        const ssize_t n =
            tty() ? write(fd_, bytes.data(), bytes.size()) : ::send(fd_, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n > 0) {
            bytes.remove_prefix(static_cast<std::size_t>(n));
            continue;
        }
        if (n < 0 && errno == EAGAIN) {
            pollfd p{fd_, POLLOUT, 0};
            poll(&p, 1, 1000);
        } else if (n < 0 && errno != EINTR) {
            return Error::make(Code::device_io, "%s: %s; slmd has gone", name_.c_str(), strerror(errno));
        }
    }
    return {};
}

Result<Connection::Got> Connection::receive(std::string& line, int timeout_ms) {
    for (;;) {
        const std::size_t end = pending_.find('\n');
        if (end != std::string::npos) {
            line = pending_.substr(0, end);
            pending_.erase(0, end + 1);
            while (!line.empty() && line.back() == '\r') line.pop_back();
            line.erase(0, std::min(line.find_first_not_of('\r'), line.size()));
            if (line.empty()) continue;
            return Got::line;
        }
        pollfd p{fd_, POLLIN, 0};
        const int ready = poll(&p, 1, timeout_ms);
        if (ready < 0 && errno == EINTR) return Got::interrupted;
        if (ready == 0) return Got::timeout;
        char buffer[4096];
        const ssize_t n = read(fd_, buffer, sizeof buffer);
        if (n > 0)
            pending_.append(buffer, static_cast<std::size_t>(n));
        else if (n == 0 || (errno != EAGAIN && errno != EINTR))
            return Error::make(Code::device_io, "%s: the connection ended; systemctl status slmd tells why",
                               name_.c_str());
    }
}

}  // namespace slmd::client
