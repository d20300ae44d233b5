// The f32 reference on tiny models: against transformers' logits, and against itself.
#include "toolchain/slmpack/reference/reference.h"

#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>

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

// Experts that the parameters have and the file lacks, or the other way round.
TEST(Mixtures, ExpertsThatAreNotThoseOfTheParametersAreRefused) {
    const auto replace = [](std::string& text, const std::string& from, const std::string& to) {
        text.replace(text.find(from), from.size(), to);
    };
    // In the file's header, in as many bytes.
    const auto opened = [&](const std::string& name, const std::string& from, const std::string& to,
                            const std::string& file_from = "F", const std::string& file_to = "F") {
        const std::string folder = std::string(SLMD_SHARED "/golden/families/") + name;
        std::ifstream in(folder + "/config.json");
        std::string config{std::istreambuf_iterator<char>(in), {}};
        replace(config, from, to);
        std::ifstream weights(folder + "/model.safetensors", std::ios::binary);
        std::string bytes{std::istreambuf_iterator<char>(weights), {}};
        replace(bytes, file_from, file_to);
        std::vector<std::pair<std::string, FileBytes>> shards;
        shards.emplace_back("model.safetensors", FileBytes{std::nullopt, std::as_bytes(std::span(bytes))});
        const auto source = open_hugging_face(config, std::move(shards), folder);
        return source ? std::string() : source.error().text;
    };
    if (!std::filesystem::exists(SLMD_SHARED "/golden/families/qwen3-moe")) GTEST_SKIP() << "no qwen3-moe";
    const std::string eight = "\"num_local_experts\": 8", used = "\"num_experts_per_tok\": 2";
    EXPECT_EQ(opened("qwen3-moe", eight, eight), "");
    EXPECT_NE(opened("qwen3-moe", eight, "\"num_local_experts\": 9")
                  .find("mlp.gate.weight is 8 x 64, the model's parameters ask for 9 x 64"),
              std::string::npos);
    EXPECT_NE(opened("qwen3-moe", eight, eight, "experts.7.up_proj", "experts.9.up_proj")
                  .find("experts.7.up_proj.weight is missing"),
              std::string::npos);
    EXPECT_NE(opened("qwen3-moe", eight, eight, "experts.7.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[48,64]",
                     "experts.7.up_proj.weight\":{\"dtype\":\"BF16\",\"shape\":[64,48]")
                  .find("experts.7.up_proj.weight is 64 x 48, the model's parameters ask for 48 x 64"),
              std::string::npos);
    EXPECT_NE(opened("granitemoe", eight, "\"num_local_experts\": 4")
                  .find("router.layer.weight is 8 x 64, the model's parameters ask for 4 x 64"),
              std::string::npos);
    EXPECT_NE(opened("olmoe", used, "\"num_experts_per_tok\": 9").find("a token goes to 9 of 8 experts"),
              std::string::npos);
    EXPECT_NE(opened("mixtral", eight.substr(0, eight.size() - 1) + "4", "\"num_local_experts\": 257").find("257"),
              std::string::npos);
}

INSTANTIATE_TEST_SUITE_P(Families, Golden,
                         testing::Values("llama", "llama-tied", "llama3-rope", "mistral-sliding", "qwen2", "qwen3",
                                         "gemma2", "gemma3", "phi3", "smollm3", "granite", "olmo2", "granitemoe",
                                         "qwen3-moe", "olmoe", "mixtral"),
                         [](const auto& p) {
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

// Two texts that part after two tokens, and a third that parts at once.
TEST_F(Tiny, ATreeIsItsTexts) {
    const std::vector<std::int32_t> tokens = {39, 0, 12, 5, 12, 9, 20, 2}, parents = {-1, 0, 1, 2, 1, 4, -1, 5};
    const std::vector<std::size_t> wanted = {3, 7, 6, 1, 0};
    for (const std::uint32_t window : {0u, 3u, 1u}) {
        source_->params.window = window;  // of one layer of the two, and shorter than what stands before
        source_->params.sliding[0] = 1;
        const auto r = Reference::open(*source_);
        ASSERT_TRUE(r);
        const Reference& model = *r.value();
        for (const std::size_t n : {std::size_t{0}, std::size_t{2}, tokens_.size()}) {
            const std::vector<std::int32_t> before(tokens_.begin(), tokens_.begin() + std::ptrdiff_t(n));
            const auto cache = model.read(before);
            ASSERT_TRUE(cache) << cache.error().what();
            std::size_t rows = 0;
            const auto done = model.tree(cache.value(), tokens, parents, wanted, [&](std::size_t i, auto logits) {
                EXPECT_EQ(i, rows++);
                std::vector<std::int32_t> text;
                for (std::int32_t at = std::int32_t(wanted[i]); at >= 0; at = parents[std::size_t(at)])
                    text.insert(text.begin(), tokens[std::size_t(at)]);
                text.insert(text.begin(), before.begin(), before.end());
                const auto alone = model.logits(text, text.size() - 1);
                ASSERT_TRUE(alone);
                EXPECT_LE(distance(logits, alone.value()), 1e-5f) << window << ' ' << n << ' ' << i;
            });
            ASSERT_TRUE(done) << done.error().what();
            EXPECT_EQ(rows, wanted.size());
        }
    }
}

TEST_F(Tiny, ImpossibleTreesAreRefused) {
    const auto refused = [&](std::size_t before, std::vector<std::int32_t> tokens, std::vector<std::int32_t> parents,
                             std::vector<std::size_t> wanted) {
        const auto cache = reference_->read(std::vector<std::int32_t>(before, 1));
        EXPECT_TRUE(cache);
        const auto done = reference_->tree(cache.value(), tokens, parents, wanted, [](std::size_t, auto) { FAIL(); });
        EXPECT_FALSE(done);
        return done ? Code{} : done.error().code;
    };
    EXPECT_EQ(refused(0, {}, {}, {}), Code::incorrect_parameters);
    EXPECT_EQ(refused(0, {1, 2}, {-1, 1}, {1}), Code::incorrect_parameters);
    EXPECT_EQ(refused(0, {1, 2}, {-1}, {0}), Code::incorrect_parameters);
    EXPECT_EQ(refused(0, {1, 2}, {-1, 0}, {2}), Code::incorrect_parameters);
    EXPECT_EQ(refused(0, {1, 40}, {-1, 0}, {1}), Code::incorrect_parameters);
    EXPECT_EQ(refused(127, {1, 2}, {-1, 0}, {1}), Code::context_full);
    EXPECT_EQ(reference_->read(std::vector<std::int32_t>(129, 1)).error().code, Code::context_full);
}

TEST_F(Tiny, RefusesWhatItCannotCompute) {
    EXPECT_EQ(reference_->logits({}).error().code, Code::incorrect_parameters);
    const std::vector<std::int32_t> outside = {1, 40}, negative = {-1}, long_one(129, 1);
    EXPECT_EQ(reference_->logits(outside).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->logits(negative).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->logits(long_one).error().code, Code::context_full);
    EXPECT_EQ(reference_->logits(tokens_, 8).error().code, Code::incorrect_parameters);
    EXPECT_EQ(reference_->greedy(tokens_, 200, {}).error().code, Code::context_full);
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

// llama2.c's run.c written down once more, in double precision and with its own adjacent-pair RoPE: it knows nothing of
// tables, names or halves.
std::vector<double> run_c(std::span<const std::byte> file, std::span<const std::int32_t> tokens) {
    std::int32_t head[7];
    std::memcpy(head, file.data(), sizeof head);
    const std::size_t dim = head[0], hidden = head[1], layers = head[2], heads = head[3], kv_heads = head[4],
                      vocab = std::abs(head[5]), context = head[6];
    const std::size_t hd = dim / heads, kv = kv_heads * hd, n = tokens.size();
    std::vector<float> all((file.size() - sizeof head) / sizeof(float));
    std::memcpy(all.data(), file.data() + sizeof head, all.size() * sizeof(float));
    const float* at = all.data();
    const auto next = [&](std::size_t count) { return std::exchange(at, at + count); };
    const float *embedding = next(vocab * dim), *norm1 = next(layers * dim), *wq = next(layers * dim * dim),
                *wk = next(layers * dim * kv), *wv = next(layers * dim * kv), *wo = next(layers * dim * dim),
                *norm2 = next(layers * dim), *w1 = next(layers * dim * hidden), *w2 = next(layers * dim * hidden),
                *w3 = next(layers * dim * hidden), *norm3 = next(dim);
    next(context * hd);
    const float* out = head[5] > 0 ? embedding : at;

    using V = std::vector<double>;
    const auto norm = [&](const V& x, const float* w) {
        double sum = 0;
        for (const double v : x) sum += v * v;
        V y(dim);
        for (std::size_t i = 0; i < dim; i++) y[i] = x[i] / std::sqrt(sum / double(dim) + 1e-5) * double(w[i]);
        return y;
    };
    const auto multiply = [](const V& x, const float* w, std::size_t rows) {
        V y(rows);
        for (std::size_t r = 0; r < rows; r++)
            for (std::size_t c = 0; c < x.size(); c++) y[r] += double(w[r * x.size() + c]) * x[c];
        return y;
    };
    const auto rotate = [&](V& x, std::size_t position) {
        for (std::size_t i = 0; i < x.size(); i += 2) {
            const double angle = double(position) * std::pow(10000.0, -double(i % hd) / double(hd)), a = x[i],
                         b = x[i + 1];
            x[i] = a * std::cos(angle) - b * std::sin(angle);
            x[i + 1] = a * std::sin(angle) + b * std::cos(angle);
        }
    };
    std::vector<std::vector<V>> keys(layers, std::vector<V>(n)), values = keys;
    V logits;
    for (std::size_t t = 0; t < n; t++) {
        V x(embedding + std::size_t(tokens[t]) * dim, embedding + std::size_t(tokens[t] + 1) * dim);
        for (std::size_t l = 0; l < layers; l++) {
            const V a = norm(x, norm1 + l * dim);
            V q = multiply(a, wq + l * dim * dim, dim), k = multiply(a, wk + l * dim * kv, kv), mixed(dim);
            rotate(q, t);
            rotate(k, t);
            keys[l][t] = k;
            values[l][t] = multiply(a, wv + l * dim * kv, kv);
            for (std::size_t h = 0; h < heads; h++) {
                const std::size_t shared = h / (heads / kv_heads) * hd;
                V score(t + 1);
                double sum = 0;
                for (std::size_t s = 0; s <= t; s++) {
                    for (std::size_t i = 0; i < hd; i++) score[s] += q[h * hd + i] * keys[l][s][shared + i];
                    sum += score[s] = std::exp(score[s] / std::sqrt(double(hd)));
                }
                for (std::size_t s = 0; s <= t; s++)
                    for (std::size_t i = 0; i < hd; i++) mixed[h * hd + i] += score[s] / sum * values[l][s][shared + i];
            }
            const V o = multiply(mixed, wo + l * dim * dim, dim);
            for (std::size_t i = 0; i < dim; i++) x[i] += o[i];
            const V f = norm(x, norm2 + l * dim);
            V gate = multiply(f, w1 + l * dim * hidden, hidden);
            const V up = multiply(f, w3 + l * dim * hidden, hidden);
            for (std::size_t i = 0; i < hidden; i++) gate[i] = gate[i] / (1 + std::exp(-gate[i])) * up[i];
            const V down = multiply(gate, w2 + l * dim * hidden, dim);
            for (std::size_t i = 0; i < dim; i++) x[i] += down[i];
        }
        const V row = multiply(norm(x, norm3), out, vocab);
        logits.insert(logits.end(), row.begin(), row.end());
    }
    return logits;
}

TEST(Llama2c, AgreesWithRunC) {
    std::vector<std::string> files;
    for (const char* name : {"stories260K/stories260K.bin", "babyllama-tok105/model5000.bin"})
        if (const std::string file = std::string(SLMD_SHARED "/models/") + name; std::filesystem::exists(file))
            files.push_back(file);
    if (files.empty()) GTEST_SKIP() << "no models in " << SLMD_SHARED << "/models";
    for (const auto& file : files) {
        const auto source = Source::open(file);
        ASSERT_TRUE(source) << source.error().what();
        const auto reference = Reference::open(*source.value());
        ASSERT_TRUE(reference) << reference.error().what();
        std::vector<std::int32_t> tokens = {1};
        const auto steps = reference.value()->greedy(tokens, 40, {});
        ASSERT_TRUE(steps) << steps.error().what();
        for (const auto& s : steps.value()) tokens.push_back(s.token);
        const auto logits = reference.value()->logits(tokens).value();
        const auto bytes = FileBytes::open(file);
        ASSERT_TRUE(bytes);
        const auto expected = run_c(bytes.value().bytes, tokens);
        ASSERT_EQ(logits.size(), expected.size());
        double most = 0;
        for (std::size_t i = 0; i < expected.size(); i++)
            most = std::max(most, std::fabs(expected[i] - double(logits[i])));
        EXPECT_LE(most, 1e-4) << file;
    }
}

// A trained model is surprised by its own language no more than its authors said (0.7366 nats a character in
// validation).
TEST(Llama2c, BabyllamaKnowsItsStories) {
    const std::string file = SLMD_SHARED "/models/babyllama-tok105/model5000.bin";
    if (!std::filesystem::exists(file)) GTEST_SKIP() << "no " << file;
    const auto source = Source::open(file);
    ASSERT_TRUE(source) << source.error().what();
    std::vector<std::string> vocab;  // one character a line, then its score
    std::ifstream lines(SLMD_SHARED "/models/babyllama-tok105/tok105.vocab");
    for (std::string line; std::getline(lines, line);) vocab.push_back(line.substr(0, line.rfind('\t')));
    ASSERT_EQ(vocab.size(), 105u);
    std::vector<std::int32_t> tokens = {1};
    for (const char c : std::string(" Once upon a time there was a little girl named Lily. She loved to play outside "
                                    "in the sunshine. One day, she went to the park.")) {
        const auto found = std::find(vocab.begin(), vocab.end(), c == ' ' ? "\u2581" : std::string(1, c));
        ASSERT_NE(found, vocab.end()) << c;
        tokens.push_back(std::int32_t(found - vocab.begin()));
    }
    const auto reference = Reference::open(*source.value());
    ASSERT_TRUE(reference) << reference.error().what();
    const auto logits = reference.value()->logits(tokens).value();
    double surprise = 0;
    for (std::size_t t = 0; t + 1 < tokens.size(); t++) {
        double sum = 0;
        for (std::size_t v = 0; v < 105; v++) sum += std::exp(double(logits[t * 105 + v]));
        surprise += std::log(sum) - double(logits[t * 105 + std::size_t(tokens[t + 1])]);
    }
    surprise /= double(tokens.size() - 1);
    EXPECT_LT(surprise, 0.7366);
}

}  // namespace
}  // namespace slmd::pack
