#include "route/ledger_format.h"

#include <cstddef>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"

namespace slmd::route {
namespace {

enum FactBits : unsigned { policy_shift = 0, wish_shift = 2, bits_shift = 4 };

template <std::size_t n>
const char* pick(const char* const (&names)[n], std::size_t i) {
    return i < n ? names[i] : "unknown";
}

}  // namespace

LedgerName ledger_name(std::uint32_t number) {
    LedgerName name;
    std::snprintf(name.text, sizeof name.text, "%08x.ledger", number);
    return name;
}

std::uint32_t ledger_number(std::string_view name) {
    if (name.size() != 15 || !name.ends_with(".ledger")) return 0;
    std::uint32_t n = 0;
    for (const char c : name.substr(0, 8)) {
        const int digit = c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : -1;
        if (digit < 0) return 0;
        n = n << 4 | static_cast<std::uint32_t>(digit);
    }
    return n;
}

Result<Sha256> ledger_hash(const Sha256& before, const LedgerRecord& record) {
    return sha256(
        {std::as_bytes(std::span(before)), std::as_bytes(std::span(&record, 1)).first(offsetof(LedgerRecord, hash))});
}

Result<Sha256> ledger_hash(const LedgerHeader& header) {
    return sha256(std::as_bytes(std::span(&header, 1)).first(offsetof(LedgerHeader, hash)));
}

Result<const char*> check_header(const LedgerHeader& header) {
    if (std::memcmp(header.magic, LedgerHeader::magic_text, sizeof header.magic) != 0)
        return "it does not begin as a ledger does";
    const Sha256 hash = TRY(ledger_hash(header));
    if (std::memcmp(hash.data(), header.hash, sizeof header.hash) != 0) return "its header does not have its hash";
    if (header.version != 1) return "it is of another version; a newer slmctl reads it";
    if (header.record_bytes != sizeof(LedgerRecord)) return "its records have another size";
    return "";
}

void set_facts(LedgerRecord& r, const Facts& f, Decision d) {
    unsigned bits = static_cast<unsigned>(f.policy) << policy_shift | static_cast<unsigned>(f.wish) << wish_shift;
    const bool flags[] = {f.cut, f.checks_failed, f.calibrated, f.redacted, f.affordable, f.link, f.may_wait};
    for (unsigned i = 0; i < std::size(flags); i++) bits |= static_cast<unsigned>(flags[i]) << (bits_shift + i);
    r.facts = static_cast<std::uint16_t>(bits);
    r.confidence = f.confidence, r.threshold = f.threshold;
    r.answer = d.answer, r.reason = d.reason;
}

Facts facts_of(const LedgerRecord& r) {
    const auto flag = [&](unsigned i) { return (r.facts >> (bits_shift + i) & 1u) != 0; };
    return {static_cast<Policy>(r.facts >> policy_shift & 3),
            flag(0),
            static_cast<Wish>(r.facts >> wish_shift & 3),
            flag(1),
            flag(2),
            r.confidence,
            r.threshold,
            flag(3),
            flag(4),
            flag(5),
            flag(6)};
}

void set_agent(LedgerRecord& r, std::string_view agent) {
    std::memset(r.agent, 0, sizeof r.agent);
    std::memcpy(r.agent, agent.data(), std::min(agent.size(), sizeof r.agent));
}

std::string_view agent_of(const LedgerRecord& r) { return {r.agent, strnlen(r.agent, sizeof r.agent)}; }

const char* name_of(LedgerKind kind) {
    constexpr const char* names[] = {"nothing", "decision", "outcome", "note"};
    return pick(names, static_cast<std::size_t>(kind));
}
const char* name_of(LedgerTask task) {
    constexpr const char* names[] = {"other", "generate", "classify", "extract", "run", "ask", "chat"};
    return pick(names, static_cast<std::size_t>(task));
}
const char* name_of(LedgerOutcome outcome) {
    constexpr const char* names[] = {"settled", "failed", "dropped", "expired"};
    return pick(names, static_cast<std::size_t>(outcome));
}
const char* name_of(LedgerNote note) {
    constexpr const char* names[] = {"start", "recovery", "damage", "clock", "gap", "stop", "restart"};
    return pick(names, static_cast<std::size_t>(note));
}

std::span<const LedgerField> ledger_fields() {
#define FIELD(name) \
    { #name, offsetof(LedgerRecord, name), sizeof(LedgerRecord::name) }
    static constexpr LedgerField fields[] = {
        FIELD(sequence),   FIELD(wall_ms),    FIELD(uptime_s),   FIELD(kind),          FIELD(task),
        FIELD(answer),     FIELD(reason),     FIELD(facts),      FIELD(checks_passed), FIELD(checks_failed),
        FIELD(code),       FIELD(in_commit),  FIELD(confidence), FIELD(threshold),     FIELD(remote_ms),
        FIELD(tokens_in),  FIELD(tokens_out), FIELD(bytes_out),  FIELD(bytes_in),      FIELD(queue_ms),
        FIELD(prefill_ms), FIELD(decode_ms),  FIELD(adapter),    FIELD(seed),          FIELD(cost_micro),
        FIELD(refers),     FIELD(id),         FIELD(request),    FIELD(result),        FIELD(image),
        FIELD(agent),      FIELD(hash)};
#undef FIELD
    return fields;
}

std::span<const LedgerField> ledger_header_fields() {
#define FIELD(name) \
    { #name, offsetof(LedgerHeader, name), sizeof(LedgerHeader::name) }
    static constexpr LedgerField fields[] = {FIELD(magic),  FIELD(version),        FIELD(record_bytes),
                                             FIELD(number), FIELD(first_sequence), FIELD(wall_ms),
                                             FIELD(anchor), FIELD(zero),           FIELD(hash)};
#undef FIELD
    return fields;
}

}  // namespace slmd::route
