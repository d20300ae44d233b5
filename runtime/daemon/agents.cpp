// Agents, as the service runs them: from a name and an input to what the engine is asked, and from its answer to a
// verdict.
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"
#include "daemon/check.h"
#include "daemon/log.h"
#include "daemon/service.h"

namespace slmd::daemon {

// Of a request that is complete: whole while its constraint is, and in the ring of one that does not stream.
std::string_view Service::answer(const Job& job) const {
    if (job.classifies) return job.scores[0].label;
    if (job.is_bound() && job.outcome.json) return memory_.constraints[job.constraint].matcher().text();
    return {job.answer, job.used};
}

Result<bool> Service::conclude(Job& job) {
    if ((job.agent == nullptr && !job.wants_spans && !job.tools) || job.how() == task::Finish::cancelled) return true;
    if (job.wording > 0) {
        TRY(compare(job));
    } else {
        job.first_used = job.used;
        const bool calls = job.agent != nullptr && !job.agent->tools.empty();
        job.outcome.json = job.bound == task::Constraint::Kind::schema && !calls;
        if (job.outcome.json && !job.tools) tell_spans(job);
        if (job.agent == nullptr) return true;
        if (!job.agent->tools.empty() && TRY(take_calls(job))) return false;
        TRY(examine(job));
    }
    judge(job, job.how() != task::Finish::stop);
    return !TRY(next_wording(job));
}

void Service::tell_spans(Job& job) {
    const std::string_view source =
        job.source().empty() ? std::string_view(job.text + job.turns[job.turn_count - 1].begin,
                                                job.turns[job.turn_count - 1].end - job.turns[job.turn_count - 1].begin)
                             : job.source();
    agent::Span found[max_spans];
    const auto count = agent::find_spans(answer(job), source, {job.paths, path_bytes}, memory_.grammar_scratch, found);
    const std::size_t n = count ? count.value() : 0;
    for (std::size_t i = 0; i < n; i++) job.spans[i] = {found[i].at, found[i].begin, found[i].end};
    job.outcome.spans = {job.spans, n};
}

Result<void> Service::examine(Job& job) {
    const agent::Agent& a = *job.agent;
    const std::span<agent::Finding> findings(job.findings, a.checks.size());
    TRY(agent::examine(a.checks, answer(job), a.output == agent::Output::schema, job.source(), memory_.grammar_scratch,
                       findings));
    return {};
}

// What another wording was answered, with what the first one was.
Result<void> Service::compare(Job& job) {
    const agent::Agent& a = *job.agent;
    const auto k = static_cast<std::size_t>(job.wording - 1);
    std::string_view first{job.answer, job.first_used}, other;
    if (job.classifies) {
        const task::Label* best[1];
        job.classification.best(best);
        first = job.scores[0].label, other = best[0]->text;
    } else {
        other = {job.answer + job.first_used, job.used - job.first_used};
    }
    job.used = job.first_used;
    job.findings[k] =
        TRY(agent::compare(a.checks[k], first, other, a.output == agent::Output::schema, memory_.grammar_scratch));
    return {};
}

// The verdict, of what is known so far. cut: the answer ended early.
void Service::judge(Job& job, bool cut) {
    const agent::Agent& a = *job.agent;
    wire::Outcome& o = job.outcome;
    bool fails = false;
    for (std::size_t i = 0; i < a.checks.size(); i++) {
        const agent::Finding& f = job.findings[i];
        job.checks[i] = {a.checks[i].name, agent::name_of(f.verdict), f.why};
        fails = fails || f.verdict == agent::Verdict::fail;
    }
    o.checks = {job.checks, a.checks.size()};
    o.calls = {job.calls, static_cast<std::size_t>(job.call_count)};
    fails = fails || std::any_of(o.calls.begin(), o.calls.end(), [](const wire::CallResult& c) { return c.failed; });
    if (job.wording == 0) {
        o.calibrated = job.is_calibrated();
        o.confidence = job.confidence_of(o.features);
        job.cut = cut;
    }
    const bool unsure = o.confidence < a.threshold || job.cut || job.held;
    o.verdict = fails ? "fail" : unsure ? "unsure" : "pass";
    o.route = (fails && a.escalate != agent::Escalate::never) || (unsure && a.escalate == agent::Escalate::unsure)
                  ? "escalate"
                  : "keep";
}

// Asks the next prompt whose answer is to be the same. False when there is none.
Result<bool> Service::next_wording(Job& job) {
    const agent::Agent& a = *job.agent;
    for (auto k = static_cast<std::size_t>(job.wording); k < a.checks.size(); k++) {
        if (a.checks[k].kind != agent::CheckKind::agree) continue;
        job.wording = static_cast<int>(k) + 1;
        TRY(ask_agent(job, a.checks[k].prompt));
        return true;
    }
    return false;
}

// The turn that an agent's prompt comes to, and the schema, which compiling it changes.
Result<void> Service::ask_agent(Job& job, std::string_view prompt) {
    const agent::Agent& a = *job.agent;
    std::uint32_t at = job.input_end;
    const std::string_view filled =
        TRY(agent::fill_in(a, prompt, job.values, {job.text + at, prompt_bytes - at - a.schema.size()}));
    job.turn_count = 1;
    job.turns[0] = {false, at, at + static_cast<std::uint32_t>(filled.size())};
    at = job.turns[0].end;
    if (!a.tools.empty()) return offer_tools(job);
    job.grammar_begin = at;
    std::copy(a.schema.begin(), a.schema.end(), job.text + at);
    job.grammar_end = at + static_cast<std::uint32_t>(a.schema.size());
    return {};
}

// What the wire asks of an agent as what the engine is asked.
Result<void> Service::prepare(Job& job, const wire::Request& request) {
    const std::string_view name = request.agent, input = request.turns.back().text;
    agent::Set& set = memory_.agents[agents_now_];
    const agent::Entry* const entry = set.find(name);
    if (entry == nullptr)
        return Error::make(Code::not_found, "no agent \"%.*s\"; AT#AGENT? and the method agent list them",
                           static_cast<int>(std::min<std::size_t>(name.size(), 32)), name.data());
    if (!entry->error.empty())
        return Error::make(Code::not_allowed, "%.*s", static_cast<int>(entry->error.size()), entry->error.data());
    const agent::Agent& a = entry->agent;
    if (!a.model.empty() && a.model != model_name_)
        return Error::make(Code::no_model, "agent %.*s is for the model %.*s; %s is loaded",
                           static_cast<int>(a.name.size()), a.name.data(), static_cast<int>(a.model.size()),
                           a.model.data(), model_name_);
    if (!a.tools.empty()) TRY(check_tools(a, request.trusted));
    const auto own = find_adapter(config_, a.adapter);
    if (!own && !request.adapter)
        return Error::make(Code::not_found,
                           "agent %.*s is for the adapter \"%.*s\", which slmd has not: [[adapter]] in its "
                           "configuration names those that it has",
                           static_cast<int>(a.name.size()), a.name.data(), static_cast<int>(a.adapter.size()),
                           a.adapter.data());
    job.adapter = request.adapter ? TRY(find_adapter(config_, *request.adapter)) : own.value();
    job.other_adapter = !own || job.adapter != own.value();
    std::copy(input.begin(), input.end(), job.text);
    if (memory_.records.are_kept()) {
        const auto digest = TRY(sha256(std::as_bytes(std::span(input))));
        std::copy(digest.begin(), digest.end(), job.input_sha256);
    }
    TRY(agent::read_input(a, {job.text, input.size()}, request.fields, job.values));
    job.agent = &a;
    job.input_end = static_cast<std::uint32_t>(input.size());
    TRY(ask_agent(job, a.prompt));
    const std::string_view source = job.values[a.source];
    job.source_begin = static_cast<std::uint32_t>(source.data() - job.text);
    job.source_end = job.source_begin + static_cast<std::uint32_t>(source.size());
    job.bound = a.output == agent::Output::schema || !a.tools.empty() ? task::Constraint::Kind::schema
                                                                      : task::Constraint::Kind::none;
    job.classifies = a.output == agent::Output::choice;
    for (std::size_t i = 0; i < a.checks.size(); i++) job.findings[i] = {&a.checks[i], agent::Verdict::absent, ""};
    for (const agent::Label& label : a.labels) job.labels[job.label_count++] = {label.name, label.prior};
    job.top = std::min(3, job.label_count);
    job.settings = wire::Settings{};
    job.settings.max = a.max_tokens;
    job.settings.deadline_ms = request.settings->deadline_ms < 0 ? a.deadline_ms : request.settings->deadline_ms;
    set.users++;
    job.set = &set;
    job.agent_state = &memory_.agent_states[agents_now_][entry - set.entries().data()];
    return {};
}

void log_agents(const Error& why) { log(Level::error, {{"SLMD_EVENT", "agents"}}, "%s", why.text); }

Result<void> Service::read_agents(const Config& config) {
    agent::Set& next = memory_.agents[1 - agents_now_];
    {
        const Lock guard(lock_);
        if (next.users > 0)
            return Error::make(Code::busy, "agents from before the last reload are still at work; reload again later");
    }
    const char* folders[Config::max_agent_folders];
    for (int i = 0; i < config.agent_folders; i++) folders[i] = config.agents[i];
    TRY(next.read({folders, static_cast<std::size_t>(config.agent_folders)}));
    for (const agent::Entry& e : next.entries())
        read_state(e, memory_.agent_states[1 - agents_now_][&e - next.entries().data()]);
    {
        const Lock guard(lock_);
        agents_now_ = 1 - agents_now_;
        drifted_ = false;
    }
    int good = 0;
    for (const agent::Entry& e : next.entries()) {
        good += e.error.empty();
        if (!e.agent.warning.empty())
            log(Level::warning, {{"SLMD_EVENT", "agent"}}, "%.*s", static_cast<int>(e.agent.warning.size()),
                e.agent.warning.data());
        if (const auto tools = daemon::check_tools(config, e.agent); !tools)
            log(Level::warning, {{"SLMD_EVENT", "agent"}}, "%s", tools.error().text);
        if (!e.error.empty())
            log(Level::warning, {{"SLMD_EVENT", "agent"}}, "%.*s", static_cast<int>(e.error.size()), e.error.data());
    }
    if (!next.entries().empty())
        log(Level::info, {{"SLMD_EVENT", "agents"}}, "%d agents%s", good,
            good == static_cast<int>(next.entries().size()) ? "" : "; what is wrong with the others is said above");
    return {};
}

// The calibration beside an agent's file, when it is of this file and this model.
void Service::read_state(const agent::Entry& entry, AgentState& state) {
    state = {};
    if (!entry.error.empty()) return;
    adapter_sha256(entry.agent.adapter, state.adapter_sha256);
    char path[512], beside[544];
    snprintf(path, sizeof path, "%.*s", static_cast<int>(entry.file.size()), entry.file.data());
    const auto read = [&]() -> Result<void> {
        const MappedFile file = TRY(MappedFile::open(path));
        const Sha256 hash = TRY(sha256(file.bytes()));
        write_hex(hash, state.sha256);
        TRY(agent::path_beside(path, ".calibration", beside));
        TRY(agent::read_calibration(beside, state.calibration));
        return agent::check_calibration(state.calibration, state.sha256, model_name_, state.adapter_sha256);
    }();
    state.calibrated = static_cast<bool>(read);
    if (read)
        state.drift.reset(state.calibration);
    else if (read.error().code != Code::not_found)
        log(Level::warning, {{"SLMD_EVENT", "agent"}}, "%s: %s", path, read.error().text);
}

void Service::adapter_sha256(std::string_view name, char (&hex)[65]) const {
    hex[0] = 0;
    if (const auto i = find_adapter(config_, name); i && i.value() >= 0)
        write_hex(images_.adapters[i.value()]->header().index_sha256, hex);
}

bool Service::next_drift(wire::Event& event) {
    const Lock guard(lock_);
    const auto entries = memory_.agents[agents_now_].entries();
    for (std::size_t i = 0; drifted_ && i < entries.size(); i++) {
        AgentState& state = memory_.agent_states[agents_now_][i];
        if (!state.calibrated || state.drifted || !state.drift.drifted()) continue;
        state.drifted = true;
        event = {.kind = wire::Event::model, .name = "DRIFT", .value = state.drift.psi()};
        const std::string_view name = entries[i].agent.name;
        memcpy(event.subject, name.data(), name.size());
        log(Level::warning, {{"SLMD_EVENT", "drift"}},
            "agent %s: its answers are no longer like those that it was calibrated with (stability index %.2f); "
            "calibrate it again with inputs of today",
            event.subject, event.value);
        return true;
    }
    drifted_ = false;
    return false;
}

std::span<const wire::AgentInfo> Service::agents() {
    const Lock guard(lock_);
    const auto entries = memory_.agents[agents_now_].entries();
    for (std::size_t i = 0; i < entries.size(); i++) {
        const agent::Entry& e = entries[i];
        const AgentState& state = memory_.agent_states[agents_now_][i];
        const agent::Output o = e.agent.output;
        wire::AgentInfo& info = agent_infos_[i];
        info = {.name = e.agent.name, .description = e.agent.description, .file = e.file};
        info.answer = !e.pipeline.steps.empty()    ? "pipeline"
                      : o == agent::Output::choice ? "choice"
                      : o == agent::Output::schema ? "schema"
                                                   : "text";
        info.error = e.error;
        info.sha256 = state.sha256;
        info.adapter = e.agent.adapter;
        info.adapter_sha256 = state.adapter_sha256;
        info.calibrated = state.calibrated;
        if (!state.calibrated) continue;
        info.answers = state.drift.answers();
        info.drift = state.drift.psi();
    }
    return {agent_infos_, entries.size()};
}

}  // namespace slmd::daemon
