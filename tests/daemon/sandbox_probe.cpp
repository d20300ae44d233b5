// LD_PRELOAD: tries from inside slmd what slmd must not be able to do. A thread, made when slmd opens its event loop,
// waits until the file that PROBE_GO names is there, tries everything, and writes a line each to the file that
// PROBE_REPORT names: "name result errno".
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/bpf.h>
#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <sys/mman.h>
#include <sys/mount.h>
#include <sys/ptrace.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/un.h>
#include <unistd.h>

namespace {

int report = -1, listener = -1;
const char* go;

void say(const char* name, long result) {
    const int e = result < 0 ? errno : 0;
    char line[128];
    const int n = snprintf(line, sizeof line, "%s %s %d\n", name, result < 0 ? "failed" : "worked", e);
    (void)!write(report, line, static_cast<size_t>(n));
    errno = 0;
}

long call(long nr, long a = 0, long b = 0, long c = 0, long d = 0, long e = 0) { return syscall(nr, a, b, c, d, e); }

void try_write(const char* name, const char* folder) {
    char path[512];
    snprintf(path, sizeof path, "%s/probe", folder);
    const int fd = open(path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    say(name, fd);
    if (fd >= 0) close(fd);
}

void* probe(void*) {
    while (access(go, F_OK) != 0) usleep(5000);
    say("socket-inet", socket(AF_INET, SOCK_STREAM, 0));
    say("socket-inet6", socket(AF_INET6, SOCK_DGRAM, 0));
    say("socket-netlink", socket(AF_NETLINK, SOCK_RAW, 0));
    say("socket-unix", socket(AF_UNIX, SOCK_STREAM, 0));
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    say("connect", connect(listener, reinterpret_cast<sockaddr*>(&address), sizeof address));
    say("bind", bind(listener, reinterpret_cast<sockaddr*>(&address), sizeof address));
    say("ptrace", ptrace(PTRACE_TRACEME, 0, nullptr, nullptr));
    const pid_t child = fork();
    if (child == 0) _exit(0);
    say("fork", child);
    say("vfork", call(SYS_clone, CLONE_VM | CLONE_VFORK | SIGCHLD));
    pthread_t thread;
    errno = pthread_create(
        &thread, nullptr, [](void*) -> void* { return nullptr; }, nullptr);
    say("thread", errno == 0 ? 0 : -1);
    char* const arguments[] = {const_cast<char*>("true"), nullptr};
    say("execve", execve("/bin/true", arguments, nullptr));
    say("mount", mount("none", "/mnt", "tmpfs", 0, nullptr));
    bpf_attr attr{};
    say("bpf", call(SYS_bpf, BPF_MAP_CREATE, reinterpret_cast<long>(&attr), sizeof attr));
    say("keyctl", call(SYS_keyctl, 0, -3));
    say("unshare", unshare(CLONE_NEWNS));
    say("setns", setns(0, 0));
    say("kill", kill(getppid(), 0));
    say("kill-self", kill(getpid(), 0));
    say("process_vm_readv", call(SYS_process_vm_readv, getpid()));
    say("io_uring", call(SYS_io_uring_setup, 1, reinterpret_cast<long>(&attr)));
    say("memfd", memfd_create("probe", 0));
    void* const executable = mmap(nullptr, 4096, PROT_READ | PROT_EXEC, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    say("mmap-exec", executable == MAP_FAILED ? -1 : 0);
    static char page[8192];
    say("mprotect-exec",
        mprotect(reinterpret_cast<void*>((reinterpret_cast<uintptr_t>(page) + 4095) & ~uintptr_t{4095}), 4096,
                 PROT_READ | PROT_WRITE | PROT_EXEC));
    say("setuid", setuid(1));
    say("prctl", call(SYS_prctl, 1, SIGKILL));
#if defined(__x86_64__)
    say("x32", call(0x40000000 | SYS_getpid));
#endif
    try_write("write-etc", "/etc");
    try_write("write-tmp", "/tmp");
    try_write("write-image-folder", getenv("PROBE_OUTSIDE"));
    say("truncate-image", open(getenv("PROBE_IMAGE"), O_WRONLY | O_TRUNC));
    say("unlink-image", unlink(getenv("PROBE_IMAGE")));
    say("rename-out", rename(getenv("PROBE_IMAGE"), getenv("PROBE_GO")));
    try_write("write-state", getenv("PROBE_STATE"));
    say("device", open("/dev/null", O_RDWR));
    say("read", open("/etc/passwd", O_RDONLY));
    say("end", 0);
    return nullptr;
}

}  // namespace

// slmd asks for its signals when its files are guarded already, so that this thread is, too.
extern "C" int signalfd(int fd, const sigset_t* mask, int flags) {
    static auto* const real = reinterpret_cast<int (*)(int, const sigset_t*, int)>(dlsym(RTLD_NEXT, "signalfd"));
    if (const char* const path = getenv("PROBE_REPORT"); path != nullptr && report < 0) {
        go = getenv("PROBE_GO");
        report = atoi(path);  // a descriptor: no file outside may be written any more
        listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
        pthread_t thread;
        pthread_create(&thread, nullptr, probe, nullptr);
    }
    return real(fd, mask, flags);
}
