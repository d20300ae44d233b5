#include "route/outbox.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstring>
#include <filesystem>
#include <fstream>
#include <functional>
#include <memory>
#include <string>
#include <utility>
#include <vector>

namespace slmd::route {
namespace {

constexpr std::int64_t now = 1'800'000'000'000;
constexpr Amounts nothing;

Letter letter_of(const std::string& key, int priority = 0, std::int64_t deadline = 0) {
    Letter l;
    strcpy(l.key, key.c_str());
    strcpy(l.agent, "agent");
    l.priority = priority, l.queued_ms = now, l.deadline_ms = deadline;
    return l;
}

struct OutboxTest : testing::Test {
    std::string folder = testing::TempDir() + "outbox" + std::to_string(getpid()), path = folder + "/o";
    std::vector<char> scratch = std::vector<char>(Journal::max_record), out = scratch;
    Outbox::Settings settings{{{1000, Limits::none, Limits::none}, {1000, Limits::none, Limits::none}}, {}};
    Outbox::Found found;
    void SetUp() override { std::filesystem::create_directories(folder); }
    void TearDown() override { std::filesystem::remove_all(folder); }
    std::unique_ptr<Outbox> open() {
        auto box = std::make_unique<Outbox>();
        auto opened = box->open(path.c_str(), settings, scratch);
        EXPECT_TRUE(opened) << opened.error().text;
        if (opened) found = *opened;
        return box;
    }
    // Of the records, without the zeros behind them.
    std::string bytes(const Outbox& box) {
        std::ifstream in(path, std::ios::binary);
        return std::string(std::istreambuf_iterator<char>(in), {}).substr(0, box.file_size());
    }
    static std::int64_t spent(const Outbox& box) { return box.budget().accounts()[0].day.money; }
    // All that can be told of it, for comparison.
    std::string picture(const Outbox& box) {
        std::string s = "spent " + std::to_string(spent(box)) + ";";
        std::vector<std::string> each;
        for (const Entry& e : box.entries()) {
            if (e.state == Entry::free) continue;
            const auto text = box.text(e, out);
            std::string one = std::string(e.letter.key) + "/" + std::to_string(e.state) + "/" +
                              (text ? std::string(text.value()) : "?");
            if (e.state == Entry::answered) {
                const auto answer = box.answer_of(e, out);
                one += "/" + (answer ? std::string(answer.value()) : "?");
            }
            each.push_back(one);
        }
        std::sort(each.begin(), each.end());
        for (const auto& e : each) s += " " + e;
        return s;
    }
};

TEST_F(OutboxTest, TheHighestPriorityThatIsInTimeLeavesFirst) {
    auto box = open();
    ASSERT_TRUE(box->put(letter_of("a"), "first"));
    ASSERT_TRUE(box->put(letter_of("b", 5), "second"));
    ASSERT_TRUE(box->put(letter_of("c", 9, now + 1000), "third"));
    EXPECT_EQ(box->put(letter_of("b"), "again").error().code, Code::not_allowed);
    EXPECT_STREQ(box->next(now)->letter.key, "c");
    EXPECT_EQ(box->expired(now), nullptr);
    EXPECT_STREQ(box->next(now + 1000)->letter.key, "b");
    EXPECT_STREQ(box->expired(now + 1000)->letter.key, "c");
    ASSERT_TRUE(box->leave("b", {10, 0, 0}, now));
    EXPECT_EQ(box->drop("b").error().code, Code::busy);
    EXPECT_STREQ(box->next(now + 1000)->letter.key, "a");
    const Amounts used{4, 0, 0};
    ASSERT_TRUE(box->answer("b", &used, "answer"));
    EXPECT_EQ(spent(*box), 4);
    EXPECT_EQ(box->answer_of(*box->find("b"), out).value(), "answer");
    ASSERT_TRUE(box->drop("b"));
    EXPECT_EQ(box->find("b"), nullptr);
    EXPECT_EQ(box->drop("b").error().code, Code::not_found);
}

TEST_F(OutboxTest, ItsRoomIsBounded) {
    settings.entries = 3, settings.bytes = 100'000;
    auto box = open();
    EXPECT_EQ(box->put(letter_of("x"), std::string(100'001, 'x')).error().code, Code::memory_full);
    for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(box->put(letter_of(key), key));
    const auto full = box->put(letter_of("d"), "d");
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, Code::memory_full);
    EXPECT_NE(std::string(full.error().text).find("3 requests of 3"), std::string::npos) << full.error().text;
}

TEST_F(OutboxTest, NothingLeavesBeyondTheBudget) {
    auto box = open();
    ASSERT_TRUE(box->put(letter_of("a"), "a"));
    EXPECT_EQ(box->leave("a", {1001, 0, 0}, now).error().code, Code::not_allowed);
    EXPECT_EQ(box->find("a")->state, Entry::waiting);
    ASSERT_TRUE(box->leave("a", {1000, 0, 0}, now));
    EXPECT_EQ(box->leave_at_once(letter_of("b"), {1, 0, 0}, now).error().code, Code::not_allowed);
    ASSERT_TRUE(box->wait_again("a", &nothing));
    EXPECT_EQ(spent(*box), 0);
    ASSERT_TRUE(box->leave_at_once(letter_of("b"), {600, 0, 0}, now));
    ASSERT_TRUE(box->settle("b", {30, 0, 0}));
    EXPECT_EQ(spent(*box), 30);
}

TEST_F(OutboxTest, WhatWasLeavingIsInDoubtAndCountsInFull) {
    {
        auto box = open();
        for (const char* key : {"a", "b", "c"}) ASSERT_TRUE(box->put(letter_of(key), key));
        ASSERT_TRUE(box->leave("a", {100, 0, 0}, now));
        ASSERT_TRUE(box->leave("b", {50, 0, 0}, now));
        ASSERT_TRUE(box->leave_at_once(letter_of("direct"), {200, 0, 0}, now));
    }
    for (int restart = 0; restart < 2; restart++) {
        auto box = open();
        EXPECT_EQ(found.doubtful, 2);
        EXPECT_EQ(found.waiting, 1);
        EXPECT_EQ(found.spent, 1);
        EXPECT_EQ(spent(*box), 350);
    }
    auto box = open();
    ASSERT_TRUE(box->leave("a", {1000, 0, 0}, now));  // sent again with the same key: reserved still
    const Amounts used{60, 0, 0};
    ASSERT_TRUE(box->answer("a", &used, "came"));
    ASSERT_TRUE(box->answer("b", nullptr, "in doubt"));
    EXPECT_EQ(spent(*box), 60 + 50 + 200);
}

// Every change, cut at every byte that it writes: as before it or as after it, and as after it once it was told.
TEST_F(OutboxTest, APowerCutLeavesItBetweenTwoChanges) {
    const Amounts five{5, 0, 0};
    const std::vector<std::function<Result<void>(Outbox&)>> changes{
        [](Outbox& b) { return b.put(letter_of("a"), "text of a"); },
        [](Outbox& b) { return b.put(letter_of("b", 3), "text of b"); },
        [](Outbox& b) {
            return b.leave("b", {90, 0, 0}, now);
        },
        [](Outbox& b) {
            return b.leave_at_once(letter_of("d"), {40, 0, 0}, now);
        },
        [&](Outbox& b) { return b.answer("b", &five, "answer to b"); },
        [&](Outbox& b) { return b.settle("d", five); },
        [](Outbox& b) {
            return b.leave("a", {70, 0, 0}, now);
        },
        [](Outbox& b) { return b.wait_again("a", nullptr); },
        [](Outbox& b) { return b.drop("b"); },
        [](Outbox& b) { return b.drop("a"); },
    };
    int cuts = 0;
    std::string before_bytes, after_bytes, before_picture = picture(*open());
    for (std::size_t i = 0; i < changes.size(); i++) {
        {
            std::ofstream(path, std::ios::binary) << before_bytes;
            auto box = open();
            // What left before is in doubt to another process: the changes are made by one.
            box.reset();
            std::filesystem::remove(path);
            box = open();
            for (std::size_t k = 0; k <= i; k++) ASSERT_TRUE(changes[k](*box)) << k;
            after_bytes = bytes(*box);
        }
        const std::string after_picture = picture(*open());
        ASSERT_GT(after_bytes.size(), before_bytes.size());
        ASSERT_EQ(after_bytes.substr(0, before_bytes.size()), before_bytes);
        for (std::size_t n = before_bytes.size(); n < after_bytes.size(); n++, cuts++) {
            std::ofstream(path, std::ios::binary) << after_bytes.substr(0, n);
            ASSERT_EQ(picture(*open()), before_picture) << i << " " << n;
        }
        before_bytes = after_bytes, before_picture = after_picture;
    }
    EXPECT_GT(cuts, 500);
}

// What a card is given, in blocks of 4 KiB, each once a sync, and three more (of the file system's journal) whenever
// the file grows: of a request that leaves at once, and of one that waits first.
TEST_F(OutboxTest, ItWritesLittle) {
    settings.all.day.money = settings.all.month.money = 1'000'000;
    auto box = open();
    const Amounts one{1, 0, 0};
    std::uint64_t at = 0, blocks = 0, chunks = 1;
    const auto sync = [&] {
        const std::uint64_t end = box->file_size();
        blocks += (end + 4095) / 4096 - at / 4096;
        if (end > chunks * Journal::chunk_bytes) blocks += 3 + Journal::chunk_bytes / 4096, chunks++;
        at = end;
    };
    for (int i = 0; i < 500; i++) {
        ASSERT_TRUE(box->leave_at_once(letter_of("d"), {2, 0, 0}, now));
        sync();
        ASSERT_TRUE(box->settle("d", one));  // with the next one
    }
    EXPECT_LT(blocks * 4096 * 2, 6'000'000u) << "for 1,000 that leave at once";
    std::printf("1,000 requests that leave at once: %.2f MB\n", static_cast<double>(blocks * 4096 * 2) * 1e-6);
    // one after another: what was answered is told with the commit that lets the next one leave
    blocks = 0;
    std::uint64_t commits = box->commits();
    for (int i = 0; i < 40; i++) {
        ASSERT_TRUE(box->put(letter_of(i % 2 == 0 ? "w" : "v"), std::string(1000, 'x'), false));
        ASSERT_TRUE(box->leave(i % 2 == 0 ? "w" : "v", {2, 0, 0}, now));
        sync();
        ASSERT_TRUE(box->confirm());
        if (i > 0) {
            ASSERT_TRUE(box->drop(i % 2 == 0 ? "v" : "w"));
        }
        ASSERT_TRUE(box->answer(i % 2 == 0 ? "w" : "v", &one, std::string(200, 'y')));
    }
    EXPECT_EQ(box->commits() - commits, 40u);
    ASSERT_TRUE(box->confirm());
    ASSERT_TRUE(box->drop("v"));
    EXPECT_LT(blocks * 4096 * 25, 9'000'000u) << "for 1,000 that wait in a row";
    std::printf("1,000 requests that wait in a row: %.2f MB\n", static_cast<double>(blocks * 4096 * 25) * 1e-6);
    blocks = 0, commits = box->commits();
    for (int i = 0; i < 40; i++) {  // each alone
        ASSERT_TRUE(box->put(letter_of("w"), std::string(1000, 'x'), false));
        ASSERT_TRUE(box->leave("w", {2, 0, 0}, now));
        sync();
        ASSERT_TRUE(box->answer("w", &one, std::string(200, 'y')));
        ASSERT_TRUE(box->confirm());
        sync();
        ASSERT_TRUE(box->drop("w"));
    }
    EXPECT_EQ(box->commits() - commits, 80u);
    EXPECT_LT(blocks * 4096 * 25, 14'000'000u) << "for 1,000 that wait";
    std::printf("1,000 requests that wait first: %.2f MB\n", static_cast<double>(blocks * 4096 * 25) * 1e-6);
}

// What must be on the card is, with all before it; what need not waits.
TEST_F(OutboxTest, OneCommitForWhatWasChangedSince) {
    auto box = open();
    auto commits = [&, last = box->commits()]() mutable {
        return box->commits() - std::exchange(last, box->commits());
    };
    ASSERT_TRUE(box->put(letter_of("a"), "a"));
    EXPECT_EQ(commits(), 1u);
    ASSERT_TRUE(box->put(letter_of("b"), "b", false));
    ASSERT_TRUE(box->put(letter_of("c"), "c", false));
    EXPECT_TRUE(box->waits_for_commit());
    EXPECT_EQ(commits(), 0u);
    ASSERT_TRUE(box->confirm());  // nobody was told anything
    EXPECT_EQ(commits(), 0u);
    ASSERT_TRUE(box->leave("a", {1, 0, 0}, now));
    EXPECT_EQ(commits(), 1u);
    ASSERT_TRUE(box->answer("a", &nothing, "answer"));
    EXPECT_EQ(commits(), 0u);
    ASSERT_TRUE(box->confirm());
    EXPECT_EQ(commits(), 1u);
    ASSERT_TRUE(box->drop("a"));  // answered: nothing is lost with it
    EXPECT_EQ(commits(), 0u);
    ASSERT_TRUE(box->drop("b"));  // it would leave yet
    EXPECT_EQ(commits(), 1u);
    EXPECT_FALSE(box->waits_for_commit());
    ASSERT_TRUE(box->leave("c", {1, 0, 0}, now));
    ASSERT_TRUE(box->wait_again("c", &nothing));
    EXPECT_EQ(commits(), 1u);
    ASSERT_TRUE(box->confirm());
    ASSERT_TRUE(box->confirm());
    EXPECT_EQ(commits(), 1u);
}

TEST_F(OutboxTest, ItIsWrittenAnewWhenMostOfItIsOfNoUse) {
    settings.all.day.money = settings.all.month.money = 1'000'000;
    std::string wanted;
    std::uint64_t largest = 0;
    {
        auto box = open();
        ASSERT_TRUE(box->put(letter_of("stays"), "text"));
        ASSERT_TRUE(box->put(letter_of("answered"), "question"));
        ASSERT_TRUE(box->leave("answered", {9, 0, 0}, now));
        const Amounts used{9, 0, 0};
        ASSERT_TRUE(box->answer("answered", &used, "answer"));
        for (int i = 0; i < 500; i++) {
            ASSERT_TRUE(box->put(letter_of("k"), std::string(2000, 'x')));
            ASSERT_TRUE(box->leave("k", {2, 0, 0}, now));
            const Amounts one{1, 0, 0};
            ASSERT_TRUE(box->answer("k", &one, "y"));
            ASSERT_TRUE(box->drop("k"));
            largest = std::max(largest, box->file_size());
        }
        ASSERT_TRUE(box->put(letter_of("last"), "text"));
        wanted = picture(*box);
    }
    EXPECT_LT(largest, Outbox::most_waste + 8192);
    EXPECT_EQ(picture(*open()), wanted);
    EXPECT_NE(wanted.find("spent 509;"), std::string::npos) << wanted;
}

}  // namespace
}  // namespace slmd::route
