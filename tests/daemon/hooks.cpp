// LD_PRELOAD: faults, each when the file that its variable names is there.
//   HOOK_INT80   the event loop makes a system call of 32-bit programs
//   HOOK_LOOP    the event loop hangs
//   HOOK_ENGINE  the engine thread hangs where it has done a pass
//   HOOK_SLOW    the engine thread needs 20 ms more for each pass
//   HOOK_CLOCK   the wall clock is ten years ahead, or, when it says "back", ten years behind
#include <dlfcn.h>
#include <fcntl.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

namespace {

bool now(const char* name) {
    const char* const path = getenv(name);
    return path != nullptr && access(path, F_OK) == 0;
}
long jump() {
    constexpr long years = 10L * 365 * 86400;
    if (!now("HOOK_CLOCK")) return 0;
    char first = 0;
    const int fd = open(getenv("HOOK_CLOCK"), O_RDONLY | O_CLOEXEC);
    (void)!read(fd, &first, 1);
    close(fd);
    return first == 'b' ? -years : years;
}
void hang() {
    for (;;) pause();
}

}  // namespace

extern "C" {
int epoll_wait(int fd, epoll_event* events, int room, int timeout) {
    static auto* const real = reinterpret_cast<int (*)(int, epoll_event*, int, int)>(dlsym(RTLD_NEXT, "epoll_wait"));
    if (now("HOOK_LOOP")) hang();
#if defined(__x86_64__)
    if (now("HOOK_INT80")) {
        long result = 20;  // getpid there
        asm volatile("int $0x80" : "+a"(result) : : "memory");
    }
#endif
    return real(fd, events, room, timeout);
}
int clock_gettime(clockid_t clock, timespec* t) noexcept {
    static auto* const real = reinterpret_cast<int (*)(clockid_t, timespec*)>(dlsym(RTLD_NEXT, "clock_gettime"));
    const int result = real(clock, t);
    if (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE) t->tv_sec += jump();
    return result;
}
int gettimeofday(timeval* t, void*) noexcept {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    *t = {now.tv_sec, now.tv_nsec / 1000};
    return 0;
}
time_t time(time_t* t) noexcept {
    timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (t != nullptr) *t = now.tv_sec;
    return now.tv_sec;
}
// The engine thread wakes the event loop so after each pass.
ssize_t write(int fd, const void* bytes, size_t size) {
    static auto* const real = reinterpret_cast<ssize_t (*)(int, const void*, size_t)>(dlsym(RTLD_NEXT, "write"));
    if (gettid() != getpid()) {
        if (now("HOOK_ENGINE")) hang();
        if (now("HOOK_SLOW")) usleep(20'000);
    }
    return real(fd, bytes, size);
}
}
