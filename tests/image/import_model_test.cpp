// The real model: its codes unchanged, its image small enough, and the program that makes it.
#include <gtest/gtest.h>
#include <sys/wait.h>

#include "image/image.h"
#include "synthetic.h"
#include "tests/pack/model.h"
#include "toolchain/slmpack/image/import.h"
#include "unpack.h"

namespace slmd::test {
namespace {

TEST(ImportModel, SmolLM2KeepsEveryCode) {
    if (!std::filesystem::exists(model_path()))
        GTEST_SKIP() << "no " << model_path() << ": toolchain/fetch-model gets it";
    const auto source = pack::Source::open(model_path());
    ASSERT_TRUE(source) << source.error().text;
    const TemporaryFolder folder;
    const std::string path = folder / "m.slm";
    const auto done = pack::import_model(*source.value(), path, {});
    ASSERT_TRUE(done) << done.error().text;
    const double ratio = static_cast<double>(done.value().image_bytes) / static_cast<double>(done.value().source_bytes);
    std::printf("image: %llu bytes, %.4f of the GGUF\n", static_cast<unsigned long long>(done.value().image_bytes),
                ratio);
    EXPECT_LE(ratio, 0.94);

    auto image = image::Image::open(path.c_str(), {.threads = 2});
    ASSERT_TRUE(image) << image.error().text;
    std::size_t coded = 0;
    for (const auto& t : source.value()->tensors) {
        const auto got = image->tensor(t.name);
        ASSERT_TRUE(got) << got.error().text;
        const auto codes = source.value()->codes(t);
        ASSERT_TRUE(codes);
        if (!codes.value()) continue;
        coded++;
        const pack::Codes& want = *codes.value();
        const std::size_t groups = t.cols / 32;
        std::size_t wrong = 0;
        for (std::uint32_t r = 0; r < t.rows; r++)
            for (std::uint32_t c = 0; c < t.cols; c++) {
                const Element e = element(got.value(), r, c);
                const std::size_t g = r * groups + c / 32, cell = e.group / 8, lane = e.group % 8;
                wrong += e.code != want.codes[std::size_t{r} * t.cols + c];
                if (c % 32 != 0) continue;
                if (want.kind == image::Kind::i8) {
                    wrong += at<std::uint16_t>(got.value().scales, e.group) != want.scales[g];
                } else {
                    wrong += at<std::uint16_t>(got.value().scales, cell * 16 + lane) != want.scales[g];
                    wrong += at<std::uint16_t>(got.value().scales, cell * 16 + 8 + lane) != want.minimums[g];
                }
            }
        EXPECT_EQ(wrong, 0u) << t.name;
    }
    EXPECT_EQ(coded, 211u) << "210 matrices in Q4_1 and the embedding in Q8_0";
}

}  // namespace
}  // namespace slmd::test
