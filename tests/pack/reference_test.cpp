// The f32 reference on tiny models: against transformers' logits, and against itself.
#include "toolchain/slmpack/reference/reference.h"

#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>

#include "tests/pack/tiny.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/product.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {
namespace {

float distance(std::span<const float> a, std::span<const float> b) {
    EXPECT_EQ(a.size(), b.size());
    float most = 0;
    for (std::size_t i = 0; i < std::min(a.size(), b.size()); i++) most = std::max(most, std::fabs(a[i] - b[i]));
    return most;
}

class Golden : public testing::TestWithParam<const char*> {};

TEST_P(Golden, Logits) {
    const std::string folder = std::string(SLMD_SHARED "/golden/families/") + GetParam();
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    const auto source = Source::open(folder);
    ASSERT_TRUE(source) << source.error().what();
    const auto reference = Reference::open(*source.value());
    ASSERT_TRUE(reference) << reference.error().what();
    const auto tokens = read_npy_tokens(folder + "/tokens.npy");
    ASSERT_TRUE(tokens) << tokens.error().what();
    const auto golden = read_npy_floats(folder + "/logits.npy");
    ASSERT_TRUE(golden) << golden.error().what();
    const auto logits = reference.value()->logits(tokens.value().values);
    ASSERT_TRUE(logits) << logits.error().what();
    EXPECT_EQ(golden.value().shape, (std::vector<std::size_t>{80, 320}));
    EXPECT_LE(distance(logits.value(), golden.value().values), 2e-4f);
}
INSTANTIATE_TEST_SUITE_P(Families, Golden, testing::Values("llama", "llama-tied", "llama3-rope"), [](const auto& p) {
    std::string name = p.param;
    std::erase(name, '-');
    return name;
});

class Tiny : public testing::Test {
  protected:
    void SetUp() override {
        FileBytes bytes;
        bytes.bytes = std::as_bytes(std::span(file_));
        auto s = open_gguf(std::move(bytes), "tiny.gguf");
        ASSERT_TRUE(s) << s.error().what();
        source_ = std::move(s).value();
        auto r = Reference::open(*source_);
        ASSERT_TRUE(r) << r.error().what();
        reference_ = std::move(r).value();
    }
    std::string file_ = tiny::llama_gguf().file();
    std::unique_ptr<Source> source_;
    std::unique_ptr<Reference> reference_;
    const std::vector<std::int32_t> tokens_ = {1, 7, 3, 39, 0, 12, 12, 5};
};

TEST_F(Tiny, LaterPositionsAlone) {
    const auto all = reference_->logits(tokens_), tail = reference_->logits(tokens_, 5);
    ASSERT_TRUE(all && tail);
    ASSERT_EQ(tail.value().size(), 3u * 40);
    EXPECT_LE(distance(std::span(all.value()).subspan(5 * 40), tail.value()), 1e-5f);
}

TEST_F(Tiny, NoPositionSeesALaterOne) {
    auto changed = tokens_;
    changed.back() = 20;
    const auto a = reference_->logits(tokens_), b = reference_->logits(changed);
    ASSERT_TRUE(a && b);
    EXPECT_LE(distance(std::span(a.value()).first(7 * 40), std::span(b.value()).first(7 * 40)), 1e-5f);
    EXPECT_GT(distance(std::span(a.value()).subspan(7 * 40), std::span(b.value()).subspan(7 * 40)), 1e-2f);
}

TEST_F(Tiny, GreedyWithACacheIsGreedyWithout) {
    const auto steps = reference_->greedy(tokens_, 20, {});
    ASSERT_TRUE(steps) << steps.error().what();
    ASSERT_EQ(steps.value().size(), 20u);
    auto all = tokens_;
    for (const auto& step : steps.value()) {
        const auto logits = reference_->logits(all, all.size() - 1).value();
        const auto best = std::max_element(logits.begin(), logits.end());
        if (step.margin > 1e-4f) {
            ASSERT_EQ(step.token, best - logits.begin());
        }
        all.push_back(step.token);
    }
    const std::int32_t ends[] = {steps.value()[3].token};
    const auto ended = reference_->greedy(tokens_, 20, ends);
    ASSERT_TRUE(ended);
    EXPECT_LE(ended.value().size(), 4u);
    EXPECT_EQ(ended.value().back().token, ends[0]);
}

TEST_F(Tiny, RefusesWhatItCannotCompute) {
    EXPECT_EQ(reference_->logits({}).error().code, Code::incorrect_parameters);
    const std::vector<std::int32_t> outside = {1, 40}, negative = {-1}, long_one(129, 1);
    EXPECT_EQ(reference_->logits(outside).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->logits(negative).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->logits(long_one).error().code, Code::context_full);
    EXPECT_EQ(reference_->logits(tokens_, 8).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->greedy(tokens_, 200, {}).error().code, Code::context_full);
    std::snprintf(source_->params.family, sizeof source_->params.family, "mamba");
    EXPECT_EQ(Reference::open(*source_).error().code, Code::not_supported);
}

TEST(Product, EveryLevelIsTheSum) {
    std::mt19937 random(5);
    std::uniform_real_distribution<float> uniform(-1, 1);
    std::vector<Product> levels = {product_baseline};
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) levels.push_back(product_avx2);
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) levels.push_back(product_avx512);
#endif
    for (const long n : {1L, 2L, 19L})
        for (const long m : {1L, 7L, 64L})
            for (const long k : {1L, 33L, 172L}) {
                std::vector<float> x(std::size_t(n * k)), w(std::size_t(m * k)), y(std::size_t(n * m));
                for (float& v : x) v = uniform(random);
                for (float& v : w) v = uniform(random);
                for (const Product product : levels) {
                    product(x.data(), w.data(), y.data(), n, m, k);
                    for (long i = 0; i < n; i++)
                        for (long j = 0; j < m; j++) {
                            double sum = 0;
                            for (long l = 0; l < k; l++)
                                sum += double(x[std::size_t(i * k + l)]) * double(w[std::size_t(j * k + l)]);
                            ASSERT_NEAR(y[std::size_t(i * m + j)], sum, 2e-5);
                        }
                }
            }
}

// Trained models: what they say is judged by sense, not by a file.
TEST(Llama2c, StoriesContinueAsStories) {
    const std::string folder = SLMD_SHARED "/models/";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    const std::pair<const char*, double> models[] = {{"stories260K/stories260K.bin", 1.0},
                                                     {"babyllama-tok105/model5000.bin", 1.0}};
    for (const auto& [name, most] : models) {
        const auto source = Source::open(folder + name);
        ASSERT_TRUE(source) << source.error().what();
        const auto reference = Reference::open(*source.value());
        ASSERT_TRUE(reference) << reference.error().what();
        const std::int32_t bos[] = {1};
        const auto steps = reference.value()->greedy(bos, 120, {});
        ASSERT_TRUE(steps) << steps.error().what();
        // A model whose heads are misread is unsure of everything: it is the mean surprise of its own greedy text that
        // shows it.
        std::vector<std::int32_t> tokens = {1};
        for (const auto& s : steps.value()) tokens.push_back(s.token);
        const auto logits = reference.value()->logits(tokens).value();
        const std::size_t vocab = source.value()->params.vocab;
        double surprise = 0;
        for (std::size_t t = 0; t + 1 < tokens.size(); t++) {
            double sum = 0;
            for (std::size_t v = 0; v < vocab; v++) sum += std::exp(double(logits[t * vocab + v]));
            surprise += std::log(sum) - double(logits[t * vocab + std::size_t(tokens[t + 1])]);
        }
        std::printf("%s: %.3f nats a token\n", name, surprise / 120);
        EXPECT_LT(surprise / 120, most) << name;
    }
}

}  // namespace
}  // namespace slmd::pack
