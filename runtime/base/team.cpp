#include "base/team.h"

#include <linux/futex.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstring>

#include "base/clock.h"

namespace slmd {
namespace {

// As long as a futex call and the way through the scheduler cost on a small board: who waits longer may as well sleep.
constexpr std::int64_t spin_ns = 60'000;
constexpr int looks = 64;  // between two looks at the clock

void pause_briefly() {
#if defined(__x86_64__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    asm volatile("yield");
#endif
}

// Spins first: between two layers the wait is shorter than a system call. Sleeps when it is not, so that a preempted
// sibling is not starved and nothing spins between requests.
void wait_while(std::atomic<std::uint32_t>& word, std::uint32_t value, std::atomic<std::uint32_t>& sleepers) {
    std::int64_t until = 0;
    for (;;) {
        for (int i = 0; i < looks; i++) {
            if (word.load(std::memory_order_acquire) != value) return;
            pause_briefly();
        }
        const std::int64_t now = now_ns();
        if (until == 0) until = now + spin_ns;
        if (now >= until) break;
    }
    sleepers.fetch_add(1);
    while (word.load(std::memory_order_acquire) == value)
        syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAIT_PRIVATE, value, nullptr, nullptr, 0);
    sleepers.fetch_sub(1);
}

void set(std::atomic<std::uint32_t>& word, std::uint32_t value, std::atomic<std::uint32_t>& sleepers) {
    word.store(value);
    if (sleepers.load() != 0)
        syscall(SYS_futex, reinterpret_cast<std::uint32_t*>(&word), FUTEX_WAKE_PRIVATE, INT32_MAX, nullptr, nullptr, 0);
}

constexpr std::uint32_t members_mask = 255;

}  // namespace

void* Team::member_main(void* argument) {
    auto* self = static_cast<Member*>(argument);
    Team& team = *self->team;
    for (std::uint32_t seen = 0;;) {
        wait_while(team.round_, seen, team.sleepers_);
        // A run that did not want this member may have come and gone: it looks at the latest only, and at nothing else
        // of a run that is not its own.
        seen = team.round_.load(std::memory_order_acquire);
        const std::uint32_t members = seen & members_mask;
        if (members == 0) return nullptr;
        if (static_cast<std::uint32_t>(self->rank) >= members) continue;
        team.work_(team.context_, self->rank);
        team.sync();
    }
}

Result<void> Team::start(int size, const cpu_set_t* cpus) {
    if (size < 1 || size > max_size)
        return Error::make(Code::incorrect_parameters, "%d threads: use 1 to %d", size, max_size);
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    if (cpus != nullptr) pthread_attr_setaffinity_np(&attributes, sizeof *cpus, cpus);
    int failure = 0;
    for (size_ = 1; size_ < size && failure == 0; size_ += failure == 0) {
        threads_[size_] = {this, size_, {}};
        failure = pthread_create(&threads_[size_].thread, &attributes, member_main, &threads_[size_]);
    }
    pthread_attr_destroy(&attributes);
    if (failure != 0) return Error::make(Code::memory_full, "cannot start thread %d: %s", size_, strerror(failure));
    return {};
}

Team::~Team() {
    const std::uint32_t number = (round_.load() >> 8) + 1;
    set(round_, number << 8, sleepers_);
    for (int rank = 1; rank < size_; rank++) pthread_join(threads_[rank].thread, nullptr);
}

void Team::run(int members, void (*work)(void*, int), void* context) {
    members_ = members;
    for (auto& set : cursors_)
        for (Cursor& c : set) c.next.store(0, std::memory_order_relaxed);
    if (members > 1) {
        work_ = work;
        context_ = context;
        const std::uint32_t number = (round_.load(std::memory_order_relaxed) >> 8) + 1;
        set(round_, number << 8 | static_cast<std::uint32_t>(members), sleepers_);
    }
    work(context, 0);
    sync();
}

void Team::sync() {
    const auto members = static_cast<std::uint32_t>(members_);  // once it has arrived, the next run may change it
    if (members == 1) return;
    const std::uint32_t phase = phase_.load(std::memory_order_acquire);
    if (arrived_.fetch_add(1, std::memory_order_acq_rel) + 1 == members) {
        arrived_.store(0, std::memory_order_relaxed);
        set(phase_, phase + 1, sleepers_);
    } else {
        wait_while(phase_, phase, sleepers_);
    }
}

}  // namespace slmd
