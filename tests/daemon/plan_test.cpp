// The memory plan against what is available: refused in time, with what would fit.
#include "daemon/plan.h"

#include "harness.h"

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
