#include "grammar/matcher.h"

#include <algorithm>
#include <bit>
#include <cstring>

namespace slmd::grammar {
namespace {

constexpr std::string_view literal_text(std::uint8_t which) {
    return which == 't' ? "true" : which == 'f' ? "false" : "null";
}

// Zero to the last byte of padding: frames are compared as bytes.
template <class Frame>
Frame blank() {
    Frame f;
    std::memset(&f, 0, sizeof f);
    return f;
}

}  // namespace

void Matcher::lay_out(Arena& arena) {
    frames_ = arena.scratch<Frame>(max_frames);
    threads_ = arena.scratch<std::uint32_t>(thread_room);
    levels_ = arena.scratch<Level>(max_levels);
    moved_ = arena.scratch<std::uint32_t>(max_frames);
    queue_ = arena.scratch<std::uint16_t>(2 * max_keys);
    text_ = arena.scratch<char>(max_text);
}

void Matcher::open(const Grammar& grammar, const Source* source) {
    grammar_ = &grammar;
    source_ = source;
    frame_count_ = 0, level_count_ = 1, length_ = 0;
    controls_ = true;
    Frame f = blank<Frame>();
    f.parent = none;
    f.kind = grammar.kind == Grammar::json ? Kind::begin : Kind::text;
    threads_[0] = add(f);
    levels_[0] = {0, 1, 0};
}

std::uint32_t Matcher::add(const Frame& frame) {
    if (frame_count_ == max_frames) {
        overflow_ = true;
        return none;
    }
    frames_[frame_count_] = frame;
    return frame_count_++;
}

// One more alternative, unless it is there.
void Matcher::thread(const Frame& frame) {
    for (std::uint32_t i = 0; i < new_count_; i++)
        if (std::memcmp(&frames_[threads_[new_first_ + i]], &frame, sizeof frame) == 0) return;
    if (new_count_ == max_threads) return;
    const std::uint32_t at = add(frame);
    if (at != none) threads_[new_first_ + new_count_++] = at;
}

bool Matcher::push(char c) {
    const Level& top = levels_[level_count_ - 1];
    const std::uint32_t first = top.first, count = top.count, frames = frame_count_;
    new_first_ = first + count;
    new_count_ = 0;
    overflow_ = false;
    if (level_count_ == max_levels || length_ == max_text || new_first_ + max_threads > thread_room) return false;
    text_[length_] = c;
    for (std::uint32_t i = 0; i < count; i++) advance(frames_[threads_[first + i]], c);
    if (new_count_ == 0 || overflow_) {
        frame_count_ = frames;
        return false;
    }
    levels_[level_count_++] = {static_cast<std::uint16_t>(new_first_), static_cast<std::uint16_t>(new_count_),
                               static_cast<std::uint16_t>(frames)};
    length_++;
    if (!grammar_->nested_differ || trying_) return true;
    const int depth = all_may_repeat();
    if (depth < 0) return true;
    const std::uint32_t levels = level_count_;
    const bool can = complete_item(depth);
    while (level_count_ > levels) pop();
    if (!can) pop();
    return can;
}

void Matcher::pop() {
    const Level& top = levels_[--level_count_];
    frame_count_ = top.frames;
    length_--;
}

void Matcher::keep() {
    const Level top = levels_[level_count_ - 1];
    std::memmove(threads_, threads_ + top.first, top.count * sizeof *threads_);
    level_count_ = 1;
    levels_[0] = {0, top.count, 0};
    if (frame_count_ < max_frames / 4) return;
    // Parents stand before their children, so what is in use slides down in order.
    std::memset(moved_, 0, frame_count_ * sizeof *moved_);
    for (std::uint32_t i = 0; i < top.count; i++)
        for (std::uint32_t f = threads_[i]; f != none && moved_[f] == 0; f = frames_[f].parent) moved_[f] = 1;
    std::uint32_t to = 0;
    for (std::uint32_t f = 0; f < frame_count_; f++) {
        if (moved_[f] == 0) continue;
        frames_[to] = frames_[f];
        if (frames_[to].parent != none) frames_[to].parent = moved_[frames_[to].parent];
        moved_[f] = to++;
    }
    for (std::uint32_t i = 0; i < top.count; i++) threads_[i] = moved_[threads_[i]];
    frame_count_ = to;
}

bool Matcher::take(std::string_view bytes) {
    std::size_t n = 0;
    while (n < bytes.size() && push(bytes[n])) n++;
    if (n == bytes.size()) {
        keep();
        return true;
    }
    while (n-- > 0) pop();
    return false;
}

bool Matcher::would_take(std::string_view bytes) {
    std::size_t n = 0;
    while (n < bytes.size() && push(bytes[n])) n++;
    const bool all = n == bytes.size();
    while (n-- > 0) pop();
    return all;
}

// ---- values

void Matcher::begin(std::uint32_t parent, std::uint16_t node, char c, unsigned depth) {
    const Node& n = grammar_->nodes[node];
    Frame f = blank<Frame>();
    f.parent = parent;
    f.depth = static_cast<std::uint16_t>(depth);
    f.begin = length_;
    switch (c) {
        case '"':
            f.kind = Kind::string;
            for (const StringRule* r : n.strings) {
                f.rule = r;
                if (r->any && r->max == 0)
                    if (const Frame* const array = unique_array(f); array != nullptr && has_item(*array, "\""))
                        continue;
                if (!r->any && !is_left(f, r->content, r->completions, 0)) continue;
                if (r->from_source) {
                    if (source_ == nullptr || source_->size() == 0) continue;
                    f.string.part = source_->whole();
                    if (!can_match(f)) continue;
                }
                thread(f);
            }
            return;
        case '{':
            f.kind = Kind::object;
            for (const ObjectRule* r : n.objects) {
                f.rule = r;
                if (depth + static_cast<unsigned>(r->depth) <= max_depth) thread(f);
            }
            return;
        case '[':
            f.kind = Kind::array;
            for (const ArrayRule* r : n.arrays) {
                f.rule = r;
                if (depth + static_cast<unsigned>(r->depth) <= max_depth) thread(f);
            }
            return;
        case 't':
        case 'f':
        case 'n':
            f.kind = Kind::literal;
            if (c == 't' ? !n.truth : c == 'f' ? !n.falsity : !n.null) return;
            f.literal.which = static_cast<std::uint8_t>(c);
            f.literal.at = 1;
            if (const Frame* const array = unique_array(f))
                if (seen_items(*array, literal_text(f.literal.which), n) > 0) return;
            thread(f);
            return;
        default:
            f.kind = Kind::number;
            for (const NumberRule* r : n.numbers) {
                f.rule = r;
                std::memset(&f.number, 0, sizeof f.number);
                if (step(*r, f.number, c) && number_is_left(f)) thread(f);
            }
    }
}

void Matcher::advance(const Frame& f, char c) {
    switch (f.kind) {
        case Kind::done: return;
        case Kind::begin: return begin(none, 0, c, 0);
        case Kind::string: return string_byte(f, c);
        case Kind::object: return object_byte(f, c);
        case Kind::array: return array_byte(f, c);
        case Kind::number: {
            const auto* const rule = static_cast<const NumberRule*>(f.rule);
            Frame next = f;
            if (step(*rule, next.number, c) && number_is_left(next)) thread(next);
            if (f.parent != none && (c == ',' || c == ']' || c == '}') && complete(*rule, f.number)) leave(f, c, false);
            return;
        }
        case Kind::literal: {
            const std::string_view text = literal_text(f.literal.which);
            if (text[f.literal.at] != c) return;
            if (f.literal.at + 1u == text.size()) return leave(f, c, true);
            Frame next = f;
            next.literal.at++;
            return thread(next);
        }
        case Kind::text: {
            const Automaton& a = grammar_->text_rule;
            Frame next = f;
            next.state = a.step(f.state, static_cast<unsigned char>(c));
            if (next.state != Automaton::dead) thread(next);
            return;
        }
    }
}

// The value is complete: with this byte, or before it.
void Matcher::leave(const Frame& f, char c, bool consumed) {
    Frame next = blank<Frame>();
    if (f.parent == none) {
        next.parent = none;
        next.kind = Kind::done;
        return thread(next);
    }
    next = frames_[f.parent];
    if (next.kind == Kind::array && static_cast<const ArrayRule*>(next.rule)->unique &&
        !differs(next, length_ + (consumed ? 1 : 0)))
        return;
    next.phase = next.kind == Kind::array ? 3 : 5;
    if (consumed) return thread(next);
    advance(next, c);
}

// The array, when this is an item of one whose items must differ.
const Matcher::Frame* Matcher::unique_array(const Frame& child) const {
    if (child.parent == none) return nullptr;
    const Frame& parent = frames_[child.parent];
    return parent.kind == Kind::array && static_cast<const ArrayRule*>(parent.rule)->unique ? &parent : nullptr;
}

// What has been said ends in the middle of an escape.
bool Matcher::in_escape(const Frame& f) const {
    std::uint32_t at = length_;
    while (at > f.begin + 1 && text_[at - 1] == '\\') at--;
    return (length_ - at) % 2 != 0;
}

// What has been said of the source can become what is searched for, if anything is.
bool Matcher::can_match(const Frame& f) const {
    const int search = static_cast<const StringRule*>(f.rule)->search;
    return search < 0 || source_->can_match(f.string.part, search);
}

// The byte, or the character that it escapes, stands in the source after what has been said. Control characters that
// have no short escape are not said again.
bool Matcher::follow_source(const Frame& f, Frame& next, char c) const {
    const auto follow = [&](Frame& frame, char byte) {
        return source_->step(frame.string.part, byte) && can_match(frame);
    };
    if (in_escape(f)) return Source::unescaped(c) != '\0' && follow(next, Source::unescaped(c));
    if (c != '\\') return Source::escaped(c) == '\0' && follow(next, c);
    return std::any_of(Source::escapes.begin(), Source::escapes.end(), [&](char e) {
        if (static_cast<const StringRule*>(f.rule)->content.step(next.string.state, static_cast<unsigned char>(e)) ==
            Automaton::dead)
            return false;
        Frame tried = f;
        return follow(tried, Source::unescaped(e));
    });
}

void Matcher::string_byte(const Frame& f, char c) {
    const auto* const rule = static_cast<const StringRule*>(f.rule);
    if (c == '"' && rule->content.label[f.string.state] != 0) {
        if (f.string.characters >= rule->min && (rule->search < 0 || source_->is_match(f.string.part, rule->search)))
            leave(f, c, true);
        return;
    }
    Frame next = f;
    next.string.state = rule->content.step(f.string.state, static_cast<unsigned char>(c));
    if (next.string.state == Automaton::dead) return;
    if (rule->from_source && !follow_source(f, next, c)) return;
    if (rule->any) {
        if (!controls_ && c == 'u' && f.string.state != 0 && text_[length_ - 1] == '\\') return;
        if (f.string.state == 0 && f.string.characters == rule->max) return;
        // Counted up to where it no longer matters, so that equal states look equal.
        if (next.string.state == 0 && (rule->max != never || f.string.characters < rule->min)) next.string.characters++;
        // Where no more fits, it must differ from the items before as it is.
        if (next.string.state == 0 && next.string.characters == rule->max)
            if (const Frame* const array = unique_array(f))
                if (has_item(*array, {text_ + f.begin, length_ + 1 - f.begin})) return;
    } else if (!is_left(f, rule->content, rule->completions, next.string.state)) {
        return;
    }
    thread(next);
}

// ---- objects. Phases: 0 after '{', 1 after ',', 2 in a key, 3 after a key, 4 in a value, 5 after a value

bool Matcher::eligible(const ObjectRule& r, const ObjectRule::Set& seen, std::uint32_t count,
                       std::uint32_t label) const {
    if (has_bit(seen, label) || !has_bit(r.allowed, label) || count >= r.max) return false;
    if (r.max == never && r.min == 0 && r.dependent_count == 0) {
        // Those that come later are not there yet, and of those that come before none is missing.
        for (std::uint32_t w = 0; r.ordered && w < ObjectRule::words; w++) {
            const std::uint32_t first = w * 64 + 1;
            const std::uint64_t before = label <= first        ? 0
                                         : label - first >= 64 ? ~std::uint64_t{0}
                                                               : (std::uint64_t{1} << (label - first)) - 1;
            if ((seen[w] & ~before) != 0 || (r.required[w] & ~seen[w] & before) != 0) return false;
        }
        return true;
    }
    if (r.max == never && r.dependent_count == 0 && !r.ordered) return true;
    ObjectRule::Set with;
    std::memcpy(with, seen, sizeof with);
    with[(label - 1) / 64] |= std::uint64_t{1} << (label - 1) % 64;
    return rest(*grammar_, r, with, count + 1) < never;
}

bool Matcher::other_fits(const ObjectRule& r, const ObjectRule::Set& seen, std::uint32_t count) const {
    return r.other && (r.max == never || (count < r.max && rest(*grammar_, r, seen, count + 1) < never));
}

template <class Is>
bool Matcher::any_key(const Frame& f, const Is& is) const {
    const std::string_view text(text_, f.phase == 2 ? f.item : length_);
    for (std::size_t at = f.begin + 1; at < text.size();) {
        const std::size_t end = skip(text, at);
        if (is(text.substr(at, end - at))) return true;
        at = skip(text, end + 1) + 1;
    }
    return false;
}

// A key may be meant that begins as `written` does, its quote included.
bool Matcher::can_begin_key(const Frame& f, std::uint16_t state, std::string_view written) const {
    const auto& r = *static_cast<const ObjectRule*>(f.rule);
    if (r.keys.states == 0) return false;
    if (r.to_other[state] != Automaton::dead && other_fits(r, f.object.seen, f.object.count)) {
        if (r.others == nullptr || r.others[state] == 255) return true;
        // Of few keys, those that are there already are gone.
        int left = r.others[state];
        any_key(f, [&](std::string_view key) {
            std::uint16_t s = 0;
            for (const char c : key.substr(1, key.size() - 2)) s = r.keys.step(s, static_cast<unsigned char>(c));
            left -= r.keys.label[s] > r.named && key.starts_with(written);
            return false;
        });
        if (left > 0) return true;
    }
    for (int w = 0; w < ObjectRule::words; w++)
        for (std::uint64_t open = r.reach[state][w] & ~f.object.seen[w]; open != 0; open &= open - 1)
            if (eligible(r, f.object.seen, f.object.count,
                         static_cast<std::uint32_t>(w * 64 + __builtin_ctzll(open) + 1)))
                return true;
    return false;
}

void Matcher::object_byte(const Frame& f, char c) {
    const auto& r = *static_cast<const ObjectRule*>(f.rule);
    Frame next = f;
    switch (f.phase) {
        case 0:
        case 5:
            if (c == '}' && rest(*grammar_, r, f.object.seen, f.object.count) == 0 && f.object.count >= r.min)
                return leave(f, c, true);
            if (f.phase == 5) {
                if (c != ',' || !can_begin_key(f, 0, "\"")) return;
                next.phase = 1;
                return thread(next);
            }
            [[fallthrough]];
        case 1:
            if (c != '"' || !can_begin_key(f, 0, "\"")) return;
            next.phase = 2;
            next.item = length_;
            next.object.key = next.object.label = 0;
            return thread(next);
        case 2: {
            const std::uint16_t label = r.keys.label[f.object.key];
            if (c == '"' && label != 0) {
                if (label <= r.named) {
                    if (!eligible(r, f.object.seen, f.object.count, label)) return;
                    next.object.seen[(label - 1) / 64] |= std::uint64_t{1} << (label - 1) % 64;
                } else if (grammar_->nodes[r.nodes[label]].cost >= never ||
                           !other_fits(r, f.object.seen, f.object.count) ||
                           any_key(f, [key = std::string_view(text_ + f.item, length_ + 1 - f.item)](
                                          std::string_view k) { return k == key; })) {
                    return;
                }
                next.object.count++;
                next.object.label = label;
                next.object.key = 0;
                next.phase = 3;
                return thread(next);
            }
            next.object.key = r.keys.step(f.object.key, static_cast<unsigned char>(c));
            if (next.object.key != Automaton::dead &&
                can_begin_key(f, next.object.key, {text_ + f.item, length_ + 1 - f.item}))
                thread(next);
            return;
        }
        case 3:
            if (c != ':') return;
            next.phase = 4;
            return thread(next);
        default: {
            const Node& n = grammar_->nodes[r.nodes[f.object.label]];
            if (f.depth + 1 + n.depth > max_depth) return;
            const std::uint32_t at = add(f);
            if (at != none) begin(at, r.nodes[f.object.label], c, f.depth + 1u);
        }
    }
}

// ---- arrays. Phases: 0 after '[', 1 after ',', 2 in an item, 3 after one

// Begins an item with this byte, as each of what it may be.
void Matcher::item(const Frame& f, char c) {
    const auto& r = *static_cast<const ArrayRule*>(f.rule);
    if (f.array.count >= r.max) return;
    for (unsigned choice = 0; choice < 1u << r.contains_count; choice++) {
        Frame next = f;
        next.phase = 2;
        next.item = length_;
        next.array.node = r.node(f.array.count, choice);
        next.array.count++;
        bool fits = true;
        for (int k = 0; k < r.contains_count; k++) {
            next.array.matches[k] += choice >> k & 1;
            fits &= next.array.matches[k] <= r.contains[k].max;
        }
        const Node& n = grammar_->nodes[next.array.node];
        if (!fits || n.cost >= never || f.depth + 1 + n.depth > max_depth) continue;
        if (rest(*grammar_, r, next.array.count, next.array.matches) >= never) continue;
        if (r.unique && n.values < 255 && seen_items(next, "", n) >= n.values) continue;
        const std::uint32_t at = add(next);
        if (at != none) begin(at, next.array.node, c, f.depth + 1u);
    }
}

void Matcher::array_byte(const Frame& f, char c) {
    const auto& r = *static_cast<const ArrayRule*>(f.rule);
    if (f.phase == 2) return;
    if (c == ']' && f.phase != 1) {
        if (rest(*grammar_, r, f.array.count, f.array.matches) == 0) leave(f, c, true);
        return;
    }
    if (f.phase != 3) return item(f, c);
    if (c != ',' || f.array.count >= r.max) return;
    // Is there an item that may follow?
    bool any = false;
    for (unsigned choice = 0; choice < 1u << r.contains_count && !any; choice++) {
        const Node& n = grammar_->nodes[r.node(f.array.count, choice)];
        std::uint32_t matches[ArrayRule::max_contains];
        bool fits = n.cost < never && f.depth + 1 + n.depth <= max_depth;
        for (int k = 0; k < r.contains_count; k++) {
            matches[k] = f.array.matches[k] + (choice >> k & 1);
            fits &= matches[k] <= r.contains[k].max;
        }
        if (!fits || rest(*grammar_, r, f.array.count + 1, matches) >= never) continue;
        Frame here = f;
        here.item = length_;
        any = !r.unique || n.values >= 255 || seen_items(here, "", n) < n.values;
    }
    if (!any) return;
    Frame next = f;
    next.phase = 1;
    thread(next);
}

// ---- what is left

bool Matcher::accepting() const {
    const Level& top = levels_[level_count_ - 1];
    for (std::uint32_t i = 0; i < top.count; i++) {
        const Frame& f = frames_[threads_[top.first + i]];
        if (f.kind == Kind::done) return true;
        if (f.kind == Kind::text && grammar_->text_rule.label[f.state] != 0) return true;
        if (f.kind == Kind::number && f.parent == none && complete(*static_cast<const NumberRule*>(f.rule), f.number))
            return true;
    }
    return false;
}

bool Matcher::in_free_string(std::size_t characters) const {
    const Level& top = levels_[level_count_ - 1];
    for (std::uint32_t i = 0; i < top.count; i++) {
        const Frame& f = frames_[threads_[top.first + i]];
        if (f.kind != Kind::string) return false;
        const auto& r = *static_cast<const StringRule*>(f.rule);
        if (!r.any || r.from_source || f.string.state != 0 || f.string.characters < r.min) return false;
        if (r.max != never && r.max - f.string.characters < characters) return false;
        if (unique_array(f) != nullptr) return false;
    }
    return true;
}

bool Matcher::begins_string() const {
    const Level& top = levels_[level_count_ - 1];
    return std::all_of(threads_ + top.first, threads_ + top.first + top.count, [&](std::uint32_t t) {
        const Frame& f = frames_[t];
        return f.kind == Kind::string ? f.begin + 1 == length_
                                      : f.kind == Kind::object && f.phase == 2 && f.item + 1 == length_;
    });
}

bool Matcher::finished() {
    if (!accepting()) return false;
    const Bytes bytes = next();
    return std::all_of(std::begin(bytes.bits), std::end(bytes.bits), [](std::uint64_t w) { return w == 0; });
}

// What a frame could take if nothing but its own rule counted: few, where there is structure.
Matcher::Bytes Matcher::candidates(const Frame& f) const {
    Bytes bytes{};
    const auto add = [&](std::string_view chars) {
        for (const char c : chars) bytes.add(static_cast<unsigned char>(c));
    };
    const auto add_steps = [&](const Automaton& a, std::uint16_t state) {
        for (unsigned b = 0; b < 256 && a.states > 0; b++)
            if (a.step(state, static_cast<unsigned char>(b)) != Automaton::dead)
                bytes.add(static_cast<unsigned char>(b));
    };
    constexpr std::string_view value = "\"{[tfn-0123456789";
    switch (f.kind) {
        case Kind::done: break;
        case Kind::begin: add(value); break;
        case Kind::text: add_steps(grammar_->text_rule, f.state); break;
        case Kind::literal: add(literal_text(f.literal.which).substr(f.literal.at, 1)); break;
        case Kind::number: add("0123456789.eE+-,]}"); break;
        case Kind::string: {
            const auto& rule = *static_cast<const StringRule*>(f.rule);
            const Source::Part& part = f.string.part;
            add("\"");
            // Where few places are left, the source says what may follow.
            if (rule.from_source && !in_escape(f) && part.last - part.first <= 64) {
                add("\\");
                for (std::uint32_t k = 0; k < part.last - part.first; k++)
                    if (const int b = source_->follows(part, k); b >= 0) bytes.add(static_cast<unsigned char>(b));
                break;
            }
            add_steps(rule.content, f.string.state);
            break;
        }
        case Kind::array: add(f.phase == 3 ? ",]" : value), add("]"); break;
        case Kind::object:
            if (f.phase == 2) {
                add("\"");
                add_steps(static_cast<const ObjectRule*>(f.rule)->keys, f.object.key);
            } else {
                add(f.phase == 3 ? ":" : f.phase == 4 ? value : f.phase == 5 ? ",}" : "\"}");
            }
            break;
    }
    return bytes;
}

Matcher::Bytes Matcher::next() {
    const Level& top = levels_[level_count_ - 1];
    Bytes could{}, bytes{};
    for (std::uint32_t i = 0; i < top.count; i++) {
        const Bytes of = candidates(frames_[threads_[top.first + i]]);
        for (int w = 0; w < 4; w++) could.bits[w] |= of.bits[w];
    }
    for (int w = 0; w < 4; w++)
        for (std::uint64_t open = could.bits[w]; open != 0; open &= open - 1) {
            const int b = w * 64 + __builtin_ctzll(open);
            if (!push(static_cast<char>(b))) continue;
            bytes.add(static_cast<unsigned char>(b));
            pop();
        }
    return bytes;
}

std::size_t Matcher::forced(std::span<char> out) {
    std::size_t n = 0;
    while (n < out.size() && !accepting() && !in_free_string(1)) {
        const Bytes bytes = next();
        int count = 0, only = -1;
        for (int w = 0; w < 4; w++) {
            count += std::popcount(bytes.bits[w]);
            if (bytes.bits[w] != 0) only = w * 64 + __builtin_ctzll(bytes.bits[w]);
        }
        if (count != 1 || !push(static_cast<char>(only))) break;
        out[n++] = static_cast<char>(only);
    }
    for (std::size_t i = 0; i < n; i++) pop();
    return n;
}

// From the key's state to the end of the nearest one that may be meant, and on from there.
std::uint32_t Matcher::key_cost(const Frame& f) const {
    const auto& r = *static_cast<const ObjectRule*>(f.rule);
    std::uint32_t best = never;
    if (r.to_other[f.object.key] != Automaton::dead && other_fits(r, f.object.seen, f.object.count))
        if (const std::uint32_t after = rest(*grammar_, r, f.object.seen, f.object.count + 1); after < never)
            best = r.to_other[f.object.key] + 2u + after;
    const auto leads_on = [&](std::uint16_t state) {
        for (int w = 0; w < ObjectRule::words; w++)
            if ((r.reach[state][w] & ~f.object.seen[w]) != 0) return true;
        return false;
    };
    if (!leads_on(f.object.key)) return best;
    std::uint16_t* const bytes = queue_ + max_keys;
    std::fill_n(bytes, r.keys.states, Automaton::dead);
    std::size_t head = 0, tail = 0;
    bytes[f.object.key] = 0;
    queue_[tail++] = f.object.key;
    while (head < tail) {
        const std::uint16_t s = queue_[head++];
        if (bytes[s] + 2u >= best) break;
        const std::uint16_t label = r.keys.label[s];
        if (label != 0 && label <= r.named && eligible(r, f.object.seen, f.object.count, label)) {
            ObjectRule::Set with;
            std::memcpy(with, f.object.seen, sizeof with);
            with[(label - 1) / 64] |= std::uint64_t{1} << (label - 1) % 64;
            const std::uint32_t after = rest(*grammar_, r, with, f.object.count + 1),
                                value = grammar_->nodes[r.nodes[label]].cost;
            if (after < never && value < never) best = std::min(best, bytes[s] + 2u + value + after);
        }
        for (int c = 0; c < r.keys.classes; c++) {
            const std::uint16_t t = r.keys.next[static_cast<std::size_t>(s) * static_cast<std::size_t>(r.keys.classes) +
                                                static_cast<std::size_t>(c)];
            if (t == Automaton::dead || bytes[t] != Automaton::dead || !leads_on(t)) continue;
            bytes[t] = static_cast<std::uint16_t>(bytes[s] + 1);
            queue_[tail++] = t;
        }
    }
    return best;
}

std::uint32_t Matcher::cost(const Frame& top) const {
    std::uint32_t sum = 0;
    const Frame* f = &top;
    for (bool child = false;; child = true) {
        std::uint32_t own = 0;
        switch (f->kind) {
            case Kind::done: break;
            case Kind::begin: own = grammar_->nodes[0].cost; break;
            case Kind::text: own = grammar_->text_rule.to_end[f->state]; break;
            case Kind::literal:
                own = static_cast<std::uint32_t>(literal_text(f->literal.which).size()) - f->literal.at;
                break;
            case Kind::number: own = remaining(*static_cast<const NumberRule*>(f->rule), f->number); break;
            case Kind::string: {
                const auto& r = *static_cast<const StringRule*>(f->rule);
                own = 1u + (r.search < 0
                                ? r.content.to_end[f->string.state]
                                : source_->bytes_to_match(f->string.part, r.search, f->string.state, in_escape(*f)));
                if (r.any && f->string.characters < r.min)
                    own += r.min - f->string.characters - (f->string.state != 0 ? 1 : 0);
                break;
            }
            case Kind::array: {
                const auto& r = *static_cast<const ArrayRule*>(f->rule);
                const std::uint32_t items = rest(*grammar_, r, f->array.count, f->array.matches);
                own = items + 1;
                if (child || f->phase == 3) break;
                if (f->phase == 0) {
                    own -= items > 0 ? 1 : 0;
                    break;
                }
                // After a comma one more has to follow, if none is needed then the cheapest.
                if (items > 0) {
                    own--;
                    break;
                }
                std::uint32_t best = never;
                for (unsigned choice = 0; choice < 1u << r.contains_count; choice++) {
                    const Node& n = grammar_->nodes[r.node(f->array.count, choice)];
                    best = std::min(best, r.unique && n.cost < never ? std::max(n.cost + 3, n.unequal) : n.cost);
                }
                own += best;
                break;
            }
            case Kind::object: {
                const auto& r = *static_cast<const ObjectRule*>(f->rule);
                const std::uint32_t members = rest(*grammar_, r, f->object.seen, f->object.count);
                own = members + 1;
                if (child || f->phase == 5) break;
                if (f->phase == 0) {
                    own -= members > 0 ? 1 : 0;
                } else if (f->phase == 1) {
                    Frame key = *f;
                    key.object.key = 0;
                    own = 2 + key_cost(key);
                } else if (f->phase == 2) {
                    own = 1 + key_cost(*f);
                } else {
                    own += grammar_->nodes[r.nodes[f->object.label]].cost + (f->phase == 3 ? 1 : 0);
                }
                break;
            }
        }
        if (f->kind != Kind::done)
            if (const Frame* const array = unique_array(*f)) {
                // Another value than those before may be longer.
                const std::uint32_t longest = grammar_->nodes[array->array.node].unequal, written = length_ - f->begin;
                own = f->kind == Kind::number && !static_cast<const NumberRule*>(f->rule)->listed
                          ? bytes_apart(*f, *array, length_)
                          : std::max(own + 3, longest > written ? longest - written : 0);
            }
        sum = std::min(sum + std::min(own, never), never);
        if (f->kind == Kind::done || f->parent == none) return sum;
        f = &frames_[f->parent];
    }
}

std::uint32_t Matcher::close_bytes() const {
    const Level& top = levels_[level_count_ - 1];
    std::uint32_t best = never;
    for (std::uint32_t i = 0; i < top.count; i++) best = std::min(best, cost(frames_[threads_[top.first + i]]));
    return best;
}

std::size_t Matcher::close(std::span<char> out) {
    const std::size_t n = push_close(out.size());
    const bool whole = accepting();
    std::copy_n(text_ + length_ - n, n, out.data());
    for (std::size_t i = 0; i < n; i++) pop();
    return whole ? n : out.size() + 1;
}

// Takes what closes it, as far as there is room. Returns how much it is.
std::size_t Matcher::push_close(std::size_t room) {
    std::size_t n = 0;
    std::uint32_t cost = close_bytes();
    while (!accepting() && n < room) {
        if (const int depth = grammar_->nested_differ ? all_may_repeat() : -1; depth >= 0) {
            const std::uint32_t levels = level_count_;
            if (!complete_item(depth)) break;
            for (n += level_count_ - levels; n > room; n--) pop();
            cost = close_bytes();
            continue;
        }
        // The first byte that leads nearer to the end, else the one that leads away least.
        int best = -1;
        std::uint32_t best_cost = UINT32_MAX;
        const Bytes bytes = next();
        for (int w = 0; w < 4 && best_cost >= cost; w++)
            for (std::uint64_t open = bytes.bits[w]; open != 0 && best_cost >= cost; open &= open - 1) {
                const int b = w * 64 + __builtin_ctzll(open);
                if (!push(static_cast<char>(b))) continue;
                if (const std::uint32_t c = close_bytes(); c < best_cost) best = b, best_cost = c;
                pop();
            }
        if (best < 0 || !push(static_cast<char>(best))) break;
        n++;
        cost = best_cost;
    }
    return n;
}

}  // namespace slmd::grammar
