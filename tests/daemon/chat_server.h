// A server of the chat/completions API that says what it is told to, and keeps what it was asked.
#pragma once
#include <arpa/inet.h>
#include <netinet/in.h>
#include <sys/socket.h>
#include <unistd.h>

#include <atomic>
#include <functional>
#include <mutex>
#include <nlohmann/json.hpp>
#include <string>
#include <thread>
#include <vector>

namespace slmd::testing {

class ChatServer {
  public:
    struct Asked {
        std::string head;
        nlohmann::json body;
        std::string raw;  // the body as it came
    };
    // The answer to a request; "": the connection is closed without one.
    std::function<std::string(const Asked&)> answer = [](const Asked&) { return std::string("yes"); };
    int status = 200;

    ChatServer() {
        fd_ = ::socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_in a{};
        a.sin_family = AF_INET;
        a.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        socklen_t n = sizeof a;
        bind(fd_, reinterpret_cast<sockaddr*>(&a), sizeof a);
        listen(fd_, 16);
        getsockname(fd_, reinterpret_cast<sockaddr*>(&a), &n);
        port = ntohs(a.sin_port);
        thread_ = std::thread([this] { run(); });
    }
    ~ChatServer() {
        stop_ = true;
        ::shutdown(fd_, SHUT_RDWR);
        thread_.join();
        ::close(fd_);
    }
    int port = 0;
    std::vector<Asked> asked() {
        const std::lock_guard guard(lock_);
        return asked_;
    }
    int connections() const { return connections_; }

  private:
    void run() {
        while (!stop_) {
            const int c = accept4(fd_, nullptr, nullptr, SOCK_CLOEXEC);
            if (c < 0) break;
            connections_++;
            serve(c);
            ::close(c);
        }
    }
    void serve(int c) {
        std::string in;
        char b[4096];
        for (;;) {
            const std::size_t end = in.find("\r\n\r\n");
            std::size_t length = 0;
            if (end != in.npos) {
                std::string head = in.substr(0, end);
                for (char& x : head) x = static_cast<char>(tolower(x));
                const std::size_t at = head.find("content-length:");
                length = at == head.npos ? 0 : std::stoul(head.substr(at + 15));
            }
            if (end != in.npos && in.size() >= end + 4 + length) {
                Asked a{in.substr(0, end + 4), {}, in.substr(end + 4, length)};
                a.body = nlohmann::json::parse(a.raw, nullptr, false);
                std::function<std::string(const Asked&)> how;
                {
                    const std::lock_guard guard(lock_);
                    asked_.push_back(a);
                    how = answer;
                }
                const std::string text = how(a);
                if (text.empty()) return;
                const std::string body =
                    status != 200 ? "{\"error\":{\"message\":\"" + text + "\"}}"
                                  : nlohmann::json{{"model", "stub-1"},
                                                   {"choices",
                                                    {{{"index", 0},
                                                      {"finish_reason", "stop"},
                                                      {"message", {{"role", "assistant"}, {"content", text}}}}}},
                                                   {"usage", {{"prompt_tokens", 100}, {"completion_tokens", 20}}}}
                                        .dump();
                const std::string out =
                    "HTTP/1.1 " + std::to_string(status) +
                    " X\r\nContent-Type: application/json\r\nConnection: close\r\nContent-Length: " +
                    std::to_string(body.size()) + "\r\n\r\n" + body;
                (void)!send(c, out.data(), out.size(), MSG_NOSIGNAL);
                return;
            }
            const ssize_t n = recv(c, b, sizeof b, 0);
            if (n <= 0) return;
            in.append(b, static_cast<std::size_t>(n));
        }
    }

    int fd_ = -1;
    std::atomic<bool> stop_{false};
    std::atomic<int> connections_{0};
    std::mutex lock_;
    std::vector<Asked> asked_;
    std::thread thread_;
};

}  // namespace slmd::testing
