#include "route/journal.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>
#include <string>
#include <vector>

namespace slmd::route {
namespace {

struct Seen final : Journal::Visitor {
    std::vector<std::pair<std::uint32_t, std::string>> records;
    Result<void> record(std::uint32_t type, std::string_view text, Journal::Place) override {
        records.emplace_back(type, text);
        return {};
    }
};

struct JournalTest : testing::Test {
    std::string folder = testing::TempDir() + "journal" + std::to_string(getpid()), path = folder + "/j";
    std::vector<char> scratch = std::vector<char>(Journal::max_record);
    void SetUp() override { std::filesystem::create_directories(folder); }
    void TearDown() override { std::filesystem::remove_all(folder); }
    // Of the records, without the zeros behind them.
    std::string bytes(const Journal& j) {
        std::ifstream in(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {}).substr(0, j.size());
    }
    void put(const std::string& b) { std::ofstream(path, std::ios::binary) << b; }
    std::pair<Journal::Found, Seen> read() {
        Journal j;
        Seen seen;
        const auto found = j.open(path.c_str(), scratch, seen);
        EXPECT_TRUE(found) << found.error().text;
        return {found.value(), seen};
    }
};

TEST_F(JournalTest, WhatWasAppendedIsThere) {
    {
        Journal j;
        Seen seen;
        ASSERT_TRUE(j.open(path.c_str(), scratch, seen));
        ASSERT_TRUE(j.append(1, "one"));
        const auto two = j.append(2, "tw", "o");
        ASSERT_TRUE(two);
        ASSERT_TRUE(j.append(3, ""));
        ASSERT_TRUE(j.commit());
        const auto again = j.read(two.value(), scratch);
        ASSERT_TRUE(again);
        EXPECT_EQ(again.value(), "two");
        EXPECT_EQ(j.append(4, std::string(Journal::max_record + 1, 'x')).error().code, Code::text_too_long);
        Journal other;
        EXPECT_EQ(other.open(path.c_str(), scratch, seen).error().code, Code::busy);
    }
    const auto [found, seen] = read();
    EXPECT_EQ(found.torn, 0u);
    EXPECT_EQ(found.damaged, 0);
    const std::vector<std::pair<std::uint32_t, std::string>> wanted{{1, "one"}, {2, "two"}, {3, ""}};
    EXPECT_EQ(seen.records, wanted);
}

TEST_F(JournalTest, CutAnywhereItHasABeginningAndGoesOn) {
    std::string whole;
    {
        Journal j;
        Seen seen;
        ASSERT_TRUE(j.open(path.c_str(), scratch, seen));
        for (int i = 0; i < 6; i++) ASSERT_TRUE(j.append(1, std::string(static_cast<std::size_t>(i * 5), 'a')));
        EXPECT_EQ(std::filesystem::file_size(path), Journal::chunk_bytes);
        whole = bytes(j);
    }
    for (std::size_t n = 0; n <= whole.size(); n++) {
        put(whole.substr(0, n));
        std::size_t kept;
        {
            Journal j;
            Seen seen;
            const auto found = j.open(path.c_str(), scratch, seen);
            ASSERT_TRUE(found);
            kept = seen.records.size();
            EXPECT_EQ(found.value().damaged, 0);
            EXPECT_LE(found.value().torn + j.size(), n);
            ASSERT_TRUE(j.append(2, "new"));
        }
        const auto [found, seen] = read();
        EXPECT_EQ(found.torn, 0u);
        ASSERT_EQ(seen.records.size(), kept + 1) << n;
        EXPECT_EQ(seen.records.back().second, "new");
    }
}

TEST_F(JournalTest, ACutAmongTheZerosIsNone) {
    std::string whole;
    {
        Journal j;
        Seen seen;
        ASSERT_TRUE(j.open(path.c_str(), scratch, seen));
        ASSERT_TRUE(j.append(1, "text"));
        ASSERT_TRUE(j.append(2, std::string(70'000, 'x')));  // more than a chunk
        ASSERT_TRUE(j.append(3, std::string(16, '\0')));
        EXPECT_EQ(std::filesystem::file_size(path), 2 * Journal::chunk_bytes);
        whole = bytes(j);
    }
    for (const std::size_t zeros : {0, 1, 7, 8, 100, 5000}) {
        put(whole + std::string(zeros, '\0'));
        {
            Journal j;
            Seen seen;
            const auto found = j.open(path.c_str(), scratch, seen);
            ASSERT_TRUE(found);
            EXPECT_EQ(found.value().torn, 0u);
            EXPECT_EQ(j.size(), whole.size());
            EXPECT_EQ(seen.records.size(), 3u);
            ASSERT_TRUE(j.append(4, "more"));
        }
        EXPECT_EQ(read().second.records.size(), 4u);
    }
}

TEST_F(JournalTest, AFlippedBitCostsOneRecord) {
    std::string whole;
    {
        Journal j;
        Seen seen;
        ASSERT_TRUE(j.open(path.c_str(), scratch, seen));
        for (const char* text : {"first", "second one", "third"}) ASSERT_TRUE(j.append(1, text));
        whole = bytes(j);
    }
    for (std::size_t bit = 0; bit < 8 * whole.size(); bit++) {
        std::string flipped = whole;
        flipped[bit / 8] = static_cast<char>(flipped[bit / 8] ^ 1 << bit % 8);
        put(flipped);
        const auto [found, seen] = read();
        if (seen.records.size() == 3) continue;  // in the zeros behind a text
        ASSERT_EQ(seen.records.size(), 2u) << bit;
        EXPECT_EQ(found.damaged + (found.torn > 0), 1) << bit;
    }
}

TEST_F(JournalTest, ReplacedByItsSuccessorWholeOrNotAtAll) {
    Journal j;
    Seen seen;
    ASSERT_TRUE(j.open(path.c_str(), scratch, seen));
    ASSERT_TRUE(j.append(1, "old"));
    {
        auto next = j.successor();
        ASSERT_TRUE(next);
        ASSERT_TRUE(next->append(1, "given up"));
    }
    EXPECT_FALSE(std::filesystem::exists(path + ".new"));
    auto next = j.successor();
    ASSERT_TRUE(next);
    ASSERT_TRUE(next->append(1, "new"));
    ASSERT_TRUE(j.replace(std::move(*next)));
    ASSERT_TRUE(j.append(1, "newer"));
    j = Journal();
    const auto [found, after] = read();
    ASSERT_EQ(after.records.size(), 2u);
    EXPECT_EQ(after.records[0].second, "new");
    EXPECT_EQ(after.records[1].second, "newer");
}

}  // namespace
}  // namespace slmd::route
