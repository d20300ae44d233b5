// LD_PRELOAD: counts calls of the allocator and of mmap. SIGUSR2 arms it; the next one writes the counts to the file
// that MALLOC_COUNT names. The first call after arming also leaves its stack there, so that a failing test says who it
// was.
#include <dlfcn.h>
#include <execinfo.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include <atomic>

extern "C" {
void* __libc_malloc(size_t);
void* __libc_calloc(size_t, size_t);
void* __libc_realloc(void*, size_t);
void* __libc_memalign(size_t, size_t);
void __libc_free(void*);
}

namespace {

std::atomic<bool> armed{false};
std::atomic<long> calls[4];  // malloc and its relatives, free, mmap, brk
int report = -1;

void count(int kind) {
    if (!armed.load(std::memory_order_relaxed)) return;
    if (calls[kind].fetch_add(1) == 0 && report >= 0) {
        armed.store(false);  // backtrace may allocate itself
        void* frames[24];
        backtrace_symbols_fd(frames, backtrace(frames, 24), report);
        armed.store(true);
    }
}

void on_signal(int) {
    if (!armed.exchange(true)) return;
    armed.store(false);
    char text[128];
    const int n = snprintf(text, sizeof text, "counts %ld %ld %ld %ld\n", calls[0].load(), calls[1].load(),
                           calls[2].load(), calls[3].load());
    (void)!write(report, text, static_cast<size_t>(n));
}

[[gnu::constructor]] void start() {
    const char* const path = getenv("MALLOC_COUNT");
    if (path == nullptr) return;
    report = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    void* frames[2];
    backtrace(frames, 2);  // loads libgcc now, not later
    struct sigaction action {};
    action.sa_handler = on_signal;
    action.sa_flags = SA_RESTART;
    sigaction(SIGUSR2, &action, nullptr);
}

}  // namespace

extern "C" {
void* malloc(size_t n) { return count(0), __libc_malloc(n); }
void* calloc(size_t n, size_t m) { return count(0), __libc_calloc(n, m); }
void* realloc(void* p, size_t n) {
    count(0);
    if (p != nullptr) count(1);
    return __libc_realloc(p, n);
}
void* memalign(size_t a, size_t n) { return count(0), __libc_memalign(a, n); }
void* aligned_alloc(size_t a, size_t n) { return count(0), __libc_memalign(a, n); }
int posix_memalign(void** p, size_t a, size_t n) { return count(0), (*p = __libc_memalign(a, n)) == nullptr ? 12 : 0; }
void free(void* p) {
    if (p != nullptr) count(1);
    __libc_free(p);
}
void* mmap(void* a, size_t n, int prot, int flags, int fd, off_t at) {
    static auto* const real =
        reinterpret_cast<void* (*)(void*, size_t, int, int, int, off_t)>(dlsym(RTLD_NEXT, "mmap"));
    count(2);
    return real(a, n, prot, flags, fd, at);
}
void* sbrk(intptr_t n) noexcept {
    static auto* const real = reinterpret_cast<void* (*)(intptr_t)>(dlsym(RTLD_NEXT, "sbrk"));
    count(3);
    return real(n);
}
}
