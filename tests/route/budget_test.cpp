#include "route/budget.h"

#include <gtest/gtest.h>

#include <cstring>
#include <ctime>
#include <map>
#include <random>
#include <string>
#include <vector>

namespace slmd::route {
namespace {

constexpr std::int64_t day_ms = 86'400'000;

TEST(Date, IsTheCivilOne) {
    EXPECT_EQ(Date::of(0).month, 0);
    EXPECT_EQ(Date::of(31 * day_ms - 1).month, 0);
    EXPECT_EQ(Date::of(31 * day_ms).month, 1);
    EXPECT_EQ(Date::of(-5).day, 0);
    for (std::int64_t t = 0; t < 50'000 * day_ms; t += day_ms / 2) {  // to the year 2106
        const std::time_t seconds = t / 1000;
        std::tm tm{};
        gmtime_r(&seconds, &tm);
        ASSERT_EQ(Date::of(t).month, (tm.tm_year - 70) * 12 + tm.tm_mon) << t;
        ASSERT_EQ(Date::of(t).day, t / day_ms);
    }
}

TEST(Cost, IsRoundedUpAndDoesNotOverflow) {
    EXPECT_EQ(cost_of(1'000'000, 0, 150'000, 600'000), 150'000);
    EXPECT_EQ(cost_of(1, 1, 150'000, 600'000), 1);
    EXPECT_EQ(cost_of(0, 0, 150'000, 600'000), 0);
    EXPECT_EQ(cost_of(INT64_MAX, INT64_MAX, INT64_MAX, INT64_MAX), INT64_MAX);
}

TEST(Budget, WithoutAWordSpendsNoMoney) {
    Budget b;
    b.set({}, {});
    EXPECT_TRUE(b.reserve("a", {0, 1'000'000, 1'000'000}, {1, 0}));
    const auto no = b.reserve("a", {1, 1, 1}, {1, 0});
    ASSERT_FALSE(no);
    EXPECT_EQ(no.error().code, Code::not_allowed);
    EXPECT_NE(std::string(no.error().text).find("all agents for a day: money 0 of 0"), std::string::npos)
        << no.error().text;
}

TEST(Budget, LimitsOfAnAgentAndOfAll) {
    Budget b;
    AgentLimits one;
    strcpy(one.agent, "one");
    one.limits.day.tokens = 100;
    b.set({{1000, Limits::none, Limits::none}, {1500, Limits::none, Limits::none}}, {&one, 1});
    const auto when = b.reserve("one", {600, 100, 0}, {10, 3});
    ASSERT_TRUE(when);
    EXPECT_FALSE(b.reserve("one", {1, 1, 0}, {10, 3}));    // its tokens
    EXPECT_FALSE(b.reserve("two", {401, 1, 0}, {10, 3}));  // the money of all
    b.settle("one", {600, 100, 0}, {500, 80, 0}, when.value());
    EXPECT_TRUE(b.reserve("two", {500, 1, 0}, {10, 3}));
    EXPECT_TRUE(b.reserve("one", {0, 20, 0}, {10, 3}));
    EXPECT_FALSE(b.reserve("one", {501, 20, 0}, {11, 3}));  // of the month 1000 are spent
    EXPECT_TRUE(b.reserve("one", {500, 20, 0}, {11, 3}));
    EXPECT_FALSE(b.reserve("one", {1, 0, 0}, {11, 3}));
    EXPECT_TRUE(b.reserve("one", {1, 0, 0}, {30, 4}));  // another one
}

TEST(Budget, AClockThatWasSetBackGivesNothingBack) {
    Budget b;
    b.set({{100, Limits::none, Limits::none}, {1000, Limits::none, Limits::none}}, {});
    ASSERT_TRUE(b.reserve("a", {100, 0, 0}, {20'000, 600}));
    EXPECT_FALSE(b.reserve("a", {1, 0, 0}, {3, 0}));
    EXPECT_FALSE(b.reserve("b", {1, 0, 0}, {3, 0}));
}

TEST(Budget, NeverMoreThanItsLimitWhateverComes) {
    std::mt19937 random(7);
    Budget b;
    constexpr std::int64_t most = 10'000;
    b.set({{most, Limits::none, Limits::none}, {3 * most, Limits::none, Limits::none}}, {});
    struct Open {
        std::string agent;
        Amounts reserved;
        Date when;
    };
    std::vector<Open> open;
    std::map<int, std::int64_t> days, months;
    int refused = 0;
    for (int i = 0; i < 20'000; i++) {
        const Date now{i / 100, i / 3000};
        if (!open.empty() && random() % 2 == 0) {
            const Open o = open.back();
            open.pop_back();
            const auto used = static_cast<std::int64_t>(random() % (static_cast<unsigned>(o.reserved.money) + 1));
            b.settle(o.agent, o.reserved, {used, 0, 0}, o.when);
            days[o.when.day] -= o.reserved.money - used, months[o.when.month] -= o.reserved.money - used;
            continue;
        }
        Open o{std::string(1, static_cast<char>('a' + random() % 8)),
               {static_cast<std::int64_t>(random() % 900 + 1), 0, 0},
               {}};
        const auto when = b.reserve(o.agent, o.reserved, now);
        const bool fits = days[now.day] + o.reserved.money <= most && months[now.month] + o.reserved.money <= 3 * most;
        ASSERT_EQ(static_cast<bool>(when), fits) << i;
        refused += !fits;
        if (!when) continue;
        o.when = when.value();
        days[now.day] += o.reserved.money, months[now.month] += o.reserved.money;
        open.push_back(o);
    }
    EXPECT_GT(refused, 100);
}

TEST(Budget, AgentsBeyondItsRoomAreRefused) {
    Budget b;
    b.set({}, {});
    for (std::size_t i = 0; i < Budget::max_agents; i++) EXPECT_TRUE(b.reserve("agent" + std::to_string(i), {}, {}));
    EXPECT_TRUE(b.reserve("agent3", {}, {}));
    const auto no = b.reserve("one more", {}, {});
    ASSERT_FALSE(no);
    EXPECT_EQ(no.error().code, Code::memory_full);
}

}  // namespace
}  // namespace slmd::route
