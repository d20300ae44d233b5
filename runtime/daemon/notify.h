// The two protocols of systemd that slmd speaks: notification (sd_notify(3)) and socket activation (sd_listen_fds(3)).
// Written out here, because libsystemd allocates and this must work after READY.
#pragma once
#include <cstdint>

namespace slmd::daemon {

class Notify {
  public:
    // Reads NOTIFY_SOCKET, WATCHDOG_USEC, WATCHDOG_PID and opens the socket. Without systemd everything below does
    // nothing.
    void open();
    ~Notify();
    [[gnu::format(printf, 2, 3)]] void send(const char* format, ...);
    // How often the watchdog wants to hear from us, in ms; 0: never.
    std::uint64_t watchdog_ms() const { return watchdog_ms_; }

  private:
    int fd_ = -1;
    std::uint64_t watchdog_ms_ = 0;
};

// Number of descriptors handed over; they are 3, 4, ...
int listen_fds();

}  // namespace slmd::daemon
