// A bit that changes anywhere in a ledger is found, and named; so are records and files that are missing or replaced.
#include "route/ledger_verify.h"

#include <gtest/gtest.h>

#include <cstdlib>

#include "ledger_records.h"
#include "memory_disk.h"
#include "route/ledger.h"

namespace slmd::route::testing {
namespace {

struct Reader final : LedgerReader {
    std::uint64_t records = 0;
    std::vector<std::pair<std::string, LedgerFault>> faults;
    std::string file;
    void record(const LedgerRecord&, std::uint64_t) override { records++; }
    void fault(const LedgerFault& f) override { faults.push_back({file, f}); }
};

Reader verify(const std::map<std::string, std::string>& files) {
    Reader reader;
    LedgerChain chain;
    for (const auto& [name, bytes] : files) {
        reader.file = name;
        EXPECT_TRUE(verify_segment(std::as_bytes(std::span(bytes)), chain, reader));
    }
    EXPECT_EQ(chain.faults, reader.faults.size());
    EXPECT_EQ(chain.records, reader.records);
    return reader;
}

// The last segment ends behind its records but for a few zeros.
std::map<std::string, std::string> make(int decisions) {
    MemoryDisk disk;
    Ledger ledger;
    Ledger::Time now{1'700'000'000'000, 5000};
    EXPECT_TRUE(ledger.open(disk, {.bytes = 512u << 10}, now));
    for (int i = 0; i < decisions; i++) EXPECT_TRUE(ledger.append(decision_record(i), now));
    EXPECT_TRUE(ledger.commit(now));
    std::map<std::string, std::string> files;
    for (const auto& [name, f] : disk.files) files[name] = f.now;
    std::string& last = files.rbegin()->second;
    last.resize((last.find_last_not_of('\0') / 256 + 3) * 256);
    return files;
}

const LedgerField& field_of(std::span<const LedgerField> fields, std::size_t byte) {
    for (const LedgerField& f : fields)
        if (byte >= f.begin && byte < f.begin + f.size) return f;
    std::abort();
}

TEST(LedgerVerify, every_bit_that_changes_is_found_and_named) {
    const auto files = make(2);
    ASSERT_EQ(files.size(), 1u);
    const std::string good = files.begin()->second, name = files.begin()->first;
    ASSERT_EQ(good.size(), 256u * (1 + 3 + 2));
    ASSERT_TRUE(verify(files).faults.empty());
    for (std::size_t bit = 0; bit < good.size() * 8; bit++) {
        std::string bad = good;
        bad[bit / 8] = static_cast<char>(bad[bit / 8] ^ 1 << bit % 8);
        const Reader r = verify({{name, bad}});
        const std::size_t place = bit / 8 / 256, byte = bit / 8 % 256;
        const std::string where =
            "bit " + std::to_string(bit) + ", byte " + std::to_string(byte) + " of " + std::to_string(place);
        ASSERT_EQ(r.faults.size(), 1u) << where;
        const LedgerFault& f = r.faults[0].second;
        ASSERT_EQ(f.record, place) << where << ": " << f.text;
        if (place > 3) {
            ASSERT_STREQ(f.field, "end") << where;
            ASSERT_EQ(f.bit, static_cast<int>(bit % 2048));
            continue;
        }
        const LedgerField& field = field_of(place == 0 ? ledger_header_fields() : ledger_fields(), byte);
        ASSERT_STREQ(f.field, field.name) << where << ": " << f.text;
        ASSERT_EQ(f.bit, static_cast<int>((byte - field.begin) * 8 + bit % 8)) << where;
        ASSERT_EQ(r.records, place == 0 ? 3u : 2u) << where;  // all others are still good
    }
}

TEST(LedgerVerify, a_bit_in_an_older_segment_is_found_and_the_others_stay_good) {
    const auto files = make(1000);
    ASSERT_GE(files.size(), 4u);
    const std::uint64_t all = verify(files).records;
    EXPECT_EQ(all, 1001u);
    for (const std::size_t byte : {20u, 70u, 230u, 256u * 255 + 5, 256u * 255 + 250}) {
        auto bad = files;
        std::string& second = std::next(bad.begin())->second;
        second[byte] = static_cast<char>(second[byte] ^ 1);
        const Reader r = verify(bad);
        ASSERT_EQ(r.faults.size(), 1u) << byte;
        EXPECT_EQ(r.faults[0].first, std::next(bad.begin())->first);
        EXPECT_STRNE(r.faults[0].second.field, "");
    }
}

TEST(LedgerVerify, what_is_missing_or_replaced_is_told) {
    const auto files = make(1000);
    const auto expect = [](const std::map<std::string, std::string>& bad, const char* part) {
        const Reader r = verify(bad);
        ASSERT_FALSE(r.faults.empty());
        EXPECT_NE(std::strstr(r.faults[0].second.text, part), nullptr) << r.faults[0].second.text;
    };
    auto bad = files;
    bad.erase(std::next(bad.begin()));
    expect(bad, "segments 00000002 to 00000002 are missing");
    bad = files;
    std::next(bad.begin())->second.resize(256 * 100);  // cut off
    expect(bad, "records are missing or were replaced");
    bad = files;
    bad.begin()->second.replace(256 * 9, 256 * 2,
                                bad.begin()->second.substr(256 * 10, 256) + bad.begin()->second.substr(256 * 9, 256));
    expect(bad, "record 9 (sequence 9): it does not have its hash");
    bad = files;
    bad.begin()->second.erase(256 * 9, 256);
    expect(bad, "record 9 (sequence 9)");
    // Another ledger's segment.
    bad = files;
    const auto others = make(999);
    std::next(bad.begin())->second = std::next(others.begin())->second;
    EXPECT_TRUE(verify(bad).faults.empty());  // the same records are the same bytes
    // A record that was made anew with a hash that fits does not fit the one behind it.
    bad = files;
    LedgerRecord forged;
    Sha256 before;
    std::memcpy(before.data(), bad.begin()->second.data() + 256 * 8 + 224, before.size());
    std::memcpy(&forged, bad.begin()->second.data() + 256 * 9, sizeof forged);
    forged.confidence = 0.99f;
    const Sha256 hash = ledger_hash(before, forged).value();
    std::memcpy(forged.hash, hash.data(), hash.size());
    std::memcpy(bad.begin()->second.data() + 256 * 9, &forged, sizeof forged);
    expect(bad, "record 10 (sequence 10): it does not have its hash");
    // Without its oldest segments it is as good.
    bad = files;
    bad.erase(bad.begin());
    EXPECT_TRUE(verify(bad).faults.empty());
    // What is no ledger.
    expect({{"00000001.ledger", ""}}, "the header: it does not begin as a ledger does");
    expect({{"00000001.ledger", std::string(3000, 'x')}}, "the header: it does not begin as a ledger does");
}

}  // namespace
}  // namespace slmd::route::testing
