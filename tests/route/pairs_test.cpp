// Pairs for training: lines that are there whole after a power cut at any operation and any byte.
#include "route/pairs.h"

#include <gtest/gtest.h>

#include "base/json.h"
#include "memory_disk.h"

namespace slmd::route::testing {
namespace {

const Pair pairs[] = {{"ticket", "", "What is \"it\"?\n\x01", "A printer."},
                      {"ticket", "Be brief.", "Again <EMAIL_1>", "\xC3\xA4"},
                      {"ticket", "", "third", "3"}};
const char* const lines[] = {
    "{\"messages\":[{\"role\":\"user\",\"content\":\"What is \\\"it\\\"?\\u000a\\u0001\"},{\"role\":\"assistant\","
    "\"content\":\"A printer.\"}]}\n",
    "{\"messages\":[{\"role\":\"system\",\"content\":\"Be brief.\"},{\"role\":\"user\",\"content\":\"Again "
    "<EMAIL_1>\"},"
    "{\"role\":\"assistant\",\"content\":\"\xC3\xA4\"}]}\n",
    "{\"messages\":[{\"role\":\"user\",\"content\":\"third\"},{\"role\":\"assistant\",\"content\":\"3\"}]}\n"};

TEST(Pairs, are_lines_in_the_chat_form) {
    MemoryDisk disk;
    char buffer[Pairs::line_bytes];
    Pairs p;
    p.open(disk, 1 << 20, buffer);
    for (const Pair& pair : pairs) ASSERT_TRUE(p.append(pair));
    EXPECT_EQ(disk.files["ticket.jsonl"].durable, std::string(lines[0]) + lines[1] + lines[2]);
    for (const char* line : lines) {
        std::string text = line;
        JsonNode nodes[32];
        JsonReader reader(nodes, 6);
        EXPECT_TRUE(reader.parse(text));
    }
}

TEST(Pairs, what_cannot_be_kept_is_said_and_changes_nothing) {
    MemoryDisk disk;
    char buffer[300];
    Pairs p;
    p.open(disk, 200, buffer);
    ASSERT_TRUE(p.append(pairs[0]));
    const std::string before = disk.files["ticket.jsonl"].now;
    const auto refuses = [&](const Pair& pair, Code code) {
        const auto r = p.append(pair);
        ASSERT_FALSE(r);
        EXPECT_EQ(r.error().code, code) << r.error().text;
    };
    refuses(pairs[1], Code::memory_full);
    refuses({"ticket", "", std::string(300, 'x'), "y"}, Code::text_too_long);
    refuses({"../ticket", "", "x", "y"}, Code::invalid_characters);
    refuses({"", "", "x", "y"}, Code::invalid_characters);
    refuses({"ticket", "", "x", "\xff"}, Code::invalid_characters);
    refuses({"ticket", "", "", "y"}, Code::incorrect_parameters);
    EXPECT_EQ(disk.files["ticket.jsonl"].now, before);
    EXPECT_EQ(disk.files.size(), 1u);
    EXPECT_TRUE(p.append({"other", "", "x", "y"}));  // a file each
}

TEST(Pairs, survive_a_power_cut_at_every_operation_and_every_byte) {
    char buffer[Pairs::line_bytes];
    MemoryDisk whole;
    {
        Pairs p;
        p.open(whole, 1 << 20, buffer);
        for (const Pair& pair : pairs) ASSERT_TRUE(p.append(pair));
    }
    int cuts = 0;
    for (int at = 1; at <= whole.operations; at++)
        for (std::size_t torn = 0; torn <= 160; torn++)
            for (const unsigned seed : {0u, 1u, 2u, 3u}) {
                MemoryDisk disk;
                disk.fails_at = at, disk.torn = torn;
                std::size_t acknowledged = 0;
                {
                    Pairs p;
                    p.open(disk, 1 << 20, buffer);
                    while (acknowledged < 3 && p.append(pairs[acknowledged])) acknowledged++;
                }
                disk.recover(seed == 0 ? 0 : seed * 31 + static_cast<unsigned>(at));
                Pairs p;
                p.open(disk, 1 << 20, buffer);
                ASSERT_TRUE(p.append({"ticket", "", "last", "one"}));
                const std::string now = disk.files["ticket.jsonl"].durable;
                std::string wanted;
                for (std::size_t i = 0; i < acknowledged; i++) wanted += lines[i];
                const std::string last =
                    "{\"messages\":[{\"role\":\"user\",\"content\":\"last\"},{\"role\":\"assistant\",\"content\":"
                    "\"one\"}]}\n";
                const std::string more = acknowledged < 3 ? lines[acknowledged] : "";
                ASSERT_TRUE(now == wanted + last || now == wanted + more + last)
                    << "at " << at << ", " << torn << ": " << now;
                cuts++;
            }
    printf("%d cuts\n", cuts);
}

}  // namespace
}  // namespace slmd::route::testing
