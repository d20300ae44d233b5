#include "uplink/dial.h"

#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <signal.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/wait.h>

#include <cerrno>
#include <cstdio>

#include "uplink/http.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

struct Address {  // goes through a pipe as it is: no padding
    std::uint64_t size;
    sockaddr_storage address;
};

struct Addresses {
    static constexpr int most = 8;
    int failure = 0, count = 0;
    Address list[most] = {};
};

void resolve(const char* host, const char* port, int flags, Addresses& out) {
    addrinfo hints{};
    hints.ai_socktype = SOCK_STREAM;
    hints.ai_flags = AI_NUMERICSERV | flags;
    addrinfo* found = nullptr;
    out.failure = getaddrinfo(host, port, &hints, &found);
    if (out.failure != 0) return;
    for (const addrinfo* a = found; a != nullptr && out.count < Addresses::most; a = a->ai_next) {
        if (a->ai_addrlen > sizeof(sockaddr_storage)) continue;
        Address& to = out.list[out.count++];
        to = {a->ai_addrlen, {}};
        memcpy(&to.address, a->ai_addr, a->ai_addrlen);
    }
    freeaddrinfo(found);
}

// getaddrinfo has no time limit of its own that could be relied on, and cannot be cancelled. So a child of this process
// asks, which can: what NSS modules it loads, and what they leave behind, goes with it.
Result<void> look_up(const char* host, const char* port, const Until& until, Addresses& out) {
    resolve(host, port, AI_NUMERICHOST, out);
    if (out.failure == 0) return {};
    int ends[2];
    if (pipe2(ends, O_CLOEXEC) != 0) return Error::make(Code::device_io, "pipe: %s", strerror(errno));
    Socket in(ends[0]);
    const pid_t parent = getpid(), child = fork();
    if (child == 0) {
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        if (getppid() != parent) _exit(1);
        Addresses answer;
        resolve(host, port, AI_ADDRCONFIG, answer);
        // Less than PIPE_BUF: at once or not at all.
        static_assert(sizeof answer <= 4096);
        _exit(write(ends[1], &answer, sizeof answer) == sizeof answer ? 0 : 1);
    }
    close(ends[1]);
    if (child < 0) return Error::make(Code::device_io, "fork: %s", strerror(errno));
    const Waited waited = wait_for(in.fd(), POLLIN, until);
    bool whole = false;
    if (waited == Waited::ready) whole = read(in.fd(), &out, sizeof out) == sizeof out;
    kill(child, SIGKILL);
    while (waitpid(child, nullptr, 0) < 0 && errno == EINTR) {
    }
    char doing[300];
    std::snprintf(doing, sizeof doing, "looking up %.200s", host);
    if (waited != Waited::ready) return waited_in_vain(waited, doing);
    if (!whole) return Error::make(Code::device_io, "looking up %.100s: the resolver failed", host);
    if (out.failure != 0) return Error::make(Code::not_found, "looking up %.100s: %s", host, gai_strerror(out.failure));
    return {};
}

Result<Socket> connect_one(const Address& a, const Until& until, const char* doing) {
    Socket s(socket(a.address.ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0));
    const auto failed = [&](int reason) { return Error::make(Code::device_io, "%s: %s", doing, strerror(reason)); };
    if (s.fd() < 0) return failed(errno);
    const int one = 1;
    setsockopt(s.fd(), IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(s.fd(), reinterpret_cast<const sockaddr*>(&a.address), static_cast<socklen_t>(a.size)) == 0) return s;
    if (errno != EINPROGRESS) return failed(errno);
    if (const Waited w = wait_for(s.fd(), POLLOUT, until); w != Waited::ready) return waited_in_vain(w, doing);
    int reason = 0;
    socklen_t size = sizeof reason;
    getsockopt(s.fd(), SOL_SOCKET, SO_ERROR, &reason, &size);
    if (reason != 0) return failed(reason);
    return s;
}

Result<void> connect_through(const Socket& s, const Upstream& u, const Until& until) {
    const bool v6 = strchr(u.host, ':') != nullptr;
    char request[700];
    const int n =
        std::snprintf(request, sizeof request, "CONNECT %s%s%s:%u HTTP/1.1\r\nHost: %s%s%s:%u\r\n\r\n", v6 ? "[" : "",
                      u.host, v6 ? "]" : "", u.port, v6 ? "[" : "", u.host, v6 ? "]" : "", u.port);
    for (std::span<const char> left(request, static_cast<std::size_t>(n)); !left.empty();)
        left = left.subspan(TRY(write_some(s.fd(), left, until)));
    static_assert(sizeof request > 2 * sizeof u.host + 64);
    ResponseParser parser(ResponseParser::Of::connect);
    char buffer[2048];
    while (!parser.head_done()) {
        const std::size_t got = TRY(read_some(s.fd(), buffer, until));
        if (got == 0) return Error::make(Code::device_io, "proxy %.100s ended the connection", u.proxy_host);
        std::string_view in(buffer, got);
        TRY(parser.head(in));
        if (parser.head_done() && parser.status() / 100 == 2 && !in.empty())
            return Error::make(Code::device_io, "proxy %.100s speaks before the server does", u.proxy_host);
    }
    if (parser.status() / 100 == 2) return {};
    if (parser.status() == 407)
        return Error::make(Code::not_permitted, "proxy %.100s asks for a password (407), which slm-uplink has none of",
                           u.proxy_host);
    return Error::make(Code::device_io, "proxy %.60s refuses to connect to %.60s:%u: status %d", u.proxy_host, u.host,
                       u.port, parser.status());
}

}  // namespace

Error waited_in_vain(Waited waited, const char* doing) {
    if (waited == Waited::cut) return Error::make(Code::aborted, "%s: the uplink was cut", doing);
    return Error::make(Code::deadline, "%s: nothing happened in time", doing);
}

Result<std::size_t> read_some(int fd, std::span<char> out, const Until& until) {
    for (;;) {
        const ssize_t n = recv(fd, out.data(), out.size(), 0);
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return Error::make(Code::device_io, "reading: %s", strerror(errno));
        if (const Waited w = wait_for(fd, POLLIN, until); w != Waited::ready) return waited_in_vain(w, "reading");
    }
}

Result<std::size_t> write_some(int fd, std::span<const char> bytes, const Until& until) {
    for (;;) {
        const ssize_t n = send(fd, bytes.data(), bytes.size(), MSG_NOSIGNAL);
        if (n >= 0) return static_cast<std::size_t>(n);
        if (errno == EINTR) continue;
        if (errno != EAGAIN) return Error::make(Code::device_io, "sending: %s", strerror(errno));
        if (const Waited w = wait_for(fd, POLLOUT, until); w != Waited::ready) return waited_in_vain(w, "sending");
    }
}

Result<Socket> dial(const Upstream& u, const Until& until) {
    const bool proxied = u.proxy_host[0] != 0;
    const char* const host = proxied ? u.proxy_host : u.host;
    char port[8], doing[160];
    std::snprintf(port, sizeof port, "%u", proxied ? u.proxy_port : u.port);
    std::snprintf(doing, sizeof doing, "connecting to %s%.100s:%s", proxied ? "proxy " : "", host, port);
    Addresses found;
    TRY(look_up(host, port, until.step(u.timeouts.dns), found));
    Result<Socket> s = Error::make(Code::not_found, "%s: the name has no address", doing);
    for (int i = 0; i < found.count; i++) {
        s = connect_one(found.list[i], until.step(u.timeouts.connect), doing);
        if (s || s.error().code == Code::aborted) break;
    }
    if (s && proxied) TRY(connect_through(*s, u, until.step(u.timeouts.handshake)));
    return s;
}

}  // namespace slmd::uplink
