#include "daemon/notify.h"

#include <fcntl.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

namespace slmd::daemon {

void Notify::open() {
    const char* const path = getenv("NOTIFY_SOCKET");
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (path != nullptr && (path[0] == '/' || path[0] == '@') && strlen(path) < sizeof address.sun_path) {
        const size_t n = strlen(path);
        memcpy(address.sun_path, path, n);
        if (path[0] == '@') address.sun_path[0] = 0;  // abstract
        fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        if (fd_ >= 0 && connect(fd_, reinterpret_cast<sockaddr*>(&address),
                                static_cast<socklen_t>(offsetof(sockaddr_un, sun_path) + n)) != 0) {
            close(fd_);
            fd_ = -1;
        }
    }
    const char *const usec = getenv("WATCHDOG_USEC"), *const pid = getenv("WATCHDOG_PID");
    if (fd_ >= 0 && usec != nullptr && (pid == nullptr || strtol(pid, nullptr, 10) == getpid()))
        watchdog_ms_ = strtoull(usec, nullptr, 10) / 1000;
}

Notify::~Notify() {
    if (fd_ >= 0) close(fd_);
}

void Notify::send(const char* format, ...) {
    if (fd_ < 0) return;
    char text[512];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (n > 0)
        (void)!::send(fd_, text, static_cast<size_t>(n) < sizeof text ? static_cast<size_t>(n) : sizeof text - 1,
                      MSG_NOSIGNAL | MSG_DONTWAIT);
}

int listen_fds() {
    const char *const pid = getenv("LISTEN_PID"), *const count = getenv("LISTEN_FDS");
    if (pid == nullptr || count == nullptr || strtol(pid, nullptr, 10) != getpid()) return 0;
    const long given = strtol(count, nullptr, 10);
    const int n = given < 0 ? 0 : given > 16 ? 16 : static_cast<int>(given);
    for (int i = 0; i < n; i++) fcntl(3 + i, F_SETFD, FD_CLOEXEC);
    return n;
}

}  // namespace slmd::daemon
