// The quantizer's error on known distributions, and the edges that a clipped outlier would show.
#include "toolchain/slmpack/image/quantize.h"

#include <gtest/gtest.h>

#include <cmath>
#include <random>

#include "toolchain/slmpack/image/half.h"

namespace slmd::test {
namespace {

using namespace pack;

std::vector<float> draw(std::size_t n, auto distribution, unsigned seed = 1) {
    std::mt19937 random(seed);
    std::vector<float> v(n);
    for (float& x : v) x = distribution(random);
    return v;
}

double relative_rms(const std::vector<float>& a, const std::vector<float>& b) {
    double e = 0, s = 0;
    for (std::size_t i = 0; i < a.size(); i++) {
        e += (a[i] - b[i]) * static_cast<double>(a[i] - b[i]);
        s += static_cast<double>(a[i]) * a[i];
    }
    return std::sqrt(e / s);
}

TEST(Quantize, GaussianErrorOfFourBits) {
    const auto w = draw(512 * 1024, std::normal_distribution<float>(0, 0.02f));
    const auto t = quantize_i4(w, 512, 1024);
    ASSERT_TRUE(t);
    const double error = relative_rms(w, dequantize(t.value()));
    RecordProperty("relative_rms", std::to_string(error));
    std::printf("i4, trained levels, Gaussian: relative RMS %.4f\n", error);
    EXPECT_LE(error, 0.085);
    EXPECT_GE(error, 0.05) << "16 levels cannot be that good: the measure is broken";
    for (const auto level : t.value().book) EXPECT_LE(std::abs(level), 31);
}

TEST(Quantize, HeavyTailsDoNotClip) {
    auto w = draw(64 * 512, std::student_t_distribution<float>(4));
    w[5 * 512 + 77] = 300;  // one outlier far outside
    const auto t = quantize_i4(w, 64, 512);
    ASSERT_TRUE(t);
    const auto back = dequantize(t.value());
    EXPECT_NEAR(back[5 * 512 + 77], 300, 300 * 0.05);
    EXPECT_LE(relative_rms(w, back), 0.12);
}

TEST(Quantize, UniformDataTakesUniformLevels) {
    std::vector<float> w(64 * 64);
    std::mt19937 random(3);
    for (float& x : w) x = static_cast<float>(static_cast<int>(random() % 16) - 7) * 0.25f;
    for (std::size_t g = 0; g < w.size(); g += 32) w[g] = 8 * 0.25f;
    const auto t = quantize_i4(w, 64, 64);
    ASSERT_TRUE(t);
    EXPECT_LE(relative_rms(w, dequantize(t.value())), 0.02) << "values on a uniform grid come back almost exactly";
}

TEST(Quantize, EdgesAreExactOrRefused) {
    std::vector<float> zeros(16 * 40);
    for (const auto& t : {quantize_i4(zeros, 16, 40), quantize_i8(zeros, 16, 40)}) {
        ASSERT_TRUE(t);
        EXPECT_EQ(dequantize(t.value()), zeros);
    }
    std::vector<float> w = draw(16 * 40, std::normal_distribution<float>());
    w[3 * 40 + 2] = NAN;
    const auto nan = quantize_i4(w, 16, 40);
    ASSERT_FALSE(nan);
    EXPECT_NE(std::string(nan.error().text).find("row 3, column 2"), std::string::npos) << nan.error().text;
    EXPECT_FALSE(quantize_i8(w, 16, 40));
    w[3 * 40 + 2] = 1e38f;
    EXPECT_FALSE(quantize_i8(w, 16, 40)) << "f16 holds no such scale";
    EXPECT_TRUE(quantize_i4(w, 16, 40));
}

TEST(Quantize, EightBitsStayWithinHalfAStep) {
    const auto w = draw(64 * 200, std::normal_distribution<float>());
    const auto t = quantize_i8(w, 64, 200);
    ASSERT_TRUE(t);
    const auto back = dequantize(t.value());
    for (std::size_t r = 0; r < 64; r++)
        for (std::size_t c = 0; c < 200; c++) {
            const float scale = from_half(t.value().scales[r * 7 + c / 32]);
            EXPECT_LE(std::abs(w[r * 200 + c] - back[r * 200 + c]), scale * 0.57f);
        }
    EXPECT_LE(relative_rms(w, back), 0.007);
}

TEST(Half, RoundTripAndRounding) {
    for (std::uint32_t h = 0; h < 65536; h++) {
        const float f = from_half(static_cast<std::uint16_t>(h));
        if (std::isnan(f))
            EXPECT_TRUE(std::isnan(from_half(to_half(f))));
        else
            EXPECT_EQ(to_half(f), h);
    }
    EXPECT_EQ(to_half(1 + 0x1p-11f), 0x3c00) << "half to even";
    EXPECT_EQ(to_half(1 + 3 * 0x1p-11f), 0x3c02);
    EXPECT_EQ(to_half(65520), 0x7c00);
    EXPECT_EQ(to_half(65519), 0x7bff);
    EXPECT_EQ(to_half(0x1p-25f), 0) << "half to even at the smallest";
    EXPECT_EQ(to_half(0x1.8p-25f), 1);
}

}  // namespace
}  // namespace slmd::test
