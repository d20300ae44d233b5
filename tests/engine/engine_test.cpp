// The engine's contract on a small random model: one answer, prefix reuse, slots, cancel, the plan, refusals.
#include "engine/engine.h"

#include <fcntl.h>
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <limits>
#include <memory>
#include <random>

#include "base/bytes.h"
#include "compute/kernels.h"
#include "engine/exp.h"
#include "engine/sampler.h"
#include "image/layers.h"
#include "image/rows.h"
#include "image/stored.h"
#include "tests/engine/tiny_model.h"

using namespace slmd;
using engine::Config;
using engine::Engine;

using test::tokens_of;

namespace {

const std::atomic<bool> never{false};

const image::Image& tiny_image() {
    static const auto image = test::open_image(test::TinyModel());
    return *image;
}

std::unique_ptr<Engine> make(Config c) {
    auto e = Engine::open(tiny_image(), c);
    EXPECT_TRUE(e) << (e ? "" : e.error().what());
    return std::unique_ptr<Engine>(e.value());
}

// FNV-1a over the bits of the logits of every position.
std::uint64_t hash(Engine& e, const std::vector<std::int32_t>& tokens, int batch) {
    std::uint64_t h = 1469598103934665603ull;
    auto sink = [](void* context, int, std::span<const float> logits) {
        auto& x = *static_cast<std::uint64_t*>(context);
        for (float f : logits) x = (x ^ load<std::uint32_t>(&f)) * 1099511628211ull;
    };
    EXPECT_TRUE(e.score(tokens, batch, sink, &h));
    return h;
}

std::vector<float> last_logits(Engine& e, int slot, const std::vector<std::int32_t>& tokens, int step = 1000) {
    for (;;) {
        auto p = e.advance(slot, tokens, step, never);
        EXPECT_TRUE(p) << (p ? "" : p.error().what());
        if (p->cached == p->total) return {p->logits.begin(), p->logits.end()};
        EXPECT_TRUE(p->logits.empty());
    }
}

// What a watchdog is fed by: layers, not passes, which may be long.
TEST(Engine, ProgressCountsLayers) {
    std::atomic<std::uint64_t> progress{0};
    auto e = make({.context = 128, .threads = 2, .batch = 8, .progress = &progress});
    const auto layers = tiny_image().params().layers;
    last_logits(*e, 0, tokens_of(8));
    EXPECT_EQ(progress.load(), layers);
    last_logits(*e, 0, tokens_of(40));  // 32 more: four passes
    EXPECT_EQ(progress.load(), 5 * layers);
}

// 300 tokens are more than two chunks of positions: few rows are then divided by chunks.
TEST(Engine, OneAnswerOnEveryLevelThreadCountAndBatch) {
    const auto tokens = tokens_of(300);
    // Pinned: the same constant on x86 and on ARM. It changes only when NUMERICS.md does.
    constexpr std::uint64_t expected = 14588443967101325774ull;
    for (auto level = compute::levels(); *level != nullptr; level++)
        for (auto [threads, batch] : {std::pair{1, 1}, {1, 32}, {2, 7}, {3, 32}, {4, 4}}) {
            if ((*level)->name == std::string("scalar") && batch < 32) continue;  // slow, and the others' measure
            auto e = make({.context = 512, .threads = threads, .batch = 32, .level = (*level)->name});
            EXPECT_EQ(hash(*e, tokens, batch), expected)
                << (*level)->name << " threads " << threads << " batch " << batch;
        }
}

TEST(Engine, AdvanceEqualsScoringInAnyPieces) {
    const auto tokens = tokens_of(100);
    auto e = make({.context = 128, .threads = 2, .batch = 16});
    std::vector<float> expected;
    auto sink = [](void* context, int position, std::span<const float> l) {
        if (position == 99) static_cast<std::vector<float>*>(context)->assign(l.begin(), l.end());
    };
    ASSERT_TRUE(e->score(tokens, 16, sink, &expected));
    for (float l : expected) ASSERT_TRUE(std::isfinite(l) && std::abs(l) < 1000);
    for (int step : {1, 5, 16, 1000}) {
        e->forget(0);
        EXPECT_EQ(last_logits(*e, 0, tokens, step), expected) << step;
    }
}

TEST(Engine, ASharedPrefixIsKeptAndGivesTheSameLogits) {
    auto e = make({.context = 128, .threads = 2}), other = make({.context = 128, .threads = 2});
    const auto fresh = [&](const std::vector<std::int32_t>& tokens) {
        other->forget(0);
        return last_logits(*other, 0, tokens);
    };
    auto a = tokens_of(80), b = a;
    b.resize(50);
    for (auto t : tokens_of(20, 9)) b.push_back(t);
    last_logits(*e, 0, a);
    auto first = e->advance(0, b, 1, never);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->cached, 51);
    EXPECT_EQ(last_logits(*e, 0, b), fresh(b));
    EXPECT_EQ(e->cached(0).size(), b.size());
    // A repeated prompt computes its last token again.
    EXPECT_EQ(last_logits(*e, 0, b), fresh(b));
    // A shorter prompt than what is cached.
    b.resize(30);
    EXPECT_EQ(last_logits(*e, 0, b), fresh(b));
}

TEST(Engine, APrefixOfAnotherSlotIsCopied) {
    auto e = make({.context = 128, .slots = 2, .threads = 2}), fresh = make({.context = 128});
    auto a = tokens_of(80), b = a;
    b.resize(61);
    for (auto t : tokens_of(20, 9)) b.push_back(t);
    const auto of_a = last_logits(*e, 0, a);
    auto first = e->advance(1, b, 1, never);
    ASSERT_TRUE(first);
    EXPECT_EQ(first->cached, 62);
    EXPECT_EQ(last_logits(*e, 1, b), last_logits(*fresh, 0, b));
    // The slot that was copied from has what it had.
    EXPECT_EQ(e->cached(0).size(), a.size());
    EXPECT_EQ(last_logits(*e, 0, a), of_a);
}

// Whatever is guessed, the logits are those of a run without guesses; right guesses need no pass of their own.
TEST(Engine, GuessesChangeNothing) {
    const auto tokens = tokens_of(90);
    const std::vector<std::int32_t> wrong = tokens_of(8, 5);
    auto plain = make({.context = 91, .draft = 0});
    std::vector<std::vector<float>> expected;
    const auto up_to = [&](int n) { return std::span(tokens).first(static_cast<std::size_t>(n)); };
    for (int n = 20; n <= 90; n++) {
        auto p = plain->advance(0, up_to(n), 1000, never, wrong);
        ASSERT_TRUE(p);
        EXPECT_EQ(p->drafted, 0);
        expected.emplace_back(p->logits.begin(), p->logits.end());
    }
    for (const int right : {0, 1, 3, 8}) {
        auto e = make({.context = 91, .slots = 2, .threads = 2, .draft = 3});
        int passes = 0;
        for (int n = 20; n <= 90; n++) {
            std::vector<std::int32_t> guess(tokens.begin() + n, tokens.begin() + std::min(90, n + right));
            guess.insert(guess.end(), wrong.begin(), wrong.end());
            auto p = e->advance(0, up_to(n), 1000, never, guess);
            ASSERT_TRUE(p) << p.error().what();
            EXPECT_EQ(p->cached, n);
            EXPECT_EQ(std::vector<float>(p->logits.begin(), p->logits.end()),
                      expected[static_cast<std::size_t>(n - 20)])
                << n << " with " << right;
            passes += !p->guessed;
            std::fill(p->logits.begin(), p->logits.end(), 0.0f);          // as a sampler may
            if (n % 30 == 0) last_logits(*e, 1, {tokens[0], tokens[1]});  // another session in between
        }
        // Of 71 tokens; the other session cost one pass or none each time.
        EXPECT_EQ(passes, right == 0 ? 71 : right == 1 ? 36 : 19);
    }
    const std::int32_t outside[] = {301};
    auto e = make({.context = 91});
    EXPECT_EQ(e->advance(0, up_to(20), 1000, never, outside).error().code, Code::incorrect_parameters);
}

// Sessions that share their passes, prompts beside answers, get what each gets alone, whoever guesses.
TEST(Engine, SessionsShareAPassAndGetTheSameLogits) {
    constexpr int sessions = 5, prompt = 37, end = 80;
    std::vector<std::vector<std::int32_t>> texts;
    std::vector<std::vector<float>> alone[sessions];
    auto single = make({.context = end, .draft = 0});
    for (int i = 0; i < sessions; i++) {
        texts.push_back(tokens_of(end, 20 + static_cast<unsigned>(i)));
        for (int n = prompt + i; n <= end; n++)
            alone[i].push_back(last_logits(*single, 0, {texts.back().begin(), texts.back().begin() + n}));
    }
    for (const int batch : {4, 32})
        for (const int threads : {1, 3}) {
            auto e = make({.context = end, .slots = sessions, .threads = threads, .batch = batch, .draft = 3});
            int length[sessions], passes = 0, shared = 0;
            for (int i = 0; i < sessions; i++) length[i] = prompt + i;
            for (;; passes++) {
                std::vector<Engine::Step> steps;
                for (int i = 0; i < sessions; i++) {
                    const int s = (i + passes) % sessions;        // as a server takes them in turn
                    if (length[s] > end || s > passes) continue;  // they begin one after the other
                    const std::span<const std::int32_t> text(texts[static_cast<std::size_t>(s)]);
                    const auto n = static_cast<std::size_t>(length[s]);
                    steps.push_back({.slot = s, .tokens = text.first(n)});
                    if (s == 2) steps.back().draft = text.subspan(n, std::min<std::size_t>(2, end - n));
                }
                if (steps.empty() && passes > sessions) break;
                auto done = e->advance(steps);
                ASSERT_TRUE(done) << done.error().what();
                int complete = 0;
                for (const Engine::Step& step : steps) {
                    ASSERT_EQ(step.logits.empty(), step.cached < length[step.slot]);
                    if (step.logits.empty()) continue;
                    complete++;
                    const auto& expected =
                        alone[step.slot][static_cast<std::size_t>(length[step.slot]++ - prompt - step.slot)];
                    ASSERT_TRUE(std::equal(expected.begin(), expected.end(), step.logits.begin()))
                        << "session " << step.slot << " at " << length[step.slot] - 1;
                }
                shared += complete > 1;
            }
            EXPECT_GT(shared, 20) << "batch " << batch;
        }
}

TEST(Engine, OnlyWhatAMaskAllowsIsComputed) {
    const auto tokens = tokens_of(40);
    for (const int threads : {1, 3}) {
        auto e = make({.context = 64, .slots = 2, .threads = threads});
        const auto all = last_logits(*e, 0, tokens);
        for (const int every : {1, 2, 7, 50, 301}) {
            std::vector<std::uint64_t> mask((all.size() + 63) / 64);
            for (std::size_t i = 3; i < all.size(); i += static_cast<std::size_t>(every))
                mask[i / 64] |= 1ull << i % 64;
            Engine::Step steps[] = {{.slot = 0, .tokens = tokens, .allowed = mask.data()},
                                    {.slot = 1, .tokens = tokens}};
            ASSERT_TRUE(e->advance(steps));
            for (std::size_t i = 0; i < all.size(); i++) {
                const bool allowed = (mask[i / 64] >> i % 64 & 1) != 0;
                ASSERT_EQ(steps[0].logits[i], allowed ? all[i] : -INFINITY) << i << " of every " << every;
                ASSERT_EQ(steps[1].logits[i], all[i]);
            }
        }
    }
}

TEST(Engine, ACancelledSessionDoesNotHoldUpAnother) {
    auto e = make({.context = 128, .slots = 2, .threads = 2});
    const auto a = tokens_of(20), b = tokens_of(30, 2);
    const std::atomic<bool> now{true};
    Engine::Step steps[] = {{.slot = 0, .tokens = a, .cancel = &now}, {.slot = 1, .tokens = std::span(b).first(10)}};
    ASSERT_TRUE(e->advance(steps));
    EXPECT_FALSE(steps[1].cancelled);
    EXPECT_EQ(steps[1].cached, 10);
    Engine::Step both[] = {{.slot = 0, .tokens = b, .cancel = &now}, {.slot = 1, .tokens = b, .cancel = &now}};
    ASSERT_TRUE(e->advance(both));
    EXPECT_TRUE(both[0].cancelled && both[1].cancelled);
    EXPECT_EQ(e->cached(1).size(), 10u);
    Engine::Step twice[] = {{.slot = 1, .tokens = a}, {.slot = 1, .tokens = b}};
    EXPECT_EQ(e->advance(twice).error().code, Code::invalid_index);
    EXPECT_EQ(e->cached(1).size(), 10u);
}

TEST(Engine, CancelKeepsWhatIsComplete) {
    auto e = make({.context = 128, .threads = 2, .batch = 8});
    const auto tokens = tokens_of(64);
    auto p = e->advance(0, tokens, 24, never);
    ASSERT_TRUE(p);
    EXPECT_EQ(p->cached, 24);
    const std::atomic<bool> now{true};
    auto cancelled = e->advance(0, tokens, 1000, now);
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Code::aborted);
    EXPECT_EQ(e->cached(0).size(), 24u);
    const auto resumed = last_logits(*e, 0, tokens);
    e->forget(0);
    EXPECT_EQ(last_logits(*e, 0, tokens), resumed);
}

TEST(Engine, RefusesWhatItCannotRun) {
    auto code = [](const Config& c) { return Engine::open(tiny_image(), c).error().code; };
    EXPECT_EQ(code({.context = 513}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 0}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .slots = 17}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .threads = 99}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .batch = 1000}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .draft = 9}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .threads = 2, .decode_threads = 3}), Code::incorrect_parameters);
    EXPECT_EQ(code({.context = 64, .level = "sse9"}), Code::incorrect_parameters);
    auto e = make({.context = 16});
    const auto tokens = tokens_of(17);
    EXPECT_EQ(e->advance(0, tokens, 100, never).error().code, Code::context_full);
    EXPECT_EQ(e->advance(1, tokens, 100, never).error().code, Code::invalid_index);
    const std::int32_t outside[] = {5, 301}, negative[] = {-1};
    EXPECT_EQ(e->advance(0, outside, 100, never).error().code, Code::incorrect_parameters);
    EXPECT_EQ(e->advance(0, negative, 100, never).error().code, Code::incorrect_parameters);
    EXPECT_EQ(e->advance(0, {}, 100, never).error().code, Code::incorrect_parameters);
}

TEST(Engine, RefusesImagesThatDoNotFitTheirFamily) {
    struct Case {
        const char* what;
        void (*change)(test::TinyModel&);
    } const cases[] = {
        {"flags 0x40", [](test::TinyModel& m) { m.contents.params.flags |= 64; }},
        {"blk.1.attn_sinks has no place", [](test::TinyModel& m) { m.vector("blk.1.attn_sinks", 16, 1); }},
        {"blk.9.attn_norm has no place", [](test::TinyModel& m) { m.vector("blk.9.attn_norm", 64, 1); }},
        {"residual_scale", [](test::TinyModel& m) { m.contents.params.residual_scale = -1; }},
        {"rope.inv_freq_local", [](test::TinyModel& m) { m.contents.params.rope_theta_local = 1e4f; }},
        {"heads", [](test::TinyModel& m) { m.contents.params.kv_heads = 3; }},
        {"dim", [](test::TinyModel& m) { m.contents.params.dim = 65; }},
        {"norm_eps", [](test::TinyModel& m) { m.contents.params.norm_eps = 0; }},
        {"blk.2.attn_q",
         [](test::TinyModel& m) {
             std::erase_if(m.contents.tensors, [](auto& t) { return t.name == "blk.2.attn_q"; });
         }},
        {"blk.0.ffn_gate", [](test::TinyModel& m) { m.contents.params.hidden = 180; }}};
    for (const auto& c : cases) {
        test::TinyModel model;
        c.change(model);
        const std::string path = testing::TempDir() + "slmd-misfit-" + std::to_string(getpid()) + ".slm";
        ASSERT_TRUE(pack::write_image(path, model.contents, {}));
        auto image = image::Image::open(path.c_str(), {});
        std::remove(path.c_str());
        ASSERT_TRUE(image) << c.what;
        auto e = Engine::open(*image, {.context = 64});
        ASSERT_FALSE(e) << c.what;
        EXPECT_NE(std::string(e.error().what()).find(c.what), std::string::npos) << e.error().what();
    }
}

TEST(Engine, ThePlanIsWhatIsUsed) {
    for (int slots : {1, 3}) {
        const Config c{.context = 200, .slots = slots, .threads = 2, .batch = 16};
        auto plan = engine::plan(tiny_image(), c);
        ASSERT_TRUE(plan);
        auto e = make(c);
        std::uint64_t arena = 0;
        for (int i = 0; i < plan->count; i++)
            if (std::string_view(plan->items[i].name) == "KV cache" ||
                std::string_view(plan->items[i].name) == "activations")
                arena += plan->items[i].bytes;
        EXPECT_EQ(arena, e->arena_bytes());
    }
}

// An image that is not wholly in memory, and the same wholly. The file stays: a part of it is read later.
struct Partly {
    std::string path = testing::TempDir() + "slmd-partly-" + std::to_string(getpid()) + ".slm";
    std::unique_ptr<image::Image> whole, part;
    Partly(image::Kind embedding, image::Residency residency) {
        test::TinyModel model(embedding);
        for (auto& t : model.contents.tensors)
            if (t.name == "token_embd") t.residency = image::residency_on_demand;
        EXPECT_TRUE(pack::write_image(path, model.contents, {}));
        const auto open = [&](image::Residency r) {
            auto image = image::Image::open(path.c_str(), {.residency = r});
            EXPECT_TRUE(image) << (image ? "" : image.error().what());
            return std::make_unique<image::Image>(std::move(image).value());
        };
        whole = open(image::Residency::whole);
        part = open(residency);
    }
    ~Partly() { std::remove(path.c_str()); }
};

std::unique_ptr<Engine> make(const image::Image& image, const Config& c) {
    auto e = Engine::open(image, c);
    EXPECT_TRUE(e) << (e ? "" : e.error().what());
    return std::unique_ptr<Engine>(e.value());
}

TEST(Engine, AnEmbeddingThatIsDecodedOnDemandGivesTheSameAnswer) {
    const auto tokens = tokens_of(150);
    for (const image::Kind kind : {image::Kind::i4, image::Kind::i4a, image::Kind::i6, image::Kind::i8}) {
        const Partly images(kind, image::Residency::on_demand);
        auto whole = make(*images.whole, {.context = 256, .threads = 2, .batch = 32});
        const std::uint64_t expected = hash(*whole, tokens, 32);
        for (auto [threads, batch] : {std::pair{1, 1}, {1, 32}, {3, 3}, {3, 32}}) {
            auto e = make(*images.part, {.context = 256, .threads = threads, .batch = 32});
            EXPECT_EQ(hash(*e, tokens, batch), expected) << threads << " threads, batch " << batch;
        }
        EXPECT_GT(images.part->rows()->decoded(), 0u);
    }
}

TEST(Engine, AnEmbeddingThatCannotBeReadIsAnErrorOfThatStep) {
    const Partly images(image::Kind::i8, image::Residency::on_demand);
    auto e = make(*images.part, {.context = 128, .slots = 2, .threads = 2, .batch = 16});
    auto whole = make(*images.whole, {.context = 128, .threads = 2, .batch = 16});
    const auto tokens = tokens_of(40);
    const std::uint64_t size = images.part->sizes().file;
    std::vector<char> bytes(size);
    FILE* const file = std::fopen(images.path.c_str(), "r+b");
    ASSERT_NE(file, nullptr);
    ASSERT_EQ(std::fread(bytes.data(), 1, size, file), size);
    ASSERT_EQ(ftruncate(fileno(file), 8), 0);
    const auto failed = e->advance(0, tokens, 1000, never);
    ASSERT_FALSE(failed);
    EXPECT_EQ(failed.error().code, Code::model_integrity);
    EXPECT_NE(std::string(failed.error().what()).find("token_embd codes"), std::string::npos) << failed.error().what();
    EXPECT_TRUE(e->cached(0).empty());
    std::rewind(file);
    ASSERT_EQ(std::fwrite(bytes.data(), 1, size, file), size);
    std::fclose(file);
    EXPECT_EQ(last_logits(*e, 0, tokens), last_logits(*whole, 0, tokens));
}

TEST(Engine, StreamedLayersGiveTheSameAnswer) {
    const auto tokens = tokens_of(150);
    const Partly images(image::Kind::i4, image::Residency::streamed);
    ASSERT_NE(images.part->layers(), nullptr);
    ASSERT_NE(images.part->rows(), nullptr);
    auto whole = make(*images.whole, {.context = 256, .threads = 2, .batch = 32});
    const std::uint64_t expected = hash(*whole, tokens, 32);
    for (auto [threads, batch] : {std::pair{1, 1}, {1, 32}, {3, 3}, {3, 32}}) {
        auto e = make(*images.part, {.context = 256, .threads = threads, .batch = 32});
        const std::uint64_t before = images.part->layers()->decoded();
        EXPECT_EQ(hash(*e, tokens, batch), expected) << threads << " threads, batch " << batch;
        EXPECT_GT(images.part->layers()->decoded() - before, static_cast<std::uint64_t>(150 / batch))
            << "nothing was read";
    }
    // Speculation and slots: passes that are only a part of a step.
    auto e = make(*images.part, {.context = 256, .slots = 2, .threads = 2, .batch = 16});
    auto same = make(*images.whole, {.context = 256, .slots = 2, .threads = 2, .batch = 16});
    for (const int slot : {0, 1})
        EXPECT_EQ(last_logits(*e, slot, tokens_of(40, 5 + static_cast<unsigned>(slot)), 7),
                  last_logits(*same, slot, tokens_of(40, 5 + static_cast<unsigned>(slot)), 7));
}

TEST(Engine, ALayerThatCannotBeReadIsAnErrorOfThatStep) {
    const Partly images(image::Kind::i8, image::Residency::streamed);
    auto e = make(*images.part, {.context = 128, .threads = 2, .batch = 16});
    auto whole = make(*images.whole, {.context = 128, .threads = 2, .batch = 16});
    const auto tokens = tokens_of(40);
    const std::span<const std::int32_t> first(tokens.data(), 16);
    ASSERT_TRUE(e->advance(0, first, 16, never));
    const auto whole_logits = last_logits(*whole, 0, tokens);
    // A frame of the last layer, in place.
    const auto stored =
        image::StoredFile::open(images.path.c_str(), open(images.path.c_str(), O_RDONLY), images.part->sizes().file);
    ASSERT_TRUE(stored);
    std::uint64_t at = 0;
    for (const auto& t : images.part->tensors())
        if (std::string_view(t.name) == "blk.2.ffn_up")
            at = stored.value().frames()[stored.value().frame_at(t.codes)].offset;
    ASSERT_NE(at, 0u);
    const int fd = open(images.path.c_str(), O_RDWR);
    char byte = 0;
    const auto flip = [&] {
        ASSERT_EQ(pread(fd, &byte, 1, static_cast<off_t>(at + 40)), 1);
        byte ^= 4;
        ASSERT_EQ(pwrite(fd, &byte, 1, static_cast<off_t>(at + 40)), 1);
    };
    flip();
    for (int i = 0; i < 2; i++) {
        const auto failed = e->advance(0, tokens, 1000, never);
        ASSERT_FALSE(failed);
        EXPECT_EQ(failed.error().code, Code::model_integrity);
        EXPECT_NE(std::string(failed.error().what()).find("blk.2.ffn_up codes): CRC mismatch"), std::string::npos)
            << failed.error().what();
        EXPECT_EQ(e->cached(0).size(), first.size()) << "the slot keeps what was complete";
    }
    flip();
    close(fd);
    EXPECT_EQ(last_logits(*e, 0, tokens), whole_logits);
}

TEST(Engine, APassOverStreamedLayersCanBeCancelled) {
    const Partly images(image::Kind::i8, image::Residency::streamed);
    auto e = make(*images.part, {.context = 128, .threads = 2, .batch = 16});
    auto whole = make(*images.whole, {.context = 128, .threads = 2, .batch = 16});
    const auto tokens = tokens_of(40);
    const std::atomic<bool> cancelled{true};
    const auto stopped = e->advance(0, tokens, 1000, cancelled);
    ASSERT_FALSE(stopped);
    EXPECT_EQ(stopped.error().code, Code::aborted);
    EXPECT_EQ(last_logits(*e, 0, tokens), last_logits(*whole, 0, tokens));
}

TEST(Engine, ThePlanHasWhatDecodesRows) {
    const Partly images(image::Kind::i8, image::Residency::on_demand);
    Config c{.context = 128, .threads = 1};
    const auto whole = engine::plan(*images.part, c);
    c.residency = image::Residency::on_demand;
    const auto part = engine::plan(*images.part, c);
    ASSERT_TRUE(whole);
    ASSERT_TRUE(part);
    ASSERT_STREQ(part.value().items[1].name, "embedding rows");
    const auto footprint = images.part->footprint(c.residency);
    EXPECT_EQ(part.value().items[0].bytes, footprint.resident);
    EXPECT_EQ(part.value().items[1].bytes, footprint.rows);
    EXPECT_EQ(part.value().count, whole.value().count + 1);
    c.residency = image::Residency::streamed;
    const auto streamed = engine::plan(*images.part, c);
    ASSERT_TRUE(streamed);
    ASSERT_STREQ(streamed.value().items[2].name, "streamed layers");
    EXPECT_EQ(streamed.value().items[2].bytes, images.part->footprint(c.residency).layers);
    EXPECT_LT(streamed.value().items[0].bytes, part.value().items[0].bytes);
}

TEST(Sampler, GreedyTakesTheLowestOfEquals) {
    engine::Sampler s;
    s.reset({});
    std::vector<float> l{0, 3, 3, 1};
    EXPECT_EQ(s.sample(l, {}), 1);
    EXPECT_NEAR(s.probability(), std::exp(3) / (1 + 2 * std::exp(3) + std::exp(1)), 1e-6);
}

TEST(Sampler, LeadAndEntropyAreThoseOfTheDistribution) {
    std::mt19937 random(1);
    std::normal_distribution<float> normal;
    constexpr float ruled_out = -std::numeric_limits<float>::infinity();
    for (const float spread : {0.0f, 0.1f, 1.0f, 4.0f, 30.0f})
        for (const std::size_t vocab : {1u, 2u, 7u, 1000u})
            for (const float temperature : {0.0f, 0.7f}) {
                std::vector<float> l(vocab);
                for (float& x : l) x = spread * normal(random);
                engine::Sampler s;
                s.reset({.temperature = temperature, .seed = 3});
                for (const bool again : {false, true}) {
                    if (again)
                        for (std::size_t i = 0; i < vocab; i += 2)
                            if (i + 1 < vocab) l[i] = ruled_out;
                    const std::int32_t token = again ? s.sample_again(l) : s.sample(l, {});
                    std::vector<double> p;
                    double total = 0, entropy = 0;
                    for (const float x : l) total += std::exp(static_cast<double>(x));
                    for (const float x : l) p.push_back(std::exp(static_cast<double>(x)) / total);
                    EXPECT_NEAR(s.probability(), p[static_cast<std::size_t>(token)], 1e-6);
                    for (const double x : p) entropy -= x > 0 ? x * std::log(x) : 0;
                    std::sort(p.rbegin(), p.rend());
                    EXPECT_NEAR(s.margin(), p[0] - (vocab > 1 ? p[1] : 0), 1e-6) << spread << ' ' << vocab;
                    EXPECT_NEAR(s.entropy(), entropy, 2e-6) << spread << ' ' << vocab;
                    EXPECT_GE(s.entropy(), 0);
                }
            }
}

TEST(Sampler, LogarithmIsTheLibrarys) {
    EXPECT_EQ(engine::log_of(1), 0);
    for (int i = -1021; i < 1023; i++)
        for (int j = 0; j < 200; j++) {
            const double x = std::ldexp(1 + j / 199.5, i), expected = std::log(x);
            ASSERT_NEAR(engine::log_of(x), expected, 1e-15 * std::max(1.0, std::abs(expected))) << x;
        }
}

TEST(Sampler, DrawsInProportion) {
    engine::Sampler s;
    s.reset({.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0, .seed = 5});
    int count[3] = {};
    for (int i = 0; i < 20000; i++) {
        std::vector<float> l{std::log(0.2f), std::log(0.3f), std::log(0.5f)};
        count[s.sample(l, {})]++;
    }
    EXPECT_NEAR(count[0] / 20000.0, 0.2, 0.015);
    EXPECT_NEAR(count[2] / 20000.0, 0.5, 0.015);
}

TEST(Sampler, FiltersAndPenaltyAndBiasAndSeed) {
    const std::vector<float> base{1.0f, 2.0f, 3.0f, 2.9f, -1.0f};
    auto draws = [&](engine::SamplerParams p, std::vector<std::int32_t> history = {}) {
        engine::Sampler s;
        s.reset(p);
        std::vector<std::int32_t> out;
        for (int i = 0; i < 300; i++) {
            auto l = base;
            out.push_back(s.sample(l, history));
        }
        return out;
    };
    auto distinct = [](std::vector<std::int32_t> v) {
        std::sort(v.begin(), v.end());
        v.erase(std::unique(v.begin(), v.end()), v.end());
        return v;
    };
    using V = std::vector<std::int32_t>;
    EXPECT_EQ(distinct(draws({.temperature = 1, .top_k = 2, .top_p = 1, .min_p = 0})), (V{2, 3}));
    EXPECT_EQ(distinct(draws({.temperature = 1, .top_k = 0, .top_p = 0.4f, .min_p = 0})), (V{2}));
    EXPECT_EQ(distinct(draws({.temperature = 1, .top_k = 0, .top_p = 1, .min_p = 0.3f})), (V{1, 2, 3}));
    EXPECT_EQ(distinct(draws({.repetition_penalty = 2}, {2, 2, 2})), (V{3}));
    EXPECT_EQ(distinct(draws({.repetition_penalty = 2, .penalty_window = 1}, {2, 3})), (V{2}));
    const engine::Bias bias[] = {{0, 10}, {99, 5}, {-1, 5}};
    EXPECT_EQ(distinct(draws({.bias = bias})), (V{0}));
    const engine::SamplerParams sampled{.temperature = 0.8f, .seed = 11};
    EXPECT_EQ(draws(sampled), draws(sampled));
    EXPECT_NE(draws(sampled), draws({.temperature = 0.8f, .seed = 12}));
}

}  // namespace
