#include "grammar/source.h"

#include <algorithm>

namespace slmd::grammar {

void Source::lay_out(Arena& arena) { places_ = arena.scratch<std::uint16_t>(max_bytes); }

Result<void> Source::open(std::string_view text) {
    if (text.size() > max_bytes)
        return Error::make(Code::text_too_long, "the text that values are to stand in has %zu bytes; at most %zu",
                           text.size(), max_bytes);
    text_ = text;
    for (std::size_t i = 0; i < text.size(); i++) places_[i] = static_cast<std::uint16_t>(i);
    std::sort(places_, places_ + text.size(), [&](std::uint16_t a, std::uint16_t b) {
        const int order = text.substr(a, max_part).compare(text.substr(b, max_part));
        return order != 0 ? order < 0 : a < b;
    });
    return {};
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
