#include "client/ledger.h"

#include <string.h>
#include <time.h>
#include <unistd.h>

#include <deque>
#include <map>

#include "base/bytes.h"
#include "client/ledger_files.h"
#include "client/ledger_heads.h"

namespace slmd::client {
namespace {

using namespace route;

struct Verifier final : LedgerVisitor {
    std::vector<std::string> files, wrong;
    LedgerChain chain;
    std::map<std::uint64_t, SignedHead> heads;  // by sequence
    std::uint64_t signed_to = 0;
    LedgerRecord last{};
    std::uint64_t first = 0, decisions = 0, outcomes = 0, lost = 0;
    void record(const LedgerRecord& r) override {
        if (first == 0) first = r.sequence;
        if (const auto head = heads.find(r.sequence); head != heads.end()) {
            if (memcmp(head->second.hash.data(), r.hash, sizeof r.hash) == 0) {
                signed_to = r.sequence;
            } else {
                wrong.push_back("record " + std::to_string(r.sequence) +
                                " is not the one that was signed: the ledger was made anew");
            }
        }
        decisions += r.kind == LedgerKind::decision;
        outcomes += r.kind == LedgerKind::outcome;
        if (r.kind == LedgerKind::note && r.code == static_cast<std::uint8_t>(LedgerNote::gap)) lost += r.refers;
        last = r;
    }
    void fault(const std::string& file, const LedgerFault& f) override { wrong.push_back(file + ": " + f.text); }
};

Result<Verifier> verify_once(const LedgerCommand& command, const char* key) {
    Verifier v;
    v.files = TRY(ledger_paths(command.paths));
    if (key != nullptr)
        for (const SignedHead& h : TRY(read_heads(v.files, key))) v.heads[h.sequence] = h;
    v.chain = TRY(read_ledger(v.files, v));
    for (const auto& [sequence, head] : v.heads)
        if (sequence > v.last.sequence)
            v.wrong.push_back("record " + std::to_string(sequence) +
                              " was signed and is not there: the ledger was cut short");
    return v;
}

// A slmd that runs may just have been writing, or have begun another file: what is wrong is wrong twice.
Result<Verifier> verify(const LedgerCommand& command, const char* key) {
    auto v = verify_once(command, key);
    if (v && v.value().wrong.empty()) return v;
    usleep(300'000);
    return verify_once(command, key);
}

bool decided_alike(const LedgerRecord& r) {
    const Decision d = decide(facts_of(r));
    return d.answer == r.answer && d.reason == r.reason;
}

void print_text(const LedgerRecord& r, FILE* out) {
    fprintf(out, "%8llu %s ", static_cast<unsigned long long>(r.sequence), time_text(r.wall_ms).c_str());
    switch (r.kind) {
        case LedgerKind::decision:
            fprintf(out, "%-16s %-8s %s; confidence %.3f of %.3f, %u+%u tokens, %u ms%s\n", agent_name(r).c_str(),
                    answer_name(r), reason_name(r), static_cast<double>(r.confidence), static_cast<double>(r.threshold),
                    r.tokens_in, r.tokens_out, r.queue_ms + r.prefill_ms + r.decode_ms,
                    decided_alike(r) ? "" : " (its facts would be decided otherwise now)");
            break;
        case LedgerKind::outcome:
            fprintf(out, "%-16s %-8s of %llu: %u+%u tokens, %u bytes out, %u in, %u ms, cost %.6f\n",
                    agent_name(r).c_str(), name_of(static_cast<LedgerOutcome>(r.code)),
                    static_cast<unsigned long long>(r.refers), r.tokens_in, r.tokens_out, r.bytes_out, r.bytes_in,
                    r.remote_ms, static_cast<double>(r.cost_micro) * 1e-6);
            break;
        default:
            fprintf(out, "%-16s %s %lld\n", "", name_of(static_cast<LedgerNote>(r.code)),
                    static_cast<long long>(r.refers));
    }
}

void print_json(const LedgerRecord& r, FILE* out) {
    std::string agent;
    for (const char c : agent_name(r)) {
        if (c == '"' || c == '\\') agent += '\\';
        agent += c;
    }
    const char* const code = r.kind == LedgerKind::outcome ? name_of(static_cast<LedgerOutcome>(r.code))
                             : r.kind == LedgerKind::note  ? name_of(static_cast<LedgerNote>(r.code))
                                                           : "";
    fprintf(
        out,
        "{\"sequence\":%llu,\"wall_ms\":%lld,\"uptime_s\":%u,\"kind\":\"%s\",\"code\":\"%s\",\"task\":\"%s\","
        "\"agent\":\"%s\",\"answer\":\"%s\",\"reason\":\"%s\",\"facts\":%u,\"checks_passed\":%u,\"checks_failed\":%u,"
        "\"confidence\":%.6g,\"threshold\":%.6g,",
        static_cast<unsigned long long>(r.sequence), static_cast<long long>(r.wall_ms), r.uptime_s, name_of(r.kind),
        code, name_of(r.task), agent.c_str(), answer_name(r), reason_name(r), r.facts, r.checks_passed, r.checks_failed,
        static_cast<double>(r.confidence), static_cast<double>(r.threshold));
    fprintf(out,
            "\"tokens_in\":%u,\"tokens_out\":%u,\"bytes_out\":%u,\"bytes_in\":%u,\"queue_ms\":%u,\"prefill_ms\":%u,"
            "\"decode_ms\":%u,\"remote_ms\":%u,\"seed\":%llu,\"cost_micro\":%lld,\"refers\":%lld,\"id\":\"%016llx\",",
            r.tokens_in, r.tokens_out, r.bytes_out, r.bytes_in, r.queue_ms, r.prefill_ms, r.decode_ms, r.remote_ms,
            static_cast<unsigned long long>(r.seed), static_cast<long long>(r.cost_micro),
            static_cast<long long>(r.refers), static_cast<unsigned long long>(r.id));
    fprintf(out, "\"request\":\"%s\",\"result\":\"%s\",\"image\":\"%s\",\"adapter\":\"%s\",\"hash\":\"%s\"}\n",
            hex_of(r.request).c_str(), hex_of(r.result).c_str(), hex_of(r.image).c_str(), hex_of(r.adapter).c_str(),
            hex_of(r.hash).c_str());
}

struct Shower final : LedgerVisitor {
    const LedgerCommand& command;
    FILE* out;
    std::int64_t since = 0;
    std::deque<LedgerRecord> waiting;  // with --last
    Shower(const LedgerCommand& c, FILE* o) : command(c), out(o) {}
    void record(const LedgerRecord& r) override {
        if (r.wall_ms < since || (command.agent != nullptr && agent_name(r) != command.agent)) return;
        if (command.last == 0) return print(r);
        waiting.push_back(r);
        if (waiting.size() > static_cast<std::size_t>(command.last)) waiting.pop_front();
    }
    void print(const LedgerRecord& r) const { command.json ? print_json(r, out) : print_text(r, out); }
    void fault(const std::string& file, const LedgerFault& f) override {
        fprintf(stderr, "slmctl: %s: %s\n", file.c_str(), f.text);
    }
};

}  // namespace

Result<bool> verify_ledger(const LedgerCommand& command, FILE* out) {
    const Verifier v = TRY(verify(command, command.key));
    const auto u = [](std::uint64_t n) { return static_cast<unsigned long long>(n); };
    for (const std::string& w : v.wrong) fprintf(out, "%s\n", w.c_str());
    fprintf(out, "%llu records in %zu files are good (%llu decisions, %llu outcomes)", u(v.chain.records),
            v.files.size(), u(v.decisions), u(v.outcomes));
    if (v.chain.records != 0)
        fprintf(out, ", %llu to %llu, %s\nhead %llu %s", u(v.first), u(v.last.sequence),
                time_text(v.last.wall_ms).c_str(), u(v.last.sequence), hex_of(v.last.hash).c_str());
    fputs("\n", out);
    if (v.lost != 0) fprintf(out, "%llu more could not be written at their time, as its notes say\n", u(v.lost));
    if (v.signed_to != 0)
        fprintf(out, "signed up to record %llu\n", u(v.signed_to));
    else if (command.key != nullptr)
        fputs("no record that is here was signed\n", out);
    if (!v.wrong.empty()) fprintf(out, "%zu faults\n", v.wrong.size());
    return v.wrong.empty();
}

Result<void> sign_ledger(const LedgerCommand& command, FILE* out) {
    const Verifier v = TRY(verify(command, nullptr));
    if (!v.wrong.empty())
        return Error::make(Code::check_failed, "nothing is vouched for that has faults: %s", v.wrong[0].c_str());
    if (v.chain.records == 0) return Error::make(Code::check_failed, "there is no record to vouch for");
    SignedHead head{v.last.sequence, {}, {}, {}};
    memcpy(head.hash.data(), v.last.hash, head.hash.size());
    TRY(add_head(v.files.back(), head, command.key));
    fprintf(out, "signed up to record %llu\n", static_cast<unsigned long long>(head.sequence));
    return {};
}

Result<void> show_ledger(const LedgerCommand& command, FILE* out) {
    const auto files = TRY(ledger_paths(command.paths));
    Shower shower(command, out);
    if (command.since != nullptr)
        shower.since = TRY(since_ms(command.since, static_cast<std::int64_t>(time(nullptr)) * 1000));
    TRY(read_ledger(files, shower));
    for (const LedgerRecord& r : shower.waiting) shower.print(r);
    return {};
}

}  // namespace slmd::client
