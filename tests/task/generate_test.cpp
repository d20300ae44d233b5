// A generation piece by piece on models/tiny: a bias of 1000 forces the next token, so that every case is exact.
#include "task/generate.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <memory>
#include <string>
#include <vector>

#include "tests/task/stand_in.h"
#include "tests/task/tiny.h"

using namespace slmd;
using test::model;

namespace {

struct Collect final : task::TextSink {
    std::string text;
    std::vector<std::string> pieces;
    void append(std::string_view s) override {
        text += s;
        pieces.emplace_back(s);
    }
};

// The token whose text is exactly `bytes`.
std::int32_t token_of(std::string_view bytes) {
    for (std::int32_t i = 0; i < model().tokenizer->vocab(); i++)
        if (model().tokenizer->piece(i) == bytes) return i;
    ADD_FAILURE() << "no token for " << bytes;
    return -1;
}

struct Outcome {
    Collect sink;
    task::Finish finish = task::Finish::none;
    int tokens = 0, guessed = 0, passes = 0;
    Code error{};
    Features features;
    float probability = 0;
    std::vector<std::int32_t> written;  // prompt and answer
    int prompt_tokens = 0;
};

Outcome generate(const std::string& prompt, task::GenerateOptions options, std::int64_t now = 0, std::size_t room = 128,
                 engine::Engine& engine = *model().engine, engine::Engine* drafter = nullptr) {
    std::vector<std::int32_t> tokens(room);
    std::vector<char> text(4096);
    std::vector<text::Trusted> trusted(64);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(4096));
    const text::Message message{text::Role::user, prompt};
    task::Generation g;
    Outcome run;
    if (auto r = g.open(*model().tokenizer, *model().chat, {&message, 1}, options, tokens, {text, trusted, scratch});
        !r) {
        run.error = r.error().code;
        return run;
    }
    const std::atomic<bool> never{false};
    for (;;) {
        engine::Engine::Step step;
        auto more = g.ask(0, 32, never, now, drafter, step, run.sink);
        if (more && !*more) break;
        auto passed = more ? engine.advance({&step, 1}) : Result<void>(more.error());
        run.passes += !step.guessed;
        auto done = passed ? g.take(step, run.sink) : Result<bool>(passed.error());
        if (!done) {
            run.error = done.error().code;
            return run;
        }
        if (*done) break;
    }
    run.finish = g.finish();
    run.tokens = g.answer_tokens();
    run.guessed = g.guessed_tokens();
    run.features = g.features();
    run.probability = g.probability();
    run.written.assign(g.tokens().begin(), g.tokens().end());
    run.prompt_tokens = g.prompt_tokens();
    return run;
}

constexpr std::int32_t the_end = -1;  // the most probable of the tokens that end an answer

// The features that tokens have by definition, each drawn from what the model says behind those before it, or from
// those `among` it.
Features by_definition(std::span<const std::int32_t> before, std::span<const std::int32_t> drawn,
                       std::vector<std::int32_t> among = {}) {
    std::vector<std::int32_t> tokens(before.begin(), before.end());
    const std::atomic<bool> never{false};
    double least = 1, logs = 0, margins = 0, entropies = 0;
    if (among.empty())
        for (std::int32_t t = 0; t < model().tokenizer->vocab(); t++) among.push_back(t);
    for (std::int32_t token : drawn) {
        auto r = model().plain->advance(0, tokens, 1000, never);
        EXPECT_TRUE(r);
        if (token == the_end) {
            std::int32_t ends[8];
            token = *std::max_element(ends, ends + model().tokenizer->ends(ends), [&](std::int32_t a, std::int32_t b) {
                return r->logits[static_cast<std::size_t>(a)] < r->logits[static_cast<std::size_t>(b)];
            });
        }
        const auto weight = [&](std::int32_t t) {
            return std::exp(static_cast<double>(r->logits[static_cast<std::size_t>(t)]));
        };
        double total = 0, entropy = 0;
        std::vector<double> p;
        for (const std::int32_t t : among) total += weight(t);
        for (const std::int32_t t : among) p.push_back(weight(t) / total);
        for (const double x : p) entropy -= x * std::log(x);
        std::sort(p.rbegin(), p.rend());
        least = std::min(least, weight(token) / total);
        logs += std::log(weight(token) / total);
        margins += p[0] - p[1];
        entropies += entropy;
        tokens.push_back(token);
    }
    const auto n = static_cast<double>(drawn.size());
    return {.min = static_cast<float>(least),
            .mean = static_cast<float>(std::exp(logs / n)),
            .margin = static_cast<float>(margins / n),
            .entropy = static_cast<float>(std::exp(-entropies / n))};
}

void expect_near(const Features& a, const Features& b) {
    EXPECT_NEAR(a.min, b.min, 1e-5);
    EXPECT_NEAR(a.mean, b.mean, 1e-5);
    EXPECT_NEAR(a.margin, b.margin, 1e-5);
    EXPECT_NEAR(a.entropy, b.entropy, 1e-5);
}

TEST(Generation, FeaturesAreThoseOfTheDrawnTokens) {
    for (const float temperature : {0.0f, 1.5f})
        for (const char* prompt : {"What is the capital of France?", "the pump is on the pump is on the pump is"}) {
            task::GenerateOptions options;
            options.max_tokens = 20;
            options.sampler.temperature = temperature;
            options.sampler.seed = 3;
            const Outcome r = generate(prompt, options);
            const auto split = static_cast<std::size_t>(r.prompt_tokens);
            const std::span<const std::int32_t> all = r.written;
            std::vector<std::int32_t> drawn(all.begin() + r.prompt_tokens, all.end());
            if (r.finish == task::Finish::stop) drawn.push_back(the_end);  // it was drawn too
            ASSERT_GT(drawn.size(), 3u);
            expect_near(r.features, by_definition(all.first(split), drawn));
            EXPECT_LT(r.features.min, r.features.mean);
            EXPECT_LE(r.features.mean, r.probability);  // geometric and arithmetic mean
        }
}

// A constraint with its memory.
class Bound {
  public:
    explicit Bound(std::string regex) {
        Arena counting;
        lay_out(counting);
        block_.resize(counting.used() + Arena::align);
        Arena arena(block_);
        lay_out(arena);
        task::build(*model().tokenizer, vocabulary_);
        std::vector<std::byte> scratch(task::Constraint::scratch_bytes);
        const auto opened = constraint.open(task::Constraint::Kind::regex, regex, {}, scratch);
        EXPECT_TRUE(opened) << opened.error().text;
    }
    task::Constraint constraint;

  private:
    void lay_out(Arena& arena) {
        vocabulary_.lay_out(arena, model().tokenizer->vocab());
        constraint.lay_out(arena, vocabulary_);
    }
    grammar::Vocabulary vocabulary_;
    std::vector<std::byte> block_;
};

TEST(Generation, FeaturesUnderAConstraintAreOfWhatItAllows) {
    const auto bound = [](const char* regex, float temperature = 0) {
        Bound b(regex);
        task::GenerateOptions options;
        options.sampler.temperature = temperature;
        options.sampler.seed = 5;
        options.constraint = &b.constraint;
        return generate("What is the capital of France?", options);
    };
    // Few: only what is allowed is computed. Nothing else is drawn, not even the end.
    const Outcome few = bound("[ABQ]");
    ASSERT_EQ(few.sink.text.size(), 1u);
    const std::span<const std::int32_t> prompt =
        std::span(few.written).first(static_cast<std::size_t>(few.prompt_tokens));
    expect_near(few.features,
                by_definition(prompt, std::span(few.written).last(1), {token_of("A"), token_of("B"), token_of("Q")}));
    EXPECT_LT(few.features.margin, few.features.min);
    // Many, and the model's first choice is not among them.
    const Outcome many = bound("[^T]{2}[^.]*[.]");
    const Outcome free = generate("What is the capital of France?", {});
    ASSERT_EQ(free.sink.text[0], 'T');
    EXPECT_GT(many.features.min, 0);
    EXPECT_LT(many.features.margin, 1);
    // What is forced is not drawn.
    const Outcome forced = bound("abcde");
    EXPECT_EQ(forced.sink.text, "abcde");
    EXPECT_EQ(forced.features, Features{});
}

// What is forced ends before a token that the model would write whole: here "Wh", of "What".
TEST(Generation, WhatIsForcedLeavesTheLastTokenToTheModel) {
    ASSERT_GT(token_of("Wh"), 0);
    const engine::Bias whole{token_of("What"), 1000};
    for (const char* const regex : {"Wh(at|y)", "(What|Why) end"}) {
        Bound b(regex);
        task::GenerateOptions options;
        options.constraint = &b.constraint;
        options.sampler.bias = {&whole, 1};
        const Outcome r = generate("x", options);
        ASSERT_GT(r.written.size(), static_cast<std::size_t>(r.prompt_tokens));
        EXPECT_EQ(r.written[static_cast<std::size_t>(r.prompt_tokens)], token_of("What")) << regex;
        EXPECT_EQ(r.sink.text, regex[0] == 'W' ? "What" : "What end");
    }
}

// The last token of what is forced is drawn, but computed together with what comes before it: where the model draws
// it, what follows it is known in the same pass.
TEST(Generation, WhatIsForcedIsComputedBeforeItIsDrawn) {
    const engine::Bias begun{token_of("Wh"), 1000};
    for (const auto& [engine, guessed] : {std::pair(model().engine.get(), 1), {model().plain.get(), 0}}) {
        Bound b("Wh(at|y)");
        task::GenerateOptions options;
        options.constraint = &b.constraint;
        options.sampler.bias = {&begun, 1};
        const Outcome r = generate("x", options, 0, 128, *engine);
        ASSERT_GT(r.written.size(), static_cast<std::size_t>(r.prompt_tokens));
        EXPECT_EQ(r.written[static_cast<std::size_t>(r.prompt_tokens)], token_of("Wh"));
        EXPECT_TRUE(r.sink.text == "What" || r.sink.text == "Why") << r.sink.text;
        EXPECT_EQ(r.guessed, guessed);
        EXPECT_EQ(r.passes, 2 - guessed);
    }
}

// A value that stands in the prompt is guessed from its first token on, with the blank before it or without.
TEST(Generation, ValuesAreLookedForInThePrompt) {
    const std::string text = "{\"of\":\"capital of France\"}";
    const char* const regex = "\\{\"of\":\"[a-zA-Z ]+\"\\}";
    const auto told = [&](const char* prompt) {
        Bound b(regex);
        Collect said;
        auto made = test::write(*model().tokenizer, b.constraint, text, prompt, 8, said);
        EXPECT_TRUE(made) << made.error().text;
        EXPECT_EQ(said.text, text);
        return made ? *made : test::Written{};
    };
    const test::Written there = told("What is the capital of France?"), beginning = told("capital of France?"),
                        nowhere = told("What?");
    EXPECT_EQ(nowhere.right, 0);
    EXPECT_GT(there.right, 1);  // fewer than the other: behind a blank the word has other tokens
    EXPECT_EQ(there.passes, nowhere.passes - there.right);
    EXPECT_GT(beginning.right, there.right);
    EXPECT_EQ(beginning.passes, nowhere.passes - beginning.right);
}

// Also under a constraint, where a guess may reach from where much is allowed to where little is.
TEST(Generation, GuessesChangeNoBoundAnswer) {
    int guessed = 0;
    auto drafter = engine::Engine::open(*model().image, {.context = 128, .threads = 1, .draft = 0, .with = nullptr});
    ASSERT_TRUE(drafter);
    const std::unique_ptr<engine::Engine> owner(*drafter);
    for (const float temperature : {0.0f, 0.7f, 1.5f})
        for (const std::uint64_t seed : {1, 2, 3, 4}) {
            const std::string regex = "([^#]{5}[a-z .]{7})*";
            task::GenerateOptions options;
            options.max_tokens = 60;
            options.sampler.temperature = temperature;
            options.sampler.seed = seed;
            Bound with(regex), without(regex);
            options.constraint = &with.constraint;
            const Outcome a = generate("What is the capital of France?", options, 0, 128, *model().engine, *drafter);
            options.constraint = &without.constraint;
            const Outcome b = generate("What is the capital of France?", options, 0, 128, *model().plain);
            EXPECT_EQ(a.sink.text, b.sink.text) << temperature << " seed " << seed;
            EXPECT_EQ(a.features, b.features) << temperature << " seed " << seed;
            guessed += a.guessed;
        }
    EXPECT_GT(guessed, 20);
}

task::GenerateOptions forced(const engine::Bias& bias, int max) {
    task::GenerateOptions o;
    o.raw = true;
    o.max_tokens = max;
    o.sampler.bias = {&bias, 1};
    return o;
}

// The model itself as its drafter guesses everything right, drawn or greedy; one that was cut down, or none, changes
// nothing but the number of passes.
TEST(Generation, GuessesChangeNoAnswer) {
    int looked_up = 0, drafted = 0, tokens = 0;
    auto drafter = engine::Engine::open(*model().image, {.context = 128, .threads = 1, .draft = 0, .with = nullptr});
    ASSERT_TRUE(drafter);
    const std::unique_ptr<engine::Engine> owner(*drafter);
    for (const float temperature : {0.0f, 0.7f, 1.5f})
        for (const char* prompt : {"the pump is on the pump is on the pump is", "one two three one two three one two",
                                   "What is the capital of France?"}) {
            task::GenerateOptions options;
            options.raw = true;
            options.max_tokens = 60;
            options.sampler.temperature = temperature;
            options.sampler.seed = 7;
            const Outcome with = generate(prompt, options), without = generate(prompt, options, 0, 128, *model().plain),
                          draft = generate(prompt, options, 0, 128, *model().engine, *drafter);
            for (const Outcome* o : {&with, &draft}) {
                EXPECT_EQ(o->sink.text, without.sink.text) << prompt << " at " << temperature;
                EXPECT_EQ(o->tokens, without.tokens);
                EXPECT_EQ(o->finish, without.finish);
                EXPECT_EQ(o->features, without.features);
            }
            EXPECT_EQ(without.guessed, 0);
            looked_up += with.guessed;
            drafted += draft.guessed;
            tokens += without.tokens;
        }
    EXPECT_GT(looked_up, 5);
    // Three of four tokens at best, fewer where prompt lookup came first and was wrong.
    EXPECT_GT(drafted, tokens / 2);
}

TEST(Generation, AnswersAndStopsAtTheEndOfTheTurn) {
    const Outcome r = generate("What is the capital of France?", {});
    EXPECT_EQ(r.sink.text, "The capital of France is Paris.");
    EXPECT_EQ(r.finish, task::Finish::stop);
    task::GenerateOptions two;
    two.max_tokens = 2;
    const Outcome cut = generate("What is the capital of France?", two);
    EXPECT_EQ(cut.finish, task::Finish::length);
    EXPECT_EQ(cut.tokens, 2);
    EXPECT_EQ(r.sink.text.find(cut.sink.text), 0u);
}

TEST(Generation, StopTextAcrossTokensIsHeldBackAndCut) {
    const engine::Bias a{token_of("a"), 1000};
    EXPECT_EQ(generate("x", forced(a, 5)).sink.text, "aaaaa");
    const std::string_view stops[] = {"aaa"};
    auto o = forced(a, 10);
    o.stop = stops;
    const Outcome r = generate("x", o);
    EXPECT_EQ(r.sink.text, "");
    EXPECT_EQ(r.finish, task::Finish::stop);
    EXPECT_EQ(r.tokens, 3);
    // What could have become a stop text is text after all when the answer ends first.
    const std::string_view never_comes[] = {"aab"};
    o.stop = never_comes;
    EXPECT_EQ(generate("x", o).sink.text, "aaaaaaaaaa");
}

TEST(Generation, HalfACharacterNeverLeaves) {
    // 0xC3 starts a character of two bytes; alone it is malformed and becomes U+FFFD, never a lone byte.
    const Outcome r = generate("x", forced({token_of("\xC3"), 1000}, 4));
    EXPECT_EQ(r.finish, task::Finish::length);
    EXPECT_EQ(r.sink.text, "\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD\xEF\xBF\xBD");
    for (const auto& piece : r.sink.pieces) EXPECT_EQ(piece.size() % 3, 0u) << "a piece ends inside a character";
}

TEST(Generation, RefusesWhatDoesNotFit) {
    EXPECT_EQ(generate(std::string(3000, 'x'), {}).error, Code::context_full);
    EXPECT_EQ(generate("x", forced({100000, 1}, 4)).error, Code::incorrect_parameters);
    task::GenerateOptions late;
    late.deadline_ns = 5;
    EXPECT_EQ(generate("x", late, 6).error, Code::deadline);
    const std::string_view empty_stop[] = {""};
    task::GenerateOptions stop;
    stop.stop = empty_stop;
    EXPECT_EQ(generate("x", stop).error, Code::text_too_long);
}

TEST(Generation, TheContextIsTheLastLimit) {
    const Outcome r = generate("x", forced({token_of("a"), 1000}, 1000), 0, 20);
    EXPECT_EQ(r.finish, task::Finish::length);
    EXPECT_LE(r.tokens, 20);
    EXPECT_GT(r.tokens, 10);
}

}  // namespace
