// The real model: SmolLM2-135M-Instruct, from the cache.
#include "tests/pack/model.h"

#include <gtest/gtest.h>

#include <filesystem>

#include "toolchain/slmpack/source.h"
#include "toolchain/slmpack/source/tensor_types.h"

namespace slmd::pack {
namespace {

class SmolLM2 : public testing::Test {
  protected:
    void SetUp() override {
        if (!std::filesystem::exists(model_path()))
            GTEST_SKIP() << "no " << model_path() << ": run toolchain/demo once, or set SLMD_CACHE";
        auto s = Source::open(model_path());
        ASSERT_TRUE(s) << s.error().what();
        source_ = std::move(s).value();
    }
    std::unique_ptr<Source> source_;
};

TEST_F(SmolLM2, Params) {
    const auto& p = source_->params;
    EXPECT_STREQ(p.name, "SmolLM2-135M-Instruct");
    EXPECT_EQ(p.layers, 30u);
    EXPECT_EQ(p.dim, 576u);
    EXPECT_EQ(p.hidden, 1536u);
    EXPECT_EQ(p.heads, 9u);
    EXPECT_EQ(p.kv_heads, 3u);
    EXPECT_EQ(p.head_dim, 64u);
    EXPECT_EQ(p.rope_dims, 64u);
    EXPECT_EQ(p.vocab, 49152u);
    EXPECT_EQ(p.context, 8192u);
    EXPECT_EQ(p.rope_theta, 100000.0f);
    EXPECT_EQ(p.flags, image::flag_tied_output);
    EXPECT_EQ(source_->tokenizer.pre, "smollm");
    EXPECT_EQ(source_->tokenizer.tokens.size(), 49152u);
    EXPECT_EQ(source_->tokenizer.eos, 2);
    EXPECT_FALSE(source_->chat_template.empty());
}

TEST_F(SmolLM2, EveryMatrixComesAsCodesWithTheSameValues) {
    int matrices = 0;
    for (const auto& t : source_->tensors) {
        const auto values = source_->read(t);
        ASSERT_TRUE(values) << values.error().what();
        const auto codes = source_->codes(t);
        ASSERT_TRUE(codes) << codes.error().what();
        ASSERT_EQ(codes.value().has_value(), t.rows > 1) << t.name;
        if (!codes.value()) continue;
        matrices++;
        const Codes& c = *codes.value();
        EXPECT_EQ(c.kind, t.name == "token_embd" ? image::Kind::i8 : image::Kind::i4a);
        std::size_t wrong = 0;
        for (std::size_t i = 0; i < c.codes.size(); i++) {
            const float product = float(c.codes[i]) * half_to_float(c.scales[i / 32]);
            wrong += (c.kind == image::Kind::i8 ? product : product + half_to_float(c.minimums[i / 32])) !=
                     values.value()[i];
        }
        EXPECT_EQ(wrong, 0u) << t.name;
    }
    EXPECT_EQ(matrices, 211);
}

}  // namespace
}  // namespace slmd::pack
