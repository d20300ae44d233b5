// What may be spent in a day and in a month, by each agent and by all: money, tokens, bytes. Whole before it is sent,
// and what was not used given back when that is known, so that it is never overspent.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::route {

struct Amounts {
    std::int64_t money = 0;                 // millionths of the currency that the prices are in
    std::int64_t tokens = 0;                // read and written
    std::int64_t bytes = 0;                 // sent and received, as HTTP has them
    Amounts& operator+=(const Amounts& o);  // at most what an int64_t holds
    Amounts& operator-=(const Amounts& o);  // not below 0
    bool operator==(const Amounts&) const = default;
};

// Tokens at prices for a million of them, rounded up.
std::int64_t cost_of(std::int64_t tokens_in, std::int64_t tokens_out, std::int64_t price_in, std::int64_t price_out);

struct Limits {
    static constexpr std::int64_t none = INT64_MAX;
    Amounts day{0, none, none}, month{none, none, none};  // without a file's word no money is spent
};

struct AgentLimits {
    char agent[33] = "";
    Limits limits{{Limits::none, Limits::none, Limits::none}, {Limits::none, Limits::none, Limits::none}};
};

// Of UTC; both only ever go forward, so that a clock that was set back gives nothing back.
struct Date {
    std::int32_t day = 0, month = 0;  // since 1970-01-01
    static Date of(std::int64_t unix_ms);
};

struct Account {
    char agent[33] = "";  // "": all of them together
    Date date;
    Amounts day, month;  // spent or reserved
};

class Budget {
  public:
    static constexpr std::size_t max_agents = 32;

    void set(const Limits& all, std::span<const AgentLimits> agents) { all_ = all, agents_ = agents; }
    // The date on which it counts. Errors: not_allowed, naming the limit and what is left of it; memory_full (more
    // agents than there is room for).
    Result<Date> reserve(std::string_view agent, const Amounts& most, Date now);
    // What was reserved on that date came to this. Zero: nothing was sent.
    void settle(std::string_view agent, const Amounts& reserved, const Amounts& used, Date when);

    // The first is that of all. As of the last reservation.
    std::span<const Account> accounts() const { return {accounts_, count_}; }
    const Limits* limits_of(const Account& account) const;  // null: none of its own
    // Of a file: what was reserved counts, whatever the limits are now. As it was written down. Errors: memory_full.
    void count(std::string_view agent, const Amounts& most, Date when);
    Result<void> restore(const Account& account);

  private:
    Account* find(std::string_view agent);
    Result<Account*> make(std::string_view agent);

    Limits all_;
    std::span<const AgentLimits> agents_;
    Account accounts_[1 + max_agents];
    std::size_t count_ = 1;
};

}  // namespace slmd::route
