// Adapters on the engine: what they were fine-tuned to say, one answer however tokens are cut and whoever shares a
// pass, nothing of one under another, and what is refused.
#include "engine/adapter.h"

#include <gtest/gtest.h>
#include <malloc.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>

#include "base/bytes.h"
#include "base/sha256.h"
#include "compute/kernels.h"
#include "engine/engine.h"
#include "tests/engine/tiny_adapter.h"
#include "tests/pack/tiny.h"
#include "toolchain/slmpack/image/adapter.h"
#include "toolchain/slmpack/image/amend.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd {
using test::tokens_of;

namespace {

using engine::Engine;
using engine::no_adapter;
using image::Image;

const std::atomic<bool> never{false};

// ARM is emulated here: what more of the same would show the native build shows.
#ifdef __aarch64__
constexpr bool is_slow = true;
#else
constexpr bool is_slow = false;
#endif

std::string temporary(const std::string& name) {
    return testing::TempDir() + "slmd-adapter-" + std::to_string(getpid()) + "-" + name;
}

Image open_and_remove(const std::string& path) {
    auto opened = Image::open(path.c_str(), {});
    EXPECT_TRUE(opened) << (opened ? "" : opened.error().what());
    std::filesystem::remove(path);
    return std::move(opened).value();
}

const Image& base() {
    static const auto image = [] {
        const std::string path = temporary("base.slm");
        const test::TinyModel model;
        EXPECT_TRUE(pack::write_image(path, model.contents, {}));
        return std::make_unique<Image>(open_and_remove(path));
    }();
    return *image;
}

Image adapter_of(const Image& model, std::uint64_t seed, std::uint32_t rank = 0) {
    const std::string path = temporary(std::to_string(seed) + ".slm");
    const test::TinyAdapter adapter(model, ("adapter " + std::to_string(seed)).c_str(), seed, rank);
    const auto written = pack::write_image(path, adapter.contents, {});
    EXPECT_TRUE(written) << (written ? "" : written.error().what());
    return open_and_remove(path);
}

// The base with adapters of seeds 1, 2, ...
struct Adapted {
    std::vector<Image> images;
    std::vector<const Image*> pointers;
    explicit Adapted(int n, std::uint32_t rank = 0) {
        for (int i = 0; i < n; i++) images.push_back(adapter_of(base(), static_cast<std::uint64_t>(i) + 1, rank));
        for (const Image& i : images) pointers.push_back(&i);
    }
    std::unique_ptr<Engine> make(engine::Config c) const {
        c.adapters = pointers;
        auto e = Engine::open(base(), c);
        EXPECT_TRUE(e) << (e ? "" : e.error().what());
        return std::unique_ptr<Engine>(e.value());
    }
};

std::vector<float> all_logits(Engine& e, const std::vector<std::int32_t>& tokens, int batch, int adapter) {
    std::vector<float> all;
    const auto keep = [](void* context, int, std::span<const float> row) {
        auto& to = *static_cast<std::vector<float>*>(context);
        to.insert(to.end(), row.begin(), row.end());
    };
    const auto done = e.score(tokens, batch, keep, &all, adapter);
    EXPECT_TRUE(done) << (done ? "" : done.error().what());
    return all;
}

std::vector<float> last_logits(Engine& e, int slot, const std::vector<std::int32_t>& tokens, int adapter) {
    auto p = e.advance(slot, tokens, 1000, never, {}, adapter);
    EXPECT_TRUE(p) << (p ? "" : p.error().what());
    return {p->logits.begin(), p->logits.end()};
}

std::uint64_t hash(const std::vector<float>& logits) {
    std::uint64_t h = 1469598103934665603ull;
    for (const float f : logits) h = (h ^ load<std::uint32_t>(&f)) * 1099511628211ull;
    return h;
}

// ---- one answer

TEST(Adapters, OneAnswerOnEveryLevelThreadCountAndBatch) {
    const Adapted adapted(1);
    const auto tokens = tokens_of(150);
    // Pinned: the same constant on x86 and on ARM. It changes only when NUMERICS.md does.
    constexpr std::uint64_t expected = 8856354862539011113ull;
    for (auto level = compute::levels(); *level != nullptr; level++)
        for (const auto& [threads, batch] : {std::pair{1, 1}, {1, 32}, {2, 7}, {3, 32}, {4, 4}, {5, 2}}) {
            if ((is_slow || (*level)->name == std::string("scalar")) && (batch < 32 || threads == 1)) continue;
            const auto e = adapted.make({.context = 256, .threads = threads, .batch = 32, .level = (*level)->name});
            EXPECT_EQ(hash(all_logits(*e, tokens, batch, 0)), expected)
                << (*level)->name << " threads " << threads << " batch " << batch;
        }
}

TEST(Adapters, WithoutOneTheModelIsWhatItWas) {
    const Adapted adapted(2);
    const auto with = adapted.make({.context = 128, .threads = 2}),
               without = Adapted(0).make({.context = 128, .threads = 2});
    const auto tokens = tokens_of(60);
    const auto plain = all_logits(*without, tokens, 16, no_adapter);
    EXPECT_EQ(all_logits(*with, tokens, 16, no_adapter), plain);
    EXPECT_NE(all_logits(*with, tokens, 16, 0), plain);
    EXPECT_NE(all_logits(*with, tokens, 16, 0), all_logits(*with, tokens, 16, 1));
    EXPECT_EQ(all_logits(*with, tokens, 16, no_adapter), plain);
}

// Requests under three adapters and under none share passes; each gets what it gets alone.
TEST(Adapters, SharedPassesGiveEachItsOwn) {
    const Adapted adapted(3);
    for (const int threads : {1, 3}) {
        const auto together = adapted.make({.context = 128, .slots = 5, .threads = threads, .batch = 24}),
                   alone = adapted.make({.context = 128, .threads = 1, .batch = 32});
        const int adapters[] = {2, no_adapter, 0, 2, 1};
        std::vector<std::vector<std::int32_t>> tokens;
        for (unsigned i = 0; i < 5; i++) tokens.push_back(tokens_of(9 + 11 * static_cast<int>(i), i + 1));
        for (int round = 0; round < 4; round++) {
            Engine::Step steps[5];
            for (bool done = false; !done;) {
                for (int i = 0; i < 5; i++)
                    steps[i] = {.slot = i, .tokens = tokens[static_cast<std::size_t>(i)], .adapter = adapters[i]};
                const auto passed = together->advance(steps);
                ASSERT_TRUE(passed) << passed.error().what();
                done = std::all_of(std::begin(steps), std::end(steps),
                                   [](const Engine::Step& s) { return !s.logits.empty(); });
            }
            for (int i = 0; i < 5; i++) {
                auto& t = tokens[static_cast<std::size_t>(i)];
                EXPECT_EQ(std::vector<float>(steps[i].logits.begin(), steps[i].logits.end()),
                          last_logits(*alone, 0, t, adapters[i]))
                    << "slot " << i << ", round " << round;
                t.push_back(7 * i + round);
            }
        }
    }
}

// ---- the cache

TEST(Adapters, WhatASlotHoldsUnderOneIsOfNoUseUnderAnother) {
    const Adapted adapted(2);
    const auto e = adapted.make({.context = 128, .slots = 3, .threads = 2}), fresh = adapted.make({.context = 128});
    auto tokens = tokens_of(40);
    for (const int adapter : {0, 1, no_adapter, 0, no_adapter, 1}) {
        // One token at a time shows what was kept: nothing.
        const auto first = e->advance(0, tokens, 1, never, {}, adapter);
        ASSERT_TRUE(first);
        EXPECT_EQ(first.value().cached, 1) << adapter;
        fresh->forget(0);
        EXPECT_EQ(last_logits(*e, 0, tokens, adapter), last_logits(*fresh, 0, tokens, adapter)) << adapter;
        for (const int other : {0, 1, no_adapter})
            EXPECT_EQ(e->cached(0, other).size(), other == adapter ? tokens.size() : 0u);
    }
    // Another slot's beginning is copied under the same adapter, and not under another.
    last_logits(*e, 0, tokens, 0);
    tokens.push_back(5);
    EXPECT_EQ(e->advance(1, tokens, 1, never, {}, 0).value().cached, 41);
    EXPECT_EQ(e->advance(2, tokens, 1, never, {}, no_adapter).value().cached, 1);
    fresh->forget(0);
    EXPECT_EQ(last_logits(*e, 2, tokens, no_adapter), last_logits(*fresh, 0, tokens, no_adapter));
    // Logits that a guess has left are not given to another adapter.
    const std::int32_t guess[] = {8};
    ASSERT_TRUE(e->advance(1, tokens, 1000, never, guess, 0));
    tokens.push_back(8);
    const auto under_other = last_logits(*e, 1, tokens, 1);
    fresh->forget(0);
    EXPECT_EQ(under_other, last_logits(*fresh, 0, tokens, 1));
}

TEST(Adapters, GuessesAndTreesGiveTheBitsOfPlainSequences) {
    const Adapted adapted(2);
    const auto guessing = adapted.make({.context = 128, .threads = 2, .draft = 3}),
               plain = adapted.make({.context = 128});
    auto tokens = tokens_of(20);
    int guessed = 0;
    for (int i = 0; i < 12; i++) {
        const auto next = tokens_of(3, static_cast<unsigned>(i) + 50);
        auto p = guessing->advance(0, tokens, 1000, never, next, 1);
        ASSERT_TRUE(p);
        guessed += p->guessed;
        EXPECT_EQ(std::vector<float>(p->logits.begin(), p->logits.end()), last_logits(*plain, 0, tokens, 1)) << i;
        tokens.push_back(i % 3 == 2 ? 4 : next[0]);  // wrong now and then
    }
    EXPECT_GE(guessed, 4);
    // Eight children of the root, of each the first has three.
    std::vector<engine::TreeNode> nodes;
    for (int i = 0; i < 8; i++) {
        const auto at = static_cast<std::int16_t>(4 * i);
        nodes.push_back({30 + i, -1, static_cast<std::int16_t>(at + 4), 0});
        for (int k = 1; k < 4; k++) nodes.push_back({60 * k + i, at, static_cast<std::int16_t>(at + k + 1), 0});
    }
    engine::Tree tree{nodes};
    const auto e = adapted.make({.context = 128, .threads = 2, .batch = 4});
    while (!tree.done()) {
        Engine::Step step{.slot = 0, .tokens = tokens, .tree = &tree, .adapter = 1};
        ASSERT_TRUE(e->advance({&step, 1}));
    }
    for (int fork = engine::Tree::root; fork < tree.size(); fork = tree.fork_from(fork + 1)) {
        auto sequence = tokens;
        if (fork != engine::Tree::root) sequence.push_back(tree[fork].token);
        const auto logits = last_logits(*plain, 0, sequence, 1);
        for (int child = fork + 1; child < tree.end(fork); child = tree.end(child))
            EXPECT_EQ(tree[child].logit, logits[static_cast<std::size_t>(tree[child].token)]) << child;
    }
}

// ---- memory

TEST(Adapters, ThePlanCountsThemToTheByte) {
    const Adapted adapted(3, 8);
    engine::Config c{.context = 128, .slots = 2, .threads = 2};
    const auto bytes = [](const engine::Plan& p, const std::string& name) {
        std::uint64_t n = 0;
        for (int i = 0; i < p.count; i++) n += p.items[i].name == name ? p.items[i].bytes : 0;
        return n;
    };
    const auto without = engine::plan(base(), c);
    c.adapters = adapted.pointers;
    const auto with = engine::plan(base(), c);
    ASSERT_TRUE(with && without);
    std::uint64_t images = 0;
    for (const Image& i : adapted.images) images += i.sizes().raw;
    const std::uint64_t table = round_up(base().params().layers * image::adapted_count * sizeof(engine::LowRank), 64);
    EXPECT_EQ(bytes(with.value(), "adapters"), images + 3 * table);
    EXPECT_EQ(bytes(without.value(), "adapters"), 0u);
    EXPECT_EQ(bytes(with.value(), "KV cache"), bytes(without.value(), "KV cache"));
    const auto e = adapted.make(c);
    EXPECT_EQ(e->arena_bytes(), bytes(with.value(), "KV cache") + bytes(with.value(), "activations") + 3 * table);
}

TEST(Adapters, TenThousandSwitchesAllocateNothing) {
    const Adapted adapted(8, 4);
    const auto e = adapted.make({.context = 64, .threads = 1, .batch = 8});
    const auto tokens = tokens_of(2);
    std::vector<std::vector<float>> first;
    for (int i = 0; i < 8; i++) first.push_back(last_logits(*e, 0, tokens, i));
    const auto before = mallinfo2();
    int same = 0;
    const int switches = is_slow ? 200 : 10000;
    for (int i = 0; i < switches; i++) {
        const auto p = e->advance(0, tokens, 1000, never, {}, i % 8);
        const auto logits = p ? p.value().logits : std::span<float>();
        same += std::equal(logits.begin(), logits.end(), first[static_cast<std::size_t>(i % 8)].begin(),
                           first[static_cast<std::size_t>(i % 8)].end());
    }
    const auto after = mallinfo2();
    EXPECT_EQ(same, switches);
    EXPECT_EQ(after.uordblks, before.uordblks);
    EXPECT_EQ(after.arena + after.hblkhd, before.arena + before.hblkhd);
}

// ---- what is refused

// What the engine says to an adapter that was changed before it was written.
std::string says(const std::function<void(test::TinyAdapter&)>& change) {
    const std::string path = temporary("changed.slm");
    test::TinyAdapter adapter(base(), "changed", 9, 4);
    change(adapter);
    const auto written = pack::write_image(path, adapter.contents, {});
    EXPECT_TRUE(written) << (written ? "" : written.error().what());
    const Image image = open_and_remove(path);
    const Image* const pointer = &image;
    engine::Config c{.context = 64, .threads = 1};
    c.adapters = {&pointer, 1};
    const auto e = Engine::open(base(), c);
    if (e) delete e.value();
    return e ? "" : e.error().text;
}

void shape(test::TinyAdapter& a, const std::string& name, std::uint32_t rows, std::uint32_t cols) {
    test::Random random{3};
    a.data.erase(name);
    for (auto& spec : a.contents.tensors)
        if (spec.name == name) {
            const auto at = &spec - a.contents.tensors.data();
            a.matrix(name, rows, cols, random);
            a.contents.tensors[static_cast<std::size_t>(at)] = a.contents.tensors.back();
            a.contents.tensors.pop_back();
            return;
        }
}

void rename(test::TinyAdapter& a, const std::string& from, const std::string& to) {
    for (auto& spec : a.contents.tensors)
        if (spec.name == from) spec.name = to;
    a.data[to] = a.data[from];
}

#define EXPECT_HAS(text, part) EXPECT_NE(std::string(text).find(part), std::string::npos) << text

TEST(Adapters, HostileOnesAreRefused) {
    EXPECT_EQ(says([](auto&) {}), "");
    const auto q = std::string("blk.1.attn_q.lora_");
    EXPECT_HAS(says([](auto& a) { a.contents.base.index_sha256[5] ^= 1; }),
               "adapter changed: for another base, tiny random (tensors ");
    EXPECT_HAS(says([](auto& a) { a.contents.base = {}; }), "a model, not an adapter: slmpack adapter");
    EXPECT_HAS(says([&](auto& a) { shape(a, q + "a", 4, 96); }),
               "tensor blk.1.attn_q.lora_a is 4 x 96 of kind 3; the base needs 4 x 64 of kind i8");
    EXPECT_HAS(says([&](auto& a) { shape(a, q + "b", 72, 4); }), "tensor blk.1.attn_q.lora_b is 72 x 4");
    EXPECT_HAS(says([&](auto& a) { shape(a, q + "b", 64, 5); }), "the base needs 64 x 4 of kind i8");
    EXPECT_HAS(says([&](auto& a) { shape(a, q + "a", 5, 64); }), "the base needs 64 x 5 of kind i8");
    EXPECT_HAS(says([&](auto& a) { shape(a, q + "a", 257, 64), shape(a, q + "b", 64, 257); }),
               "has rank 257; at most 256");
    EXPECT_EQ(says([&](auto& a) { shape(a, q + "a", 256, 64), shape(a, q + "b", 64, 256); }), "");
    EXPECT_HAS(says([&](auto& a) { a.data[q + "a"].scales[3] = 0x7E00; }),
               "tensor blk.1.attn_q.lora_a holds a scale that is not finite");
    EXPECT_HAS(says([&](auto& a) { a.data[q + "b"].scales[0] = 0xFC00; }), "lora_b holds a scale that is not finite");
    for (const float scale : {NAN, INFINITY, -2e6f})
        EXPECT_HAS(says([&](auto& a) { a.data["lora.scale"].values[7] = scale; }), "the scale of blk.1.attn_q is ");
    EXPECT_HAS(says([&](auto& a) { rename(a, q + "a", "blk.3.attn_q.lora_a"); }),
               "has no place in an adapter of 3 layers");
    EXPECT_HAS(says([&](auto& a) { rename(a, q + "a", "blk.1.attn_norm.lora_a"); }), "has no place");
    EXPECT_HAS(says([&](auto& a) { rename(a, q + "b", "blk.1.attn_k.lora_x"); }), "not by its lora_b");
    EXPECT_HAS(says([&](auto& a) { a.contents.tensors.pop_back(); }), "not an adapter's");
    EXPECT_HAS(says([&](auto& a) { a.contents.tensors.resize(1); }), "not an adapter's");
    EXPECT_HAS(says([&](auto& a) { rename(a, "lora.scale", "scale"); }), "lora.scale");
    EXPECT_HAS(says([&](auto& a) {
                   a.contents.tensors[1].kind = image::Kind::f32;
                   a.data[a.contents.tensors[1].name] = {
                       .kind = image::Kind::f32, .rows = 4, .cols = 64, .values = std::vector<float>(256)};
               }),
               "of kind 0");
    const Image adapter = adapter_of(base(), 1);
    image::ModelParams mixture = base().params();
    mixture.experts = 4;
    const auto of_experts = engine::bind(adapter, mixture, nullptr);
    ASSERT_FALSE(of_experts);
    EXPECT_HAS(of_experts.error().text, "changes a feed-forward, of which a mixture has experts");
    const auto alone = Engine::open(adapter, {.context = 64});
    ASSERT_FALSE(alone);
    EXPECT_HAS(alone.error().text, "an adapter for tiny random, not a model");
    EXPECT_FALSE(engine::plan(adapter, {.context = 64}));
    const Adapted adapted(1);
    const auto e = adapted.make({.context = 64});
    for (const int wrong : {1, -2, 99}) {
        const auto p = e->advance(0, tokens_of(3), 1, never, {}, wrong);
        ASSERT_FALSE(p);
        EXPECT_EQ(p.error().code, Code::invalid_index);
    }
    const std::vector<const Image*> many(17, &adapter);
    engine::Config c{.context = 64};
    c.adapters = many;
    const auto too_many = Engine::open(base(), c);
    ASSERT_FALSE(too_many);
    EXPECT_HAS(too_many.error().text, "adapters = 17: this model takes 0 to 16");
}

// Whatever bit changes: refused, or (the seek table, which slmd does not read) the same answers.
TEST(Adapters, CutAndFlippedFilesAreRefused) {
    const std::string path = temporary("whole.slm"), bad = temporary("bad.slm");
    const test::TinyAdapter adapter(base(), "whole", 4, 2);
    ASSERT_TRUE(pack::write_image(path, adapter.contents, {}));
    std::ifstream in(path, std::ios::binary);
    const std::string whole{std::istreambuf_iterator<char>(in), {}};
    const auto hash_of = [](const Image& i) { return sha256(i.raw()).value(); };
    const auto before = hash_of(open_and_remove(path));
    std::size_t refused = 0;
    test::Random random{5};
    const auto check = [&](const std::string& bytes) {
        std::ofstream(bad, std::ios::binary) << bytes;
        const auto opened = Image::open(bad.c_str(), {});
        refused += !opened;
        if (opened) {
            EXPECT_EQ(hash_of(opened.value()), before);
        }
    };
    for (int i = 0; i < 300; i++) {
        std::string flipped = whole;
        flipped[static_cast<std::size_t>(random.next()) % whole.size()] ^= static_cast<char>(1 << random.between(0, 7));
        check(flipped);
    }
    EXPECT_GE(refused, 250u);
    const std::size_t of_flips = refused;
    for (std::size_t n = 0; n < 40; n++) check(whole.substr(0, whole.size() * n / 40));
    EXPECT_EQ(refused, of_flips + 40);
    std::filesystem::remove(bad);
}

// ---- against the outside world

constexpr std::size_t golden_vocab = 320;

double divergence(std::span<const float> a, std::span<const float> b) {
    double total = 0;
    for (std::size_t at = 0; at < a.size(); at += golden_vocab) {
        double a_sum = 0, b_sum = 0, kl = 0;
        for (std::size_t i = at; i < at + golden_vocab; i++) a_sum += std::exp(a[i]), b_sum += std::exp(b[i]);
        for (std::size_t i = at; i < at + golden_vocab; i++)
            kl += std::exp(a[i]) / a_sum * (a[i] - std::log(a_sum) - b[i] + std::log(b_sum));
        total += kl;
    }
    return total / (static_cast<double>(a.size()) / golden_vocab);
}

struct Golden {
    std::string folder;
    std::unique_ptr<pack::Source> source;
    std::vector<std::int32_t> tokens;
    std::string base = temporary("golden.slm");
    std::unique_ptr<Image> image;

    // False: the folder is not there.
    bool open(const std::string& family) {
        folder = SLMD_SHARED "/golden/families/" + family;
        if (!std::filesystem::exists(folder)) return false;
        source = pack::Source::open(folder).value();
        EXPECT_TRUE(pack::import_model(*source, base, {.kind = image::Kind::i8}));
        image = std::make_unique<Image>(Image::open(base.c_str(), {}).value());
        tokens = pack::read_npy_tokens(folder + "/tokens.npy").value().values;
        return true;
    }
    ~Golden() { std::filesystem::remove(base); }

    std::vector<float> reference(const std::string& adapter) const {
        const auto r = pack::Reference::open(*source).value();
        auto opened = pack::open_adapter(adapter, source->params);
        EXPECT_TRUE(opened) << (opened ? "" : opened.error().what());
        r->adapt(std::move(opened).value());
        return r->logits(tokens).value();
    }
    std::vector<float> on_engine(const std::string& adapter) const {
        const std::string path = temporary("golden-adapter.slm");
        const auto packed = pack::pack_adapter(adapter, base, path, {});
        EXPECT_TRUE(packed) << (packed ? "" : packed.error().what());
        const Image i = open_and_remove(path);
        const Image* const pointer = &i;
        engine::Config c{.context = 128, .threads = 2, .batch = 80};
        c.adapters = {&pointer, 1};
        const std::unique_ptr<Engine> e(Engine::open(*image, c).value());
        const auto whole = all_logits(*e, tokens, 80, 0);
        EXPECT_EQ(whole, all_logits(*e, tokens, 3, 0));
        return whole;
    }
};

class GoldenAdapter : public testing::TestWithParam<const char*> {};

TEST_P(GoldenAdapter, IsWhatWasFineTuned) {
    const std::string name = GetParam();
    Golden golden;
    if (!golden.open(name.substr(0, name.find('/')))) GTEST_SKIP() << "no " << golden.folder;
    const std::string adapter = SLMD_SHARED "/golden/families/" + name;
    const auto expected = pack::read_npy_floats(adapter + "/logits.npy").value().values;
    const auto reference = golden.reference(adapter);
    ASSERT_EQ(reference.size(), expected.size());
    float worst = 0;
    for (std::size_t i = 0; i < expected.size(); i++) worst = std::max(worst, std::abs(expected[i] - reference[i]));
    const double kl = divergence(expected, golden.on_engine(adapter));
    std::printf("float32 within %.1e, KL(fine-tuned || engine) %.5f\n", static_cast<double>(worst), kl);
    EXPECT_LE(worst, 2e-4f);
    EXPECT_LE(kl, 0.01);
    EXPECT_GT(divergence(expected, pack::Reference::open(*golden.source).value()->logits(golden.tokens).value()), 0.1)
        << "without the adapter it would not be seen";
}

INSTANTIATE_TEST_SUITE_P(Golden, GoldenAdapter,
                         testing::Values("llama/lora-a", "llama/lora-b", "qwen3/lora-a", "qwen3/lora-b"),
                         [](const auto& p) {
                             std::string name = p.param;
                             std::erase_if(name, [](char c) { return c == '-' || c == '/'; });
                             return name;
                         });

// What the importer does to a base's rows must be done to an adapter's: queries and keys of Qwen 2 are balanced, Phi 3
// has query, key and value in one matrix.
TEST(GoldenAdapters, RowsThatTheImporterChanged) {
    for (const char* family : {"qwen2", "phi3"}) {
        Golden golden;
        if (!golden.open(family)) GTEST_SKIP() << "no " << golden.folder;
        const image::ModelParams& p = golden.source->params;
        const std::uint32_t q = p.heads * p.head_dim, kv = p.kv_heads * p.head_dim;
        std::vector<tiny::Lora::Module> modules;
        for (std::uint32_t l = 0; l < p.layers; l++) {
            const std::string at = "model.layers." + std::to_string(l) + ".";
            if (std::string(family) == "phi3") {
                modules.push_back({at + "self_attn.qkv_proj", q + 2 * kv, p.dim});
                modules.push_back({at + "mlp.gate_up_proj", 2 * p.hidden, p.dim});
            } else {
                modules.push_back({at + "self_attn.q_proj", q, p.dim});
                modules.push_back({at + "self_attn.k_proj", kv, p.dim});
            }
        }
        const tiny::Lora lora(modules, 4);
        const std::string folder = temporary("peft");
        std::filesystem::create_directories(folder);
        std::ofstream(folder + "/adapter_config.json") << lora.config;
        std::ofstream(folder + "/adapter_model.safetensors", std::ios::binary) << lora.file.file();
        const auto reference = golden.reference(folder);
        const double kl = divergence(reference, golden.on_engine(folder));
        const double far =
            divergence(reference, pack::Reference::open(*golden.source).value()->logits(golden.tokens).value());
        std::printf("%s: KL(float32 || engine) %.5f, without the adapter %.3f\n", family, kl, far);
        EXPECT_LE(kl, 0.01);
        EXPECT_GT(far, 0.05);
        if (std::string(family) == "qwen2") {
            // An image of before they were balanced by the book.
            ASSERT_TRUE(pack::amend_image(golden.base, golden.base, {.provenance = "{}"}));
            const auto packed = pack::pack_adapter(folder, golden.base, temporary("unbalanced.slm"), {});
            ASSERT_FALSE(packed);
            EXPECT_HAS(packed.error().text, "was made before images said how their queries and keys are balanced");
        }
        std::filesystem::remove_all(folder);
    }
}

}  // namespace
}  // namespace slmd
