// The f32 reference on the real models against ../shared/golden (Hugging Face transformers in float32).
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

struct GoldenModel {
    const char *name, *golden, *file;
    std::size_t positions, steps;                 // that must be compared: a test that compared nothing would pass too
    std::size_t shortest = 0, longest = 100'000;  // cases, in tokens
};

class ReferenceModel : public testing::TestWithParam<GoldenModel> {};

TEST_P(ReferenceModel, AgreesWithGolden) {
    const std::string folder = std::string(SLMD_SHARED "/golden/") + GetParam().golden + "/";
    const std::string path = model_path(GetParam().file);
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    if (!std::filesystem::exists(path))
        GTEST_SKIP() << "no " << path << ": run toolchain/fetch-model, or set SLMD_CACHE";
    const auto source = Source::open(path);
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
        if (tokens.size() < GetParam().shortest || tokens.size() > GetParam().longest) continue;
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
    EXPECT_GE(positions, GetParam().positions);
    EXPECT_GE(steps, GetParam().steps);
    std::printf("last logits within %.2g; %zu positions, %zu greedy steps compared\n", double(worst), positions, steps);
}

const auto name_of = [](const auto& p) { return std::string(p.param.name); };
INSTANTIATE_TEST_SUITE_P(Demo, ReferenceModel,
                         testing::Values(GoldenModel{"SmolLM2", "smollm2-135m-instruct",
                                                     "SmolLM2-135M-Instruct.Q4_1.gguf", 500, 300, 0, 100},
                                         GoldenModel{"SmolLM2Long", "smollm2-135m-instruct",
                                                     "SmolLM2-135M-Instruct.Q4_1.gguf", 2000, 0, 101}),
                         name_of);
INSTANTIATE_TEST_SUITE_P(Large, ReferenceModel,
                         testing::Values(GoldenModel{"Qwen2Coder", "qwen2.5-coder-0.5b-instruct",
                                                     "Qwen2.5-Coder-0.5B-Instruct.gguf", 2500, 450},
                                         GoldenModel{"Gemma3", "gemma-3-270m", "gemma-3-270m.Q4_K_M.gguf", 2200, 150}),
                         name_of);

}  // namespace
}  // namespace slmd::pack
