#include "client/replay.h"

#include <string.h>
#include <time.h>

#include <map>

#include "base/bytes.h"
#include "client/labelled.h"
#include "client/ledger_files.h"

namespace slmd::client {
namespace {

using namespace route;

struct Collector final : LedgerVisitor {
    const LedgerCommand& command;
    std::int64_t since = 0;
    std::vector<LedgerRecord> decisions;
    std::uint64_t faults = 0;
    explicit Collector(const LedgerCommand& c) : command(c) {}
    void record(const LedgerRecord& r) override {
        if (r.kind != LedgerKind::decision || r.wall_ms < since) return;
        if (command.agent != nullptr && agent_name(r) != command.agent) return;
        decisions.push_back(r);
    }
    void fault(const std::string& file, const LedgerFault& f) override {
        fprintf(stderr, "slmctl: %s: %s\n", file.c_str(), f.text);
        faults++;
    }
};

Result<Sha256> digest_of(const std::string& text) { return sha256(std::as_bytes(std::span(text))); }

// Of the first so many bytes. Zeros are "none", as is "".
bool same_hash(std::span<const std::uint8_t> recorded, const std::string& now) {
    const std::string then = hex_of(recorded);
    const bool none = then.find_first_not_of('0') == std::string::npos;
    return none ? now.empty() : now.compare(0, then.size(), then) == 0;
}

std::string why_differs(const LedgerRecord& r, const Replayer& replayer, const Replayer::Agent& agent) {
    if (!replayer.image.empty() && !same_hash(r.image, replayer.image)) return "it was another image";
    if (!same_hash(r.adapter, agent.adapter_sha256)) return "it was another adapter";
    if (replayer.image.empty()) return "another image or another text of the agent's file, if not a defect";
    return "another text of the agent's file, if not a defect";
}

}  // namespace

Result<bool> replay_ledger(const LedgerCommand& command, const Replayer& replayer, FILE* out) {
    Collector collector(command);
    if (command.since != nullptr)
        collector.since = TRY(since_ms(command.since, static_cast<std::int64_t>(time(nullptr)) * 1000));
    TRY(read_ledger(TRY(ledger_paths(command.paths)), collector));
    auto& decisions = collector.decisions;
    if (command.last > 0 && decisions.size() > static_cast<std::size_t>(command.last))
        decisions.erase(decisions.begin(), decisions.end() - command.last);

    std::vector<Labelled> requests;
    if (command.requests != nullptr) requests = TRY(read_labelled(command.requests, false));
    std::map<Sha256, const Labelled*> by_digest;
    for (const Labelled& l : requests) by_digest[TRY(digest_of(l.input))] = &l;
    std::map<std::string, Replayer::Agent> agents;

    std::uint64_t otherwise = 0, without = 0, asked = 0, differ = 0;
    for (const LedgerRecord& r : decisions) {
        const auto sequence = static_cast<unsigned long long>(r.sequence);
        const Decision d = decide(facts_of(r));
        if (d.answer != r.answer || d.reason != r.reason) {
            fprintf(out, "record %llu: %s, for %s; its facts are decided otherwise now: %s, for %s\n", sequence,
                    answer_name(r), reason_name(r), name_of(d.answer), name_of(d.reason));
            otherwise++;
        }
        if (command.requests == nullptr) continue;
        Sha256 request;
        memcpy(request.data(), r.request, request.size());
        const auto found = by_digest.find(request);
        if (r.task != LedgerTask::run || found == by_digest.end()) {
            without++;
            continue;
        }
        const std::string name = agent_name(r);
        if (agents.find(name) == agents.end()) agents[name] = TRY(replayer.about(name));
        const std::string answer = TRY(replayer.answer(name, found->second->input, found->second->object));
        const Sha256 digest = TRY(digest_of(answer));
        asked++;
        if (memcmp(digest.data(), r.result, digest.size()) == 0) continue;
        differ++;
        fprintf(out, "record %llu: %s answers otherwise now: %s\n", sequence, name.c_str(),
                why_differs(r, replayer, agents[name]).c_str());
    }
    fprintf(out, "%zu decisions: %llu are decided as they were on their facts, %llu otherwise\n", decisions.size(),
            static_cast<unsigned long long>(decisions.size() - otherwise), static_cast<unsigned long long>(otherwise));
    if (command.requests == nullptr)
        fputs("--requests FILE, lines {\"input\": ...}, has the answers made again, too\n", out);
    else
        fprintf(out, "%llu answers made again: %llu are the same to the bit, %llu differ; %llu have no request there\n",
                static_cast<unsigned long long>(asked), static_cast<unsigned long long>(asked - differ),
                static_cast<unsigned long long>(differ), static_cast<unsigned long long>(without));
    return otherwise == 0 && differ == 0 && collector.faults == 0;
}

}  // namespace slmd::client
