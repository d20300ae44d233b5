// What is found and what is not; and how much is found of 2,000 texts with secrets in many notations.
#include "route/secrets.h"

#include <gtest/gtest.h>

#include <cstdio>
#include <random>
#include <string>
#include <vector>

#include "base/check_digits.h"
#include "route/redact.h"

namespace slmd::route {
namespace {

constexpr std::string_view terms[] = {"Ada Lovelace", "Projekt Zw\xC3\xB6lf", "Falcon"};

// "KIND text|KIND text" of all that is found.
std::string found(std::string_view text) {
    Finding findings[64];
    const auto n = find_secrets(text, terms, findings);
    if (!n) return std::string("! ") + n.error().text;
    std::string all;
    for (std::size_t i = 0; i < n.value(); i++) {
        if (i > 0) all += '|';
        all += std::string(name_of(findings[i].kind)) + " " +
               std::string(text.substr(findings[i].begin, findings[i].end - findings[i].begin));
    }
    return all;
}

// Alone, in a sentence, in brackets, and behind a colon.
void expect(const char* kind, const std::string& secret) {
    const std::string want = std::string(kind) + " " + secret;
    for (const auto& [before, behind] :
         {std::pair{"", ""}, {"It is ", "."}, {"(", ")"}, {"value:", ", and more"}, {"\"", "\""}, {"\n", "\n"}})
        EXPECT_EQ(found(before + secret + behind), want) << before << secret << behind;
}

TEST(Secrets, of_every_kind_are_found_whole) {
    for (const char* s :
         {"ada@example.org", "a.b+c@mail.example.co.uk",
          "m\xC3\xBCller@b\xC3\xBC"
          "cher.example",
          "ada (at) example.org", "ada[at]example[dot]org", "ada at example dot org", "x_y@a-b.io", "ADA@EXAMPLE.ORG"})
        expect("EMAIL", s);
    for (const char* s : {"+49 30 901820", "+4930901820", "+1 (415) 555-2671", "+44 (0)20 7946 0958", "030 901820",
                          "(030) 90 18 20", "0171/1234567", "0171-123 45 67", "415-555-2671", "(415) 555-2671",
                          "415.555.2671", "1-800-555-0199", "0041 44 668 18 00", "+33 1 42 68 53 00"})
        expect("PHONE", s);
    for (const char* s : {"DE89370400440532013000", "DE89 3704 0044 0532 0130 00", "GB29 NWBK 6016 1331 9268 19",
                          "de89370400440532013000", "FR14-2004-1010-0505-0001-3M02-606", "NO9386011117947",
                          "DE89\xC2\xA0"
                          "3704\xC2\xA0"
                          "0044\xC2\xA0"
                          "0532\xC2\xA0"
                          "0130\xC2\xA0"
                          "00"})
        expect("IBAN", s);
    for (const char* s :
         {"4111111111111111", "4111 1111 1111 1111", "5500-0000-0000-0004", "3782 822463 10005", "6011.0009.9013.9424"})
        expect("CARD", s);
    for (const char* s : {"192.168.1.254", "8.8.8.8", "2001:db8::1", "fe80::1ff:fe23:4567:890a%eth0",
                          "2001:0db8:85a3:0000:0000:8a2e:0370:7334", "::ffff:192.0.2.128"})
        expect("IP", s);
    for (const char* s : {"00:1A:2B:3C:4D:5E", "00-1a-2b-3c-4d-5e", "001a.2b3c.4d5e"}) expect("MAC", s);
    for (const char* s :
         {"52.520008, 13.404954", "-33.8688 151.2093", "52.5200\xC2\xB0 N, 13.4050\xC2\xB0 E", "geo:52.5,13.4",
          "52\xC2\xB0"
          "31'12\"N 13\xC2\xB0"
          "24'36\"E",
          "40.7128N 74.0060W"})
        expect("PLACE", s);
    for (const char* s : {"https://ada:pw@example.org/x", "ftp://ada@host", "postgres://u:p@db:5432/x",
                          "https://example.org/?user=1&token=abc", "https://example.org/a?api_key=1"})
        expect("URL", s);
    for (const char* s :
         {"sk-proj-abcdefghij0123456789", "ghp_abcdefghijklmnopqrstuvwxyz0123456789", "AKIAIOSFODNN7EXAMPLE",
          "eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NSJ9.dozjgNryP4J3jVmNHl0w5N", "9f86d081884c7d659a2feaa0c55ad015",
          "123e4567-e89b-12d3-a456-426614174000", "wJalrXUtnFEMI7K7MDENG0bPxRfiCYEXAMPLEKEY"})
        expect("KEY", s);
    EXPECT_EQ(found("password: hunter2!, then go"), "KEY hunter2!");
    EXPECT_EQ(found("Das Passwort ist Sommer24."), "KEY Sommer24");
    EXPECT_EQ(found("API_KEY=\"abcd-1\""), "KEY abcd-1");
    EXPECT_EQ(found("x\n-----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----\ny"),
              "KEY -----BEGIN RSA PRIVATE KEY-----\nMIIB\n-----END RSA PRIVATE KEY-----");
    EXPECT_EQ(found("-----BEGIN PRIVATE KEY-----\nMIIB and it was cut"),
              "KEY -----BEGIN PRIVATE KEY-----\nMIIB and it was cut");
    for (const char* s : {"3.3.1984", "03/04/1984", "1984-03-04", "4 March 1984", "March 4th, 1984",
                          "4. M\xC3\xA4rz 1984", "4th of May 84"}) {
        EXPECT_EQ(found("She was born on " + std::string(s) + "."), "BIRTH " + std::string(s));
        EXPECT_EQ(found("Geburtsdatum: " + std::string(s)), "BIRTH " + std::string(s));
        EXPECT_EQ(found("The meeting is on " + std::string(s) + "."), "");
    }
    expect("NAME", "Ada Lovelace");
    expect("NAME", "ada\n  lovelace");
    expect("NAME", "Projekt Zw\xC3\xB6lf");
    EXPECT_EQ(found("falconry and Falcons, but falcon"), "NAME falcon");
}

TEST(Secrets, do_not_hide_in_what_surrounds_them) {
    EXPECT_EQ(found("mailto:ada@example.org?subject=x"), "EMAIL ada@example.org");
    EXPECT_EQ(found("From 10.0.0.1 to 10.0.0.2:8080"), "IP 10.0.0.1|IP 10.0.0.2");
    EXPECT_EQ(found("Pay DE89 3704 0044 0532 0130 00 and 4111 1111 1111 1111 now"),
              "IBAN DE89 3704 0044 0532 0130 00|CARD 4111 1111 1111 1111");
    EXPECT_EQ(found("call +49 30 901820, or 030 901821!"), "PHONE +49 30 901820|PHONE 030 901821");
    EXPECT_EQ(found("{\"mail\":\"ada@example.org\",\"ip\":\"10.1.2.3\"}"), "EMAIL ada@example.org|IP 10.1.2.3");
}

TEST(Secrets, are_not_seen_where_there_are_none) {
    for (const char* text : {"The pump runs at 12.5 bar since 7:30, 29.11.2026.",
                             "2026-11-29T14:00:00Z",
                             "Version 1.2.3 of 2024",
                             "12:30:45",
                             "I am at home.",

                             "404 is an error, 8080 a port",
                             "3.14159265358979",
                             "Order 123456, 20 pieces, 1.250,00 EUR",
                             "internationalization",
                             "/usr/share/doc/slmd/README.md",
                             "https://example.org/path?page=2",
                             "https://example.org/keys",
                             "the key is in the door",
                             "0.12345678",
                             "4111 1111 1111 1112",

                             "1234567890123",
                             "valve_2, pump_1 and relay_2",
                             "It is 31 degrees, humidity 45 %",
                             "300.1.2.3",
                             "a@b",
                             "@home",
                             "x = y @ z",
                             "SmolLM2-135M-Instruct",
                             "Donaudampfschifffahrtsgesellschaft",
                             "C++20",
                             "::",
                             "",
                             " "})
        EXPECT_EQ(found(text), "") << text;
}

TEST(Secrets, texts_that_are_not_UTF_8_are_refused) { EXPECT_NE(found("a\xC3").find("not UTF-8"), std::string::npos); }

// A text of nothing but beginnings takes no square of its length: what is judged of a run has a limit, and what is
// found goes on to its own end.
TEST(Secrets, long_runs_are_found_whole) {
    const std::string token = "eyJhbGciOiJIUzI1NiJ9.e30." + std::string(9000, 'a');
    EXPECT_EQ(found("x " + token + " y"), "KEY " + token);
    const std::string url = "https://u:p@example.org/" + std::string(9000, 'b');
    EXPECT_EQ(found(url + " y"), "URL " + url);
    for (const char* part :
         {"eyJ-", "a://", "-----begin ", "1.2.", "a@", "fe80::", "0-", "+1 ", "A1 ", "password=", "\xC2\xB0"}) {
        std::string text;
        while (text.size() < 1 << 15) text += part;
        std::vector<Finding> findings(text.size());
        auto n = find_secrets(text, terms, findings);
        ASSERT_TRUE(n) << part;
        for (std::size_t i = 0; i < *n; i++) {
            EXPECT_LT(findings[i].begin, findings[i].end);
            EXPECT_LE(findings[i].end, i + 1 < *n ? findings[i + 1].begin : text.size());
        }
    }
}

// ---- the corpus

class Corpus {
  public:
    explicit Corpus(unsigned seed) : random_(seed) {}
    int below(int n) { return static_cast<int>(random_() % static_cast<unsigned>(n)); }
    std::string digits(int n, bool zero = true) {
        std::string s;
        for (int i = 0; i < n; i++) s += static_cast<char>('0' + (i == 0 && !zero ? 1 + below(9) : below(10)));
        return s;
    }
    std::string letters(int n, const char* of = "abcdefghijklmnopqrstuvwxyz") {
        std::string s;
        for (int i = 0; i < n; i++) s += of[below(static_cast<int>(std::char_traits<char>::length(of)))];
        return s;
    }
    template <class... T>
    std::string one(T... t) {
        const std::string all[] = {t...};
        return all[below(sizeof...(t))];
    }
    static std::string grouped(const std::string& s, std::size_t n, const std::string& by) {
        std::string out;
        for (std::size_t i = 0; i < s.size(); i += n) out += (i > 0 ? by : "") + s.substr(i, n);
        return out;
    }
    std::string secret(Kind kind) {
        switch (kind) {
            case Kind::email: {
                const std::string name = one(letters(3 + below(8)), letters(4) + "." + letters(6),
                                             letters(3) + "_" + digits(2), letters(5) + "+" + letters(3));
                const std::string host = letters(4 + below(8)) + one("", "-" + letters(3), "." + letters(4)),
                                  top = one("org", "de", "com", "io", "co.uk", "museum");
                return one(name + "@" + host + "." + top, name + "@" + host + "." + top,
                           name + " [at] " + host + "." + top, name + "(at)" + host + "(dot)org");
            }
            case Kind::iban: {
                const std::string country = one("DE", "AT", "CH", "NL", "ES", "GB", "FR", "NO");
                const std::size_t n = iban_length(country);
                std::string body = country == "NL" || country == "GB" ? letters(4, "ABCDEFGHIJKLMNOPQRSTUVWXYZ") : "";
                body += digits(static_cast<int>(n - 4 - body.size()));
                std::string iban = country + "00" + body;
                const int check = 98 - iban_rest(iban);
                iban[2] = static_cast<char>('0' + check / 10), iban[3] = static_cast<char>('0' + check % 10);
                return one(iban, grouped(iban, 4, " "), grouped(iban, 4, "-"), grouped(iban, 4, "\xC2\xA0"));
            }
            case Kind::card: {
                std::string card = one("4" + digits(14), "5" + digits(14), "37" + digits(12), "6011" + digits(11));
                for (char c = '0'; c <= '9'; c++)
                    if (luhn_holds(card + c)) {
                        card += c;
                        break;
                    }
                return one(card, grouped(card, 4, " "), grouped(card, 4, "-"));
            }
            case Kind::ip: {
                const auto part = [&] { return std::to_string(below(256)); };
                if (below(3) != 0) return part() + "." + part() + "." + part() + "." + part();
                const auto hex = [&] { return letters(1 + below(4), "0123456789abcdef"); };
                return one("2001:db8:" + hex() + "::" + hex(), "fe80::" + hex() + ":" + hex(),
                           hex() + ":" + hex() + ":" + hex() + ":" + hex() + ":" + hex() + ":" + hex() + ":" + hex() +
                               ":" + hex());
            }
            case Kind::mac: {
                const std::string mac = letters(12, one("0123456789abcdef", "0123456789ABCDEF").c_str());
                return one(grouped(mac, 2, ":"), grouped(mac, 2, "-"), grouped(mac, 4, "."));
            }
            case Kind::phone: {
                const std::string area = digits(2 + below(2), false), number = digits(6 + below(2));
                return one("+49 " + area + " " + number, "+49" + area + number, "0" + area + "/" + number,
                           "0" + area + " " + grouped(number, 2, " "), "(0" + area + ") " + number,
                           "+1 (" + digits(3, false) + ") " + digits(3) + "-" + digits(4),
                           digits(3, false) + "-" + digits(3) + "-" + digits(4), "0" + area + "-" + number,
                           "+44 (0)20 " + digits(4) + " " + digits(4));
            }
            case Kind::coordinates: {
                const std::string lat = std::to_string(below(89)) + "." + digits(3 + below(4)),
                                  lon = std::to_string(below(179)) + "." + digits(3 + below(4));
                return one(lat + ", " + lon, lat + " " + lon, lat + "N " + lon + "E", "geo:" + lat + "," + lon,
                           "-" + lat + ",-" + lon);
            }
            case Kind::url:
                return one("https://" + letters(4) + ":" + letters(8) + "@" + letters(6) + ".org/" + letters(3),
                           "mqtt://" + letters(5) + "@" + letters(6) + ":1883",
                           "https://" + letters(6) + ".com/?id=" + digits(3) + "&token=" + letters(12));
            case Kind::key:
                return one("sk-" + letters(24, "abcdefghijkmnpqrstuvwxyz0123456789ABCDEF"),
                           "ghp_" + letters(36, "abcdefghijkmnpqrstuvwxyz0123456789"),
                           "AKIA" + letters(16, "ABCDEFGHIJKLMNOPQRSTUVWXYZ234567"),
                           letters(40, "0123456789abcdef") + "0",
                           letters(32, "abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789") + "7a3");
            case Kind::birth_date: {
                const std::string d = std::to_string(1 + below(28)), m = std::to_string(1 + below(12)),
                                  y = std::to_string(1930 + below(80));
                return one(d + "." + m + "." + y,
                           y + "-" + (m.size() < 2 ? "0" + m : m) + "-" + (d.size() < 2 ? "0" + d : d),
                           d + one(" January ", " March ", " Mai ", " October ") + y, d + "/" + m + "/" + y);
            }
            default: return one("Ada Lovelace", "ada lovelace", "FALCON", "Projekt Zw\xC3\xB6lf");
        }
    }
    std::string words(int n) {
        std::string s;
        for (int i = 0; i < n; i++)
            s += (i > 0 ? " " : "") + one("the", "pump", "is", "at", "12.5", "bar", "since", "7:30", "and", "on",
                                          "3.4.2026", "order", "4711", "for", "valve", "2,", "please", "no", "tank",
                                          "(see", "page", "12)");
        return s;
    }

  private:
    std::mt19937 random_;
};

TEST(Secrets, planted_in_two_thousand_texts_are_found) {
    constexpr Kind planted[] = {Kind::email,       Kind::phone, Kind::iban, Kind::card,       Kind::ip,  Kind::mac,
                                Kind::coordinates, Kind::url,   Kind::key,  Kind::birth_date, Kind::term};
    Corpus corpus(20261129);
    int all[kinds] = {}, hidden[kinds] = {}, spurious = 0;
    std::vector<char> values(65536), out(65536), back(65536);
    std::vector<Redactor::Value> table(256);
    for (int n = 0; n < 2000; n++) {
        std::string text = corpus.words(4);
        std::vector<std::pair<Kind, std::string>> secrets;
        for (int i = 1 + corpus.below(3); i > 0; i--) {
            const Kind kind = planted[corpus.below(static_cast<int>(std::size(planted)))];
            secrets.emplace_back(kind, corpus.secret(kind));
            text += (kind == Kind::birth_date ? corpus.one(", born ", ", date of birth: ", ", geboren am ")
                                              : corpus.one(" ", ": ", " (", ", ", " = \"", "\n")) +
                    secrets.back().second + corpus.one(" ", ". ", ") ", ", ", "\" ", "\n") + corpus.words(3);
        }
        Redactor redactor(values, table, terms);
        const auto redacted = redactor.redact(text, out);
        ASSERT_TRUE(redacted) << redacted.error().text;
        for (const auto& [kind, secret] : secrets) {
            all[static_cast<int>(kind)]++;
            if (redacted.value().find(secret) == std::string_view::npos)
                hidden[static_cast<int>(kind)]++;
            else
                std::printf("not found: %s %s\n", name_of(kind), secret.c_str());
        }
        spurious += static_cast<int>(redactor.findings().size()) > static_cast<int>(secrets.size());
        const auto restored = redactor.restore(redacted.value(), back);
        ASSERT_TRUE(restored);
        EXPECT_EQ(restored.value(), text);
    }
    for (const Kind kind : planted) {
        const int i = static_cast<int>(kind);
        std::printf("%-6s %4d planted, %.2f %% found\n", name_of(kind), all[i], 100.0 * hidden[i] / all[i]);
        EXPECT_GE(hidden[i], 0.99 * all[i]) << name_of(kind);
        EXPECT_GT(all[i], 200);
    }
    std::printf("texts with more findings than secrets: %d of 2000\n", spurious);
    EXPECT_LT(spurious, 80);  // most of them another date behind a word for birth
}

}  // namespace
}  // namespace slmd::route
