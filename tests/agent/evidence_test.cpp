#include "agent/evidence.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include "base/utf8.h"
#include "checked.h"

namespace slmd::agent {
namespace {

std::unique_ptr<Checks> checks_of(const std::string& toml) {
    const auto path = std::filesystem::temp_directory_path() / ("slmd-evidence-" + std::to_string(getpid()) + ".toml");
    std::ofstream(path) << "[[check]]\n" << toml;
    auto checks = std::make_unique<Checks>();
    const auto read = checks->read(path);
    std::filesystem::remove(path);
    EXPECT_TRUE(read) << read.error().text;
    return checks;
}

// "pass", "fail: why" or "absent: why" of one check.
std::string say(const Finding& f) {
    EXPECT_NE(std::memchr(f.why, 0, sizeof f.why), nullptr);
    EXPECT_TRUE(utf8_valid(f.why));
    for (const char* c = f.why; *c != 0; c++) EXPECT_GE(static_cast<unsigned char>(*c), 0x20);
    if (f.verdict == Verdict::pass) return f.why[0] == 0 ? "pass" : std::string("pass, and says ") + f.why;
    return (f.verdict == Verdict::fail ? "fail: " : "absent: ") + std::string(f.why);
}
std::string check(const std::string& toml, std::string_view answer, std::string_view source = "", bool json = true) {
    const auto checks = checks_of(toml);
    const auto found = findings(checks->checks, answer, json, source);
    EXPECT_TRUE(found) << found.error().text;
    return found ? say(found.value()[0]) : "";
}
std::string check_text(const std::string& toml, std::string_view answer, std::string_view source = "") {
    return check(toml, answer, source, false);
}
std::string agree(std::string_view a, std::string_view b, const std::string& at = "", bool json = true) {
    const auto checks = checks_of("kind = \"agree\"\nprompt = \"p\"\nat = \"" + at + "\"");
    const std::size_t bytes = examine_memory(a.size(), 0) + examine_memory(b.size(), 0);
    const std::unique_ptr<std::byte[]> memory(new std::byte[bytes]);
    const auto found = compare(checks->checks[0], a, b, json, {memory.get(), bytes});
    EXPECT_TRUE(found) << found.error().text;
    return found ? say(found.value()) : "";
}

TEST(Evidence, Regex) {
    const std::string c = "kind = \"regex\"\nat = \"/n\"\npattern = '[A-Z]{2}-\\d+'";
    EXPECT_EQ(check(c, R"({"n": "AB-12"})"), "pass");
    EXPECT_EQ(check(c, R"({"n": "AB-12 "})"), "fail: \"AB-12\" does not match the pattern");
    EXPECT_EQ(check(c, R"({"n": "xAB-12"})"), "fail: \"xAB-12\" does not match the pattern");
    EXPECT_EQ(check(c, R"({"m": 1})"), "absent: no such value");
    EXPECT_EQ(check(c, R"({"n": null})"), "absent: no such value");
    EXPECT_EQ(check(c, R"({"n": ["AB-12"]})"), "fail: it is an array or an object");
    EXPECT_EQ(check("kind = \"regex\"\npattern = '\\d\\.\\d0'", "1.50"), "pass");
    EXPECT_EQ(check_text("kind = \"regex\"\npattern = 'ja|nein'", "ja"), "pass");
    EXPECT_EQ(check_text("kind = \"regex\"\npattern = 'ja|nein'", "ja\n"), "fail: \"ja\" does not match the pattern");
}

TEST(Evidence, Pointers) {
    const std::string c = "kind = \"regex\"\npattern = 'x'\nat = ";
    EXPECT_EQ(check(c + "'/a~1b/m~0n/1'", R"({"a/b": {"m~n": ["y", "x"]}})"), "pass");
    EXPECT_EQ(check(c + "'/a/01'", R"({"a": ["y", "x"]})"), "absent: no such value");
    EXPECT_EQ(check(c + "'/a/*/b'", R"({"a": [{"b": "x"}, {}, {"b": "x"}]})"), "pass");
    EXPECT_EQ(check(c + "'/a/*/b'", R"({"a": [{"b": "x"}, {"b": "y"}]})"),
              "fail: item 2: \"y\" does not match the pattern");
    EXPECT_EQ(check(c + "'/a/*/*'", R"({"a": [["x"], ["x", "x"], []]})"), "pass");
    EXPECT_EQ(check(c + "'/*'", R"({"*": "x"})"), "pass");  // a name like others in an object
    EXPECT_EQ(check(c + "'/'", R"({"": "x"})"), "pass");
    EXPECT_EQ(check(c + "'/a'", R"({"a": "y", "a": "x"})"), "pass");  // the last one, as in JSON.parse
    EXPECT_EQ(check_text(c + "'/a'", "x"), "absent: the answer is a text and has no fields");
}

TEST(Evidence, Luhn) {
    for (const char* good : {"4111 1111 1111 1111", "79927398713", "4111-1111-1111-1111"})
        EXPECT_EQ(check_text("kind = 'luhn'", good), "pass") << good;
    EXPECT_EQ(check("kind = 'luhn'", "79927398713"), "pass");
    EXPECT_EQ(check_text("kind = 'luhn'", "79927398714"), "fail: 79927398714: the check digit is wrong");
    EXPECT_EQ(check_text("kind = 'luhn'", "7"), "fail: \"7\" has 1 digits");
    EXPECT_EQ(check_text("kind = 'luhn'", "7992a"), "fail: \"7992a\" is not a number of 2 to 64 digits");
    EXPECT_EQ(check_text("kind = 'luhn'", std::string(65, '0')).substr(0, 5), "fail:");
}

TEST(Evidence, Iban) {
    for (const char* good :
         {"DE89 3704 0044 0532 0130 00", "DE89370400440532013000", "GB29NWBK60161331926819", "NO93 8601 1117 947",
          "MT84 MALT 0110 0001 2345 MTLC AST0 01S", "FR14 2004 1010 0505 0001 3M02 606", "CH93 0076 2011 6238 5295 7",
          "LC55 HEMM 0001 0001 0012 0012 0002 3015", "BI42 1000 0100 0100 0033 2045 181", "XK05 1212 0123 4567 8906"})
        EXPECT_EQ(check_text("kind = 'iban'", good), "pass") << good;
    const auto fails = [](const char* iban, const char* why) {
        EXPECT_EQ(check_text("kind = 'iban'", iban), std::string("fail: ") + why);
    };
    fails("DE89 3704 0044 0532 0130 01", "DE89 3704 0044 0532 0130 01: the check digits are wrong");
    fails("DE98 3704 0044 0532 0130 00", "DE98 3704 0044 0532 0130 00: the check digits are wrong");
    fails("DE89 3704 0044 0532 0130", "an IBAN of DE has 22 characters, this one 20");
    fails("US89 3704 0044 0532 0130 00", "US has no IBANs");
    fails("89DE 3704", "89 has no IBANs");
    fails("de89370400440532013000", "\"de89370400440532013000\" has more than digits and capital letters");
    fails("DE8", "\"DE8\" is too short for an IBAN");
    fails("DE893704004405320130001234567890123", "DE893704004405320130001234567890123 is longer than any IBAN");
    // The remainder is right, but nobody issues 01, which is as good as 98, or 99.
    EXPECT_EQ(check_text("kind = 'iban'", "DE98370400440000000042"), "pass");
    fails("DE01370400440000000042", "DE01370400440000000042: the check digits are wrong");
    fails("DE99370400440000000024", "DE99370400440000000024: the check digits are wrong");
}

TEST(Evidence, Ean) {
    for (const char* good : {"4006381333931", "4 006381 333931", "73513537", "036000291452", "10614141000415"})
        EXPECT_EQ(check_text("kind = 'ean'", good), "pass") << good;
    EXPECT_EQ(check("kind = 'ean'", "4006381333931"), "pass");
    EXPECT_EQ(check_text("kind = 'ean'", "4006381333932"), "fail: 4006381333932: the check digit is wrong");
    EXPECT_EQ(check_text("kind = 'ean'", "400638133"), "fail: \"400638133\" has 9 digits, not 8, 12, 13 or 14");
    EXPECT_EQ(check("kind = 'ean'", "1.5"), "fail: \"1.5\" is not a number of 8 to 14 digits");
}

TEST(Evidence, Range) {
    const std::string c = "kind = 'range'\nmin = -40\nmax = 84.9\n";
    EXPECT_EQ(check(c, "84.9"), "pass");
    EXPECT_EQ(check(c, "-40.0"), "pass");
    EXPECT_EQ(check(c, "84.90000001"), "fail: 84.90000001 is above 84.9");
    EXPECT_EQ(check(c, "-4.1e1"), "fail: -4.1e1 is below -40");
    EXPECT_EQ(check(c, "1e300"), "fail: \"1e300\" is no number, or one with too many digits");
    EXPECT_EQ(check(c, "0e99999"), "pass");
    EXPECT_EQ(check(c, "1e-99999"), "fail: \"1e-99999\" is no number, or one with too many digits");
    EXPECT_EQ(check(c, "\"23,5\""), "fail: \"23,5\" is no number, or one with too many digits");
    EXPECT_EQ(check(c + "decimal = ','", "\"23,5\""), "pass");
    EXPECT_EQ(check(c, "true"), "fail: \"true\" is no number, or one with too many digits");
    const std::string u = c + "unit = '°C'";
    EXPECT_EQ(check(u, "\"23.5 °C\""), "pass");
    EXPECT_EQ(check(u, "\"23.5°C\""), "pass");
    EXPECT_EQ(check(u, "\"23.5 °F\""), "fail: \"23.5 °F\" has not the unit °C");
    EXPECT_EQ(check(u, "\"99 °C\""), "fail: 99 °C is above 84.9");
    EXPECT_EQ(check(u, "23.5", "now 23.50 °C"), "pass");
    EXPECT_EQ(check(u, "23.5", "now 23.5 K"), "fail: 23.5 °C does not stand in the input");
    EXPECT_EQ(check(u, "23.5", "now -23.5 °C"), "fail: 23.5 °C does not stand in the input");
    EXPECT_EQ(check("kind = 'range'\nunit = 'm'", "\"5 km\""),
              "fail: \"5 km\" is no number, or one with too many digits");
}

TEST(Evidence, Date) {
    EXPECT_EQ(check("kind = 'date'", "\"2024-02-29\""), "pass");
    EXPECT_EQ(check("kind = 'date'", "\"2023-02-29\""), "fail: \"2023-02-29\" is no day written as yyyy-mm-dd");
    const std::string c = "kind = 'date'\nformat = 'dd.mm.yyyy'\nafter = 1999-12-31\nbefore = '01.01.2030'";
    EXPECT_EQ(check(c, "\"01.01.2000\""), "pass");
    EXPECT_EQ(check(c, "\"31.12.1999\""), "fail: 31.12.1999 is too early");
    EXPECT_EQ(check(c, "\"01.01.2030\""), "fail: 01.01.2030 is too late");
    EXPECT_EQ(check(c, "\"2000-01-01\""), "fail: \"2000-01-01\" is no day written as dd.mm.yyyy");
}

TEST(Evidence, Order) {
    const std::string c = "kind = 'order'\nfields = ['/from', '/to', '/end']";
    EXPECT_EQ(check(c, R"({"from": "2024-01-31", "to": "2024-01-31", "end": "2024-02-01"})"), "pass");
    EXPECT_EQ(check(c, R"({"to": "2024-01-30", "from": "2024-01-31"})"), "fail: 2024-01-30 is before 2024-01-31");
    EXPECT_EQ(check(c, R"({"from": 9, "to": 10.5, "end": "11"})"), "pass");
    EXPECT_EQ(check(c, R"({"from": 9, "end": "8.50 EUR"})"), "fail: 8.50 EUR is less than 9");
    EXPECT_EQ(check(c, R"({"from": 9, "end": "2024-01-01"})"), "fail: 9 and 2024-01-01: a date and a number");
    EXPECT_EQ(check(c, R"({"from": "soon", "to": 1})"), "fail: \"soon\" is neither a date nor a number");
    EXPECT_EQ(check(c, R"({"from": true, "to": 1})"), "fail: \"true\" is neither a date nor a number");
    EXPECT_EQ(check(c, R"({"from": 9, "to": null})"), "absent: there are no two values to compare");
    const std::string series = "kind = 'order'\nformat = 'HH:MM'\nfields = ['/r/*/t']";
    EXPECT_EQ(check(series, R"({"r": [{"t": "08:00"}, {"t": "08:10"}, {"t": "08:10"}]})"), "pass");
    EXPECT_EQ(check(series, R"({"r": [{"t": "08:00"}, {"t": "07:10"}]})"), "fail: 07:10 is before 08:00");
    const std::string each = "kind = 'order'\nfields = ['/r/*/a', '/r/*/b']";
    EXPECT_EQ(check(each, R"({"r": [{"a": 1, "b": 9}, {"a": 2, "b": 3}]})"), "pass");
    EXPECT_EQ(check(each, R"({"r": [{"a": 1, "b": 9}, {"a": 4, "b": 3}]})"), "fail: item 2: 3 is less than 4");
}

TEST(Evidence, Source) {
    const std::string text = "Invoice RE-2024-117\nAcme  Corp.\nTotal: 1.234,50 EUR, 12 items, 123 kg";
    EXPECT_EQ(check("kind = 'source'", R"({"no": "RE-2024-117", "by": "Acme Corp.", "total": 1234.5, "n": [12, null]})",
                    text),
              "pass");
    EXPECT_EQ(check("kind = 'source'", R"({"no": "RE-2024-117", "by": "Acme Inc."})", text),
              "fail: item 2: \"Acme Inc.\" does not stand in the input");
    EXPECT_EQ(check("kind = 'source'\nat = '/n'", R"({"n": 23})", text), "fail: \"23\" does not stand in the input");
    EXPECT_EQ(check("kind = 'source'\nat = '/n'", R"({"n": "RE-2024-11"})", text),
              "fail: \"RE-2024-11\" does not stand in the input");
    EXPECT_EQ(check("kind = 'source'", "true", "true"), "fail: \"true\" stands in no text");
    EXPECT_EQ(check("kind = 'source'", "\"\"", text), "fail: \"\" does not stand in the input");
    EXPECT_EQ(check("kind = 'source'", "{}", text), "absent: no such value");
    EXPECT_EQ(check("kind = 'source'", "12345678901234567890123", "no 12345678901234567890123"), "pass");
    EXPECT_EQ(check("kind = 'source'", "\"\\u00e9\"", "\xFF \u00E9 \xE2"), "pass");
    EXPECT_EQ(check_text("kind = 'source'", "Acme Corp", text), "pass");
    EXPECT_EQ(check_text("kind = 'source'", "Acm", ""), "fail: \"Acm\" does not stand in the input");
}

TEST(Evidence, Quotes) {
    const std::string text = "The pump\nfailed at noon. It\u2019s old.";
    EXPECT_EQ(check_text("kind = 'quotes'", "It says \u201Cthe pump failed\u201D.", text),
              "fail: \"the pump failed\" does not stand in the input");
    EXPECT_EQ(check_text("kind = 'quotes'", "It says \u201CThe pump failed,\u201D and \"It\u2019s old.\"", text),
              "pass");
    EXPECT_EQ(check_text("kind = 'quotes'", "\u00AB\u00A0failed at noon\u00A0\u00BB", text), "pass");
    EXPECT_EQ(check_text("kind = 'quotes'", "It failed.", text), "absent: nothing is quoted");
    EXPECT_EQ(check_text("kind = 'quotes'", "It says \"The pump", text), "fail: a quotation has no end");
    EXPECT_EQ(check("kind = 'quotes'", R"({"a": "\"noon\"", "b": ["\"midnight\"", 3]})", text),
              "fail: item 2: \"midnight\" does not stand in the input");
}

TEST(Evidence, Sum) {
    const std::string c = "kind = 'sum'\nof = '/l/*/a'\ntotal = '/t'\nplus = ['/tax', '/post']\n";
    EXPECT_EQ(check(c, R"({"l": [{"a": 0.1}, {"a": 0.2}], "t": 0.3})"), "pass");
    EXPECT_EQ(check(c, R"({"l": [{"a": "100.00"}, {"a": null}], "tax": 19, "t": "EUR 119.00"})"), "pass");
    EXPECT_EQ(check(c, R"({"l": [{"a": 98.3}], "tax": 19, "t": 119.00})"),
              "fail: the items add up to 117.30, /t is 119.00");
    EXPECT_EQ(check(c, R"({"l": [{"a": 1}, {"a": "x"}], "t": 1})"),
              "fail: item 2: \"x\" is no number, or one with too many digits");
    EXPECT_EQ(check(c, R"({"l": [{"a": 1}]})"), "absent: there is no /t");
    EXPECT_EQ(check(c, R"({"l": [], "t": 0})"), "absent: there is no /l/*/a");
    EXPECT_EQ(check(c + "tolerance = 0.01", R"({"l": [{"a": 1.00}], "t": 1.01})"), "pass");
    EXPECT_EQ(check(c + "tolerance = 0.01", R"({"l": [{"a": 1.00}], "t": 1.011})"),
              "fail: the items add up to 1.000, /t is 1.011");
    EXPECT_EQ(check(c + "decimal = ','", R"({"l": [{"a": "1.000,50"}, {"a": 0.5}], "t": "1.001,00"})"), "pass");
    const std::string any = c + "decimal = 'any'";
    EXPECT_EQ(check(any, R"({"l": [{"a": "1.000,50"}, {"a": 0.5}], "t": "1.001,00"})"), "pass");
    EXPECT_EQ(check(any, R"({"l": [{"a": "1,000.50"}, {"a": "0,50"}], "t": "1.001,01"})"),
              "fail: the items add up to 1001.00, /t is 1001.01");
    EXPECT_EQ(check(any, R"({"l": [{"a": null}], "t": "1,00"})"), "absent: there is no /l/*/a");
    std::string huge = "{\"t\": 1, \"l\": [";
    for (int i = 0; i < 200; i++) huge += std::string(i > 0 ? "," : "") + "{\"a\": 999999999999999999}";
    EXPECT_EQ(check(c, huge + "]}"), "fail: item 171: the sum has too many digits");
    EXPECT_EQ(check(c, R"({"l": [{"a": 1e18}], "t": 1e18})"),
              "fail: \"1e18\" is no number, or one with too many digits");
}

TEST(Evidence, Product) {
    const std::string c = "kind = 'product'\nfactors = ['/l/*/n', '/l/*/p']\nat = '/l/*/a'\n";
    EXPECT_EQ(check(c, R"({"l": [{"n": 3, "p": 19.99, "a": 59.97}, {"n": "2", "p": "1,000.00", "a": "2,000.00"}]})"),
              "pass");
    EXPECT_EQ(check(c, R"({"l": [{"n": 1, "p": 1, "a": 1}, {"n": 3, "p": 19.99, "a": 59.79}]})"),
              "fail: item 2: the factors give 59.97, the amount is 59.79");
    EXPECT_EQ(check(c, R"({"l": [{"n": 3, "p": 19.99}]})"), "absent: no item has the factors and the amount");
    EXPECT_EQ(check(c, R"({"l": [{"n": 3, "p": 19.99, "a": "?"}]})"),
              "fail: \"?\" is no number, or one with too many digits");
    EXPECT_EQ(check(c + "tolerance = '0.005'", R"({"l": [{"n": 1.5, "p": 0.33, "a": 0.5}]})"), "pass");
    EXPECT_EQ(check(c, R"({"l": [{"n": 99999999999, "p": 99999999999, "a": 1}]})"),
              "fail: the product has too many digits");
    EXPECT_EQ(check("kind = 'product'\nfactors = ['/n', '/p']\nat = '/a'", R"({"n": 2, "p": 3, "a": 6.0})"), "pass");
}

TEST(Evidence, Lookup) {
    const std::string c = "kind = 'lookup'\ntable = ['Dark  Blue', 'GRÜN', '7']\n";
    EXPECT_EQ(check(c, "\" Dark Blue\""), "pass");
    EXPECT_EQ(check(c, "7"), "pass");
    EXPECT_EQ(check(c, "\"dark blue\""), "fail: \"dark blue\" is not in the list");
    EXPECT_EQ(check(c + "ignore_case = true", "\"dark blue\""), "pass");
    EXPECT_EQ(check(c + "ignore_case = true", "\"grün\""), "pass");
    EXPECT_EQ(check(c + "ignore_case = true", "\"Dark\""), "fail: \"dark\" is not in the list");
    EXPECT_EQ(check_text(c, "GRÜN"), "pass");
}

TEST(Evidence, Agree) {
    EXPECT_EQ(agree(R"({"a": 1.50, "b": [true, null, "x"]})", R"({"b": [true, null, "x"], "a": 15e-1})"), "pass");
    EXPECT_EQ(agree(R"({"a": 1})", R"({"a": 1, "b": 2})"), "fail: the second answer differs");
    EXPECT_EQ(agree(R"({"a": [1]})", R"({"a": [1, 2]})"), "fail: the second answer differs");
    EXPECT_EQ(agree(R"({"a": 1, "a": 2})", R"({"a": 2})"), "pass");
    EXPECT_EQ(agree(R"({"a": 119, "b": 1})", R"({"a": 119.0, "b": 2})", "/a"), "pass");
    EXPECT_EQ(agree(R"({"a": 119})", R"({"a": 117.3})", "/a"), "fail: \"119\", and in the second answer \"117.3\"");
    EXPECT_EQ(agree(R"({"a": 119})", R"({"a": "119"})", "/a"), "fail: \"119\", and in the second answer \"119\"");
    EXPECT_EQ(agree("12345678901234567890", "12345678901234567891"),
              "fail: \"12345678901234567890\", and in the second answer \"12345678901234567891\"");
    EXPECT_EQ(agree("{}", "{}", "/a"), "absent: neither answer has it");
    EXPECT_EQ(agree(R"({"a": 1})", "{}", "/a"), "fail: 1 value, and 0 in the second answer");
    EXPECT_EQ(agree(R"([1, 2])", "[1, 3]", "/*"), "fail: item 2: \"2\", and in the second answer \"3\"");
    EXPECT_EQ(agree("[1]", "[1", "/0").substr(0, 30), "fail: the second answer: JSON,");
    EXPECT_EQ(agree(" so  be\nit", "so be it ", "", false), "pass");
    EXPECT_EQ(agree("yes", "no", "", false), "fail: \"yes\", and in the second answer \"no\"");
    EXPECT_EQ(agree("yes", "", "", false), "fail: the second answer: the answer is empty");
    // Members of one name within each other: looked into once.
    std::string twice = "0";
    for (int i = 0; i < 40; i++) twice = "{\"a\":1,\"a\":" + twice + "}";
    EXPECT_EQ(agree(twice, twice), "pass");
    EXPECT_EQ(check("kind = 'agree'\nprompt = 'p'", "1"), "absent: not asked a second time");
}

TEST(Evidence, AnswersThatAreNone) {
    for (const char* kind : {"kind = 'iban'", "kind = 'source'", "kind = 'sum'\nof = '/a'\ntotal = '/b'"}) {
        EXPECT_EQ(check(kind, ""), "fail: the answer is empty");
        EXPECT_EQ(check(kind, "{\"a\": [1, "), "fail: JSON, column 11: a value is missing");
        EXPECT_EQ(check(kind, "{\"a\": \"x"), "fail: JSON, column 9: a string has no end");
        EXPECT_EQ(check(kind, "{} {}"), "fail: JSON, column 4: something follows the value; send one object a line");
        EXPECT_EQ(check(kind, "\"\xFF\""), "fail: JSON, column 2: not UTF-8");
        EXPECT_EQ(check(kind, std::string(100000, '[')), "fail: JSON, column 50: nested too deeply (49 levels)");
    }
    EXPECT_EQ(check_text("kind = 'source'", "a\xFF"), "fail: the answer is not UTF-8");
    std::string many = "[0";
    for (std::size_t i = 0; i < max_answer_values; i++) many += ",0";
    EXPECT_EQ(check("kind = 'source'", many + "]").substr(0, 40), "fail: JSON, column 8192: too many values");
}

TEST(Evidence, LookingIsBounded) {
    const std::string source = "7 " + std::string(100000, ' ');
    std::string many = "[7";
    for (int i = 0; i < 100; i++) many += ",7";
    EXPECT_EQ(check("kind = 'source'", many.substr(0, 100) + "]", source), "pass");
    const char* const why = "more values than are looked for in an input of that size";
    EXPECT_EQ(check("kind = 'source'", many + "]", source), std::string("fail: item 84: ") + why);
    EXPECT_EQ(check("kind = 'range'\nunit = 'm'\nat = '/*'", many + "]", "7 m " + source),
              std::string("fail: item 84: ") + why);
    std::string quotes;
    for (int i = 0; i < 100; i++) quotes += "\"7\" ";
    EXPECT_EQ(check_text("kind = 'quotes'", quotes, source), std::string("fail: ") + why);
}

TEST(Evidence, MessagesAreOneLineOfText) {
    EXPECT_EQ(check("kind = 'iban'", "\"a\\u0000\\n\\u007f\\u001b[31m\"").find("\x1b"), std::string::npos);
    std::string long_text = "\"x";
    for (int i = 0; i < 100; i++) long_text += "\u20AC";
    const std::string why = check("kind = 'lookup'\ntable = ['a']", long_text + "\"");
    EXPECT_EQ(why.substr(0, 11), "fail: \"x\u20AC") << why;
}

TEST(Evidence, WhatTheCallerGivesIsChecked) {
    const auto checks = checks_of("kind = 'iban'");
    const std::string answer = R"({"a": "text", "b": [1, 2, 3]})";
    std::vector<Finding> found(1);
    std::vector<std::byte> memory(examine_memory(answer.size(), 100));
    const auto none = examine(checks->checks, answer, true, "", memory, {});
    ASSERT_FALSE(none);
    EXPECT_EQ(none.error().code, Code::invalid_index);
    for (std::size_t bytes = 0; bytes < memory.size(); bytes += 37) {
        const auto r = examine(checks->checks, answer, true, std::string(100, ' '), {memory.data(), bytes}, found);
        EXPECT_TRUE(r || r.error().code == Code::memory_full);
        EXPECT_FALSE(r && bytes < 200);
    }
    // Memory of any alignment.
    std::vector<std::byte> odd(examine_memory(answer.size(), 0) + 1);
    const auto r = examine(checks->checks, answer, true, "", std::span(odd).subspan(1), found);
    ASSERT_TRUE(r) << r.error().text;
    EXPECT_EQ(r.value(), 1);
    EXPECT_EQ(found[0].check, &checks->checks[0]);
}

}  // namespace
}  // namespace slmd::agent
