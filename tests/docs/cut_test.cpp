// Documents as passages.
#include "docs/cut.h"

#include <gtest/gtest.h>

#include <algorithm>

#include "base/utf8.h"

using namespace slmd;
using namespace slmd::docs;

namespace {

std::vector<Piece> pieces(std::string_view content, Format format, const CutOptions& options = {}) {
    const auto blocks = blocks_of(content, format);
    EXPECT_TRUE(blocks) << blocks.error().text;
    return blocks ? cut(blocks.value(), content, options) : std::vector<Piece>{};
}

std::string letters(std::string_view s) {
    std::string out;
    for (const char c : s)
        if (c != ' ' && c != '\n' && c != '\r' && c != '\t' && c != '\f') out += c;
    return out;
}

// What is as it stands in the document is where it says, and nothing is lost or twice.
void expect_raw(std::string_view content, const std::vector<Piece>& all) {
    std::size_t end = 0;
    for (const Piece& p : all) {
        EXPECT_EQ(p.text, content.substr(p.begin, p.end - p.begin));
        EXPECT_LE(end, p.begin);
        end = p.end;
    }
}

}  // namespace

TEST(Cut, paragraphs_go_together_until_a_passage_has_what_is_wanted) {
    const std::string text = "One. Two.\n\nThree.\n\n\n" + std::string(90, 'x') + "\n\nFour.";
    const auto all = pieces(text, Format::text, {100, 150});
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].text, "One. Two.\n\nThree.");
    EXPECT_EQ(all[1].text, std::string(90, 'x') + "\n\nFour.");
    expect_raw(text, all);
    // What lies between counts, too.
    EXPECT_EQ(pieces("One." + std::string(5000, '\n') + "Two.", Format::text, {100, 150}).size(), 2u);
    EXPECT_TRUE(pieces(" \n\n\t\n", Format::text).empty());
    EXPECT_TRUE(pieces("", Format::text).empty());
}

TEST(Cut, what_is_too_long_ends_with_a_line_a_sentence_a_word_or_a_character) {
    std::string lines, sentences, words, none;
    for (int i = 0; i < 40; i++) lines += "line " + std::to_string(i) + " of many\n";
    for (int i = 0; i < 40; i++) sentences += "Sentence number " + std::to_string(i) + ". ";
    for (int i = 0; i < 100; i++) words += "word" + std::to_string(i) + " ";
    for (int i = 0; i < 200; i++) none += "\xC3\xA9";
    for (const std::string& text : {lines, sentences, words, none}) {
        const auto all = pieces(text, Format::text, {100, 151});
        EXPECT_GT(all.size(), 2u);
        std::string together;
        for (const Piece& p : all) {
            EXPECT_LE(p.text.size(), 151u);
            EXPECT_TRUE(utf8_valid(p.text));
            together += p.text;
        }
        EXPECT_EQ(letters(together), letters(text));
        expect_raw(text, all);
    }
    for (const Piece& p : pieces(lines, Format::text, {100, 150})) EXPECT_TRUE(p.text.ends_with("many")) << p.text;
    for (const Piece& p : pieces(sentences, Format::text, {100, 150})) EXPECT_TRUE(p.text.ends_with(".")) << p.text;
}

TEST(Cut, markdown_headings_stand_above_what_is_under_them) {
    const std::string text =
        "before\n\n# Pumps ##\nOil.\n\n## Pump 2\nLeaks.\n\n```\n# no heading\n\ncode\n```\n\n## Pump 3\nFine.\n"
        "Valves\n======\nShut.\n\nHot\n---\n#hashtag\n";
    const auto all = pieces(text, Format::markdown);
    const std::pair<const char*, const char*> wanted[] = {
        {"", "before"},
        {"Pumps", "Oil."},
        {"Pumps > Pump 2", "Leaks.\n\n```\n# no heading\n\ncode\n```"},
        {"Pumps > Pump 3", "Fine.\nValves\n======\nShut."},
        {"Pumps > Hot", "#hashtag"}};
    ASSERT_EQ(all.size(), std::size(wanted));
    for (std::size_t i = 0; i < all.size(); i++) {
        EXPECT_EQ(all[i].heading, wanted[i].first);
        EXPECT_EQ(all[i].text, wanted[i].second);
    }
    expect_raw(text, all);
}

TEST(Cut, html_is_what_a_reader_sees) {
    const std::string text =
        "<!DOCTYPE html><html><head><title>Manual &amp; more</title><style>p { x: y }</style>"
        "<script>if (a < b) alert('<p>no</p>');</script></head><body><!-- <p>hidden</p> -->"
        "<h1>Pumps</h1><p>Oil  every\n 500&nbsp;h, <b>ge</b>n&auml;u &#x41;&#66; &bogus; 3 < 4.</p>"
        "<h2>Pump "
        "2</h2><ul><li>Leaks<li>Hums</ul><table><tr><th>Part<th>Price</tr><tr><td>Seal</td><td>7</td></tr></table>"
        "<pre>a\n  b</pre><p title=\"a > b\">last";
    const auto all = pieces(text, Format::html, {30, 200});
    std::string told;
    for (const Piece& p : all) told += p.heading + ": " + p.text + "|";
    EXPECT_EQ(told,
              "Manual & more > Pumps: Oil every 500 h, gen\xC3\xA4u AB &bogus; 3 < 4.|"
              "Manual & more > Pumps > Pump 2: Leaks\nHums\nPart | Price|"
              "Manual & more > Pumps > Pump 2: Seal | 7\na\n  b\nlast|");
    for (const Piece& p : all) EXPECT_LT(p.begin, p.end);
    // Broken in any way, nothing is read beyond its end.
    for (std::size_t n = 0; n < text.size(); n++) (void)pieces(text.substr(0, n), Format::html);
}

TEST(Cut, csv_rows_stand_under_the_names_of_their_columns) {
    const std::string text = "part,price\nseal,7\n\"a \"\"b\"\"\nc\",8\n\nvalve,9\n";
    const auto all = pieces(text, Format::csv, {25, 100});
    ASSERT_EQ(all.size(), 2u);
    for (const Piece& p : all) EXPECT_EQ(p.heading, "part,price");
    EXPECT_EQ(all[0].text, "seal,7\n\"a \"\"b\"\"\nc\",8");
    EXPECT_EQ(all[1].text, "valve,9");
    expect_raw(text, all);
    EXPECT_EQ(pieces("part,price\n", Format::csv).at(0).text, "part,price");
}

TEST(Cut, pages_of_a_pdf_are_its_headings) {
    const auto all = pieces("first\n\f\fthird\n", Format::pdf);
    ASSERT_EQ(all.size(), 2u);
    EXPECT_EQ(all[0].heading, "page 1");
    EXPECT_EQ(all[1].heading, "page 3");
}

TEST(Cut, what_is_no_text_is_refused_with_the_place) {
    const auto said = [](std::string_view content) {
        const auto r = blocks_of(content, Format::text);
        return r ? std::string() : std::string(r.error().text);
    };
    EXPECT_NE(said("caf\xE9").find("byte 3 is not UTF-8"), std::string::npos) << said("caf\xE9");
    EXPECT_NE(said(std::string_view("ab\0c", 4)).find("byte 2 is 0, as in binary files"), std::string::npos);
    EXPECT_NE(said(std::string((32u << 20) + 1, 'x')).find("at most 33554432"), std::string::npos);
    const auto marked = pieces("\xEF\xBB\xBF# A\ntext", Format::markdown);
    EXPECT_EQ(marked.at(0).heading, "A");
    EXPECT_EQ(marked.at(0).begin, 7u);
}

TEST(Cut, formats_are_known_by_their_names) {
    EXPECT_EQ(format_of("a.MD", ""), Format::markdown);
    EXPECT_EQ(format_of("a.htm", ""), Format::html);
    EXPECT_EQ(format_of("a.tsv", ""), Format::csv);
    EXPECT_EQ(format_of("a", "%PDF-1.4"), Format::pdf);
    EXPECT_EQ(format_of("a.log", "x"), Format::text);
}
