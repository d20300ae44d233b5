// The event loop: all input and output of slmd, in one thread.
#pragma once
#include "daemon/notify.h"
#include "daemon/service.h"

namespace slmd::daemon {

class Server {
  public:
    Server(const Config& config, Service& service, Memory& memory, Notify& notify, int wake,
           const wire::Identity& identity);
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
    void finish_clients();
    void count_clients();
    Client& client(std::uint64_t i) { return memory_.clients[i]; }

    const Config& config_;
    Service& service_;
    Memory& memory_;
    Notify& notify_;
    const int wake_;
    wire::Identity identity_;
    int epoll_ = -1, signals_ = -1;
    bool ready_ = false;
    int told_percent_ = -1;
    std::uint64_t now_ = 0, watchdog_at_ = 0, retry_at_ = 0;
    Listener listeners_[max_listeners];
    int listener_count_ = 0;
};

}  // namespace slmd::daemon
