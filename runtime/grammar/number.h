// Numbers of a schema: exact decimals, and whether what has been written can still become one that is allowed.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::grammar {

// In units of 10^-18.
__extension__ using Decimal = __int128;
constexpr Decimal decimal_one = 1'000'000'000'000'000'000;
constexpr Decimal decimal_max = decimal_one * decimal_one - 1;  // 18 digits before the point and 18 behind it

// Of a JSON number. One above decimal_max is cut to it, below likewise. Errors: not_supported (digits below 10^-18).
Result<Decimal> to_decimal(std::string_view text);
// The number without an exponent, superfluous digits and point, as the machine takes it; 0 bytes when it does not fit.
std::size_t plain_number(std::string_view text, std::span<char> out);
// Equal for equal numbers, however they are written: the digits that count and the power of ten of the last one. At
// most text.size() + 9 bytes; 0 when they do not fit.
std::size_t normal_number(std::string_view text, std::span<char> out);

struct NumberRule {
    // Numbers that must obey something have 18 digits before the point at most, and behind it as many as a double keeps
    // of all of them, 15, or as `step` has: so every reader reads what was meant.
    static constexpr int max_excluded = 8, max_digits = 18, max_free_digits = 32, double_digits = 15;

    static constexpr std::uint32_t longest = 1 + max_digits + 1 + max_digits;  // bytes, of one that is not free

    bool integer = false;
    bool free = true;     // nothing but `integer`: up to 32 digits, and an exponent
    int step_digits = 0;  // behind the point, that multiples of step need
    Decimal low = -decimal_max, high = decimal_max;
    Decimal step = 0;                      // 0: any; else a multiple of it
    Decimal not_multiple[max_excluded]{};  // of any of those
    Decimal excluded[max_excluded]{};
    int not_multiples = 0, excludes = 0;
    Automaton words{};  // the values themselves, when they are listed
    bool listed = false;
    const std::uint8_t* completions = nullptr;  // of words, as StringRule::completions
    std::uint32_t cost = 0;                     // bytes of the shortest one

    bool allows(Decimal value) const;
    // Digits that may stand behind the point after so many before it.
    int fractions(int wholes) const;
    // The allowed value in [from, to], of a number with so many digits before the point, that is nearest to zero; false
    // when there is none.
    bool nearest(Decimal from, Decimal to, int wholes, Decimal& value) const;
};

// A number as far as it is written. Zero is its beginning.
struct NumberState {
    std::uint64_t whole, fraction;  // digits so far, of those that count (not `free`)
    std::uint8_t wholes, fractions, exponents;
    enum Phase : std::uint8_t { start, minus, zero, digits, point, decimals, exponent, sign, power } phase;
    bool negative;
    std::uint16_t word;  // state of `words`
};

// One character more; false when it cannot become an allowed number.
bool step(const NumberRule& rule, NumberState& state, char c);
// It is an allowed number as it stands.
bool complete(const NumberRule& rule, const NumberState& state);
// Fewest characters that complete it.
std::uint32_t remaining(const NumberRule& rule, const NumberState& state);

}  // namespace slmd::grammar
