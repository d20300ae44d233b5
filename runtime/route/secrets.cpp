#include "route/secrets.h"

#include <utility>

#include "base/utf8.h"
#include "route/letters.h"

namespace slmd::route {
namespace {

constexpr const char* kind_names[kinds] = {"EMAIL", "PHONE", "IBAN",  "CARD", "IP",  "MAC", "PLACE",
                                           "URL",   "KEY",   "BIRTH", "NAME", "OWN", "TEXT"};

using Finder = std::size_t (*)(std::string_view text, std::size_t at);
// The surer one first: an IBAN is a row of digits, too.
constexpr std::pair<Kind, Finder> finders[] = {{Kind::url, url_at},
                                               {Kind::email, email_at},
                                               {Kind::iban, iban_at},
                                               {Kind::mac, mac_at},
                                               {Kind::ip, ip_at},
                                               {Kind::coordinates, coordinates_at},
                                               {Kind::birth_date, birth_date_at},
                                               {Kind::card, card_at},
                                               {Kind::phone, phone_at},
                                               {Kind::key, key_at}};

// Where something can begin: not inside a word, nor inside a number. A sign belongs to what follows it.
bool can_begin(std::string_view t, std::size_t at) {
    if (is_blank(t[at]) || (is_utf8(t[at]) && (t[at] & 0xC0) == 0x80)) return false;
    if (at == 0) return true;
    const char before = t[at - 1];
    if (is_word(t[at]) && is_word(before)) return false;
    return !(is_digit(t[at]) && before == '.' && at > 1 && is_digit(t[at - 2]));
}

}  // namespace

const char* name_of(Kind kind) { return kind_names[static_cast<int>(kind)]; }

std::size_t bare_placeholder_at(std::string_view t, std::size_t at, Kind* kind, unsigned* number, bool whole) {
    for (int k = 0; k < kinds; k++) {
        const std::string_view name = kind_names[k];
        if (t.substr(at, name.size()) != name || at_or_0(t, at + name.size()) != '_') continue;
        const std::size_t from = at + name.size() + 1, end = run(t, from, is_digit, 6);
        if (end == from || t[from] == '0' || (whole && is_word(at_or_0(t, end)))) continue;
        if (kind != nullptr) *kind = static_cast<Kind>(k);
        if (number != nullptr) {
            *number = 0;
            for (std::size_t i = from; i < end; i++) *number = *number * 10 + static_cast<unsigned>(t[i] - '0');
        }
        return end;
    }
    return 0;
}

std::size_t placeholder_at(std::string_view t, std::size_t at, Kind* kind, unsigned* number) {
    if (at_or_0(t, at) != '[') return 0;
    const std::size_t end = bare_placeholder_at(t, at + 1, kind, number);
    return end != 0 && at_or_0(t, end) == ']' ? end + 1 : 0;
}

Result<std::size_t> find_secrets(std::string_view text, std::span<const std::string_view> terms, std::span<Finding> out,
                                 const OwnFinder& own) {
    if (!utf8_valid(text))
        return Error::make(Code::invalid_characters, "the text is not UTF-8: what is secret in it cannot be told");
    std::size_t n = 0;
    for (std::size_t at = 0; at < text.size();) {
        Kind kind{};
        std::size_t end = placeholder_at(text, at);
        const bool ours = end != 0;
        // Without its brackets it would be put back, too: where a word begins, or where the one before was taken out. An
        // own pattern may also cut off what follows.
        if (!ours && (at == 0 || (n > 0 && out[n - 1].end == at) || !is_word(text[at - 1])))
            end = bare_placeholder_at(text, at, nullptr, nullptr, own.at == nullptr);
        if (end != 0) kind = Kind::placeholder;
        if (!ours && can_begin(text, at)) {
            if (const std::size_t other = term_at(text, at, terms); other > end) end = other, kind = Kind::term;
            for (std::size_t i = 0; i < std::size(finders) && (end == 0 || kind >= Kind::term); i++)
                if (const std::size_t other = finders[i].second(text, at); other > end)
                    end = other, kind = finders[i].first;
        }
        if (!ours && own.at != nullptr && (text[at] & 0xC0) != 0x80)
            if (const std::size_t other = own.at(own.self, text, at); other > end) end = other, kind = Kind::own;
        if (end == 0) {
            at++;
            continue;
        }
        if (n == out.size())
            return Error::make(Code::context_full, "more than %zu secrets in one text: none of it may leave",
                               out.size());
        out[n++] = {kind, at, end};
        at = end;
    }
    return n;
}

}  // namespace slmd::route
