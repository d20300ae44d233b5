// A ledger's files: segments NNNNNNNN.ledger, numbered in hex. Each is a header and records of the same size behind it,
// then zeros up to where the file ends. Everything is little-endian.
//
// The chain: a record's hash is SHA-256 over the hash of the record before it and its own bytes up to `hash`; the first
// record of a segment follows its header's `anchor`, which is the hash of the last record of the segment before. So
// what is kept verifies by itself when older segments are gone, and a signed (sequence, hash) vouches for all before.
#pragma once
#include <array>
#include <cstdint>
#include <span>
#include <string_view>
#include <type_traits>

#include "base/sha256.h"
#include "route/decide.h"

namespace slmd::route {

enum class LedgerKind : std::uint8_t {
    none,      // zeros: nothing was written here
    decision,  // a request, its local answer, and whether it stays
    outcome,   // what became of one that left; refers: the decision's sequence
    note,      // about the ledger itself
};
enum class LedgerTask : std::uint8_t { other, generate, classify, extract, run, ask, chat };
// `code` of an outcome.
enum class LedgerOutcome : std::uint8_t { settled, failed, dropped, expired };
// `code` of a note.
enum class LedgerNote : std::uint8_t {
    start,     // the daemon started; id: the boot, where it is known
    recovery,  // what a power cut left was cut off; refers: bytes
    damage,    // records before this one do not verify; refers: how many
    clock,     // the time of day was set; refers: by how many ms (signed)
    gap,       // records that could not be written are lost; refers: how many
    stop,
    restart,  // what was there could not be continued: the chain begins anew
};

struct LedgerRecord {
    std::uint64_t sequence;  // from 1 on, one more each record
    std::int64_t wall_ms;    // time of day, since 1970, UTC
    std::uint32_t uptime_s;  // CLOCK_MONOTONIC: only goes forward
    LedgerKind kind;
    LedgerTask task;
    Answer answer;
    Reason reason;
    std::uint16_t facts;                         // packed; see set() and facts_of()
    std::uint16_t checks_passed, checks_failed;  // bit i: check i of the agent
    std::uint8_t code;                           // LedgerOutcome, LedgerNote
    std::uint8_t in_commit;                      // how many records were written with it and before it
    float confidence, threshold;
    std::uint32_t remote_ms;              // of an outcome: from sending to the answer's end
    std::uint32_t tokens_in, tokens_out;  // local ones of a decision, the large model's of an outcome
    std::uint32_t bytes_out, bytes_in;    // what left, and what came
    std::uint32_t queue_ms, prefill_ms, decode_ms;
    std::uint8_t adapter[8];  // SHA-256, its first bytes; zeros: none
    std::uint64_t seed;
    std::int64_t cost_micro;  // millionths of the currency; of an outcome
    std::uint64_t refers;
    std::uint64_t id;          // of the request, or its idempotency key
    std::uint8_t request[32];  // SHA-256 of the request's text
    std::uint8_t result[32];   // SHA-256 of the answer's text: the local one, or the large model's
    std::uint8_t image[16];    // SHA-256, its first bytes
    char agent[32];            // zeros behind it; none: no agent
    std::uint8_t hash[32];
};
static_assert(sizeof(LedgerRecord) == 256 && std::is_trivially_copyable_v<LedgerRecord>);
static_assert(offsetof(LedgerRecord, adapter) == 72 && offsetof(LedgerRecord, hash) == 224);

struct LedgerHeader {
    static constexpr char magic_text[9] = "SLMLEDGR";
    char magic[8];
    std::uint32_t version;       // 1
    std::uint32_t record_bytes;  // sizeof(LedgerRecord)
    std::uint64_t number;        // of the segment, from 1 on
    std::uint64_t first_sequence;
    std::int64_t wall_ms;
    std::uint8_t anchor[32];
    std::uint8_t zero[152];
    std::uint8_t hash[32];  // SHA-256 of what is before it
};
static_assert(sizeof(LedgerHeader) == sizeof(LedgerRecord));

struct LedgerName {
    char text[24];
};
LedgerName ledger_name(std::uint32_t number);
// 0: not a segment's name.
std::uint32_t ledger_number(std::string_view name);

// Errors: unknown, when the crypto library refuses.
Result<Sha256> ledger_hash(const Sha256& before, const LedgerRecord& record);
Result<Sha256> ledger_hash(const LedgerHeader& header);
// Empty: good. Else what is wrong with it.
Result<const char*> check_header(const LedgerHeader& header);

// What was known, so that it can be decided again.
void set_facts(LedgerRecord& record, const Facts& facts, Decision decision);
Facts facts_of(const LedgerRecord& record);
void set_agent(LedgerRecord& record, std::string_view agent);
std::string_view agent_of(const LedgerRecord& record);

const char* name_of(LedgerKind kind);
const char* name_of(LedgerTask task);
const char* name_of(LedgerOutcome outcome);
const char* name_of(LedgerNote note);

struct LedgerField {
    const char* name;
    std::size_t begin, size;
};
std::span<const LedgerField> ledger_fields();
std::span<const LedgerField> ledger_header_fields();

}  // namespace slmd::route
