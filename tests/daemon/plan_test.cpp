// The memory plan against what is available: refused in time, with what would fit.
#include "daemon/plan.h"

#include "harness.h"
#include "tests/engine/tiny_adapter.h"

using namespace slmd;
using namespace slmd::testing;

namespace {

// The figure behind `name = ` in a text; 0: none.
int suggested(const std::string& text, const std::string& name) {
    const std::size_t at = text.find(name + " = ");
    return at == std::string::npos ? 0 : std::stoi(text.substr(at + name.size() + 3));
}

}  // namespace

TEST(Plan, too_little_memory_is_refused_with_what_fits) {
    daemon::Config config;
    ASSERT_TRUE(daemon::set_text("model", tiny_image().c_str(), config.model, sizeof config.model));
    ASSERT_TRUE(daemon::set_text("draft", tiny_image().c_str(), config.draft_model, sizeof config.draft_model));
    config.engine.context = 256;
    config.engine.slots = 4;
    config.engine.threads = 2;
    auto images = daemon::open_indexes(config);
    ASSERT_TRUE(images) << images.error().what();
    const auto total = [&](const daemon::Config& c) { return daemon::plan(*images, c).value().total(); };
    const std::uint64_t all = total(config);
    EXPECT_TRUE(daemon::check_memory(*images, config, all));

    const auto refused = daemon::check_memory(*images, config, all - 1);
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::model_memory);
    const std::string text = refused.error().text;
    for (const char* part : {"slots = 1", "threads = 1", "no draft model"})
        EXPECT_NE(text.find(part), std::string::npos) << part << " in: " << text;
    // What is named fits, and is the largest that does.
    daemon::Config smaller = config;
    smaller.engine.context = suggested(text, "context");
    ASSERT_GT(smaller.engine.context, 0) << text;
    EXPECT_LE(total(smaller), all - 1);
    smaller.engine.context += 64;
    EXPECT_GT(total(smaller), all - 1);

    // Nothing alone is enough: all together, or nothing.
    smaller = config;
    smaller.draft_model[0] = 0;
    smaller.engine.slots = smaller.engine.threads = 1;
    smaller.engine.context = 128;
    const std::uint64_t little = total(smaller);
    const auto together = daemon::check_memory(*images, config, little);
    ASSERT_FALSE(together);
    EXPECT_NE(std::string(together.error().text).find("slots = 1, threads = 1, no draft model and context = 128"),
              std::string::npos)
        << together.error().text;
    const auto nothing = daemon::check_memory(*images, config, 1 << 20);
    ASSERT_FALSE(nothing);
    EXPECT_NE(std::string(nothing.error().text).find("use a smaller model"), std::string::npos);
}

// Adapters count, and may be what is too much.
TEST(Plan, adapters_are_named_where_memory_would_do_without) {
    const std::string path = folder() + "/planned.slm";
    {
        const auto base = image::Image::open_index(tiny_image().c_str());
        ASSERT_TRUE(base);
        const test::TinyAdapter adapter(base.value(), "planned", 1, 64);
        ASSERT_TRUE(pack::write_image(path, adapter.contents, {}));
    }
    daemon::Config config;
    ASSERT_TRUE(daemon::set_text("model", tiny_image().c_str(), config.model, sizeof config.model));
    const std::uint64_t without = daemon::plan(daemon::open_indexes(config).value(), config).value().total();
    ASSERT_TRUE(daemon::add_adapter(config, path.c_str()));
    EXPECT_STREQ(config.adapters[0].name, "planned");
    auto images = daemon::open_indexes(config);
    ASSERT_TRUE(images) << images.error().what();
    const std::uint64_t all = daemon::plan(*images, config).value().total();
    EXPECT_GT(all, without + image::Image::sizes(path.c_str())->raw);
    EXPECT_TRUE(daemon::check_memory(*images, config, all));
    const auto refused = daemon::check_memory(*images, config, without);
    ASSERT_FALSE(refused);
    EXPECT_NE(std::string(refused.error().text).find("no [[adapter]]"), std::string::npos) << refused.error().text;
}

// A model of many layers, two of which fit: streaming is among what would make it fit, with what it costs.
TEST(Plan, streaming_is_named_where_it_fits) {
    test::TinyModel model(image::Kind::i8);
    model.contents.tensors.resize(2);  // rope.inv_freq and the embedding
    auto& p = model.contents.params;
    p.layers = 24, p.dim = 64, p.hidden = 2048;
    for (std::uint32_t i = 0; i < p.layers; i++) {
        const std::string layer = "blk." + std::to_string(i) + ".";
        model.vector(layer + "attn_norm", p.dim, 1);
        for (const char* name : {"attn_q", "attn_k", "attn_v", "attn_output"})
            model.matrix(layer + name, image::Kind::i8, 64, 64);
        for (const char* name : {"ffn_gate", "ffn_up"}) model.matrix(layer + name, image::Kind::i8, p.hidden, p.dim);
        model.matrix(layer + "ffn_down", image::Kind::i8, p.dim, p.hidden);
    }
    const std::string path = folder() + "/deep.slm";
    ASSERT_TRUE(pack::write_image(path, model.contents, {}));
    daemon::Config config;
    ASSERT_TRUE(daemon::set_text("model", path.c_str(), config.model, sizeof config.model));
    config.engine.context = 64;
    config.engine.slots = config.engine.threads = 1;
    auto images = daemon::open_indexes(config);
    ASSERT_TRUE(images) << images.error().what();
    daemon::Config streamed = config;
    streamed.engine.residency = image::Residency::streamed;
    const auto whole = daemon::plan(*images, config), part = daemon::plan(*images, streamed);
    ASSERT_TRUE(whole);
    ASSERT_TRUE(part);
    const std::uint64_t need = part.value().total();
    ASSERT_LT(need, whole.value().total());
    EXPECT_EQ(daemon::engine_config(images->model, config).batch, 32);
    EXPECT_EQ(daemon::engine_config(images->model, streamed).batch, 128) << "the more tokens a pass, the fewer passes";
    EXPECT_EQ(daemon::drafter_config(daemon::engine_config(images->model, streamed), nullptr).residency,
              image::Residency::on_demand);

    const auto refused = daemon::check_memory(*images, config, need);
    ASSERT_FALSE(refused);
    const std::string text = refused.error().text;
    const auto pass = images->model.footprint(image::Residency::streamed).pass;
    EXPECT_GT(pass, 5u << 20);
    EXPECT_LT(pass, images->model.sizes().file);
    EXPECT_NE(text.find("--stream, which reads " + std::to_string((pass >> 20) + 1) + " MiB for every pass"),
              std::string::npos)
        << text;
    EXPECT_TRUE(daemon::check_memory(*images, streamed, need));
    // Context 64 is the least: nothing smaller fits, then; of more slots one may.
    const auto less = daemon::check_memory(*images, config, need - 1);
    ASSERT_FALSE(less);
    EXPECT_EQ(std::string(less.error().text).find("--stream"), std::string::npos) << less.error().text;
    daemon::Config more = config;
    more.engine.slots = 4;
    more.engine.context = 512;
    const auto together = daemon::check_memory(*images, more, need);
    ASSERT_FALSE(together);
    EXPECT_NE(std::string(together.error().text).find("--stream, slots = 1, threads = 1 and context = 64"),
              std::string::npos)
        << together.error().text;
    const auto streams_already = daemon::check_memory(*images, streamed, need - 1);
    ASSERT_FALSE(streams_already);
    EXPECT_EQ(std::string(streams_already.error().text).find("--stream"), std::string::npos);
}
