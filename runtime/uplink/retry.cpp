#include "uplink/retry.h"

#include <algorithm>

#include "base/ascii.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {
constexpr std::int64_t second = 1'000'000'000;
}

const char* name_of(Delivery delivery) {
    switch (delivery) {
        case Delivery::not_sent: return "not sent";
        case Delivery::unknown: return "unknown";
        case Delivery::answered: break;
    }
    return "answered";
}

Next next_for(int status) {
    if (status / 100 == 2) return Next::done;
    switch (status) {
        case 408:
        case 429:
        case 500:
        case 503: return Next::again;
        case 502:
        case 504: return Next::lost;
        case 400:
        case 413:
        case 422: return Next::never;
        default: return Next::elsewhere;
    }
}

std::int64_t backoff(int tries, int base, std::uint32_t random) {
    const std::int64_t whole = std::min(std::int64_t{base} * 1'000'000 << std::min(tries - 1, 20), 30 * second);
    return whole / 2 + whole / 2 * (random >> 16) / 0xFFFF;
}

std::int64_t retry_after(std::string_view value, std::string_view date, std::int64_t now) {
    if (value.empty()) return -1;
    constexpr std::int64_t day = 86400;
    std::int64_t seconds = 0;
    if (std::all_of(value.begin(), value.end(), is_digit)) {
        for (const char c : value) seconds = std::min(seconds * 10 + (c - '0'), day);
    } else {
        const std::int64_t then = http_date(value), from = http_date(date);
        if (then < 0) return -1;
        seconds = std::clamp<std::int64_t>(then - (from < 0 ? now : from), 0, day);
    }
    return seconds * second;
}

bool Breaker::may_try(std::int64_t now) {
    if (now < until_) return false;
    if (state_ == State::half_open) return false;
    until_ = 0;
    if (state_ == State::open) state_ = State::half_open;
    return true;
}

void Breaker::succeeded() { *this = {}; }

void Breaker::failed(std::int64_t now) {
    if (state_ != State::half_open && ++failures_ < 5) return;
    state_ = State::open;
    failures_ = 0;
    until_ = std::max(until_, now + std::min(30 * second << std::min(rounds_, 5), 600 * second));
    rounds_++;
}

void Breaker::gave_up() {
    if (state_ == State::half_open) state_ = State::open;
}

void Breaker::rest_until(std::int64_t time) { until_ = std::max(until_, time); }

}  // namespace slmd::uplink
