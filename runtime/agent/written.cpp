#include "agent/written.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"

namespace slmd::agent {
namespace {

constexpr std::string_view minus = "\u2212";
// A number with all its marks is not longer; what is, is none. So looking around a place takes bounded time.
constexpr std::size_t max_number = 48;

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool digit_at(std::string_view text, std::size_t at) { return at < text.size() && is_digit(text[at]); }

struct Character {
    std::uint32_t code, bytes;
};

// The character at text[at]; code 0xFFFD and one byte for what is not UTF-8.
Character character(std::string_view text, std::size_t at) {
    const int n = utf8_length(text.substr(at));
    if (n <= 0) return {0xFFFD, 1};
    const auto byte = [&](int i) { return static_cast<unsigned char>(text[at + static_cast<std::size_t>(i)]); };
    std::uint32_t code = n == 1 ? byte(0) : byte(0) & (0x7Fu >> n);
    for (int i = 1; i < n; i++) code = code << 6 | (byte(i) & 0x3Fu);
    return {code, static_cast<std::uint32_t>(n)};
}

// White space of Unicode; what has no width counts as nothing.
bool is_space(std::uint32_t c) {
    return (c >= 9 && c <= 13) || c == ' ' || c == 0x85 || c == 0xA0 || c == 0x1680 || (c >= 0x2000 && c <= 0x200A) ||
           c == 0x2028 || c == 0x2029 || c == 0x202F || c == 0x205F || c == 0x3000;
}
bool is_nothing(std::uint32_t c) { return c == 0xAD || c == 0x200B || c == 0x2060 || c == 0xFEFF; }

// Letters and digits of scripts that put spaces between words. In others (Chinese, Thai) and in those that join
// particles to words (Arabic, Korean) a word's borders cannot be seen, so none are asked for.
bool is_word(std::uint32_t c) {
    if (c < 0x80) return is_digit(static_cast<char>(c)) || (c | 32u) - 'a' < 26 || c == '_';
    return c == 0xAA || c == 0xB5 || c == 0xBA || (c >= 0xC0 && c <= 0x52F && c != 0xD7 && c != 0xF7) ||
           (c >= 0x1E00 && c <= 0x1FFF);
}
bool word_at(std::string_view text, std::size_t at) { return at < text.size() && is_word(character(text, at).code); }
bool word_before(std::string_view text, std::size_t at) {
    if (at == 0) return false;
    std::size_t begin = at - 1;
    while (begin > 0 && at - begin < 4 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) begin--;
    return is_word(character(text, begin).code);
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && is_space(character(text, 0).code)) text.remove_prefix(character(text, 0).bytes);
    while (!text.empty()) {
        std::size_t begin = text.size() - 1;
        while (begin > 0 && (static_cast<unsigned char>(text[begin]) & 0xC0) == 0x80) begin--;
        if (!is_space(character(text, begin).code)) break;
        text = text.substr(0, begin);
    }
    return text;
}

// Bytes of the mark between groups of three digits at text[at]; 0: there is none.
std::size_t group_mark(std::string_view text, std::size_t at, char decimal_mark) {
    if (at >= text.size()) return 0;
    for (const std::string_view mark : {",", ".", "'", " ", "\u2019", "\u00A0", "\u2009", "\u202F"})
        if (mark[0] != decimal_mark && text.substr(at).starts_with(mark)) return mark.size();
    return 0;
}

bool take_sign(std::string_view& text) {
    const bool negative = text.starts_with('-') || text.starts_with(minus);
    if (negative || text.starts_with('+')) text.remove_prefix(text.starts_with(minus) ? minus.size() : 1);
    return negative;
}

bool read_unsigned(std::string_view text, char decimal_mark, Decimal& value) {
    decimal_mark = mark_of(text, decimal_mark);
    std::size_t at = 0;
    int digits = 0;
    value = 0;
    const auto take_digits = [&] {
        int n = 0;
        for (; digit_at(text, at); at++, n++, digits++)
            if (digits < 18) value = value * 10 + (text[at] - '0');
        return n;
    };
    const int first = take_digits();
    if (first == 0) return false;
    std::string_view mark;
    while (const std::size_t bytes = group_mark(text, at, decimal_mark)) {
        const std::string_view found = text.substr(at, bytes);
        if (first > 3 || (!mark.empty() && found != mark)) return false;
        mark = found, at += bytes;
        if (take_digits() != 3) return false;
    }
    if (digits > 18) return false;
    value *= grammar::decimal_one;
    if (at < text.size() && text[at] == decimal_mark) {
        Decimal unit = grammar::decimal_one;
        const std::size_t begin = ++at;
        for (; digit_at(text, at) && unit > 1; at++) value += (text[at] - '0') * (unit /= 10);
        if (at == begin) return false;
    }
    return at == text.size();
}

// As ISO 4217 has them.
bool is_currency(std::string_view text) {
    return text.size() == 3 && std::all_of(text.begin(), text.end(), [](char c) { return c >= 'A' && c <= 'Z'; });
}
// A currency at the beginning or the end: its code, or a sign.
void drop_currency(std::string_view& text) {
    if (text.size() > 3 && is_currency(text.substr(0, 3)))
        text.remove_prefix(3);
    else if (text.size() > 3 && is_currency(text.substr(text.size() - 3)))
        text.remove_suffix(3);
    else
        for (const std::string_view sign : {"\u20AC", "$", "\u00A3", "\u00A5", "\u20B9"}) {
            if (text.starts_with(sign))
                text.remove_prefix(sign.size());
            else if (text.ends_with(sign))
                text.remove_suffix(sign.size());
            else
                continue;
            break;
        }
    text = trimmed(text);
}

int days_in(int year, int month) {
    constexpr signed char days[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    const bool leap = year % 4 == 0 && (year % 100 != 0 || year % 400 == 0);
    return days[month - 1] + (month == 2 && leap ? 1 : 0);
}

// Days since 1970-01-01 in the Gregorian calendar: whole years before, then months.
std::int64_t days_until(int year, int month, int day) {
    const std::int64_t y = year - 1;
    std::int64_t days = y * 365 + y / 4 - y / 100 + y / 400 - 719162;
    for (int m = 1; m < month; m++) days += days_in(year, m);
    return days + day - 1;
}

// The letters of a date format and how many of each in a row it takes.
struct Token {
    char letter;
    signed char least, most;
};
constexpr Token tokens[] = {{'y', 4, 4}, {'m', 1, 2}, {'d', 1, 2}, {'H', 2, 2}, {'M', 2, 2}, {'S', 2, 2}};
constexpr std::size_t token_count = std::size(tokens);

std::size_t token_of(char letter) {
    std::size_t i = 0;
    while (i < token_count && tokens[i].letter != letter) i++;
    return i;
}

// Signs, marks and digits: where a number begins or ends may be within another one.
bool is_mark(char c) { return c == '.' || c == ',' || c == '\''; }
// The run of digits, and of single marks between them, around text[at], which is a digit; empty when it is too long to
// be a number.
std::string_view chain(std::string_view text, std::size_t at) {
    std::size_t begin = at, end = at + 1;
    const auto joins = [&](std::size_t i) {
        return is_digit(text[i]) || (is_mark(text[i]) && i > 0 && is_digit(text[i - 1]) && digit_at(text, i + 1));
    };
    while (begin > 0 && at - begin <= max_number && joins(begin - 1)) begin--;
    while (end < text.size() && end - at <= max_number && joins(end)) end++;
    return end - begin > max_number ? std::string_view() : text.substr(begin, end - begin);
}
bool is_number(std::string_view text) {
    Decimal value;
    if (!text.empty() && text.size() <= 18 && std::all_of(text.begin(), text.end(), is_digit)) return true;
    return read_unsigned(text, '.', value) || read_unsigned(text, ',', value);
}
// Between text[at - 1] and text[at] lies the middle of a number. A date (01.03.2024) is none: its parts may stand
// alone.
bool within_number(std::string_view text, std::size_t at) {
    if (at == 0 || at >= text.size()) return false;
    if (is_digit(text[at - 1]) && is_mark(text[at]) && digit_at(text, at + 1)) return is_number(chain(text, at - 1));
    if (is_mark(text[at - 1]) && is_digit(text[at]) && at > 1 && is_digit(text[at - 2]))
        return is_number(chain(text, at));
    return false;
}
// A sign, and not a hyphen, stands before text[at].
bool minus_before(std::string_view text, std::size_t at) {
    const std::string_view before = text.substr(0, at);
    const std::size_t bytes = before.ends_with('-') ? 1 : before.ends_with(minus) ? minus.size() : 0;
    return bytes != 0 && !word_before(text, at - bytes);
}
// A currency's code ends or begins there, and with them the word: of letters only those stand
// directly at a number, and are values of their own all the same (EUR119.00).
bool currency_before(std::string_view text, std::size_t at) {
    return at >= 3 && is_currency(text.substr(at - 3, 3)) && !word_before(text, at - 3);
}
bool currency_at(std::string_view text, std::size_t at) {
    return at < text.size() && is_currency(text.substr(at, 3)) && !word_at(text, at + 3);
}
bool number_may_begin(std::string_view text, std::size_t at) {
    return !word_before(text, at) || currency_before(text, at);
}
// Directly behind it letters (5kg), but not those of something like a part number (5kg7).
bool number_may_end(std::string_view text, std::size_t at) {
    for (std::size_t n = 0; word_at(text, at); at += character(text, at).bytes)
        if (is_digit(text[at]) || ++n > 16) return false;
    return true;
}
bool unit_follows(std::string_view text, std::size_t at, std::string_view unit) {
    if (unit.empty()) return number_may_end(text, at);
    while (at < text.size() && is_space(character(text, at).code)) at += character(text, at).bytes;
    if (!text.substr(at).starts_with(unit)) return false;
    at += unit.size();
    return !word_before(text, at) || !word_at(text, at);
}

struct Marks {
    std::string_view opens, closes[2];
    bool ends_too = false;  // where a word ends it is no beginning: it closes another quotation, or means inches
};
constexpr Marks quotation_marks[] = {
    {"\"", {"\""}, true},
    {"\u201C", {"\u201D"}},                  // English
    {"\u201E", {"\u201C", "\u201D"}},        // German, Polish
    {"\u201D", {"\u201D"}, true},            // Swedish
    {"\u00AB", {"\u00BB"}},                  // French, Russian
    {"\u00BB", {"\u00AB", "\u00BB"}, true},  // German books, Danish, Finnish
    {"\u2039", {"\u203A"}},
    {"\u203A", {"\u2039"}, true},
    {"\u2018", {"\u2019"}},
    {"\u201A", {"\u2018", "\u2019"}},
    {"\u300C", {"\u300D"}},  // Chinese, Japanese
    {"\u300E", {"\u300F"}},
};

}  // namespace

char mark_of(std::string_view number, char decimal_mark) {
    if (decimal_mark != any_mark) return decimal_mark;
    const std::size_t last = number.find_last_of(".,");
    if (last == std::string_view::npos) return '.';
    std::size_t after = last + 1, before = last;
    while (digit_at(number, after)) after++;
    while (before > 0 && digit_at(number, before - 1)) before--;
    const bool group = after - last - 1 == 3 && last - before >= 1 && last - before <= 3 && number[before] != '0';
    return (number[last] == '.') != group ? '.' : ',';
}

bool read_number(std::string_view text, char decimal_mark, Decimal& value) {
    const bool negative = take_sign(text);
    if (!read_unsigned(text, decimal_mark, value)) return false;
    if (negative) value = -value;
    return true;
}

bool read_amount(std::string_view text, char decimal_mark, Decimal& value) {
    text = trimmed(text);
    bool negative = take_sign(text);
    text = trimmed(text);
    drop_currency(text);
    if (!negative) negative = take_sign(text);
    if (!read_unsigned(text, decimal_mark, value)) return false;
    if (negative) value = -value;
    return true;
}

std::string_view write_number(Decimal value, int decimals, std::span<char, 48> out) {
    // From the end.
    std::size_t at = out.size();
    const bool negative = value < 0;
    if (negative) value = -value;
    bool written = false;
    for (int i = 18; i > 0; i--, value /= 10) {
        const int digit = static_cast<int>(value % 10);
        if (!written && digit == 0 && i > decimals) continue;
        out[--at] = static_cast<char>('0' + digit);
        written = true;
    }
    if (written) out[--at] = '.';
    do out[--at] = static_cast<char>('0' + static_cast<int>(value % 10));
    while ((value /= 10) != 0 && at > 1);
    if (negative) out[--at] = '-';
    return {out.data() + at, out.size() - at};
}

bool multiply(Decimal a, Decimal b, Decimal& product) {
    int decimals = 36;
    for (Decimal* factor : {&a, &b})
        for (int i = 0; i < 18 && *factor % 10 == 0; i++) *factor /= 10, decimals--;
    if (__builtin_mul_overflow(a, b, &product)) return false;
    for (; decimals > 18; decimals--, product /= 10)
        if (product % 10 != 0) return false;
    for (; decimals < 18; decimals++)
        if (__builtin_mul_overflow(product, Decimal{10}, &product)) return false;
    return product <= grammar::decimal_max && product >= -grammar::decimal_max;
}

namespace {

constexpr std::string_view between = " or ";

// Cuts the first of several formats off.
std::string_view next_format(std::string_view& formats) {
    const std::size_t end = formats.find(between);
    const std::string_view first = formats.substr(0, end);
    formats.remove_prefix(end == formats.npos ? formats.size() : end + between.size());
    return first;
}

bool is_one_format(std::string_view format, bool& date) {
    bool has[token_count] = {};
    for (std::size_t at = 0; at < format.size();) {
        const std::size_t token = token_of(format[at]), begin = at;
        if (token == token_count) {
            at++;
            continue;
        }
        while (at < format.size() && format[at] == format[begin]) at++;
        const auto n = static_cast<int>(std::min<std::size_t>(at - begin, 9));
        if (has[token] || n < tokens[token].least || n > tokens[token].most) return false;
        has[token] = true;
    }
    date = has[0] && has[1] && has[2];
    const bool part = has[0] || has[1] || has[2];
    return date == part && (date || has[3]) && (has[3] || !has[4]) && (has[4] || !has[5]);
}

bool read_as(std::string_view text, std::string_view format, std::int64_t& seconds) {
    int part[token_count] = {1970, 1, 1, 0, 0, 0};
    std::size_t from = 0;
    for (std::size_t at = 0; at < format.size();) {
        const std::size_t token = token_of(format[at]), begin = at;
        if (token == token_count) {
            if (from >= text.size() || text[from++] != format[at++]) return false;
            continue;
        }
        while (at < format.size() && format[at] == format[begin]) at++;
        const std::size_t least = at - begin, most = least == 1 ? 2 : least;
        std::size_t n = 0;
        for (part[token] = 0; n < most && digit_at(text, from); n++)
            part[token] = part[token] * 10 + text[from++] - '0';
        if (n < least) return false;
    }
    if (from != text.size() || part[0] < 1 || part[1] < 1 || part[1] > 12 || part[2] < 1 ||
        part[2] > days_in(part[0], part[1]) || part[3] > 23 || part[4] > 59 || part[5] > 59)
        return false;
    seconds = days_until(part[0], part[1], part[2]) * 86400 + part[3] * 3600 + part[4] * 60 + part[5];
    return true;
}

}  // namespace

bool is_date_format(std::string_view format) {
    bool date, other;
    if (format.ends_with(between) || !is_one_format(next_format(format), date)) return false;
    while (!format.empty())
        if (!is_one_format(next_format(format), other) || other != date) return false;
    return true;
}

bool read_date(std::string_view text, std::string_view format, std::int64_t& seconds) {
    do {
        if (read_as(text, next_format(format), seconds)) return true;
    } while (!format.empty());
    return false;
}

std::string_view fold_space(std::string_view text, std::span<char> out) {
    std::size_t n = 0;
    bool space = false;
    for (std::size_t at = 0; at < text.size();) {
        const Character c = character(text, at);
        if (is_space(c.code)) {
            space = true;
        } else if (!is_nothing(c.code)) {
            if (space && n > 0) out[n++] = ' ';
            space = false;
            std::memmove(out.data() + n, text.data() + at, c.bytes);
            n += c.bytes;
        }
        at += c.bytes;
    }
    return {out.data(), n};
}

void fold_case(std::span<char> text) {
    for (std::size_t at = 0; at < text.size();) {
        const Character c = character({text.data(), text.size()}, at);
        std::uint32_t small = c.code;
        if (c.bytes == 1 && c.code - 'A' < 26) {
            text[at] = static_cast<char>(text[at] | 32);
        } else if (c.bytes == 2) {
            // Only what stays two bytes long.
            if ((c.code >= 0xC0 && c.code <= 0xDE && c.code != 0xD7) || (c.code >= 0x391 && c.code <= 0x3A9) ||
                (c.code >= 0x410 && c.code <= 0x42F))
                small = c.code + 32;
            else if (c.code >= 0x400 && c.code <= 0x40F)
                small = c.code + 80;
            else if ((c.code >= 0x100 && c.code <= 0x12F) || (c.code >= 0x132 && c.code <= 0x137) ||
                     (c.code >= 0x14A && c.code <= 0x177) || (c.code >= 0x460 && c.code <= 0x481) ||
                     (c.code >= 0x48A && c.code <= 0x4BF))
                small = c.code | 1;
            else if ((c.code >= 0x139 && c.code <= 0x148) || (c.code >= 0x179 && c.code <= 0x17E))
                small = c.code + (c.code & 1);
            text[at] = static_cast<char>(0xC0 | small >> 6), text[at + 1] = static_cast<char>(0x80 | (small & 63));
        }
        at += c.bytes;
    }
}

bool stands(std::string_view value, std::string_view source) {
    if (value.empty()) return false;
    const bool currency = is_currency(value);
    const bool word = word_at(value, 0), number = is_digit(value[0]), negative = value[0] == '-' && digit_at(value, 1);
    const bool word_ends = word_before(value, value.size()), number_ends = is_digit(value.back());
    for (std::size_t at = 0; (at = source.find(value[0], at)) != std::string_view::npos; at++) {
        if (source.size() - at < value.size()) return false;
        if ((word || negative) && word_before(source, at) && !(currency && is_digit(source[at - 1])) &&
            !(number && currency_before(source, at)))
            continue;
        if (number && (within_number(source, at) || minus_before(source, at))) continue;
        if (std::memcmp(source.data() + at, value.data(), value.size()) != 0) continue;
        const std::size_t end = at + value.size();
        if (word_ends && word_at(source, end) && !(currency && is_digit(source[end])) &&
            !(number_ends && currency_at(source, end)))
            continue;
        if (number_ends && within_number(source, end)) continue;
        return true;
    }
    return false;
}

bool number_stands(Decimal value, std::string_view unit, std::string_view source) {
    const Decimal size = value < 0 ? -value : value;
    char written[48];
    const std::string_view wanted = write_number(size, 0, written);
    // Whether the digits are the number's, without zeros at either end: most texts differ in the first of them, and
    // reading every number for every value takes long. more: others may follow.
    const auto has_digits = [&](std::string_view text, bool more) {
        const auto next = [](std::string_view& t) {
            while (!t.empty() && !is_digit(t.front())) t.remove_prefix(1);
            const char c = t.empty() ? '0' : t.front();
            if (!t.empty()) t.remove_prefix(1);
            return c;
        };
        std::string_view rest = wanted;
        for (std::string_view* t : {&text, &rest}) t->remove_prefix(std::min(t->find_first_of("123456789"), t->size()));
        while (!text.empty() || (!more && !rest.empty()))
            if (next(text) != next(rest)) return false;
        return true;
    };
    const auto is_size = [&](std::string_view text) {
        Decimal read;
        return has_digits(text, false) &&
               ((read_unsigned(text, '.', read) && read == size) || (read_unsigned(text, ',', read) && read == size));
    };
    const auto may_begin = [&](std::size_t at) {
        return (size == 0 || minus_before(source, at) == (value < 0)) && number_may_begin(source, at);
    };
    for (std::size_t at = 0; at < source.size();) {
        const std::size_t begin = at;
        while (digit_at(source, at)) at++;
        const std::string_view digits = source.substr(begin, at - begin);
        if (digits.empty()) {
            at++;
            continue;
        }
        if (!has_digits(digits, true) || !may_begin(begin)) continue;
        const std::string_view number = chain(source, begin);
        if (!is_number(number)) {
            // A date, a version, a list: its parts are numbers of their own.
            if (is_size(digits) && unit_follows(source, at, unit)) return true;
            continue;
        }
        if (number.data() != digits.data()) continue;  // in the middle of it
        at = begin + number.size();
        if (is_size(number) && unit_follows(source, at, unit)) return true;
        // Groups with spaces between them.
        for (std::size_t end = at; end < source.size() && end - begin < max_number;) {
            const std::size_t space = group_mark(source, end, '.');
            if (space == 0 || is_mark(source[end]) || !digit_at(source, end + space)) break;
            end += space + chain(source, end + space).size();
            const std::string_view grouped = source.substr(begin, end - begin);
            if (!has_digits(grouped, true) || !is_number(grouped)) break;
            if (is_size(grouped) && unit_follows(source, end, unit)) return true;
        }
    }
    return false;
}

std::string_view clipped(std::string_view text, std::size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && (static_cast<unsigned char>(text[bytes]) & 0xC0) == 0x80) bytes--;
    return text.substr(0, bytes);
}

bool Quotations::next(std::string_view& content) {
    const auto is_there = [&](std::string_view mark) { return !mark.empty() && text_.substr(at_).starts_with(mark); };
    const auto advance = [&] { at_ += character(text_, at_).bytes; };
    const Marks* marks = nullptr;
    for (; at_ < text_.size(); advance()) {
        for (const Marks& m : quotation_marks)
            if (is_there(m.opens) && !(m.ends_too && word_before(text_, at_))) marks = &m;
        if (marks != nullptr) break;
    }
    if (marks == nullptr) return false;
    const std::size_t begin = at_ += marks->opens.size();
    for (int depth = 1; at_ < text_.size(); advance()) {
        std::size_t closes = 0;
        for (const std::string_view mark : marks->closes)
            if (is_there(mark)) closes = mark.size();
        // An apostrophe ends nothing.
        if (closes != 0 && is_there("\u2019") && word_at(text_, at_ + closes)) continue;
        if (closes != 0 && --depth == 0) {
            content = text_.substr(begin, at_ - begin);
            at_ += closes;
            return true;
        }
        if (closes == 0 && is_there(marks->opens)) depth++;
    }
    unfinished_ = true;
    return false;
}

}  // namespace slmd::agent
