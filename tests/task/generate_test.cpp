// A generation piece by piece on models/tiny: a bias of 1000 forces the next token, so that every case is exact.
#include "task/generate.h"

#include <gtest/gtest.h>

#include <memory>
#include <string>
#include <vector>

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
    int tokens = 0, guessed = 0;
    Code error{};
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
    return run;
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
