// Secrets made of letters.
#include <algorithm>
#include <cmath>

#include "route/letters.h"
#include "route/secrets.h"

namespace slmd::route {
namespace {

bool in_local_part(char c) {
    return is_alnum(c) || is_utf8(c) || std::string_view("!#$%&'*+/=?^_`{|}~.-").find(c) != std::string_view::npos;
}
bool in_label(char c) { return is_alnum(c) || is_utf8(c) || c == '-'; }

// "@", or how people hide it: "(at)", "[at]", " at ". Its length, or 0.
std::size_t hidden(std::string_view t, std::size_t at, char plain, std::string_view word, bool blanks) {
    if (at_or_0(t, at) == plain) return 1;
    const std::size_t begin = run(t, at, is_blank, 2);
    const char open = at_or_0(t, begin);
    if (open == '(' || open == '[' || open == '{') {
        const std::size_t from = run(t, begin + 1, is_blank, 1);
        if (!begins(t, from, word)) return 0;
        const std::size_t close = run(t, from + word.size(), is_blank, 1);
        const char c = at_or_0(t, close);
        if (c != (open == '(' ? ')' : open == '[' ? ']' : '}')) return 0;
        return run(t, close + 1, is_blank, 2) - at;
    }
    if (!blanks || begin == at || !begins(t, begin, word)) return 0;
    const std::size_t end = begin + word.size();
    return is_blank(at_or_0(t, end)) ? end + 1 - at : 0;
}

bool in_token(char c) { return is_alnum(c) || c == '_' || c == '-'; }
bool in_random(char c) { return is_alnum(c) || c == '_'; }
bool in_base64(char c) { return is_alnum(c) || c == '+' || c == '/' || c == '=' || c == '_' || c == '-'; }

// What is looked at to judge a run, so that a text of nothing but beginnings takes no square of its length. What is
// found goes on to its own end.
constexpr std::size_t most_judged = 2048;

// Of what follows a URL's scheme: a user, or a parameter that is named like a secret.
bool has_secret(std::string_view rest) {
    const std::string_view host = rest.substr(0, rest.find_first_of("/?#"));
    if (host.find('@') != std::string_view::npos) return true;
    const std::size_t query = rest.find_first_of("?#");
    if (query == std::string_view::npos) return false;
    for (const std::string_view name :
         {"token", "key", "secret", "password", "passwd", "pwd", "sig", "signature", "auth", "code", "session"})
        for (std::size_t i = query + 1; i + name.size() < rest.size(); i++)
            if (rest[i + name.size()] == '=' && begins(rest, i, name) && !is_alnum(rest[i - 1])) return true;
    return false;
}

double entropy(std::string_view s) {
    int counts[256] = {};
    for (const char c : s) counts[static_cast<unsigned char>(c)]++;
    double bits = 0;
    for (const int n : counts)
        if (n > 0) bits -= n * std::log2(n / static_cast<double>(s.size()));
    return bits / static_cast<double>(s.size());
}

// A run that no words make: hexadecimal, or letters and digits without an order.
bool random(std::string_view s) {
    constexpr std::size_t least = 20;
    constexpr double least_bits = 3.4;  // a character; English words have less, tokens of 20 characters 3.5 and more
    if (s.size() < least) return false;
    const auto count = [&](auto&& f) { return static_cast<std::size_t>(std::count_if(s.begin(), s.end(), f)); };
    const std::size_t digits = count(is_digit), uppers = count(is_upper), lowers = count(is_lower);
    if (count(is_hex) == s.size() && s.size() >= 32 && digits > 0) return true;  // digests
    if (digits == 0) return uppers > 3 && lowers > 3 && entropy(s) >= 4;
    return digits >= 2 && uppers + lowers >= 4 && entropy(s) >= least_bits;
}

// 8-4-4-4-12 hexadecimal digits; its end, or 0.
std::size_t uuid_at(std::string_view t, std::size_t at) {
    for (const std::size_t n : {8u, 4u, 4u, 4u, 12u}) {
        const std::size_t end = run(t, at, is_hex, n + 1);
        if (end - at != n || (n != 12 && at_or_0(t, end) != '-')) return 0;
        at = end + 1;
    }
    return at - 1;
}

struct Prefix {
    std::string_view text;  // as its issuer writes it
    std::size_t least;      // characters behind it
};
constexpr Prefix prefixes[] = {
    {"sk-", 16},      {"sk_live_", 10}, {"sk_test_", 10},    {"pk_live_", 10}, {"pk_test_", 10},
    {"rk_live_", 10}, {"whsec_", 10},   {"ghp_", 20},        {"gho_", 20},     {"ghu_", 20},
    {"ghs_", 20},     {"ghr_", 20},     {"github_pat_", 20}, {"glpat-", 16},   {"xoxa-", 10},
    {"xoxb-", 10},    {"xoxp-", 10},    {"xoxs-", 10},       {"xoxr-", 10},    {"AKIA", 16},
    {"ASIA", 16},     {"AIza", 30},     {"ya29.", 20},       {"hf_", 20},      {"npm_", 20},
    {"dop_v1_", 20},  {"SG.", 20},      {"shpat_", 20},      {"pypi-", 20},    {"AGE-SECRET-KEY-", 20}};

constexpr std::string_view names[] = {"password", "passwort",   "passwd",   "passphrase", "pwd",
                                      "secret",   "token",      "api key",  "api_key",    "api-key",
                                      "apikey",   "access key", "kennwort", "pin code",   "pin"};

// "password: hunter2", "the api key is x": what is named; its end.
std::size_t named_at(std::string_view t, std::size_t at) {
    // Looked for from the value backwards: the name, then ":", "=" or "is".
    if (at == 0 || is_blank(t[at])) return 0;
    std::size_t i = at;
    if (i > 0 && (t[i - 1] == '"' || t[i - 1] == '\'')) i--;
    while (i > 0 && is_blank(t[i - 1]) && at - i < 4) i--;
    if (i > 0 && (t[i - 1] == ':' || t[i - 1] == '=')) {
        i--;
    } else {
        bool said = false;
        for (const std::string_view is : {" is", " ist", " lautet"})
            if (i >= is.size() && begins(t, i - is.size(), is) && i != at) i -= is.size(), said = true;
        if (!said) return 0;
    }
    while (i > 0 && (is_blank(t[i - 1]) || t[i - 1] == '"' || t[i - 1] == '\'')) i--;
    for (const std::string_view name : names) {
        if (i < name.size() || !begins(t, i - name.size(), name)) continue;
        if (i > name.size() && is_alnum(t[i - name.size() - 1])) continue;
        std::size_t end =
            run(t, at, [](char c) { return !is_blank(c) && c != '"' && c != '\'' && c != ',' && c != ';'; });
        while (end > at && (t[end - 1] == '.' || t[end - 1] == ')')) end--;
        return end - at >= 4 ? end : 0;
    }
    return 0;
}

}  // namespace

std::size_t email_at(std::string_view t, std::size_t at) {
    const std::size_t local = run(t, at, in_local_part, 65);
    if (local == at || local - at > 64) return 0;
    for (const bool blanks : {false, true}) {
        const std::size_t sign = hidden(t, local, '@', "at", blanks);
        if (sign == 0) continue;
        std::size_t i = local + sign, labels = 0, end = 0, last = 0;
        bool dotted = false;  // with words: "at" alone is one of any sentence
        for (;;) {
            const std::size_t stop = run(t, i, in_label, 64);
            if (stop == i || stop - i > 63) break;
            last = i, end = stop, labels++;
            const std::size_t dot = hidden(t, stop, '.', "dot", true);
            if (dot == 0) break;
            dotted |= dot > 1;
            i = stop + dot;
        }
        while (end > 0 && t[end - 1] == '-') end--;
        const bool top =
            labels >= 2 && end - last >= 2 &&
            std::all_of(t.begin() + static_cast<std::ptrdiff_t>(last), t.begin() + static_cast<std::ptrdiff_t>(end),
                        [](char c) { return is_letter(c) || is_utf8(c) || c == '-' || is_digit(c); }) &&
            !is_digit(t[last]);
        if (top && (!blanks || dotted || sign > 1)) return end;
    }
    return 0;
}

std::size_t url_at(std::string_view t, std::size_t at) {
    const std::size_t scheme = run(
        t, at, [](char c) { return is_alnum(c) || c == '+' || c == '-' || c == '.'; }, 20);
    if (scheme == at || !is_letter(t[at]) || !begins(t, scheme, "://")) return 0;
    const auto in_url = [](char c) { return !is_blank(c) && c != '"' && c != '<' && c != '>' && c != '`'; };
    const std::size_t from = scheme + 3;
    const std::string_view rest = t.substr(from, run(t, from, in_url, most_judged) - from);
    if (!has_secret(rest)) return 0;
    std::size_t end = run(t, from, in_url);
    while (end > from && std::string_view(".,;:!?)'").find(t[end - 1]) != std::string_view::npos) end--;
    return end;
}

std::size_t key_at(std::string_view t, std::size_t at) {
    if (begins(t, at, "-----begin ")) {
        const std::string_view head = t.substr(at + 11, 64);
        if (head.substr(0, head.find("-----")).find("PRIVATE KEY") == std::string_view::npos) return 0;
        const std::size_t foot = t.find("-----END ", at);
        const std::size_t end = foot == std::string_view::npos ? foot : t.find("-----", foot + 9);
        return end == std::string_view::npos ? t.size() : end + 5;  // cut off: all that follows is of it
    }
    const std::string_view rest = t.substr(at);
    if (rest.starts_with("eyJ")) {  // JSON Web Token: three parts, or an encrypted one of five
        const auto in_jwt = [](char c) { return in_token(c) || c == '.'; };
        const std::string_view head = t.substr(at, run(t, at, in_jwt, most_judged) - at);
        if (std::count(head.begin(), head.end(), '.') >= 2 && head.size() >= 30) {
            std::size_t end = run(t, at, in_jwt);
            while (t[end - 1] == '.') end--;
            return end;
        }
    }
    for (const Prefix& p : prefixes)
        if (rest.starts_with(p.text)) {
            const std::size_t from = at + p.text.size(),
                              end = run(t, from, [](char c) { return in_token(c) || c == '.'; });
            if (end - from >= p.least) return t[end - 1] == '.' ? end - 1 : end;
        }
    if (const std::size_t end = named_at(t, at); end != 0) return end;
    if (const std::size_t end = uuid_at(t, at); end != 0) return end;
    const std::size_t end = run(t, at, in_random);
    return random(t.substr(at, end - at)) ? run(t, end, in_base64) : 0;
}

std::size_t term_at(std::string_view t, std::size_t at, std::span<const std::string_view> terms) {
    std::size_t longest = 0;
    for (const std::string_view term : terms) {
        std::size_t i = at;
        bool same = !term.empty();
        for (std::size_t k = 0; k < term.size() && same; k++) {
            if (is_blank(term[k])) {
                const std::size_t end = run(t, i, is_blank);
                same = end != i;
                i = end;
            } else {
                same = i < t.size() && lower(t[i]) == lower(term[k]);
                i++;
            }
        }
        if (same && !is_word(at_or_0(t, i))) longest = std::max(longest, i);
    }
    return longest;
}

}  // namespace slmd::route
