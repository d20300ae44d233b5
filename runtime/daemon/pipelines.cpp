#include "daemon/pipelines.h"

#include <string.h>

#include <algorithm>

#include "base/clock.h"
#include "base/utf8.h"
#include "daemon/log.h"

namespace slmd::daemon {

using agent::Came;
using agent::Pipeline;
using agent::Step;

void Pipelines::lay_out(Arena& arena) {
    runs_ = arena.scratch<Run>(max_runs);
    for (int i = 0; i < max_runs; i++) {
        char* const text = arena.scratch<char>(text_bytes);
        if (runs_ == nullptr) continue;
        new (&runs_[i]) Run{};
        runs_[i].text = text;
    }
    scratch_ = {arena.scratch<std::byte>(scratch_bytes), scratch_bytes};
    input_ = arena.scratch<char>(input_bytes);
}

Result<int> Pipelines::start(const Pipeline& pipeline, agent::Set& set, const wire::Request& request) {
    Run* const run = std::find_if(runs_, runs_ + max_runs, [](const Run& r) { return r.pipeline == nullptr; });
    if (run == runs_ + max_runs) return Error::make(Code::busy, "%d pipelines run already; ask again later", max_runs);
    const std::string_view input = request.turns.back().text;
    if (request.fields)
        return Error::make(Code::incorrect_parameters, "a pipeline takes one text, which its steps hand on");
    if (input.size() > agent::Agent::field_bytes)
        return Error::make(Code::text_too_long, "the input is %zu bytes; at most %zu", input.size(),
                           agent::Agent::field_bytes);
    if (!utf8_valid(input)) return Error::make(Code::invalid_characters, "the input is not UTF-8");
    char* const text = run->text;
    *run = {};
    run->text = text;
    run->pipeline = &pipeline, run->set = &set;
    run->trusted = request.trusted, run->dry = request.dry_run;
    run->begun_ns = now_ns();
    const std::int64_t ms = request.settings->deadline_ms < 0 ? pipeline.deadline_ms : request.settings->deadline_ms;
    run->deadline_ns = ms == 0 ? 0 : run->begun_ns + ms * 1'000'000;
    std::copy(input.begin(), input.end(), text);
    run->input = {text, input.size()};
    run->used = input.size();
    for (Came& c : run->came) c = {};
    run->branches[0] = {Branch::ready, 0, -1, -1, 0};
    return first_handle + static_cast<int>(run - runs_);
}

void Pipelines::advance(wire::Host& host) {
    for (Run& run : std::span(runs_, max_runs))
        while (run.pipeline != nullptr && !run.finished && go_on(run, host)) {
        }
}

// Everything that one look at a run allows; false when nothing moved.
bool Pipelines::go_on(Run& run, wire::Host& host) {
    const Pipeline& p = *run.pipeline;
    if (run.deadline_ns != 0 && now_ns() >= run.deadline_ns) return end(run, "deadline", host), false;
    bool moved = false;
    for (Branch& b : run.branches) {
        if (b.state == Branch::ready && run.asked >= p.runs) return end(run, "steps", host), false;
        if (b.state == Branch::ready) moved |= ask(run, b, host);
    }
    for (Branch& b : run.branches) {
        if (b.state == Branch::asked) moved |= listen(run, b, host);
        if (p.tokens > 0 && run.tokens > p.tokens) return end(run, "tokens", host), false;
    }
    moved |= join(run);
    if (std::all_of(std::begin(run.branches), std::end(run.branches),
                    [](const Branch& b) { return b.state == Branch::free; }))
        end(run, "stop", host);
    return moved;
}

bool Pipelines::ask(Run& run, Branch& branch, wire::Host& host) {
    const Step& step = run.pipeline->steps[branch.step];
    const agent::Agent& agent = run.set->find(step.agent)->agent;
    branch.asked_ns = now_ns();
    const auto filled = fill_in(*run.pipeline, step, agent, branch.from < 0 ? run.input : run.came[branch.from].answer,
                                run.input, run.came, {input_, input_bytes}, scratch_);
    const auto submitted = [&]() -> Result<int> {
        const wire::Turn turn{false, TRY(filled)};
        wire::Settings settings;
        settings.deadline_ms = -1;
        if (run.deadline_ns != 0) {
            settings.deadline_ms = std::max<std::int64_t>(1, (run.deadline_ns - now_ns()) / 1'000'000);
            if (agent.deadline_ms != 0) settings.deadline_ms = std::min(settings.deadline_ms, agent.deadline_ms);
        }
        wire::Request request{{&turn, 1}, &settings, false};
        request.agent = step.agent;
        request.fields = !step.inputs[0].field.empty();
        request.trusted = run.trusted, request.dry_run = run.dry;
        return host.submit(request);
    }();
    const Code code = submitted ? Code{} : submitted.error().code;
    if (code == Code::busy || code == Code::thermal || code == Code::memory_full) return false;  // it waits
    run.asked++;
    if (!submitted) {
        came(run, branch, {submitted.error().text, false, "error", 0}, nullptr, &submitted.error());
        return true;
    }
    branch.state = Branch::asked;
    branch.handle = submitted.value();
    return true;
}

bool Pipelines::listen(Run& run, Branch& branch, wire::Host& host) {
    const wire::View v = host.view(branch.handle);
    if (v.state != wire::View::finished) return false;
    const wire::Outcome outcome = *v.outcome;
    bool whole = true;
    const std::size_t began = run.used;
    const auto keep = [&](std::string_view text) {
        whole = whole && text.size() <= text_bytes - run.used;
        if (!whole) return;
        std::copy(text.begin(), text.end(), run.text + run.used);
        run.used += text.size();
    };
    if (!outcome.labels.empty()) {
        keep(outcome.labels[0].label);
    } else if (!outcome.failed) {
        for (std::string_view text = v.text; !text.empty() && whole; text = host.view(branch.handle).text) {
            keep(text);
            host.take(branch.handle, text.size());
        }
    }
    const Came what{{run.text + began, run.used - began},
                    outcome.json,
                    outcome.verdict == nullptr ? "" : outcome.verdict,
                    static_cast<double>(outcome.confidence)};
    host.release(branch.handle);
    branch.handle = -1;
    run.tokens += outcome.tokens;
    const Error full = Error::make(Code::text_too_long, "the answers of all steps are over %zu bytes", text_bytes);
    if (outcome.failed || !whole) {
        const Error& why = outcome.failed ? outcome.error : full;
        run.used = began;
        came(run, branch, {why.text, false, "error", 0}, nullptr, &why);
    } else {
        came(run, branch, what, &outcome, nullptr);
    }
    return true;
}

// A step is done: the trail says so, and its rules say what comes next.
void Pipelines::came(Run& run, Branch& branch, const Came& what, const wire::Outcome* outcome, const Error* error) {
    const Step& step = run.pipeline->steps[branch.step];
    std::string_view told = what.answer.substr(0, trail_answer);
    if (error != nullptr) {  // its text goes with the request
        const std::size_t n = std::min(strlen(error->text), text_bytes - run.used);
        told = {run.text + run.used, n};
        memcpy(run.text + run.used, error->text, n);
        run.used += n;
    } else if (told.size() < what.answer.size()) {
        while (!told.empty() && (what.answer[told.size()] & 0xC0) == 0x80) told.remove_suffix(1);
    }
    Came& c = run.came[branch.step] = what;
    if (error != nullptr) c.answer = told;
    run.trail[run.trail_count++] = {step.name,
                                    step.agent,
                                    error != nullptr              ? "error"
                                    : outcome->verdict == nullptr ? ""
                                                                  : outcome->verdict,
                                    static_cast<float>(what.confidence),
                                    outcome == nullptr ? 0 : outcome->tokens,
                                    (now_ns() - branch.asked_ns) / 1'000'000,
                                    told,
                                    error != nullptr};
    wire::Outcome& o = run.outcome;
    run.answer = error != nullptr ? std::string_view{} : c.answer;
    o.json = c.json;
    o.verdict = error != nullptr ? "fail" : run.trail[run.trail_count - 1].verdict;
    o.route = outcome == nullptr ? "keep" : outcome->route;
    o.calibrated = outcome != nullptr && outcome->calibrated;
    if (outcome != nullptr) {
        o.features = outcome->features;
        o.confidence = run.trail_count == 1 ? outcome->confidence : std::min(o.confidence, outcome->confidence);
        o.prompt_tokens += outcome->prompt_tokens;
        if (o.first_ms == 0) o.first_ms = (branch.asked_ns - run.begun_ns) / 1'000'000 + outcome->first_ms;
        if (outcome->joules >= 0) o.joules = std::max(0.0, o.joules) + outcome->joules;
    }
    follow(run, branch);
}

void Pipelines::follow(Run& run, Branch& branch) {
    const int from = branch.step;
    const Step& step = run.pipeline->steps[branch.step];
    const Came& what = run.came[branch.step];
    const auto rule = std::find_if(step.rules.begin(), step.rules.end(),
                                   [&](const agent::Rule& r) { return holds(r, what, scratch_); });
    branch.state = Branch::free;
    if (rule == step.rules.end()) return;
    for (const std::uint8_t to : rule->to) {
        Branch* const next = std::find_if(std::begin(run.branches), std::end(run.branches),
                                          [](const Branch& b) { return b.state == Branch::free; });
        if (next == std::end(run.branches)) {
            log(Level::warning, {{"SLMD_EVENT", "pipeline"}}, "pipeline %.*s: more than %zu branches; one is left out",
                static_cast<int>(run.pipeline->name.size()), run.pipeline->name.data(), max_branches);
            return;
        }
        const bool joins = run.pipeline->steps[to].join;
        *next = {joins ? Branch::joining : Branch::ready, to, from, -1, 0};
    }
}

// Branches that wait for others go on as one when none is under way that could still come.
bool Pipelines::join(Run& run) {
    int first = -1;
    for (const Branch& b : run.branches) {
        if (b.state == Branch::ready || b.state == Branch::asked) return false;
        if (b.state == Branch::joining && (first < 0 || b.step < first)) first = b.step;
    }
    if (first < 0) return false;
    bool one = true;
    for (Branch& b : run.branches)
        if (b.state == Branch::joining && b.step == first) {
            b.state = one ? Branch::ready : Branch::free;
            one = false;
        }
    return true;
}

// Nothing of it is under way any more.
void Pipelines::give_up(Run& run, wire::Host& host) {
    for (Branch& b : run.branches) {
        if (b.state == Branch::asked) host.release(b.handle);
        b.state = Branch::free;
    }
}

// finish: "stop", or the limit that ended it.
void Pipelines::end(Run& run, const char* finish, wire::Host& host) {
    give_up(run, host);
    wire::Outcome& o = run.outcome;
    o.finish = finish;
    if (o.verdict == nullptr || strcmp(finish, "stop") != 0) o.verdict = "fail";
    o.tokens = run.tokens;
    o.total_ms = (now_ns() - run.begun_ns) / 1'000'000;
    o.steps = {run.trail, static_cast<std::size_t>(run.trail_count)};
    run.finished = true;
}

wire::View Pipelines::view(int handle) {
    Run& run = runs_[handle - first_handle];
    wire::View v;
    v.tokens = run.tokens;
    v.state = run.finished ? wire::View::finished : run.tokens > 0 ? wire::View::answering : wire::View::reading;
    if (!run.finished) return v;
    v.outcome = &run.outcome;
    v.text = run.answer.substr(run.taken);
    return v;
}

void Pipelines::take(int handle, std::size_t bytes) { runs_[handle - first_handle].taken += bytes; }

agent::Set* Pipelines::release(int handle, wire::Host& host) {
    Run& run = runs_[handle - first_handle];
    give_up(run, host);
    run.pipeline = nullptr;
    return run.set;
}

}  // namespace slmd::daemon
