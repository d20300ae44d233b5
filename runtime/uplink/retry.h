// When to try again, and when not. Pure functions and one small state machine; the clock is the caller's.
#pragma once
#include <cstdint>
#include <string_view>

namespace slmd::uplink {

// Whether a request may have been processed, and so have been paid for.
enum class Delivery : std::uint8_t {
    not_sent,  // surely not: it failed before the first byte of the request
    unknown,   // it was sent, in part at least, and no whole answer came
    answered,  // a whole answer came, be it an error
};
const char* name_of(Delivery delivery);

enum class Next : std::uint8_t {
    done,       // 2xx
    again,      // the server says that it did not do it, and that this may pass: 408, 429, 500, 503
    lost,       // a gateway does not know what became of it (502, 504): as if no answer had come
    elsewhere,  // this server will not do it, another one may: 401, 403, 404, redirections and the like
    never,      // the request is wrong, whoever reads it: 400, 413, 422
};
Next next_for(int status);

// Nanoseconds to wait before try number `tries` + 1: base x 2^(tries-1), at most 30 s, of which a random half is left
// out, so that boards that failed together do not come back together. random: any 32 bits. base in milliseconds.
std::int64_t backoff(int tries, int base, std::uint32_t random);

// Retry-After (RFC 9110, 10.2.3) in nanoseconds from now, at most a day; -1: none, or not understood. date: the
// answer's own Date, by which a date is measured, as the board's clock may be wrong; now: seconds since 1970, when
// there is none.
std::int64_t retry_after(std::string_view value, std::string_view date, std::int64_t now);

// Of one upstream: after five failures in a row it rests for 30 s, twice as long each time it fails again, at most ten
// minutes; then one request tries it. Times are CLOCK_MONOTONIC, nanoseconds.
class Breaker {
  public:
    enum class State : std::uint8_t { closed, open, half_open };

    bool may_try(std::int64_t now);  // half open: true once
    void succeeded();
    void failed(std::int64_t now);
    void gave_up();  // the try came to nothing, for a reason that was not the server's
    // The server itself named the time until which it is not to be asked.
    void rest_until(std::int64_t time);
    State state() const { return state_; }
    std::int64_t until() const { return until_; }  // from when it may be tried; 0: now

  private:
    State state_ = State::closed;
    int failures_ = 0, rounds_ = 0;
    std::int64_t until_ = 0;
};

}  // namespace slmd::uplink
