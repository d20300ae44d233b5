#include "client/queue.h"

#include <stdio.h>
#include <time.h>

#include "client/agent.h"
#include "client/caller.h"

namespace slmd::client {
namespace {

std::string text_of(const JsonNode* n) { return n == nullptr ? "" : std::string(n->text); }
double number_of(const JsonNode* n) { return n == nullptr ? 0 : n->number; }

std::string date_of(double unix_time) {
    const auto t = static_cast<time_t>(unix_time);
    tm broken{};
    char text[32] = "-";
    if (t > 0) strftime(text, sizeof text, "%Y-%m-%d %H:%M:%SZ", gmtime_r(&t, &broken));
    return text;
}

// "12 of 500", or "12" where there is no limit.
std::string of(const JsonNode* used, const JsonNode* limit) {
    const bool limited = limit != nullptr && limit->type == JsonType::number;
    return text_of(used) + (limited ? " of " + std::string(limit->text) : "");
}

}  // namespace

int list_queue(Connection& connection, bool json) {
    Caller caller(connection);
    const auto r = caller.call("queue", "", false);
    if (!r) return outcome(r.error());
    if (json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode* const queue = reader.find(*r.value(), "queue");
    if (queue == nullptr) return complain(Error::make(Code::unknown, "no queue came back"), exit_failed);
    for (int i = reader.first(*queue); i < queue->next; i = reader.node(i).next) {
        const JsonNode& q = reader.node(i);
        printf("%s  %-8s  %-24s  priority %.0f, queued %s, not sent after %s\n", text_of(reader.find(q, "key")).c_str(),
               text_of(reader.find(q, "state")).c_str(), text_of(reader.find(q, "agent")).c_str(),
               number_of(reader.find(q, "priority")), date_of(number_of(reader.find(q, "queued"))).c_str(),
               date_of(number_of(reader.find(q, "deadline"))).c_str());
    }
    return 0;
}

int show_queued(Connection& connection, const std::string& key, bool json) {
    Caller caller(connection);
    const auto r = caller.call("queue.show", "\"key\":" + quoted(key), true);
    if (!r) return outcome(r.error());
    return print_answer(caller, *r.value(), json);
}

int drop_queued(Connection& connection, const std::string& key) {
    Caller caller(connection);
    const auto r = caller.call("queue.drop", "\"key\":" + quoted(key), false);
    return r ? 0 : outcome(r.error());
}

int show_budget(Connection& connection, bool json) {
    Caller caller(connection);
    const auto r = caller.call("budget", "", false);
    if (!r) return outcome(r.error());
    if (json) return puts(caller.line().c_str()), 0;
    const wire::JsonLine& reader = caller.reader();
    const JsonNode* const budget = reader.find(*r.value(), "budget");
    if (budget == nullptr || reader.first(*budget) >= budget->next) {
        fputs("slmctl: slm-uplink has not said what was spent: is it running?\n", stderr);
        return exit_failed;
    }
    for (int i = reader.first(*budget); i < budget->next; i = reader.node(i).next) {
        const JsonNode& b = reader.node(i);
        const std::string agent = text_of(reader.find(b, "agent"));
        const auto amount = [&](const std::string& name) {
            return of(reader.find(b, name), reader.find(b, name + "_limit"));
        };
        printf("%-24s %-6s money %s, tokens %s, bytes %s\n", agent.empty() ? "all agents" : agent.c_str(),
               text_of(reader.find(b, "period")).c_str(), amount("money").c_str(), amount("tokens").c_str(),
               amount("bytes").c_str());
    }
    return 0;
}

}  // namespace slmd::client
