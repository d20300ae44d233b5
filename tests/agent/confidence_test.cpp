// Calibrations of made-up models whose true probabilities are known.
#include "agent/confidence.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstring>
#include <fstream>
#include <functional>
#include <limits>
#include <random>
#include <sstream>
#include <string>
#include <vector>

#include "agent/calibrate.h"
#include "agent/calibration_file.h"
#include "agent/plot.h"

using namespace slmd;
using namespace slmd::agent;

namespace {

double logistic(double x) { return 1 / (1 + std::exp(-x)); }
float as_float(double x) { return static_cast<float>(x); }

// A model that is surer than it should be: it says logistic(3 z + 1) where it is right with logistic(z). The other
// features know less: they see z through noise.
std::vector<Sample> overconfident(int count, unsigned seed, double mean_z = 1.2) {
    std::mt19937 random(seed);
    std::normal_distribution<double> normal;
    std::uniform_real_distribution<double> uniform;
    std::vector<Sample> made;
    for (int i = 0; i < count; i++) {
        const double z = mean_z + 1.5 * normal(random);
        const auto seen = [&](double noise) { return as_float(logistic(3 * (z + noise * normal(random)) + 1)); };
        made.push_back({.features = {.min = seen(1), .mean = seen(0), .margin = seen(2), .entropy = seen(1.5)},
                        .right = uniform(random) < logistic(z)});
    }
    return made;
}

std::vector<Judged> judged(const Calibration& calibration, const std::vector<Sample>& examples) {
    std::vector<Judged> all;
    for (const Sample& e : examples) all.push_back({confidence(calibration, e.features), e.right});
    return all;
}

Calibration with_knots(const std::vector<Calibration::Knot>& knots) {
    Calibration c;
    for (const auto& k : knots) c.knots[c.knot_count++] = k;
    return c;
}

TEST(Confidence, IsLinearBetweenKnotsAndLevelBeyondThem) {
    const Calibration c = with_knots({{0.25f, 0.125f}, {0.5f, 0.625f}, {0.75f, 0.75f}});
    const auto at = [&](float mean) { return confidence(c, {.mean = mean}); };
    EXPECT_EQ(at(0), 0.125f);
    EXPECT_EQ(at(0.25f), 0.125f);
    EXPECT_EQ(at(0.375f), 0.375f);
    EXPECT_EQ(at(0.5f), 0.625f);
    EXPECT_EQ(at(0.625f), 0.6875f);
    EXPECT_EQ(at(0.75f), 0.75f);
    EXPECT_EQ(at(1), 0.75f);
    EXPECT_EQ(at(std::numeric_limits<float>::quiet_NaN()), 0.125f);  // not sure at all
    EXPECT_EQ(confidence(with_knots({{0.5f, 0.25f}}), {.mean = 0.7f}), 0.25f);
}

TEST(Confidence, TakesTheFeatureThatTheCalibrationNames) {
    Calibration c = with_knots({{0, 0.001f}, {1, 0.999f}});
    const Features f{.min = 0.2f, .mean = 0.4f, .margin = 0.6f, .entropy = 0.8f};
    for (const auto& [feature, value] :
         {std::pair{Feature::min, 0.2f}, {Feature::mean, 0.4f}, {Feature::margin, 0.6f}, {Feature::entropy, 0.8f}}) {
        c.feature = feature;
        EXPECT_NEAR(confidence(c, f), value, 2e-3f) << feature_name(feature);
    }
}

// The known solution of the isotonic regression: the value at i is the greatest over a <= i of the least over b >= i of
// the weighted mean of a to b (Barlow et al. 1972).
TEST(Isotonic, IsTheMaxMinOfMeans) {
    std::mt19937 random(1);
    for (int round = 0; round < 300; round++) {
        const std::size_t n = 1 + random() % 12;
        std::vector<Block> points;
        for (std::size_t i = 0; i < n; i++)
            points.push_back({static_cast<double>(i), static_cast<double>(random() % 4), 1.0 + random() % 3});
        const std::vector<Block> blocks = isotonic(points);
        for (std::size_t b = 1; b < blocks.size(); b++) {
            EXPECT_LT(blocks[b - 1].value, blocks[b].value);
            EXPECT_LT(blocks[b - 1].score, blocks[b].score);
        }
        std::size_t block = 0;
        double passed = 0, weight = 0;
        for (std::size_t i = 0; i < n; i++) {
            double greatest = -1;
            for (std::size_t a = 0; a <= i; a++) {
                double least = 1e9, sum = 0, count = 0;
                for (std::size_t b = a; b < n; b++) {
                    sum += points[b].value * points[b].weight;
                    count += points[b].weight;
                    if (b >= i) least = std::min(least, sum / count);
                }
                greatest = std::max(greatest, least);
            }
            ASSERT_LT(block, blocks.size());
            EXPECT_NEAR(blocks[block].value, greatest, 1e-12) << round << ' ' << i;
            weight += points[i].weight;
            passed += points[i].weight;
            if (passed > blocks[block].weight - 0.5) block++, passed = 0;
        }
        double total = 0;
        for (const Block& b : blocks) total += b.weight;
        EXPECT_EQ(total, weight);
    }
}

TEST(Quality, ByHand) {
    const std::vector<Judged> answers{{0.9f, true}, {0.6f, false}, {0.5f, true}, {0.8f, true}};
    EXPECT_NEAR(brier(answers), (0.01 + 0.36 + 0.25 + 0.04) / 4, 1e-7);
    EXPECT_NEAR(ece(answers), (0.1 + 0.6 + 0.5 + 0.2) / 4, 1e-7);  // a bin each
    const RiskCoverage r(answers);                                 // right, right, wrong, right
    EXPECT_EQ(r.risk(0.25), 0);
    EXPECT_EQ(r.risk(0.5), 0);
    EXPECT_NEAR(r.risk(0.75), 1 / 3.0, 1e-12);
    EXPECT_NEAR(r.risk(0.625), 0.5 / 2.5, 1e-12);
    EXPECT_NEAR(r.risk(1), 0.25, 1e-12);
    EXPECT_NEAR(r.area(), (0 + 0 + 1 / 3.0 + 0.25) / 4, 1e-12);

    // 30 answers in 15 bins of two: 0.1 apart from what is true in each.
    std::vector<Judged> pairs;
    for (int i = 0; i < 15; i++)
        for (const bool right : {false, true}) pairs.push_back({(i < 8 ? 0.4f : 0.6f) + as_float(i * 1e-5), right});
    EXPECT_NEAR(ece(pairs), 0.1, 1e-3);
    const std::vector<Bin> bins = reliability(pairs);
    ASSERT_EQ(bins.size(), 15u);
    for (const Bin& b : bins) EXPECT_EQ(b.right, 0.5);
}

TEST(Quality, TheOrderOfEqualConfidencesMeansNothing) {
    std::vector<Judged> answers;
    for (int i = 0; i < 100; i++) answers.push_back({0.7f, i < 70});
    EXPECT_NEAR(ece(answers), 0, 1e-6);
    const RiskCoverage r(answers);
    for (const double coverage : {0.01, 0.5, 1.0}) EXPECT_NEAR(r.risk(coverage), 0.3, 1e-12);
    const RiskCoverage::Choice none = r.choose(0.05);
    EXPECT_EQ(none.coverage, 0);
    EXPECT_NEAR(r.choose(0.3).coverage, 1, 1e-12);
}

TEST(Quality, TheThresholdKeepsWhatItSays) {
    std::mt19937 random(3);
    std::vector<Judged> answers;
    for (int i = 0; i < 1000; i++) {
        const float p = as_float(random() % 1000) / 1000;
        answers.push_back({p, as_float(random() % 1000) / 1000 < p});
    }
    const RiskCoverage::Choice c = RiskCoverage(answers).choose(0.1);
    EXPECT_GT(c.coverage, 0.1);
    const auto risk_from = [&](double threshold, double& kept) {
        double wrong = 0;
        kept = 0;
        for (const Judged& a : answers)
            if (static_cast<double>(a.confidence) >= threshold) kept += 1, wrong += a.right ? 0 : 1;
        return wrong / kept;
    };
    double kept = 0;
    EXPECT_NEAR(risk_from(c.threshold, kept), c.risk, 1e-12);
    EXPECT_NEAR(kept / 1000, c.coverage, 1e-12);
    EXPECT_LE(c.risk, 0.1);
    for (int t = 0; t <= 1000; t++) {
        const double risk = risk_from(t / 1000.0, kept);
        if (kept / 1000 > c.coverage) {
            EXPECT_GT(risk, 0.1) << t;
        }
    }
    // Far from both sides of a gap.
    const std::vector<Judged> two{{0.9f, true}, {0.9f, true}, {0.3f, false}};
    EXPECT_NEAR(RiskCoverage(two).choose(0.1).threshold, 0.6, 0.0011);
}

// What chance_ece() promises: the mean ECE of answers that are right as often as they say.
TEST(Quality, ChanceAloneMakesSomeError) {
    std::mt19937 random(5);
    std::uniform_real_distribution<double> uniform;
    double shown = 0, promised = 0;
    for (int round = 0; round < 100; round++) {
        std::vector<Judged> answers;
        for (int i = 0; i < 300; i++) {
            const double p = uniform(random);
            answers.push_back({as_float(p), uniform(random) < p});
        }
        shown += ece(answers) / 100;
        promised += chance_ece(answers) / 100;
    }
    EXPECT_NEAR(shown, promised, 0.05 * promised);
    EXPECT_GT(promised, 0.05);
}

TEST(Fit, AnOverconfidentModelBecomesCalibrated) {
    auto made = fit(overconfident(4000, 1));
    ASSERT_TRUE(made) << made.error().text;
    const Calibration& c = made->calibration;
    EXPECT_EQ(c.feature, Feature::mean);  // the one without noise
    EXPECT_EQ(c.examples, 4000);
    const std::vector<Sample> held_out = overconfident(20000, 2);
    std::vector<Judged> before;
    for (const Sample& e : held_out) before.push_back({e.features.mean, e.right});
    const std::vector<Judged> after = judged(c, held_out);
    EXPECT_GT(ece(before), 0.12);
    EXPECT_LE(ece(after), 0.03);
    EXPECT_LT(brier(after), brier(before) - 0.02);
    // What cross-validation promised, held.
    EXPECT_NEAR(static_cast<double>(c.after.brier), brier(after), 0.01);
    EXPECT_NEAR(static_cast<double>(c.before.ece), ece(before), 0.02);
    EXPECT_LE(c.after.ece, 0.03f);
    EXPECT_NEAR(RiskCoverage(made->after).area(), RiskCoverage(after).area(), 0.01);
    EXPECT_LE(c.knot_count, Calibration::max_knots);
    for (int i = 0; i < c.knot_count; i++) {
        EXPECT_GT(c.knots[i].probability, 0);
        EXPECT_LT(c.knots[i].probability, 1);
        if (i == 0) continue;
        EXPECT_GT(c.knots[i].score, c.knots[i - 1].score);
        EXPECT_GE(c.knots[i].probability, c.knots[i - 1].probability);
    }
}

TEST(Fit, TakesTheFeatureThatKnowsMost) {
    for (const Feature best : {Feature::mean, Feature::min, Feature::margin, Feature::entropy}) {
        std::vector<Sample> examples = overconfident(1000, 4);
        for (Sample& e : examples) {
            float* const of[] = {&e.features.mean, &e.features.min, &e.features.margin, &e.features.entropy};
            std::swap(*of[0], *of[static_cast<int>(best)]);
        }
        auto made = fit(examples);
        ASSERT_TRUE(made);
        EXPECT_EQ(made->calibration.feature, best);
    }
}

TEST(Fit, NothingIsEverCertain) {
    // All above a half are right, all below wrong: 40 examples do not prove that it is always so.
    std::vector<Sample> examples;
    for (int i = 0; i < 40; i++) {
        const float s = as_float((i + 0.5) / 40);
        examples.push_back({{.min = s, .mean = s, .margin = s, .entropy = s}, i >= 20});
    }
    auto made = fit(examples);
    ASSERT_TRUE(made);
    EXPECT_NEAR(confidence(made->calibration, {.mean = 0}), 1.0 / 22, 1e-6);
    EXPECT_NEAR(confidence(made->calibration, {.mean = 1}), 21.0 / 22, 1e-6);
}

TEST(Fit, EqualScoresAreOneAndTheOrderOfTheFileHardlyMatters) {
    std::vector<Sample> examples;
    for (int i = 0; i < 200; i++) {
        const float s = i % 4 == 0 ? 0.5f : 1.0f;
        examples.push_back({{.min = s, .mean = s, .margin = s, .entropy = s}, i % 8 != 0});
    }
    auto made = fit(examples);
    ASSERT_TRUE(made);
    const Calibration& c = made->calibration;
    ASSERT_EQ(c.knot_count, 2);
    EXPECT_NEAR(confidence(c, {.mean = 0.5f}), 26.0 / 52, 1e-6);
    EXPECT_NEAR(confidence(c, {.mean = 1}), 151.0 / 152, 1e-6);
    EXPECT_NEAR(c.shares[2] + c.shares[1] + c.shares[0], 0.25, 1e-6);
    EXPECT_NEAR(c.shares[9], 0.75, 1e-6);
    std::reverse(examples.begin(), examples.end());
    auto reversed = fit(examples);
    ASSERT_TRUE(reversed);
    EXPECT_EQ(std::memcmp(c.knots, reversed->calibration.knots, sizeof c.knots), 0);
}

TEST(Fit, ManyBlocksBecomeAsManyKnotsAsThereAre) {
    // 100 scores, of each 200 examples, of which i percent are right: more blocks than knots.
    std::vector<Sample> examples;
    for (int i = 0; i < 100; i++)
        for (int j = 0; j < 200; j++) {
            const float s = as_float(i / 100.0);
            examples.push_back({{.min = s, .mean = s, .margin = s, .entropy = s}, j < 2 * i});
        }
    auto made = fit(examples);
    ASSERT_TRUE(made);
    EXPECT_EQ(made->calibration.knot_count, Calibration::max_knots);
    for (int i = 2; i < 98; i++)
        EXPECT_NEAR(confidence(made->calibration, {.mean = as_float(i / 100.0)}), i / 100.0, 0.02) << i;
}

TEST(Fit, RefusesWhatTeachesNothing) {
    const auto refused = [](const std::vector<Sample>& examples, const char* part) {
        auto made = fit(examples);
        ASSERT_FALSE(made);
        EXPECT_EQ(made.error().code, Code::incorrect_parameters);
        EXPECT_NE(std::string(made.error().text).find(part), std::string::npos) << made.error().text;
    };
    std::vector<Sample> all = overconfident(19, 1);
    refused(all, "19 judged answers: a calibration needs 20");
    all = overconfident(20, 1);
    EXPECT_TRUE(fit(all));
    all[7].features.margin = 1.5f;
    refused(all, "example 8: margin is 1.5");
    all[7].features.margin = std::numeric_limits<float>::quiet_NaN();
    refused(all, "example 8: margin");
    all = overconfident(20, 1);
    for (Sample& e : all) e.right = true;
    refused(all, "all 20 answers are right");
    for (Sample& e : all) e.right = false;
    refused(all, "all 20 answers are wrong");
    all[0].right = true;  // one is enough, even though the fold that has it teaches the others nothing
    EXPECT_TRUE(fit(all));
}

struct File {
    std::string path = testing::TempDir() + "slmd-" + std::to_string(getpid()) + ".calibration";
    ~File() { std::remove(path.c_str()); }
    std::string text() const {
        std::stringstream s;
        s << std::ifstream(path).rdbuf();
        return s.str();
    }
    void set(const std::string& text) const { std::ofstream(path) << text; }
};

Calibration some_calibration() {
    Calibration c = fit(overconfident(500, 6)).value().calibration;
    std::strcpy(c.agent_sha256, std::string(64, 'a').c_str());
    std::strcpy(c.model, "Tiny \"2\" \\ \x7F \xC3\xA9");
    return c;
}

TEST(CalibrationFile, RoundTripsToTheLastBit) {
    const File file;
    Calibration c = some_calibration();
    c.knots[0].score = 1e-30f;  // exponents, and whole numbers without a point
    c.deciles[8] = 1;
    ASSERT_TRUE(write_calibration(file.path.c_str(), c));
    Calibration back;
    const auto read = read_calibration(file.path.c_str(), back);
    ASSERT_TRUE(read) << read.error().text;
    EXPECT_EQ(back.feature, c.feature);
    EXPECT_EQ(back.knot_count, c.knot_count);
    EXPECT_EQ(std::memcmp(back.knots, c.knots, sizeof c.knots), 0);
    EXPECT_EQ(std::memcmp(back.deciles, c.deciles, sizeof c.deciles), 0);
    EXPECT_EQ(std::memcmp(back.shares, c.shares, sizeof c.shares), 0);
    EXPECT_EQ(back.examples, c.examples);
    EXPECT_EQ(back.accuracy, c.accuracy);
    EXPECT_EQ(std::memcmp(&back.before, &c.before, sizeof c.before), 0);
    EXPECT_EQ(std::memcmp(&back.after, &c.after, sizeof c.after), 0);
    EXPECT_STREQ(back.agent_sha256, c.agent_sha256);
    EXPECT_STREQ(back.model, c.model);
    EXPECT_STREQ(back.adapter_sha256, "");
    std::strcpy(c.adapter_sha256, std::string(64, '7').c_str());
    ASSERT_TRUE(write_calibration(file.path.c_str(), c));
    ASSERT_TRUE(read_calibration(file.path.c_str(), back));
    EXPECT_STREQ(back.adapter_sha256, c.adapter_sha256);
    std::strcpy(c.model, "\xFF");
    const std::string kept = file.text();
    const auto refused = write_calibration(file.path.c_str(), c);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::invalid_characters);
    EXPECT_EQ(file.text(), kept);
}

TEST(CalibrationFile, BadOnesAreRefusedWithTheirLine) {
    const File file;
    Calibration c = some_calibration();
    c.feature = Feature::margin;
    c.knot_count = 2;
    c.knots[0] = {0.25f, 0.5f};
    c.knots[1] = {0.75f, 0.875f};
    ASSERT_TRUE(write_calibration(file.path.c_str(), c));
    const std::string good = file.text();
    const auto refused = [&](const std::string& from, const std::string& to, int line, const std::string& part) {
        const auto at = good.find(from);
        ASSERT_NE(at, std::string::npos) << from;
        file.set(std::string(good).replace(at, from.size(), to));
        Calibration out;
        out.examples = 77;
        const auto read = read_calibration(file.path.c_str(), out);
        ASSERT_FALSE(read) << to;
        EXPECT_EQ(read.error().code, Code::incorrect_parameters);
        const std::string expected = file.path + ":" + std::to_string(line) + ": ";
        EXPECT_EQ(std::string(read.error().text).find(expected), 0u) << to << ": " << read.error().text;
        EXPECT_NE(std::string(read.error().text).find(part), std::string::npos) << read.error().text;
        EXPECT_EQ(out.examples, 77);
    };
    refused("aaa\"", "aa\"", 2, "64 digits");
    refused("aaa\"", "aaG\"", 2, "64 digits");
    refused("model = ", "adapter_sha256 = \"ab\"\nmodel = ", 3, "adapter_sha256 is 64 digits");
    refused("model = ", "model = 5 # ", 3, "a name in quotes");
    refused("model = \"", "model = \"" + std::string(64, 'x'), 3, "63 bytes");
    refused("model = \"", "model = \"\\u0000", 3, "a name in quotes");
    refused("\"margin\"", "\"max\"", 4, "feature is \"mean\"");
    refused("\"margin\"", "3", 4, "feature is \"mean\"");
    refused("examples = 500", "examples = 19", 5, "from 20");
    refused("examples = 500", "examples = 500.5", 5, "whole number");
    refused("accuracy = 0", "accuracy = 1", 6, "accuracy is from 0 to 1");
    refused("ece = [", "ece = [0.5, ", 8, "ece is [before, after]");
    refused("brier = [", "brier = [nan, 1] # ", 9, "brier is [before, after]");
    refused("brier = [", "brier = [true, 1] # ", 9, "brier is [before, after]");
    refused("[0.75, 0.875]", "[0.25, 0.875]", 13, "must ascend");
    refused("[0.75, 0.875]", "[0.75, 0.25]", 13, "must not fall");
    refused("[0.75, 0.875]", "[0.75, 1]", 13, "below 1");
    refused("[0.25, 0.5]", "[0.25, 0]", 12, "above 0");
    refused("[0.25, 0.5]", "[0.25]", 12, "a knot is");
    refused("[0.25, 0.5]", "[-0.25, 0.5]", 12, "a knot is");
    refused("[0.25, 0.5]", "0.25", 12, "a knot is");
    refused("knots = [\n    [0.25, 0.5],\n    [0.75, 0.875],\n]", "knots = []", 11, "a list of 1 to 32");
    refused("deciles = [", "deciles = [1, ", 15, "9 scores");
    refused("deciles = [", "deciles = [1, 0, 0, 0, 0, 0, 0, 0, 0] # ", 15, "must not fall");
    refused("shares = [", "shares = [0.5, 0.5, 0.5, 0, 0, 0, 0, 0, 0, 0] # ", 16, "sum of the shares");
    refused("model = ", "modell = 1\nmodel = ", 3, "unknown key \"modell\"");
    refused("model = ", "model = \"a\"\nmodel = ", 4, "");
    refused("feature = \"margin\"\n", "", 1, "there is no \"feature\"");
    refused("ece = [", "ece = ", 8, "");

    std::string many = "knots = [";
    for (int i = 0; i < 33; i++) many += "[" + std::to_string(0.01 * i) + ", 0.5], ";
    refused("knots = [", many, 11, "a list of 1 to 32");
    file.set(good + "#" + std::string(70000, 'x'));
    Calibration out;
    auto read = read_calibration(file.path.c_str(), out);
    ASSERT_FALSE(read);
    EXPECT_NE(std::string(read.error().text).find("64 KiB"), std::string::npos);
    read = read_calibration((file.path + ".none").c_str(), out);
    ASSERT_FALSE(read);
    EXPECT_EQ(read.error().code, Code::not_found);
}

TEST(CalibrationFile, IsForOneAgentAndOneModel) {
    const Calibration c = some_calibration();
    EXPECT_TRUE(check_calibration(c, c.agent_sha256, c.model, ""));
    const auto changed = check_calibration(c, std::string(64, 'b'), c.model, "");
    ASSERT_FALSE(changed);
    EXPECT_NE(std::string(changed.error().text).find("another text of this agent"), std::string::npos);
    Calibration adapted = c;
    std::strcpy(adapted.adapter_sha256, std::string(64, 'e').c_str());
    EXPECT_TRUE(check_calibration(adapted, c.agent_sha256, c.model, std::string(64, 'e')));
    for (const std::string& other : {std::string(), std::string(64, 'f')}) {
        const auto adapter = check_calibration(adapted, c.agent_sha256, c.model, other);
        ASSERT_FALSE(adapter);
        EXPECT_NE(std::string(adapter.error().text).find("with another adapter"), std::string::npos);
    }
    const auto without = check_calibration(c, c.agent_sha256, c.model, std::string(64, 'f'));
    ASSERT_FALSE(without);
    EXPECT_NE(std::string(without.error().text).find("without an adapter"), std::string::npos);
    const auto model = check_calibration(c, c.agent_sha256, "Other", "");
    ASSERT_FALSE(model);
    EXPECT_NE(std::string(model.error().text).find("\"Other\""), std::string::npos);
}

TEST(CalibrationFile, StandsBesideTheAgent) {
    char out[64];
    ASSERT_TRUE(path_beside("agents/invoice.toml", ".calibration", out));
    EXPECT_STREQ(out, "agents/invoice.calibration");
    ASSERT_TRUE(path_beside("a.toml", ".svg", out));
    EXPECT_STREQ(out, "a.svg");
    for (const char* wrong : {"invoice", ".toml", "agents/.toml", "x.tom", ""})
        EXPECT_FALSE(path_beside(wrong, ".svg", out)) << wrong;
    char small[10];
    EXPECT_EQ(path_beside("invoice.toml", ".svg", small).error().code, Code::text_too_long);
}

Drift drift_of(const Calibration& c, const std::vector<Sample>& answers) {
    Drift drift;
    drift.reset(c);
    for (const Sample& e : answers) drift.add(e.features);
    return drift;
}

TEST(Drift, IsSeenWhereThereIsSomeAndNotWhereThereIsNone) {
    const Calibration c = fit(overconfident(1000, 1)).value().calibration;
    for (unsigned seed = 10; seed < 40; seed++) {
        for (const int answers : {100, 150, 400, 3000}) {
            const Drift same = drift_of(c, overconfident(answers, seed));
            EXPECT_FALSE(same.drifted()) << same.psi() << " of " << answers;
            const Drift other = drift_of(c, overconfident(answers, seed, -0.8));
            EXPECT_TRUE(other.drifted()) << other.psi() << " of " << answers;
        }
    }
    EXPECT_FALSE(drift_of(c, overconfident(99, 1, -3)).drifted()) << "too early to tell";
    EXPECT_EQ(Drift().psi(), 0);
}

// Of few examples even the same answers look different: that is no drift.
TEST(Drift, FewExamplesMakeNoAlarm) {
    int alarms = 0, above = 0;
    for (unsigned seed = 0; seed < 200; seed++) {
        const Calibration c = fit(overconfident(40, 1000 + seed)).value().calibration;
        const Drift drift = drift_of(c, overconfident(120, seed));
        alarms += drift.drifted();
        above += drift.psi() > Drift::limit;
    }
    EXPECT_LE(alarms, 3);
    EXPECT_GT(above, 40);  // so the limit alone would not do
}

TEST(Drift, ForgetsByHalfEvery200Answers) {
    Calibration c = with_knots({{0.5f, 0.5f}});
    c.examples = 1000;
    for (int i = 0; i < 9; i++) c.deciles[i] = as_float((i + 1) / 10.0);
    std::fill(std::begin(c.shares), std::end(c.shares), 0.1f);
    Drift drift;
    drift.reset(c);
    const auto add = [&](int count, float mean) {
        for (int i = 0; i < count; i++) drift.add({.mean = mean});
    };
    add(5000, 0.05f);
    add(200, 0.95f);
    // Of weights that add up to 1 / (1 - 2^(-1/200)) one half is old, in the first tenth, and one half new, in the
    // last.
    const double total = 1 / (1 - std::exp2(-1 / 200.0)), p = 100.5 / 1005, none = 0.5 / (total + 5),
                 half = (total / 2 + 0.5) / (total + 5);
    EXPECT_NEAR(drift.psi(), 8 * (none - p) * std::log(none / p) + 2 * (half - p) * std::log(half / p), 1e-3);
    EXPECT_EQ(drift.answers(), 5200);
    EXPECT_TRUE(drift.drifted());
    for (int i = 0; i < 4000; i++) drift.add({.mean = as_float((i % 10 + 0.5) / 10)});
    EXPECT_FALSE(drift.drifted()) << "what was long ago counts no more";
    EXPECT_LT(drift.psi(), 0.01);
}

// Many answers of a classification have the same probability, 1: some tenths are empty.
TEST(Drift, EqualScoresShareATenth) {
    std::vector<Sample> examples;
    for (int i = 0; i < 300; i++) {
        const float s = i % 10 < 3 ? as_float(0.3 + 0.2 * (i % 10)) : 1.0f;
        examples.push_back({{.min = s, .mean = s, .margin = s, .entropy = s}, i % 7 != 0});
    }
    const Calibration c = fit(examples).value().calibration;
    const Drift same = drift_of(c, examples);
    EXPECT_LT(same.psi(), 0.01);
    for (Sample& e : examples) e.features.mean = e.features.min = e.features.margin = e.features.entropy = 0.5f;
    EXPECT_TRUE(drift_of(c, examples).drifted());
}

TEST(Plot, HoldsWhatItShowsAndNothingFromOutside) {
    const Fit made = fit(overconfident(300, 8)).value();
    const std::string svg = calibration_svg(made, "invoice <\"&'> on Tiny");
    EXPECT_EQ(svg.find("<svg xmlns=\"http://www.w3.org/2000/svg\""), 0u);
    EXPECT_EQ(svg.find("</svg>"), svg.size() - 7);
    EXPECT_EQ(svg.find('&'), std::string::npos);
    EXPECT_EQ(svg.find("<text"), std::string::npos);
    EXPECT_EQ(svg.find("nan"), std::string::npos);
    std::size_t circles = 0;
    for (auto at = svg.find("<circle"); at != std::string::npos; at = svg.find("<circle", at + 1)) circles++;
    EXPECT_EQ(circles, 30u);  // 15 bins, before and after
    for (const double share : {0.5, 1.0}) {
        char point[32];
        // Risk at that coverage, in a square of 320 from (496, 84).
        const double risk = RiskCoverage(made.after).risk(share);
        const double most = RiskCoverage(made.before).risk(1) > 0.25 ? 0.5 : 0.25;
        std::snprintf(point, sizeof point, "L%.1f %.1f", 496 + 320 * share, 84 + 320 * (1 - risk / most));
        EXPECT_NE(svg.find(point), std::string::npos) << point;
    }
}

}  // namespace
