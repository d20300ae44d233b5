// Secrets made of digits.
#include <arpa/inet.h>

#include <algorithm>
#include <cstdlib>
#include <cstring>
#include <tuple>
#include <utility>

#include "base/check_digits.h"
#include "route/letters.h"
#include "route/secrets.h"

namespace slmd::route {
namespace {

constexpr std::size_t most_digits = 34;

// Groups of digits (and letters, where wanted) with one separator between them, from a place on.
struct Groups {
    char text[most_digits];         // in capitals, without separators
    std::size_t ends[most_digits];  // behind each of them, in the text
    std::size_t size = 0;
};

Groups groups_at(std::string_view t, std::size_t at, bool letters, std::string_view separators) {
    Groups g;
    while (at < t.size() && g.size < most_digits) {
        const char c = t[at];
        if (is_digit(c) || (letters && is_letter(c))) {
            g.text[g.size] = is_lower(c) ? static_cast<char>(c - 32) : c;
            g.ends[g.size++] = ++at;
            continue;
        }
        const std::size_t blank = gap(t, at), n = blank != 0 ? blank : separators.find(c) != separators.npos ? 1 : 0;
        const char next = at_or_0(t, at + n);
        if (n == 0 || !(is_digit(next) || (letters && is_letter(next)))) break;
        at += n;
    }
    return g;
}

bool ends_word(std::string_view t, std::size_t end) { return !is_word(at_or_0(t, end)); }

// A decimal number with at least so many places: its value and its end, or 0.
std::size_t decimal_at(std::string_view t, std::size_t at, std::size_t places, double most) {
    std::size_t i = at;
    if (at_or_0(t, i) == '-' || at_or_0(t, i) == '+') i++;
    const std::size_t whole = run(t, i, is_digit, 4);
    if (whole == i || whole - i > 3) return 0;
    std::size_t end = whole;
    if (at_or_0(t, whole) == '.') {
        end = run(t, whole + 1, is_digit, 16);
        if (end == whole + 1) end = whole;
    }
    if (end - whole < (places == 0 ? 0 : places + 1)) return 0;
    char text[24];
    const std::size_t n = std::min(end - at, sizeof text - 1);
    std::copy_n(t.begin() + static_cast<std::ptrdiff_t>(at), n, text);
    text[n] = 0;
    const double value = strtod(text, nullptr);
    return value >= -most && value <= most ? end : 0;
}

std::size_t skip_blanks(std::string_view t, std::size_t at) {
    return run(
        t, at, [](char c) { return c == ' '; }, 4);
}

// The sign of an angle's unit, in ASCII or not: its length, or 0.
std::size_t sign(std::string_view t, std::size_t at, std::string_view ascii, std::string_view other) {
    if (!ascii.empty() && begins(t, at, ascii)) return ascii.size();
    return begins(t, at, other) ? other.size() : 0;
}

// 52°31'12.3"N, less its tail: 52° N.
std::size_t degrees_at(std::string_view t, std::size_t at, std::string_view sides) {
    std::size_t i = run(t, at, is_digit, 3);
    if (i == at) return 0;
    if (at_or_0(t, i) == '.') i = run(t, i + 1, is_digit, 9);
    const std::size_t degree = sign(t, skip_blanks(t, i), "", "\xC2\xB0");
    if (degree == 0) return 0;
    i = skip_blanks(t, i) + degree;
    for (const auto& [ascii, other] : {std::pair{"'", "\xE2\x80\xB2"}, std::pair{"\"", "\xE2\x80\xB3"}}) {
        const std::size_t from = skip_blanks(t, i);
        std::size_t end = run(t, from, is_digit, 3);
        if (end == from) break;
        if (at_or_0(t, end) == '.') end = run(t, end + 1, is_digit, 9);
        const std::size_t n = sign(t, end, ascii, other);
        if (n == 0) break;
        i = end + n;
    }
    i = skip_blanks(t, i);
    return i < t.size() && sides.find(t[i]) != sides.npos && ends_word(t, i + 1) ? i + 1 : 0;
}

std::size_t between_coordinates(std::string_view t, std::size_t at) {
    std::size_t i = skip_blanks(t, at);
    if (at_or_0(t, i) == ',' || at_or_0(t, i) == ';' || at_or_0(t, i) == '/') i = skip_blanks(t, i + 1);
    return i;
}

// N, S, E, W behind a decimal, perhaps behind a degree sign.
std::size_t skip_side(std::string_view t, std::size_t at, std::string_view sides) {
    std::size_t i = at + sign(t, at, "", "\xC2\xB0");
    const std::size_t letter = skip_blanks(t, i);
    if (letter < t.size() && sides.find(t[letter]) != sides.npos && ends_word(t, letter + 1)) i = letter + 1;
    return i;
}

constexpr std::string_view months[] = {"jan", "feb", "mar", "m\xC3\xA4r", "apr", "may", "mai", "jun",
                                       "jul", "aug", "sep", "oct",        "okt", "nov", "dec", "dez"};

std::size_t month_at(std::string_view t, std::size_t at) {
    for (const std::string_view m : months)
        if (begins(t, at, m)) return run(t, at, [](char c) { return is_letter(c) || is_utf8(c); });
    return 0;
}

// A date in digits or with a month's name.
std::size_t date_at(std::string_view t, std::size_t at) {
    const std::size_t first = run(t, at, is_digit, 5);
    const auto day = [&](std::size_t from) {
        const std::size_t end = run(t, from, is_digit, 3);
        return end == from || end - from > 2 ? 0 : end;
    };
    const auto year = [&](std::size_t from) {
        const std::size_t end = run(t, from, is_digit, 5);
        return end - from == 4 || end - from == 2 ? end : 0;
    };
    if (first == at) {  // March 3(rd), 1984
        std::size_t i = month_at(t, at);
        if (i == 0) return 0;
        if (at_or_0(t, i) == '.') i++;
        i = day(skip_blanks(t, i));
        if (i == 0) return 0;
        for (const char* ordinal : {"st", "nd", "rd", "th"})
            if (begins(t, i, ordinal)) i += 2;
        if (at_or_0(t, i) == ',') i++;
        return year(skip_blanks(t, i));
    }
    const char separator = at_or_0(t, first);
    if (first - at == 4 && (separator == '-' || separator == '/' || separator == '.')) {  // 1984-03-03
        const std::size_t month = day(first + 1);
        return month != 0 && at_or_0(t, month) == separator ? day(month + 1) : 0;
    }
    if (first - at > 2) return 0;
    if (separator == '.' || separator == '/' || separator == '-') {  // 3.3.1984, 3. 3. 84
        const std::size_t month = day(skip_blanks(t, first + 1));
        if (month != 0 && at_or_0(t, month) == separator) return year(skip_blanks(t, month + 1));
    }
    std::size_t i = first;  // 3(rd)(.) (of) March(,) 1984
    for (const char* ordinal : {"st", "nd", "rd", "th", "."})
        if (begins(t, i, ordinal)) i += strlen(ordinal);
    i = skip_blanks(t, i);
    if (begins(t, i, "of ")) i += 3;
    i = month_at(t, i);
    if (i == 0) return 0;
    while (at_or_0(t, i) == ',' || at_or_0(t, i) == '.') i++;
    return year(skip_blanks(t, i));
}

}  // namespace

std::size_t iban_at(std::string_view t, std::size_t at) {
    if (!(is_letter(at_or_0(t, at)) && is_letter(at_or_0(t, at + 1)))) return 0;
    const Groups g = groups_at(t, at, true, "-.");
    if (g.size < 15 || !is_digit(g.text[2]) || !is_digit(g.text[3])) return 0;
    const std::size_t n = iban_length({g.text, 2});
    return n != 0 && n <= g.size && ends_word(t, g.ends[n - 1]) && iban_rest({g.text, n}) == 1 ? g.ends[n - 1] : 0;
}

std::size_t card_at(std::string_view t, std::size_t at) {
    if (!is_digit(at_or_0(t, at)) || t[at] == '0') return 0;
    const Groups g = groups_at(t, at, false, "-.");
    for (std::size_t n = std::min<std::size_t>(g.size, 19); n >= 13; n--)
        if (ends_word(t, g.ends[n - 1]) && luhn_holds({g.text, n})) return g.ends[n - 1];
    return 0;
}

std::size_t phone_at(std::string_view t, std::size_t at) {
    constexpr std::size_t most = 15;  // E.164
    const bool plus = at_or_0(t, at) == '+', open = at_or_0(t, at) == '(';
    if (!plus && date_at(t, at) != 0) return 0;
    std::size_t i = at + (plus || open ? 1 : 0), digits = 0, n = 0;
    if (!is_digit(at_or_0(t, i))) return 0;
    const bool zero = t[i] == '0', one = t[i] == '1';
    struct Group {
        std::size_t size, end, digits;  // digits: up to here
    } group[most + 1];
    int opened = open ? 1 : 0;
    while (digits <= most && n <= most) {
        const std::size_t stop = run(t, i, is_digit);
        if (stop == i) break;
        digits += stop - i;
        const std::size_t size = stop - i;
        i = stop;
        if (opened > 0 && at_or_0(t, i) == ')') i++, opened--;
        if (open && n == 0 && opened != 0) return 0;  // a bracket around more than the first group is none of it
        group[n++] = {size, i, digits};
        for (int k = 0; k < 3; k++) {  // up to three of these between groups: ") ", " (", " - "
            const char c = at_or_0(t, i);
            if (const std::size_t blank = gap(t, i); blank != 0)
                i += blank;
            else if (c == '-' || c == '.' || c == '/')
                i++;
            else if (c == '(' && is_digit(at_or_0(t, i + 1)))
                i++, opened++;
            else
                break;
        }
    }
    // The longest that is one: behind a number may stand others.
    for (; n > 0; n--) {
        const Group& last = group[n - 1];
        if (!ends_word(t, last.end) || last.digits > most) continue;
        if (plus && last.digits >= 7) return last.end;
        const std::size_t first = n == 4 && group[0].size == 1 && one ? 1 : 0;
        if (n - first == 3 && group[first].size == 3 && group[first + 1].size == 3 && last.size == 4) return last.end;
        if (zero && last.digits >= 7 && (n >= 2 || last.digits >= 9) && at_or_0(t, at + 1) != '.') return last.end;
    }
    return 0;
}

std::size_t ip_at(std::string_view t, std::size_t at) {
    std::size_t i = at;
    for (int part = 0; part < 4; part++) {
        const std::size_t end = run(t, i, is_digit, 4);
        int value = 0;
        for (std::size_t k = i; k < end; k++) value = value * 10 + (t[k] - '0');
        if (end == i || end - i > 3 || value > 255) break;
        if (part == 3) {
            const bool more = at_or_0(t, end) == '.' && is_digit(at_or_0(t, end + 1));
            return more || is_word(at_or_0(t, end)) ? 0 : end;
        }
        if (at_or_0(t, end) != '.') break;
        i = end + 1;
    }
    // Version 6: what inet_pton takes, of the longest run that can be one.
    std::size_t end = run(
        t, at, [](char c) { return is_hex(c) || c == ':' || c == '.'; }, INET6_ADDRSTRLEN);
    for (; end > at + 1; end--) {
        const std::string_view s = t.substr(at, end - at);
        if (std::count(s.begin(), s.end(), ':') < 2) return 0;
        if (is_word(at_or_0(t, end)) && is_word(t[end - 1])) continue;
        char text[INET6_ADDRSTRLEN + 1];
        if (s.size() >= sizeof text) continue;
        std::copy(s.begin(), s.end(), text);
        text[s.size()] = 0;
        unsigned char address[16];
        if (s != "::" && inet_pton(AF_INET6, text, address) == 1) {
            if (at_or_0(t, end) == '%') end = run(t, end + 1, is_alnum);
            return end;
        }
    }
    return 0;
}

std::size_t mac_at(std::string_view t, std::size_t at) {
    for (const auto& [groups, digits, separators] :
         {std::tuple{6, 2u, std::string_view(":-")}, std::tuple{3, 4u, std::string_view(".")}}) {
        std::size_t i = at;
        const char separator = at_or_0(t, at + digits);
        if (separator == 0 || separators.find(separator) == separators.npos) continue;
        for (int g = 0; g < groups; g++) {
            const std::size_t end = run(t, i, is_hex, digits + 1);
            if (end - i != digits) break;
            if (g == groups - 1) {
                if (ends_word(t, end) && !(at_or_0(t, end) == separator && is_hex(at_or_0(t, end + 1)))) return end;
                break;
            }
            if (at_or_0(t, end) != separator) break;
            i = end + 1;
        }
    }
    return 0;
}

std::size_t coordinates_at(std::string_view t, std::size_t at) {
    if (begins(t, at, "geo:")) {
        const std::size_t first = decimal_at(t, at + 4, 0, 90);
        if (first == 0 || at_or_0(t, first) != ',') return 0;
        return decimal_at(t, first + 1, 0, 180);
    }
    if (const std::size_t north = degrees_at(t, at, "NS"); north != 0)
        return degrees_at(t, between_coordinates(t, north), "EWO");
    std::size_t first = decimal_at(t, at, 3, 90);
    if (first == 0) return 0;
    first = skip_side(t, first, "NS");
    const std::size_t next = between_coordinates(t, first);
    if (next == first) return 0;
    const std::size_t second = decimal_at(t, next, 3, 180);
    if (second == 0) return 0;
    const std::size_t end = skip_side(t, second, "EWO");
    return ends_word(t, end) ? end : 0;
}

std::size_t birth_date_at(std::string_view t, std::size_t at) {
    const std::size_t end = date_at(t, at);
    if (end == 0 || !ends_word(t, end)) return 0;
    constexpr std::size_t before = 40;
    const std::size_t from = at > before ? at - before : 0;
    for (const std::string_view word :
         {"born", "birth", "dob", "d.o.b", "geboren", "geb.", "geburt", "n\xC3\xA9", "nacid", "nacim", "nato"})
        for (std::size_t i = from; i + word.size() <= at; i++)
            if (begins(t, i, word) && (i == 0 || !is_word(t[i - 1]))) return end;
    return 0;
}

}  // namespace slmd::route
