// What may leave: an agent's answer is kept, or the large model is asked, now or later, and what it says is held to
// what the local answer was held to.
#include <stdio.h>
#include <string.h>

#include <algorithm>

#include "base/ascii.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/sha256.h"
#include "base/unix_time.h"
#include "base/utf8.h"
#include "daemon/log.h"
#include "daemon/remote_text.h"
#include "daemon/service.h"

namespace slmd::daemon {
namespace {

route::Policy policy_of(const agent::Agent& a) {
    if (a.escalate == agent::Escalate::never) return route::Policy::never;
    return a.remote.policy == agent::Remote::allowed    ? route::Policy::allowed
           : a.remote.policy == agent::Remote::redacted ? route::Policy::redacted
                                                        : route::Policy::never;
}

// The answer of an example, as the large model is to write it. Without room for it: the label alone.
std::string_view as_label(std::string_view label, std::span<char> room) {
    constexpr std::string_view before = "{\"label\":\"", behind = "\"}";
    if (before.size() + 6 * label.size() + behind.size() > room.size()) return label;
    char* at = std::copy(before.begin(), before.end(), room.data());
    char written[6];
    for (const char& c : label) {
        const std::string_view as = json_written(c, written);
        at = std::copy(as.begin(), as.end(), at);
    }
    at = std::copy(behind.begin(), behind.end(), at);
    return {room.data(), static_cast<std::size_t>(at - room.data())};
}

bool same_label(std::string_view a, std::string_view b) {
    return std::equal(a.begin(), a.end(), b.begin(), b.end(), [](char x, char y) { return lower(x) == lower(y); });
}

// What was asked and what is answered now, as digests.
void set_texts(route::LedgerRecord& r, const Job& job) {
    r.id = job.order;
    memcpy(r.request, job.input_sha256, sizeof r.request);
    const std::string_view said = job.classifies ? job.scores[0].label : std::string_view(job.answer, job.used);
    if (const auto digest = sha256(std::as_bytes(std::span(said))))
        memcpy(r.result, digest.value().data(), sizeof r.result);
}

}  // namespace

// ---- the event loop's thread, whose a job that asks is: it writes to a card, and the engine does not wait for that

route::Facts Service::facts_of(const Job& job) const {
    const agent::Agent& a = *job.agent;
    const wire::Outcome& o = job.outcome;
    route::Facts f;
    f.policy = a.tools.empty() && memory_.uplink.is_configured() ? policy_of(a) : route::Policy::never;
    f.cut = machine_->cut();
    f.wish = job.wish == wire::Wish::local    ? route::Wish::stay
             : job.wish == wire::Wish::remote ? route::Wish::leave
                                              : route::Wish::none;
    f.checks_failed = job.cut || std::any_of(job.findings, job.findings + a.checks.size(),
                                             [](const agent::Finding& x) { return x.verdict == agent::Verdict::fail; });
    f.calibrated = o.calibrated, f.confidence = o.confidence, f.threshold = a.threshold;
    if (a.escalate == agent::Escalate::fail) f.calibrated = true, f.confidence = 1, f.threshold = 0;
    f.redacted = f.affordable = true;  // as far as is known
    f.link = memory_.uplink.is_linked();
    f.may_wait = a.remote.wait;
    return f;
}

void Service::route() {
    Uplink& uplink = memory_.uplink;
    if (!uplink.is_configured() && !memory_.records.are_kept()) return;
    uplink.advance(machine_->cut());
    const auto is = [&](const auto& what) {
        const Lock guard(lock_);
        return what();
    };
    for (Job& job : jobs_) {
        if (!is([&] { return job.state == Job::finished && job.came; })) continue;
        record_outcome(job, job.came_bad ? route::LedgerOutcome::failed : route::LedgerOutcome::settled);
        const Lock guard(lock_);
        job.came = false;
    }
    for (Uplink::Going& g : uplink.goings()) {
        if (g.state != Uplink::Going::away && g.state != Uplink::Going::came) continue;
        Job& job = jobs_[static_cast<std::size_t>(g.job)];
        const bool here = is([&] {
            if (job.order != g.order || job.released || job.state != Job::live || job.way != Job::away) return false;
            if (g.state == Uplink::Going::came) job.way = Job::asks;  // its deadline does not end it any more
            return true;
        });
        if (!here)
            g.state == Uplink::Going::away ? uplink.cancel(g) : uplink.give(g);
        else if (g.state == Uplink::Going::came)
            hear(g);
    }
    for (Job& job : jobs_)
        if (is([&] { return job.state == Job::live && job.way == Job::asks && !job.released; })) consider(job);
}

// What is known of a decision; the same facts give it again.
void Service::record_decision(Job& job, const route::Facts& facts, const route::Decision& d) {
    if (!memory_.records.are_kept()) return;
    const agent::Agent& a = *job.agent;
    const wire::Outcome& o = job.outcome;
    route::LedgerRecord r{};
    r.kind = route::LedgerKind::decision;
    r.task = route::LedgerTask::run;
    route::set_facts(r, facts, d);
    route::set_agent(r, a.name);
    for (std::size_t i = 0; i < a.checks.size(); i++) {
        const auto bit = static_cast<std::uint16_t>(1u << i);
        if (job.findings[i].verdict == agent::Verdict::pass) r.checks_passed |= bit;
        if (job.findings[i].verdict == agent::Verdict::fail) r.checks_failed |= bit;
    }
    r.tokens_in = static_cast<std::uint32_t>(o.prompt_tokens);
    r.tokens_out = static_cast<std::uint32_t>(job.tokens_out);
    const std::int64_t now = now_ns(), first = job.first_ns == 0 ? now : job.first_ns;
    r.prefill_ms = static_cast<std::uint32_t>((first - job.submitted_ns) / 1'000'000);
    r.decode_ms = static_cast<std::uint32_t>((now - first) / 1'000'000);
    r.seed = static_cast<std::uint64_t>(job.settings.seed);
    memcpy(r.image, image_->header().index_sha256, sizeof r.image);
    if (job.adapter >= 0) memcpy(r.adapter, images_.adapters[job.adapter]->header().index_sha256, sizeof r.adapter);
    set_texts(r, job);
    job.recorded = memory_.records.append(r, d.answer == route::Answer::escalate || d.answer == route::Answer::queue);
}

void Service::record_outcome(const Job& job, route::LedgerOutcome code) {
    route::LedgerRecord r = outcome_of(job.told_away, code);
    r.refers = job.recorded;
    route::set_agent(r, job.agent->name);
    set_texts(r, job);
    memory_.records.append(r, false);
}

void Service::stay(Job& job, const route::Decision& d, const char* failed) {
    const Lock guard(lock_);
    end_here(job, d, failed);
}

// The local answer is all there is, for now. With the lock.
void Service::end_here(Job& job, const route::Decision& d, const char* failed) {
    if (memory_.uplink.is_configured()) {  // else it is what the agent's file says of such a verdict
        job.outcome.away = &job.told_away;
        job.outcome.route = route::name_of(d.answer);
    }
    job.told_away.reason = route::name_of(d.reason);
    if (failed[0] != 0) job.told_away.failed = copy_text(failed, job.away_failed);
    job.way = Job::home;
    finish(job, nullptr);
}

void Service::consider(Job& job) {
    job.told_away = {};
    route::Facts facts = facts_of(job);
    route::Decision d = route::decide(facts);
    if (d.answer == route::Answer::keep || d.answer == route::Answer::refuse) {
        record_decision(job, facts, d);
        return stay(job, d);
    }
    Uplink& uplink = memory_.uplink;
    Uplink::Going* const g = uplink.take(static_cast<int>(&job - jobs_.data()), job.order, job.agent->remote);
    if (g == nullptr) return;  // others are away: it is looked at again when one has come
    g->facts = facts;
    const auto body = write_down(job, *g);
    if (!body) {
        uplink.give(*g);
        facts.redacted = facts.policy == route::Policy::allowed;
        d = route::decide(facts);
        record_decision(job, facts, d);
        job.came = job.came_bad = d.answer != route::Answer::refuse;  // it is too long to leave
        return stay(job, {route::Answer::refuse, job.came ? route::Reason::no_answer : d.reason}, body.error().text);
    }
    if (d.answer == route::Answer::queue) return wait(job, *g);
    if (!uplink.has_room(body.value().size())) return uplink.give(*g);  // it does not keep up: again when it does
    record_decision(job, facts, d);                                     // before it leaves
    g->recorded = job.recorded;
    if (auto sent = uplink.send(*g, body.value()); !sent) {
        uplink.give(*g);
        job.came = job.came_bad = true;
        return stay(job, {route::Answer::refuse, route::Reason::no_answer}, sent.error().text);
    }
    {
        const Lock guard(lock_);
        job.way = Job::away;
    }
    log(Level::info, {{"SLMD_EVENT", "leaves"}}, "agent %.*s: %s: request %s goes to the large model, %s",
        static_cast<int>(job.agent->name.size()), job.agent->name.data(), route::name_of(d.reason), g->key,
        facts.policy == route::Policy::redacted ? "redacted" : "as it is");
}

// There is no link, and it may wait for one.
void Service::wait(Job& job, Uplink::Going& g) {
    Uplink& uplink = memory_.uplink;
    const agent::Agent& a = *job.agent;
    const auto body = write_down(job, g);
    Result<void> kept = body ? Result<void>() : Result<void>(body.error());
    if (job.recorded != 0) record_outcome(job, route::LedgerOutcome::failed);  // it had been tried at once
    record_decision(job, g.facts, route::decide(g.facts));
    g.recorded = job.recorded;
    if (body) {
        route::Letter letter;
        copy_text(a.name, letter.agent);
        letter.priority = a.remote.priority;
        letter.deadline_ms = a.remote.wait_ms;
        kept = uplink.queue(g, letter, as_object(job), body.value());
    }
    if (kept) job.told_away.key = copy_text(g.key, job.away_key);
    job.came = job.came_bad = !kept;
    uplink.give(g);
    stay(job, {kept ? route::Answer::queue : route::Answer::refuse, route::Reason::no_link},
         kept ? "" : kept.error().text);
}

// An agent's input as a JSON object of its fields, however it came; "": it is too long to be kept. There until the next
// text is written.
std::string_view Service::as_object(const Job& job) const {
    const agent::Agent& a = *job.agent;
    Uplink::Body out(memory_.uplink.scratch());
    out.put("{");
    for (std::size_t i = 0; i < a.fields.size(); i++) {
        const agent::Field& f = a.fields[i];
        out.put(i > 0 ? "," : "").string(f.name).put(":");
        if (f.type == agent::Field::text || f.type == agent::Field::line)
            out.string(job.values[i]);
        else
            out.put(job.values[i]);
    }
    out.put("}");
    return out.full() ? std::string_view() : out.view();
}

// Of one that was queued: what came is held to what a local answer is, when its agent is there still.
Result<int> Service::submit_late(const wire::Request& request) {
    const auto late = TRY(memory_.uplink.late(request.key));
    const agent::Entry* const entry = memory_.agents[agents_now_].find(late.agent);
    if (late.error || late.input.empty() || entry == nullptr || !entry->error.empty() || !entry->pipeline.steps.empty())
        return memory_.uplink.show(late);
    const wire::Turn input{false, late.input};
    wire::Request again{{&input, 1}, request.settings, false};
    again.agent = late.agent, again.fields = true;
    const auto handle = admit(again, &late);
    // what its file takes has changed since
    return handle || handle.error().code == Code::busy ? handle : memory_.uplink.show(late);
}

// With the lock: what came stands behind the answer that there is not.
void Service::bring_late(Job& job, const Uplink::Late& late) {
    static_assert(Uplink::text_bytes <= answer_bytes);
    memcpy(job.answer, late.text.data(), late.text.size());
    job.remote_size = late.text.size();
    job.told_away = late.told;
    job.told_away.key = copy_text(late.told.key, job.away_key);
    job.told_away.upstream = copy_text(late.told.upstream, job.upstream);
    job.told_away.model = copy_text(late.told.model, job.remote_model);
    job.outcome.prompt_tokens = late.told.prompt_tokens;
    job.outcome.json = job.bound == task::Constraint::Kind::schema;
    job.tokens_out = late.told.tokens;
    job.deadline_ns = 0;
    job.late = true;
    job.way = Job::back;
}

// What came of one that was away.
void Service::hear(Uplink::Going& g) {
    Uplink& uplink = memory_.uplink;
    Job& job = jobs_[static_cast<std::size_t>(g.job)];
    job.told_away = g.told;
    job.told_away.upstream = copy_text(g.told.upstream, job.upstream);
    job.told_away.model = copy_text(g.told.model, job.remote_model);
    if (!g.failed && g.text_size > answer_bytes - job.used)
        g.failed = true, g.why = Uplink::Going::other,
        g.error = Error::make(Code::text_too_long, "the large model's answer is too long");
    if (!g.failed) {
        memcpy(job.answer + job.used, g.text, g.text_size);
        job.remote_size = g.text_size;
        job.told_away.reason = route::name_of(route::decide(g.facts).reason);
        if (g.learns && g.asked_size > 0 && g.raw_size > 0)
            memory_.records.learn({job.agent->name, job.agent->system, {g.asked, g.asked_size}, {g.raw, g.raw_size}});
        uplink.give(g);
        const Lock guard(lock_);
        job.way = Job::back;
        pthread_cond_signal(&work_);
        return;
    }
    log(Level::warning, {{"SLMD_EVENT", "leaves"}}, "request %s: %s", g.key, g.error.text);
    g.facts.affordable = g.why != Uplink::Going::budget;
    g.facts.link = g.why == Uplink::Going::budget;
    const route::Decision d = route::decide(g.facts);
    // Whether it was answered is not known when it is another reason: asked again, it might be twice.
    if (d.answer == route::Answer::queue && g.why == Uplink::Going::link) {
        g.state = Uplink::Going::taken;
        return wait(job, g);
    }
    char text[sizeof g.error.text];
    memcpy(text, g.error.text, sizeof text);
    uplink.give(g);
    job.came = job.came_bad = true;
    stay(job, {route::Answer::refuse, g.why == Uplink::Going::other ? route::Reason::no_answer : d.reason}, text);
}

// What is asked of the large model: what the local one was asked, without secrets. Errors: of redaction;
// text_too_long.
Result<std::string_view> Service::write_down(Job& job, Uplink::Going& g) {
    const agent::Agent& a = *job.agent;
    Uplink& uplink = memory_.uplink;
    Uplink::Body body = uplink.body();
    const bool redacted = g.facts.policy == route::Policy::redacted;
    Result<void> bad;
    bool first = true;
    const auto say = [&](const char* role, std::string_view text, std::string_view more = {}) {
        const auto told = redacted ? uplink.redact(g, text) : Result<std::string_view>(text);
        if (!told) {
            bad = told.error();
            return;
        }
        body.put(first ? "" : ",").put("{\"role\":\"").put(role).put("\",\"content\":");
        body.string(told.value(), more).put("}");
        if (a.remote.learn && role[0] == 'u' && !told.value().empty() &&
            told.value().size() <= Uplink::text_bytes) {  // the last one stays
            memcpy(g.asked, told.value().data(), told.value().size());
            g.asked_size = told.value().size();
        }
        first = false;
    };
    g.asked_size = g.raw_size = 0;
    const std::int64_t left_ms =
        job.deadline_ns == 0 ? 0 : std::max<std::int64_t>(1, (job.deadline_ns - now_ns()) / 1'000'000);
    body.put("\"agent\":").string(a.name).put(",\"priority\":").number(a.remote.priority);
    body.put(",\"expires\":").number(unix_ms() + a.remote.wait_ms);
    body.put(",\"deadline_ms\":").number(left_ms).put(",\"max_tokens\":").number(a.max_tokens);
    body.put(",\"messages\":[");
    std::string_view labels;
    std::span<char> scratch = uplink.scratch();
    if (a.output == agent::Output::choice) {
        std::size_t n = static_cast<std::size_t>(
            snprintf(scratch.data(), scratch.size(),
                     "Answer as {\"label\": ...} with one of these labels, as it is written, and nothing else:"));
        for (const agent::Label& l : a.labels) {
            if (n + l.name.size() + 2 > scratch.size()) break;
            scratch[n++] = &l == a.labels.data() ? ' ' : ',';
            if (&l != a.labels.data()) scratch[n++] = ' ';
            memcpy(scratch.data() + n, l.name.data(), l.name.size());
            n += l.name.size();
        }
        labels = {scratch.data(), n};
        scratch = scratch.subspan(n);
    }
    if (!a.system.empty() || !labels.empty()) {
        if (a.system.empty())
            say("system", labels);
        else
            say("system", a.system, labels);
    }
    for (const agent::Shot& s : a.shots) {
        say("user", s.prompt);
        say("assistant", a.output == agent::Output::choice ? as_label(s.answer, scratch) : s.answer);
    }
    say("user", TRY(agent::fill_in(a, a.prompt, job.values, scratch)));
    TRY(bad);
    body.put("]");
    g.learns = a.remote.learn;
    g.form = a.output == agent::Output::schema   ? Uplink::Form::json
             : a.output == agent::Output::choice ? Uplink::Form::label
                                                 : Uplink::Form::text;
    if (a.output == agent::Output::schema) {
        const std::span<char> room = uplink.scratch();
        if (a.schema.size() > room.size()) return Error::make(Code::text_too_long, "the schema is too long");
        const std::size_t told = compact(room.data(), without_source(a.schema, room.data()));  // in one line
        body.put(",\"schema\":").put({room.data(), told});
    } else if (a.output == agent::Output::choice) {  // words alone do not bind a model
        body.put(",\"schema\":{\"type\":\"object\",\"properties\":{\"label\":{\"type\":\"string\",\"enum\":[");
        for (const agent::Label& l : a.labels) body.put(&l == a.labels.data() ? "" : ",").string(l.name);
        body.put("]}},\"required\":[\"label\"],\"additionalProperties\":false}");
    }
    if (body.full()) return Error::make(Code::text_too_long, "the request is too long to leave");
    return body.view();
}

// ---- the engine thread

void Service::take_back(Job& job) {
    const auto read = read_back(job);
    const Lock guard(lock_);
    if (job.way != Job::back) return;
    job.came = !job.late, job.came_bad = !read;
    if (!read && job.late) {  // there is nothing else to answer with
        job.used = job.remote_size;
        job.outcome.json = false, job.outcome.labels = {}, job.classifies = false;
        job.outcome.verdict = "fail";
        job.told_away.failed = copy_text(read.error().text, job.away_failed);
    } else if (!read)
        return end_here(job, {route::Answer::refuse, route::Reason::no_answer}, read.error().text);
    job.outcome.away = &job.told_away;
    job.outcome.route = route::name_of(route::Answer::escalate);
    job.outcome.finish = "stop";
    job.way = Job::home;
    finish(job, nullptr);
}

// The large model's answer takes the place of the local one when it is one at all; the checks are of it then.
Result<void> Service::read_back(Job& job) {
    const agent::Agent& a = *job.agent;
    char* const at = job.answer + job.used;
    const std::string_view inside = without_fence({at, job.remote_size});
    memmove(at, inside.data(), inside.size());
    job.remote_size = a.output == agent::Output::schema ? compact(at, inside.size()) : inside.size();
    const std::string_view text{at, job.remote_size};
    if (a.output == agent::Output::choice) {
        const auto found = std::find_if(a.labels.begin(), a.labels.end(),
                                        [&](const agent::Label& l) { return same_label(l.name, text); });
        if (found == a.labels.end())
            return Error::make(Code::incorrect_parameters, "the large model said \"%.*s\", which is none of the labels",
                               static_cast<int>(std::min<std::size_t>(text.size(), 40)), text.data());
        job.scores[0] = {found->name, 1};
        job.outcome.labels = {job.scores, 1};
        job.outcome.margin = 1;
    } else {
        if (a.output == agent::Output::schema) {
            std::copy(a.schema.begin(), a.schema.end(), job.text + job.grammar_begin);
            task::Constraint& c = memory_.constraints[job.constraint];
            TRY(c.open(task::Constraint::Kind::schema,
                       {job.text + job.grammar_begin, job.grammar_end - job.grammar_begin}, job.source(),
                       memory_.grammar_scratch));
            if (!c.matcher().take(text) || !c.matcher().accepting())
                return Error::make(Code::incorrect_parameters, "the large model's answer does not obey the schema");
        } else if (text.size() > a.text_bytes || !utf8_valid(text)) {
            return Error::make(Code::text_too_long, "the large model's answer is longer than the agent allows");
        }
        memmove(job.answer, text.data(), text.size());
        job.used = job.first_used = text.size();
        if (a.output == agent::Output::schema) tell_spans(job);
    }
    TRY(examine(job));
    bool fails = false;
    for (std::size_t i = 0; i < a.checks.size(); i++) {
        agent::Finding& f = job.findings[i];
        if (f.check->kind == agent::CheckKind::agree)
            f.verdict = agent::Verdict::absent, snprintf(f.why, sizeof f.why, "the large model is asked once");
        fails |= f.verdict == agent::Verdict::fail;
        job.checks[i] = {a.checks[i].name, agent::name_of(f.verdict), f.why};
    }
    job.outcome.checks = {job.checks, a.checks.size()};
    job.outcome.verdict = fails ? "fail" : "pass";
    return {};
}

}  // namespace slmd::daemon
