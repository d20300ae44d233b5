// Quantization with error feedback: gradients against differences, losses against their definition, and work that is
// killed.
#include <gtest/gtest.h>

#include <cmath>
#include <filesystem>
#include <random>

#include "image/layout.h"
#include "tests/pack/tiny.h"
#include "toolchain/slmpack/gptq/block.h"
#include "toolchain/slmpack/gptq/feedback.h"
#include "toolchain/slmpack/image/quantize.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {
namespace {

Matrix random_matrix(long rows, long cols, std::mt19937& random, float size = 1) {
    std::normal_distribution<float> normal(0, size);
    Matrix m(rows, cols);
    for (long i = 0; i < m.size(); i++) m.data()[i] = normal(random);
    return m;
}

Matrix through(const Block& block, Matrix hidden) {
    block.forward(hidden);
    return hidden;
}

// The experts of each position.
std::vector<std::vector<std::size_t>> routes(const Block& block, Matrix hidden) {
    block.add_attention(hidden, block.output_input(block.attention_input(hidden)));
    const Block::Route route = block.route(block.feed_input(hidden));
    std::vector<std::vector<std::size_t>> out(std::size_t(hidden.rows()));
    for (std::size_t e = 0; e < route.positions.size(); e++)
        for (const long r : route.positions[e]) out[std::size_t(r)].push_back(e);
    return out;
}

std::unique_ptr<Source> tiny_source(const std::string& bytes) {
    FileBytes file;
    file.bytes = std::as_bytes(std::span(bytes));
    auto source = open_gguf(std::move(file), "tiny.gguf");
    EXPECT_TRUE(source) << source.error().what();
    return std::move(source).value();
}

// The derivative along a direction, by the difference of two runs, is what the gradient says.
void expect_gradient(const Source& source, std::uint32_t layer) {
    const auto opened = Block::open(source, layer);
    ASSERT_TRUE(opened) << opened.error().what();
    const Block& block = opened.value();
    std::mt19937 random(layer + 1);
    const long dim = source.params.dim;
    const Matrix hidden = random_matrix(24, dim, random);
    Matrix weights = random_matrix(24, dim, random);
    Matrix directions[4];
    for (Matrix& direction : directions) direction = random_matrix(24, dim, random);
    const float step = 2e-3f;
    if (block.is_mixture()) {
        // Where a step sends a position to other experts there is no slope to compare with.
        int counted = 24;
        std::vector<bool> jumps(24);
        const auto before = routes(block, hidden);
        for (const Matrix& direction : directions)
            for (const float to : {step, -step}) {
                const auto after = routes(block, hidden + to * direction);
                for (std::size_t r = 0; r < 24; r++) jumps[r] = jumps[r] || before[r] != after[r];
            }
        for (std::size_t r = 0; r < 24; r++)
            if (jumps[r]) weights.row(long(r)).setZero(), counted--;
        EXPECT_GT(counted, 8);
    }
    Sensitivity sensitivity;
    const Matrix gradient = block.backward(hidden, weights, sensitivity);
    for (int i = 0; i < 4; i++) {
        const Matrix& direction = directions[i];
        const double difference =
            (through(block, hidden + step * direction) - through(block, hidden - step * direction))
                .cwiseProduct(weights)
                .cast<double>()
                .sum() /
            (2 * step);
        const double said = gradient.cwiseProduct(direction).cast<double>().sum();
        EXPECT_NEAR(said, difference, 0.01 * gradient.cast<double>().norm())
            << "layer " << layer << ", direction " << i;
    }
    EXPECT_EQ(sensitivity.size(), 7u);
    const std::string experts = source.params.experts != 0 ? "_exps" : "";
    for (const std::string name : {"attn_q", "attn_k", "attn_v", "attn_output"})
        EXPECT_EQ(long(sensitivity.at(block.full(name)).size()), block.rows(name)) << name;
    for (const std::string base : {"ffn_gate", "ffn_up", "ffn_down"}) {
        const std::string name = base + experts;
        ASSERT_TRUE(sensitivity.contains(block.full(name))) << name;
        EXPECT_EQ(long(sensitivity.at(block.full(name)).size()), block.rows(name)) << name;
    }
    if (source.find(block.full("post_ffw_norm")) == nullptr && source.params.experts == 0) {
        EXPECT_NEAR(sensitivity.at(block.full("ffn_down"))[3],
                    (weights.col(3) * source.params.residual_scale).cast<double>().squaredNorm(), 1e-3);
    }
}

class Families : public testing::TestWithParam<const char*> {};
TEST_P(Families, GradientIsWhatADifferenceSays) {
    const std::string folder = std::string(SLMD_SHARED "/golden/families/") + GetParam();
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    const auto source = Source::open(folder);
    ASSERT_TRUE(source) << source.error().what();
    for (std::uint32_t layer = 0; layer < source.value()->params.layers; layer++)
        expect_gradient(*source.value(), layer);
}
INSTANTIATE_TEST_SUITE_P(Golden, Families,
                         testing::Values("llama", "mistral-sliding", "qwen2", "qwen3", "gemma2", "gemma3", "phi3",
                                         "smollm3", "granite", "olmo2", "granitemoe", "qwen3-moe", "olmoe", "mixtral"),
                         [](const auto& p) {
                             std::string name = p.param;
                             std::erase(name, '-');
                             return name;
                         });
TEST(Gradient, OfTheTinyModel) {
    const std::string bytes = tiny::llama_gguf().file();
    const auto source = tiny_source(bytes);
    for (std::uint32_t layer = 0; layer < 2; layer++) expect_gradient(*source, layer);
}

TEST(InverseFactor, TimesItsMatrixIsOne) {
    std::mt19937 random(3);
    const long n = 70;
    const Eigen::MatrixXd a = random_matrix(n, n + 5, random).cast<double>();
    const Eigen::MatrixXd h = a * a.transpose();
    std::vector<double> factor(h.data(), h.data() + h.size());
    ASSERT_TRUE(inverse_factor(factor, n));
    const Eigen::Map<const Eigen::Matrix<double, -1, -1, Eigen::RowMajor>> u(factor.data(), n, n);
    for (long i = 0; i < n; i++)
        for (long j = 0; j < i; j++) ASSERT_EQ(u(i, j), 0);
    EXPECT_LT((u.transpose() * u * h - Eigen::MatrixXd::Identity(n, n)).norm(), 1e-8);
    std::vector<double> negative(factor.size(), -1);
    EXPECT_FALSE(inverse_factor(negative, n));
}

struct Problem {
    static constexpr long rows = 48, cols = 112;  // the last group is short
    Matrix w;
    std::vector<double> h;
    Objective objective;
    explicit Problem(double price) {
        std::mt19937 random(5);
        w = random_matrix(rows, cols, random, 0.05f);
        w(7, 40) = 2;  // an outlier
        w.row(9).setZero();
        const Matrix mix = random_matrix(cols, cols, random), x = random_matrix(400, cols, random) * mix;
        const Eigen::MatrixXd square = (x.transpose() * x).cast<double>() / 400;
        h.assign(square.data(), square.data() + square.size());
        EXPECT_TRUE(factor_hessian(h, cols, objective));
        for (long r = 0; r < rows; r++) objective.importance.push_back(0.5f + float(r % 5));
        objective.nats_a_bit = price;
    }
    // By the definition: importance * e H e^T, H damped as factor_hessian() does.
    double loss(const TensorData& t) const {
        const std::vector<float> rounded = dequantize(t);
        double mean = 0, sum = 0;
        for (long i = 0; i < cols; i++) mean += h[std::size_t(i * cols + i)] / cols;
        for (long r = 0; r < rows; r++)
            for (long a = 0; a < cols; a++)
                for (long b = 0; b < cols; b++) {
                    const auto e = [&](long c) { return double(rounded[std::size_t(r * cols + c)]) - double(w(r, c)); };
                    sum += objective.importance[std::size_t(r)] * e(a) * e(b) *
                           (h[std::size_t(a * cols + b)] + (a == b ? 0.01 * mean : 0));
                }
        return sum;
    }
    Rounded round(image::Kind kind, unsigned threads = 1) const {
        auto made =
            round_with_feedback(std::span(w.data(), std::size_t(w.size())), rows, cols, kind, {&objective, 1}, threads);
        EXPECT_TRUE(made) << made.error().what();
        return std::move(made).value();
    }
};

class Kinds : public testing::TestWithParam<image::Kind> {};
INSTANTIATE_TEST_SUITE_P(Feedback, Kinds, testing::Values(image::Kind::i4, image::Kind::i6, image::Kind::i8),
                         [](const auto& p) { return std::string(image::kind_name(p.param)); });

TEST_P(Kinds, LossIsWhatItsDefinitionSays) {
    for (const double price : {0.0, 1e-3, 1e-1}) {
        const Problem problem(price);
        const Rounded made = problem.round(GetParam());
        const double defined = problem.loss(made.tensor);
        EXPECT_NEAR(made.loss, defined, 2e-3 * defined) << price;
    }
}

TEST_P(Kinds, FeedbackLosesLessThanRounding) {
    const Problem problem(0);
    const auto values = std::span(problem.w.data(), std::size_t(problem.w.size()));
    const auto plain = GetParam() == image::Kind::i4   ? quantize_i4(values, Problem::rows, Problem::cols)
                       : GetParam() == image::Kind::i6 ? quantize_i6(values, Problem::rows, Problem::cols)
                                                       : quantize_i8(values, Problem::rows, Problem::cols);
    ASSERT_TRUE(plain);
    EXPECT_LT(problem.loss(problem.round(GetParam()).tensor),
              (GetParam() == image::Kind::i4 ? 0.5 : 0.75) * problem.loss(plain.value()));
}

TEST_P(Kinds, ADearerBitIsUsedLess) {
    double bits = INFINITY, loss = 0;
    for (const double price : {1e-3, 1e-2, 1e-1, 1.0}) {
        const Rounded made = Problem(price).round(GetParam());
        EXPECT_LT(made.bits, bits) << price;
        EXPECT_GT(made.loss, loss) << price;
        bits = made.bits;
        loss = made.loss;
    }
}

TEST_P(Kinds, TheSameOnAnyNumberOfThreads) {
    const Problem problem(1e-2);
    const Rounded one = problem.round(GetParam(), 1);
    for (const unsigned threads : {2u, 3u}) {
        const Rounded more = problem.round(GetParam(), threads);
        EXPECT_EQ(one.tensor.codes, more.tensor.codes);
        EXPECT_EQ(one.tensor.indices, more.tensor.indices);
        EXPECT_EQ(one.tensor.scales, more.tensor.scales);
        EXPECT_EQ(one.tensor.book, more.tensor.book);
    }
}

TEST_P(Kinds, ReachesAnOutlierAndKeepsNothingAsNothing) {
    const Problem problem(1e-3);
    const std::vector<float> values = dequantize(problem.round(GetParam()).tensor);
    EXPECT_NEAR(values[7 * Problem::cols + 40], 2, 0.2);
    for (long c = 0; c < Problem::cols; c++) EXPECT_EQ(values[std::size_t(9 * Problem::cols + c)], 0) << c;
}

TEST_P(Kinds, NamesAValueThatIsNotFinite) {
    Problem problem(0);
    problem.w(3, 5) = NAN;
    const auto made = round_with_feedback(std::span(problem.w.data(), std::size_t(problem.w.size())), Problem::rows,
                                          Problem::cols, GetParam(), {&problem.objective, 1}, 1);
    ASSERT_FALSE(made);
    EXPECT_STREQ(made.error().text, "the value at row 3, column 5 is not finite");
}

}  // namespace
}  // namespace slmd::pack
