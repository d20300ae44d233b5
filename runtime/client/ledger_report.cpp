#include "client/ledger_report.h"

#include <stdlib.h>
#include <time.h>

#include <algorithm>
#include <map>

#include "agent/drawing.h"
#include "base/file.h"
#include "client/ledger_files.h"

namespace slmd::client {
namespace {

using namespace route;

constexpr std::size_t reasons = static_cast<std::size_t>(Reason::doubt) + 1;

struct Sum {
    std::uint64_t answers[4] = {}, by_reason[reasons] = {}, settled = 0, failed = 0, tokens = 0;
    std::int64_t cost_micro = 0;
    double all_cloud = 0;  // in the currency
    std::vector<std::uint32_t> local_ms, remote_ms;

    std::uint64_t requests() const { return answers[0] + answers[1] + answers[2] + answers[3]; }
    // Answered on the board: it was to stay, or had to.
    std::uint64_t local() const { return answers[0] + answers[3]; }
    double local_share() const {
        return requests() == 0 ? 0 : static_cast<double>(local()) / static_cast<double>(requests());
    }
    double cost() const { return static_cast<double>(cost_micro) * 1e-6; }
};

struct Reporter final : LedgerVisitor {
    Sum all;
    std::map<std::string, Sum> agents;
    Prices prices;
    const char* agent = nullptr;
    std::int64_t since = 0, first_ms = 0, last_ms = 0;
    std::uint64_t faults = 0, lost = 0, starts = 0, stops = 0;

    void record(const LedgerRecord& r) override {
        if (r.wall_ms < since) return;
        if (r.kind == LedgerKind::note) return note(r);
        const std::string name = agent_name(r);
        if (agent != nullptr && name != agent) return;
        if (first_ms == 0) first_ms = r.wall_ms;
        last_ms = r.wall_ms;
        for (Sum* s : {&all, &agents[name]}) r.kind == LedgerKind::decision ? decision(*s, r) : outcome(*s, r);
    }
    void note(const LedgerRecord& r) {
        const auto code = static_cast<LedgerNote>(r.code);
        if (code == LedgerNote::gap) lost += r.refers;
        starts += code == LedgerNote::start, stops += code == LedgerNote::stop;
    }
    void decision(Sum& s, const LedgerRecord& r) const {
        if (r.answer > Answer::refuse || r.reason > Reason::doubt) return;
        s.answers[static_cast<int>(r.answer)]++;
        s.by_reason[static_cast<int>(r.reason)]++;
        s.local_ms.push_back(r.queue_ms + r.prefill_ms + r.decode_ms);
        s.tokens += r.tokens_in + r.tokens_out;
        s.all_cloud += prices.in * r.tokens_in + prices.out * r.tokens_out;
    }
    static void outcome(Sum& s, const LedgerRecord& r) {
        s.cost_micro += r.cost_micro;
        if (r.code != static_cast<std::uint8_t>(LedgerOutcome::settled)) {
            s.failed++;
            return;
        }
        s.settled++;
        s.remote_ms.push_back(r.remote_ms);
    }
    void fault(const std::string& file, const LedgerFault& f) override {
        fprintf(stderr, "slmctl: %s: %s\n", file.c_str(), f.text);
        faults++;
    }
    void finish() {
        for (Sum* s : {&all}) sort(*s);
        for (auto& [name, s] : agents) sort(s);
    }
    static void sort(Sum& s) {
        std::sort(s.local_ms.begin(), s.local_ms.end());
        std::sort(s.remote_ms.begin(), s.remote_ms.end());
    }
};

double share(std::uint64_t n, std::uint64_t of) {
    return of == 0 ? 0 : 100 * static_cast<double>(n) / static_cast<double>(of);
}

void print(const Reporter& r, FILE* out) {
    const Sum& a = r.all;
    const auto u = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    fprintf(out, "%s to %s: %llu requests, %.1f %% answered on the board\n", time_text(r.first_ms).c_str(),
            time_text(r.last_ms).c_str(), u(a.requests()), 100 * a.local_share());
    for (const Answer answer : {Answer::keep, Answer::refuse, Answer::escalate, Answer::queue})
        fprintf(out, "  %-10s %8llu  %5.1f %%\n", name_of(answer), u(a.answers[static_cast<int>(answer)]),
                share(a.answers[static_cast<int>(answer)], a.requests()));
    fprintf(out, "  of what left, %llu came back and %llu failed, were dropped or too late\n", u(a.settled),
            u(a.failed));
    fputs("because\n", out);
    for (std::size_t i = 0; i < reasons; i++)
        if (a.by_reason[i] != 0)
            fprintf(out, "  %8llu  %5.1f %%  %s\n", u(a.by_reason[i]), share(a.by_reason[i], a.requests()),
                    name_of(static_cast<Reason>(i)));
    fputs("milliseconds      p50      p95      p99\n", out);
    for (const auto& [name, ms] : {std::pair{"local", &a.local_ms}, std::pair{"remote", &a.remote_ms}})
        if (!ms->empty())
            fprintf(out, "  %-10s %8.0f %8.0f %8.0f\n", name, percentile(*ms, 0.5), percentile(*ms, 0.95),
                    percentile(*ms, 0.99));
    fprintf(out, "cost %.6f", a.cost());
    if (r.prices.known)
        fprintf(out, "; all of it by the large model %.6f, as the local model counts tokens: %.1f %% less", a.all_cloud,
                a.all_cloud <= 0 ? 0 : 100 * (1 - a.cost() / a.all_cloud));
    else
        fputs("; --prices IN,OUT (of a million tokens) says what all of it by the large model would have cost", out);
    fputs("\n\n", out);
    fprintf(out, "%-24s %8s %8s %8s %8s %12s\n", "agent", "requests", "local", "p50 ms", "remote", "cost");
    for (const auto& [name, s] : r.agents)
        fprintf(out, "%-24s %8llu %6.1f %% %8.0f %8.0f %12.6f\n", name.empty() ? "(none)" : name.c_str(),
                u(s.requests()), 100 * s.local_share(), percentile(s.local_ms, 0.5), percentile(s.remote_ms, 0.5),
                s.cost());
    if (r.lost != 0) fprintf(out, "%llu records could not be written and are not counted\n", u(r.lost));
    if (r.faults != 0) fprintf(out, "%llu faults: slmctl ledger verify shows them\n", u(r.faults));
}

void csv_line(std::string& to, const std::string& name, const Sum& s, bool prices) {
    std::string quoted;
    for (const char c : name) {
        if (c == '"') quoted += '"';
        quoted += c;
    }
    agent::drawing::append(to, "\"%s\",%llu,%.6f", quoted.c_str(), static_cast<unsigned long long>(s.requests()),
                           s.local_share());
    for (const std::uint64_t n : s.answers) agent::drawing::append(to, ",%llu", static_cast<unsigned long long>(n));
    agent::drawing::append(to, ",%llu,%llu", static_cast<unsigned long long>(s.settled),
                           static_cast<unsigned long long>(s.failed));
    for (const auto* ms : {&s.local_ms, &s.remote_ms})
        for (const double p : {0.5, 0.95, 0.99}) {
            if (ms->empty())
                to += ',';
            else
                agent::drawing::append(to, ",%.0f", percentile(*ms, p));
        }
    agent::drawing::append(to, ",%.6f,", s.cost());
    if (prices) agent::drawing::append(to, "%.6f", s.all_cloud);
    for (const std::uint64_t n : s.by_reason) agent::drawing::append(to, ",%llu", static_cast<unsigned long long>(n));
    to += '\n';
}

std::string csv(const Reporter& r) {
    std::string to =
        "agent,requests,local_share,keep,escalate,queue,refuse,settled,failed,local_p50_ms,local_p95_ms,local_p99_ms,"
        "remote_p50_ms,remote_p95_ms,remote_p99_ms,cost,all_cloud_cost";
    for (std::size_t i = 0; i < reasons; i++) agent::drawing::append(to, ",\"%s\"", name_of(static_cast<Reason>(i)));
    to += '\n';
    csv_line(to, "(all)", r.all, r.prices.known);
    for (const auto& [name, s] : r.agents) csv_line(to, name, s, r.prices.known);
    return to;
}

// Left: how many requests went which way, and why. Right: how many answers had come after so many milliseconds.
std::string svg(const Reporter& r) {
    using namespace agent::drawing;
    Drawing d;
    d.begin();
    char text[160];
    std::snprintf(text, sizeof text, "%llu requests, %.1f %% answered on the board",
                  static_cast<unsigned long long>(r.all.requests()), 100 * r.all.local_share());
    d.text(left[0], 24, 9, 0, text);
    double y = top;
    for (std::size_t i = 0; i < reasons; i++) {
        if (r.all.by_reason[i] == 0) continue;
        const double part = share(r.all.by_reason[i], r.all.requests());
        const bool leaves = static_cast<Reason>(i) >= Reason::wish_leave;
        std::snprintf(text, sizeof text, "%.1f %%  %s", part, name_of(static_cast<Reason>(i)));
        d.text(left[0], y, 5, 0, text);
        d.add("<rect x=\"%.1f\" y=\"%.1f\" width=\"%.1f\" height=\"10\" fill=\"%s\"/>\n", left[0], y + 6,
              std::max(1.0, side * part / 100), leaves ? first_colour : second_colour);
        y += 32;
    }
    double most = 1;
    for (const auto* ms : {&r.all.local_ms, &r.all.remote_ms}) most = std::max(most, percentile(*ms, 0.99));
    const Panel panel{d, left[1], 1, nice(most)};
    panel.axes("milliseconds", "share of the answers that had come");
    const struct {
        const char *name, *colour;
        const std::vector<std::uint32_t>& ms;
    } series[] = {{"local", second_colour, r.all.local_ms}, {"large model", first_colour, r.all.remote_ms}};
    double x = left[1];
    for (const auto& s : series) {
        d.add("<rect x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, s.colour);
        d.text(x + 20, 52, 6, 0, s.name);
        x += 140;
        if (s.ms.empty()) continue;
        d.add("<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", s.colour);
        char pen = 'M';
        for (int i = 0; i <= 99; i++) {
            d.add("%c%.1f %.1f", pen, panel.x(percentile(s.ms, i / 100.0)), panel.y(i / 100.0));
            pen = 'L';
        }
        d.svg += "\"/>\n";
    }
    return d.svg + "</svg>\n";
}

}  // namespace

Result<Prices> read_prices(const char* text) {
    if (text == nullptr) return Prices{};
    char *comma = nullptr, *end = nullptr;
    const double in = strtod(text, &comma);
    const double out = *comma == ',' ? strtod(comma + 1, &end) : 0;
    if (comma == text || *comma != ',' || end == comma + 1 || *end != 0 || !(in >= 0 && in < 1e9) ||
        !(out >= 0 && out < 1e9))
        return Error::make(Code::incorrect_parameters, "--prices %s: IN,OUT of a million tokens, such as 0.15,0.60",
                           text);
    return Prices{in * 1e-6, out * 1e-6, true};
}

Result<void> report_ledger(const LedgerCommand& command, FILE* out) {
    Reporter r;
    r.prices = TRY(read_prices(command.prices));
    r.agent = command.agent;
    if (command.since != nullptr)
        r.since = TRY(since_ms(command.since, static_cast<std::int64_t>(time(nullptr)) * 1000));
    TRY(read_ledger(TRY(ledger_paths(command.paths)), r));
    r.finish();
    if (command.csv != nullptr) TRY(write_text(command.csv, csv(r)));
    if (command.svg != nullptr) TRY(write_text(command.svg, svg(r)));
    if (r.all.requests() == 0)
        fputs("no requests\n", out);
    else
        print(r, out);
    return {};
}

}  // namespace slmd::client
