#include "daemon/server.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <malloc.h>
#include <signal.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/ioctl.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/log.h"
#include "daemon/sandbox.h"

namespace slmd::daemon {
namespace {

// What an epoll event means: its kind in the upper half, an index in the lower.
enum : std::uint64_t { kind_client = 0, kind_listener = 1, kind_wake = 2, kind_signal = 3, kind_lines = 4, kind_uplink = 5 };
std::uint64_t tag(std::uint64_t kind, int index) { return kind << 32 | static_cast<std::uint32_t>(index); }

Error io(const char* what, const char* name, const char* advice = "") {
    return Error::make(Code::device_io, "%s %s: %s%s", what, name, strerror(errno), advice);
}

sockaddr_un address_of(const char* path) {
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    memcpy(a.sun_path, path, std::min(strlen(path), sizeof a.sun_path - 1));
    return a;
}

}  // namespace

Server::Server(Config& config, const Reread& reread, Service& service, hal::Hardware& hardware, Machine& machine,
               Memory& memory, Notify& notify, int wake, const wire::Identity& identity)
    : config_(config),
      reread_(reread),
      places_(config.clients),
      tty_places_(config.tty_count),
      planned_queue_(config.queue),
      service_(service),
      hardware_(hardware),
      machine_(machine),
      memory_(memory),
      notify_(notify),
      wake_(wake),
      identity_(identity) {
    for (int i = 0; i < places_; i++) memory.clients[i].fd = -1;
}

Server::~Server() {
    for (int i = 0; i < places_; i++)
        if (memory_.clients[i].fd >= 0) end(memory_.clients[i]);
    for (int i = 0; i < listener_count_; i++) {
        if (!listeners_[i].ours) continue;  // systemd's, which another model is served on if this one failed
        close(listeners_[i].fd);
        unlink(config_.socket);
    }
    if (signals_ >= 0) close(signals_);
    if (epoll_ >= 0) close(epoll_);
}

Result<void> Server::watch(int fd, std::uint64_t what, std::uint32_t events) {
    epoll_event e{};
    e.events = events;
    e.data.u64 = what;
    if (epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e) != 0) return io("epoll", "add");
    return {};
}

Result<void> Server::open(const HandedOver& handed_over) {
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    if (epoll_ < 0) return io("epoll", "create");
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    sigaddset(&set, SIGHUP);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) return io("signalfd", "open");
    TRY(watch(signals_, tag(kind_signal, 0), EPOLLIN));
    TRY(watch(wake_, tag(kind_wake, 0), EPOLLIN));
    TRY(watch(machine_.fd(), tag(kind_lines, 0), EPOLLIN));
    if (memory_.uplink.is_configured()) TRY(watch(memory_.uplink.fd(), tag(kind_uplink, 0), EPOLLIN));
    for (int i = 0; i < handed_over.socket_count; i++) {
        const int fd = handed_over.sockets[i];
        int listening = 0;
        socklen_t n = sizeof listening;
        if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listening, &n) != 0 || !listening)
            return Error::make(Code::device_io,
                               "descriptor %d handed over by systemd is not a listening stream socket: use "
                               "ListenStream= in the .socket unit",
                               fd);
        fcntl(fd, F_SETFL, fcntl(fd, F_GETFL) | O_NONBLOCK);  // systemd hands it over blocking
        listeners_[listener_count_++] = {fd, false};
    }
    if (config_.socket[0] != 0 && handed_over.socket_count == 0) TRY(open_socket());
    for (int i = 0; i < listener_count_; i++) TRY(watch(listeners_[i].fd, tag(kind_listener, i), EPOLLIN));
    for (int i = 0; i < config_.tty_count; i++) {
        auto opened = open_tty(i);
        // An adapter that is not plugged in must not keep the other wires away.
        const bool others = listener_count_ > 0 || config_.tty_count > 1;
        if (!opened && (!others || access(config_.ttys[i].path, F_OK) == 0)) return opened;
        if (!opened)
            log(Level::warning, {{"SLMD_EVENT", "tty"}, {"SLMD_TTY", config_.ttys[i].path}},
                "%s; trying again each second", opened.error().text);
    }
    return {};
}

Result<void> Server::open_socket() {
    const char* const path = config_.socket;
    const sockaddr_un address = address_of(path);
    // A file that nobody answers on is a leftover of a daemon that was killed; anything else is not ours to remove.
    struct stat st;
    if (lstat(path, &st) == 0) {
        if (!S_ISSOCK(st.st_mode))
            return Error::make(
                Code::device_io,
                "socket %s: there is a file of that name that is not a socket; remove it or choose another path", path);
        const int probe = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
        const bool answered =
            probe >= 0 &&
            (connect(probe, reinterpret_cast<const sockaddr*>(&address), sizeof address) == 0 || errno != ECONNREFUSED);
        const int e = errno;
        if (probe >= 0) close(probe);
        errno = e;
        if (answered)
            return Error::make(
                Code::device_io,
                "socket %s: another slmd answers there; stop it first (systemctl stop slmd) or choose another path",
                path);
        if (unlink(path) != 0) return io("socket", path, "; the old socket file cannot be removed");
    }
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return io("socket", path);
    listeners_[listener_count_++] = {fd, false};
    const mode_t old = umask(0777);  // nobody may connect before the permissions are right
    const int bound = bind(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address);
    umask(old);
    if (bound != 0)
        return io("socket", path, "; does its folder exist, and may slmd write there? (RuntimeDirectory=slmd)");
    listeners_[listener_count_ - 1].ours = true;
    if (config_.socket_group[0] != 0) {
        const group* g = getgrnam(config_.socket_group);
        if (g == nullptr)
            return Error::make(Code::incorrect_parameters, "socket %s: no group \"%s\"; groupadd --system %s", path,
                               config_.socket_group, config_.socket_group);
        if (chown(path, static_cast<uid_t>(-1), g->gr_gid) != 0)
            return io("socket", path, "; cannot give it to the group");
    }
    if (chmod(path, config_.socket_mode) != 0) return io("socket", path, "; cannot set its mode");
    if (listen(fd, 16) != 0) return io("socket", path);
    return {};
}

Result<void> Server::open_tty(int index) {
    const Config::Tty& t = config_.ttys[index];
    const int fd = TRY(hardware_.serial().open({t.path, t.baud, t.rtscts, t.xonxoff}));
    // The places that were planned for serial lines first: no socket may have them, their lines are shorter.
    int place = 0;
    while (place < places_ && memory_.clients[place].fd >= 0) place++;
    if (place == places_) {
        hardware_.serial().close(fd);
        return Error::make(Code::busy, "serial line %s: all clients' places are taken", t.path);
    }
    tty_client_[index] = place;
    Client& c = client(static_cast<std::uint64_t>(place));
    attach(c, fd, index);
    if (ready_) c.session.greet();
    return {};
}

void Server::attach(Client& c, int fd, int tty) {
    c.fd = fd;
    c.tty = tty;
    c.ended = false;
    c.reading = true, c.writing = false;
    c.in_size = c.in_at = 0;
    wire::SessionOptions o;
    o.tty = tty >= 0;
    o.line = c.line;
    o.reader = memory_.reader;
    o.defaults = &config_.generate;
    o.identity = identity_;
    o.trusted = tty >= 0 ? config_.ttys[tty].trusted : config_.socket_trusted;
    c.session.open(o, service_);
    watch_client(c, true);
    count_clients();
}

void Server::watch_client(Client& c, bool add) {
    epoll_event e{};
    e.events = (c.reading ? EPOLLIN | EPOLLRDHUP : 0u) | (c.writing ? EPOLLOUT : 0u);
    e.data.u64 = tag(kind_client, static_cast<int>(&c - memory_.clients));
    epoll_ctl(epoll_, add ? EPOLL_CTL_ADD : EPOLL_CTL_MOD, c.fd, &e);
}

void Server::count_clients() {
    int n = 0;
    for (int i = 0; i < places_; i++) n += memory_.clients[i].fd >= 0;
    service_.set_clients(n);
}

void Server::accept_from(int fd) {
    for (;;) {
        const int got = accept4(fd, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (got < 0) return;
        Client* place = nullptr;
        for (int i = config_.tty_count; i < config_.clients && place == nullptr; i++)
            if (memory_.clients[i].fd < 0) place = &memory_.clients[i];
        if (place == nullptr) {
            static constexpr char full[] = "+CME ERROR: 262\r\n";
            (void)!send(got, full, sizeof full - 1, MSG_NOSIGNAL | MSG_DONTWAIT);
            close(got);
            continue;
        }
        const int buffer = 16384;  // what a client does not read waits in its own decode, not in the kernel
        setsockopt(got, SOL_SOCKET, SO_SNDBUF, &buffer, sizeof buffer);
        attach(*place, got, -1);
    }
}

// Closing leaves epoll by itself.
void Server::end(Client& c) {
    if (c.tty >= 0)
        hardware_.serial().close(c.fd);
    else
        close(c.fd);
    c.fd = -1;
}

void Server::drop(Client& c) {
    c.session.close();
    end(c);
    if (c.tty >= 0) retry_at_ = now_ + 1000;
    if (c.tty >= 0 && c.tty != leaving_tty) {
        const char* const path = config_.ttys[c.tty].path;
        tty_client_[c.tty] = -1;
        log(Level::warning, {{"SLMD_EVENT", "tty"}, {"SLMD_TTY", path}}, "serial line %s is gone; waiting for it",
            path);
    }
    if (c.tty == leaving_tty) retry_at_ = 0;  // perhaps to be opened otherwise
    count_clients();
}

// Everything that can be done for a client now.
void Server::serve(Client& c) {
    while (c.fd >= 0 && move(c)) {
    }
    if (c.fd < 0) return;
    const bool done = c.ended && c.in_at == c.in_size && !c.session.active() && c.session.output().empty();
    int unsent = 0;  // bytes would be garbled by another rate
    if (done && (c.tty != leaving_tty || ioctl(c.fd, TIOCOUTQ, &unsent) != 0 || unsent == 0)) return drop(c);
    const bool reading = !c.ended && (c.in_at > 0 || c.in_size < sizeof c.in), writing = !c.session.output().empty();
    if (reading != c.reading || writing != c.writing) {
        c.reading = reading, c.writing = writing;
        watch_client(c, false);
    }
}

// One round of read, understand, write; false when nothing moved.
bool Server::move(Client& c) {
    bool moved = false;
    if (c.in_at > 0 && c.in_at == c.in_size) c.in_at = c.in_size = 0;
    if (!c.ended && c.in_size < sizeof c.in) {
        const ssize_t n = read(c.fd, c.in + c.in_size, sizeof c.in - c.in_size);
        if (n > 0) {
            c.in_size += static_cast<std::size_t>(n);
            moved = true;
        } else if (n == 0 && c.tty < 0) {
            c.ended = true;  // it sends no more, but may wait for its answer
            moved = true;
        } else if (n < 0 && errno != EAGAIN && errno != EINTR) {
            drop(c);
            return false;
        }
    }
    if (c.in_at < c.in_size) {
        const std::size_t n = c.session.feed({c.in + c.in_at, c.in_size - c.in_at}, now_);
        c.in_at += n;
        moved |= n > 0;
    }
    c.session.pump(now_);
    for (std::string_view out = c.session.output(); !out.empty(); out = c.session.output()) {
        const ssize_t n =
            c.tty >= 0 ? write(c.fd, out.data(), out.size()) : send(c.fd, out.data(), out.size(), MSG_NOSIGNAL);
        if (n <= 0) {
            if (n < 0 && errno != EAGAIN && errno != EINTR) {
                drop(c);
                return false;
            }
            break;
        }
        c.session.consume(static_cast<std::size_t>(n));
        moved = true;
    }
    return moved;
}

void Server::loaded() {
    char text[288];
    service_.describe(text, sizeof text);
    service_.keep(notify_);
    malloc_trim(0);
    if (auto ok = restrict_calls(config_.trace_sandbox); !ok)
        log(Level::warning, {{"SLMD_EVENT", "sandbox"}}, "%s", ok.error().text);
    // From here on nothing is allocated, but by a reload, which gives it back.
    notify_.send("READY=1\nSTATUS=%s", text);
    log(Level::info, {{"SLMD_EVENT", "ready"}}, "version %s ready: %s", identity_.version, text);
    ready_ = true;
    machine_.set_full(service_.full_threads(), service_.batch());
    for (int i = 0; i < config_.tty_count; i++)
        if (tty_client_[i] >= 0) client(static_cast<std::uint64_t>(tty_client_[i])).session.greet();
}

int Server::missing_ttys() const {
    int n = 0;
    for (int i = 0; i < config_.tty_count; i++) n += tty_client_[i] < 0;
    return n;
}

// An unplugged adapter may come back; a line of a new configuration may not be there yet.
void Server::open_missing_ttys(bool complain) {
    if (now_ < retry_at_) return;
    for (int i = 0; i < config_.tty_count; i++) {
        if (tty_client_[i] >= 0) continue;
        const char* const path = config_.ttys[i].path;
        auto opened = still_leaving(path) ? Result<void>(Error::make(Code::busy, "%s", "")) : open_tty(i);
        if (!opened) retry_at_ = now_ + 1000;
        if (opened)
            log(Level::notice, {{"SLMD_EVENT", "tty"}, {"SLMD_TTY", path}}, "serial line %s is open", path);
        else if (complain && opened.error().text[0] != 0)
            log(Level::warning, {{"SLMD_EVENT", "tty"}, {"SLMD_TTY", path}}, "%s; trying again each second",
                opened.error().text);
    }
}

// A line whose settings changed is opened with the new ones when the answer that it is at has ended.
bool Server::still_leaving(const char* path) const {
    struct stat wanted, open;
    if (stat(path, &wanted) != 0) return false;
    for (int i = 0; i < places_; i++) {
        const Client& c = memory_.clients[i];
        if (c.fd >= 0 && c.tty == leaving_tty && fstat(c.fd, &open) == 0 && open.st_rdev == wanted.st_rdev) return true;
    }
    return false;
}

// Everyone gets a final word, and up to a second to hear it.
void Server::finish_clients() {
    for (int i = 0; i < places_; i++)
        if (memory_.clients[i].fd >= 0) memory_.clients[i].session.stop();
    const std::int64_t until = now_ns() + 1'000'000'000;
    for (bool left = true; left && now_ns() < until;) {
        left = false;
        for (int i = 0; i < places_; i++) {
            Client& c = memory_.clients[i];
            if (c.fd < 0) continue;
            c.ended = true;
            move(c);
            left |= c.fd >= 0 && !c.session.output().empty();
        }
        if (left) usleep(10'000);
    }
}

bool Server::tell_events() {
    wire::Event event;
    bool any = false;
    for (int to = -1; service_.next_drift(event) || memory_.uplink.next_event(event) || machine_.next_event(event, to); any = true, to = -1) {
        for (int i = 0; i < places_; i++) {
            Client& c = memory_.clients[i];
            if (c.fd >= 0 && (to < 0 || to == c.tty)) c.session.notify(event, to >= 0);
        }
    }
    return any;
}

// What the board wants done now; returns how long it can wait, in ms, -1: until something happens.
int Server::board() {
    const int wait = machine_.tick({.loading = !ready_, .busy = ready_ && service_.busy()});
    service_.set_effort(machine_.effort());
    return tell_events() ? 0 : memory_.records.tick(wait);
}

Result<void> Server::run() {
    epoll_event events[32];
    // the two watchdogs, systemd's and the board's, are fed together
    std::uint64_t beat = notify_.watchdog_ms() / 3;
    if (const auto own = static_cast<std::uint64_t>(machine_.watchdog_ms()); own > 0)
        beat = beat == 0 ? own : std::min(beat, own);
    for (;;) {
        now_ = static_cast<std::uint64_t>(now_ns() / 1'000'000);
        if (service_.state() == Service::State::failed) return service_.failure();
        if (!ready_) {
            if (service_.state() == Service::State::ready) {
                loaded();
            } else if (const int percent = service_.loaded_percent();
                       percent / 10 != told_percent_ / 10 || told_percent_ < 0) {
                told_percent_ = percent;
                // a large image from a slow card takes longer than TimeoutStartSec: progress is what counts
                notify_.send("STATUS=Loading the model: %d %%\nEXTEND_TIMEOUT_USEC=120000000", percent);
            }
        }
        if (beat > 0 && now_ >= watchdog_at_ && service_.progressed()) {
            notify_.send("WATCHDOG=1");
            machine_.feed();
            watchdog_at_ = now_ + beat;
        }
        if (reload_ && ready_) {
            reload_ = false;
            reload();
        }
        if (missing_ttys() > 0) open_missing_ttys(false);
        service_.act();
        bool timed = false;
        for (int i = 0; i < places_; i++) {
            Client& c = memory_.clients[i];
            if (c.fd < 0) continue;
            serve(c);
            timed |= c.fd >= 0 && (c.session.wants_time() || c.tty == leaving_tty);
        }
        int wait = board();
        if (timed) wait = wait < 0 ? 100 : std::min(wait, 100);
        if (missing_ttys() > 0) {
            const auto retry = static_cast<int>(std::max<std::uint64_t>(retry_at_, now_ + 1) - now_);
            wait = wait < 0 ? retry : std::min(wait, retry);
        }
        if (beat > 0) wait = wait < 0 ? static_cast<int>(beat) : std::min(wait, static_cast<int>(beat));
        const int n = epoll_wait(epoll_, events, 32, wait);
        if (n < 0 && errno != EINTR) return io("epoll", "wait");
        for (int i = 0; i < n; i++) {
            const std::uint64_t kind = events[i].data.u64 >> 32, index = events[i].data.u64 & 0xffffffff;
            if (kind == kind_wake) {
                std::uint64_t count;
                (void)!read(wake_, &count, sizeof count);
            } else if (kind == kind_uplink) {
                // act() looks at it
            } else if (kind == kind_lines) {
                machine_.edges();
            } else if (kind == kind_listener) {
                accept_from(listeners_[index].fd);
            } else if (kind == kind_signal) {
                signalfd_siginfo which;
                if (read(signals_, &which, sizeof which) == sizeof which && which.ssi_signo == SIGHUP) {
                    reload_ = true;  // when the model is there
                    continue;
                }
                notify_.send("STOPPING=1\nSTATUS=Stopping");
                finish_clients();
                return {};
            } else if (Client& c = client(index); c.fd >= 0 && (events[i].events & (EPOLLHUP | EPOLLERR)) != 0) {
                drop(c);  // gone: what it asked for ends
            }
        }
    }
}

}  // namespace slmd::daemon
