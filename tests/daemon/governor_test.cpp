// The governor against a board with heat capacity, and against flags that flap.
#include "daemon/governor.h"

#include <gtest/gtest.h>

namespace slmd::daemon {
namespace {

constexpr Limits four{.threads = 4, .batch = 32, .limit = 77'000, .stop = 85'000};

Readings at(double celsius) { return {.temperature = static_cast<int>(celsius * 1000)}; }

// A first-order model: the board goes towards ambient + watts * resistance, with one time constant.
struct Board {
    double celsius = 45, ambient = 25, per_thread = 16, tau = 60;
    double step(const Effort& e) {
        const double target = ambient + 8 + per_thread * e.threads * e.duty / 100;
        celsius += (target - celsius) / tau;
        return celsius;
    }
};

TEST(Governor, CoolBoardsWorkInFull) {
    Governor g(four);
    for (std::uint64_t t = 0; t < 1'000'000; t += 1000) EXPECT_FALSE(g.tick(at(40 + (t / 1000) % 20), t));
    EXPECT_EQ(g.effort(), (Effort{4, 32, 100, Effort::none}));
    EXPECT_TRUE(g.full());
}

TEST(Governor, StepsDownBeforeTheLimitAndSettles) {
    Governor g(four);
    Board board;
    double hottest = 0, first_step_at = 0;
    int changes = 0;
    for (std::uint64_t t = 0; t < 3'600'000; t += 1000) {
        const bool changed = g.tick(at(board.step(g.effort())), t);
        if (changed && first_step_at == 0) first_step_at = board.celsius;
        changes += changed;
        hottest = std::max(hottest, board.celsius);
        EXPECT_EQ(g.effort().refuse, Effort::none);
        EXPECT_GE(g.effort().threads, 1);
    }
    EXPECT_LT(first_step_at, 77);  // before the limit
    EXPECT_LT(hottest, 80);        // the kernel never had to
    EXPECT_LT(g.effort().threads, 4);
    EXPECT_LT(changes, 3600 / 20) << "it flaps";
}

// 85 degrees that do not come from us: everything goes down, and comes back slowly.
TEST(Governor, ForeignHeatAndRecovery) {
    Governor g(four);
    std::uint64_t t = 0;
    std::vector<int> threads;
    for (double c = 50; c < 84; c += 0.5, t += 1000) {
        if (g.tick(at(c), t)) threads.push_back(g.effort().threads);
        EXPECT_EQ(g.effort().refuse, Effort::none);
        if (c >= 77) {
            EXPECT_LT(g.effort().threads, 4) << c;
        }
    }
    ASSERT_GE(threads.size(), 4u);
    EXPECT_EQ(threads[0], 3);
    EXPECT_EQ(threads[1], 2);
    g.tick(at(85), t += 1000);
    EXPECT_EQ(g.effort().refuse, Effort::heat);
    EXPECT_EQ(g.effort().duty, 10);
    EXPECT_STREQ(g.cause(), "THERM");
    g.tick(at(78), t += 1000);
    EXPECT_EQ(g.effort().refuse, Effort::heat);  // hysteresis: not before the limit
    int steps = 0;
    std::uint64_t last = t;
    for (int i = 0; i < 300 && !g.full(); i++) {
        if (!g.tick(at(60), t += 1000)) continue;
        if (g.effort().refuse == Effort::none && steps++ > 0) {
            EXPECT_GE(t - last, Governor::recover_ms);
        }
        last = t;
    }
    EXPECT_TRUE(g.full());
    EXPECT_GE(steps, 5);
}

TEST(Governor, ASensorThatFailsIsNoReasonToSpeedUp) {
    Governor g(four);
    for (std::uint64_t t = 0; t < 20'000; t += 1000) g.tick(at(79), t);
    const Effort before = g.effort();
    EXPECT_LT(before.threads, 4);
    for (std::uint64_t t = 20'000; t < 90'000; t += 1000) EXPECT_FALSE(g.tick({}, t));
    EXPECT_EQ(g.effort(), before);
}

TEST(Governor, UndervoltageHalvesTheThreadsForAWhile) {
    Governor g(four);
    EXPECT_TRUE(g.tick({.temperature = 50'000, .undervoltage = true}, 1000));
    EXPECT_EQ(g.effort().threads, 2);
    EXPECT_STREQ(g.cause(), "POWER");
    EXPECT_FALSE(g.tick({.temperature = 50'000, .undervoltage = false}, 5000));
    EXPECT_FALSE(g.tick({.temperature = 50'000, .undervoltage = true}, 10'000));
    EXPECT_FALSE(g.tick(at(50), 39'000));
    EXPECT_TRUE(g.tick(at(50), 40'000));
    EXPECT_EQ(g.effort().threads, 4);
}

TEST(Governor, ALoweredClockIsOneThreadButAnAdministratorsCapIsNot) {
    Governor g(four);
    Readings r = at(50);
    r.cap_khz = 1'500'000, r.max_khz = 2'400'000;  // an administrator's
    EXPECT_FALSE(g.tick(r, 0));
    r.cap_khz = 1'200'000;
    EXPECT_TRUE(g.tick(r, 1000));
    EXPECT_EQ(g.effort().threads, 3);
    EXPECT_STREQ(g.cause(), "CLOCK");
    r.cap_khz = 1'500'000;
    EXPECT_FALSE(g.tick(r, 2000));
    EXPECT_TRUE(g.tick(r, 31'001));
    EXPECT_TRUE(g.full());
}

TEST(Governor, MemoryPressureStopsAdmissionUntilItIsGone) {
    Governor g(four);
    Readings r = at(50);
    r.pressure = 30;
    EXPECT_FALSE(g.tick(r, 0));
    r.pressure = 45;
    EXPECT_TRUE(g.tick(r, 1000));
    EXPECT_EQ(g.effort().refuse, Effort::memory);
    EXPECT_EQ(g.effort().batch, 8);
    EXPECT_STREQ(g.cause(), "MEM");
    r.pressure = 20;
    EXPECT_FALSE(g.tick(r, 30'000));
    r.pressure = 1;
    EXPECT_FALSE(g.tick(r, 39'000));
    EXPECT_TRUE(g.tick(r, 40'000));
    EXPECT_TRUE(g.full());
}

TEST(Governor, OneThreadHasOnlyPausesToGive) {
    Governor g({.threads = 1, .batch = 4, .limit = 77'000, .stop = 85'000});
    std::vector<int> duties;
    for (std::uint64_t t = 0; t < 60'000; t += 1000)
        if (g.tick(at(78), t)) duties.push_back(g.effort().duty);
    EXPECT_EQ(duties, (std::vector<int>{60, 30, 10}));
    EXPECT_EQ(g.effort().threads, 1);
    EXPECT_EQ(g.effort().batch, 4);
}

}  // namespace
}  // namespace slmd::daemon
