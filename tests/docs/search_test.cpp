// Words, ranks and sentences.
#include <cmath>

#include "docs/evidence.h"
#include "docs/fusion.h"
#include "docs/query.h"
#include "memory.h"

using namespace slmd;
using namespace slmd::docs;
using namespace slmd::docs::testing;

TEST(Query, nothing_in_a_question_is_syntax) {
    Query q;
    make_query("NEAR(a b) \"x\" OR y* -z col:v ^t {u}; the The DROP t\xC3\xBCr", q);
    EXPECT_EQ(
        std::string(q.text, q.size),
        "\"NEAR\" OR \"a\" OR \"b\" OR \"x\" OR \"OR\" OR \"y\" OR \"z\" OR \"col\" OR \"v\" OR \"t\" OR \"u\" OR "
        "\"the\" OR \"DROP\" OR \"t\xC3\xBCr\"");
    make_query("?!. ,", q);
    EXPECT_EQ(q.size, 0u);
    std::string many;
    for (int i = 0; i < 200; i++) many += std::string(70, static_cast<char>('a' + i % 26)) + std::to_string(i) + " ";
    make_query(many, q);
    EXPECT_LE(q.count, Query::max_words);
    EXPECT_LE(q.size, Query::bytes);
}

TEST(Fusion, is_the_sum_of_one_over_sixty_and_the_rank) {
    const std::int64_t words[] = {7, 8, 9}, meaning[] = {9, 5};
    Ranked room[5];
    const auto all = fuse(words, meaning, room);
    ASSERT_EQ(all.size(), 4u);
    EXPECT_EQ(all[0].passage, 9);
    EXPECT_FLOAT_EQ(all[0].score, 1.0f / 63 + 1.0f / 61);
    EXPECT_EQ(all[0].first, 3);
    EXPECT_EQ(all[0].second, 1);
    EXPECT_EQ(all[1].passage, 7);
    EXPECT_EQ(all[2].passage, 8);  // of equal ones what has the words
    EXPECT_EQ(all[3].passage, 5);
    EXPECT_TRUE(fuse({}, {}, room).empty());
}

TEST(Evidence, is_the_sentence_with_most_of_the_words_that_tell_something) {
    Hit hits[2]{};
    hits[0].heading = "Pump 2", hits[0].text = "It hums. The oil was changed in 2019 by B. Ohm. It leaks";
    hits[1].heading = "Pump 3", hits[1].text = "Oil is changing every 500 h.";
    const Word words[] = {{"When", 0}, {"oil", 1}, {"change", 2}, {"pump", 1}, {"3", 4}};
    Evidence e = find_evidence(words, hits, 400);
    EXPECT_EQ(e.hit, 1u);
    EXPECT_EQ(hits[1].text.substr(e.begin, e.end - e.begin), "Oil is changing every 500 h.");
    EXPECT_FLOAT_EQ(e.coverage, (1 + 2 + 0.5f + 2) / 8);
    e = find_evidence({words, 4}, hits, 400);
    EXPECT_EQ(e.hit, 0u);
    EXPECT_EQ(hits[0].text.substr(e.begin, e.end - e.begin), "The oil was changed in 2019 by B.");
    EXPECT_EQ(find_evidence({words, 1}, hits, 400).coverage, 0);
    EXPECT_EQ(find_evidence(words, {}, 400).coverage, 0);
    const std::string longest(1000, 'x');
    hits[0].text = longest;
    const Word x[] = {{"xxxxxxxx", 1}};
    for (const Hit& h : hits) (void)h;
    EXPECT_LE(find_evidence(x, {hits, 1}, 400).end, 400u);
}

TEST(Evidence, an_answer_is_whole_words_of_it) {
    const std::string_view s = "Changed on 12 May 2019, by Grete Ohm.";
    const auto stands = [&](std::string_view answer) {
        const Stand at = find_answer(answer, s);
        return at.begin == Stand::npos ? std::string_view("(nowhere)") : s.substr(at.begin, at.end - at.begin);
    };
    EXPECT_EQ(stands("12 May 20"), "12 May 2019");
    EXPECT_EQ(stands(" rete Ohm"), "Grete Ohm");
    EXPECT_EQ(stands(", by"), ", by");
    EXPECT_EQ(stands("13 May"), "(nowhere)");
    EXPECT_EQ(stands(", "), "(nowhere)");
    EXPECT_EQ(stands(""), "(nowhere)");
    EXPECT_TRUE(repeats("Grete Ohm", "Who is grete ohm?"));
    EXPECT_FALSE(repeats("Grete Ohm", "Who is Ohm?"));
}

TEST(Pool, hands_out_and_takes_back_everything) {
    alignas(64) static std::byte room[65 * 1024];
    Pool pool(room);
    std::vector<std::pair<char*, std::size_t>> held;
    unsigned seed = 1;
    int refused = 0;
    for (int i = 0; i < 20000; i++) {
        seed = seed * 1664525 + 1013904223;
        if ((seed >> 16) % 3 != 0 || held.empty()) {
            const std::size_t n = 1 + (seed >> 8) % ((seed >> 4) % 16 == 0 ? 9000 : 300);
            char* const p = static_cast<char*>(pool.take(n));
            if (p == nullptr) {
                refused++;
                continue;
            }
            ASSERT_GE(pool.size(p), n);
            memset(p, static_cast<int>(held.size() & 0x7f), n);
            held.emplace_back(p, n);
        } else {
            const std::size_t at = (seed >> 20) % held.size();
            for (std::size_t k = 1; k < held[at].second; k++) ASSERT_EQ(held[at].first[k], held[at].first[0]);
            pool.give(held[at].first);
            held[at] = held.back();
            held.pop_back();
        }
    }
    EXPECT_GT(refused, 100);
    for (const auto& [p, n] : held) pool.give(p);
    EXPECT_EQ(pool.used(), 0u);
    EXPECT_NE(pool.take(64 * 1024), nullptr);  // whole again
    EXPECT_EQ(pool.take(1), nullptr);
}
