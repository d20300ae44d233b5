// Following a text through a grammar, and ending it.
#include <gtest/gtest.h>

#include "compiled.h"

namespace slmd::grammar {
namespace {

TEST(Matcher, takes_a_small_object) {
    Compiled c;
    TestMatcher m;
    const auto ok = c.schema(R"({"type":"object","properties":{"name":{"type":"string"},"age":{"type":"integer","minimum":0,"maximum":150}},"required":["name","age"],"additionalProperties":false})");
    ASSERT_TRUE(ok) << ok.error().what();
    EXPECT_TRUE(accepts(m, c.grammar, R"({"name":"Ada","age":36})"));
    EXPECT_TRUE(accepts(m, c.grammar, R"({"age":36,"name":"Ada"})"));
    EXPECT_FALSE(accepts(m, c.grammar, R"({"name":"Ada","age":151})"));
    EXPECT_FALSE(accepts(m, c.grammar, R"({"name":"Ada"})"));
    EXPECT_FALSE(accepts(m, c.grammar, R"({"name":"Ada","name":"x","age":3})"));
    m.open(c.grammar);
    char out[256];
    EXPECT_EQ(m.forced(out), 2u);
    const std::size_t n = m.close(out);
    EXPECT_EQ(std::string_view(out, n), R"({"age":0,"name":""})");
}

}  // namespace
}  // namespace slmd::grammar
