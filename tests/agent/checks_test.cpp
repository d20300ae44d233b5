// The TOML of checks: what is wrong is said with its line.
#include <gtest/gtest.h>
#include <unistd.h>

#include "checked.h"

namespace slmd::agent {
namespace {

struct ReadCheck : testing::Test {
    ReadCheck() : folder(std::filesystem::temp_directory_path() / ("slmd-checks-" + std::to_string(getpid()))) {
        std::filesystem::create_directories(folder);
    }
    ~ReadCheck() override { std::filesystem::remove_all(folder); }
    void put(const char* name, std::string_view text) const { std::ofstream(folder / name) << text; }
    // The error without the file's name: "LINE: what"; empty when there is none.
    std::string error(const std::string& toml) {
        put("a.toml", toml);
        checks = std::make_unique<Checks>();
        const std::string path = folder / "a.toml";
        const auto read = checks->read(path);
        if (read) return "";
        const std::string text = read.error().text;
        EXPECT_EQ(text.compare(0, path.size() + 1, path + ":"), 0) << text;
        return text.substr(std::min(text.size(), path.size() + 1));
    }
    std::filesystem::path folder;
    std::unique_ptr<Checks> checks;
};

TEST_F(ReadCheck, EveryKind) {
    put("parts.txt", "Bolt M8\r\n\n  Nut   M8\nÄrmel\n");
    ASSERT_EQ(error(R"(
check = [
  { kind = "regex", at = "/no", pattern = "[A-Z]+-\\d+" },
  { kind = "luhn" }, { kind = "iban", at = "/iban", name = "account" }, { kind = "ean", at = "/lines/*/ean" },
  { kind = "range", at = "/t", min = -40, max = 84.9, unit = "°C", decimal = "," },
  { kind = "date", at = "/d", format = "dd.mm.yyyy", after = 2000-01-01, before = "31.12.2099" },
  { kind = "order", fields = ["/from", "/to"] }, { kind = "source" }, { kind = "quotes" },
  { kind = "sum", of = "/lines/*/amount", total = "/total", plus = ["/tax"], tolerance = "0.01" },
  { kind = "product", factors = ["/lines/*/qty", "/lines/*/price"], at = "/lines/*/amount" },
  { kind = "lookup", at = "/part", file = "parts.txt", ignore_case = true },
  { kind = "lookup", at = "/c", table = ["red", " dark  blue "] },
  { kind = "agree", at = "/total", prompt = "{text}\nWhat is to be paid?" },
]
)"),
              "");
    const auto& c = checks->checks;
    ASSERT_EQ(c.size(), 14u);
    EXPECT_EQ(c[0].name, "regex /no");
    EXPECT_EQ(c[1].name, "luhn");
    EXPECT_EQ(c[2].name, "account");
    EXPECT_TRUE(c[4].low == -40 * grammar::decimal_one && c[4].high == 849 * (grammar::decimal_one / 10));
    EXPECT_EQ(c[4].unit, "°C");
    EXPECT_EQ(c[4].decimal, ',');
    EXPECT_EQ(c[5].after, 946684800);
    EXPECT_EQ(c[5].before, 4102358400);
    EXPECT_EQ(c[6].name, "order /from");
    EXPECT_EQ(c[9].name, "sum /total");
    EXPECT_TRUE(c[9].tolerance == grammar::decimal_one / 100);
    EXPECT_EQ(std::vector<std::string_view>(c[11].table.begin(), c[11].table.end()),
              (std::vector<std::string_view>{"bolt m8", "nut m8", "ärmel"}));
    EXPECT_EQ(std::vector<std::string_view>(c[12].table.begin(), c[12].table.end()),
              (std::vector<std::string_view>{"dark blue", "red"}));
    EXPECT_FALSE(needs_json(c[1]));
    EXPECT_TRUE(needs_json(c[2]));
    EXPECT_TRUE(needs_json(c[6]));
    EXPECT_EQ(c[13].prompt, "{text}\nWhat is to be paid?");
}

TEST_F(ReadCheck, ErrorsSayWhereAndWhatToDo) {
    const auto has = [&](const std::string& toml, const char* line, const char* what) {
        const std::string e = error("\n[[check]]\n" + toml);
        EXPECT_EQ(e.compare(0, std::strlen(line) + 2, std::string(line) + ": "), 0) << toml << "\n" << e;
        EXPECT_NE(e.find(what), std::string::npos) << toml << "\n" << e;
    };
    has("at = \"/a\"", "2", "a check has a kind: regex, luhn, iban");
    has("kind = \"ibam\"", "3", "a check has a kind: regex, luhn, iban");
    has("kind = 3", "3", "a check has a kind");
    has("kind = \"iban\"\nfrom = 1", "4", "unknown key \"from\"; known: kind, name, at");
    has("kind = \"regex\"\npatter = \"a\"", "4", "known: kind, name, at, pattern");
    has("kind = \"regex\"\nat = \"/a\"", "2", "a check of the kind regex has pattern");
    has("kind = \"regex\"\n\npattern = \"(a\"", "5", "pattern: unmatched ( at byte 0");
    has("kind = \"regex\"\npattern = \"[^\\\\s\\\\S]\"", "4", "no text matches");
    has("kind = \"regex\"\npattern = 7", "4", "pattern is a text in quotes");
    has("kind = \"iban\"\nat = 7", "4", "JSON Pointer");
    has("kind = \"iban\"\nat = \"total\"", "4", "\"total\" is no JSON Pointer: write \"/total\"");
    has("kind = \"iban\"\nat = \"/a~2\"", "4", "is no JSON Pointer");
    has("kind = \"iban\"\nat = \"/1/2/3/4/5/6/7/8/9/10/11/12/13/14/15/16/17\"", "4", "at most 16 levels");
    has("kind = \"iban\"\nname = \"\"", "4", "name is a text in quotes, and not empty");
    has("kind = \"range\"", "2", "a range has min, max or unit");
    has("kind = \"range\"\nmin = \"x\"", "4", "min is a number with at most 18 digits");
    has("kind = \"range\"\nmax = 1e19", "4", "max is a number with at most 18 digits");
    has("kind = \"range\"\nmax = inf", "4", "max is a number");
    has("kind = \"range\"\nmin = 1e-30", "4", "min is a number");
    has("kind = \"range\"\nmin = 2\nmax = 1", "2", "min is above max");
    has("kind = \"range\"\nmin = 2\ndecimal = \";\"", "5",
        "decimal is \".\" or \",\": the mark before decimals; or \"any\"");
    has("kind = \"date\"\nformat = \"dd.mm.yy\"", "4", "format has yyyy, mm, dd");
    has("kind = \"date\"\nafter = \"soon\"", "4", "after is a date: 2024-12-31, or in quotes as yyyy-mm-dd");
    has("kind = \"date\"\nafter = 2024-01-01\nbefore = 2024-01-01", "2", "after is not before before");
    has("kind = \"order\"\nfields = []", "4", "fields is a list: [\"/from\", \"/to\"]");
    has("kind = \"order\"\nfields = [\"/a\"]", "2", "fields has two pointers or more");
    has("kind = \"order\"\nfields = [\"/a\",\n\"b\"]", "5", "is no JSON Pointer");
    has("kind = \"sum\"\nof = \"/a/*\"", "2", "a check of the kind sum has total");
    has("kind = \"sum\"\nof = \"/a/*\"\ntotal = \"/t\"\ntolerance = -1", "6", "tolerance is not below zero");
    has("kind = \"product\"\nat = \"/l/*/c\"\nfactors = [\"/l/*/a\", \"/b\"]", "2", "go through the same items");
    has("kind = \"product\"\nat = \"/c\"\nfactors = [\"/a\"]", "2", "factors has two pointers or more");
    has("kind = \"lookup\"", "2", "a lookup has either table");
    has("kind = \"lookup\"\ntable = [\"a\", 1]", "4", "table has texts in quotes");
    has("kind = \"lookup\"\ntable = [\"\"]", "4", "an empty entry");
    has("kind = \"lookup\"\nignore_case = 1\ntable = [\"a\"]", "4", "ignore_case is true or false");
    has("kind = \"lookup\"\nfile = \"none.txt\"", "4", "none.txt: No such file");
    has("kind = \"lookup\"\nfile = \"../none.txt\"", "4", "without a folder");
    has("kind = \"agree\"", "2", "a check of the kind agree has prompt");
    put("empty.txt", "\n \r\n");
    has("kind = \"lookup\"\nfile = \"empty.txt\"", "4", "empty.txt has no entries");
    put("bytes.txt", "a\xFF\n");
    has("kind = \"lookup\"\nfile = \"bytes.txt\"", "4", "bytes.txt is not UTF-8");
    put("large.txt", std::string(max_lookup_bytes + 1, 'a'));
    has("kind = \"lookup\"\nfile = \"large.txt\"", "4", "large.txt is larger than 65536 bytes");
    std::string lines;
    for (std::size_t i = 0; i <= max_lookup_entries; i++) lines += "a\n";
    put("many.txt", lines);
    has("kind = \"lookup\"\nfile = \"many.txt\"", "4", "many.txt has more than 4096 entries");
}

TEST_F(ReadCheck, MemoryThatIsFull) {
    put("a.toml", "[[check]]\nkind = \"regex\"\npattern = \"[a-z]{1,30}@[a-z]{1,30}\"");
    for (const std::size_t bytes : {0u, 16u, 1000u}) {
        Checks small(bytes);
        const auto read = small.read(folder / "a.toml");
        ASSERT_FALSE(read);
        EXPECT_EQ(read.error().code, Code::memory_full);
        EXPECT_NE(std::string(read.error().text).find("a.toml:3: "), std::string::npos) << read.error().text;
    }
}

}  // namespace
}  // namespace slmd::agent
