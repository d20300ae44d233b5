// The protocols of systemd that slmd speaks: notification and the descriptor store (sd_notify(3)), and socket activation
// (sd_listen_fds(3)). Written out here, because libsystemd allocates and this must work after READY.
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
    // Keeps a descriptor over a restart, by a name: FileDescriptorStoreMax= in the unit allows it. False when it could
    // not be handed over; true without systemd.
    bool store(int fd, const char* name);
    // Gives up what was kept by this name; when it returns, systemd has let go of it (5 s at most).
    void drop(const char* name);
    // How often the watchdog wants to hear from us, in ms; 0: never.
    std::uint64_t watchdog_ms() const { return watchdog_ms_; }

  private:
    bool send_with(int fd, const char* text);

    int fd_ = -1;
    std::uint64_t watchdog_ms_ = 0;
};

// What systemd hands over: sockets of .socket units, and what store() kept, which is called image-*.
struct HandedOver {
    static constexpr int max_sockets = 16, max_images = 4;
    struct Kept {
        int fd;
        char name[48];
    };
    int sockets[max_sockets];
    int socket_count = 0;
    Kept images[max_images];
    int image_count = 0;
};
HandedOver handed_over();

}  // namespace slmd::daemon
