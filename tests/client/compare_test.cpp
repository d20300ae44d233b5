// slmctl compare: mixes of local and large answers against their definitions, and what is printed of a small set.
#include "client/compare.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <bit>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

namespace slmd::client {
namespace {

namespace fs = std::filesystem;

std::pair<std::vector<LocalAnswer>, std::vector<LargeAnswer>> some(std::size_t n, unsigned seed) {
    std::mt19937 random(seed);
    std::pair<std::vector<LocalAnswer>, std::vector<LargeAnswer>> out;
    for (std::size_t i = 0; i < n; i++) {
        LocalAnswer l;
        l.confidence = static_cast<float>(random() % 8) / 8;
        l.right = random() % 8 <= static_cast<unsigned>(l.confidence * 8);
        l.failed = random() % 9 == 0;
        l.ms = 100;
        out.first.push_back(l);
        out.second.push_back({true, random() % 10 != 0, 1000, 0.001});
    }
    return out;
}

TEST(Mix, is_what_decide_does_at_each_threshold) {
    for (unsigned seed = 0; seed < 20; seed++) {
        const auto [local, large] = some(60, seed);
        const auto all = mixes(local, large);
        EXPECT_EQ(all.front().escalated, 0);
        EXPECT_EQ(all.back().escalated, 1);
        for (const Mix& m : all) {
            double right = 0, cost = 0, ms = 0, leave = 0;
            for (std::size_t i = 0; i < local.size(); i++) {
                const bool leaves =
                    m.threshold >= 0 && (local[i].failed || !(static_cast<double>(local[i].confidence) >= m.threshold));
                right += leaves ? large[i].right : local[i].right;
                cost += leaves ? large[i].cost : 0, ms += local[i].ms + (leaves ? large[i].ms : 0);
                leave += leaves;
            }
            const double n = 60;
            EXPECT_NEAR(m.escalated, leave / n, 1e-9) << m.threshold;
            EXPECT_NEAR(m.right, right / n, 1e-9);
            EXPECT_NEAR(m.cost, cost / n, 1e-12);
            EXPECT_NEAR(m.ms, ms / n, 1e-6);
        }
    }
}

TEST(Mix, oracle_is_the_best_choice_and_random_its_mean) {
    const auto [local, large] = some(10, 3);
    for (int k = 0; k <= 10; k++) {
        double best = 0, sum = 0, choices = 0;
        for (unsigned set = 0; set < 1u << 10; set++) {
            if (std::popcount(set) != k) continue;
            double right = 0;
            for (std::size_t i = 0; i < 10; i++) right += (set >> i & 1) != 0 ? large[i].right : local[i].right;
            best = std::max(best, right), sum += right, choices++;
        }
        EXPECT_NEAR(oracle_right(local, large, k / 10.0), best / 10, 1e-9) << k;
        EXPECT_NEAR(random_right(local, large, k / 10.0), sum / choices / 10, 1e-9) << k;
    }
}

TEST(Mix, the_cheapest_that_is_good_enough) {
    const std::vector<Mix> all = {
        {0, 0, 0.7, 0, 1}, {0.5, 0.2, 0.9, 2, 1}, {0.6, 0.3, 0.95, 3, 1}, {1.01, 1, 0.93, 9, 1}};
    EXPECT_EQ(cheapest(all, 0.6), &all[0]);
    EXPECT_EQ(cheapest(all, 0.9), &all[1]);
    EXPECT_EQ(cheapest(all, 0.93), &all[2]);
    EXPECT_EQ(cheapest(all, 0.96), nullptr);
    EXPECT_EQ(&at_share(all, 0.25), &all[1]);
    EXPECT_EQ(&at_share(all, 1), &all[3]);
}

TEST(Mix, auroc_is_the_share_of_pairs_in_order) {
    const auto [local, large] = some(80, 9);
    double wins = 0, pairs = 0;
    for (const LocalAnswer& a : local)
        for (const LocalAnswer& b : local) {
            if (!a.right || b.right) continue;
            const double x = a.failed ? -1 : static_cast<double>(a.confidence),
                         y = b.failed ? -1 : static_cast<double>(b.confidence);
            wins += x > y ? 1 : x == y ? 0.5 : 0, pairs++;
        }
    EXPECT_NEAR(auroc(local), wins / pairs, 1e-12);
    EXPECT_EQ(auroc({}), 0.5);
}

class Compare : public ::testing::Test {
  protected:
    void SetUp() override {
        char name[] = "/tmp/slmd-compare-XXXXXX";
        ASSERT_NE(mkdtemp(name), nullptr);
        folder = name;
        cases = folder + "/cases.jsonl", answers = folder + "/answers.jsonl";
        std::ofstream c(cases), a(answers);
        for (int i = 0; i < 100; i++) {
            c << "{\"input\":\"case " << i << "\",\"output\":\"yes\"}\n";
            a << "{\"input\":\"case " << i << "\",\"answer\":\"" << (i % 50 == 49 ? "no" : "yes")
              << "\",\"tokens_in\":100,\"tokens_out\":10,\"ms\":900}\n";
        }
        command.cases = cases.c_str(), command.answers = answers.c_str();
        command.agents = "good,poor";
    }
    void TearDown() override { fs::remove_all(folder); }
    // good: the 80 it is sure of are right, of the other 20 a half. poor: a half is right, and it does not know which.
    static Result<Asked> ask(const std::string& agent, const Labelled& one) {
        const int i = std::stoi(one.input.substr(5));
        Asked a{"yes", {}};
        a.said.ms = 50, a.said.joules = agent == "good" ? 0.5 : -1;
        if (agent == "good") {
            a.said.confidence = i % 5 == 0 ? 0.4f : 0.9f;
            if (i % 10 == 0) a.answer = "no";
        } else {
            a.said.confidence = 0.5f;
            if (i % 2 == 0) a.answer = "no";
        }
        return a;
    }
    std::string run() {
        char* text = nullptr;
        std::size_t size = 0;
        FILE* const out = open_memstream(&text, &size);
        const auto done = compare(command, ask, out);
        fclose(out);
        std::string printed(text, size);
        free(text);
        error = done ? "" : done.error().text;
        return printed;
    }
    static void expect(const std::string& text, const std::vector<const char*>& parts) {
        for (const char* part : parts) EXPECT_NE(text.find(part), std::string::npos) << part << "\n" << text;
    }
    std::string folder, cases, answers, error;
    CompareCommand command;
};

TEST_F(Compare, prints_the_cheapest_mix_that_is_good_enough) {
    const std::string csv = folder + "/c.csv", svg = folder + "/c.svg";
    command.csv = csv.c_str(), command.svg = svg.c_str();
    command.prices = "1,10";
    command.quality = 0.98;
    command.volume = 1000;
    const std::string said = run();
    EXPECT_EQ(error, "");
    // 20 of 100 leave: all right. 100 + 10 x 10 millionths each.
    expect(said, {"100 cases", "good                   90.0 %   0.944   0.100        50       50      0.50         0\n",
                  "poor                   50.0 %   0.500   0.000        50       50         -         0\n",
                  "large model            98.0 %", "0.2000\n", "good         ours     90.0 %  90.0 % 100.0 % 100.0 %",
                  "good         oracle   95.0 % 100.0 % 100.0 %",
                  "cheapest: good with threshold = 0.900: 100.0 % right, 20.0 % escalated, 230 ms on average\n",
                  "gives the other half 100.0 % right, 20.0 % escalated\n",
                  "1000 requests a month: 0.04; all of them by the large model: 0.20 (80 % less)\n"});
    std::ifstream f(csv);
    std::stringstream table;
    table << f.rdbuf();
    expect(table.str(), {"\"good\",0.900000,0.200000,1.000000,0.916000,1.000000,0.000040000,230.0\n",
                         "\"poor\",1.010000,1.000000,0.98"});
    std::ifstream p(svg);
    std::string first;
    std::getline(p, first);
    EXPECT_EQ(first.find("<svg "), 0u);
}

TEST_F(Compare, says_what_it_has_not) {
    command.quality = 1.0;
    command.agents = "poor";
    expect(run(), {"no mix is that good\n"});
    command.quality = 0.4;
    expect(run(), {"cheapest: poor alone, 50.0 % right, 50 ms on average\n", "--prices IN,OUT"});
    command.answers = nullptr;
    expect(run(), {"--upstream-answers FILE compares them"});
    command.agents = ",";
    run();
    EXPECT_NE(error.find("--agents"), std::string::npos);
    command.agents = "good";
    command.answers = answers.c_str();
    std::ofstream(cases, std::ios::app) << "{\"input\":\"new 5\",\"output\":\"yes\"}\n";
    run();
    EXPECT_NE(error.find("no answer to case 101"), std::string::npos) << error;
    std::ofstream(answers) << "{\"input\":\"case 1\"}\n";
    run();
    EXPECT_NE(error.find("answers.jsonl:1: a line is"), std::string::npos) << error;
}

}  // namespace
}  // namespace slmd::client
