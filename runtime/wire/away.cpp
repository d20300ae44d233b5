// What has to do with the large model, in both renderings: why an answer was kept or not, what waits, what was spent.
#include <algorithm>
#include <cstdio>

#include "wire/session.h"

namespace slmd::wire {
namespace {

// Money as people write it: 0.000125.
void put_money(Line& line, std::int64_t millionths) {
    char text[32];
    const int n = std::snprintf(text, sizeof text, "%lld.%06lld", static_cast<long long>(millionths / 1'000'000),
                                static_cast<long long>(millionths % 1'000'000));
    line.put({text, static_cast<std::size_t>(n)});
}

constexpr const char* names[] = {"money", "tokens", "bytes"};

void put_amounts(Line& line, const std::int64_t (&of)[3], int i) {
    if (i == 0)
        put_money(line, of[i]);
    else
        line.number(of[i]);
}

}  // namespace

Result<int> Session::submit_queued(std::string_view key) {
    const Turn none{false, {}};
    Request request{{&none, 1}, &settings_, false};
    request.key = key;
    return host_->submit(request);
}

// ---- AT

// #ROUTE: "escalate","why","who",cost,tokens in,tokens out,ms; of a narrow line its beginning. With a key, #KEY: "key"
// before it.
void Session::at_away(const Away& a, const char* route) {
    const auto width = static_cast<std::size_t>(width_);
    if (!a.key.empty()) {
        info(out_.put("#KEY: ").at_string(a.key));
        out_.clear();
    }
    out_.put("#ROUTE: ").at_string(route).put(',');
    const std::string_view why = a.failed.empty() ? std::string_view(a.reason) : a.failed;
    const bool wide = width >= 128;
    out_.at_string(why.substr(0, fit_at(why, wide ? width / 3 : width - 24)));
    if (wide) {
        out_.put(',').at_string(a.upstream.substr(0, fit_at(a.upstream, 32))).put(',');
        put_money(out_, a.cost);
        out_.put(',').number(a.prompt_tokens).put(',').number(a.tokens).put(',').number(a.ms);
    }
    info(out_);
}

// #QUEUE: "key",1,priority,queued,"agent"; 1: it is answered. Of a narrow line its beginning.
void Session::at_queue_step() {
    const auto queue = host_->queue();
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    if (at >= queue.size()) return end_list(), ok();
    const QueueInfo& q = queue[at];
    out_.put("#QUEUE: ").at_string(q.key).put(',').number(q.answered);
    const auto width = static_cast<std::size_t>(width_);
    if (width >= 80) {
        out_.put(',').number(q.priority).put(',').number(q.queued).put(',');
        out_.at_string(q.agent.substr(0, fit_at(q.agent, width - std::min(width, out_.size() + 10))));
    }
    info(out_);
}

// #BUDGET: "agent","day","money",used,of; without the last: no limit
void Session::at_budget_step() {
    const auto budget = host_->budget();
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    if (at >= 3 * budget.size()) return end_list(), ok();
    const BudgetInfo& b = budget[at / 3];
    const auto i = static_cast<int>(at % 3);
    const auto width = static_cast<std::size_t>(width_);
    out_.put("#BUDGET: ").at_string(b.agent.substr(0, fit_at(b.agent, width > 64 ? width - 60 : 4)));
    out_.put(',').at_string(b.period).put(',').at_string(names[i]).put(',');
    put_amounts(out_, b.used, i);
    if (b.limit[i] >= 0) put_amounts(out_.put(','), b.limit, i);
    info(out_);
}

// ---- JSON-RPC

void Session::rpc_away(const Away& a) {
    out_.put(",\"reason\":").json_string(a.reason);
    if (!a.key.empty()) out_.put(",\"key\":").json_string(a.key);
    if (!a.failed.empty()) out_.put(",\"remote_error\":").json_string(a.failed);
    if (a.upstream.empty()) return;
    out_.put(",\"remote\":{\"upstream\":").json_string(a.upstream).put(",\"model\":").json_string(a.model);
    out_.put(",\"prompt_tokens\":").number(a.prompt_tokens).put(",\"tokens\":").number(a.tokens).put(",\"cost\":");
    put_money(out_, a.cost);
    out_.put(",\"bytes_out\":").number(a.bytes_out).put(",\"bytes_in\":").number(a.bytes_in);
    out_.put(",\"tries\":").number(a.tries).put(",\"ms\":").number(a.ms).put('}');
}

void Session::rpc_queue_step() {
    const auto queue = host_->queue();
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    if (at == 0) rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"queue\":["));
    if (at >= queue.size()) {
        rpc_piece(out_.put("]}"));
        return rpc_end(), end_list();
    }
    const QueueInfo& q = queue[at];
    out_.put(at > 0 ? ",{" : "{").put("\"key\":").json_string(q.key).put(",\"agent\":").json_string(q.agent);
    out_.put(",\"state\":").json_string(q.answered ? "answered" : "waiting").put(",\"priority\":").number(q.priority);
    rpc_piece(out_.put(",\"queued\":").number(q.queued).put(",\"deadline\":").number(q.deadline).put('}'));
}

void Session::rpc_budget_step() {
    const auto budget = host_->budget();
    const auto at = static_cast<std::size_t>(list_at_ - 1);
    if (at == 0) rpc_open({list_id_, list_id_size_}), rpc_piece(out_.put("{\"budget\":["));
    if (at >= budget.size()) {
        rpc_piece(out_.put("]}"));
        return rpc_end(), end_list();
    }
    const BudgetInfo& b = budget[at];
    out_.put(at > 0 ? ",{" : "{").put("\"agent\":").json_string(b.agent).put(",\"period\":").json_string(b.period);
    for (int i = 0; i < 3; i++) {
        out_.put(",\"").put(names[i]).put("\":");
        put_amounts(out_, b.used, i);
        out_.put(",\"").put(names[i]).put("_limit\":");
        if (b.limit[i] < 0)
            out_.put("null");
        else
            put_amounts(out_, b.limit, i);
    }
    rpc_piece(out_.put('}'));
}

}  // namespace slmd::wire
