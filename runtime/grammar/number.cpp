#include "grammar/number.h"

#include <algorithm>
#include <charconv>
#include <cstdlib>
#include <cstring>

namespace slmd::grammar {
namespace {

struct Parts {
    bool negative = false;
    std::string_view whole, fraction;
    long exponent = 0;
};

Parts parts_of(std::string_view text) {
    Parts p;
    if (text.starts_with('-')) p.negative = true, text.remove_prefix(1);
    const std::size_t e = text.find_first_of("eE");
    if (e != std::string_view::npos) {
        std::string_view digits = text.substr(e + 1);
        const bool negative = digits.starts_with('-');
        if (negative || digits.starts_with('+')) digits.remove_prefix(1);
        for (const char c : digits) p.exponent = std::min(p.exponent * 10 + (c - '0'), 100000L);
        if (negative) p.exponent = -p.exponent;
        text = text.substr(0, e);
    }
    const std::size_t point = text.find('.');
    p.whole = text.substr(0, point);
    if (point != std::string_view::npos) p.fraction = text.substr(point + 1);
    return p;
}

// Digit of the weight 10^power.
int digit(const Parts& p, long power) {
    power -= p.exponent;
    const long i = static_cast<long>(p.whole.size()) - 1 - power;
    if (i < 0) return 0;
    if (i < static_cast<long>(p.whole.size())) return p.whole[static_cast<std::size_t>(i)] - '0';
    const auto f = static_cast<std::size_t>(i) - p.whole.size();
    return f < p.fraction.size() ? p.fraction[f] - '0' : 0;
}

long highest(const Parts& p) { return static_cast<long>(p.whole.size()) - 1 + p.exponent; }
long lowest(const Parts& p) { return -static_cast<long>(p.fraction.size()) + p.exponent; }

constexpr std::uint64_t power10(int n) {
    std::uint64_t v = 1;
    while (n-- > 0) v *= 10;
    return v;
}

Decimal floor_to(Decimal value, Decimal step) {
    const Decimal rest = value % step;
    return value - rest - (rest < 0 ? step : 0);
}

}  // namespace

Result<Decimal> to_decimal(std::string_view text) {
    const Parts p = parts_of(text);
    Decimal value = 0;
    for (long power = highest(p); power >= std::max(18L, lowest(p)); power--)
        if (digit(p, power) != 0) return p.negative ? -decimal_max : decimal_max;
    for (long power = std::min(highest(p), 17L); power >= lowest(p); power--) {
        const int d = digit(p, power);
        if (power < -18) {
            if (d != 0)
                return Error::make(Code::not_supported, "%.*s has more than 18 digits behind the point",
                                   static_cast<int>(std::min<std::size_t>(text.size(), 40)), text.data());
            continue;
        }
        Decimal weight = 1;
        for (long i = -18; i < power; i++) weight *= 10;
        value += weight * d;
    }
    return p.negative ? -value : value;
}

std::size_t plain_number(std::string_view text, std::span<char> out) {
    const Parts p = parts_of(text);
    long high = std::max(highest(p), 0L), low = std::min(lowest(p), 0L);
    while (high > 0 && digit(p, high) == 0) high--;
    while (low < 0 && digit(p, low) == 0) low++;
    if (static_cast<std::size_t>(high - low) + 3 > out.size()) return 0;
    std::size_t n = 0;
    bool zero = true;
    for (long power = high; power >= low; power--) zero &= digit(p, power) == 0;
    if (p.negative && !zero) out[n++] = '-';
    for (long power = high; power >= low; power--) {
        if (power == -1) out[n++] = '.';
        out[n++] = static_cast<char>('0' + digit(p, power));
    }
    return n;
}

std::size_t normal_number(std::string_view text, std::span<char> out) {
    const Parts p = parts_of(text);
    long high = highest(p), low = lowest(p);
    while (high > low && digit(p, high) == 0) high--;
    while (low < high && digit(p, low) == 0) low++;
    if (digit(p, high) == 0) {
        if (!out.empty()) out[0] = '0';
        return out.empty() ? 0 : 1;
    }
    if (static_cast<std::size_t>(high - low) + 10 > out.size()) return 0;
    std::size_t n = 0;
    if (p.negative) out[n++] = '-';
    for (long power = high; power >= low; power--) out[n++] = static_cast<char>('0' + digit(p, power));
    out[n++] = 'e';
    return static_cast<std::size_t>(std::to_chars(out.data() + n, out.data() + out.size(), low).ptr - out.data());
}

bool NumberRule::allows(Decimal value) const {
    if (value < low || value > high || (step != 0 && value % step != 0)) return false;
    for (int i = 0; i < not_multiples; i++)
        if (value % not_multiple[i] == 0) return false;
    for (int i = 0; i < excludes; i++)
        if (value == excluded[i]) return false;
    return true;
}

int NumberRule::fractions(int wholes) const {
    return integer ? 0 : std::max(double_digits - std::min(wholes, double_digits), step_digits);
}

bool NumberRule::nearest(Decimal from, Decimal to, int wholes, Decimal& value) const {
    from = std::max(from, low), to = std::min(to, high);
    if (from > to) return false;
    const Decimal grid = step == 0 ? static_cast<Decimal>(power10(18 - fractions(wholes))) : step;
    // Upwards or downwards from the point that is nearest to zero. Of two neighbours on the grid at most one is a
    // multiple of what the grid is no multiple of, so a few tries decide.
    const bool up = to >= 0;
    const Decimal near = up ? std::max<Decimal>(from, 0) : to;
    Decimal v = up ? -floor_to(-near, grid) : floor_to(near, grid);
    for (int tries = 0; tries < 64; tries++, v += up ? grid : -grid) {
        if (v < from || v > to) break;
        if (allows(v)) {
            value = v;
            return true;
        }
    }
    if (up && from < 0) return nearest(from, -1, wholes, value);
    return false;
}

namespace {

// What numbers can follow: with j more digits before the point, whole * 10^j .. (whole + 1) * 10^j - ulp.
struct Range {
    Decimal from, to;
};
Range range(const NumberRule& rule, const NumberState& s, int more) {
    Decimal from = static_cast<Decimal>(s.whole) * decimal_one, to;
    if (s.phase == NumberState::point || s.phase == NumberState::decimals) {
        const auto unit = static_cast<Decimal>(power10(18 - s.fractions));
        from += static_cast<Decimal>(s.fraction) * unit;
        to = from + unit - 1;
    } else {
        const auto scale = static_cast<Decimal>(power10(more));
        from *= scale;
        to = from + (rule.integer ? (scale - 1) * decimal_one : scale * decimal_one - 1);
    }
    if (s.negative) return {-to, -from};
    return {from, to};
}

bool is_whole(const NumberState& s) { return s.phase == NumberState::zero || s.phase == NumberState::digits; }

// Characters until the value is written, from a state whose digits are the value's first ones.
std::uint32_t characters(const NumberState& s, Decimal value, int more) {
    if (value < 0) value = -value;
    auto rest = static_cast<std::uint64_t>(value % decimal_one);
    int fractions = rest == 0 ? 0 : 18;
    while (rest != 0 && rest % 10 == 0) rest /= 10, fractions--;
    if (s.phase == NumberState::point || s.phase == NumberState::decimals)
        return static_cast<std::uint32_t>(std::max(fractions, 1) > s.fractions ? std::max(fractions, 1) - s.fractions
                                                                               : 0);
    return static_cast<std::uint32_t>(more + (fractions > 0 ? 1 + fractions : 0));
}

bool viable(const NumberRule& rule, const NumberState& s, std::uint32_t* cost) {
    std::uint32_t best = UINT32_MAX;
    const bool can_grow = s.phase == NumberState::digits;
    for (int more = 0; more <= (can_grow ? NumberRule::max_digits - s.wholes : 0); more++) {
        const Range r = range(rule, s, more);
        const int wholes = s.wholes + more;
        Decimal value;
        if (!rule.nearest(r.from, r.to, wholes, value)) continue;
        // Without one, "-0" would be written: the machine never writes it.
        if (s.negative && value == 0 && !rule.nearest(r.from, -1, wholes, value)) continue;
        if (cost == nullptr) return true;
        best = std::min(best, characters(s, value, more));
    }
    if (cost != nullptr) *cost = best;
    return best != UINT32_MAX;
}

}  // namespace

bool step(const NumberRule& rule, NumberState& s, char c) {
    using enum NumberState::Phase;
    if (rule.listed) {
        if (rule.words.states == 0) return false;
        const std::uint16_t next = rule.words.step(s.word, static_cast<unsigned char>(c));
        if (next == Automaton::dead) return false;
        s.word = next;
        s.phase = digits;
        return true;
    }
    const int most = rule.free ? NumberRule::max_free_digits : NumberRule::max_digits;
    const bool is_digit = c >= '0' && c <= '9';
    const auto d = static_cast<std::uint64_t>(c - '0');
    switch (s.phase) {
        case start:
        case minus:
            if (c == '-' && s.phase == start) {
                s.phase = minus, s.negative = true;
                if (rule.free) return true;
                for (int wholes = 1; wholes <= NumberRule::max_digits; wholes++)
                    if (Decimal value;
                        rule.nearest(-static_cast<Decimal>(power10(wholes)) * decimal_one + 1, -1, wholes, value))
                        return true;
                return false;
            }
            if (!is_digit) return false;
            s.phase = c == '0' ? zero : digits;
            s.whole = d, s.wholes = 1;
            // "-0" is no integer of ours
            if (c == '0' && s.negative && rule.integer) return false;
            break;
        case digits:
            if (is_digit) {
                if (s.wholes >= most) return false;
                if (!rule.free) s.whole = s.whole * 10 + d;
                s.wholes++;
                break;
            }
            [[fallthrough]];
        case zero:
            if (rule.integer) return false;
            if (c == '.' && (rule.free || rule.fractions(s.wholes) > 0))
                s.phase = point;
            else if (rule.free && (c == 'e' || c == 'E'))
                s.phase = exponent;
            else
                return false;
            break;
        case point:
        case decimals:
            if (is_digit) {
                if (s.fractions >= (rule.free ? most : rule.fractions(s.wholes))) return false;
                if (!rule.free) s.fraction = s.fraction * 10 + d;
                s.fractions++;
                s.phase = decimals;
                break;
            }
            if (s.phase == point || !rule.free || (c != 'e' && c != 'E')) return false;
            s.phase = exponent;
            break;
        case exponent:
            if (c == '+' || c == '-') {
                s.phase = sign;
                break;
            }
            [[fallthrough]];
        case sign:
        case power:
            if (!is_digit || s.exponents >= 3) return false;
            s.exponents++;
            s.phase = power;
            break;
    }
    return rule.free || viable(rule, s, nullptr);
}

bool complete(const NumberRule& rule, const NumberState& s) {
    using enum NumberState::Phase;
    if (rule.listed) return s.phase == digits && rule.words.label[s.word] != 0;
    if (rule.free)
        return (s.phase == zero && !s.negative) || s.phase == digits || s.phase == decimals || s.phase == power;
    if (!is_whole(s) && s.phase != decimals) return false;
    Decimal value = static_cast<Decimal>(s.whole) * decimal_one +
                    static_cast<Decimal>(s.fraction) * static_cast<Decimal>(power10(18 - s.fractions));
    if (s.negative && value == 0) return false;
    return rule.allows(s.negative ? -value : value);
}

std::uint32_t remaining(const NumberRule& rule, const NumberState& s) {
    using enum NumberState::Phase;
    if (complete(rule, s)) return 0;
    if (rule.listed) return rule.words.to_end[s.word];
    if (rule.free) return s.phase == zero ? 2 : 1;
    if (s.phase != start && s.phase != minus) {
        std::uint32_t cost = UINT32_MAX;
        viable(rule, s, &cost);
        return cost;
    }
    std::uint32_t best = UINT32_MAX;
    for (const char c : std::string_view("-0123456789")) {
        NumberState next = s;
        if (!step(rule, next, c)) continue;
        const std::uint32_t rest = remaining(rule, next);
        if (rest != UINT32_MAX) best = std::min(best, rest + 1);
    }
    return best;
}

}  // namespace slmd::grammar
