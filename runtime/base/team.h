// A fixed team of threads that runs one function together and sleeps in between.
#pragma once
#include <atomic>
#include <cstdint>
#include <pthread.h>

#include "base/result.h"

namespace slmd {

// The caller is rank 0; ranks 1..size-1 are threads made once by start(). run() wakes all of them, each calls work(context, rank), run() returns when
// all have. Inside, sync() is a barrier: it spins for a few microseconds (operations are short) and then sleeps. Nothing is allocated after start().
class Team {
  public:
    static constexpr int max_size = 16;
    static constexpr std::size_t stack_bytes = 256 * 1024;

    Team() = default;
    Team(const Team&) = delete;
    Team& operator=(const Team&) = delete;
    ~Team();
    Result<void> start(int size);
    int size() const { return size_; }

    void run(void (*work)(void* context, int rank), void* context);
    void sync();

    // The half-open part of [0, n) that belongs to rank when units are dealt out in one piece each.
    struct Part {
        int begin, end;
    };
    Part part(int n, int rank) const {
        return {static_cast<int>(static_cast<long>(n) * rank / size_), static_cast<int>(static_cast<long>(n) * (rank + 1) / size_)};
    }

  private:
    struct Member {
        Team* team;
        int rank;
        pthread_t thread;
    };
    static void* member_main(void*);

    int size_ = 1;
    void (*work_)(void*, int) = nullptr;
    void* context_ = nullptr;
    bool stop_ = false;
    alignas(64) std::atomic<std::uint32_t> round_{0};    // a new run, or stop
    alignas(64) std::atomic<std::uint32_t> arrived_{0};  // at the barrier
    alignas(64) std::atomic<std::uint32_t> phase_{0};    // barriers passed
    alignas(64) std::atomic<std::uint32_t> sleepers_{0};
    Member members_[max_size] = {};
};

}  // namespace slmd
