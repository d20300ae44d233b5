// The f32 reference on SmolLM2-135M-Instruct against ../shared/golden (Hugging Face transformers in float32).
#include <gtest/gtest.h>

#include <algorithm>
#include <cmath>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>

#include "tests/pack/model.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {
namespace {

TEST(ReferenceModel, AgreesWithGolden) {
    const std::string folder = SLMD_SHARED "/golden/smollm2-135m-instruct/";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    if (!std::filesystem::exists(model_path()))
        GTEST_SKIP() << "no " << model_path() << ": run toolchain/demo once, or set SLMD_CACHE";
    const auto source = Source::open(model_path());
    ASSERT_TRUE(source) << source.error().what();
    const auto reference = Reference::open(*source.value());
    ASSERT_TRUE(reference) << reference.error().what();
    const std::size_t vocab = source.value()->params.vocab;
    const auto cases = nlohmann::json::parse(std::ifstream(folder + "cases.json"));
    const auto golden = read_npy_floats(folder + "last_logits.npy");
    ASSERT_TRUE(golden) << golden.error().what();
    ASSERT_EQ(golden.value().shape, (std::vector<std::size_t>{cases.size(), vocab}));

    float worst = 0;
    std::size_t positions = 0, steps = 0;
    for (std::size_t c = 0; c < cases.size(); c++) {
        SCOPED_TRACE("case " + std::to_string(c));
        const auto tokens = cases[c]["tokens"].get<std::vector<std::int32_t>>(),
                   top1 = cases[c]["top1"].get<std::vector<std::int32_t>>();
        const auto logits = reference.value()->logits(tokens);
        ASSERT_TRUE(logits) << logits.error().what();
        ASSERT_EQ(logits.value().size(), tokens.size() * vocab);

        const float* last = logits.value().data() + (tokens.size() - 1) * vocab;
        float distance = 0;
        for (std::size_t i = 0; i < vocab; i++)
            distance = std::max(distance, std::fabs(last[i] - golden.value().values[c * vocab + i]));
        EXPECT_LE(distance, 2e-3f);
        worst = std::max(worst, distance);

        for (std::size_t t = 0; t < tokens.size(); t++) {
            const float* row = logits.value().data() + t * vocab;
            const auto best = std::max_element(row, row + vocab) - row;
            // The margin is ours: golden's is not recorded, and both are within 2e-3 of each other.
            EXPECT_TRUE(best == top1[t] || row[best] - row[top1[t]] <= 1e-2f) << "position " << t;
            positions++;
        }

        if (!cases[c].contains("greedy")) continue;
        const auto greedy = cases[c]["greedy"].get<std::vector<std::int32_t>>();
        const auto margin = cases[c]["greedy_margin"].get<std::vector<float>>();
        ASSERT_EQ(greedy.size(), margin.size());
        const std::int32_t ends[] = {source.value()->tokenizer.eos};
        const auto ours = reference.value()->greedy(tokens, 32, ends);
        ASSERT_TRUE(ours) << ours.error().what();
        for (std::size_t s = 0; s < greedy.size() && margin[s] >= 0.05f; s++, steps++) {
            ASSERT_LT(s, ours.value().size());
            ASSERT_EQ(ours.value()[s].token, greedy[s]) << "step " << s;
            EXPECT_NEAR(ours.value()[s].margin, margin[s], 5e-3f) << "step " << s;
        }
    }
    // A test that compared nothing would pass too.
    EXPECT_GT(positions, 2500u);
    EXPECT_GT(steps, 300u);
    std::printf("last logits within %.2g; %zu positions, %zu greedy steps compared\n", double(worst), positions, steps);
}

}  // namespace
}  // namespace slmd::pack
