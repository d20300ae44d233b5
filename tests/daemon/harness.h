// A real slmd in a folder of its own, with a pty as its serial line and a Unix socket.
#pragma once
#include <fcntl.h>
#include <gtest/gtest.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include <chrono>
#include <filesystem>
#include <fstream>
#include <functional>
#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace slmd::testing {

using nlohmann::json;
#if defined(SLMD_SANITIZED)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif
constexpr int patience_ms = 60000;  // nothing here asserts a time; this only ends a test that hangs

inline std::string folder() {
    static const std::string path = [] {
        char name[] = "/tmp/slmd-test-XXXXXX";
        return std::string(mkdtemp(name));
    }();
    return path;
}

inline std::string slurp(const std::string& path) {
    std::ifstream f(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(f), {}};
}

struct Ran {
    int code;
    std::string out, err;
};

// Proportional set size, or a part of it: "Pss_Anon:" is what no other process shares.
inline long pss_kib(pid_t pid, const std::string& part = "Pss:") {
    std::ifstream f("/proc/" + std::to_string(pid) + "/smaps_rollup");
    for (std::string line; std::getline(f, line);)
        if (line.rfind(part, 0) == 0) return std::stol(line.substr(part.size()));
    return -1;
}

// Runs a program to its end.
inline Ran shell(const std::string& command) {
    const std::string out = folder() + "/out", err = folder() + "/err";
    const int rc = std::system(("(" + command + ") >" + out + " 2>" + err + " </dev/null").c_str());
    return {WIFEXITED(rc) ? WEXITSTATUS(rc) : 128 + WTERMSIG(rc), slurp(out), slurp(err)};
}

inline std::string slmd_path() { return std::string(SLMD_BUILD) + "/runtime/daemon/slmd"; }
inline std::string slmctl_path() { return std::string(SLMD_BUILD) + "/runtime/client/slmctl"; }

// The tiny model of this project, packed for this run.
inline const std::string& tiny_image() {
    static const std::string path = [] {
        const std::string image = folder() + "/tiny.slm";
        const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack import " + SLMD_SOURCE + "/models/tiny -o " + image);
        EXPECT_EQ(r.code, 0) << r.err;
        return image;
    }();
    return path;
}

// The same model with an output matrix of its own, so that its embedding is decoded on demand. It says the same.
inline const std::string& untied_image() {
    static const std::string path = [] {
        const std::string from = std::string(SLMD_SOURCE) + "/models/tiny", to = folder() + "/untied",
                          image = to + ".slm";
        std::filesystem::create_directory(to);
        for (const char* file : {"generation_config.json", "tokenizer.json", "tokenizer_config.json"})
            std::filesystem::copy_file(from + "/" + file, to + "/" + file);
        json config = json::parse(slurp(from + "/config.json"));
        config["tie_word_embeddings"] = false;
        std::ofstream(to + "/config.json") << config.dump();
        const std::string weights = slurp(from + "/model.safetensors");
        std::uint64_t size = 0;
        memcpy(&size, weights.data(), sizeof size);
        json header = json::parse(weights.substr(8, size));
        std::string data = weights.substr(8 + size);
        json output = header["model.embed_tokens.weight"];
        const std::size_t begin = output["data_offsets"][0], end = output["data_offsets"][1];
        output["data_offsets"] = {data.size(), data.size() + end - begin};
        data += data.substr(begin, end - begin);
        header["lm_head.weight"] = output;
        const std::string text = header.dump();
        size = text.size();
        std::ofstream(to + "/model.safetensors", std::ios::binary)
            << std::string(reinterpret_cast<const char*>(&size), sizeof size) << text << data;
        const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack import " + to + " -o " + image);
        EXPECT_EQ(r.code, 0) << r.err;
        return image;
    }();
    return path;
}

// The tiny encoder, packed for this run.
inline const std::string& bert_image() {
    static const std::string path = [] {
        const std::string image = folder() + "/bert.slm";
        const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack import " + SLMD_SOURCE +
                            "/tests/pack/bert --kind i8 -o " + image);
        EXPECT_EQ(r.code, 0) << r.err;
        return image;
    }();
    return path;
}

// The tiny model with a context that it was not trained for: what it says there is noise.
inline const std::string& roomy_image() {
    static const std::string path = [] {
        const std::string from = std::string(SLMD_SOURCE) + "/models/tiny", to = folder() + "/roomy",
                          image = to + ".slm";
        std::filesystem::create_directory(to);
        for (const char* file :
             {"generation_config.json", "tokenizer.json", "tokenizer_config.json", "model.safetensors"})
            std::filesystem::copy_file(from + "/" + file, to + "/" + file);
        json config = json::parse(slurp(from + "/config.json"));
        config["max_position_embeddings"] = 2048;
        std::ofstream(to + "/config.json") << config.dump();
        const Ran r = shell(std::string(SLMD_BUILD) + "/slmpack import " + to + " -o " + image);
        EXPECT_EQ(r.code, 0) << r.err;
        return image;
    }();
    return path;
}

// A logit bias that keeps the tiny model talking: its end tokens are forbidden.
inline std::string endless() {
    const json t = json::parse(slurp(std::string(SLMD_SOURCE) + "/models/tiny/tokenizer.json"));
    std::string bias;
    for (const auto& a : t["added_tokens"])
        bias += (bias.empty() ? "" : ",") + std::to_string(a["id"].get<int>()) + ":-100";
    return bias;
}

// One end of a line: a socket, or the master of a pty.
class Wire {
  public:
    explicit Wire(int fd = -1) : fd_(fd) {}
    Wire(Wire&& o) noexcept : fd_(std::exchange(o.fd_, -1)), buffer_(std::move(o.buffer_)) {}
    Wire& operator=(Wire&& o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }
    ~Wire() { close(); }
    void close() {
        if (fd_ >= 0) ::close(fd_);
        fd_ = -1;
    }
    int fd() const { return fd_; }
    void send(const std::string& s) {
        for (std::size_t at = 0; at < s.size();) {
            const ssize_t n = write(fd_, s.data() + at, s.size() - at);
            if (n > 0)
                at += static_cast<std::size_t>(n);
            else if (errno != EAGAIN && errno != EINTR)
                return;
            else {
                pollfd p{fd_, POLLOUT, 0};
                poll(&p, 1, 1000);
            }
        }
    }
    // What has come within timeout_ms, at least one byte; "" on silence or the end.
    std::string some(int timeout_ms = patience_ms) {
        pollfd p{fd_, POLLIN, 0};
        if (poll(&p, 1, timeout_ms) <= 0) return {};
        char b[4096];
        const ssize_t n = read(fd_, b, sizeof b);
        return n > 0 ? std::string(b, static_cast<std::size_t>(n)) : std::string();
    }
    // Everything up to and with the first `end`.
    std::string until(const std::string& end) {
        for (;;) {
            const std::size_t at = buffer_.find(end);
            if (at != std::string::npos) {
                std::string r = buffer_.substr(0, at + end.size());
                buffer_.erase(0, at + end.size());
                return r;
            }
            const std::string more = some();
            if (more.empty()) {
                ADD_FAILURE() << "waited for \"" << end << "\", got \"" << buffer_ << "\"";
                return std::exchange(buffer_, {});
            }
            buffer_ += more;
        }
    }
    json line() {
        const std::string l = until("\n");
        if (!json::accept(l)) {
            ADD_FAILURE() << "not JSON: " << l;
            return {};
        }
        return json::parse(l);
    }
    // The reply with this id; tok notifications are added to text.
    json reply(const json& id, std::string* text = nullptr) {
        for (;;) {
            json l = line();
            if (l.is_null()) return l;
            if (l.contains("method") && text != nullptr && l["params"]["id"] == id)
                *text += l["params"].value("text", "");
            if (!l.contains("method") && l["id"] == id) return l;
        }
    }
    json call(const char* method, json params = json::object(), const json& id = 1) {
        send(json{{"jsonrpc", "2.0"}, {"id", id}, {"method", method}, {"params", std::move(params)}}.dump() + "\n");
        return reply(id);
    }

  private:
    int fd_;
    std::string buffer_;
};

struct DaemonOptions {
    std::vector<std::string> arguments{};
    std::vector<std::string> environment{};  // NAME=VALUE
    std::vector<std::string> before{};       // strace and the like
    bool tty = true;
    std::string image{};
    std::vector<std::pair<std::string, int>> handed_over{};  // by systemd: name and descriptor
    bool comes_up = true;                                    // false: it will not get ready
    bool only_arguments = false;                             // no model and no socket but what they name
};

class Daemon {
  public:
    std::string socket, log;
    Wire tty;

    explicit Daemon(const DaemonOptions& o = {}) {
        static int number = 0;
        socket = folder() + "/" + std::to_string(++number) + ".sock";
        log = folder() + "/" + std::to_string(number) + ".log";
        std::vector<std::string> a = o.before;
        a.push_back(slmd_path());
        if (!o.only_arguments)
            a.insert(a.end(), {"--model", o.image.empty() ? tiny_image() : o.image, "--socket", socket});
        if (o.tty) {
            tty = Wire(posix_openpt(O_RDWR | O_NOCTTY));
            grantpt(tty.fd());
            unlockpt(tty.fd());
            char name[64];
            ptsname_r(tty.fd(), name, sizeof name);
            a.insert(a.end(), {"--tty", name});
            keep_ = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);  // a master without a slave hangs up
            termios t;
            tcgetattr(keep_, &t);
            cfmakeraw(&t);
            tcsetattr(keep_, TCSANOW, &t);
        }
        a.insert(a.end(), o.arguments.begin(), o.arguments.end());
        pid_ = fork();
        if (pid_ == 0) {
            const int fd = open(log.c_str(), O_WRONLY | O_CREAT | O_TRUNC, 0600);
            dup2(fd, 1), dup2(fd, 2);
            for (const auto& e : o.environment) putenv(strdup(e.c_str()));
            hand_over(o.handed_over);
            std::vector<char*> argv;
            for (auto& s : a) argv.push_back(s.data());
            argv.push_back(nullptr);
            execvp(argv[0], argv.data());
            _exit(127);
        }
        if (!o.comes_up) return;
        for (int i = 0; i < patience_ms / 20; i++) {
            if (slurp(log).find("ready:") != std::string::npos) break;
            if (!alive()) break;
            usleep(20'000);
        }
        EXPECT_NE(slurp(log).find("ready:"), std::string::npos) << slurp(log);
        if (o.tty) tty.until("\r\n#READY: 1,\"slmd\",\"0.1.0\"\r\n");
    }
    ~Daemon() {
        if (pid_ > 0) {
            EXPECT_EQ(stop(), 0) << slurp(log);
        }
        if (keep_ >= 0) ::close(keep_);
    }
    pid_t pid() const { return pid_; }
    bool alive() {
        int status;
        if (pid_ > 0 && waitpid(pid_, &status, WNOHANG) == pid_)
            code_ = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status), pid_ = -1;
        return pid_ > 0;
    }
    int wait() {
        while (alive()) usleep(5000);
        return code_;
    }
    int stop() {
        if (pid_ > 0) kill(pid_, SIGTERM);
        return wait();
    }
    Wire connect() const {
        const int fd = ::socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        sockaddr_un a{};
        a.sun_family = AF_UNIX;
        socket.copy(a.sun_path, sizeof a.sun_path - 1);
        EXPECT_EQ(::connect(fd, reinterpret_cast<sockaddr*>(&a), sizeof a), 0) << strerror(errno);
        return Wire(fd);
    }
    std::string answer(const std::string& prompt, json extra = json::object()) const {
        Wire w = connect();
        extra["prompt"] = prompt;
        return w.call("gen", extra)["result"].value("text", "(no text)");
    }

  private:
    static void hand_over(const std::vector<std::pair<std::string, int>>& given) {
        if (given.empty()) return;
        std::string names;
        std::vector<int> high;
        for (const auto& [name, fd] : given) {
            names += (names.empty() ? "" : ":") + name;
            high.push_back(fcntl(fd, F_DUPFD, 100));
        }
        for (std::size_t i = 0; i < high.size(); i++) dup2(high[i], 3 + static_cast<int>(i)), ::close(high[i]);
        setenv("LISTEN_PID", std::to_string(getpid()).c_str(), 1);
        setenv("LISTEN_FDS", std::to_string(given.size()).c_str(), 1);
        setenv("LISTEN_FDNAMES", names.c_str(), 1);
    }

    pid_t pid_ = -1;
    int code_ = -1, keep_ = -1;
};

}  // namespace slmd::testing
