// Documents in their file.
#include <stdlib.h>
#include <unistd.h>

#include <filesystem>
#include <fstream>

#include "memory.h"

using namespace slmd;
using namespace slmd::docs;
using namespace slmd::docs::testing;

namespace {

std::string fresh() {
    char name[] = "/tmp/slmd-docs-XXXXXX";
    return std::string(mkdtemp(name)) + "/documents.db";
}

class Stores : public ::testing::Test {
  protected:
    Memory memory_;
    std::string path_ = fresh();
    Store store_;
    void SetUp() override { open(); }
    void TearDown() override {
        store_.close();
        std::filesystem::remove_all(std::filesystem::path(path_).parent_path());
    }
    void open(int most = 1000) {
        const auto opened = store_.open(path_.c_str(), {most});
        ASSERT_TRUE(opened) << opened.error().text;
    }
    std::vector<std::string> names() {
        Document all[16];
        std::vector<char> text(Store::hits_bytes);
        const auto n = store_.list("", 1, all, text);
        EXPECT_TRUE(n) << n.error().text;
        std::vector<std::string> out;
        for (std::size_t i = 0; n && i < n.value(); i++)
            out.push_back(std::string(all[i].name) + " " + std::to_string(all[i].passages) + " " +
                          std::to_string(all[i].embedded) + (all[i].whole ? "" : " part"));
        return out;
    }
};

using List = std::vector<std::string>;

}  // namespace

TEST_F(Stores, what_was_added_is_found_once_and_is_there_after_a_new_start) {
    ASSERT_TRUE(add(store_, "pump.md", 1, {"The pump leaks oil.", "The valve is shut."}));
    ASSERT_TRUE(add(store_, "b.md", 2, {"Nothing here is of interest."}));
    for (int i = 0; i < 2; i++) {
        const Found f = search(store_, "Which valves are SHUT?");
        ASSERT_EQ(f.count, 1u) << f.error;
        EXPECT_EQ(f.hits[0].document, "pump.md");
        EXPECT_EQ(f.hits[0].text, "The valve is shut.");
        EXPECT_EQ(f.hits[0].begin, 19);
        EXPECT_EQ(f.hits[0].end, 37);
        EXPECT_EQ(f.hits[0].words, 1);
        EXPECT_EQ(f.hits[0].meaning, 0);
        EXPECT_FLOAT_EQ(f.hits[0].coverage, 1);
        EXPECT_EQ(names(), (List{"b.md 1 0", "pump.md 2 0"}));
        store_.close();
        open();
    }
    EXPECT_EQ(search(store_, "zebra").count, 0u);
    EXPECT_EQ(search(store_, "?!").count, 0u);
    EXPECT_EQ(search(store_, "\" OR NEAR(").count, 0u);
}

TEST_F(Stores, the_same_again_is_nothing_and_another_one_takes_its_place) {
    ASSERT_TRUE(add(store_, "a", 1, {"alpha beta", "gamma"}));
    auto again = add(store_, "a", 1, {"alpha beta", "gamma"});
    ASSERT_TRUE(again);
    EXPECT_TRUE(again.value().unchanged);
    EXPECT_EQ(again.value().passages, 2);
    again = add(store_, "a", 2, {"delta"});
    ASSERT_TRUE(again);
    EXPECT_FALSE(again.value().unchanged);
    EXPECT_EQ(search(store_, "alpha gamma").count, 0u);
    EXPECT_EQ(search(store_, "delta").count, 1u);
    EXPECT_EQ(names(), (List{"a 1 0"}));
    const auto gone = store_.remove("a");
    ASSERT_TRUE(gone);
    EXPECT_EQ(gone.value(), 1);
    EXPECT_EQ(search(store_, "delta").count, 0u);
    EXPECT_EQ(store_.remove("a").error().code, Code::not_found);
}

TEST_F(Stores, a_document_in_parts_is_searched_when_it_is_whole) {
    ASSERT_TRUE(add(store_, "a", 1, {"alpha old"}));
    ASSERT_TRUE(add(store_, "a", 2, {"alpha one"}, 0, false));
    EXPECT_EQ(add(store_, "a", 2, {"alpha three"}, 2, false).error().code, Code::incorrect_parameters);
    EXPECT_EQ(add(store_, "a", 3, {"alpha other"}, 1, false).error().code, Code::incorrect_parameters);
    Found f = search(store_, "alpha");
    ASSERT_EQ(f.count, 1u);
    EXPECT_EQ(f.hits[0].text, "alpha old");
    const auto last = add(store_, "a", 2, {"alpha two", "alpha three"}, 1, true);
    ASSERT_TRUE(last) << last.error().text;
    EXPECT_EQ(last.value().passages, 3);
    f = search(store_, "alpha");
    EXPECT_EQ(f.count, 3u);
    EXPECT_EQ(names(), (List{"a 3 0"}));
    // Given up, begun again, and what a stop left behind.
    ASSERT_TRUE(add(store_, "b", 4, {"beta one"}, 0, false));
    ASSERT_TRUE(add(store_, "b", 4, {"beta uno"}, 0, false));
    EXPECT_EQ(names(), (List{"a 3 0", "b 1 0 part"}));
    store_.close();
    open();
    EXPECT_EQ(names(), (List{"a 3 0"}));
    EXPECT_EQ(add(store_, "b", 4, {"beta two"}, 1, true).error().code, Code::incorrect_parameters);
}

TEST_F(Stores, bounds_are_kept_and_said) {
    store_.close();
    open(3);
    ASSERT_TRUE(add(store_, "a", 1, {"one", "two"}));
    const auto full = add(store_, "b", 2, {"three", "four"});
    ASSERT_FALSE(full);
    EXPECT_EQ(full.error().code, Code::context_full);
    EXPECT_NE(std::string(full.error().text).find("4 passages would be there, and [limits] passages allows 3"),
              std::string::npos);
    EXPECT_EQ(names(), (List{"a 2 0"}));
    EXPECT_TRUE(add(store_, "a", 3, {"one", "two", "three"}));  // in the place of its own
    EXPECT_EQ(add(store_, "", 4, {"x"}).error().code, Code::text_too_long);
    EXPECT_EQ(add(store_, std::string(512, 'n'), 4, {"x"}).error().code, Code::text_too_long);
    EXPECT_EQ(add(store_, "c", 4, {std::string(Store::text_bytes + 1, 'x')}).error().code, Code::text_too_long);
    EXPECT_EQ(add(store_, "c", 4, {""}).error().code, Code::text_too_long);
    EXPECT_EQ(add(store_, "c", 4, {"\xFF"}).error().code, Code::invalid_characters);
    EXPECT_EQ(add(store_, "c\n", 4, {"x"}).error().code, Code::invalid_characters);
    EXPECT_EQ(add(store_, "c", 4, List(Store::max_part + 1, "x")).error().code, Code::text_too_long);
    EXPECT_EQ(store_.add({"c", "abc", 1, 0, true, {}}).error().code, Code::incorrect_parameters);
}

TEST_F(Stores, vectors_find_by_meaning_and_go_with_their_passages) {
    ASSERT_TRUE(add(store_, "a", 1, {"alpha", "beta", "gamma"}));
    Hit hits[Store::max_hits];
    std::vector<char> text(Store::hits_bytes);
    ASSERT_EQ(store_.unembedded(7, 0, hits, text).value(), 3u);
    EXPECT_EQ(store_.unembedded(7, hits[0].passage, hits, text).value(), 2u);
    ASSERT_EQ(store_.unembedded(7, 0, std::span(hits).first(2), text).value(), 2u);
    const std::int8_t x[] = {127, 0}, y[] = {0, 127}, z[] = {90, 90};
    const std::int64_t first = hits[0].passage;
    const Vector vectors[] = {
        {first, 1.0f / 127, x}, {first + 1, 1.0f / 127, y}, {first + 2, 1.0f / 127, z}, {first + 99, 1.0f / 127, x}};
    ASSERT_TRUE(store_.put(7, vectors));
    EXPECT_EQ(store_.unembedded(7, 0, hits, text).value(), 0u);
    EXPECT_EQ(store_.unembedded(8, 0, hits, text).value(), 3u);  // another encoder has none
    const float up[] = {0.1f, 0.995f};
    Found f = search(store_, "alpha", up, Store::By::meaning, 7);
    ASSERT_EQ(f.count, 3u) << f.error;
    EXPECT_EQ(f.hits[0].text, "beta");
    EXPECT_EQ(f.hits[1].text, "gamma");
    EXPECT_EQ(f.hits[2].text, "alpha");
    f = search(store_, "alpha", up, Store::By::both, 7);
    EXPECT_EQ(f.hits[0].text, "alpha");  // first by words, third by meaning
    EXPECT_EQ(f.hits[0].words, 1);
    EXPECT_EQ(f.hits[0].meaning, 3);
    EXPECT_EQ(search(store_, "alpha", up, Store::By::words, 7).count, 1u);
    EXPECT_EQ(search(store_, "alpha", up, Store::By::meaning, 8).count, 0u);
    ASSERT_TRUE(store_.remove("a"));
    EXPECT_EQ(search(store_, "alpha", up, Store::By::meaning, 7).count, 0u);
}

TEST_F(Stores, a_damaged_file_is_moved_aside_and_said) {
    ASSERT_TRUE(add(store_, "a", 1, {"alpha"}));
    store_.close();
    for (const bool text : {true, false}) {
        {
            std::fstream file(path_, std::ios::in | std::ios::out | std::ios::binary);
            if (text)
                file << "this is no database, but it is longer than a header of one hundred bytes, which SQLite reads "
                        "first of all, whatever the file is";
            else
                for (int page = 1; page < 8; page++) file.seekp(4096 * page + 8), file << std::string(64, '\xA5');
        }
        open();
        EXPECT_TRUE(store_.damaged());
        EXPECT_FALSE(store_.damaged());
        EXPECT_TRUE(names().empty());
        EXPECT_TRUE(std::filesystem::exists(path_ + ".damaged"));
        ASSERT_TRUE(add(store_, "a", 1, {"alpha"}));
        EXPECT_EQ(search(store_, "alpha").count, 1u);
        store_.close();
    }
    open();
    EXPECT_FALSE(store_.damaged());
    store_.close();
    EXPECT_FALSE(store_.open("/nowhere/at/all/documents.db", {1000}));
}

TEST_F(Stores, its_memory_is_bounded_however_much_there_is) {
    store_.close();
    open(20000);
    unsigned seed = 5;
    const auto word = [&] {
        seed = seed * 1664525 + 1013904223;
        return "w" + std::to_string((seed >> 10) % 40000) + " ";
    };
    for (int d = 0; d < 60; d++) {
        List texts;
        for (int i = 0; i < 60; i++) {
            std::string t;
            while (t.size() < 800) t += word();
            texts.push_back(t);
        }
        const auto added = add(store_, "d" + std::to_string(d % 40), d + 1, texts);
        ASSERT_TRUE(added) << d << ": " << added.error().text;
    }
    std::string question;
    for (int i = 0; i < 40; i++) question += word();
    EXPECT_EQ(search(store_, question).count, Store::max_hits);
    EXPECT_EQ(store_.counts().value().passages, 40 * 60);
    EXPECT_LT(memory().most(), Store::memory_bytes * 3 / 4);
}
