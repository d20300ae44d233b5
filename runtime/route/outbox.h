// What waits to leave, what came back and was not fetched yet, and what all of it costs: the queue and the budget, in
// one journal, so that a power cut leaves both as they were between two of their changes.
#pragma once
#include "route/budget.h"
#include "route/journal.h"

namespace slmd::route {

// A request, as it is known beside its text.
struct Letter {
    static constexpr std::size_t key_bytes = 32;  // in hex: also the idempotency key
    char key[key_bytes + 1] = "";
    char agent[33] = "";
    std::int32_t priority = 0;     // higher first
    std::int64_t queued_ms = 0;    // Unix time
    std::int64_t deadline_ms = 0;  // after which it is not sent; 0: none
};

struct Entry {
    enum State : std::uint32_t {
        free,
        waiting,
        leaving,   // reserved: it may have been sent
        doubtful,  // it was leaving when the program ended: whether it was sent is not known
        answered   // the answer, or why there is none, waits to be fetched
    } state = free;
    Letter letter;
    Journal::Place text, answer;
};

class Outbox final : private Journal::Visitor {
  public:
    static constexpr std::size_t max_entries = 64, max_direct = 8;
    static constexpr std::uint64_t most_waste = 262144;  // bytes of the file that nobody needs, before it is rewritten

    struct Settings {
        Limits all;
        std::span<const AgentLimits> agents;
        std::size_t entries = max_entries;
        std::uint64_t bytes = 1 << 20;  // of all texts and answers
    };
    struct Found {
        Journal::Found file;
        int waiting = 0, answered = 0;
        int doubtful = 0;  // were leaving
        int spent = 0;     // reserved by what was not in the queue: counted as spent in full
    };
    // scratch: Journal::max_record bytes, for as long as this lives. Errors: as Journal::open.
    Result<Found> open(const char* path, const Settings& settings, std::span<char> scratch);

    // Each of these did nothing when it returns an error; storage_failure is one of all of them. A commit takes along
    // all that was changed before it, so that what nothing is lost with waits for the next one, or for flush().
    //
    // durable: else it waits for a commit, because whoever asked has it too. Errors: memory_full (entries, bytes),
    // not_allowed (the key is there already).
    Result<void> put(const Letter& letter, std::string_view text, bool durable = true);
    // Reserves, durably, and then it may be sent. Errors: not_allowed (budget), not_found.
    Result<void> leave(std::string_view key, const Amounts& most, std::int64_t now_ms);
    // Of a request that does not wait: the same, without an entry. Errors: memory_full, too.
    Result<void> leave_at_once(const Letter& letter, const Amounts& most, std::int64_t now_ms);
    // It came back, or failed for good; used: what it came to, null: all that was reserved. Its answer is kept until it
    // is dropped. Durable with confirm(). Errors: not_found.
    Result<void> answer(std::string_view key, const Amounts* used, std::string_view answer);
    // It waits again; durable with confirm(). used: what the try came to, null: all that was reserved, since it may
    // have arrived.
    Result<void> wait_again(std::string_view key, const Amounts* used);
    // Forgotten, whatever its state but leaving: durably what might be sent yet; what has its answer waits for a
    // commit. Errors: not_found, busy.
    Result<void> drop(std::string_view key);
    // Of one that left at once. Waits for a commit: until then it counts in full.
    Result<void> settle(std::string_view key, const Amounts& used);
    Result<void> confirm() { return to_confirm_ ? flush() : Result<void>(); }
    Result<void> flush();
    bool waits_for_commit() const { return journal_.changed(); }

    // That is to leave next; null: none.
    const Entry* next(std::int64_t now_ms) const;
    // That waits and is past its deadline.
    const Entry* expired(std::int64_t now_ms) const;
    const Entry* find(std::string_view key) const;
    // Into `out`, which has room for a record. Errors: storage_failure, check_failed.
    Result<std::string_view> text(const Entry& entry, std::span<char> out) const;
    Result<std::string_view> answer_of(const Entry& entry, std::span<char> out) const;
    std::span<const Entry> entries() const { return entries_; }
    const Budget& budget() const { return budget_; }
    std::uint64_t file_size() const { return journal_.size(); }
    std::uint64_t commits() const { return journal_.commits(); }

  private:
    // Of what left and was not settled.
    struct Reserved {
        char key[Letter::key_bytes + 1] = "";
        char agent[33] = "";
        Amounts most;
        Date when;
    };
    Result<void> record(std::uint32_t type, std::string_view text, Journal::Place place) override;
    Entry* entry_of(std::string_view key);
    Reserved* reserved_of(std::string_view key);
    Reserved* room_for_reserved();
    Result<void> reserve(const Letter& letter, const Amounts& most, std::int64_t now_ms);
    void settled(std::string_view key, const Amounts* used);
    std::uint64_t wanted() const;
    void shrink();
    Result<void> write_all(Journal& next);

    Settings settings_;
    std::span<char> scratch_;
    Journal journal_;
    bool to_confirm_ = false;
    Budget budget_;
    Entry entries_[max_entries];
    Reserved reserved_[max_entries + max_direct];
    Found found_;
};

}  // namespace slmd::route
