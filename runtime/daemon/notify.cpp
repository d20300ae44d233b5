#include "daemon/notify.h"

#include <fcntl.h>
#include <poll.h>
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

bool Notify::send_with(int fd, const char* text) {
    if (fd_ < 0) return true;
    iovec part{const_cast<char*>(text), strlen(text)};
    alignas(cmsghdr) char control[CMSG_SPACE(sizeof fd)] = {};
    msghdr message{};
    message.msg_iov = &part;
    message.msg_iovlen = 1;
    message.msg_control = control;
    message.msg_controllen = sizeof control;
    cmsghdr* const c = CMSG_FIRSTHDR(&message);
    c->cmsg_level = SOL_SOCKET;
    c->cmsg_type = SCM_RIGHTS;
    c->cmsg_len = CMSG_LEN(sizeof fd);
    memcpy(CMSG_DATA(c), &fd, sizeof fd);
    return sendmsg(fd_, &message, MSG_NOSIGNAL | MSG_DONTWAIT) >= 0;
}

bool Notify::store(int fd, const char* name) {
    char text[96];
    snprintf(text, sizeof text, "FDSTORE=1\nFDNAME=%s", name);
    return send_with(fd, text);
}

void Notify::drop(const char* name) {
    if (fd_ < 0) return;
    send("FDSTOREREMOVE=1\nFDNAME=%s", name);
    // BARRIER=1 (systemd 246): the other end is closed when all before it has been worked off.
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return;
    const bool sent = send_with(ends[1], "BARRIER=1");
    close(ends[1]);
    pollfd p{ends[0], 0, 0};
    if (sent) poll(&p, 1, 5000);
    close(ends[0]);
}

HandedOver handed_over() {
    HandedOver h;
    const char *const pid = getenv("LISTEN_PID"), *const count = getenv("LISTEN_FDS");
    if (pid == nullptr || count == nullptr || strtol(pid, nullptr, 10) != getpid()) return h;
    const long given = strtol(count, nullptr, 10);
    const char* name = getenv("LISTEN_FDNAMES");
    for (int i = 0; i < given && i < h.max_sockets + h.max_images; i++) {
        const int fd = 3 + i;
        const size_t n = name == nullptr ? 0 : strcspn(name, ":");
        fcntl(fd, F_SETFD, FD_CLOEXEC);
        if (n < 6 || strncmp(name, "image-", 6) != 0) {
            if (h.socket_count < h.max_sockets) h.sockets[h.socket_count++] = fd;
        } else if (h.image_count < h.max_images && n < sizeof h.images[0].name) {
            HandedOver::Kept& kept = h.images[h.image_count++];
            kept.fd = fd;
            memcpy(kept.name, name, n);
            kept.name[n] = 0;
        } else {
            close(fd);
        }
        if (name != nullptr) name = name[n] == ':' ? name + n + 1 : nullptr;
    }
    return h;
}

}  // namespace slmd::daemon
