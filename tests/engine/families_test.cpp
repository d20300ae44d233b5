// Every family on the engine: the i8 image of a golden checkpoint against the checkpoint's own logits, and one answer
// however the tokens are cut.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <memory>

#include "engine/engine.h"
#include "image/experts.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd {
namespace {

using engine::Engine;
constexpr std::size_t vocab = 320;
const std::atomic<bool> never{false};

// Mean over positions of KL(a || b).
double divergence(std::span<const float> a, std::span<const float> b) {
    double total = 0;
    for (std::size_t at = 0; at < a.size(); at += vocab) {
        double a_sum = 0, b_sum = 0, kl = 0;
        for (std::size_t i = at; i < at + vocab; i++) a_sum += std::exp(a[i]), b_sum += std::exp(b[i]);
        for (std::size_t i = at; i < at + vocab; i++)
            kl += std::exp(a[i]) / a_sum * (a[i] - std::log(a_sum) - b[i] + std::log(b_sum));
        total += kl;
    }
    return total / (static_cast<double>(a.size()) / vocab);
}

// RMS of the difference over RMS of a: where logits are small, KL sees nothing.
double distance(std::span<const float> a, std::span<const float> b) {
    double difference = 0, size = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        difference += (a[i] - b[i]) * (a[i] - b[i]);
        size += a[i] * a[i];
    }
    return std::sqrt(difference / size);
}

class Families : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        const std::string folder = std::string(SLMD_SHARED "/golden/families/") + GetParam();
        if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
        auto source = pack::Source::open(folder);
        ASSERT_TRUE(source) << source.error().what();
        source_ = std::move(source).value();
        pack_and_open(image::Kind::i8);
        ASSERT_NE(image_, nullptr);
        auto tokens = pack::read_npy_tokens(folder + "/tokens.npy");
        ASSERT_TRUE(tokens) << tokens.error().what();
        tokens_ = std::move(tokens.value().values);
        auto golden = pack::read_npy_floats(folder + "/logits.npy");
        ASSERT_TRUE(golden) << golden.error().what();
        ASSERT_EQ(golden.value().shape, (std::vector<std::size_t>{80, vocab}));
        golden_ = std::move(golden.value().values);
    }
    void TearDown() override {
        if (!path_.empty()) std::filesystem::remove(path_);
    }
    void pack_and_open(image::Kind kind, image::OpenOptions options = {}) {
        path_ = testing::TempDir() + "slmd-family-" + std::to_string(getpid()) + ".slm";
        const auto imported = pack::import_model(*source_, path_, {.kind = kind});
        ASSERT_TRUE(imported) << imported.error().what();
        auto opened = image::Image::open(path_.c_str(), options);
        ASSERT_TRUE(opened) << opened.error().what();
        image_ = std::make_unique<image::Image>(std::move(opened).value());
    }
    std::unique_ptr<Engine> engine(engine::Config config) const {
        auto e = Engine::open(*image_, config);
        EXPECT_TRUE(e) << (e ? "" : e.error().what());
        return std::unique_ptr<Engine>(e.value());
    }
    static std::vector<float> logits(Engine& e, const std::vector<std::int32_t>& tokens, int batch) {
        std::vector<float> all;
        const auto keep = [](void* context, int, std::span<const float> row) {
            auto& to = *static_cast<std::vector<float>*>(context);
            to.insert(to.end(), row.begin(), row.end());
        };
        const auto done = e.score(tokens, batch, keep, &all);
        EXPECT_TRUE(done) << (done ? "" : done.error().what());
        return all;
    }

    std::unique_ptr<pack::Source> source_;
    std::string path_;
    std::unique_ptr<image::Image> image_;
    std::vector<std::int32_t> tokens_;
    std::vector<float> golden_;
};

TEST_P(Families, IsTheCheckpointHoweverItsTokensAreCut) {
    const auto e = engine({.context = 128, .threads = 2, .batch = 80});
    const auto whole = logits(*e, tokens_, 80);
    ASSERT_EQ(whole.size(), golden_.size());
    const double kl = divergence(golden_, whole);
    std::printf("KL(checkpoint || engine) %.5f, relative error %.4f\n", kl, distance(golden_, whole));
    if (image_->params().experts == 0) {
        EXPECT_LE(kl, 0.01);
        EXPECT_LE(distance(golden_, whole), 0.05);
    } else {  // where two experts' logits are nearly the same, as random ones often are, the other one is chosen
        EXPECT_LE(kl, 0.02);
    }
    EXPECT_EQ(whole, logits(*e, tokens_, 1));
    EXPECT_EQ(whole, logits(*e, tokens_, 7));
    const auto scalar = engine({.context = 128, .threads = 1, .batch = 7, .level = "scalar"});
    EXPECT_EQ(whole, logits(*scalar, tokens_, 7));
}

class Mixtures : public Families {};

// With every expert used there is no choice that an error of 8 bits could turn.
TEST_P(Mixtures, AreTheReferenceWhereNothingIsChosen) {
    source_->params.experts_used = source_->params.experts;
    pack_and_open(image::Kind::i8);
    const auto reference = pack::Reference::open(*source_);
    ASSERT_TRUE(reference) << reference.error().what();
    const auto want = reference.value()->logits(tokens_);
    ASSERT_TRUE(want) << want.error().what();
    const auto whole = logits(*engine({.context = 128, .threads = 2, .batch = 80}), tokens_, 80);
    std::printf("relative error %.4f\n", distance(want.value(), whole));
    EXPECT_LE(distance(want.value(), whole), 0.05);
}

// As few as a layer has are kept; the answers are those of the whole model.
TEST_P(Mixtures, AnswerTheSameWhenExpertsAreDecodedOnDemand) {
    for (const image::Kind kind : {image::Kind::i4, image::Kind::i6, image::Kind::i8}) {
        pack_and_open(kind);
        const auto resident = engine({.context = 128, .threads = 2, .batch = 16});
        const auto want = logits(*resident, tokens_, 16);
        const auto whole = std::move(image_);
        for (const int threads : {1, 3}) {
            auto opened = image::Image::open(path_.c_str(), {.threads = 2, .residency = image::Residency::streamed});
            ASSERT_TRUE(opened) << opened.error().what();
            image_ = std::make_unique<image::Image>(std::move(opened).value());
            ASSERT_NE(image_->experts(), nullptr);
            EXPECT_EQ(image_->layers(), nullptr);
            EXPECT_EQ(image_->experts()->kept(), static_cast<int>(image_->params().experts));
            const auto few = engine({.context = 128, .threads = threads, .batch = 16});
            EXPECT_EQ(want, logits(*few, tokens_, 16));
            EXPECT_EQ(want, logits(*few, tokens_, 1));
            const auto least = image_->footprint(image::Residency::streamed);
            EXPECT_LT(least.resident, whole->footprint(image::Residency::whole).resident);
            EXPECT_GT(least.pass, 0u);
        }
    }
}

// Long enough for a sliding layer's ring to have gone round: what a session gives after going back is what a fresh one
// gives.
TEST_P(Families, GoesBackInALongContext) {
    const auto e = engine({.context = 512, .threads = 1, .batch = 32}), fresh = engine({.context = 512, .batch = 32});
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < 500; i++) tokens.push_back((7 + 31 * i + i * i) % static_cast<int>(vocab));
    const auto run = [&](Engine& on, std::span<const std::int32_t> part) {
        auto p = on.advance(0, part, 1000, never);
        EXPECT_TRUE(p) << (p ? "" : p.error().what());
        return std::vector<float>(p->logits.begin(), p->logits.end());
    };
    const auto check = [&] {
        fresh->forget(0);
        EXPECT_EQ(run(*e, tokens), run(*fresh, tokens)) << tokens.size() << " tokens";
    };
    check();
    tokens.resize(490);
    tokens.back() = 5;
    check();
    tokens.resize(300);
    tokens.back() = 9;
    check();
    tokens.resize(20);
    tokens.insert(tokens.end(), 200, 3);
    check();
}

// Two levels of forks behind 150 and 300 tokens, where a chunk of positions ends near by and a window has moved on.
TEST_P(Families, ATreeHasTheLogitsOfPlainSequences) {
    std::vector<engine::TreeNode> nodes;
    for (int i = 0; i < 5; i++) {
        const int at = 4 * i;
        nodes.push_back({20 + i, -1, static_cast<std::int16_t>(at + 4), 0});
        for (int k = 1; k < 4; k++)
            nodes.push_back({40 * k + i, static_cast<std::int16_t>(at), static_cast<std::int16_t>(at + k + 1), 0});
    }
    const auto plain = engine({.context = 512, .threads = 2, .batch = 32});
    for (const int length : {125, 300}) {
        std::vector<std::int32_t> tokens;
        for (int i = 0; i < length; i++) tokens.push_back((7 + 31 * i + i * i) % static_cast<int>(vocab));
        for (const int batch : {1, 4, 32}) {
            const auto e = engine({.context = 512, .threads = 2, .batch = batch});
            engine::Tree tree{nodes};
            while (!tree.done()) {
                Engine::Step step{.slot = 0, .tokens = tokens, .tree = &tree};
                ASSERT_TRUE(e->advance({&step, 1}));
            }
            for (int fork = engine::Tree::root; fork < tree.size(); fork = tree.fork_from(fork + 1)) {
                auto sequence = tokens;
                if (fork != engine::Tree::root) sequence.push_back(tree[fork].token);
                auto p = plain->advance(0, sequence, 1000, never);
                ASSERT_TRUE(p);
                for (int child = fork + 1; child < tree.end(fork); child = tree.end(child))
                    EXPECT_EQ(tree[child].logit, p->logits[static_cast<std::size_t>(tree[child].token)])
                        << length << " tokens, batch " << batch << ", node " << child;
            }
        }
    }
}

std::string without_dashes(const testing::TestParamInfo<const char*>& p) {
    std::string name = p.param;
    std::erase(name, '-');
    return name;
}
INSTANTIATE_TEST_SUITE_P(Golden, Mixtures, testing::Values("granitemoe", "qwen3-moe", "olmoe", "mixtral"),
                         without_dashes);
INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         testing::Values("llama", "llama-tied", "llama3-rope", "mistral-sliding", "qwen2", "qwen3",
                                         "gemma2", "gemma3", "phi3", "smollm3", "granite", "olmo2", "granitemoe",
                                         "qwen3-moe", "olmoe", "mixtral"),
                         without_dashes);

}  // namespace
}  // namespace slmd
