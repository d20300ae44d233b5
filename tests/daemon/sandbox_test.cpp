// What slmd cannot do, tried from inside it; and that it does not need more than it may.
#include <sys/stat.h>
#include <sys/syscall.h>

#include <map>
#include <regex>
#include <set>

#include "systemd.h"

using namespace slmd::testing;

namespace {

constexpr const char* france = "What is the capital of France?";
constexpr const char* no_filter = "AddressSanitizer needs calls that slmd refuses: run this test in the release build";

long landlock_abi() { return syscall(444, nullptr, 0, 1); }

// All that it does in a working life: both wires, a reload, its state, a serial line that comes and goes.
void work_out(Daemon& d, Systemd& systemd, const std::string& link) {
    Wire w = d.connect();
    w.send(json{{"jsonrpc", "2.0"},
                {"id", 1},
                {"method", "gen"},
                {"params", {{"prompt", france}, {"stream", true}, {"progress", true}}}}
               .dump() +
           "\n");
    std::string text;
    w.reply(1, &text);
    EXPECT_NE(text.find("Paris"), std::string::npos);
    for (const char* method : {"stat", "plan", "help", "rpc.discover", "ctx", "model", "info", "set"}) w.call(method);
    for (int i = 0; i < 2; i++) {  // two different masters: unplugged, another one plugged in
        Wire master(posix_openpt(O_RDWR | O_NOCTTY));
        grantpt(master.fd()), unlockpt(master.fd());
        char name[64];
        ptsname_r(master.fd(), name, sizeof name);
        const int slave = open(name, O_RDWR | O_NOCTTY | O_CLOEXEC);
        termios t;
        tcgetattr(slave, &t);
        cfmakeraw(&t);
        tcsetattr(slave, TCSANOW, &t);
        std::filesystem::create_symlink(name, link);
        master.until("\r\n#READY: 1,\"slmd\",\"0.1.0\"\r\n");
        master.send(std::string("ATE0\rAT#GEN=\"") + france + "\"\r");
        master.until("#GEN: \"stop\"");
        std::filesystem::remove(link);
        close(slave);
        master.close();
        for (int n = 0; n < 1000 && slurp(d.log).find("is gone; waiting for it") == std::string::npos; n++)
            usleep(5000);
        kill(d.pid(), SIGHUP);
        EXPECT_TRUE(systemd.hears("RELOADING=1"));
        EXPECT_TRUE(systemd.hears("READY=1"));
    }
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
}

struct Configured {
    std::string state = folder() + "/sandbox-state", link = folder() + "/sandbox-tty",
                file = folder() + "/sandbox.toml", runtime = folder() + "/sandbox-run";
    Configured() {
        std::filesystem::create_directory(state);
        std::filesystem::create_directory(runtime);
        std::ofstream(file) << "model = \"" << tiny_image() << "\"\nstate = \"" << state << "\"\n[socket]\npath = \""
                            << runtime << "/s\"\nmode = \"0600\"\n";
    }
    // A line that a reload adds.
    void with_tty() const { std::ofstream(file, std::ios::app) << "[[tty]]\npath = \"" << link << "\"\n"; }
};

// From the start through a reload that brings a serial line to a workout.
void live(Daemon& d, Systemd& systemd, const Configured& c) {
    d.socket = c.runtime + "/s";
    EXPECT_TRUE(systemd.hears("READY=1"));
    c.with_tty();
    kill(d.pid(), SIGHUP);
    EXPECT_TRUE(systemd.hears("RELOADING=1"));
    EXPECT_TRUE(systemd.hears("READY=1"));
    work_out(d, systemd, c.link);
}

}  // namespace

TEST(Sandbox, what_slmd_must_not_do_is_refused_inside_it) {
    if (sanitized) GTEST_SKIP() << no_filter;
    const Configured c;
    const std::string image = folder() + "/probed.slm", go = folder() + "/probe-go", outside = folder() + "/outside";
    std::filesystem::create_directory(outside);
    std::filesystem::copy_file(tiny_image(), image);
    const std::string before = slurp(image);
    for (const bool trace : {false, true}) {
        std::filesystem::remove(go);
        int report[2];
        ASSERT_EQ(pipe2(report, O_CLOEXEC), 0);
        ASSERT_EQ(fcntl(report[1], F_DUPFD, 70), 70);
        std::vector<std::string> arguments{"--config", c.file};
        if (trace) arguments.push_back("--trace-sandbox");
        Daemon d({.arguments = arguments,
                  .environment = {"LD_PRELOAD=" SLMD_PROBE, "PROBE_REPORT=70", "PROBE_GO=" + go,
                                  "PROBE_OUTSIDE=" + outside, "PROBE_IMAGE=" + image, "PROBE_STATE=" + c.state},
                  .tty = false,
                  .only_arguments = true});
        close(70), close(report[1]);
        d.socket = c.runtime + "/s";
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
        std::ofstream(go) << "go";
        std::map<std::string, std::pair<std::string, int>> said;
        Wire lines(report[0]);
        for (std::string name, how; name != "end";) {
            std::istringstream l(lines.until("\n"));
            int e = 0;
            l >> name >> how >> e;
            if (name.empty()) break;
            said[name] = {how, e};
        }
        const std::pair<std::string, int> refused{"failed", EPERM}, guarded{"failed", EACCES}, worked{"worked", 0};
        std::size_t calls = 0;
        for (const char* name : {"socket-inet", "socket-inet6", "socket-netlink",   "socket-unix",
                                 "connect",     "bind",         "ptrace",           "fork",
                                 "vfork",       "thread",       "execve",           "mount",
                                 "bpf",         "keyctl",       "unshare",          "setns",
                                 "kill",        "kill-self",    "process_vm_readv", "io_uring",
                                 "memfd",       "mmap-exec",    "mprotect-exec",    "setuid",
                                 "prctl"}) {
            EXPECT_EQ(said[name], refused) << name;
            calls++;
        }
#if defined(__x86_64__)
        EXPECT_EQ(said["x32"], refused);
        calls++;
#endif
        for (const char* name : {"write-state", "device", "read", "end"}) EXPECT_EQ(said[name], worked) << name;
        if (landlock_abi() < 1) {
            std::printf("NOTE: this kernel has no Landlock: files are not tested\n");
            EXPECT_NE(slurp(d.log).find("has no Landlock"), std::string::npos);
        } else {
            for (const char* name : {"write-etc", "write-tmp", "write-image-folder", "truncate-image", "unlink-image"})
                EXPECT_EQ(said[name], guarded) << name;
            EXPECT_EQ(said["rename-out"].first, "failed");
            EXPECT_EQ(slurp(image), before);
        }
        EXPECT_NE(d.answer(france).find("Paris"), std::string::npos) << "slmd itself is as well as before";
        const std::string log = slurp(d.log);
        std::size_t logged = 0;
        for (std::size_t at = 0; (at = log.find("refused: system call ", at)) != log.npos; at++) logged++;
        EXPECT_GE(logged, trace ? calls - 3 : 0) << log;  // fork, vfork, thread: with signals blocked
        EXPECT_EQ(logged > 0, trace);
    }
}

#if defined(__x86_64__)
// By the gate of 32-bit programs the same numbers mean other calls: no errno, an end.
TEST(Sandbox, a_call_of_another_architecture_kills) {
    if (sanitized) GTEST_SKIP() << no_filter;
    const std::string go = folder() + "/probe-32";
    const Configured c;
    Daemon d({.arguments = {"--config", c.file},
              .environment = {"LD_PRELOAD=" SLMD_HOOKS, "HOOK_INT80=" + go},
              .tty = false,
              .only_arguments = true});
    d.socket = c.runtime + "/s";
    EXPECT_NE(d.answer(france).find("Paris"), std::string::npos);
    std::ofstream(go) << "go";
    const Wire w = d.connect();  // wakes the event loop
    EXPECT_EQ(d.wait(), 128 + SIGSYS);
}
#endif

TEST(Sandbox, a_working_life_needs_nothing_that_is_refused) {
    if (sanitized) GTEST_SKIP() << no_filter;
    const Configured c;
    Systemd systemd;
    Daemon d({.arguments = {"--config", c.file, "--trace-sandbox"},
              .environment = systemd.environment("90000"),
              .tty = false,
              .only_arguments = true});
    live(d, systemd, c);
    std::ifstream status("/proc/" + std::to_string(d.pid()) + "/status");
    std::string filter;
    for (std::string l; std::getline(status, l);)
        if (l.rfind("Seccomp:", 0) == 0) filter = l;
    EXPECT_EQ(filter, "Seccomp:\t2");
    EXPECT_EQ(d.stop(), 0);
    const std::string log = slurp(d.log);
    EXPECT_EQ(log.find("refused"), std::string::npos) << log;
}

// The same, as the kernel sees it.
TEST(Sandbox, strace_sees_only_allowed_calls) {
    if (sanitized) GTEST_SKIP() << no_filter;
    if (shell("strace -o /dev/null true").code != 0) GTEST_SKIP() << "strace is not installed or not allowed here";
    const Configured c;
    const std::string trace = folder() + "/sandbox-trace";
    Systemd systemd;
    {
        Daemon d({.arguments = {"--config", c.file},
                  .environment = systemd.environment("90000"),
                  .before = {"strace", "-D", "-f", "--quiet=all", "-s", "200", "-o", trace},
                  .tty = false,
                  .only_arguments = true});
        live(d, systemd, c);
    }
    const std::string all = slurp(trace);
    const std::size_t ready = all.find(" ready: ");
    ASSERT_NE(ready, std::string::npos);
    const std::set<std::string> expected{"futex",
                                         "read",
                                         "write",
                                         "sendto",
                                         "recvfrom",
                                         "epoll_wait",
                                         "epoll_ctl",
                                         "accept4",
                                         "setsockopt",
                                         "poll",
                                         "openat",
                                         "newfstatat",
                                         "fstat",
                                         "close",
                                         "ioctl",
                                         "lseek",
                                         "fcntl",
                                         "access",
                                         "unlink",
                                         "chmod",
                                         "chown",
                                         "brk",
                                         "mmap",
                                         "munmap",
                                         "mremap",
                                         "madvise",
                                         "sysinfo",
                                         "getpid",
                                         "gettid",
                                         "clock_nanosleep",
                                         "sched_yield",
                                         "sched_setaffinity",
                                         "exit",
                                         "exit_group",
                                         "restart_syscall",
                                         "epoll_pwait",
                                         "ppoll",
                                         "faccessat",
                                         "unlinkat",
                                         "fchmodat",
                                         "fchownat",
                                         "rseq",
                                         "set_robust_list",
                                         "rt_sigprocmask",
                                         "rt_sigreturn",
                                         "getegid",
                                         "umask"};
    std::set<std::string> seen;
    std::istringstream lines(all.substr(all.find('\n', ready)));
    std::smatch m;
    for (std::string l; std::getline(lines, l);) {
        if (!std::regex_search(l, m, std::regex("^\\d+ +(?:<\\.\\.\\. )?([a-z0-9_]+)[( ]"))) continue;
        seen.insert(m[1]);
        EXPECT_EQ(l.find("EPERM"), std::string::npos) << l;
    }
    EXPECT_GE(seen.size(), 10u);
    for (const std::string& call : seen) EXPECT_TRUE(expected.count(call) != 0) << call;
}
