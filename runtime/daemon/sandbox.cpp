#include "daemon/sandbox.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/audit.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/ucontext.h>
#include <unistd.h>

#include "daemon/log.h"

namespace slmd::daemon {
namespace {

#if defined(SLMD_SANITIZED)
constexpr bool sanitized = true;
#else
constexpr bool sanitized = false;
#endif

// ---- Landlock: linux/landlock.h of Debian 12 knows ABI 2 only; numbers and layout are the kernel's promise.

struct RulesetAttr {
    uint64_t handled_fs, handled_net, scoped;
};
struct [[gnu::packed]] PathBeneathAttr {
    uint64_t allowed;
    int32_t parent;
};
constexpr long nr_create_ruleset = 444, nr_add_rule = 445, nr_restrict_self = 446;  // on every architecture
constexpr unsigned create_version = 1, rule_path_beneath = 1;

enum Fs : uint64_t {
    execute = 1 << 0,
    write_file = 1 << 1,
    remove_dir = 1 << 4,
    remove_file = 1 << 5,
    make_char = 1 << 6,
    make_dir = 1 << 7,
    make_reg = 1 << 8,
    make_sock = 1 << 9,
    make_fifo = 1 << 10,
    make_block = 1 << 11,
    make_sym = 1 << 12,
    refer = 1 << 13,      // ABI 2
    truncate = 1 << 14,   // 3
    ioctl_dev = 1 << 15,  // 5
};

constexpr uint64_t known_fs(long abi) {
    return (abi >= 5 ? 0xffffu : abi >= 3 ? 0x7fffu : abi >= 2 ? 0x3fffu : 0x1fffu) & ~uint64_t{0b1100};  // reading
}
constexpr uint64_t folder_rights =
    write_file | remove_dir | remove_file | make_dir | make_reg | make_sock | refer | truncate;
constexpr uint64_t device_rights = write_file | truncate | ioctl_dev;

// ---- seccomp

#if defined(__x86_64__)
constexpr uint32_t this_arch = AUDIT_ARCH_X86_64;
#elif defined(__aarch64__)
constexpr uint32_t this_arch = AUDIT_ARCH_AARCH64;
#else
#error "sandbox.cpp knows the system calls of x86_64 and aarch64; another architecture needs its own list"
#endif

// Most frequent first. What glibc uses on x86_64 in place of the *at calls stands at the end.
// clang-format off
constexpr int allowed_calls[] = {
    SYS_futex, SYS_read, SYS_write, SYS_sendto, SYS_recvfrom, SYS_epoll_pwait, SYS_clock_gettime, SYS_ppoll,
    // files: openat's writing is Landlock's business
    SYS_openat, SYS_close, SYS_pread64, SYS_pwrite64, SYS_readv, SYS_writev, SYS_lseek, SYS_newfstatat, SYS_fstat,
    SYS_statx, SYS_statfs, SYS_fstatfs, SYS_faccessat, SYS_faccessat2, SYS_readlinkat, SYS_getdents64, SYS_getcwd,
    SYS_fsync, SYS_fdatasync, SYS_ftruncate, SYS_fallocate, SYS_renameat, SYS_renameat2, SYS_unlinkat, SYS_mkdirat,
    SYS_fchmod, SYS_fchmodat, SYS_fchown, SYS_fchownat, SYS_umask, SYS_flock, SYS_fcntl, SYS_dup, SYS_dup3,
    SYS_fadvise64,
    // wires that are there
    SYS_accept4, SYS_sendmsg, SYS_recvmsg, SYS_getsockopt, SYS_setsockopt, SYS_getsockname, SYS_getpeername,
    SYS_shutdown,
    // events
    SYS_epoll_ctl, SYS_epoll_create1, SYS_eventfd2, SYS_timerfd_create, SYS_timerfd_settime, SYS_timerfd_gettime,
    SYS_signalfd4,
    // memory, for what is freed at the end and for a reload
    SYS_brk, SYS_munmap, SYS_madvise, SYS_mremap,
    // time, threads that are there, and their end
    SYS_nanosleep, SYS_clock_nanosleep, SYS_clock_getres, SYS_gettimeofday, SYS_sched_yield, SYS_sched_setaffinity,
    SYS_sched_getaffinity, SYS_getcpu, SYS_membarrier, SYS_rt_sigaction, SYS_rt_sigprocmask, SYS_rt_sigreturn,
    SYS_sigaltstack, SYS_restart_syscall, SYS_exit, SYS_exit_group,
    // a thread that was made before and has not had its turn yet
    SYS_set_robust_list, SYS_rseq,
    // what one may know
    SYS_getpid, SYS_gettid, SYS_getuid, SYS_geteuid, SYS_getgid, SYS_getegid, SYS_uname, SYS_sysinfo, SYS_getrusage,
    SYS_getrandom,
#if defined(__x86_64__)
    SYS_poll, SYS_epoll_wait, SYS_access, SYS_readlink, SYS_rename, SYS_unlink, SYS_chmod, SYS_chown, SYS_dup2,
    SYS_time,
#endif
};
// clang-format on

constexpr sock_filter load(uint32_t offset) { return BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offset); }
constexpr sock_filter give(uint32_t action) { return BPF_STMT(BPF_RET | BPF_K, action); }
constexpr uint32_t low(int argument) {  // both architectures are little-endian
    return static_cast<uint32_t>(offsetof(seccomp_data, args) + sizeof(uint64_t) * static_cast<unsigned>(argument));
}
constexpr uint32_t high(int argument) { return low(argument) + 4; }

struct Program {
    static constexpr size_t room = 2 * sizeof allowed_calls / sizeof allowed_calls[0] + 48;
    sock_filter code[room];
    unsigned short size = 0;

    void add(sock_filter f) { code[size++] = f; }
    // if (A == value) then the next `n` instructions, else what follows them.
    void if_equal(uint32_t value, unsigned char n) { add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, value, 0, n)); }
    void if_any_bit(uint32_t bits, unsigned char n) { add(BPF_JUMP(BPF_JMP | BPF_JSET | BPF_K, bits, 0, n)); }

    Program(uint32_t refuse, uint32_t pid) {
        const uint32_t allow = SECCOMP_RET_ALLOW;
        add(load(offsetof(seccomp_data, arch)));
        add(BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, this_arch, 1, 0));
        add(give(SECCOMP_RET_KILL_PROCESS));
        add(load(offsetof(seccomp_data, nr)));
        add(BPF_JUMP(BPF_JMP | BPF_JGE | BPF_K, 0x40000000, 0, 1));  // x32: other numbers, other structures
        add(give(refuse));
        for (const int call : allowed_calls) {
            if_equal(static_cast<uint32_t>(call), 1);
            add(give(allow));
        }
        for (const int call : {SYS_mmap, SYS_mprotect}) {
            if_equal(static_cast<uint32_t>(call), 4);
            add(load(low(2)));
            if_any_bit(PROT_EXEC, 1);
            add(give(refuse));
            add(give(allow));
        }
        if_equal(SYS_ioctl, 6);  // whatever a device wants, but no keys typed for whoever owns the terminal
        add(load(low(1)));
        if_equal(TIOCSTI, 1);
        add(give(refuse));
        if_equal(0x541C, 1);  // TIOCLINUX
        add(give(refuse));
        add(give(allow));
        for (const int call : {SYS_clone, SYS_clone3}) {  // glibc blocks all signals around them: no trap
            if_equal(static_cast<uint32_t>(call), 1);
            add(give(SECCOMP_RET_ERRNO | EPERM));
        }
        if_equal(SYS_tgkill, 4);  // abort()
        add(load(low(0)));
        if_equal(pid, 1);
        add(give(allow));
        add(give(refuse));
        if_equal(SYS_prlimit64, 6);  // to look, not to set
        add(load(low(2)));
        if_equal(0, 3);
        add(load(high(2)));
        if_equal(0, 1);
        add(give(allow));
        add(give(refuse));
        add(give(refuse));
    }
};

// The call fails as it would without the trace, and the log has its number.
void on_refused(int, siginfo_t* info, void* context) {
    auto& c = *static_cast<ucontext_t*>(context);
#if defined(__x86_64__)
    c.uc_mcontext.gregs[REG_RAX] = -EPERM;
#else
    c.uc_mcontext.regs[0] = static_cast<unsigned long long>(-EPERM);
#endif
    log(Level::warning, {{"SLMD_EVENT", "refused"}, {"SLMD_CALL", info->si_syscall}}, "refused: system call %d",
        info->si_syscall);
}

Error refused(const char* what) { return Error::make(Code::not_supported, "sandbox: %s: %s", what, strerror(errno)); }

}  // namespace

Result<void> restrict_files(std::span<const Writable> writable) {
    if (prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) != 0) return refused("no_new_privs");
    const long abi = syscall(nr_create_ruleset, nullptr, 0, create_version);
    if (abi < 1) {
        log(Level::notice, {{"SLMD_EVENT", "sandbox"}, {"SLMD_LANDLOCK", 0}},
            "this kernel has no Landlock (%s): only permissions and the unit guard files", strerror(errno));
        return {};
    }
    RulesetAttr attr{known_fs(abi), abi >= 4 ? 0b11u : 0u, abi >= 6 ? 0b11u : 0u};
    const int rules = static_cast<int>(syscall(nr_create_ruleset, &attr, sizeof attr, 0));
    if (rules < 0) return refused("landlock_create_ruleset");
    for (const Writable& w : writable) {
        const int folder = open(w.path, O_PATH | O_DIRECTORY | O_CLOEXEC);
        if (folder < 0) continue;
        const PathBeneathAttr rule{attr.handled_fs & (w.devices ? device_rights : folder_rights), folder};
        const long added = syscall(nr_add_rule, rules, rule_path_beneath, &rule, 0);
        close(folder);
        if (added != 0) {
            const Error e = refused("landlock_add_rule");
            close(rules);
            return e;
        }
    }
    const long restricted = syscall(nr_restrict_self, rules, 0);
    const Error e = refused("landlock_restrict_self");
    close(rules);
    if (restricted != 0) return e;
    log(Level::debug, {{"SLMD_EVENT", "sandbox"}, {"SLMD_LANDLOCK", abi}}, "files are guarded by Landlock, ABI %ld",
        abi);
    return {};
}

Result<void> restrict_calls(bool trace) {
    if (sanitized) {
        log(Level::warning, {{"SLMD_EVENT", "sandbox"}},
            "built with AddressSanitizer: system calls are not restricted");
        return {};
    }
    if (trace) {
        struct sigaction action {};
        action.sa_sigaction = on_refused;
        action.sa_flags = SA_SIGINFO | SA_RESTART;
        sigaction(SIGSYS, &action, nullptr);
    }
    Program program(trace ? uint32_t{SECCOMP_RET_TRAP} : SECCOMP_RET_ERRNO | uint32_t{EPERM},
                    static_cast<uint32_t>(getpid()));
    const sock_fprog filter{program.size, program.code};
    const long done = syscall(SYS_seccomp, SECCOMP_SET_MODE_FILTER,
                              SECCOMP_FILTER_FLAG_TSYNC | (trace ? 0u : SECCOMP_FILTER_FLAG_LOG), &filter);
    if (done > 0) return Error::make(Code::not_supported, "sandbox: thread %ld has a filter of its own", done);
    if (done < 0) return refused("seccomp");
    return {};
}

}  // namespace slmd::daemon
