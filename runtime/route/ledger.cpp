#include "route/ledger.h"

#include <time.h>

#include <algorithm>
#include <cstring>
#include <limits>

#include "base/bytes.h"
#include "base/clock.h"

namespace slmd::route {
namespace {

constexpr char new_file[] = "new.tmp";
constexpr std::uint64_t record_bytes = sizeof(LedgerRecord), block = 4096;
// For each record: the zeros that were there before it, and what a journaling file system writes beside the data (three
// blocks, say) when a file of the least size is made, filled and named, and another goes.
constexpr std::int64_t share_bytes = record_bytes + 4 * 3 * block / 255;
constexpr std::int64_t retry_after_ms = 10'000, clock_step_ms = 2000;
constexpr std::byte zeros[block] = {};

bool is_zero(const LedgerRecord& r) { return std::memcmp(&r, zeros, sizeof r) == 0; }

Sha256 stored_hash(const LedgerRecord& r) {
    Sha256 h;
    std::memcpy(h.data(), r.hash, h.size());
    return h;
}

std::int64_t block_bytes(std::uint64_t begin, std::uint64_t end) {
    return begin == end ? 0 : static_cast<std::int64_t>(((end - 1) / block - begin / block + 1) * block);
}

}  // namespace

Ledger::Time Ledger::Time::now() {
    timespec t;
    clock_gettime(CLOCK_REALTIME, &t);
    return {static_cast<std::int64_t>(t.tv_sec) * 1000 + t.tv_nsec / 1'000'000, now_ns() / 1'000'000};
}

Ledger::~Ledger() {
    if (file_ >= 0) disk_->close(file_);
}

// What a segment has, by slots (records from 0 on).
struct Ledger::Scan {
    std::uint64_t end = 0;       // of what stays
    std::uint64_t written = 0;   // end of what is not zeros
    std::uint64_t damaged = 0;   // records before `end` that do not verify
    std::uint64_t verified = 0;  // those that do
    std::uint64_t sequence = 0;  // of the next record
    Sha256 hash{};               // of the last one before `end`
};

// Records that were written together reach the card in any order. What does not verify was acknowledged, and is
// damaged, when a good record behind it was written later; else it is the torn end.
Result<Ledger::Scan> Ledger::scan(int file, const LedgerHeader* header) {
    Scan s;
    Sha256 stored{}, computed{};  // of the record before
    if (header != nullptr) std::memcpy(stored.data(), header->anchor, stored.size());
    computed = stored;
    s.hash = stored;
    s.sequence = header != nullptr ? header->first_sequence : 0;
    constexpr std::uint64_t none = std::numeric_limits<std::uint64_t>::max();
    std::uint64_t first_bad = none, bad = 0, expected = s.sequence;
    Sha256 before_bad = stored;
    std::uint64_t sequence_of_bad = s.sequence;
    for (std::uint64_t slot = 0;;) {
        const std::size_t n =
            TRY(disk_->read(file, (slot + 1) * record_bytes, std::as_writable_bytes(std::span(buffer_)))) /
            record_bytes;
        for (std::size_t i = 0; i < n; i++, slot++) {
            const LedgerRecord& r = buffer_[i];
            if (header == nullptr && slot == 0) expected = r.sequence;
            const Sha256 found = stored_hash(r);
            const bool empty = is_zero(r);
            const Sha256 wanted = empty ? Sha256{} : TRY(ledger_hash(stored, r));
            const bool good =
                !empty && r.sequence == expected && (found == wanted || found == TRY(ledger_hash(computed, r)));
            if (!empty) s.written = slot + 1;
            expected++;
            if (good) {
                const std::uint64_t commit = slot - std::min<std::uint64_t>(r.in_commit, slot);
                if (first_bad < commit) s.damaged += bad, first_bad = none, bad = 0;
                s.verified++;
                if (first_bad == none) s.end = slot + 1, s.hash = found, s.sequence = expected;
            } else {
                if (first_bad == none) first_bad = slot, before_bad = stored, sequence_of_bad = expected - 1;
                bad++;
            }
            stored = found;
            computed = wanted;
        }
        if (n < max_waiting) break;
    }
    if (first_bad != none) s.end = first_bad, s.hash = before_bad, s.sequence = sequence_of_bad;
    return s;
}

Result<void> Ledger::zero(int file, std::uint64_t begin, std::uint64_t end) {
    while (begin < end) {
        const std::uint64_t n = std::min(end - begin, block - begin % block);
        TRY(disk_->write(file, begin, std::span(zeros).first(n)));
        begin += n;
    }
    return {};
}

Result<Ledger::Found> Ledger::resume() {
    Found found;
    const int file = TRY(disk_->open(ledger_name(newest_).text, Disk::How::existing));
    const auto done = [&]() -> Result<void> {
        LedgerHeader header{};
        TRY(disk_->read(file, 0, std::as_writable_bytes(std::span(&header, 1))));
        const bool good = *TRY(check_header(header)) == 0;
        const Scan s = TRY(scan(file, good ? &header : nullptr));
        found.damaged = s.damaged + (good ? 0 : 1);
        if (good || s.verified != 0) {
            next_sequence_ = s.sequence;
            last_ = s.hash;
        } else {
            found.restarted = true;
        }
        head_ = {next_sequence_ - 1, last_};
        if (!good) return {};  // what is there is left as it is
        if (s.written > s.end) {
            found.torn_bytes = (s.written - s.end) * record_bytes;
            TRY(zero(file, (s.end + 1) * record_bytes, (s.written + 1) * record_bytes));
            TRY(disk_->sync(file));
        }
        used_ = s.end;
        filled_ = TRY(disk_->size(file)) / record_bytes * record_bytes;
        if (used_ < capacity()) file_ = file;
        return {};
    }();
    if (file_ != file) disk_->close(file);
    if (!done) return done.error();
    return found;
}

Result<Ledger::Found> Ledger::open(Disk& disk, const Config& config, Time now) {
    disk_ = &disk;
    config_ = config;
    config_.bytes = std::max(config_.bytes, least_bytes);
    segment_bytes_ = std::max(config_.bytes / 8 / chunk_bytes, std::uint64_t{1}) * chunk_bytes;
    struct Range {
        std::uint32_t oldest = 0, newest = 0;
    } range;
    TRY(disk.list(
        [](void* context, const char* name) {
            auto& r = *static_cast<Range*>(context);
            if (const std::uint32_t n = ledger_number(name); n != 0) {
                r.oldest = r.oldest == 0 ? n : std::min(r.oldest, n);
                r.newest = std::max(r.newest, n);
            }
            return true;
        },
        &range));
    TRY(disk.remove(new_file));
    Found found;
    if (range.newest != 0) {
        oldest_ = range.oldest, newest_ = range.newest;
        for (std::uint32_t n = oldest_; n <= newest_ && n != 0; n++)
            if (const auto file = disk.open(ledger_name(n).text, Disk::How::existing); file) {
                if (const auto size = disk.size(file.value()); size) total_ += size.value();
                disk.close(file.value());
            }
        found = TRY(resume());
    }
    credit_ = 4 * block;
    offset_ms_ = now.wall_ms - now.uptime_ms;
    if (found.restarted) TRY(note(LedgerNote::restart, 0, now));
    if (found.damaged != 0) TRY(note(LedgerNote::damage, found.damaged, now));
    if (found.torn_bytes != 0) TRY(note(LedgerNote::recovery, found.torn_bytes, now));
    TRY(note(LedgerNote::start, 0, now));
    return found;
}

Result<std::uint64_t> Ledger::put(LedgerRecord& r, Time now) {
    r.sequence = next_sequence_;
    r.wall_ms = now.wall_ms;
    r.uptime_s = static_cast<std::uint32_t>(now.uptime_ms / 1000);
    r.in_commit = static_cast<std::uint8_t>(waiting_);
    const Sha256 hash = TRY(ledger_hash(last_, r));
    std::memcpy(r.hash, hash.data(), hash.size());
    if (waiting_ == 0) oldest_ms_ = now.uptime_ms;
    buffer_[waiting_++] = r;
    last_ = hash;
    counts_.records++;
    return next_sequence_++;
}

Result<void> Ledger::note(LedgerNote code, std::uint64_t refers, Time now) {
    LedgerRecord r{};
    r.kind = LedgerKind::note;
    r.code = static_cast<std::uint8_t>(code);
    r.refers = refers;
    if (code == LedgerNote::start) r.id = config_.boot;
    TRY(put(r, now));
    return {};
}

Result<std::uint64_t> Ledger::append(LedgerRecord r, Time now, bool leaves) {
    if (r.kind == LedgerKind::decision) credit_ = std::min(credit_ + bytes_per_request, most_credit);
    const std::int64_t offset = now.wall_ms - now.uptime_ms, step = offset - offset_ms_;
    const bool stepped = step > clock_step_ms || step < -clock_step_ms;
    if (waiting_ + 2 > max_waiting && now.uptime_ms >= retry_ms_)
        if (const auto done = commit(now); !done && waiting_ + 2 > max_waiting)
            return lost_++, counts_.lost++, done.error();
    if (waiting_ + 2 > max_waiting) {
        lost_++, counts_.lost++;
        return Error::make(Code::storage_failure, "the ledger cannot be written, and no more fits in memory");
    }
    if (stepped) {
        TRY(note(LedgerNote::clock, static_cast<std::uint64_t>(step), now));
        offset_ms_ = offset;
    }
    urgent_ = urgent_ || leaves;
    return put(r, now);
}

// Of the next commit. What a file costs that grows or is made is shared out among the records that it will have.
std::int64_t Ledger::cost() const {
    const std::uint64_t begin = (used_ + 1) * record_bytes;
    return block_bytes(begin, begin + waiting_ * record_bytes) + static_cast<std::int64_t>(waiting_) * share_bytes;
}

std::int64_t Ledger::due_ms() const {
    constexpr std::int64_t never = std::numeric_limits<std::int64_t>::max();
    if (waiting_ == 0) return never;
    if (waiting_ >= full) return retry_ms_;
    if (credit_ < cost()) return never;
    return std::max(retry_ms_, urgent_ ? oldest_ms_ : oldest_ms_ + config_.delay_ms);
}

Result<void> Ledger::next_segment(Time now) {
    if (file_ >= 0) disk_->close(std::exchange(file_, -1));
    // Room first: the files are never more than they may be.
    while (newest_ >= oldest_ && total_ + segment_bytes_ > config_.bytes) {
        const LedgerName name = ledger_name(oldest_);
        std::uint64_t size = 0;
        if (const auto old = disk_->open(name.text, Disk::How::existing); old) {
            if (const auto s = disk_->size(old.value()); s) size = s.value();
            disk_->close(old.value());
        }
        TRY(disk_->remove(name.text));
        total_ -= std::min(total_, size);
        oldest_++;
    }
    LedgerHeader header{};
    std::memcpy(header.magic, LedgerHeader::magic_text, sizeof header.magic);
    header.version = 1;
    header.record_bytes = record_bytes;
    header.number = newest_ + 1;
    header.first_sequence = head_.sequence + 1;
    header.wall_ms = now.wall_ms;
    std::memcpy(header.anchor, head_.hash.data(), head_.hash.size());
    const Sha256 hash = TRY(ledger_hash(header));
    std::memcpy(header.hash, hash.data(), hash.size());
    const int file = TRY(disk_->open(new_file, Disk::How::emptied));
    const auto made = [&]() -> Result<void> {
        TRY(disk_->write(file, 0, std::as_bytes(std::span(&header, 1))));
        TRY(zero(file, sizeof header, chunk_bytes));
        TRY(disk_->sync(file));
        return disk_->rename(new_file, ledger_name(newest_ + 1).text);
    }();
    if (!made) {
        disk_->close(file);
        if (const auto removed = disk_->remove(new_file); !removed) return removed.error();
        return made.error();
    }
    newest_++;
    file_ = file, used_ = 0, filled_ = chunk_bytes;
    total_ += filled_;
    return {};
}

Result<void> Ledger::write_out(Time now) {
    while (waiting_ != 0) {
        if (file_ < 0 || used_ >= capacity()) TRY(next_segment(now));
        const std::size_t n = std::min<std::size_t>(waiting_, capacity() - used_);
        const std::uint64_t begin = (used_ + 1) * record_bytes, end = begin + n * record_bytes;
        if (end > filled_) {
            const std::uint64_t grown = std::min(round_up(end, chunk_bytes), segment_bytes_);
            TRY(zero(file_, filled_, grown));
            total_ += grown - filled_;
            filled_ = grown;
        }
        TRY(disk_->write(file_, begin, std::as_bytes(std::span(buffer_).first(n))));
        TRY(disk_->sync(file_));
        credit_ -= block_bytes(begin, end) + static_cast<std::int64_t>(n) * share_bytes;
        used_ += n;
        head_.sequence = buffer_[n - 1].sequence;
        head_.hash = stored_hash(buffer_[n - 1]);
        waiting_ -= n;
        std::memmove(buffer_, buffer_ + n, waiting_ * sizeof *buffer_);
        counts_.commits++;
    }
    urgent_ = false;
    return {};
}

Result<void> Ledger::commit(Time now) {
    if (const auto done = write_out(now); !done) {
        retry_ms_ = now.uptime_ms + retry_after_ms;
        return done;
    }
    retry_ms_ = 0;
    if (lost_ == 0) return {};
    TRY(note(LedgerNote::gap, lost_, now));
    lost_ = 0;
    if (const auto done = write_out(now); !done) return retry_ms_ = now.uptime_ms + retry_after_ms, done;
    return {};
}

Result<void> Ledger::stop(Time now) {
    if (waiting_ < max_waiting) TRY(note(LedgerNote::stop, 0, now));
    return commit(now);
}

}  // namespace slmd::route
