#include "base/team.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

namespace slmd {
namespace {

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins first: between two layers the wait is shorter than a system call. Sleeps when it is not, so that a preempted sibling is not starved.
void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t value, std::atomic<std::uint32_t>& sleepers, int spins) {
    for (int i = 0; i < spins; i++) {
        if (word.load(std::memory_order_acquire) != value) return;
        pause_briefly();
    }
    sleepers.fetch_add(1);
    while (word.load(std::memory_order_acquire) == value)
        syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
    sleepers.fetch_sub(1);
}

void advance(std::atomic<std::uint32_t>& word, std::atomic<std::uint32_t>& sleepers) {
    word.fetch_add(1);
    if (sleepers.load() != 0) syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

constexpr int barrier_spins = 4000, idle_spins = 200;

}  // namespace

void* Team::member_main(void* argument) {
    auto* self = static_cast<Member*>(argument);
    Team& team = *self->team;
    std::uint32_t seen = 0;
    for (;;) {
        wait_while(team.round_, seen, team.sleepers_, idle_spins);
        seen++;
        if (team.stop_) return nullptr;
        team.work_(team.context_, self->rank);
        team.sync();
    }
}

Result<void> Team::start(int size) {
    if (size < 1 || size > max_size) return Error::make(Code::incorrect_parameters, "%d threads: use 1 to %d", size, max_size);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    size_ = 1;
    for (int rank = 1; rank < size; rank++) {
        members_[rank] = {this, rank, {}};
        if (const int e = pthread_create(&members_[rank].thread, &attributes, member_main, &members_[rank]); e != 0) {
            pthread_attr_destroy(&attributes);
            return Error::make(Code::memory_full, "cannot start thread %d: %s", rank, strerror(e));
        }
        size_ = rank + 1;
    }
    pthread_attr_destroy(&attributes);
    return {};
}

Team::~Team() {
    stop_ = true;
    advance(round_, sleepers_);
    for (int rank = 1; rank < size_; rank++) pthread_join(members_[rank].thread, nullptr);
}

void Team::run(void (*work)(void*, int), void* context) {
    work_ = work;
    context_ = context;
    if (size_ > 1) advance(round_, sleepers_);
    work(context, 0);
    sync();
}

void Team::sync() {
    if (size_ == 1) return;
    const std::uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == static_cast<std::uint32_t>(size_)) {
        arrived_.store(0, std::memory_order_relaxed);
        advance(phase_, sleepers_);
    } else {
        wait_while(phase_, phase, sleepers_, barrier_spins);
    }
}

}  // namespace slmd
