// What is taken out of a text comes back into the answer; whatever cannot be taken out keeps the text here.
#include "route/redact.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slmd::route {
namespace {

struct Conversation {
    std::vector<char> text;
    std::vector<Redactor::Value> values;
    std::vector<std::string_view> terms;
    Redactor redactor;
    explicit Conversation(std::size_t bytes = 4096, std::size_t count = 64, std::vector<std::string_view> names = {})
        : text(bytes), values(count), terms(std::move(names)), redactor(text, values, terms) {}
    std::string redact(std::string_view from, std::size_t room = 65536) {
        std::vector<char> out(room);
        const auto to = redactor.redact(from, out);
        return to ? std::string(to.value()) : std::string("! ") + to.error().text;
    }
    std::string restore(std::string_view from, std::size_t room = 65536) const {
        std::vector<char> out(room);
        const auto to = redactor.restore(from, out);
        return to ? std::string(to.value()) : std::string("! ") + to.error().text;
    }
};

TEST(Redactor, the_same_value_has_the_same_placeholder) {
    Conversation c(4096, 64, {"Ada Lovelace"});
    EXPECT_EQ(c.redact("Mail ada@example.org or bob@example.org, not ada@example.org; ask ada  lovelace."),
              "Mail [EMAIL_1] or [EMAIL_2], not [EMAIL_1]; ask [NAME_1].");
    EXPECT_EQ(c.redactor.findings().size(), 4u);
    EXPECT_EQ(c.redact("bob@example.org pays with 4111 1111 1111 1111."), "[EMAIL_2] pays with [CARD_1].");
    EXPECT_EQ(c.restore("Tell [EMAIL_1] and [NAME_1] that [CARD_1] was refused."),
              "Tell ada@example.org and ada  lovelace that 4111 1111 1111 1111 was refused.");
    c.redactor.forget();
    EXPECT_EQ(c.redact("bob@example.org"), "[EMAIL_1]");
}

TEST(Redactor, placeholders_that_nobody_gave_stay) {
    Conversation c;
    c.redact("ada@example.org");
    for (const char* text :
         {"[EMAIL_2]", "[EMAIL_0]", "[EMAIL_01]", "[EMAIL_1", "EMAIL_1]", "[MAIL_1]", "[EMAIL_9999999]", "[", "[[", ""})
        EXPECT_EQ(c.restore(text), text);
    EXPECT_EQ(c.restore("[[EMAIL_1]]"), "[ada@example.org]");
}

// A text that has one in it already would get another's value back.
TEST(Redactor, what_looks_like_a_placeholder_is_one_of_a_text) {
    Conversation c;
    const std::string text = "[EMAIL_1] is not ada@example.org, nor is [TEXT_1].";
    const std::string redacted = c.redact(text);
    EXPECT_EQ(redacted, "[TEXT_1] is not [EMAIL_1], nor is [TEXT_2].");
    EXPECT_EQ(c.restore(redacted), text);
    // Without its brackets, too: models leave them out, and it is put back all the same.
    const std::string bare = "EMAIL_1 is not [EMAIL_1, nor EMAIL_12, nor EMAIL_1@example.org";
    EXPECT_EQ(c.redact(bare), "[TEXT_3] is not [[TEXT_3], nor [TEXT_4], nor [EMAIL_2]");
    EXPECT_EQ(c.restore(c.redact(bare)), bare);
    EXPECT_EQ(c.redact("API_KEY_1, EMAIL_1st, EMAIL_01"), "API_KEY_1, EMAIL_1st, EMAIL_01");
}

// It would stand alone then, and be put back.
TEST(Redactor, a_pattern_that_cuts_a_word_beside_a_placeholder) {
    Conversation c;
    c.redactor.look_for({}, {[](const void*, std::string_view text, std::size_t at) -> std::size_t {
                                 return text[at] == 'z' ? at + 1 : 0;
                             },
                             nullptr});
    for (const std::string text : {"z EMAIL_1 ada@example.org", "zOWN_1", "OWN_1z", "OWN_12z", "[zOWN_1]", "OWN_1zOWN_1"})
        EXPECT_EQ(c.restore(c.redact(text)), text);
}

TEST(Redactor, a_value_in_json_is_written_as_json_has_it) {
    char values[64], out[64];
    Redactor::Value table[4];
    Redactor r(values, table, {});
    ASSERT_TRUE(r.remember(Kind::own, 1, "a\"b\\c"));
    EXPECT_EQ(r.restore("{\"x\":\"[OWN_1]\"}", out, true).value(), "{\"x\":\"a\\\"b\\\\c\"}");
    EXPECT_EQ(r.restore("[OWN_1]", out).value(), "a\"b\\c");
    // Models leave the brackets out; what only looks so stays.
    EXPECT_EQ(r.restore("{\"x\":\"OWN_1\"}", out, true).value(), "{\"x\":\"a\\\"b\\\\c\"}");
    for (const char* const other : {"OWN_12", "OWN_1a", "xOWN_1", "[OWN_2]", "OWN_", "OWN_01"})
        EXPECT_EQ(r.restore(other, out).value(), other);
    EXPECT_EQ(r.remember(Kind::own, 2, std::string(60, 'x')).error().code, Code::context_full);
}

TEST(Redactor, an_error_leaves_nothing_behind) {
    Conversation c(24, 2);
    EXPECT_EQ(c.redact("a@example.org"), "[EMAIL_1]");
    EXPECT_NE(c.redact("b@example.org and c@example.org").find("nothing may leave"), std::string::npos);
    EXPECT_EQ(c.redactor.values().size(), 1u);
    EXPECT_TRUE(c.redactor.findings().empty());
    EXPECT_NE(c.redact("someone.with.a.long.name@example.org").find("nothing may leave"), std::string::npos);
    EXPECT_EQ(c.redact("b@ex.org"), "[EMAIL_2]");
    EXPECT_NE(c.redact("\xFF a@example.org").find("not UTF-8"), std::string::npos);
    EXPECT_NE(c.redact("a@example.org, quite short", 16).find("longer than 16 bytes"), std::string::npos);
    EXPECT_NE(c.restore("[EMAIL_1] [EMAIL_1]", 20).find("longer than 20 bytes"), std::string::npos);
    std::string many;
    for (std::size_t i = 0; i <= Redactor::max_findings; i++) many += "a@example.org ";
    EXPECT_NE(c.redact(many).find("none of it may leave"), std::string::npos);
}

}  // namespace
}  // namespace slmd::route
