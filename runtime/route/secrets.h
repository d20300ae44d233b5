// What of a text must not leave the board: found by its shape, its check digits, or the company it keeps.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::route {

enum class Kind : unsigned char {
    email,
    phone,        // E.164, or national: with a leading 0, or three, three and four digits
    iban,         // ISO 13616: its country's length, 97
    card,         // ISO/IEC 7812-1: 13 to 19 digits, Luhn
    ip,           // both versions
    mac,          // colons, hyphens, or Cisco's points
    coordinates,  // a pair of decimals or of degrees, minutes and seconds; geo:
    url,          // with a user, or with a parameter that is named like a secret
    key,          // known prefixes, private keys, what is named a password, and what looks random
    birth_date,   // a date behind a word for birth
    term,         // of a configured list
    own,          // of a pattern that an agent has
    placeholder   // what looks like one of ours, and would be taken for it
};
constexpr int kinds = 13;
const char* name_of(Kind kind);  // "EMAIL"

// What else is secret, and ends where: an agent's own patterns. null: nothing.
struct OwnFinder {
    std::size_t (*at)(const void* self, std::string_view text, std::size_t at) = nullptr;
    const void* self = nullptr;
};

struct Finding {
    Kind kind;
    std::size_t begin, end;  // bytes of the text
};

// All of them, in order, none inside another. terms: names and words, whatever their case; a blank in one stands for
// any white space. Errors: invalid_characters (not UTF-8); context_full (more than `out` holds): nothing may leave
// then.
Result<std::size_t> find_secrets(std::string_view text, std::span<const std::string_view> terms,
                                 std::span<Finding> out, const OwnFinder& own = {});

// One at a place of the text, whose end they give; 0: there is none. What stands before the place is not looked at but
// for birth_date. Sorted by what they need: numbers.cpp and words.cpp.
std::size_t iban_at(std::string_view text, std::size_t at);
std::size_t card_at(std::string_view text, std::size_t at);
std::size_t phone_at(std::string_view text, std::size_t at);
std::size_t ip_at(std::string_view text, std::size_t at);
std::size_t mac_at(std::string_view text, std::size_t at);
std::size_t coordinates_at(std::string_view text, std::size_t at);
std::size_t birth_date_at(std::string_view text, std::size_t at);
std::size_t email_at(std::string_view text, std::size_t at);
std::size_t url_at(std::string_view text, std::size_t at);
std::size_t key_at(std::string_view text, std::size_t at);
std::size_t term_at(std::string_view text, std::size_t at, std::span<const std::string_view> terms);
std::size_t placeholder_at(std::string_view text, std::size_t at, Kind* kind = nullptr, unsigned* number = nullptr);
// The same without its brackets. whole: only where the word ends with it.
std::size_t bare_placeholder_at(std::string_view text, std::size_t at, Kind* kind, unsigned* number, bool whole = true);

}  // namespace slmd::route
