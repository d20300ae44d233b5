// A whole model quantized: work that is killed, the dial, what is refused, and mixtures of experts.
#include <gtest/gtest.h>
#include <sys/wait.h>
#include <unistd.h>

#include <csignal>
#include <filesystem>
#include <fstream>
#include <random>
#include <sstream>

#include "engine/engine.h"
#include "image/image.h"
#include "tests/pack/tiny.h"
#include "toolchain/slmpack/gptq/quantize_model.h"
#include "toolchain/slmpack/reference/logits.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {
namespace {

// A whole model, in a folder of its own.
class Whole : public testing::Test {
  protected:
    void SetUp() override {
        auto gguf = tiny::llama_gguf();
        gguf.erase("tokenizer.ggml.tokens");  // its merges make two that are not there
        std::vector<std::string> tokens;
        for (int i = 0; i < 40; i++)
            tokens.push_back(i == 0 ? "<|im_end|>" : i == 38 ? "BC" : i == 39 ? "DE" : std::string(1, char('A' + i)));
        gguf.texts("tokenizer.ggml.tokens", tokens);
        bytes_ = gguf.file();
        path_ = (std::filesystem::temp_directory_path() / ("gptq-" + std::to_string(getpid()))).string();
        std::filesystem::create_directories(path_);
        std::ofstream(path_ + "/tiny.gguf", std::ios::binary) << bytes_;
        auto source = Source::open(path_ + "/tiny.gguf");
        ASSERT_TRUE(source) << source.error().what();
        source_ = std::move(source).value();
        std::mt19937 random(1);
        for (int s = 0; s < 16; s++) {
            auto& sequence = sequences_.emplace_back();
            for (int i = 0; i < 24; i++) sequence.push_back(std::int32_t(random() % source_->params.vocab));
        }
    }
    void TearDown() override { std::filesystem::remove_all(path_); }

    QuantizeOptions options(const std::string& name) const {
        QuantizeOptions o;
        o.nats_a_bit = 1e-6;
        o.work = path_ + "/" + name + ".work";
        o.description = R"({"nats_a_bit": 1e-6})";
        o.import.chat_template = "none";
        return o;
    }
    std::string file(const std::string& name) const {
        std::ostringstream text;
        text << std::ifstream(path_ + "/" + name, std::ios::binary).rdbuf();
        return text.str();
    }
    std::string bytes_, path_;
    std::unique_ptr<Source> source_;
    std::vector<Sequence> sequences_;
};

TEST_F(Whole, KilledAnywhereItGoesOnAndEndsTheSame) {
    // By the dial, so that the survey has a forecast to go on with.
    const auto dialled = [&](const std::string& name) {
        auto o = options(name);
        o.nats_a_bit = 0;
        o.kl = 0.005;
        return o;
    };
    auto o = dialled("whole");
    int calls = 0;
    o.progress = [&](double) { calls++; };
    const auto done = quantize_model(*source_, sequences_, path_ + "/whole", o);
    ASSERT_TRUE(done) << done.error().what();
    EXPECT_FALSE(done.value().resumed);
    EXPECT_GT(calls, 8);
    EXPECT_FALSE(std::filesystem::exists(o.work));
    const std::string whole = file("whole");
    ASSERT_FALSE(whole.empty());
    ASSERT_TRUE(image::Image::open((path_ + "/whole").c_str(), {.threads = 1}));

    int resumed = 0;
    for (int killed_at = 1; killed_at <= calls; killed_at++) {
        const std::string name = "killed-" + std::to_string(killed_at);
        const pid_t child = fork();
        if (child == 0) {
            auto part = dialled(name);
            int call = 0;
            part.threads = 1;
            part.progress = [&](double) {
                if (++call == killed_at) raise(SIGKILL);
            };
            (void)quantize_model(*source_, sequences_, path_ + "/" + name, part);
            _exit(0);
        }
        int status;
        ASSERT_EQ(waitpid(child, &status, 0), child);
        ASSERT_TRUE(WIFSIGNALED(status)) << killed_at;
        EXPECT_FALSE(std::filesystem::exists(path_ + "/" + name));
        auto rest = dialled(name);
        rest.threads = 2;
        const auto finished = quantize_model(*source_, sequences_, path_ + "/" + name, rest);
        ASSERT_TRUE(finished) << finished.error().what();
        resumed += finished.value().resumed;
        EXPECT_EQ(file(name), whole) << "killed at " << killed_at;
    }
    // What goes forward through the layers is done again, all else is gone on with.
    EXPECT_EQ(resumed, calls - static_cast<int>(source_->params.layers) - 1);
}

TEST_F(Whole, WorkOfOtherOptionsOrDamagedIsRefused) {
    auto o = options("other");
    const pid_t child = fork();
    if (child == 0) {
        o.progress = [&](double part) {
            if (part > 0.5) raise(SIGKILL);
        };
        (void)quantize_model(*source_, sequences_, path_ + "/other", o);
        _exit(0);
    }
    ASSERT_EQ(waitpid(child, nullptr, 0), child);
    auto changed = options("other");
    changed.description = R"({"nats_a_bit": 2e-6})";
    const auto refused = quantize_model(*source_, sequences_, path_ + "/other", changed);
    ASSERT_FALSE(refused);
    EXPECT_NE(std::string(refused.error().text).find("unfinished work with another model or other options"),
              std::string::npos)
        << refused.error().text;

    std::fstream(o.work + "/survey", std::ios::in | std::ios::out | std::ios::binary).seekp(100).put('x');
    const auto damaged = quantize_model(*source_, sequences_, path_ + "/other", options("other"));
    ASSERT_FALSE(damaged);
    EXPECT_NE(std::string(damaged.error().text).find("survey is damaged"), std::string::npos) << damaged.error().text;
}

TEST_F(Whole, TheDialIsFollowed) {
    const auto made = [&](double kl, std::uint64_t bytes) {
        const std::string name = "dial-" + std::to_string(kl) + "-" + std::to_string(bytes);
        auto o = options(name);
        o.nats_a_bit = 0;
        o.kl = kl;
        o.bytes = bytes;
        auto done = quantize_model(*source_, sequences_, path_ + "/" + name, o);
        EXPECT_TRUE(done) << done.error().what();
        std::uint64_t stored = 0;
        for (const auto& [kind, k] : done.value().image.kinds) stored += k.stored;
        return std::pair(done.value(), stored);
    };
    const auto [near, near_bytes] = made(0.0005, 0);
    const auto [far, far_bytes] = made(0.05, 0);
    EXPECT_LT(near.loss, far.loss);
    EXPECT_LT(near.kl, far.kl);
    EXPECT_GT(near.kl, 0);
    EXPECT_LT(std::abs(std::log(near.kl / (2 * near.loss))), std::log(4)) << near.kl << " measured";
    EXPECT_LT(near.nats_a_bit, far.nats_a_bit);
    EXPECT_GT(near_bytes, far_bytes);
    const auto [large, large_bytes] = made(0, near_bytes);
    const auto [small, small_bytes] = made(0, far_bytes);
    EXPECT_LT(large.nats_a_bit, small.nats_a_bit);
    EXPECT_GT(large_bytes, small_bytes);
}

class Mixtures : public testing::TestWithParam<const char*> {
  protected:
    void SetUp() override {
        const std::string from = std::string(SLMD_SHARED "/golden/families/") + GetParam();
        if (!std::filesystem::exists(from)) GTEST_SKIP() << "no " << from;
        auto source = Source::open(from);
        ASSERT_TRUE(source) << source.error().what();
        source_ = std::move(source).value();
        folder_ = (std::filesystem::temp_directory_path() / ("experts-" + std::to_string(getpid()))).string();
        std::filesystem::create_directories(folder_);
        std::mt19937 random(7);
        for (int s = 0; s < 49; s++)
            for (auto& sequence = sequences_.emplace_back(); sequence.size() < 64;)
                sequence.push_back(std::int32_t(random() % source_->params.vocab));
        asked_ = std::move(sequences_.back());
        sequences_.pop_back();
    }
    void TearDown() override {
        if (!folder_.empty()) std::filesystem::remove_all(folder_);
    }
    Result<QuantizeSummary> quantize(const std::string& name, QuantizeOptions o) {
        o.nats_a_bit = 1e-13;  // sizes are not compared
        o.choice.only_i4 = true;
        o.work = folder_ + "/" + name + ".work";
        o.description = "{}";
        return quantize_model(*source_, sequences_, folder_ + "/" + name, o);
    }
    // From the reference, over a sequence that calibration has not seen.
    double kl_of(const std::string& name) {
        const auto reference = Reference::open(*source_);
        EXPECT_TRUE(reference) << reference.error().what();
        const std::vector<float> want = reference.value()->logits(asked_).value();
        const auto image = image::Image::open((folder_ + "/" + name).c_str(), {});
        EXPECT_TRUE(image) << image.error().what();
        auto opened = engine::Engine::open(image.value(), {.context = 64, .threads = 2, .batch = 64});
        EXPECT_TRUE(opened) << opened.error().what();
        const std::unique_ptr<engine::Engine> engine(opened.value());
        std::vector<float> logits;
        const auto keep = [](void* context, int, std::span<const float> row) {
            auto& to = *static_cast<std::vector<float>*>(context);
            to.insert(to.end(), row.begin(), row.end());
        };
        EXPECT_TRUE(engine->score(asked_, 64, keep, &logits));
        double sum = 0;
        const std::size_t vocab = source_->params.vocab;
        for (std::size_t at = 0; at < want.size(); at += vocab) {
            const std::span<const float> p = std::span(want).subspan(at, vocab),
                                         q = std::span(logits).subspan(at, vocab);
            sum += divergence(p, log_sum(p), q, log_sum(q));
        }
        return sum / double(asked_.size());
    }

    std::unique_ptr<Source> source_;
    std::string folder_;
    std::vector<Sequence> sequences_;
    Sequence asked_;
};

// Each expert rounded on what comes to it: at the same four bits closer to the source than by rounding alone. All
// experts are used, so that no error turns the choice of one, which says little of its size.
TEST_P(Mixtures, LoseLessThanByRounding) {
    source_->params.experts_used = source_->params.experts;
    ASSERT_TRUE(import_model(*source_, folder_ + "/rounded", {.kind = image::Kind::i4}));
    const auto done = quantize("quantized", {});
    ASSERT_TRUE(done) << done.error().what();
    const double rounded = kl_of("rounded"), quantized = kl_of("quantized");
    std::printf("KL: rounded %.3e, quantized %.3e\n", rounded, quantized);
    EXPECT_LT(quantized, 0.95 * rounded);  // both have the engine's activations in 8 bits
}

TEST_P(Mixtures, GoOnWhereTheyWereKilled) {
    const auto whole = quantize("whole", {.threads = 2});
    ASSERT_TRUE(whole) << whole.error().what();
    const pid_t child = fork();
    if (child == 0) {
        (void)quantize("killed", {.threads = 1, .progress = [](double part) {
                                      if (part > 0.5) raise(SIGKILL);
                                  }});
        _exit(0);
    }
    int status;
    ASSERT_EQ(waitpid(child, &status, 0), child);
    ASSERT_TRUE(WIFSIGNALED(status));
    std::string lines;
    const auto rest =
        quantize("killed", {.threads = 2, .report = [&](const std::string& line) { lines += line + "\n"; }});
    ASSERT_TRUE(rest) << rest.error().what();
    EXPECT_TRUE(rest.value().resumed);
    EXPECT_NE(lines.find("ffn_down_exps"), std::string::npos) << lines;
    EXPECT_EQ(lines.find("blk.0."), std::string::npos) << lines;  // was done
    const auto file = [&](const char* name) {
        std::ostringstream text;
        text << std::ifstream(folder_ + "/" + name, std::ios::binary).rdbuf();
        return text.str();
    };
    EXPECT_EQ(file("whole"), file("killed"));
}
INSTANTIATE_TEST_SUITE_P(Golden, Mixtures, testing::Values("granitemoe", "qwen3-moe", "olmoe", "mixtral"),
                         [](const auto& p) {
                             std::string name = p.param;
                             std::erase(name, '-');
                             return name;
                         });

TEST_F(Whole, TooLittleTextIsRefused) {
    const auto made = quantize_model(*source_, std::span(sequences_).first(3), path_ + "/few", options("few"));
    ASSERT_FALSE(made);
    EXPECT_STREQ(made.error().text,
                 "3 windows of calibration text: at least 8 are needed; give more of it (--text FILE)");
}

}  // namespace
}  // namespace slmd::pack
