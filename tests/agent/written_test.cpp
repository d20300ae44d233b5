#include "agent/written.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slmd::agent {
namespace {

constexpr Decimal cent = grammar::decimal_one / 100;

std::string number(std::string_view text, char mark = '.') {
    Decimal value;
    char out[48];
    return read_number(text, mark, value) ? std::string(write_number(value, 0, out)) : "none";
}
std::string amount(std::string_view text, char mark = '.') {
    Decimal value;
    char out[48];
    return read_amount(text, mark, value) ? std::string(write_number(value, 2, out)) : "none";
}
bool has(std::string_view source, long cents, std::string_view unit = "") {
    return number_stands(cents * cent, unit, source);
}

TEST(Written, Numbers) {
    for (const char* good :
         {"1234.5", "1,234.5", "1'234.50", "1 234.5", "1\u00A0234.5", "1\u202F234.5", "1\u2019234.5"})
        EXPECT_EQ(number(good), "1234.5") << good;
    EXPECT_EQ(number("1.234,5", ','), "1234.5");
    EXPECT_EQ(number("1.234"), "1.234");
    EXPECT_EQ(number("1.234", ','), "1234");
    EXPECT_EQ(number("-12"), "-12");
    EXPECT_EQ(number("\u221212"), "-12");
    EXPECT_EQ(number("+7"), "7");
    EXPECT_EQ(number("1,234,567"), "1234567");
    EXPECT_EQ(number("999999999999999999.999999999999999999"), "999999999999999999.999999999999999999");
    for (const char* bad : {"", "-", "1,23", "12,34,567", "1234,567", "1,234'567", "1.", ".5", "1.2.3", "12a", " 1",
                            "1e5", "1000000000000000000", "0.0000000000000000001", "1,234,", "--1"})
        EXPECT_EQ(number(bad), "none") << bad;
}

TEST(Written, NumbersOfAnyMark) {
    const struct {
        const char *text, *value;
    } cases[] = {{"12", "12"},         {"12.5", "12.5"},       {"12,5", "12.5"},         {"1.134,00", "1134"},
                 {"1,134.00", "1134"}, {"1.134", "1134"},      {"1,134", "1134"},        {"1.134.000", "1134000"},
                 {"0.125", "0.125"},   {"0,125", "0.125"},     {"1234,567", "1234.567"}, {"1'134,5", "1134.5"},
                 {"-1.5", "-1.5"},     {"1 134,50", "1134.5"}, {"1,2345", "1.2345"},     {"1,134,5", "none"},
                 {"1.1,134", "none"},  {".", "none"},          {"1.", "none"},           {"", "none"}};
    for (const auto& c : cases) EXPECT_EQ(number(c.text, any_mark), c.value) << c.text;
    EXPECT_EQ(amount("EUR 1.134,50", any_mark), "1134.50");
    EXPECT_EQ(amount("1,134.50 EUR", any_mark), "1134.50");
}

TEST(Written, Amounts) {
    for (const char* good :
         {"119", "EUR 119.00", "EUR119", "119.00 EUR", "\u20AC119.00", "119.00\u00A0\u20AC", " $119 "})
        EXPECT_EQ(amount(good), "119.00") << good;
    for (const char* good : {"-5", "-$5.00", "$-5.00", "- 5.00 EUR", "EUR -5.00", "\u2212 5"})
        EXPECT_EQ(amount(good), "-5.00") << good;
    for (const char* bad : {"", "EUR", "EU 5", "eur 5", "EUR 5 EUR", "five"}) EXPECT_EQ(amount(bad), "none") << bad;
    EXPECT_EQ(amount("1.234,50 EUR", ','), "1234.50");
}

TEST(Written, Products) {
    Decimal p;
    EXPECT_TRUE(multiply(3 * grammar::decimal_one, 1999 * cent, p));
    EXPECT_EQ(p, 5997 * cent);
    EXPECT_TRUE(multiply(-3 * grammar::decimal_one, cent, p));
    EXPECT_EQ(p, -3 * cent);
    EXPECT_TRUE(multiply(0, grammar::decimal_max, p));
    EXPECT_EQ(p, 0);
    EXPECT_FALSE(multiply(grammar::decimal_max, grammar::decimal_max, p));
    EXPECT_FALSE(multiply(1, 1, p));                                                                        // 10^-36
    EXPECT_FALSE(multiply(1'000'000'000 * grammar::decimal_one, 1'000'000'000 * grammar::decimal_one, p));  // 10^18
}

TEST(Written, Dates) {
    std::int64_t s;
    ASSERT_TRUE(read_date("1970-01-02", iso_date, s));
    EXPECT_EQ(s, 86400);
    ASSERT_TRUE(read_date("0001-01-01", iso_date, s));
    EXPECT_EQ(s, -62135596800);
    ASSERT_TRUE(read_date("2000-03-01", iso_date, s));
    EXPECT_EQ(s, 951868800);
    ASSERT_TRUE(read_date("31.12.1999 23:59:58", "dd.mm.yyyy HH:MM:SS", s));
    EXPECT_EQ(s, 946684798);
    ASSERT_TRUE(read_date("7/4/2024", "m/d/yyyy", s));
    EXPECT_EQ(s, 1720051200);
    EXPECT_TRUE(read_date("2024-02-29", iso_date, s));
    EXPECT_TRUE(read_date("2000-02-29", iso_date, s));
    for (const char* bad : {"2023-02-29", "1900-02-29", "2024-04-31", "2024-13-01", "2024-00-10", "2024-01-00",
                            "0000-01-01", "2024-1-01", "24-01-01", "2024-01-01x", "2024-01-0", "", "20240101"})
        EXPECT_FALSE(read_date(bad, iso_date, s)) << bad;
    EXPECT_FALSE(read_date("24:00", "HH:MM", s));
    EXPECT_TRUE(read_date("00:00", "HH:MM", s));
    const char* const several = "yyyy-mm-dd or dd.mm.yyyy or mm/dd/yyyy";
    for (const char* day : {"2024-07-04", "04.07.2024", "07/04/2024"}) {
        ASSERT_TRUE(read_date(day, several, s)) << day;
        EXPECT_EQ(s, 1720051200) << day;
    }
    for (const char* bad : {"2024.07.04", "04.07.2024 or", "14/07/2024", ""})
        EXPECT_FALSE(read_date(bad, several, s)) << bad;
    for (const char* good : {"yyyy-mm-dd", "d.m.yyyy", "yyyymmddTHHMMSSZ", "HH:MM", "HH", several, "HH:MM or HHMM"})
        EXPECT_TRUE(is_date_format(good)) << good;
    for (const char* bad :
         {"", "yy-mm-dd", "yyyy-mm", "dd.mmm.yyyy", "yyyy-mm-dd dd", "MM:SS", "HH:SS", "yyyy-mm-dd MM",
          "yyyy-mm-dd or HH:MM", "yyyy-mm-dd or ", " or yyyy-mm-dd", "yyyy-mm-dd or yy"})
        EXPECT_FALSE(is_date_format(bad)) << bad;
}

TEST(Written, FoldsSpaceAndCase) {
    const auto fold = [](std::string text) { return std::string(fold_space(text, text)); };
    EXPECT_EQ(fold("  a\t\n b\u00A0\u2003c\r\n"), "a b c");
    EXPECT_EQ(fold("ver\u00ADsch\u200Boben"), "verschoben");
    EXPECT_EQ(fold(" \n "), "");
    EXPECT_EQ(fold("a\xFF b"), "a\xFF b");
    std::string text = "\u00C4PFEL \u00D7 \u0141\u00F3d\u017A \u0393\u0391 \u042F\u0401 \u0130\u1E9E";
    fold_case(text);
    EXPECT_EQ(text, "\u00E4pfel \u00D7 \u0142\u00F3d\u017A \u03B3\u03B1 \u044F\u0451 \u0130\u1E9E");
}

TEST(Written, TextsStandBetweenBorders) {
    EXPECT_TRUE(stands("12", "no. 12."));
    EXPECT_TRUE(stands("12", "12"));
    EXPECT_TRUE(stands("2024", "01.03.2024"));
    EXPECT_TRUE(stands("2024-001", "RE-2024-001"));
    EXPECT_TRUE(stands("Acme", "\"Acme\", Inc."));
    EXPECT_TRUE(stands("\u4EAC", "\u6771\u4EAC\u90FD"));  // no spaces there
    EXPECT_TRUE(stands("5 \u20AC", "for 5 \u20AC each"));
    for (const char* bad :
         {"123", "412", "12a", "a12", "12.50", "3.12", "-12", "1,12", "\u221212", "12\u00E9", "x_12", ""})
        EXPECT_FALSE(stands("12", bad)) << bad;
    EXPECT_TRUE(stands("GBP", "GBP27,412.43"));
    EXPECT_TRUE(stands("27,412.43", "GBP27,412.43"));
    EXPECT_TRUE(stands("EUR", "119.00EUR"));
    EXPECT_TRUE(stands("119.00", "119.00EUR"));
    EXPECT_FALSE(stands("GBP", "xGBP27"));
    EXPECT_FALSE(stands("27", "xGBP27"));
    EXPECT_FALSE(stands("27", "27EURO"));
    EXPECT_FALSE(stands("INVO", "INVO27"));
    EXPECT_FALSE(stands("", "12"));
    EXPECT_FALSE(stands("-5", "3-5"));
    EXPECT_FALSE(stands("aa", std::string(20000, 'a')));
    // The second time it does.
    EXPECT_TRUE(stands("ann", "annual ann"));
    EXPECT_FALSE(stands(std::string(8000, 'b') + "c", std::string(16000, 'b')));
}

TEST(Written, NumbersStandHoweverWritten) {
    for (const char* good :
         {"1234.5", "1,234.50", "1.234,50 EUR", "1 234,50", "1\u202F234,5", "1'234.50", "1\u2019234.50", "EUR1234.50",
          "is 1234.50.", "(1,234.50)", "1234.50kg", "1234.50EUR", "a 7, 1234.5, b"})
        EXPECT_TRUE(has(good, 123450)) << good;
    for (const char* bad : {"12345", "1234", "11234.5", "1234.55", "-1234.5", "x1234.5", "1234.5b7", "", "1,2,3,4.5",
                            "1234.5.6", "AB1234.5", "ABCD1234.5"})
        EXPECT_FALSE(has(bad, 123450)) << bad;
    EXPECT_TRUE(has("at -5.00 now", -500));
    EXPECT_TRUE(has("at \u22125 now", -500));
    EXPECT_FALSE(has("at 5.00 now", -500));
    EXPECT_FALSE(has("3-5", -500));
    EXPECT_TRUE(has("3-5", 500));
    EXPECT_TRUE(has("on 12.03.2024", 300));  // parts of a date
    EXPECT_FALSE(has("for 12.03", 300));     // of a number there are none
    EXPECT_TRUE(has("12 345", 1200));        // or two numbers
    EXPECT_TRUE(has("12 345", 1234500));
    EXPECT_FALSE(has("12 3456", 12345600));
    EXPECT_FALSE(has(std::string(50000, '1'), 100));
    std::string ones = "1";
    for (int i = 0; i < 20000; i++) ones += ",1";
    EXPECT_FALSE(has(ones, 200));

    EXPECT_TRUE(has("23.5 \u00B0C", 2350, "\u00B0C"));
    EXPECT_TRUE(has("23,5\u00B0C", 2350, "\u00B0C"));
    EXPECT_TRUE(has("5\u00A0m", 500, "m"));
    EXPECT_FALSE(has("5 mm", 500, "m"));
    EXPECT_FALSE(has("23.5 \u00B0F", 2350, "\u00B0C"));
    EXPECT_FALSE(has("-23.5 \u00B0C", 2350, "\u00B0C"));
    EXPECT_TRUE(has("50 %, 23.5 \u00B0C", 5000, "%"));
}

std::vector<std::string> quoted(std::string_view text) {
    std::vector<std::string> all;
    Quotations q(text);
    for (std::string_view content; q.next(content);) all.emplace_back(content);
    if (q.unfinished()) all.emplace_back("unfinished");
    return all;
}

TEST(Written, Quotations) {
    using List = std::vector<std::string>;
    EXPECT_EQ(quoted("He said \"yes\" and \u201Cno\u201D."), (List{"yes", "no"}));
    EXPECT_EQ(quoted("\u201Eja\u201C, \u00ABoui\u00BB, \u00BBnein\u00AB, \u201Dnej\u201D, \u300C\u306F\u3044\u300D"),
              (List{"ja", "oui", "nein", "nej", "\u306F\u3044"}));
    EXPECT_EQ(quoted("\u2018don\u2019t\u2019 it\u2019s \u201Aund\u2018"), (List{"don\u2019t", "und"}));
    EXPECT_EQ(quoted("\u201Cshe \u201Cknew\u201D it\u201D"), (List{"she \u201Cknew\u201D it"}));
    EXPECT_EQ(quoted("a 5\" pipe"), List{});
    EXPECT_EQ(quoted("an \"open"), List{"unfinished"});
    EXPECT_EQ(quoted("\""), List{"unfinished"});
    EXPECT_EQ(quoted(""), List{});
    EXPECT_EQ(quoted("\xE2\x80"), List{});
}

TEST(Written, ClippedOutsideOfCharacters) {
    EXPECT_EQ(clipped("a\u00E9", 2), "a");
    EXPECT_EQ(clipped("a\u00E9", 3), "a\u00E9");
    EXPECT_EQ(clipped("\u20AC", 2), "");
}

}  // namespace
}  // namespace slmd::agent
