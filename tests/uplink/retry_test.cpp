// When to try again: with a clock that the test turns.
#include "uplink/retry.h"

#include <gtest/gtest.h>

namespace slmd::uplink {
namespace {

constexpr std::int64_t second = 1'000'000'000, ms = 1'000'000;

TEST(Backoff, doubles_with_jitter_of_half_and_ends_at_30_s) {
    for (int tries = 1; tries < 64; tries++) {
        const std::int64_t whole = std::min<std::int64_t>(500 * ms << std::min(tries - 1, 20), 30 * second);
        EXPECT_EQ(backoff(tries, 500, 0), whole / 2);
        EXPECT_EQ(backoff(tries, 500, 0xFFFFFFFF), whole);
        const std::int64_t middle = backoff(tries, 500, 0x80000000);
        EXPECT_TRUE(middle > whole / 2 && middle < whole);
    }
    EXPECT_EQ(backoff(60, 60000, 0xFFFFFFFF), 30 * second);
}

TEST(RetryAfter, seconds_and_dates) {
    constexpr std::int64_t now = 1445412480;  // Wed, 21 Oct 2015 07:28:00 GMT
    EXPECT_EQ(retry_after("", "", now), -1);
    EXPECT_EQ(retry_after("0", "", now), 0);
    EXPECT_EQ(retry_after("120", "", now), 120 * second);
    EXPECT_EQ(retry_after("99999999999999999999999999", "", now), 86400 * second);
    EXPECT_EQ(retry_after("-5", "", now), -1);
    EXPECT_EQ(retry_after("soon", "", now), -1);
    EXPECT_EQ(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", "", now), 30 * second);
    EXPECT_EQ(retry_after("Wednesday, 21-Oct-15 07:28:30 GMT", "", now), 30 * second);
    EXPECT_EQ(retry_after("Wed Oct 21 07:28:30 2015", "", now), 30 * second);
    EXPECT_EQ(retry_after("Wed, 21 Oct 2015 07:27:30 GMT", "", now), 0);  // already past
    EXPECT_EQ(retry_after("Wed, 21 Oct 2015 07:28:30 CET", "", now), -1);
    // By the server's own clock, whatever the board's says.
    EXPECT_EQ(retry_after("Wed, 21 Oct 2015 07:28:30 GMT", "Wed, 21 Oct 2015 07:28:10 GMT", 0), 20 * second);
}

TEST(Status, what_may_follow) {
    const struct {
        int status;
        Next next;
    } all[] = {{200, Next::done},  {201, Next::done},      {301, Next::elsewhere}, {307, Next::elsewhere},
               {400, Next::never}, {401, Next::elsewhere}, {403, Next::elsewhere}, {404, Next::elsewhere},
               {408, Next::again}, {413, Next::never},     {422, Next::never},     {429, Next::again},
               {500, Next::again}, {501, Next::elsewhere}, {502, Next::lost},      {503, Next::again},
               {504, Next::lost}};
    for (const auto& s : all) EXPECT_EQ(next_for(s.status), s.next) << s.status;
}

TEST(Breaker, rests_longer_each_time_and_lets_one_through) {
    Breaker b;
    std::int64_t now = 1000 * second;
    for (int i = 0; i < 4; i++) {
        EXPECT_TRUE(b.may_try(now));
        b.failed(now);
    }
    b.succeeded();  // in a row only
    for (int i = 0; i < 5; i++) {
        EXPECT_TRUE(b.may_try(now));
        b.failed(now);
    }
    for (const int rest : {30, 60, 120, 240, 480, 600, 600}) {
        EXPECT_EQ(b.state(), Breaker::State::open);
        EXPECT_EQ(b.until(), now + rest * second);
        EXPECT_FALSE(b.may_try(now + rest * second - 1));
        now += rest * second;
        EXPECT_TRUE(b.may_try(now));
        EXPECT_EQ(b.state(), Breaker::State::half_open);
        EXPECT_FALSE(b.may_try(now));  // one at a time
        b.failed(now);
    }
    now += 600 * second;
    EXPECT_TRUE(b.may_try(now));
    b.gave_up();  // cut: it neither failed nor succeeded, and another one may
    EXPECT_TRUE(b.may_try(now));
    b.succeeded();
    EXPECT_EQ(b.state(), Breaker::State::closed);
    EXPECT_TRUE(b.may_try(now));
}

TEST(Breaker, a_server_that_says_when) {
    Breaker b;
    b.rest_until(50 * second);
    b.rest_until(40 * second);
    EXPECT_FALSE(b.may_try(50 * second - 1));
    EXPECT_TRUE(b.may_try(50 * second));
    EXPECT_EQ(b.until(), 0);
}

}  // namespace
}  // namespace slmd::uplink
