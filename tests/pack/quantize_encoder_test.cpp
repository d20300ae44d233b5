// An encoder rounded with error feedback: nearer to its source than without, and the same bytes on any number of
// threads.
#include "toolchain/slmpack/gptq/quantize_encoder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>
#include <memory>

#include "engine/encoder.h"
#include "toolchain/slmpack/npy.h"

namespace slmd::pack {
namespace {

const std::string folder = SLMD_SOURCE "/tests/pack/bert";

std::string bytes_of(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    return {std::istreambuf_iterator<char>(in), {}};
}

// Mean of 1 - cosine of some texts' embeddings, between two images.
double distance(const image::Image& a, const image::Image& b, std::span<const Sequence> texts) {
    const std::atomic<bool> never{false};
    std::vector<std::vector<float>> both[2];
    for (const image::Image* image : {&a, &b}) {
        auto opened = engine::Encoder::open(*image, {.context = 0, .threads = 1});
        EXPECT_TRUE(opened);
        const std::unique_ptr<engine::Encoder> e(opened.value());
        for (const Sequence& text : texts) {
            auto& out = both[image == &b].emplace_back(std::size_t(e->dim()));
            const engine::Encoder::Text one{text, out.data()};
            EXPECT_TRUE(e->embed({&one, 1}, never));
        }
    }
    double sum = 0;
    for (std::size_t i = 0; i < texts.size(); i++)
        for (std::size_t k = 0; k < both[0][i].size(); k++) sum += double(both[0][i][k]) * both[1][i][k];
    return 1 - sum / double(texts.size());
}

TEST(QuantizeEncoder, IsNearerThanRoundingAndTheSameOnAnyNumberOfThreads) {
    const auto source = Source::open(folder);
    ASSERT_TRUE(source) << source.error().what();
    const std::string path = testing::TempDir() + "slmd-quantize-encoder-" + std::to_string(getpid());
    const auto all = texts_of_vocabulary(*source.value(), 6000);
    const auto texts = std::span(all);
    for (const Sequence& t : texts) {
        ASSERT_LE(t.size(), 24u);
        ASSERT_EQ(t.front(), 2);
        ASSERT_EQ(t.back(), 3);
    }
    const auto made = [&](const char* name, const auto& make) {
        EXPECT_TRUE(make(path + name));
        return path + name;
    };
    const auto quantized = [&](const char* name, bool only_i4, unsigned threads) {
        return made(name, [&](const std::string& to) {
            return bool(quantize_encoder(*source.value(), texts.first(texts.size() / 2), to,
                                         {.only_i4 = only_i4, .threads = threads}));
        });
    };
    const auto imported = [&](const char* name, std::optional<image::Kind> kind) {
        return made(name,
                    [&](const std::string& to) { return bool(import_model(*source.value(), to, {.kind = kind})); });
    };
    const std::string f32 = imported("-f32", image::Kind::f32), plain = imported("-i4", image::Kind::i4),
                      feedback = quantized("-q", true, 1), again = quantized("-again", true, 3),
                      wide = quantized("-wide", false, 2);
    EXPECT_EQ(bytes_of(feedback), bytes_of(again));
    const auto open = [](const std::string& p) { return image::Image::open(p.c_str(), {}).value(); };
    const auto unseen = texts.last(64);
    const image::Image truth = open(f32), with_v = open(wide);
    const double rounding = distance(truth, open(plain), unseen), fed_back = distance(truth, open(feedback), unseen),
                 wider = distance(truth, with_v, unseen);
    std::printf("1 - cosine: rounded %.5f, with feedback %.5f, values and embeddings in 8 bits %.5f\n", rounding,
                fed_back, wider);
    EXPECT_LT(fed_back, 0.8 * rounding);
    EXPECT_LT(wider, 0.8 * fed_back);
    EXPECT_EQ(with_v.tensor("blk.0.attn_v").value().kind, image::Kind::i8);
    EXPECT_EQ(with_v.tensor("blk.0.attn_q").value().kind, image::Kind::i4);
    for (const std::string& p : {f32, plain, feedback, again, wide}) std::filesystem::remove(p);
}

TEST(QuantizeEncoder, NeedsTexts) {
    const auto source = Source::open(folder);
    ASSERT_TRUE(source);
    const std::vector<Sequence> few(15, Sequence{2, 7, 3});
    const auto done = quantize_encoder(*source.value(), few, "/nowhere/x", {});
    ASSERT_FALSE(done);
    EXPECT_NE(std::string(done.error().what()).find("15 calibration texts: at least 16"), std::string::npos);
}

}  // namespace
}  // namespace slmd::pack
