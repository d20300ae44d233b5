#include "uplink/config_serve.h"

#include <cmath>
#include <string>

#include "uplink/text.h"

namespace slmd::uplink {
namespace {

struct Reader {
    const hal::TomlFile& file;
    Config& config;

    template <std::size_t n>
    Result<void> path(const char* name, const toml::node& node, char (&out)[n]) const {
        const auto* const s = node.as_string();
        if (s == nullptr || s->get().empty() || s->get()[0] != '/' || s->get().size() >= n)
            return file.at(node, (std::string(name) + " is an absolute path").c_str());
        copy(s->get(), out);
        return {};
    }
    // Units of currency with up to six decimals, as millionths.
    Result<void> money(const toml::node& node, std::int64_t& out) const {
        const auto v = node.value<double>();
        const double millionths = v ? *v * 1e6 : -1;
        if (!v || !node.is_number() || !(*v >= 0 && *v <= 1e9) || std::fabs(millionths - std::round(millionths)) > 1e-3)
            return file.at(node, "money is 0 to 1000000000, in the currency of the prices, with up to six decimals");
        out = std::llround(millionths);
        return {};
    }
    Result<void> count(const char* name, const toml::node& node, std::int64_t low, std::int64_t high,
                       std::int64_t& out) const {
        const auto* const n = node.as_integer();
        if (n == nullptr || n->get() < low || n->get() > high)
            return file.at(
                node, (std::string(name) + " is a whole number, " + std::to_string(low) + " to " + std::to_string(high))
                          .c_str());
        out = n->get();
        return {};
    }
    Result<void> amounts(const char* name, const toml::node& node, route::Amounts& out) const {
        const auto* const t = node.as_table();
        if (t == nullptr)
            return file.at(node,
                           (std::string(name) + " is { money = 0.50, tokens = 200000, bytes = 2000000 }").c_str());
        constexpr std::int64_t most = 1'000'000'000'000'000;
        for (const auto& [key, value] : *t)
            if (key.str() == "money")
                TRY(money(value, out.money));
            else if (key.str() == "tokens")
                TRY(count("tokens", value, 0, most, out.tokens));
            else if (key.str() == "bytes")
                TRY(count("bytes", value, 0, most, out.bytes));
            else
                return file.unknown(key, "money, tokens, bytes");
        return {};
    }
    Result<void> budget(const toml::table& t) const {
        for (const auto& [key, node] : t)
            if (key.str() == "day")
                TRY(amounts("day", node, config.budget.day));
            else if (key.str() == "month")
                TRY(amounts("month", node, config.budget.month));
            else if (key.str() == "agent")
                TRY(agents(node));
            else
                return file.unknown(key, "day, month, [[budget.agent]]");
        // One that is given is meant to be all there is.
        const bool day = t.contains("day"), month = t.contains("month");
        if (day && !month) config.budget.month.money = route::Limits::none;
        if (month && !day) config.budget.day.money = route::Limits::none;
        return {};
    }
    Result<void> agents(const toml::node& node) const {
        const auto* const list = node.as_array();
        if (list == nullptr) return file.no_list(node, "budget.agent");
        for (const toml::node& n : *list) {
            const auto* const t = n.as_table();
            if (t == nullptr) return file.no_list(n, "budget.agent");
            if (config.agent_count == route::Budget::max_agents) return file.at(n, "at most 32 agents");
            route::AgentLimits& a = config.agents[config.agent_count++];
            for (const auto& [key, value] : *t)
                if (key.str() == "name") {
                    const auto name = value.value<std::string_view>();
                    if (!name || name->empty() || name->size() >= sizeof a.agent)
                        return file.at(value, "name is that of an agent, at most 32 bytes");
                    copy(*name, a.agent);
                } else if (key.str() == "day")
                    TRY(amounts("day", value, a.limits.day));
                else if (key.str() == "month")
                    TRY(amounts("month", value, a.limits.month));
                else
                    return file.unknown(key, "name, day, month");
            if (a.agent[0] == 0) return file.at(n, "a [[budget.agent]] has a name");
        }
        return {};
    }
    Result<void> queue(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            std::int64_t n = 0;
            const auto v = node.value<std::string_view>();
            if (key.str() == "requests") {
                TRY(count("requests", node, 0, 64, n));
                config.queue_requests = static_cast<std::size_t>(n);
            } else if (key.str() == "bytes") {
                TRY(count("bytes", node, 4096, 64 << 20, n));
                config.queue_bytes = static_cast<std::uint64_t>(n);
            } else if (key.str() == "in_doubt") {
                if (!v || (*v != "drop" && *v != "resend"))
                    return file.at(node,
                                   "in_doubt is \"drop\" (what may have arrived is given up) or \"resend\" (it may be "
                                   "answered, and paid for, twice)");
                config.resend = *v == "resend";
            } else
                return file.unknown(key, "requests, bytes, in_doubt");
        }
        return {};
    }
};

}  // namespace

Result<bool> read_serve(const hal::TomlFile& file, std::string_view key, const toml::node& node, Config& config) {
    const Reader reader{file, config};
    if (key == "slmd") return TRY(reader.path("slmd", node, config.slmd)), true;
    if (key == "state") return TRY(reader.path("state", node, config.state)), true;
    if (key != "budget" && key != "queue") return false;
    const auto* const t = node.as_table();
    if (t == nullptr) return file.no_table(node, key == "budget" ? "budget" : "queue");
    TRY(key == "budget" ? reader.budget(*t) : reader.queue(*t));
    return true;
}

}  // namespace slmd::uplink
