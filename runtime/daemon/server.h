// The event loop: all input and output of slmd, in one thread.
#pragma once
#include "daemon/notify.h"
#include "daemon/service.h"
#include "hal/hardware.h"

namespace slmd::daemon {

// How the configuration is read again: into fresh, which is as at the start of the program before.
struct Reread {
    Result<void> (*read)(void* context, Config& fresh);
    void* context;
    Config* fresh;
};

class Server {
  public:
    Server(Config& config, const Reread& reread, Service& service, hal::Hardware& hardware, Machine& machine,
           Memory& memory, Notify& notify, int wake, const wire::Identity& identity);
    Server(const Server&) = delete;
    ~Server();
    // Opens every wire. Errors: device_io, storage_failure, each with what to do.
    Result<void> open(const HandedOver& handed_over);
    // Until SIGTERM or SIGINT. Errors: the model's, and device_io when the loop itself fails.
    Result<void> run();

  private:
    struct Listener {
        int fd = -1;
        bool ours = false;  // the file goes with us
    };
    static constexpr int max_listeners = 17;
    static constexpr int leaving_tty = Config::max_ttys;  // a serial line that is not configured any more

    Result<void> open_socket();
    Result<void> open_tty(int index);
    Result<void> watch(int fd, std::uint64_t what, std::uint32_t events);
    void accept_from(int fd);
    void attach(Client& c, int fd, int tty);
    void serve(Client& c);
    bool move(Client& c);
    void watch_client(Client& c, bool add);
    void end(Client& c);
    void drop(Client& c);
    void loaded();
    void reload();
    void change_ttys(const Config& fresh);
    Result<void> set_permissions(const Config& fresh) const;
    void open_missing_ttys(bool complain);
    bool still_leaving(const char* path) const;
    int missing_ttys() const;
    void finish_clients();
    void count_clients();
    bool tell_events();
    int board();
    Client& client(std::uint64_t i) { return memory_.clients[i]; }

    Config& config_;
    const Reread reread_;
    const int places_, tty_places_, planned_queue_;  // what the memory was laid out for
    Service& service_;
    hal::Hardware& hardware_;
    Machine& machine_;
    Memory& memory_;
    Notify& notify_;
    const int wake_;
    wire::Identity identity_;
    int epoll_ = -1, signals_ = -1;
    bool ready_ = false, reload_ = false;
    int tty_client_[Config::max_ttys] = {-1, -1, -1, -1};  // which client has a serial line
    int told_percent_ = -1;
    std::uint64_t now_ = 0, watchdog_at_ = 0, retry_at_ = 0;
    Listener listeners_[max_listeners];
    int listener_count_ = 0;
};

}  // namespace slmd::daemon
