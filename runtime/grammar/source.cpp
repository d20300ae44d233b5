#include "grammar/source.h"

#include <algorithm>

namespace slmd::grammar {
namespace {

constexpr std::string_view plain = "\"\\\b\f\n\r\t";  // what Source::escapes stand for
static_assert(plain.size() == Source::escapes.size());

// Digits are 1, letters of alphabets 2: those of ASCII and what UTF-8 has in two bytes, Latin to Arabic.
int word_class(std::string_view text, std::size_t at) {
    const auto c = static_cast<unsigned char>(text[at]);
    if (c >= '0' && c <= '9') return 1;
    const auto lower = static_cast<unsigned char>(c | 32);
    return (lower >= 'a' && lower <= 'z') || (c >= 0xC3 && c < 0xE0) ? 2 : 0;
}

// Between two digits, or two letters.
bool splits_word(std::string_view text, std::size_t at) {
    if (at == 0 || at == text.size()) return false;
    std::size_t before = at - 1;
    while (before > 0 && (text[before] & 0xC0) == 0x80) before--;
    const int c = word_class(text, before);
    return c != 0 && c == word_class(text, at);
}

}  // namespace

char Source::escaped(char byte) {
    const std::size_t i = plain.find(byte);
    return i == std::string_view::npos ? '\0' : escapes[i];
}

char Source::unescaped(char written) {
    const std::size_t i = escapes.find(written);
    return i == std::string_view::npos ? '\0' : plain[i];
}

void Source::lay_out(Arena& arena) { places_ = arena.scratch<std::uint16_t>(max_bytes); }

Result<void> Source::open(std::string_view text, std::span<const Automaton> searches, Heap& heap) {
    if (text.size() > max_bytes)
        return Error::make(Code::text_too_long, "the text that values are to stand in has %zu bytes; at most %zu",
                           text.size(), max_bytes);
    text_ = text;
    searches_ = searches;
    for (std::size_t i = 0; i < text.size(); i++) places_[i] = static_cast<std::uint16_t>(i);
    std::sort(places_, places_ + text.size(), [&](std::uint16_t a, std::uint16_t b) {
        const int order = text.substr(a, max_part).compare(text.substr(b, max_part));
        return order != 0 ? order < 0 : a < b;
    });
    matches_ = heap.take<std::uint8_t>(searches.size() * text.size());
    if (matches_ == nullptr && !searches.empty())
        return Error::make(Code::memory_full, "schema: no memory is left for %zu searches in a text of %zu bytes",
                           searches.size(), text.size());
    for (std::size_t s = 0; s < searches.size(); s++)
        for (std::size_t at = 0; at < text.size(); at++) {
            std::uint8_t& longest = matches_[s * text.size() + at];
            longest = 0;
            if (splits_word(text, at)) continue;
            run(searches[s], 0, at, at, [&](std::size_t end, std::uint32_t) {
                longest = static_cast<std::uint8_t>(end - at);
                return true;
            });
        }
    return {};
}

// Follows the text from `at` on and says where it is a match and after how many bytes as they are written, until
// matched says that this is enough. Nothing longer than max_match is one, nor what ends within a word; it began at
// `begin`.
template <class Matched>
void Source::run(const Automaton& search, std::uint16_t state, std::size_t begin, std::size_t at,
                 Matched&& matched) const {
    std::uint32_t bytes = 0;
    const std::size_t end = std::min(text_.size(), begin + max_match);
    for (; at < end; at++) {
        const char e = escaped(text_[at]);
        if (e != '\0') {
            state = search.step(state, '\\'), bytes++;
            if (state == Automaton::dead) return;
        }
        state = search.step(state, static_cast<unsigned char>(e != '\0' ? e : text_[at])), bytes++;
        if (state == Automaton::dead) return;
        if (search.label[state] != 0 && !splits_word(text_, at + 1) && !matched(at + 1, bytes)) return;
    }
}

bool Source::can_match(const Part& part, int search) const {
    const auto s = static_cast<std::size_t>(search);
    if (part.length == 0 && searches_[s].label[0] != 0) return true;
    for (std::uint32_t i = part.first; i < part.last; i++)
        if (const std::uint8_t n = matches_[s * text_.size() + places_[i]]; n > 0 && n >= part.length) return true;
    return false;
}

bool Source::is_match(const Part& part, int search) const {
    if (part.length == 0) return true;
    for (std::uint32_t i = part.first; i < part.last; i++)
        if (matches_[static_cast<std::size_t>(search) * text_.size() + places_[i]] >= part.length &&
            !splits_word(text_, places_[i] + part.length))
            return true;
    return false;
}

std::uint32_t Source::bytes_to_match(const Part& part, int search, std::uint16_t state, bool backslash) const {
    // Of what can match, the first few places: whoever takes the way of the nearest finds it among them again.
    constexpr int enough = 16;
    const auto s = static_cast<std::size_t>(search);
    const Automaton& a = searches_[s];
    if (a.label[state] != 0 && is_match(part, search)) return 0;
    std::uint32_t best = never;
    int found = 0;
    for (std::uint32_t i = part.first; i < part.last && found < enough; i++) {
        const std::size_t begin = places_[i];
        std::size_t at = begin + part.length;
        if (matches_[s * text_.size() + begin] <= part.length) continue;
        std::uint16_t from = state;
        if (backslash) {
            const char e = escaped(text_[at++]);
            if (e == '\0') continue;
            from = a.step(state, static_cast<unsigned char>(e));
            if (from == Automaton::dead) continue;
            if (a.label[from] != 0 && !splits_word(text_, at)) return 1;
        }
        run(a, from, begin, at, [&](std::size_t, std::uint32_t bytes) {
            best = std::min(best, bytes + (backslash ? 1 : 0));
            found++;
            return false;
        });
    }
    return best;
}

bool Source::step(Part& part, char byte) const {
    if (part.length == max_part) return false;
    const int wanted = static_cast<unsigned char>(byte);
    // Places of one part stand in the order of the byte that follows, an end first.
    const auto edge = [&](int value) {
        std::uint32_t low = 0, high = part.last - part.first;
        while (low < high) {
            const std::uint32_t middle = (low + high) / 2;
            if (follows(part, middle) < value)
                low = middle + 1;
            else
                high = middle;
        }
        return part.first + low;
    };
    const std::uint32_t first = edge(wanted), last = edge(wanted + 1);
    if (first == last) return false;
    part = {first, last, part.length + 1};
    return true;
}

}  // namespace slmd::grammar
