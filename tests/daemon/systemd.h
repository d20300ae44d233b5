// What slmd sees of systemd: the notification socket, the descriptor store, and descriptors handed over.
#pragma once
#include <pthread.h>

#include <atomic>
#include <map>
#include <mutex>
#include <thread>

#include "harness.h"

namespace slmd::testing {

class Systemd {
  public:
    const std::string path;

    Systemd() : path(folder() + "/notify-" + std::to_string(number())) {
        fd_ = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        path.copy(a.sun_path, sizeof a.sun_path - 1);
        EXPECT_EQ(bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a), 0);
        thread_ = std::thread([this] { listen(); });
    }
    ~Systemd() {
        stop_ = true;
        thread_.join();
        close(fd_);
        for (const auto& [name, fd] : stored()) close(fd);
    }
    // Everything that was said since the last call.
    std::vector<std::string> said() {
        const std::lock_guard guard(lock_);
        return std::exchange(messages_, {});
    }
    // Waits for a message with this text; what came before it is gone.
    bool hears(const std::string& text, int timeout_ms = patience_ms) {
        const auto until = std::chrono::steady_clock::now() + std::chrono::milliseconds(timeout_ms);
        do {
            {
                const std::lock_guard guard(lock_);
                for (std::size_t i = 0; i < messages_.size(); i++) {
                    if (messages_[i].find(text) == std::string::npos) continue;
                    last_ = messages_[i];
                    messages_.erase(messages_.begin(), messages_.begin() + static_cast<std::ptrdiff_t>(i) + 1);
                    return true;
                }
            }
            usleep(2000);
        } while (std::chrono::steady_clock::now() < until);
        return false;
    }
    const std::string& last() const { return last_; }
    std::vector<std::pair<std::string, int>> stored() {
        const std::lock_guard guard(lock_);
        return store_;
    }
    // Puts a descriptor into the store, as if slmd had; takes it.
    void put(const std::string& name, int fd) {
        const std::lock_guard guard(lock_);
        store_.emplace_back(name, fd);
    }
    void forget() {
        const std::lock_guard guard(lock_);
        for (const auto& [name, fd] : store_) close(fd);
        store_.clear();
    }
    std::vector<std::string> environment(const std::string& watchdog_usec = "") const {
        std::vector<std::string> e{"NOTIFY_SOCKET=" + path};
        if (!watchdog_usec.empty()) e.push_back("WATCHDOG_USEC=" + watchdog_usec);
        return e;
    }

  private:
    static int number() {
        static int n = 0;
        return ++n;
    }
    void listen() {
        while (!stop_) {
            pollfd p{fd_, POLLIN, 0};
            if (poll(&p, 1, 20) <= 0) continue;
            char text[1024];
            iovec part{text, sizeof text};
            alignas(cmsghdr) char control[256];
            msghdr m{};
            m.msg_iov = &part, m.msg_iovlen = 1;
            m.msg_control = control, m.msg_controllen = sizeof control;
            const ssize_t n = recvmsg(fd_, &m, MSG_CMSG_CLOEXEC);
            if (n <= 0) continue;
            int fd = -1;
            for (cmsghdr* c = CMSG_FIRSTHDR(&m); c != nullptr; c = CMSG_NXTHDR(&m, c))
                if (c->cmsg_type == SCM_RIGHTS) memcpy(&fd, CMSG_DATA(c), sizeof fd);
            receive(std::string(text, static_cast<std::size_t>(n)), fd);
        }
    }
    void receive(const std::string& text, int fd) {
        std::map<std::string, std::string> fields;
        std::istringstream lines(text);
        for (std::string l; std::getline(lines, l);) fields[l.substr(0, l.find('='))] = l.substr(l.find('=') + 1);
        const std::lock_guard guard(lock_);
        messages_.push_back(text);
        if (fields.count("FDSTORE") != 0 && fd >= 0) {
            struct stat given, have;
            fstat(fd, &given);
            for (const auto& [name, other] : store_)
                if (fstat(other, &have) == 0 && have.st_ino == given.st_ino && have.st_dev == given.st_dev) {
                    close(fd);  // as systemd: once is enough
                    return;
                }
            store_.emplace_back(fields["FDNAME"], std::exchange(fd, -1));
        }
        if (fields.count("FDSTOREREMOVE") != 0)
            for (std::size_t i = store_.size(); i-- > 0;)
                if (store_[i].first == fields["FDNAME"]) {
                    close(store_[i].second);
                    store_.erase(store_.begin() + static_cast<std::ptrdiff_t>(i));
                }
        if (fd >= 0) close(fd);  // BARRIER=1, too
    }

    int fd_;
    std::thread thread_;
    std::atomic<bool> stop_{false};
    std::mutex lock_;
    std::vector<std::string> messages_;
    std::vector<std::pair<std::string, int>> store_;
    std::string last_;
};

}  // namespace slmd::testing
