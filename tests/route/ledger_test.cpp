// The ledger: what is acknowledged is there, whatever happens to the power, the card and the room on it.
#include "route/ledger.h"

#include <gtest/gtest.h>

#include "ledger_records.h"
#include "memory_disk.h"

namespace slmd::route::testing {
namespace {

constexpr Ledger::Config small{.bytes = 1u << 20, .delay_ms = 2000};

struct Clock {
    std::int64_t ms = 0;
    Ledger::Time operator()(std::int64_t more = 0) {
        ms += more;
        return {1'700'000'000'000 + ms, 5000 + ms};
    }
};

Result<void> commit_when_due(Ledger& ledger, Ledger::Time now) {
    return ledger.due(now) ? ledger.commit(now) : Result<void>{};
}

// The records of all segments, in order, each verified against the chain. "" when all is good.
std::string chain(MemoryDisk& disk, std::vector<LedgerRecord>& out) {
    out.clear();
    Sha256 before{};
    bool first = true;
    for (const auto& [name, f] : disk.files) {
        if (ledger_number(name) == 0) continue;
        LedgerHeader h;
        if (f.now.size() < sizeof h) return name + ": short";
        std::memcpy(&h, f.now.data(), sizeof h);
        if (*check_header(h).value() != 0) return name + ": header";
        if (first) std::memcpy(before.data(), h.anchor, before.size());
        if (std::memcmp(before.data(), h.anchor, before.size()) != 0) return name + ": anchor";
        if (!out.empty() && h.first_sequence != out.back().sequence + 1) return name + ": first sequence";
        first = false;
        bool ended = false;
        for (std::size_t at = sizeof h; at + sizeof(LedgerRecord) <= f.now.size(); at += sizeof(LedgerRecord)) {
            LedgerRecord r;
            std::memcpy(&r, f.now.data() + at, sizeof r);
            if (r.sequence == 0 && r.kind == LedgerKind::none) {
                ended = true;
                continue;
            }
            if (ended) return name + ": something behind the end";
            const Sha256 hash = ledger_hash(before, r).value();
            if (std::memcmp(hash.data(), r.hash, hash.size()) != 0)
                return name + ": hash of " + std::to_string(r.sequence);
            if (!out.empty() && r.sequence != out.back().sequence + 1) return name + ": sequence";
            before = hash;
            out.push_back(r);
        }
    }
    return "";
}

std::vector<LedgerRecord> of_kind(const std::vector<LedgerRecord>& all, LedgerKind kind) {
    std::vector<LedgerRecord> out;
    for (const LedgerRecord& r : all)
        if (r.kind == kind) out.push_back(r);
    return out;
}

bool has_note(const std::vector<LedgerRecord>& all, LedgerNote code, std::uint64_t refers) {
    for (const LedgerRecord& r : of_kind(all, LedgerKind::note))
        if (r.code == static_cast<std::uint8_t>(code) && r.refers == refers) return true;
    return false;
}

TEST(Ledger, what_is_appended_is_there_in_order_and_continued_after_a_restart) {
    MemoryDisk disk;
    Clock clock;
    for (int run = 0; run < 3; run++) {
        Ledger ledger;
        const auto found = ledger.open(disk, small, clock());
        ASSERT_TRUE(found) << found.error().text;
        EXPECT_EQ(found.value().torn_bytes, 0u);
        EXPECT_EQ(found.value().damaged, 0u);
        for (int i = 0; i < 5; i++) ASSERT_TRUE(ledger.append(decision_record(run * 5 + i), clock(10)));
        ASSERT_TRUE(ledger.stop(clock()));
        EXPECT_EQ(ledger.head().sequence, static_cast<std::uint64_t>(7 * (run + 1)));
    }
    std::vector<LedgerRecord> all;
    EXPECT_EQ(chain(disk, all), "");
    EXPECT_EQ(all.size(), 21u);
    const auto decisions = of_kind(all, LedgerKind::decision);
    ASSERT_EQ(decisions.size(), 15u);
    for (std::size_t i = 0; i < decisions.size(); i++) {
        EXPECT_EQ(decisions[i].id, 100 + i);
        const Decision d = decide(facts_of(decisions[i]));
        EXPECT_EQ(d.answer, decisions[i].answer);
        EXPECT_EQ(d.reason, decisions[i].reason);
    }
}

TEST(Ledger, facts_come_back_as_they_were) {
    for (int bits = 0; bits < 1 << 7; bits++)
        for (const Policy policy : {Policy::never, Policy::redacted, Policy::allowed})
            for (const Wish wish : {Wish::none, Wish::stay, Wish::leave}) {
                const auto bit = [&](int i) { return (bits >> i & 1) != 0; };
                const Facts f{policy, bit(0), wish, bit(1), bit(2), 0.3f, 0.7f, bit(3), bit(4), bit(5), bit(6)};
                LedgerRecord r{};
                set_facts(r, f, decide(f));
                const Facts g = facts_of(r);
                EXPECT_TRUE(f.policy == g.policy && f.cut == g.cut && f.wish == g.wish &&
                            f.checks_failed == g.checks_failed && f.calibrated == g.calibrated &&
                            f.confidence == g.confidence && f.threshold == g.threshold && f.redacted == g.redacted &&
                            f.affordable == g.affordable && f.link == g.link && f.may_wait == g.may_wait);
            }
}

// A small life: three commits, the last of several records, and a restart with another.
struct Life {
    std::uint64_t acknowledged = 0;  // decisions
    std::uint64_t appended = 0;
    std::string refused;
};
void live(MemoryDisk& disk, Life& life, int from) {
    Clock clock;
    Ledger ledger;
    const auto opened = ledger.open(disk, small, clock());
    if (!opened) {
        life.refused = opened.error().text;
        return;
    }
    for (const int n : {1, 3, 2, 17}) {
        for (int i = 0; i < n; i++) {
            if (!ledger.append(decision_record(from + static_cast<int>(life.appended)), clock(5))) return;
            life.appended++;
        }
        if (!ledger.commit(clock())) return;
        life.acknowledged = life.appended;
    }
}

void expect_survives(MemoryDisk& disk, const Life& life, const std::string& where) {
    Clock clock;
    {
        Ledger ledger;
        const auto found = ledger.open(disk, small, clock());
        ASSERT_TRUE(found) << where << ": " << found.error().text;
        ASSERT_EQ(found.value().damaged, 0u) << where;
        ASSERT_FALSE(found.value().restarted) << where;
        ASSERT_TRUE(ledger.append(decision_record(999), clock()));
        ASSERT_TRUE(ledger.commit(clock())) << where;
    }
    std::vector<LedgerRecord> all;
    ASSERT_EQ(chain(disk, all), "") << where;
    auto decisions = of_kind(all, LedgerKind::decision);
    ASSERT_EQ(decisions.back().id, 1099u) << where;
    decisions.pop_back();
    ASSERT_GE(decisions.size(), life.acknowledged) << where;
    ASSERT_LE(decisions.size(), life.appended) << where;
    for (std::size_t i = 0; i < decisions.size(); i++) ASSERT_EQ(decisions[i].id, 100 + i) << where;
}

TEST(Ledger, what_was_acknowledged_survives_a_power_cut_at_every_operation_and_every_byte) {
    MemoryDisk whole;
    Life life;
    live(whole, life, 0);
    ASSERT_EQ(life.acknowledged, 23u);
    std::map<int, std::size_t> sizes(whole.writes.begin(), whole.writes.end());
    int cuts = 0, noted = 0;
    for (int at = 1; at <= whole.operations; at++) {
        const std::size_t size = sizes.count(at) != 0 ? sizes[at] : 0;
        // Zeros ahead of records are the same wherever they end.
        const std::size_t step = size == 4096 && at < 20 ? 1024 : 1;
        for (std::size_t torn = 0; torn <= size; torn += step)
            for (const unsigned seed : {0u, 1u, 2u}) {
                if (seed != 0 && torn % 64 != 0) continue;  // what else was not synced is lost or torn as well
                MemoryDisk disk;
                disk.fails_at = at, disk.torn = torn;
                Life cut;
                live(disk, cut, 0);
                disk.recover(seed == 0 ? 0 : seed * 977 + static_cast<unsigned>(at));
                const std::string where = "operation " + std::to_string(at) + " of " +
                                          std::to_string(whole.operations) + ", byte " + std::to_string(torn) +
                                          ", seed " + std::to_string(seed);
                ASSERT_NO_FATAL_FAILURE(expect_survives(disk, cut, where));
                std::vector<LedgerRecord> all;
                chain(disk, all);
                for (const LedgerRecord& r : of_kind(all, LedgerKind::note))
                    noted += r.code == static_cast<std::uint8_t>(LedgerNote::recovery);
                cuts++;
            }
    }
    printf("%d cuts, %d of them with a torn end that is noted\n", cuts, noted);
    EXPECT_GT(cuts, 4000);
    EXPECT_GT(noted, 1000);
}

// Three files, of which the first goes: what is kept is one chain to its end wherever the power went.
TEST(Ledger, files_that_are_begun_and_removed_survive_a_power_cut_at_every_operation) {
    constexpr Ledger::Config tiny{.bytes = Ledger::least_bytes};
    const auto run = [&](MemoryDisk& disk, std::uint64_t& acknowledged) {
        Clock clock;
        Ledger ledger;
        if (!ledger.open(disk, tiny, clock())) return;
        for (int i = 0; i < 640; i++) {
            if (!ledger.append(decision_record(i), clock(5))) return;
            if (i % 40 == 39) {
                if (!ledger.commit(clock())) return;
                acknowledged = 100 + static_cast<std::uint64_t>(i);
            }
        }
    };
    MemoryDisk whole;
    std::uint64_t last = 0;
    run(whole, last);
    ASSERT_EQ(last, 739u);
    ASSERT_EQ(whole.files.size(), 2u);
    int cuts = 0;
    for (int at = 1; at <= whole.operations; at++)
        for (const unsigned seed : {0u, 1u, 2u, 3u}) {
            MemoryDisk disk;
            disk.fails_at = at, disk.torn = 700;
            std::uint64_t acknowledged = 0;
            run(disk, acknowledged);
            disk.recover(seed == 0 ? 0 : seed * 977 + static_cast<unsigned>(at));
            const std::string where = "operation " + std::to_string(at) + ", seed " + std::to_string(seed);
            Clock clock;
            Ledger ledger;
            const auto found = ledger.open(disk, tiny, clock());
            ASSERT_TRUE(found) << where << ": " << found.error().text;
            ASSERT_EQ(found.value().damaged, 0u) << where;
            ASSERT_FALSE(found.value().restarted) << where;
            ASSERT_TRUE(ledger.append(decision_record(900), clock()));
            ASSERT_TRUE(ledger.commit(clock())) << where;
            ASSERT_LE(disk.total(), tiny.bytes) << where;
            ASSERT_EQ(disk.files.count("new.tmp"), 0u) << where;
            std::vector<LedgerRecord> all;
            ASSERT_EQ(chain(disk, all), "") << where;
            const auto decisions = of_kind(all, LedgerKind::decision);
            for (std::size_t i = 1; i + 1 < decisions.size(); i++)
                ASSERT_EQ(decisions[i].id, decisions[i - 1].id + 1) << where;
            if (acknowledged != 0) {
                ASSERT_GE(decisions.size(), 2u) << where;
                ASSERT_GE(decisions[decisions.size() - 2].id, acknowledged) << where;
            }
            cuts++;
        }
    printf("%d cuts at %d operations\n", cuts, whole.operations);
}

// Records that were written together come to the card block by block, in any order.
TEST(Ledger, blocks_of_one_commit_may_be_missing_in_any_combination) {
    for (int kept = 0; kept < 8; kept++) {
        MemoryDisk disk;
        Clock clock;
        {
            Ledger ledger;
            ASSERT_TRUE(ledger.open(disk, small, clock()));
            for (int i = 0; i < 3; i++) ASSERT_TRUE(ledger.append(decision_record(i), clock()));
            ASSERT_TRUE(ledger.commit(clock()));
            for (int i = 3; i < 40; i++) ASSERT_TRUE(ledger.append(decision_record(i), clock()));
            const std::string before = disk.files.begin()->second.now;
            ASSERT_TRUE(ledger.commit(clock()));
            std::string& now = disk.files.begin()->second.now;
            for (int b = 0; b < 3; b++)
                if ((kept >> b & 1) == 0)
                    now.replace(static_cast<std::size_t>(b) * 4096, 4096, before, static_cast<std::size_t>(b) * 4096,
                                4096);
        }
        Ledger ledger;
        const auto found = ledger.open(disk, small, clock());
        ASSERT_TRUE(found);
        EXPECT_EQ(found.value().damaged, 0u) << kept;
        ASSERT_TRUE(ledger.commit(clock()));
        std::vector<LedgerRecord> all;
        EXPECT_EQ(chain(disk, all), "") << kept;
        EXPECT_GE(of_kind(all, LedgerKind::decision).size(), 3u);
        EXPECT_EQ(of_kind(all, LedgerKind::decision).size() == 40, kept == 7);
    }
}

TEST(Ledger, an_acknowledged_record_that_has_rotted_is_left_as_it_is_and_noted) {
    for (const std::size_t slot : {0u, 4u, 9u}) {
        MemoryDisk disk;
        Clock clock;
        {
            Ledger ledger;
            ASSERT_TRUE(ledger.open(disk, small, clock()));
            for (int i = 0; i < 6; i++) {
                ASSERT_TRUE(ledger.append(decision_record(2 * i), clock()));
                ASSERT_TRUE(ledger.append(decision_record(2 * i + 1), clock()));
                ASSERT_TRUE(ledger.commit(clock()));
            }
        }
        std::string& bytes = disk.files.begin()->second.now;
        bytes[256 * (slot + 1) + 34] ^= 8;
        const std::string rotted = bytes;
        Ledger ledger;
        const auto found = ledger.open(disk, small, clock());
        ASSERT_TRUE(found);
        EXPECT_EQ(found.value().damaged, 1u) << slot;
        EXPECT_EQ(found.value().torn_bytes, 0u);
        ASSERT_TRUE(ledger.commit(clock()));
        EXPECT_EQ(bytes.substr(0, 256 * 14), rotted.substr(0, 256 * 14));
        LedgerRecord damage, start;
        std::memcpy(&damage, bytes.data() + 256 * 14, sizeof damage);
        std::memcpy(&start, bytes.data() + 256 * 15, sizeof start);
        EXPECT_EQ(damage.code, static_cast<std::uint8_t>(LedgerNote::damage));
        EXPECT_EQ(damage.refers, 1u);
        EXPECT_EQ(damage.sequence, 14u);
        EXPECT_EQ(start.sequence, 15u);
    }
}

TEST(Ledger, files_are_bounded_and_what_is_kept_is_one_chain) {
    MemoryDisk disk;
    Clock clock;
    Ledger::Config config{.bytes = 512u << 10};
    std::uint64_t most = 0, oldest = 0;
    {
        Ledger ledger;
        ASSERT_TRUE(ledger.open(disk, config, clock()));
        for (int i = 0; i < 6000; i++) {
            ASSERT_TRUE(ledger.append(decision_record(i), clock(1)));
            ASSERT_TRUE(commit_when_due(ledger, clock()));
            most = std::max(most, disk.total());
        }
        ASSERT_TRUE(ledger.stop(clock()));
    }
    EXPECT_LE(most, config.bytes);
    EXPECT_GE(most, config.bytes * 7 / 8);
    std::vector<LedgerRecord> all;
    EXPECT_EQ(chain(disk, all), "");
    oldest = all.front().sequence;
    EXPECT_GT(oldest, 3000u);
    EXPECT_EQ(all.back().sequence, 6002u);
    // A smaller bound holds from the next segment on.
    config.bytes = 256u << 10;
    Ledger ledger;
    ASSERT_TRUE(ledger.open(disk, config, clock()));
    for (int i = 0; i < 600; i++) {
        ASSERT_TRUE(ledger.append(decision_record(i), clock(1)));
        ASSERT_TRUE(commit_when_due(ledger, clock()));
    }
    ASSERT_TRUE(ledger.commit(clock()));
    EXPECT_LE(disk.total(), config.bytes);
    EXPECT_EQ(chain(disk, all), "");
}

TEST(Ledger, a_full_disk_is_said_and_the_gap_is_recorded) {
    MemoryDisk disk;
    Clock clock;
    Ledger ledger;
    ASSERT_TRUE(ledger.open(disk, small, clock()));
    disk.room = 64u << 10;  // the first file has its zeros already: 255 records
    int refused = 0;
    for (int i = 0; i < 400; i++) {
        const auto r = ledger.append(decision_record(i), clock(100));
        if (!r) {
            refused++;
            EXPECT_EQ(r.error().code, Code::storage_failure);
        }
        if (const auto c = commit_when_due(ledger, clock()); !c) {
            EXPECT_NE(strstr(c.error().text, "No space"), nullptr);
        }
    }
    EXPECT_GT(refused, 40);
    EXPECT_EQ(ledger.counts().lost, static_cast<std::uint64_t>(refused));
    disk.room = 1u << 30;
    clock(20'000);
    ASSERT_TRUE(ledger.due(clock()));
    ASSERT_TRUE(ledger.commit(clock()));
    ASSERT_TRUE(ledger.append(decision_record(400), clock()));
    ASSERT_TRUE(ledger.commit(clock()));
    std::vector<LedgerRecord> all;
    EXPECT_EQ(chain(disk, all), "");
    EXPECT_TRUE(has_note(all, LedgerNote::gap, static_cast<std::uint64_t>(refused)));
    EXPECT_EQ(of_kind(all, LedgerKind::decision).size(), static_cast<std::size_t>(401 - refused));
}

TEST(Ledger, a_clock_that_is_set_is_noted) {
    MemoryDisk disk;
    Ledger ledger;
    ASSERT_TRUE(ledger.open(disk, small, {1000, 1000}));
    ASSERT_TRUE(ledger.append(decision_record(0), {2000, 2000}));
    ASSERT_TRUE(ledger.append(decision_record(1), {1'700'000'000'000, 3000}));
    ASSERT_TRUE(ledger.append(decision_record(2), {1'700'000'001'000, 4000}));
    ASSERT_TRUE(ledger.commit({1'700'000'001'000, 4000}));
    std::vector<LedgerRecord> all;
    EXPECT_EQ(chain(disk, all), "");
    EXPECT_EQ(of_kind(all, LedgerKind::note).size(), 2u);
    EXPECT_TRUE(has_note(all, LedgerNote::clock, 1'700'000'000'000 - 3000));
}

// Every request of a kind, so many ms apart, and an outcome for each that leaves: what comes to the card.
struct Load {
    std::uint64_t written, commits, longest_ms;
};
// at_once: what leaves is on the card before it does, as slmd has it.
Load load(std::int64_t apart_ms, int leave_of_10, bool at_once) {
    MemoryDisk disk;
    Clock clock;
    Ledger ledger;
    EXPECT_TRUE(ledger.open(disk, {.bytes = 16u << 20}, clock()));
    const auto run = [&](int requests) {
        std::int64_t since = clock.ms, longest = 0;
        for (int i = 0; i < requests; i++) {
            const bool leaves = i % 10 < leave_of_10;
            const auto settle = [&](std::int64_t ms) {
                for (std::int64_t t = 0; t < ms; t += std::max<std::int64_t>(1, std::min<std::int64_t>(ms - t, 100))) {
                    clock(std::min<std::int64_t>(ms - t, 100));
                    EXPECT_TRUE(commit_when_due(ledger, clock()));
                    if (ledger.waiting() == 0) since = clock.ms;
                    longest = std::max(longest, clock.ms - since);
                }
            };
            EXPECT_TRUE(ledger.append(decision_record(i), clock(), leaves));
            if (leaves && at_once) {
                EXPECT_TRUE(ledger.commit(clock()));
            }
            settle(apart_ms / 2);
            if (leaves) {
                EXPECT_TRUE(ledger.append(outcome_record(i), clock()));
            }
            settle(apart_ms - apart_ms / 2);
        }
        return static_cast<std::uint64_t>(longest);
    };
    run(2000);
    const std::uint64_t before = disk.written(), commits = ledger.counts().commits;
    const std::uint64_t longest = run(1000);
    return {disk.written() - before, ledger.counts().commits - commits, longest};
}

TEST(Ledger, at_most_2_MB_are_written_for_1000_requests_however_they_come) {
    printf("one request each   leave   at once   written, 1,000 requests   commits   longest wait for the card\n");
    const auto row = [](std::int64_t ms, int leave, bool at_once) {
        const Load l = load(ms, leave, at_once);
        printf("%13.3f s   %3d %%   %7s   %20.2f MB   %7lu   %10.1f s\n", static_cast<double>(ms) / 1000, 10 * leave,
               at_once ? "yes" : "no", static_cast<double>(l.written) / 1e6, static_cast<unsigned long>(l.commits),
               static_cast<double>(l.longest_ms) / 1000);
        return l.written;
    };
    for (const std::int64_t ms : {1, 50, 500, 2500, 60'000}) {
        for (const int leave : {0, 2, 10}) EXPECT_LE(row(ms, leave, false), 2'000'000u);
        // What leaves at once costs a block each; where that is seldom, others wait for it.
        for (const int leave : {1, 2, 3}) EXPECT_LE(row(ms, leave, true), 2'000'000u);
    }
    EXPECT_LE(row(500, 10, true), 5'500'000u);
}

TEST(Ledger, records_that_come_together_are_written_together) {
    MemoryDisk disk;
    Clock clock;
    Ledger ledger;
    ASSERT_TRUE(ledger.open(disk, small, clock()));
    ASSERT_TRUE(ledger.commit(clock()));
    const std::uint64_t syncs = disk.syncs;
    for (int i = 0; i < 31; i++) {
        ASSERT_TRUE(ledger.append(decision_record(i), clock()));
        EXPECT_FALSE(ledger.due(clock()));
    }
    EXPECT_EQ(ledger.due_ms(), clock().uptime_ms + 2000);
    ASSERT_TRUE(ledger.append(decision_record(31), clock()));
    EXPECT_TRUE(ledger.due(clock()));
    ASSERT_TRUE(ledger.commit(clock()));
    EXPECT_EQ(disk.syncs, syncs + 1);
    EXPECT_FALSE(ledger.due(clock(100'000)));
    // What is about to leave does not wait.
    ASSERT_TRUE(ledger.append(decision_record(32), clock(), true));
    EXPECT_TRUE(ledger.due(clock()));
}

}  // namespace
}  // namespace slmd::route::testing
