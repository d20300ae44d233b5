// Waiting for a descriptor: until a time, and no longer than the uplink may be used.
#pragma once
#include <atomic>
#include <cstdint>

#include "base/clock.h"

namespace slmd::uplink {

// How long all of something may take, and what ends it earlier: the privacy switch.
struct Until {
    std::int64_t deadline = 0;  // CLOCK_MONOTONIC, nanoseconds
    const std::atomic<bool>* cut = nullptr;

    bool is_cut() const { return cut != nullptr && cut->load(std::memory_order_relaxed); }
    // A step of it, which begins now.
    Until step(int milliseconds) const {
        const std::int64_t end = now_ns() + std::int64_t{milliseconds} * 1'000'000;
        return {end < deadline ? end : deadline, cut};
    }
};

enum class Waited : std::uint8_t { ready, late, cut };

// events: POLLIN, POLLOUT (poll(2)); fd -1 only waits. The switch is looked at every 50 ms.
Waited wait_for(int fd, short events, const Until& until);

}  // namespace slmd::uplink
