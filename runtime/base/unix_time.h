// The time of day, for what outlives a start of the board; it may be set at any time (clock.h has the one that is not).
#pragma once
#include <time.h>

#include <cstdint>

namespace slmd {

// Milliseconds since 1970-01-01, UTC.
inline std::int64_t unix_ms() {
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return static_cast<std::int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000;
}

}  // namespace slmd
