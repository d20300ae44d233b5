#include "grammar/regex.h"

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/utf8.h"

namespace slmd::grammar {
namespace {

constexpr std::uint32_t last_code_point = 0x10FFFF;
constexpr int max_nesting = 64;
constexpr std::uint32_t max_repeat = 4096;

Error full() { return Error::make(Code::memory_full, "the pattern is too large for the memory that it has"); }

// A set of code points: sorted, disjoint ranges.
struct CodePoints {
    static constexpr int max_ranges = 256;
    struct Range {
        std::uint32_t low, high;
    };
    Range ranges[max_ranges];
    int count = 0;

    bool add(std::uint32_t low, std::uint32_t high) {
        if (count == max_ranges) return false;
        ranges[count++] = {low, high};
        return true;
    }
    void normalize() {
        std::sort(ranges, ranges + count, [](Range a, Range b) { return a.low < b.low; });
        int to = 0;
        for (int i = 0; i < count; i++) {
            if (to > 0 && ranges[i].low <= ranges[to - 1].high + 1)
                ranges[to - 1].high = std::max(ranges[to - 1].high, ranges[i].high);
            else
                ranges[to++] = ranges[i];
        }
        count = to;
    }
    bool invert() {
        normalize();
        CodePoints other;
        std::uint32_t next = 0;
        for (int i = 0; i < count; i++) {
            if (ranges[i].low > next && !other.add(next, ranges[i].low - 1)) return false;
            next = ranges[i].high + 1;
        }
        if (next <= last_code_point && !other.add(next, last_code_point)) return false;
        *this = other;
        return true;
    }
    bool add(const CodePoints& other) {
        for (int i = 0; i < other.count; i++)
            if (!add(other.ranges[i].low, other.ranges[i].high)) return false;
        return true;
    }
};

bool class_escape(char c, CodePoints& set) {
    switch (c) {
        case 'd':
        case 'D': set.add('0', '9'); break;
        case 'w':
        case 'W': set.add('0', '9'), set.add('A', 'Z'), set.add('_', '_'), set.add('a', 'z'); break;
        case 's':
        case 'S':
            set.add(9, 13), set.add(32, 32), set.add(0xA0, 0xA0), set.add(0x1680, 0x1680), set.add(0x2000, 0x200A);
            set.add(0x2028, 0x2029), set.add(0x202F, 0x202F), set.add(0x205F, 0x205F), set.add(0x3000, 0x3000), set.add(0xFEFF, 0xFEFF);
            break;
        default: return false;
    }
    if (c >= 'A' && c <= 'Z') set.invert();
    return true;
}

// Thompson's construction (CACM 11, 1968) over bytes.
struct Node {
    enum Kind : std::uint8_t { split, range, at_begin, at_end, match } kind;
    std::uint8_t low, high;
    std::uint32_t next, other;
};
constexpr std::uint32_t nowhere = UINT32_MAX;
constexpr std::uint32_t max_nfa = 65536;

class Builder {
  public:
    Builder(std::string_view pattern, Encoding encoding, Heap& heap) : text_(pattern), encoding_(encoding), heap_(heap) {}
    Result<Automaton> build(bool whole);

  private:
    // A piece of the automaton: where it begins, and the one node behind it, whose next is not set.
    struct Part {
        std::uint32_t begin, end;
    };

    Result<std::uint32_t> node(Node n) {
        if (count_ == capacity_) {
            if (capacity_ == max_nfa) return Error::make(Code::text_too_long, "the pattern is too large: repetitions multiply it");
            return full();
        }
        nodes_[count_] = n;
        return count_++;
    }
    Result<std::uint32_t> empty() { return node({Node::split, 0, 0, nowhere, nowhere}); }
    void link(std::uint32_t from, std::uint32_t to) { nodes_[from].next = to; }
    Result<Part> alternatives(int depth);
    Result<Part> sequence(int depth);
    Result<Part> repeated(int depth);
    Result<Part> atom(int depth);
    Result<void> char_class(CodePoints& set);
    Result<std::uint32_t> escape(bool in_class, CodePoints& set, bool& is_set);
    Result<Part> set_of(CodePoints& set);
    Result<Part> any_text();
    Result<void> utf8(std::uint32_t low, std::uint32_t high, Part part);
    Result<void> bytes(std::string_view low, std::string_view high, Part part);
    Result<Automaton> determinize(std::uint32_t start);
    Result<std::uint32_t> code_point();
    Error wrong(const char* what, Code code = Code::incorrect_parameters) const {
        return Error::make(code, "pattern, byte %zu: %s", at_ + 1, what);
    }
    bool more() const { return at_ < text_.size(); }
    bool take(char c) {
        if (!more() || text_[at_] != c) return false;
        at_++;
        return true;
    }

    std::string_view text_;
    Encoding encoding_;
    Heap& heap_;
    std::size_t at_ = 0;
    Node* nodes_ = nullptr;
    std::uint32_t count_ = 0, capacity_ = 0;
    CodePoints set_;  // of the atom that is being read; parsing is not nested there
};

Result<std::uint32_t> Builder::code_point() {
    const int n = utf8_length(text_.substr(at_));
    if (n <= 0) return wrong("not UTF-8", Code::invalid_characters);
    const auto byte = [&](int i) { return static_cast<std::uint32_t>(static_cast<unsigned char>(text_[at_ + static_cast<std::size_t>(i)])); };
    std::uint32_t v = n == 1 ? byte(0) : byte(0) & (0xFFu >> (n + 1));
    for (int i = 1; i < n; i++) v = v << 6 | (byte(i) & 63);
    at_ += static_cast<std::size_t>(n);
    return v;
}

// One or more byte sequences that differ in the last place only by a range.
Result<void> Builder::bytes(std::string_view low, std::string_view high, Part part) {
    std::uint32_t from = part.begin;
    for (std::size_t i = 0; i < low.size(); i++) {
        const std::uint32_t n = TRY(node({Node::range, static_cast<std::uint8_t>(low[i]), static_cast<std::uint8_t>(high[i]), nowhere, nowhere}));
        if (i == 0) {
            // Another way out of part.begin: a chain of splits.
            const std::uint32_t s = TRY(node({Node::split, 0, 0, n, nodes_[from].other}));
            nodes_[from].other = s;
        } else {
            link(from, n);
        }
        from = n;
    }
    link(from, part.end);
    return {};
}

Result<void> Builder::utf8(std::uint32_t low, std::uint32_t high, Part part) {
    constexpr std::uint32_t ends[] = {0x7F, 0x7FF, 0xFFFF, last_code_point};
    if (low > high) return {};
    if (low <= 0xDFFF && high >= 0xD800) {  // no surrogates
        if (low < 0xD800) TRY(utf8(low, 0xD7FF, part));
        if (high > 0xDFFF) TRY(utf8(0xE000, high, part));
        return {};
    }
    for (const std::uint32_t end : ends)
        if (low <= end && high > end) {
            TRY(utf8(low, end, part));
            return utf8(end + 1, high, part);
        }
    if (high < 0x80) {
        const char a = static_cast<char>(low), b = static_cast<char>(high);
        return bytes({&a, 1}, {&b, 1}, part);
    }
    for (int i = 1; i < 4; i++) {
        const std::uint32_t tail = (1u << (6 * i)) - 1;
        if ((low & ~tail) == (high & ~tail)) continue;
        if ((low & tail) != 0) {
            TRY(utf8(low, low | tail, part));
            return utf8((low | tail) + 1, high, part);
        }
        if ((high & tail) != tail) {
            TRY(utf8(low, (high & ~tail) - 1, part));
            return utf8(high & ~tail, high, part);
        }
    }
    const auto encode = [](std::uint32_t v, char(&out)[4]) -> std::size_t {
        const std::size_t n = v < 0x800 ? 2 : v < 0x10000 ? 3 : 4;
        for (std::size_t i = n; i-- > 1; v >>= 6) out[i] = static_cast<char>(0x80 | (v & 63));
        out[0] = static_cast<char>((n == 2 ? 0xC0 : n == 3 ? 0xE0 : 0xF0) | v);
        return n;
    };
    char a[4], b[4];
    const std::size_t n = encode(low, a);
    encode(high, b);
    return bytes({a, n}, {b, n}, part);
}

Result<Builder::Part> Builder::set_of(CodePoints& set) {
    set.normalize();
    const Part part{TRY(empty()), TRY(empty())};
    nodes_[part.begin].next = nowhere;
    for (int i = 0; i < set.count; i++) {
        std::uint32_t low = set.ranges[i].low, high = set.ranges[i].high;
        if (encoding_ == Encoding::utf8) {
            TRY(utf8(low, high, part));
            continue;
        }
        constexpr std::string_view from = "\"\\\b\f\n\r\t", to = "\"\\bfnrt";
        for (std::uint32_t v = low; v <= std::min<std::uint32_t>(high, '\\'); v++) {
            const std::size_t k = from.find(static_cast<char>(v));
            char text[6] = {'\\', 'u', '0', '0', "01"[v >> 4 & 1], "0123456789abcdef"[v & 15]};
            std::size_t n = 6;
            if (k != std::string_view::npos)
                text[1] = to[k], n = 2;
            else if (v >= 0x20)
                continue;
            TRY(bytes({text, n}, {text, n}, part));
        }
        // What is written as it is, between those.
        constexpr std::uint32_t gaps[][2] = {{0x20, '"' - 1}, {'"' + 1, '\\' - 1}, {'\\' + 1, last_code_point}};
        for (const auto& gap : gaps) TRY(utf8(std::max(low, gap[0]), std::min(high, gap[1]), part));
    }
    return part;
}

Result<Builder::Part> Builder::any_text() {
    CodePoints all;
    all.add(0, last_code_point);
    const Part one = TRY(set_of(all));
    const std::uint32_t loop = TRY(node({Node::split, 0, 0, one.begin, nowhere})), end = TRY(empty());
    link(one.end, loop);
    nodes_[loop].other = end;
    return Part{loop, end};
}

Result<std::uint32_t> Builder::escape(bool in_class, CodePoints& set, bool& is_set) {
    is_set = false;
    if (!more()) return wrong("\\ at the end");
    const char c = text_[at_];
    const auto hex = [&](int digits, std::uint32_t& v) {
        v = 0;
        for (int i = 0; i < digits; i++) {
            if (!more()) return false;
            const char h = text_[at_];
            const int d = h >= '0' && h <= '9' ? h - '0' : h >= 'a' && h <= 'f' ? h - 'a' + 10 : h >= 'A' && h <= 'F' ? h - 'A' + 10 : -1;
            if (d < 0) return false;
            v = v << 4 | static_cast<std::uint32_t>(d);
            at_++;
        }
        return true;
    };
    CodePoints named;
    if (class_escape(c, named)) {
        at_++;
        is_set = true;
        if (!set.add(named)) return wrong("too many ranges", Code::text_too_long);
        return 0u;
    }
    if (c >= '1' && c <= '9') return wrong("references to groups are not supported", Code::not_supported);
    if (c == 'k') return wrong("references to groups are not supported", Code::not_supported);
    if (c == 'p' || c == 'P') return wrong("\\p is not supported; write the ranges", Code::not_supported);
    if (c == 'B' || (c == 'b' && !in_class)) return wrong("\\b and \\B are not supported", Code::not_supported);
    at_++;
    std::uint32_t v = 0;
    switch (c) {
        case 'b': return 8u;
        case 't': return 9u;
        case 'n': return 10u;
        case 'v': return 11u;
        case 'f': return 12u;
        case 'r': return 13u;
        case '0':
            if (more() && text_[at_] >= '0' && text_[at_] <= '9') return wrong("octal escapes are none of ECMA 262's");
            return 0u;
        case 'c':
            if (!more() || !((text_[at_] >= 'a' && text_[at_] <= 'z') || (text_[at_] >= 'A' && text_[at_] <= 'Z'))) return wrong("\\c needs a letter");
            return static_cast<std::uint32_t>(text_[at_++] & 31);
        case 'x':
            if (!hex(2, v)) return wrong("\\x needs two hexadecimal digits");
            return v;
        case 'u':
            if (take('{')) {
                const std::size_t begin = at_;
                while (more() && text_[at_] != '}' && v <= last_code_point) {
                    std::uint32_t d;
                    if (!hex(1, d)) return wrong("\\u{ needs hexadecimal digits");
                    v = v << 4 | d;
                }
                if (at_ == begin || !take('}') || v > last_code_point) return wrong("\\u{...} is a code point up to 10FFFF");
                return v;
            }
            if (!hex(4, v)) return wrong("\\u needs four hexadecimal digits");
            if (v >= 0xD800 && v <= 0xDBFF && text_.substr(at_).starts_with("\\u")) {
                const std::size_t back = at_;
                std::uint32_t low;
                at_ += 2;
                if (hex(4, low) && low >= 0xDC00 && low <= 0xDFFF) return 0x10000 + ((v - 0xD800) << 10) + (low - 0xDC00);
                at_ = back;
            }
            return v;
        default: break;
    }
    const auto u = static_cast<unsigned char>(c);
    if (u < 0x21 || u > 0x7E || (c >= '0' && c <= '9') || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z')) {
        at_--;
        return wrong("this escape is none of ECMA 262's");
    }
    return static_cast<std::uint32_t>(u);
}

Result<void> Builder::char_class(CodePoints& set) {
    const bool inverted = take('^');
    while (!take(']')) {
        if (!more()) return wrong("[ without ]");
        bool is_set = false;
        const std::uint32_t low = take('\\') ? TRY(escape(true, set, is_set)) : TRY(code_point());
        std::uint32_t high = low;
        if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
            if (is_set) return wrong("a range begins with a set");
            at_++;
            high = take('\\') ? TRY(escape(true, set, is_set)) : TRY(code_point());
            if (is_set) return wrong("a range ends with a set");
            if (high < low) return wrong("a range ends before it begins");
        }
        if (!is_set && !set.add(low, high)) return wrong("more than 256 ranges", Code::text_too_long);
    }
    if (inverted && !set.invert()) return wrong("more than 256 ranges", Code::text_too_long);
    return {};
}

Result<Builder::Part> Builder::atom(int depth) {
    if (!more()) return wrong("something is missing");
    const char c = text_[at_];
    set_.count = 0;
    if (take('(')) {
        const std::size_t open = at_;
        if (take('?')) {
            if (take('<') && more() && text_[at_] != '=' && text_[at_] != '!') {
                while (more() && text_[at_] != '>') at_++;
                if (!take('>')) return wrong("a group's name has no >");
            } else if (!take(':')) {
                return wrong("lookahead, lookbehind and flags are not supported", Code::not_supported);
            }
        }
        const Part part = TRY(alternatives(depth + 1));
        if (!take(')')) {
            at_ = open - 1;
            return wrong("( without )");
        }
        return part;
    }
    if (c == '^' || c == '$') {
        at_++;
        const std::uint32_t n = TRY(node({c == '^' ? Node::at_begin : Node::at_end, 0, 0, nowhere, nowhere}));
        return Part{n, n};
    }
    if (take('[')) {
        TRY(char_class(set_));
        return set_of(set_);
    }
    if (take('.')) {
        set_.add('\n', '\n'), set_.add('\r', '\r'), set_.add(0x2028, 0x2029);
        set_.invert();
        return set_of(set_);
    }
    if (take('\\')) {
        bool is_set;
        const std::uint32_t v = TRY(escape(false, set_, is_set));
        if (!is_set) set_.add(v, v);
        return set_of(set_);
    }
    if (c == '*' || c == '+' || c == '?') return wrong("nothing to repeat");
    if (c == '{' || c == '}' || c == ']') return wrong("this character stands for itself only with a \\ before it");
    const std::uint32_t v = TRY(code_point());
    set_.add(v, v);
    return set_of(set_);
}

Result<Builder::Part> Builder::repeated(int depth) {
    const std::size_t begin = at_;
    Part part = TRY(atom(depth));
    const std::size_t end = at_;
    std::uint32_t low = 1, high = 1;
    constexpr std::uint32_t no_end = UINT32_MAX;
    if (take('*'))
        low = 0, high = no_end;
    else if (take('+'))
        high = no_end;
    else if (take('?'))
        low = 0;
    else if (take('{')) {
        const auto number = [&](std::uint32_t& v) {
            const std::size_t from = at_;
            for (v = 0; more() && text_[at_] >= '0' && text_[at_] <= '9'; at_++)
                v = std::min(v * 10 + static_cast<std::uint32_t>(text_[at_] - '0'), max_repeat + 1);
            return at_ > from;
        };
        if (!number(low)) return wrong("{ needs a number");
        high = low;
        if (take(',') && !number(high)) high = no_end;
        if (!take('}')) return wrong("{ without }");
        if (high < low) return wrong("{n,m} with m below n");
        if (low > max_repeat || (high != no_end && high > max_repeat)) return wrong("more than 4096 repetitions", Code::text_too_long);
    } else {
        return part;
    }
    take('?');  // lazy: the language is the same
    const std::size_t after = at_;
    if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?' || text_[at_] == '{')) return wrong("nothing to repeat");
    // Each repetition is read anew.
    const auto again = [&]() -> Result<Part> {
        at_ = begin;
        const Part p = TRY(atom(depth));
        at_ = end;
        return p;
    };
    Part all{TRY(empty()), TRY(empty())};
    std::uint32_t from = all.begin;
    bool used = false;  // the first one is there already
    const auto one = [&]() -> Result<Part> {
        if (std::exchange(used, true)) return again();
        return part;
    };
    for (std::uint32_t i = 0; i < low; i++) {
        const Part p = TRY(one());
        link(from, p.begin);
        from = p.end;
    }
    if (high == no_end) {
        const Part p = TRY(one());
        const std::uint32_t loop = TRY(node({Node::split, 0, 0, p.begin, all.end}));
        link(from, loop);
        link(p.end, loop);
    } else {
        for (std::uint32_t i = low; i < high; i++) {
            const Part p = TRY(one());
            const std::uint32_t choice = TRY(node({Node::split, 0, 0, p.begin, all.end}));
            link(from, choice);
            from = p.end;
        }
        link(from, all.end);
    }
    at_ = after;
    return all;
}

Result<Builder::Part> Builder::sequence(int depth) {
    Part all{TRY(empty()), nowhere};
    all.end = all.begin;
    while (more() && text_[at_] != '|' && text_[at_] != ')') {
        const Part p = TRY(repeated(depth));
        link(all.end, p.begin);
        all.end = p.end;
    }
    return all;
}

Result<Builder::Part> Builder::alternatives(int depth) {
    if (depth > max_nesting) return wrong("groups are nested too deeply (64)", Code::text_too_long);
    Part all = TRY(sequence(depth));
    if (!more() || text_[at_] != '|') return all;
    const std::uint32_t end = TRY(empty());
    link(all.end, end);
    all.end = end;
    while (take('|')) {
        const Part p = TRY(sequence(depth));
        all.begin = TRY(node({Node::split, 0, 0, all.begin, p.begin}));
        link(p.end, end);
    }
    return all;
}

Result<Automaton> Builder::build(bool whole) {
    const std::size_t mark = heap_.used();
    capacity_ = static_cast<std::uint32_t>(std::min<std::size_t>(max_nfa, heap_.left() / 2 / sizeof(Node)));
    nodes_ = heap_.take<Node>(capacity_);
    if (nodes_ == nullptr) return full();
    Result<Automaton> result = [&]() -> Result<Automaton> {
        Part part = TRY(alternatives(0));
        if (more()) return wrong(") without (");
        if (!whole) {
            const Part before = TRY(any_text()), behind = TRY(any_text());
            link(before.end, part.begin);
            link(part.end, behind.begin);
            part = {before.begin, behind.end};
        }
        const std::uint32_t match = TRY(node({Node::match, 0, 0, nowhere, nowhere}));
        link(part.end, match);
        return determinize(part.begin);
    }();
    if (!result) heap_.release(mark);
    return result;
}

// The subset construction. What is reached without a byte is followed at once, $ only where the text ends, ^ only where
// it begins.
Result<Automaton> Builder::determinize(std::uint32_t start) {
    const std::size_t mark = heap_.used() - capacity_ * sizeof(Node);
    heap_.release(heap_.used() - (capacity_ - count_) * sizeof(Node));
    Table t;
    bool cut[257] = {true};
    for (std::uint32_t i = 0; i < count_; i++)
        if (nodes_[i].kind == Node::range) cut[nodes_[i].low] = cut[nodes_[i].high + 1] = true;
    std::uint8_t first[256];
    for (int b = 0; b < 256; b++) {
        if (cut[b]) first[t.classes++] = static_cast<std::uint8_t>(b);
        t.byte_class[b] = static_cast<std::uint8_t>(t.classes - 1);
    }
    const auto k = static_cast<std::size_t>(t.classes);
    auto* const seen = heap_.take<std::uint32_t>(count_);
    auto* const stack = heap_.take<std::uint32_t>(count_ + 1);
    auto* const list = heap_.take<std::uint32_t>(count_);
    if (list == nullptr) return full();
    std::fill_n(seen, count_, 0u);
    // Half of what is left for the table and its sets, the rest to minimize.
    const std::size_t half = heap_.left() / 2;
    const std::size_t most = std::min<std::size_t>(Automaton::max_states, half / 2 / (k * 2 + 16));
    const std::size_t room = half / 2 / sizeof(std::uint32_t);
    std::size_t slots = 16;
    while (slots < 2 * most) slots *= 2;
    auto* const sets = heap_.take<std::uint32_t>(room);
    auto* const begin = heap_.take<std::uint32_t>(most + 1);
    auto* const table = heap_.take<std::uint16_t>(slots);
    t.label = heap_.take<std::uint16_t>(most);
    if (most == 0 || sets == nullptr || begin == nullptr || table == nullptr || t.label == nullptr) return full();
    t.next = heap_.take<std::uint16_t>(most * k);
    if (t.next == nullptr) return full();
    std::fill_n(table, slots, Automaton::dead);
    std::uint32_t mark_of_seen = 0;
    std::size_t size = 0;
    // Puts what n leads to without a byte on the list: nodes that take one, and ends.
    const auto follow = [&](std::uint32_t n, bool at_begin, bool at_end) {
        std::size_t depth = 0;
        const auto visit = [&](std::uint32_t m) {
            if (m == nowhere || seen[m] == mark_of_seen) return;
            seen[m] = mark_of_seen;
            stack[depth++] = m;
        };
        visit(n);
        while (depth > 0) {
            const std::uint32_t m = stack[--depth];
            const Node& node = nodes_[m];
            switch (node.kind) {
                case Node::split:
                    visit(node.next);
                    visit(node.other);
                    break;
                case Node::at_begin:
                    if (at_begin) visit(node.next);
                    break;
                case Node::at_end:
                    if (at_end) visit(node.next);
                    else list[size++] = m;
                    break;
                default: list[size++] = m;
            }
        }
    };
    bool out_of_memory = false, too_many = false;
    // The state of the set on the list; a new one when there is none.
    const auto state_of = [&](bool at_begin) {
        std::sort(list, list + size);
        std::uint64_t h = 1;
        for (std::size_t i = 0; i < size; i++) h = (h ^ list[i]) * 0x9E3779B97F4A7C15u, h ^= h >> 32;
        std::size_t at = h & (slots - 1);
        for (; !at_begin && table[at] != Automaton::dead; at = (at + 1) & (slots - 1)) {
            const std::uint16_t s = table[at];
            if (begin[s + 1u] - begin[s] == size && std::equal(list, list + size, sets + begin[s])) return s;
        }
        const auto s = static_cast<std::uint16_t>(t.states);
        if (static_cast<std::size_t>(t.states) == most || begin[s] + size > room) {
            too_many = most == Automaton::max_states && static_cast<std::size_t>(t.states) == most;
            out_of_memory = true;
            return Automaton::dead;
        }
        t.states++;
        if (!at_begin) table[at] = s;  // where it begins, more may be true of the same set
        std::copy(list, list + size, sets + begin[s]);
        begin[s + 1u] = begin[s] + static_cast<std::uint32_t>(size);
        // May the text end here?
        mark_of_seen++;
        size = 0;
        const std::uint32_t set_begin = begin[s], set_end = begin[s + 1u];
        for (std::uint32_t i = set_begin; i < set_end; i++) follow(sets[i], at_begin, true);
        t.label[s] = std::any_of(list, list + size, [&](std::uint32_t n) { return nodes_[n].kind == Node::match; });
        return s;
    };
    begin[0] = 0;
    mark_of_seen++;
    follow(start, true, false);
    state_of(true);
    for (int s = 0; s < t.states && !out_of_memory; s++)
        for (std::size_t c = 0; c < k && !out_of_memory; c++) {
            size = 0;
            mark_of_seen++;
            for (std::uint32_t i = begin[s]; i < begin[s + 1]; i++) {
                const Node& n = nodes_[sets[i]];
                if (n.kind == Node::range && n.low <= first[c] && first[c] <= n.high) follow(n.next, false, false);
            }
            t.next[static_cast<std::size_t>(s) * k + c] = size == 0 ? Automaton::dead : state_of(false);
        }
    if (too_many) return Error::make(Code::text_too_long, "the pattern has more than %d states", Automaton::max_states);
    if (out_of_memory) return full();
    heap_.release(heap_.used() - (most - static_cast<std::size_t>(t.states)) * k * sizeof *t.next);
    return minimal(t, heap_, mark);
}

}  // namespace

Result<Automaton> regex(std::string_view pattern, bool whole, Encoding encoding, Heap& heap) {
    Builder builder(pattern, encoding, heap);
    return builder.build(whole);
}

}  // namespace slmd::grammar
