// Labels on models/tiny, against the model's plain logits.
#include "task/classify.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <map>
#include <numeric>
#include <set>
#include <string>
#include <vector>

#include "tests/task/tiny.h"

using namespace slmd;
using test::model;

namespace {

using Labels = std::vector<std::string>;

struct Scored {
    std::vector<float> probabilities;
    std::vector<std::string> best;
    task::Finish finish = task::Finish::none;
    int prompt_tokens = 0, passes = 0, skipped = 0;
    Code error{};
    std::string text;
    Features features;
};

struct Case {
    std::string prompt = "What is the capital of France?";
    Labels labels;
    std::vector<float> priors = {};
    bool raw = false;
    std::size_t room = 128;
    int chunk = 32;
    std::int64_t deadline_ns = 0, now = 0;
};

Scored classify(const Case& c, engine::Engine& engine = *model().engine) {
    std::vector<std::int32_t> tokens(c.room);
    std::vector<char> text(8192);
    std::vector<text::Trusted> trusted(64);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(8192));
    std::vector<task::Label> labels;
    for (const std::string& l : c.labels) labels.push_back({l, c.priors.empty() ? 1 : c.priors[labels.size()]});
    std::vector<engine::TreeNode> nodes(task::Classification::max_nodes);
    const text::Message message{text::Role::user, c.prompt};
    task::Classification job;
    Scored run;
    const auto fails = [&](const Error& e) {
        run.error = e.code;
        run.text = e.text;
        return run;
    };
    const auto opened =
        job.open(*model().tokenizer, *model().chat, {&message, 1}, {.raw = c.raw, .deadline_ns = c.deadline_ns}, labels,
                 nodes, tokens, {text, trusted, scratch});
    if (!opened) return fails(opened.error());
    const std::atomic<bool> never{false};
    for (;; run.passes++) {
        engine::Engine::Step step;
        const auto more = job.ask(0, c.chunk, never, c.now, step);
        if (!more) return fails(more.error());
        if (!more.value()) break;
        const auto passed = engine.advance({&step, 1});
        if (!passed) return fails(passed.error());
        job.take(step);
    }
    run.finish = job.finish();
    run.prompt_tokens = job.prompt_tokens();
    for (const engine::TreeNode& n : job.tree().nodes) run.skipped += n.skipped;
    for (const task::Label& l : job.labels()) run.probabilities.push_back(l.probability);
    run.features = job.features();
    const task::Label* best[4];
    const int n = job.best(best);
    for (int i = 0; i < n; i++) run.best.emplace_back(best[i]->text);
    return run;
}

std::vector<std::int32_t> encode(const std::string& s) {
    std::vector<std::int32_t> tokens(1024);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(s.size()));
    tokens.resize(model().tokenizer->encode(s, {}, false, tokens, scratch).value());
    return tokens;
}

// The definition, by plain sequences: of each label the product over its tokens of the softmax among what goes on
// there.
std::vector<double> by_definition(const Case& c) {
    std::vector<std::int32_t> prompt(1024);
    std::vector<char> text(8192);
    std::vector<text::Trusted> trusted(64);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(8192));
    const text::Message message{text::Role::user, c.prompt};
    prompt.resize(static_cast<std::size_t>(
        task::encode_prompt(*model().tokenizer, *model().chat, {&message, 1}, c.raw, prompt, {text, trusted, scratch})
            .value()
            .tokens));
    std::int32_t ends[8];
    const std::size_t end_count = model().tokenizer->ends(ends);
    EXPECT_GT(end_count, 0u);
    std::map<std::vector<std::int32_t>, std::set<std::int32_t>> next;  // by what was written so far; -1: the end
    for (const std::string& label : c.labels) {
        std::vector<std::int32_t> so_far;
        for (const std::int32_t t : encode(label)) next[so_far].insert(t), so_far.push_back(t);
        next[so_far].insert(-1);
    }
    const std::atomic<bool> never{false};
    std::vector<double> probabilities;
    for (const std::string& label : c.labels) {
        double p = c.priors.empty() ? 1 : static_cast<double>(c.priors[probabilities.size()]);
        std::vector<std::int32_t> so_far, all = encode(label);
        all.push_back(-1);
        for (const std::int32_t t : all) {
            const auto& among = next[so_far];
            if (among.size() > 1) {
                auto sequence = prompt;
                sequence.insert(sequence.end(), so_far.begin(), so_far.end());
                auto r = model().plain->advance(0, sequence, 1000, never);
                EXPECT_TRUE(r);
                const auto weight = [&](std::int32_t token) {
                    if (token >= 0) return std::exp(static_cast<double>(r->logits[static_cast<std::size_t>(token)]));
                    double sum = 0;
                    for (std::size_t i = 0; i < end_count; i++)
                        sum += std::exp(static_cast<double>(r->logits[static_cast<std::size_t>(ends[i])]));
                    return sum;
                };
                double total = 0;
                for (const std::int32_t other : among) total += weight(other);
                p *= weight(t) / total;
            }
            so_far.push_back(t);
        }
        probabilities.push_back(p);
    }
    const double total = std::accumulate(probabilities.begin(), probabilities.end(), 0.0);
    if (c.priors.empty()) {
        EXPECT_NEAR(total, 1, 1e-9);
    }
    for (double& p : probabilities) p /= total;
    return probabilities;
}

const Labels cities = {"Paris",  "Rome",        "Paris is the capital", "Paris is",
                       "Madrid", "The capital", "The capital of Italy", "Par"};

TEST(Classification, ProbabilitiesAreThoseOfTheDefinition) {
    for (const bool raw : {false, true})
        for (const auto& priors : {std::vector<float>{}, std::vector<float>{1, 2, 0.5f, 1, 100, 1, 3, 0.25f}})
            for (const char* prompt : {"What is the capital of France?", "What is 3 plus 4?", "x"}) {
                const Case c{.prompt = prompt, .labels = cities, .priors = priors, .raw = raw};
                const auto expected = by_definition(c);
                const Scored run = classify(c);
                ASSERT_EQ(run.finish, task::Finish::stop) << run.text;
                ASSERT_EQ(run.probabilities.size(), expected.size());
                double sum = 0;
                for (std::size_t i = 0; i < expected.size(); i++) {
                    EXPECT_NEAR(static_cast<double>(run.probabilities[i]), expected[i], 2e-6) << c.labels[i];
                    sum += static_cast<double>(run.probabilities[i]);
                }
                EXPECT_NEAR(sum, 1, 1e-5);
                double entropy = 0;
                for (const double p : expected) entropy -= p * std::log(p);
                std::vector<double> sorted = expected;
                std::sort(sorted.rbegin(), sorted.rend());
                EXPECT_NEAR(run.features.min, sorted[0], 2e-6);
                EXPECT_EQ(run.features.mean, run.features.min);
                EXPECT_NEAR(run.features.margin, sorted[0] - sorted[1], 4e-6);
                EXPECT_NEAR(run.features.entropy, std::exp(-entropy), 1e-5);
            }
}

// Many rows behind the prompt: what is unlikely from its first token on is not told apart.
Labels cities_and_more() {
    Labels labels;
    for (const char* const city : {"Paris", "Rome", "Madrid", "London", "Berlin", "Vienna", "Lisbon"})
        for (const char* const more : {"", " is", " is the capital", " is a city", ", of course"})
            labels.push_back(std::string(city) + more);
    return labels;
}

TEST(Classification, WhatIsUnlikelyIsNotToldApart) {
    for (const auto& priors : {std::vector<float>{}, std::vector<float>(35, 2)})
        for (const char* const prompt : {"What is the capital of France?", "What is the capital of Italy?", "x"}) {
            const Case c{.prompt = prompt, .labels = cities_and_more(), .priors = priors};
            const auto expected = by_definition(c);
            const Scored run = classify(c);
            ASSERT_EQ(run.finish, task::Finish::stop) << run.text;
            EXPECT_GE(run.passes, 2);
            if (prompt[0] != 'x') {
                EXPECT_GE(run.skipped, 1) << prompt;
            }
            double sum = 0;
            for (std::size_t i = 0; i < expected.size(); i++) {
                EXPECT_NEAR(static_cast<double>(run.probabilities[i]), expected[i], task::Classification::negligible);
                sum += static_cast<double>(run.probabilities[i]);
            }
            EXPECT_NEAR(sum, 1, 1e-5);
            const auto first = std::max_element(expected.begin(), expected.end()) - expected.begin();
            EXPECT_EQ(run.best[0], c.labels[static_cast<std::size_t>(first)]);
        }
    // What is rare by its first token may be frequent by its prior.
    std::vector<float> priors(35, 1);
    priors[34] = 1e6f;
    const Case c{.labels = cities_and_more(), .priors = priors};
    const auto expected = by_definition(c);
    const Scored run = classify(c);
    EXPECT_EQ(run.skipped, 0);
    for (std::size_t i = 0; i < expected.size(); i++)
        EXPECT_NEAR(static_cast<double>(run.probabilities[i]), expected[i], 2e-6);
}

TEST(Classification, TheModelKnowsTheCapital) {
    Labels answers;
    for (const char* city : {"Rome", "Madrid", "Paris", "Berlin"})
        answers.push_back(std::string("The capital of France is ") + city + ".");
    const Scored run = classify({.labels = answers});
    ASSERT_EQ(run.best.size(), 4u);
    EXPECT_EQ(run.best[0], answers[2]);
    EXPECT_GT(run.probabilities[2], 0.9f);
    // A prior counts.
    EXPECT_EQ(classify({.labels = answers, .priors = {1, 1, 1e-30f, 1}}).best.back(), answers[2]);
}

TEST(Classification, IsTheSameForEveryBatchAndThreadCount) {
    const Case whole{.labels = cities}, many{.labels = cities_and_more()};
    const Scored expected = classify(whole), of_many = classify(many);
    for (const int threads : {1, 2})
        for (const int batch : {1, 3, 32, 128}) {
            auto opened = engine::Engine::open(*model().image, {.context = 128, .threads = threads, .batch = batch});
            ASSERT_TRUE(opened);
            const std::unique_ptr<engine::Engine> engine(opened.value());
            for (const int chunk : {2, 1000}) {
                Case c = whole;
                c.chunk = chunk;
                EXPECT_EQ(classify(c, *engine).probabilities, expected.probabilities)
                    << threads << ' ' << batch << ' ' << chunk;
                c = many;
                c.chunk = chunk;
                EXPECT_EQ(classify(c, *engine).probabilities, of_many.probabilities)
                    << threads << ' ' << batch << ' ' << chunk;
            }
        }
}

TEST(Classification, ManyLabelsCostNoPassBesideThePrompt) {
    Labels labels;
    for (int i = 0; i < 20; i++)
        labels.push_back(std::string(1, static_cast<char>('A' + i)) + " and no more than that");
    const Scored run = classify({.prompt = "?", .labels = labels});
    EXPECT_EQ(run.passes, 1) << run.prompt_tokens;
    EXPECT_LT(run.prompt_tokens, 32);
}

TEST(Classification, AsManyAsItTakes) {
    Labels labels;
    for (int i = 0; i < task::Classification::max_labels; i++) labels.push_back("l" + std::to_string(i));
    const Scored run = classify({.labels = labels});
    EXPECT_EQ(run.finish, task::Finish::stop) << run.text;
    EXPECT_NEAR(std::accumulate(run.probabilities.begin(), run.probabilities.end(), 0.0), 1, 1e-4);
    for (std::size_t i = 1; i < run.best.size(); i++) EXPECT_NE(run.best[i], run.best[0]);
    labels.push_back("one more");
    EXPECT_EQ(classify({.labels = labels}).error, Code::incorrect_parameters);
}

TEST(Classification, RefusalsNameTheLabel) {
    const auto refused = [](const Case& c, Code code, const char* part) {
        const Scored run = classify(c);
        EXPECT_EQ(run.error, code) << run.text;
        EXPECT_NE(run.text.find(part), std::string::npos) << run.text;
    };
    refused({.labels = {"one"}}, Code::incorrect_parameters, "1 labels: 2 to 512");
    refused({.labels = {}}, Code::incorrect_parameters, "2 to 512");
    refused({.labels = {"one", ""}}, Code::incorrect_parameters, "label 2 has no tokens");
    refused({.labels = {"one", "two", "one"}}, Code::incorrect_parameters, "label 3, \"one\": label 1 has the same");
    refused({.labels = {"a", "!@#$%^&*()!@#$%^&*()!@#$%^&*()!@#$%^&*()!@#$%^&*()"}}, Code::incorrect_parameters,
            "has more than 32 tokens");
    refused({.labels = {"a", "b"}, .priors = {1, 0}}, Code::incorrect_parameters, "prior of label 2");
    refused({.labels = {"a", "b"}, .priors = {NAN, 1}}, Code::incorrect_parameters, "prior of label 1");
    refused({.prompt = std::string(400, 'z'), .labels = {"a", "b"}}, Code::context_full,
            "more tokens than the context");
    const Scored fits = classify({.labels = {"a", "b"}});
    refused({.labels = {"a", "Xylophones! Zzyzx?"}, .room = static_cast<std::size_t>(fits.prompt_tokens) + 2},
            Code::context_full, "label 2, \"Xylophones! Zzyzx?\", does not fit");
    // What differs is bounded too.
    Labels labels;
    for (int i = 0; i < 500; i++) labels.push_back(std::to_string(i * 7919) + " !@#$%^&*()" + std::to_string(i));
    refused({.labels = labels}, Code::incorrect_parameters, "more than 3072 tokens that differ");
}

TEST(Classification, DeadlineAndCancel) {
    EXPECT_EQ(classify({.labels = cities, .deadline_ns = 5, .now = 5}).error, Code::deadline);
    EXPECT_EQ(classify({.labels = cities, .deadline_ns = 5, .now = 4}).finish, task::Finish::stop);
    task::Classification job;
    std::vector<std::int32_t> tokens(128);
    std::vector<char> text(4096);
    std::vector<text::Trusted> trusted(64);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(4096));
    std::vector<task::Label> labels{{"a"}, {"b"}};
    std::vector<engine::TreeNode> nodes(64);
    const text::Message message{text::Role::user, "x"};
    ASSERT_TRUE(job.open(*model().tokenizer, *model().chat, {&message, 1}, {}, labels, nodes, tokens,
                         {text, trusted, scratch}));
    const std::atomic<bool> cancel{true};
    engine::Engine::Step step;
    auto more = job.ask(0, 32, cancel, 0, step);
    ASSERT_TRUE(more && more.value());
    ASSERT_TRUE(model().engine->advance({&step, 1}));
    EXPECT_TRUE(job.take(step));
    EXPECT_EQ(job.finish(), task::Finish::cancelled);
    more = job.ask(0, 32, cancel, 0, step);
    EXPECT_TRUE(more && !more.value());
}

}  // namespace
