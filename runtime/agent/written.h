// Numbers and dates as documents have them, and whether a value stands in a text.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "grammar/number.h"

namespace slmd::agent {

using grammar::Decimal;

// A decimal mark for texts of which some have a point and some a comma: the last of the two in the number, unless it
// stands between one to three digits, of which the first is no 0, and just three more, which are a group.
constexpr char any_mark = '*';
// The mark before the decimals of this one: decimal_mark, unless that is any_mark.
char mark_of(std::string_view number, char decimal_mark);
// A number from end to end: a sign, digits, whole groups of three of them between equal marks (one of , . ' a space,
// but not the decimal mark), decimals. False when it is none, or has more than 18 digits on a side of the mark.
bool read_number(std::string_view text, char decimal_mark, Decimal& value);
// The same, with a currency (EUR, $) and white space around it.
bool read_amount(std::string_view text, char decimal_mark, Decimal& value);
// With at least so many decimals. The text is of out.
std::string_view write_number(Decimal value, int decimals, std::span<char, 48> out);
// a * b, when it has at most 18 digits on each side of the point.
bool multiply(Decimal a, Decimal b, Decimal& product);

// yyyy, mm, dd, HH, MM, SS; m and d for months and days of one digit or two; other characters stand for themselves.
// A date has all of year, month and day, or none; then at least the hours. Several formats, all of dates or none, have
// " or " between them; the first that fits counts.
constexpr std::string_view iso_date = "yyyy-mm-dd";
bool is_date_format(std::string_view format);
// Seconds since 1970-01-01, without time zones. False when it is not of the format, or there is no such day or time.
bool read_date(std::string_view text, std::string_view format, std::int64_t& seconds);

// White space at the ends is gone, within it is one space; what has no width (a soft hyphen) is gone. out has
// text.size() bytes at least, and may be the text's own.
std::string_view fold_space(std::string_view text, std::span<char> out);
// Small letters, of ASCII, Latin, Greek and Cyrillic; in place.
void fold_case(std::span<char> text);

// A text (both with their white space folded) stands there between the borders of words: "12" neither in "123" nor in
// "12.50" nor in "-12".
bool stands(std::string_view value, std::string_view source);
// A number does so, however it is written: 1234.5 as 1234.50, 1,234.50, 1.234,5 or 1 234,5. With a unit: it follows.
bool number_stands(Decimal value, std::string_view unit, std::string_view source);

// The text outside of UTF-8's middle, at most so many bytes: for messages.
std::string_view clipped(std::string_view text, std::size_t bytes);

// What stands in quotation marks, of several scripts, one after the other; those within others are part of these.
class Quotations {
  public:
    explicit Quotations(std::string_view text) : text_(text) {}
    // False when there are no more.
    bool next(std::string_view& content);
    // The last one has no end.
    bool unfinished() const { return unfinished_; }

  private:
    std::string_view text_;
    std::size_t at_ = 0;
    bool unfinished_ = false;
};

}  // namespace slmd::agent
