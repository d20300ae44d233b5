// Items of an array that must differ: which values are left for the next one, and whether one that has been begun like
// an earlier one can still end as another.
#include <algorithm>
#include <bit>
#include <climits>
#include <cstring>

#include "grammar/matcher.h"

namespace slmd::grammar {
std::size_t skip(std::string_view text, std::size_t at) {
    int depth = 0;
    bool quoted = false;
    for (std::size_t i = at; i < text.size(); i++) {
        const char c = text[i];
        if (quoted) {
            if (c == '\\')
                i++;
            else if (c == '"') {
                quoted = false;
                if (depth == 0) return i + 1;
            }
            continue;
        }
        if (c == '"')
            quoted = true;
        else if (c == '[' || c == '{')
            depth++;
        else if ((c == ']' || c == '}') && depth > 0) {
            if (--depth == 0) return i + 1;
        } else if (depth == 0 && (c == ',' || c == ']' || c == '}'))
            return i;
    }
    return text.size();
}

namespace {

bool is_number(std::string_view value) { return value[0] == '-' || (value[0] >= '0' && value[0] <= '9'); }

// The number can have more digits than there are items in any text.
bool has_many(const NumberRule& rule, const NumberState& s) {
    constexpr int many = 5;
    if (rule.listed || !rule.free) return false;
    switch (s.phase) {
        case NumberState::minus:
        case NumberState::point: return true;
        case NumberState::zero: return !rule.integer;
        case NumberState::digits: return s.wholes + many <= NumberRule::max_free_digits;
        case NumberState::decimals: return s.fractions + many <= NumberRule::max_free_digits;
        default: return false;
    }
}

// Equal for equal values: members in any order, numbers without what does not count.
std::uint64_t hash_value(std::string_view text) {
    std::uint64_t h = 1469598103934665603u;
    const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 1099511628211u, h ^= h >> 29; };
    const auto bytes = [&](std::string_view b) {
        for (const char c : b) mix(static_cast<unsigned char>(c));
    };
    if (text.empty()) return h;
    if (text[0] == '[' || text[0] == '{') {
        mix(static_cast<unsigned char>(text[0]));
        std::uint64_t sum = 0;
        for (std::size_t at = 1; at + 1 < text.size();) {
            std::uint64_t key = 0;
            if (text[0] == '{') {
                const std::size_t end = skip(text, at);
                key = hash_value(text.substr(at, end - at));
                at = end + 1;
            }
            const std::size_t end = skip(text, at);
            const std::uint64_t value = hash_value(text.substr(at, end - at));
            if (text[0] == '{')
                sum += (key ^ std::rotl(value, 23)) * 0x9E3779B97F4A7C15u;
            else
                mix(value);
            at = end + 1;
        }
        mix(sum);
        return h;
    }
    char normal[128];
    if (is_number(text)) {
        const std::size_t n = normal_number(text, normal);
        bytes(n == 0 ? text : std::string_view(normal, n));
        return h;
    }
    bytes(text);
    return h;
}

// The value at the end of a text that the matcher has taken, as far as it is written, can still become equal to this
// one.
bool may_equal(std::string_view written, std::string_view value) {
    if (written.empty() || (is_number(written) && is_number(value))) return true;
    if (written[0] != value[0]) return false;
    if (written[0] != '[' && written[0] != '{') return value.starts_with(written);
    std::size_t item = 1;
    for (std::size_t at = 1; at < written.size();) {
        if (written[at] == ']' || written[at] == '}') return value.size() == 2;
        std::size_t other = item;
        if (written[0] == '{') {
            const std::size_t end = skip(written, at);
            if (end == written.size()) return true;  // of a key that has only begun nothing is known
            const std::string_view key = written.substr(at, end - at);
            for (other = 1; other + 1 < value.size(); other = skip(value, skip(value, other) + 1) + 1)
                if (value.substr(other, skip(value, other) - other) == key) break;
            if (other + 1 >= value.size()) return false;
            at = end + 1;
            other += key.size() + 1;
        } else if (item + 1 >= value.size()) {
            return false;
        }
        const std::size_t end = skip(written, at), other_end = skip(value, other);
        const std::string_view mine = written.substr(at, end - at), its = value.substr(other, other_end - other);
        if (end == written.size()) return may_equal(mine, its);
        if (hash_value(mine) != hash_value(its)) return false;
        at = end + 1, item = other_end + 1;
    }
    return true;
}

}  // namespace

// Whether `is` is true of an item before the one that is being written.
template <class Is>
bool Matcher::any_item(const Frame& array, const Is& is) const {
    const std::string_view text(text_, array.item);
    for (std::size_t at = array.begin + 1, end; at < text.size(); at = end + 1) {
        end = skip(text, at);
        if (is(text.substr(at, end - at))) return true;
    }
    return false;
}

// How many of the items that begin like that are values of a node of few.
int Matcher::seen_items(const Frame& array, std::string_view prefix, const Node& of) const {
    int n = 0;
    any_item(array, [&](std::string_view value) {
        if (!value.starts_with(prefix)) return false;
        bool is = (value == "null" && of.null) || (value == "true" && of.truth) || (value == "false" && of.falsity);
        if (value[0] == '"')
            for (const StringRule* r : of.strings) is |= accepts(r->content, value.substr(1, value.size() - 2));
        else
            for (const NumberRule* r : of.numbers) is |= accepts(r->words, value);
        n += is;
        return false;
    });
    return n;
}

// Of the values that begin like this one, not all have been items before.
bool Matcher::is_left(const Frame& f, const Automaton& values, const std::uint8_t* completions,
                      std::uint16_t state) const {
    if (completions == nullptr || completions[state] == 255) return true;
    const Frame* const array = unique_array(f);
    if (array == nullptr) return true;
    const std::string_view written(text_ + f.begin, length_ + 1 - f.begin);
    int left = completions[state];
    any_item(*array, [&](std::string_view value) {
        if (!value.starts_with(written)) return false;
        if (f.kind == Kind::string) value = value.substr(1, value.size() - 2);
        left -= accepts(values, value);
        return false;
    });
    return left > 0;
}

namespace {

// Whether a number can end within `limit` bytes more as none of those that `taken` knows. It is written in text[0, n);
// `more` says that a longer end was not tried.
template <class Taken>
bool ends_apart(const NumberRule& rule, const NumberState& s, char* text, std::size_t n, std::uint32_t limit,
                const Taken& taken, bool& more) {
    if (complete(rule, s)) {
        if (!taken(std::string_view(text, n))) return true;
        // An exponent makes no other number of zero, the only one that is normal in one byte.
        if (s.phase == NumberState::power && normal_number({text, n}, {text + n, 1}) == 1) return false;
    }
    for (const char c : std::string_view("0123456789.e-")) {
        NumberState next = s;
        if (!step(rule, next, c)) continue;
        if (limit == 0 || remaining(rule, next) > limit - 1) {
            more = true;
            continue;
        }
        text[n] = c;
        if (ends_apart(rule, next, text, n + 1, limit - 1, taken, more)) return true;
    }
    return false;
}

}  // namespace

// Fewest bytes that complete a number, which is written up to `end`, as none of the items before it; never: there are
// none.
std::uint32_t Matcher::bytes_apart(const Frame& f, const Frame& array, std::uint32_t end) const {
    const auto& rule = *static_cast<const NumberRule*>(f.rule);
    const auto taken = [&](std::string_view number) {
        return any_item(array, [mine = hash_value(number)](std::string_view value) {
            return is_number(value) && hash_value(value) == mine;
        });
    };
    char text[128];  // a number has 74 bytes at most
    const std::size_t n = end - f.begin;
    std::memcpy(text, text_ + f.begin, n);
    for (std::uint32_t limit = remaining(rule, f.number);; limit++) {
        bool more = false;
        if (ends_apart(rule, f.number, text, n, limit, taken, more)) return limit;
        if (!more) return never;
    }
}

// Of the numbers that begin like this one, with the byte that is being taken, not all have been items before.
bool Matcher::number_is_left(const Frame& f) const {
    const auto& rule = *static_cast<const NumberRule*>(f.rule);
    const NumberState& s = f.number;
    if (rule.listed) return is_left(f, rule.words, rule.completions, s.word);
    const Frame* const array = unique_array(f);
    return array == nullptr || has_many(rule, s) || bytes_apart(f, *array, length_ + 1) < never;
}

// An item before this one is the string that has been begun like that, its first quote included.
bool Matcher::has_item(const Frame& array, std::string_view begun) const {
    return any_item(array, [&](std::string_view value) {
        if (value.back() == '"' && value.size() > 1) value.remove_suffix(1);
        return value == begun;
    });
}

bool Matcher::differs(const Frame& array, std::uint32_t end) const {
    return !any_item(array, [mine = hash_value({text_ + array.item, end - array.item})](std::string_view value) {
        return hash_value(value) == mine;
    });
}

// What is written of this value, or follows in it for sure, can be anything of more than there are items in any text.
bool Matcher::has_room(const Frame& f, bool top) const {
    switch (f.kind) {
        case Kind::string: {
            const auto& r = *static_cast<const StringRule*>(f.rule);
            return r.any && !r.from_source && (r.max == never || r.max >= f.string.characters + 3);
        }
        case Kind::number: return has_many(*static_cast<const NumberRule*>(f.rule), f.number);
        case Kind::array: {
            const auto& r = *static_cast<const ArrayRule*>(f.rule);
            return !r.unique && r.grows();
        }
        case Kind::object: {
            const auto& r = *static_cast<const ObjectRule*>(f.rule);
            if (top && (f.phase == 3 || f.phase == 4) && grammar_->nodes[r.nodes[f.object.label]].many()) return true;
            for (std::uint32_t label = 1; label <= static_cast<std::uint32_t>(r.named); label++)
                if (has_bit(r.required, label) && !has_bit(f.object.seen, label) &&
                    grammar_->nodes[r.nodes[label]].many())
                    return true;
            return false;
        }
        default: return false;
    }
}

// The nesting of the outermost array whose next item may have no end but one that an earlier item has; -1: there is
// none.
int Matcher::may_repeat(const Frame& top) const {
    int depth = -1;
    for (const Frame* f = &top;; f = &frames_[f->parent]) {
        if (f->kind == Kind::array && f->phase == 1 && static_cast<const ArrayRule*>(f->rule)->unique) {
            const auto& r = *static_cast<const ArrayRule*>(f->rule);
            bool many = false, nested = false;
            for (unsigned choice = 0; choice < 1u << r.contains_count; choice++) {
                const Node& n = grammar_->nodes[r.node(f->array.count, choice)];
                many |= n.many(), nested |= n.nested();
            }
            if (nested && !many) depth = f->depth;
        }
        if (has_room(*f, f == &top) || f->parent == none) return depth;
        const Frame* const array = unique_array(*f);
        if (array == nullptr || (f->kind != Kind::array && f->kind != Kind::object)) continue;
        const std::string_view written(text_ + array->item, length_ - array->item);
        if (any_item(*array, [&](std::string_view value) { return may_equal(written, value); })) depth = array->depth;
    }
}

// The nesting of the outermost array whose item every alternative may have to repeat; -1: there is none.
int Matcher::all_may_repeat() const {
    const Level& top = levels_[level_count_ - 1];
    int depth = max_depth;
    for (std::uint32_t i = 0; i < top.count && depth >= 0; i++)
        depth = std::min(depth, may_repeat(frames_[threads_[top.first + i]]));
    return depth;
}

namespace {

// In which order bytes are tried: quotes and brackets first, which close; last what only makes a value longer.
int rank(int byte) {
    constexpr std::string_view closing = "\"}]", longer = "eE+,";
    if (const std::size_t i = closing.find(static_cast<char>(byte)); i != std::string_view::npos)
        return static_cast<int>(i);
    if (const std::size_t i = longer.find(static_cast<char>(byte)); i != std::string_view::npos)
        return 255 - static_cast<int>(i);
    return byte < 128 ? 128 - byte : byte;
}

}  // namespace

// Takes what completes the item of the array at this depth, or nothing, when no way is found. What leads nearer to the
// end is tried first.
bool Matcher::complete_item(int depth) {
    const std::uint32_t base = level_count_;
    constexpr int farther = 512;  // added to the rank of what does not lead nearer
    trying_ = true;
    bool done = false;
    for (int tries = 0, tried = -1; tries < max_tries;) {
        const Level& top = levels_[level_count_ - 1];
        for (std::uint32_t i = 0; i < top.count && !done; i++) {
            const Frame& f = frames_[threads_[top.first + i]];
            done = f.kind == Kind::array && f.phase == 3 && f.depth == depth;
        }
        if (done) break;
        const Bytes bytes = next();
        const std::uint32_t cost = close_bytes();
        int best = -1, best_rank = INT_MAX;
        for (int b = 0; b < 256; b++) {
            if (!bytes.has(static_cast<unsigned char>(b))) continue;
            const int nearer = rank(b);
            if (nearer + farther <= tried || nearer >= best_rank || !push(static_cast<char>(b))) continue;
            const int at = nearer + (close_bytes() < cost ? 0 : farther);
            pop();
            if (at > tried && at < best_rank) best = b, best_rank = at;
        }
        if (best >= 0 && push(static_cast<char>(best))) {
            tries++, tried = -1;
            continue;
        }
        if (level_count_ == base) break;
        const std::uint32_t after = close_bytes();
        tried = rank(static_cast<unsigned char>(text_[length_ - 1]));
        pop();
        tried += after < close_bytes() ? 0 : farther;
    }
    while (!done && level_count_ > base) pop();
    trying_ = false;
    return done;
}

}  // namespace slmd::grammar
