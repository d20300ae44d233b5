#include "client/ledger.h"

#include <string.h>
#include <time.h>

#include <deque>
#include <map>

#include "base/bytes.h"
#include "client/ledger_files.h"
#include "client/ledger_heads.h"

namespace slmd::client {
namespace {

using namespace route;

struct Verifier final : LedgerVisitor {
    FILE* out;
    std::map<std::uint64_t, SignedHead> heads;  // by sequence
    std::uint64_t forged = 0, signed_to = 0;
    LedgerRecord last{};
    std::uint64_t first = 0, decisions = 0, outcomes = 0, lost = 0;
    explicit Verifier(FILE* o) : out(o) {}
    void record(const LedgerRecord& r) override {
        if (first == 0) first = r.sequence;
        if (const auto head = heads.find(r.sequence); head != heads.end()) {
            if (memcmp(head->second.hash.data(), r.hash, sizeof r.hash) == 0) {
                signed_to = r.sequence;
            } else {
                fprintf(out, "record %llu is not the one that was signed: the ledger was made anew\n",
                        static_cast<unsigned long long>(r.sequence));
                forged++;
            }
        }
        decisions += r.kind == LedgerKind::decision;
        outcomes += r.kind == LedgerKind::outcome;
        if (r.kind == LedgerKind::note && r.code == static_cast<std::uint8_t>(LedgerNote::gap)) lost += r.refers;
        last = r;
    }
    void fault(const std::string& file, const LedgerFault& f) override {
        fprintf(out, "%s: %s\n", file.c_str(), f.text);
    }
};

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
    const auto files = TRY(ledger_paths(command.paths));
    Verifier verifier(out);
    if (command.key != nullptr)
        for (const SignedHead& h : TRY(read_heads(files, command.key))) verifier.heads[h.sequence] = h;
    const LedgerChain chain = TRY(read_ledger(files, verifier));
    fprintf(out, "%llu records in %zu files are good (%llu decisions, %llu outcomes)%s",
            static_cast<unsigned long long>(chain.records), files.size(),
            static_cast<unsigned long long>(verifier.decisions), static_cast<unsigned long long>(verifier.outcomes),
            chain.records == 0 ? "\n" : "");
    if (chain.records != 0)
        fprintf(out, ", %llu to %llu, %s\nhead %llu %s\n", static_cast<unsigned long long>(verifier.first),
                static_cast<unsigned long long>(verifier.last.sequence), time_text(verifier.last.wall_ms).c_str(),
                static_cast<unsigned long long>(verifier.last.sequence), hex_of(verifier.last.hash).c_str());
    if (verifier.lost != 0)
        fprintf(out, "%llu more could not be written at their time, as its notes say\n",
                static_cast<unsigned long long>(verifier.lost));
    for (const auto& [sequence, head] : verifier.heads)
        if (sequence > verifier.last.sequence) {
            fprintf(out, "record %llu was signed and is not there: the ledger was cut short\n",
                    static_cast<unsigned long long>(sequence));
            verifier.forged++;
        }
    if (verifier.signed_to != 0)
        fprintf(out, "signed up to record %llu\n", static_cast<unsigned long long>(verifier.signed_to));
    else if (command.key != nullptr)
        fputs("no record that is here was signed\n", out);
    const std::uint64_t faults = chain.faults + verifier.forged;
    if (faults != 0) fprintf(out, "%llu faults\n", static_cast<unsigned long long>(faults));
    return faults == 0;
}

Result<void> sign_ledger(const LedgerCommand& command, FILE* out) {
    const auto files = TRY(ledger_paths(command.paths));
    Verifier verifier(out);
    const LedgerChain chain = TRY(read_ledger(files, verifier));
    if (chain.faults != 0 || chain.records == 0)
        return Error::make(Code::check_failed, "nothing is vouched for that has faults, or no record");
    SignedHead head{verifier.last.sequence, {}, {}, {}};
    memcpy(head.hash.data(), verifier.last.hash, head.hash.size());
    TRY(add_head(files.back(), head, command.key));
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
