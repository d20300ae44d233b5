// Agents with tools: what the model calls, the event loop's thread does on the board, and the model is told.
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "base/utf8.h"
#include "daemon/check.h"
#include "daemon/log.h"
#include "daemon/service.h"
#include "task/tools.h"

namespace slmd::daemon {
namespace {

static_assert(agent::max_calls == task::max_calls);
constexpr std::size_t results_bytes = agent::max_calls * 512;  // of one answer's calls, an error's text each

bool has_output(const Config& config, std::string_view name) {
    return std::any_of(config.outputs, config.outputs + config.output_count,
                       [&](const OutputConfig& o) { return name == o.name; });
}

bool has_pin(const Config& config, std::string_view name) {
    const auto trigger = [&](const TriggerConfig& t) { return name == t.name; };
    const auto interlock = [&](const OutputConfig& o) { return name == o.interlock.line; };
    return has_output(config, name) || (name == "busy" && config.pins.busy.line[0] != 0) ||
           (name == "privacy" && config.pins.privacy.line[0] != 0) ||
           std::any_of(config.triggers, config.triggers + config.trigger_count, trigger) ||
           std::any_of(config.outputs, config.outputs + config.output_count, interlock);
}

}  // namespace

Result<void> check_tools(const Config& config, const agent::Agent& agent) {
    for (const agent::Tool& tool : agent.tools)
        for (const std::string_view s : tool.subjects) {
            const bool output = tool.kind == agent::Tool::output;
            if (tool.kind == agent::Tool::hardware || tool.absent ||
                (output ? has_output(config, s) : has_pin(config, s)))
                continue;
            return Error::make(Code::not_found, "agent %.*s, tool %.*s: the configuration has no %s \"%.*s\"; %s",
                               static_cast<int>(agent.name.size()), agent.name.data(),
                               static_cast<int>(tool.name.size()), tool.name.data(), output ? "[[output]]" : "line",
                               static_cast<int>(s.size()), s.data(), "AT#GPIO? lists what it has");
        }
    return {};
}

Result<void> Service::check_tools(const agent::Agent& agent, bool trusted) const {
    const auto name = static_cast<int>(agent.name.size());
    if (!trusted)
        return Error::make(Code::not_allowed,
                           "agent %.*s works on the board, and this port may not: trusted = true allows it", name,
                           agent.name.data());
    if (chat_->empty())
        return Error::make(Code::not_allowed,
                           "agent %.*s has tools, which are told by a chat template, and this model has none", name,
                           agent.name.data());
    return daemon::check_tools(config_, agent);
}

// Behind all that was said so far: the tools as the model reads them, and what its next answer obeys.
Result<void> Service::offer_tools(Job& job) {
    const agent::Agent& a = *job.agent;
    std::uint32_t at = job.step == 0 ? job.turns[0].end : job.dialog;
    job.dialog = at;
    if (prompt_bytes - at < a.tool_list.size() + task::words_schema.size())
        return Error::make(Code::text_too_long, "agent %.*s: what was said and called takes more than %zu bytes",
                           static_cast<int>(a.name.size()), a.name.data(), prompt_bytes);
    const std::size_t end = prompt_bytes - a.tool_list.size();  // read behind what is written
    std::copy(a.tool_list.begin(), a.tool_list.end(), job.text + end);
    auto texts = TRY(task::describe_tools({job.text + end, a.tool_list.size()}, "auto", a.system, job.call_form(),
                                          {job.text + at, end - at}));
    char* const schema = job.text + at + texts.system.size();
    if (a.steps > 1 && job.step + 1 == a.steps) {
        std::copy(task::words_schema.begin(), task::words_schema.end(), schema);
        texts.schema = {schema, task::words_schema.size()};
    } else if (const std::size_t words = texts.schema.find(task::words_schema); a.must_call && job.step == 0) {
        const std::size_t without = task::words_schema.size() + 1;  // and the comma behind it
        std::copy(schema + words + without, schema + texts.schema.size(), schema + words);
        texts.schema.remove_suffix(without);
    }
    job.system_begin = at;
    job.grammar_begin = at + static_cast<std::uint32_t>(texts.system.size());
    job.system_end = a.told ? job.grammar_begin : at;
    job.grammar_end = job.grammar_begin + static_cast<std::uint32_t>(texts.schema.size());
    return {};
}

// What a complete answer of the model says: true, calls, which wait for act(); false, words, which are the answer.
Result<bool> Service::take_calls(Job& job) {
    const agent::Agent& a = *job.agent;
    // As the model wrote it, which is what it will read, and as a list.
    const std::string_view said = memory_.constraints[job.constraint].matcher().text(), list(job.answer, job.used);
    const std::size_t n = said.size();
    if (n + list.size() + results_bytes > prompt_bytes - job.dialog)
        return Error::make(Code::text_too_long, "the answer does not fit behind what was said before");
    char* const kept = job.text + job.dialog;
    std::copy(said.begin(), said.end(), kept);
    std::copy(list.begin(), list.end(), kept + n);
    const agent::Calls calls = TRY(agent::read_calls(a, {kept + n, list.size()}));
    job.head = job.used = 0;
    const bool whole = job.how() == task::Finish::stop;  // what was cut short is not done
    if (calls.count > 0 && whole) {
        job.turns[job.turn_count++] = {true, job.dialog, job.dialog + static_cast<std::uint32_t>(n)};
        job.dialog += static_cast<std::uint32_t>(n + list.size());
        std::copy(calls.calls, calls.calls + calls.count, job.pending);
        job.pending_count = calls.count;
        return true;
    }
    std::size_t most = std::min({calls.text.size(), a.text_bytes, answer_bytes});
    while (most > 0 && most < calls.text.size() && (calls.text[most] & 0xC0) == 0x80) most--;
    std::copy(calls.text.begin(), calls.text.begin() + static_cast<std::ptrdiff_t>(most), job.answer);
    job.used = job.first_used = most;
    return false;
}

void Service::act() {
    route();
    {
        const Lock guard(lock_);
        for (Job& job : jobs_) {
            if (!job.acting || job.released || job.state != Job::live) continue;
            job.acting = false;
            carry_out(job);
            pthread_cond_signal(&work_);
        }
    }
    memory_.pipelines.advance(*this);
    if (state() == State::ready) memory_.documents.advance(*this, embedder(), !busy());
}

// What keeps a call from being done now, "" when nothing does. Errors: device_io, not_found: it cannot be known.
Result<std::string_view> Service::not_met(const agent::Call& call) {
    const auto size = static_cast<int>(call.of.size());
    const auto say = [&](const char* format, auto... values) {
        const int n = snprintf(not_met_, sizeof not_met_, format, size, call.of.data(), values...);
        return std::string_view(not_met_, std::min(static_cast<std::size_t>(n), sizeof not_met_ - 1));
    };
    if (call.when == agent::Call::always) return std::string_view();
    if (call.when == agent::Call::active || call.when == agent::Call::inactive) {
        for (const wire::PinState& pin : machine_->pins())
            if (call.of == pin.name && pin.active >= 0) {
                if ((pin.active != 0) == (call.when == agent::Call::active)) return std::string_view();
                return say("%.*s is %s", pin.active != 0 ? "active" : "inactive");
            }
        return Error::make(Code::device_io, "%.*s: the line cannot be had now", size, call.of.data());
    }
    for (const wire::HardwareItem& item : machine_->hardware())
        if (call.of == item.name && item.text == nullptr) {
            const bool above = call.when == agent::Call::above;
            if (above ? item.values[0] > call.bound : item.values[0] < call.bound) return std::string_view();
            return say("%.*s is %.6g, not %s %.6g", item.values[0], above ? "above" : "below", call.bound);
        }
    return Error::make(Code::not_found, "this board says nothing of \"%.*s\"; AT#HW? lists what it says", size,
                       call.of.data());
}

// With the lock, in the event loop's thread.
void Service::carry_out(Job& job) {
    const agent::Agent& a = *job.agent;
    char* const begin = job.text + job.dialog;
    char* const end = job.text + prompt_bytes;
    char* at = begin;
    const auto put = [&](const char* format, auto... values) {
        const int n = snprintf(at, static_cast<std::size_t>(end - at), format, values...);
        const std::string_view written(at,
                                       std::min(static_cast<std::size_t>(n), static_cast<std::size_t>(end - at - 1)));
        at += written.size();
        return written;
    };
    const auto size = [](std::string_view s) { return static_cast<int>(s.size()); };
    for (int i = 0; i < job.pending_count; i++) {
        const agent::Call& call = job.pending[i];
        const agent::Tool& tool = *call.tool;
        wire::CallResult& told = job.calls[job.call_count++];
        told = {tool.name, call.arguments, {}, false};
        put("%s<tool_response>\n%.*s: ", i == 0 ? "" : "\n", size(tool.name), tool.name.data());
        Error why{};
        if (tool.kind == agent::Tool::output) {
            constexpr int pulse_ms = 500;  // of several, when nothing is said of their length
            int ms = call.ms;
            for (int o = 0; o < config_.output_count && ms == 0; o++)  // it stays on as long as it may
                if (call.subject == config_.outputs[o].name) ms = config_.outputs[o].max_pulse_ms;
            if (call.times > 0 && call.ms == 0) ms = ms == 0 ? pulse_ms : std::min(ms, pulse_ms);
            const auto unmet = not_met(call);
            const bool unsure = job.sure < a.threshold;
            job.held |= unsure;
            if (unsure)
                told.result = put("not done: the model is not sure (%.4g, threshold %.4g)",
                                  static_cast<double>(job.sure), static_cast<double>(a.threshold));
            else if (!unmet)
                why = unmet.error();
            else if (!unmet.value().empty())
                told.result = put("not done: %.*s", size(unmet.value()), unmet.value().data());
            else if (job.dry)
                told.result = put("%s", "not done: a dry run");
            else if (const auto done =
                         machine_->drive(call.subject, call.on, call.on ? ms : 0, std::max(call.times, 1));
                     !done)
                why = done.error();
            else if (call.on && call.times > 0)
                told.result = put("on %d times for %d ms", call.times, ms);
            else if (call.on && ms > 0)
                told.result = put("on for %d ms", ms);
            else
                told.result = put("%s", call.on ? "on" : "off");
        } else if (tool.kind == agent::Tool::pin) {
            why = Error::make(Code::device_io, "%.*s: the line cannot be had now", size(call.subject),
                              call.subject.data());
            for (const wire::PinState& pin : machine_->pins())
                if (call.subject == pin.name && pin.active >= 0)
                    told.result = put("%s", pin.active != 0 ? "active" : "inactive");
        } else {
            why = Error::make(Code::not_found, "this board says nothing of \"%.*s\"; AT#HW? lists what it says",
                              size(call.subject), call.subject.data());
            for (const wire::HardwareItem& item : machine_->hardware())
                if (call.subject == item.name)
                    told.result = item.text != nullptr ? put("%s", item.text) : put("%.6g", item.values[0]);
        }
        told.failed = told.result.empty();
        if (told.failed) told.result = put("%s", why.text);
        put("%s", "\n</tool_response>");
        log(told.failed ? Level::warning : Level::info, {{"SLMD_EVENT", "call"}}, "agent %.*s called %.*s%.*s: %.*s",
            size(a.name), a.name.data(), size(tool.name), tool.name.data(), size(call.arguments), call.arguments.data(),
            size(told.result), told.result.data());
    }
    job.pending_count = 0;
    job.turns[job.turn_count++] = {false, job.dialog, static_cast<std::uint32_t>(at - job.text)};
    job.dialog = static_cast<std::uint32_t>(at - job.text);
    job.step++;
    if (a.steps > 1) {
        if (const auto offered = offer_tools(job); !offered) finish(job, &offered.error());
        return;
    }
    judge(job, false);
    finish(job, nullptr);
}

}  // namespace slmd::daemon
