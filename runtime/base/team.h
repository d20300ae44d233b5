// A fixed team of threads that runs one function together and sleeps in between.
#pragma once
#include <pthread.h>
#include <sched.h>

#include <algorithm>
#include <atomic>
#include <cstdint>

#include "base/result.h"

namespace slmd {

// The caller is rank 0; ranks 1 .. size - 1 are threads made once by start(). run() wakes as many as it is asked for,
// each calls work(context, rank), run() returns when all have. Inside, sync() is a barrier: it spins for some tens of
// microseconds (operations are short) and then sleeps. Nothing is allocated after start().
class Team {
  public:
    static constexpr int max_size = 16;
    static constexpr std::size_t stack_bytes = 256 * 1024;

    Team() = default;
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team();
    // cpus: where the threads that it makes may run; null: where the caller may. Errors: incorrect_parameters,
    // memory_full.
    Result<void> start(int size, const cpu_set_t* cpus = nullptr);
    int size() const { return size_; }

    // members: 1 .. size().
    void run(int members, void (*work)(void* context, int rank), void* context);

    // The rest is for work().
    void sync();

    // The half-open part of [0, n) that belongs to rank when units are dealt out in one piece each.
    struct Part {
        int begin, end;
    };
    Part part(int n, int rank) const {
        return {static_cast<int>(static_cast<long>(n) * rank / members_),
                static_cast<int>(static_cast<long>(n) * (rank + 1) / members_)};
    }

    // Deals [0, n) out: f(begin, end) for pieces of at most `grain` units, first those of the member's own part, then
    // what slower members have not begun: a member whose core is taken away holds up the others by one piece, not by
    // its part. `turn` counts this member's deals; all members make the same ones, with a sync() between any two.
    template <class F>
    void deal(int n, int grain, int rank, unsigned& turn, F&& f) {
        if (members_ == 1) {
            if (n > 0) f(0, n);
            return;
        }
        const unsigned now = turn++ & 1;
        cursors_[now ^ 1][rank].next.store(0, std::memory_order_relaxed);  // of the deal after the next sync
        for (int i = 0; i < members_; i++) {
            const int owner = rank + i < members_ ? rank + i : rank + i - members_;
            const Part whole = part(n, owner);
            std::atomic<int>& next = cursors_[now][owner].next;
            const int pieces = (whole.end - whole.begin + grain - 1) / grain;
            while (next.load(std::memory_order_relaxed) < pieces) {
                const int piece = next.fetch_add(1, std::memory_order_relaxed);
                if (piece >= pieces) break;
                const int begin = whole.begin + piece * grain;
                f(begin, std::min(begin + grain, whole.end));
            }
        }
    }

  private:
    struct Member {
        Team* team;
        int rank;
        pthread_t thread;
    };
    struct alignas(64) Cursor {
        std::atomic<int> next{0};  // piece of the owner's part that nobody has begun
    };
    static void* member_main(void*);

    int size_ = 1, members_ = 1;
    void (*work_)(void*, int) = nullptr;
    void* context_ = nullptr;
    alignas(64) std::atomic<std::uint32_t> round_{
        0};  // number of the run << 8 | members that it wants; 0 members: stop
    alignas(64) std::atomic<std::uint32_t> arrived_{0};  // at the barrier
    alignas(64) std::atomic<std::uint32_t> phase_{0};    // barriers passed
    alignas(64) std::atomic<std::uint32_t> sleepers_{0};
    Cursor cursors_[2][max_size];
    Member threads_[max_size] = {};
};

}  // namespace slmd
