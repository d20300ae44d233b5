// The checks of an agent, run outside of the model: on its answer, and on what the answer was taken from.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"
#include "grammar/number.h"

namespace slmd::agent {

enum class CheckKind : unsigned char {
    regex,    // matches the pattern from end to end
    luhn,     // check digit of ISO/IEC 7812-1: card and other numbers
    iban,     // country, length and check digits of ISO 13616
    ean,      // check digit of GTIN-8, -12, -13, -14
    range,    // a number within bounds, or one that has its unit
    date,     // a day of the calendar
    order,    // dates or numbers that do not fall
    source,   // stands in the source
    quotes,   // what it has in quotation marks stands in the source
    sum,      // items add up to a total
    product,  // factors of each item give its amount
    lookup,   // is one of a list
    agree,    // a second prompt gives the same
};

// Texts lie where the agent does.
struct Check {
    CheckKind kind{};
    std::string_view name;
    std::string_view at;  // JSON Pointer to what is judged; of a sum its total, of a product the amount
    std::string_view unit, format, prompt;
    std::span<const std::string_view> of{};     // pointers of order's fields, of a product's factors, of a sum's items
    std::span<const std::string_view> plus{};   // pointers of what else belongs to a sum
    std::span<const std::string_view> table{};  // of lookup: sorted, white space and (ignore_case) case folded
    grammar::Automaton pattern{};
    grammar::Decimal low = -grammar::decimal_max, high = grammar::decimal_max, tolerance = 0;
    std::int64_t after = INT64_MIN, before = INT64_MAX;  // a date lies between them, in seconds since 1970
    char decimal = '.';                                  // mark in numbers that are texts, or any_mark
    bool ignore_case = false;
};
// It speaks of values within a JSON answer.
inline bool needs_json(const Check& check) { return !check.at.empty() || !check.of.empty(); }

enum class Verdict : unsigned char { pass, fail, absent };

inline const char* name_of(Verdict v) {
    return v == Verdict::pass ? "pass" : v == Verdict::fail ? "fail" : "absent";
}

struct Finding {
    const Check* check;
    Verdict verdict;
    char why[96];  // of what failed or is absent; UTF-8 without control characters, always terminated
};

constexpr std::size_t max_answer_values = 4096;  // in a JSON answer, arrays and objects included

// Bytes that examine() works in, of an answer and a source of so many bytes.
std::size_t examine_memory(std::size_t answer, std::size_t source);

// Runs the checks; findings[i] is of checks[i]. Returns how many failed. An answer that is no JSON where it should be
// fails all of them; values beyond what is looked for fail, too (8 MiB of source are looked through in all). Of agree
// it only says "absent": see compare(). A value that is null is absent. Errors: memory_full and invalid_index when the
// caller gives too little; never because of what answer and source have in them.
Result<int> examine(std::span<const Check> checks, std::string_view answer, bool json, std::string_view source,
                    std::span<std::byte> memory, std::span<Finding> findings);

// Of a check agree: whether the answers to both prompts have the same there, numbers by their exact value. Works in
// examine_memory(answer, 0) + examine_memory(other, 0) bytes. Errors: as examine().
Result<Finding> compare(const Check& check, std::string_view answer, std::string_view other, bool json,
                        std::span<std::byte> memory);

}  // namespace slmd::agent
