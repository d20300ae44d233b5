#include "route/budget.h"

#include <string.h>

#include <algorithm>

namespace slmd::route {
namespace {

void add(std::int64_t& to, std::int64_t n) {
    if (__builtin_add_overflow(to, n, &to)) to = INT64_MAX;
}

void roll(Account& a, Date now) {
    if (now.month > a.date.month) a.month = {}, a.date.month = now.month;
    if (now.day > a.date.day) a.day = {}, a.date.day = now.day;
}

bool same(const Account& a, std::string_view agent) { return agent == a.agent; }

// The first limit that `more` would exceed.
Result<void> fits(const char* whose, const char* period, const Amounts& limit, const Amounts& used,
                  const Amounts& more) {
    const struct {
        const char* what;
        std::int64_t limit, used, more;
        double unit;
    } each[] = {{"money", limit.money, used.money, more.money, 1e-6},
                {"tokens", limit.tokens, used.tokens, more.tokens, 1},
                {"bytes", limit.bytes, used.bytes, more.bytes, 1}};
    for (const auto& e : each)
        if (e.limit != Limits::none && (e.used > e.limit || e.more > e.limit - e.used))
            return Error::make(Code::not_allowed,
                               "the budget of %s for a %s: %s %.6g of %.6g are spent or reserved, and this may take "
                               "%.6g; [budget] of slm-uplink's configuration says more, or wait for the next %s",
                               whose, period, e.what, static_cast<double>(e.used) * e.unit,
                               static_cast<double>(e.limit) * e.unit, static_cast<double>(e.more) * e.unit, period);
    return {};
}

}  // namespace

Amounts& Amounts::operator+=(const Amounts& o) {
    add(money, o.money), add(tokens, o.tokens), add(bytes, o.bytes);
    return *this;
}

Amounts& Amounts::operator-=(const Amounts& o) {
    money = std::max<std::int64_t>(0, money - o.money);
    tokens = std::max<std::int64_t>(0, tokens - o.tokens);
    bytes = std::max<std::int64_t>(0, bytes - o.bytes);
    return *this;
}

std::int64_t cost_of(std::int64_t tokens_in, std::int64_t tokens_out, std::int64_t price_in, std::int64_t price_out) {
    const __int128 all = static_cast<__int128>(tokens_in) * price_in + static_cast<__int128>(tokens_out) * price_out;
    const __int128 cost = (all + 999'999) / 1'000'000;
    return cost > INT64_MAX ? INT64_MAX : static_cast<std::int64_t>(cost);
}

// Days to a civil date: Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms".
Date Date::of(std::int64_t unix_ms) {
    const std::int64_t day = std::max<std::int64_t>(0, unix_ms / 86'400'000);
    const std::int64_t z = day + 719'468, era = z / 146'097, of_era = z - era * 146'097;
    const std::int64_t year = (of_era - of_era / 1460 + of_era / 36'524 - of_era / 146'096) / 365;
    const std::int64_t of_year = of_era - (365 * year + year / 4 - year / 100);  // from March on
    const std::int64_t from_march = (5 * of_year + 2) / 153;
    const std::int64_t month = (era * 400 + year) * 12 + from_march + 2;  // months since the year 0
    return {static_cast<std::int32_t>(day), static_cast<std::int32_t>(month - 1970 * 12)};
}

Account* Budget::find(std::string_view agent) {
    Account* const end = accounts_ + count_;
    Account* const found = std::find_if(accounts_ + 1, end, [&](const Account& a) { return same(a, agent); });
    return found == end ? nullptr : found;
}

Result<Account*> Budget::make(std::string_view agent) {
    if (Account* const found = find(agent)) return found;
    if (count_ > max_agents || agent.size() >= sizeof accounts_[0].agent)
        return Error::make(Code::memory_full, "the budget has %zu agents already, and no room for %.*s", max_agents,
                           static_cast<int>(std::min<std::size_t>(32, agent.size())), agent.data());
    Account& made = accounts_[count_++];
    made = {};
    memcpy(made.agent, agent.data(), agent.size());
    return &made;
}

const Limits* Budget::limits_of(const Account& account) const {
    if (account.agent[0] == 0) return &all_;
    for (const AgentLimits& a : agents_)
        if (same(account, a.agent)) return &a.limits;
    return nullptr;
}

Result<Date> Budget::reserve(std::string_view agent, const Amounts& most, Date now) {
    now = {std::max(now.day, accounts_[0].date.day), std::max(now.month, accounts_[0].date.month)};
    Account* const both[] = {&accounts_[0], TRY(make(agent))};
    for (Account* const a : both) {
        roll(*a, now);
        const Limits* const limits = limits_of(*a);
        if (limits == nullptr) continue;
        const char* const whose = a->agent[0] == 0 ? "all agents" : a->agent;
        TRY(fits(whose, "day", limits->day, a->day, most));
        TRY(fits(whose, "month", limits->month, a->month, most));
    }
    for (Account* const a : both) a->day += most, a->month += most;
    return now;
}

void Budget::count(std::string_view agent, const Amounts& most, Date when) {
    const auto made = make(agent);
    for (Account* const a : {&accounts_[0], made ? made.value() : nullptr}) {
        if (a == nullptr) continue;
        roll(*a, when);
        a->day += most, a->month += most;
    }
}

void Budget::settle(std::string_view agent, const Amounts& reserved, const Amounts& used, Date when) {
    for (Account* const a : {&accounts_[0], find(agent)}) {
        if (a == nullptr) continue;
        if (a->date.day == when.day) a->day -= reserved, a->day += used;
        if (a->date.month == when.month) a->month -= reserved, a->month += used;
    }
}

Result<void> Budget::restore(const Account& account) {
    Account& a = account.agent[0] == 0 ? accounts_[0] : *TRY(make(account.agent));
    a = account;
    return {};
}

}  // namespace slmd::route
