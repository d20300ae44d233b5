// The ledger: what was decided about each request, and what became of what left; a hash-chained record each, only ever
// appended, in files whose size is bounded (ledger_format.h).
//
// Made for an SD card. Records wait in memory and are written together; files are filled with zeros ahead of them, so
// that a write changes data in place and nothing of the file system. Each decision earns the ledger a few bytes that it
// may write, and what may wait, waits for them: at most 2 MB are written for 1,000 requests, however they come.
// Not for several threads.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "route/disk.h"
#include "route/ledger_format.h"

namespace slmd::route {

// Of all that was committed: whoever has it signed can prove every record up to there.
struct LedgerHead {
    std::uint64_t sequence = 0;  // 0: nothing yet
    Sha256 hash{};
};

class Ledger {
  public:
    static constexpr std::size_t max_waiting = 64;           // records
    static constexpr std::size_t full = 32;                  // so many are written at once
    static constexpr std::int64_t bytes_per_request = 1850;  // that may be written, on average
    static constexpr std::int64_t most_credit = 64 << 10;    // bytes, after a quiet time
    static constexpr std::uint64_t chunk_bytes = 64 << 10;   // by which files grow
    static constexpr std::uint64_t least_bytes = 128 << 10;  // of Config::bytes

    struct Config {
        std::uint64_t bytes = 16u << 20;  // all files together; older ones go
        std::int64_t delay_ms = 2000;     // that a record may wait for others while there is credit
        std::uint64_t boot = 0;           // which start of the board this is, where it is known
    };
    struct Time {
        std::int64_t wall_ms, uptime_ms;
        static Time now();
    };
    // What was there beside good records.
    struct Found {
        std::uint64_t torn_bytes = 0;  // of what was never acknowledged: cut off
        std::uint64_t damaged = 0;     // records, or a header, that do not verify; they stay as they are
        bool restarted = false;        // the chain could not be continued
    };
    struct Counts {
        std::uint64_t records = 0, commits = 0, lost = 0;  // since open()
    };

    Ledger() = default;
    Ledger(const Ledger&) = delete;
    Ledger& operator=(const Ledger&) = delete;
    ~Ledger();

    // Continues what is there. The disk is to outlive it. Errors: storage_failure, unknown.
    Result<Found> open(Disk& disk, const Config& config, Time now);
    // Of the record, sequence, times, in_commit and hash are filled in. leaves: it tells of a request that is about to
    // leave, and waits no longer than credit makes it. Returns its sequence; it is there after a power cut once a
    // commit() after it has succeeded. Errors: storage_failure: nothing can be written, and there is no more room to
    // wait in; the record is lost, and counted in a note when the disk takes writes again.
    Result<std::uint64_t> append(LedgerRecord record, Time now, bool leaves = false);
    // When commit() is to be called next: at once, then, or never as things are (INT64_MAX).
    std::int64_t due_ms() const;
    bool due(Time now) const { return waiting_ != 0 && now.uptime_ms >= due_ms(); }
    // Errors: storage_failure; what waits stays, and is due again ten seconds later.
    Result<void> commit(Time now);
    // The end of the daemon, with a note of it. Errors: those of commit().
    Result<void> stop(Time now);

    const LedgerHead& head() const { return head_; }
    const Counts& counts() const { return counts_; }
    std::size_t waiting() const { return waiting_; }

  private:
    struct Scan;
    Result<Scan> scan(int file, const LedgerHeader* header);
    Result<Found> resume();
    Result<std::uint64_t> put(LedgerRecord& record, Time now);
    Result<void> note(LedgerNote code, std::uint64_t refers, Time now);
    Result<void> write_out(Time now);
    Result<void> next_segment(Time now);
    Result<void> zero(int file, std::uint64_t begin, std::uint64_t end);
    std::uint64_t capacity() const { return segment_bytes_ / sizeof(LedgerRecord) - 1; }
    std::int64_t cost() const;

    Disk* disk_ = nullptr;
    Config config_;
    std::uint64_t segment_bytes_ = 0;
    std::uint32_t oldest_ = 1, newest_ = 0;  // numbers of segments
    int file_ = -1;                          // the newest one; below 0: the next record begins one
    std::uint64_t used_ = 0, filled_ = 0;    // records in it; bytes in it, the zeros included
    std::uint64_t total_ = 0;                // bytes of all files
    LedgerRecord buffer_[max_waiting];
    std::size_t waiting_ = 0;
    std::uint64_t next_sequence_ = 1;
    Sha256 last_{};  // hash of the last record, written or waiting
    LedgerHead head_;
    Counts counts_;
    std::uint64_t lost_ = 0;  // not yet told of by a note
    std::int64_t credit_ = 0, oldest_ms_ = 0, retry_ms_ = 0, offset_ms_ = 0;
    bool urgent_ = false;
};

}  // namespace slmd::route
