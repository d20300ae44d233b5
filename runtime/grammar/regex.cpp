#include "grammar/regex.h"

#include <algorithm>
#include <cstring>

#include "base/utf8.h"
#include "grammar/raw.h"

// Pattern -> syntax tree -> automaton with several ways at once (Thompson 1968) over bytes -> subset construction ->
// minimal().
namespace slmd::grammar {
namespace {

constexpr std::uint16_t dead = Automaton::dead;
constexpr int max_depth = 64;  // groups within groups: the parser and the builder recurse
constexpr std::uint32_t max_nodes = 65535;
constexpr std::uint32_t max_steps = 1u << 23;  // no pattern takes longer to build than some tenths of a second
constexpr std::uint32_t unbounded = 0xFFFFFFFFu;

Error too_large() {
    return Error::make(Code::text_too_long, "pattern: too large or too many ways at once; shorten its repetitions");
}

struct Range {
    std::uint32_t low, high;  // code points
};

enum class Kind : std::uint8_t { set, sequence, choice, repeat, begin, end, word_edge, no_word_edge };

// A node of the syntax tree. Children hang on their parent from the last to the first, the order in which the automaton
// is built.
struct Part {
    Kind kind;
    std::uint32_t last;         // sequence, choice: the last child; repeat: the only one; set: its first range
    std::uint32_t previous;     // the child before this one
    std::uint32_t least, most;  // repeat; set: least is the number of ranges
};
constexpr std::uint32_t none = 0xFFFFFFFFu;

constexpr Range digits[] = {{'0', '9'}};
constexpr Range word_characters[] = {{'0', '9'}, {'A', 'Z'}, {'_', '_'}, {'a', 'z'}};
constexpr Range white_space[] = {{0x09, 0x0D},     {0x20, 0x20},     {0xA0, 0xA0},     {0x1680, 0x1680},
                                 {0x2000, 0x200A}, {0x2028, 0x2029}, {0x202F, 0x202F}, {0x205F, 0x205F},
                                 {0x3000, 0x3000}, {0xFEFF, 0xFEFF}};
constexpr Range line_ends[] = {{'\n', '\n'}, {'\r', '\r'}, {0x2028, 0x2029}};
constexpr Range surrogates = {0xD800, 0xDFFF};
constexpr std::uint32_t last_code = 0x10FFFF;

class Parser {
  public:
    Parser(std::string_view pattern, Heap& heap) : text_(pattern), heap_(heap) {}

    // The root of the tree.
    Result<std::uint32_t> parse() {
        // No byte makes more than two parts: an opening parenthesis a choice and a sequence.
        if (text_.size() > 0xFFFF) return Error::make(Code::text_too_long, "pattern: longer than 65535 bytes");
        for (std::size_t i = 0; i < text_.size();) {
            const int n = utf8_length(text_.substr(i));
            if (n <= 0) return wrong("not UTF-8", i);
            i += static_cast<std::size_t>(n);
        }
        parts_ = heap_.take<Part>(2 * text_.size() + 2);
        ranges_ = heap_.take<Range>(0);
        if (parts_ == nullptr || ranges_ == nullptr) return heap_full();
        ranges_mark_ = heap_.used();
        const std::uint32_t root = TRY(choice(0));
        if (at_ < text_.size()) return wrong("unmatched )", at_);
        return root;
    }
    const Part* parts() const { return parts_; }
    const Range* ranges() const { return ranges_; }
    bool word_edges() const { return word_edges_; }

  private:
    static Error wrong(const char* what, std::size_t at) {
        return Error::make(Code::incorrect_parameters, "pattern: %s at byte %zu", what, at);
    }
    static Error refused(const char* what, std::size_t at) {
        return Error::make(Code::not_supported, "pattern: %s at byte %zu is not supported", what, at);
    }

    bool more() const { return at_ < text_.size(); }
    bool next_is(std::string_view what) const { return text_.substr(at_).starts_with(what); }
    bool take(char c) {
        if (!more() || text_[at_] != c) return false;
        at_++;
        return true;
    }
    // The next code point; there is one.
    std::uint32_t take_code() {
        const auto n = static_cast<std::size_t>(utf8_length(text_.substr(at_)));
        const auto byte = [&](std::size_t i) -> std::uint32_t { return static_cast<unsigned char>(text_[at_ + i]); };
        std::uint32_t code = n == 1 ? byte(0) : byte(0) & (0x7Fu >> n);
        for (std::size_t i = 1; i < n; i++) code = code << 6 | (byte(i) & 0x3F);
        at_ += n;
        return code;
    }

    std::uint32_t add(Kind kind) {
        parts_[part_count_] = {kind, none, none, 0, 0};
        return part_count_++;
    }
    void append(std::uint32_t parent, std::uint32_t child) {
        parts_[child].previous = parts_[parent].last;
        parts_[parent].last = child;
    }

    Result<std::uint32_t> choice(int depth) {
        const std::uint32_t all = add(Kind::choice);
        do {
            const std::uint32_t one = add(Kind::sequence);
            append(all, one);
            while (more() && text_[at_] != '|' && text_[at_] != ')') {
                std::uint32_t part = TRY(term(depth));
                append(one, part);
            }
        } while (take('|'));
        return all;
    }

    Result<std::uint32_t> term(int depth) {
        std::uint32_t part = none;
        switch (text_[at_]) {
            case '^': at_++; return add(Kind::begin);
            case '$': at_++; return add(Kind::end);
            case '(': part = TRY(group(depth)); break;
            case '[': part = TRY(bracket()); break;
            case '.':
                at_++;
                part = begin_set();
                TRY(add_all_but(line_ends));
                TRY(end_set(part, false));
                break;
            case '*':
            case '+':
            case '?': return wrong("nothing to repeat", at_);
            case '{': return wrong("{ without anything to repeat (the character is written \\{)", at_);
            case '}': return wrong("unmatched } (the character is written \\})", at_);
            case ']': return wrong("unmatched ] (the character is written \\])", at_);
            case '\\':
                if (next_is("\\b") || next_is("\\B")) {
                    word_edges_ = true;
                    at_ += 2;
                    return add(text_[at_ - 1] == 'b' ? Kind::word_edge : Kind::no_word_edge);
                }
                [[fallthrough]];
            default: {
                part = begin_set();
                const Item one = TRY(item(false));
                if (!one.is_class) TRY(add_range(one.code, one.code));
                TRY(end_set(part, false));
            }
        }
        return repeated(part);
    }

    Result<std::uint32_t> repeated(std::uint32_t part) {
        std::uint32_t least = 0, most = unbounded;
        const std::size_t at = at_;
        if (take('+')) {
            least = 1;
        } else if (take('?')) {
            most = 1;
        } else if (take('{')) {
            const bool first = number(least);
            most = least;
            if (take(',') && !number(most)) most = unbounded;
            if (!first || !take('}')) return wrong("{ that is not {n}, {n,} or {n,m}", at);
            if (least > most) return wrong("numbers in the wrong order in {n,m}", at);
        } else if (!take('*')) {
            return part;
        }
        (void)take('?');  // a lazy one finds the same texts
        if (more() && (text_[at_] == '*' || text_[at_] == '+' || text_[at_] == '?' || text_[at_] == '{'))
            return wrong("a repetition of a repetition", at_);
        const std::uint32_t repeat = add(Kind::repeat);
        parts_[repeat].last = part, parts_[repeat].least = least, parts_[repeat].most = most;
        return repeat;
    }

    // Saturates where any repetition is too large anyway.
    bool number(std::uint32_t& value) {
        const std::size_t start = at_;
        value = 0;
        while (more() && text_[at_] >= '0' && text_[at_] <= '9')
            value = std::min(value * 10 + static_cast<std::uint32_t>(text_[at_++] - '0'), 100'000'000u);
        return at_ > start;
    }

    Result<std::uint32_t> group(int depth) {
        const std::size_t start = at_++;
        if (depth == max_depth)
            return Error::make(Code::not_supported, "pattern: groups nested deeper than %d at byte %zu", max_depth,
                               start);
        if (take('?')) {
            if (next_is("=") || next_is("!")) return refused("a lookahead", start);
            if (next_is("<=") || next_is("<!")) return refused("a lookbehind", start);
            if (take('<')) {
                TRY(name(start));
            } else if (!take(':')) {
                if (next_is("i") || next_is("m") || next_is("s") || next_is("-")) return refused("a modifier", start);
                return wrong("unknown group", start);
            }
        }
        const std::uint32_t part = TRY(choice(depth + 1));
        if (!take(')')) return wrong("unmatched (", start);
        return part;
    }

    Result<void> name(std::size_t group_start) {
        const std::size_t start = at_;
        for (; more() && text_[at_] != '>'; at_++) {
            const auto c = static_cast<unsigned char>(text_[at_]);
            const bool digit = c >= '0' && c <= '9';
            const bool fits = c >= 0x80 || c == '_' || c == '$' || (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') ||
                              (digit && at_ > start);
            if (!fits) return wrong("wrong character in a group's name", at_);
        }
        if (at_ == start || !take('>')) return wrong("wrong name of the group", group_start);
        return {};
    }

    // A set's ranges lie one after another, as nothing else is taken from the heap while patterns are read.
    std::uint32_t begin_set() {
        const std::uint32_t part = add(Kind::set);
        parts_[part].last = range_count_;
        return part;
    }
    Result<void> add_range(std::uint32_t low, std::uint32_t high) {
        Range* const r = heap_.take<Range>(1);
        if (r == nullptr) return heap_full();
        *r = {low, high};
        range_count_++;
        return {};
    }
    Result<void> add_all(std::span<const Range> list) {
        for (const Range& r : list) TRY(add_range(r.low, r.high));
        return {};
    }
    Result<void> add_all_but(std::span<const Range> sorted) {
        std::uint32_t from = 0;
        for (const Range& r : sorted) {
            if (r.low > from) TRY(add_range(from, r.low - 1));
            from = r.high + 1;
        }
        if (from <= last_code) TRY(add_range(from, last_code));
        return {};
    }
    // Sorts, joins and negates the ranges, and takes the surrogates out, which no text has.
    Result<void> end_set(std::uint32_t part, bool negated) {
        const std::uint32_t first = parts_[part].last, end = range_count_;
        Range* const in = ranges_ + first;
        std::sort(in, ranges_ + end, [](const Range& a, const Range& b) { return a.low < b.low; });
        const auto keep = [&](std::uint32_t low, std::uint32_t high) -> Result<void> {
            if (low < surrogates.low) TRY(add_range(low, std::min(high, surrogates.low - 1)));
            if (high > surrogates.high) TRY(add_range(std::max(low, surrogates.high + 1), high));
            return {};
        };
        std::uint32_t from = 0;  // what is negated: behind all that came
        for (const Range *r = in, *next; r < ranges_ + end; r = next) {
            std::uint32_t high = r->high;
            for (next = r + 1; next < ranges_ + end && next->low <= high + 1; next++) high = std::max(high, next->high);
            if (!negated) {
                TRY(keep(r->low, high));
            } else {
                if (r->low > from) TRY(keep(from, r->low - 1));
                from = high + 1;
            }
        }
        if (negated && from <= last_code) TRY(keep(from, last_code));
        std::memmove(in, ranges_ + end, (range_count_ - end) * sizeof *in);
        parts_[part].least = range_count_ - end;
        range_count_ = first + parts_[part].least;
        heap_.release(ranges_mark_ + range_count_ * sizeof *in);
        return {};
    }

    Result<std::uint32_t> bracket() {
        const std::size_t start = at_++;
        const bool negated = take('^');
        const std::uint32_t part = begin_set();
        while (!take(']')) {
            if (!more()) return wrong("unmatched [", start);
            const std::size_t at = at_;
            const Item low = TRY(item(true));
            if (at_ + 1 < text_.size() && text_[at_] == '-' && text_[at_ + 1] != ']') {
                at_++;
                const Item high = TRY(item(true));
                if (low.is_class || high.is_class) return wrong("a range that begins or ends with a class", at);
                if (low.code > high.code) return wrong("a range in the wrong order", at);
                TRY(add_range(low.code, high.code));
            } else if (!low.is_class) {
                TRY(add_range(low.code, low.code));
            }
        }
        TRY(end_set(part, negated));
        return part;
    }

    struct Item {
        bool is_class;  // its ranges are already in the set
        std::uint32_t code;
    };
    // One character of the pattern, or one escape that stands for characters.
    Result<Item> item(bool in_bracket) {
        const std::size_t start = at_;
        if (!take('\\')) return Item{false, take_code()};
        if (!more()) return wrong("\\ without a character", start);
        const char c = text_[at_];
        const auto all = [&](Result<void> added) -> Result<Item> {
            if (!added) return added.error();
            return Item{true, 0};
        };
        at_++;
        switch (c) {
            case 'd': return all(add_all(digits));
            case 'D': return all(add_all_but(digits));
            case 'w': return all(add_all(word_characters));
            case 'W': return all(add_all_but(word_characters));
            case 's': return all(add_all(white_space));
            case 'S': return all(add_all_but(white_space));
            case 't': return Item{false, '\t'};
            case 'n': return Item{false, '\n'};
            case 'v': return Item{false, '\v'};
            case 'f': return Item{false, '\f'};
            case 'r': return Item{false, '\r'};
            case 'b':  // outside of brackets it is an edge of a word, and does not come here
                return Item{false, '\b'};
            case '0':
                if (more() && text_[at_] >= '0' && text_[at_] <= '9') return wrong("\\0 before a digit", start);
                return Item{false, 0};
            case 'c': {
                const char letter = more() ? text_[at_] : '0';
                if ((letter < 'a' || letter > 'z') && (letter < 'A' || letter > 'Z'))
                    return wrong("\\c without a letter", start);
                at_++;
                return Item{false, static_cast<std::uint32_t>(letter & 31)};
            }
            case 'x': {
                std::uint32_t code = 0;
                if (!hex(2, code)) return wrong("\\x without two hexadecimal digits", start);
                return Item{false, code};
            }
            case 'u': return unicode(start);
            case 'p':
            case 'P': return refused("a Unicode property (\\p)", start);
            default: break;
        }
        if (!in_bracket && ((c >= '1' && c <= '9') || c == 'k')) return refused("a backreference", start);
        const bool letter_or_digit = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9');
        if (letter_or_digit || c <= ' ' || c > '~') return wrong("unknown escape", start);
        return Item{false, static_cast<std::uint32_t>(c)};
    }

    Result<Item> unicode(std::size_t start) {
        std::uint32_t code = 0;
        if (take('{')) {
            const std::size_t first = at_;
            for (std::uint32_t digit = 0; code <= last_code && hex(1, digit);) code = code << 4 | digit;
            if (at_ == first || code > last_code || !take('}')) return wrong("wrong \\u{..}", start);
            return Item{false, code};
        }
        if (!hex(4, code)) return wrong("\\u without four hexadecimal digits", start);
        if (code < 0xD800 || code > 0xDBFF || !next_is("\\u")) return Item{false, code};
        const std::size_t back = at_;
        std::uint32_t low = 0;
        at_ += 2;
        if (hex(4, low) && low >= 0xDC00 && low <= 0xDFFF)
            return Item{false, 0x10000 + ((code - 0xD800) << 10 | (low - 0xDC00))};
        at_ = back;
        return Item{false, code};
    }

    bool hex(int count, std::uint32_t& value) {
        value = 0;
        if (text_.size() - at_ < static_cast<std::size_t>(count)) return false;
        for (int i = 0; i < count; i++) {
            const char c = text_[at_ + static_cast<std::size_t>(i)];
            const int digit = c >= '0' && c <= '9'   ? c - '0'
                              : c >= 'a' && c <= 'f' ? c - 'a' + 10
                              : c >= 'A' && c <= 'F' ? c - 'A' + 10
                                                     : -1;
            if (digit < 0) return false;
            value = value << 4 | static_cast<std::uint32_t>(digit);
        }
        at_ += static_cast<std::size_t>(count);
        return true;
    }

    std::string_view text_;
    Heap& heap_;
    std::size_t at_ = 0, ranges_mark_ = 0;
    Part* parts_ = nullptr;
    Range* ranges_ = nullptr;
    std::uint32_t part_count_ = 0, range_count_ = 0;
    bool word_edges_ = false;
};

enum class Op : std::uint8_t { bytes, split, begin, end, word_edge, no_word_edge, accept, fail };

struct Node {
    static constexpr std::uint8_t last = 1;   // bytes: a state's edges are a run of nodes, named by its first
    static constexpr std::uint8_t inner = 2;  // bytes: within a character
    static constexpr std::uint8_t tail = 4;   // belongs to what accepts every text that goes on
    static constexpr std::uint8_t alive = 8;  // accepts something after the first byte
    Op op;
    std::uint8_t low, high, flags;
    std::uint16_t to, other;  // other: split
};

// Built backwards, so that every part knows what comes behind it and no state is without bytes.
class Builder {
  public:
    Builder(const Parser& parser, Encoding encoding, Heap& heap)
        : parts_(parser.parts()), ranges_(parser.ranges()), json_(encoding == Encoding::json), heap_(heap) {}

    // Where it starts. Errors: memory_full, text_too_long.
    Result<std::uint16_t> build(std::uint32_t root, bool whole) {
        nodes_ = heap_.take<Node>(0);
        if (nodes_ == nullptr) return heap_full();
        static constexpr Range any[] = {{0, surrogates.low - 1}, {surrogates.high + 1, last_code}};
        flags_ = whole ? 0 : Node::tail;
        std::uint16_t behind = add({Op::accept, 0, 0, 0, 0, 0});
        if (!whole) {
            const std::uint16_t loop = add({Op::split, 0, 0, 0, 0, behind});
            set_target(loop, set(any, loop));
            flags_ = 0;
            behind = loop;
        }
        std::uint16_t start = part(root, behind);
        if (!whole) {
            const std::uint16_t loop = add({Op::split, 0, 0, 0, 0, start});
            set_target(loop, set(any, loop));
            start = loop;
        }
        if (full_) return heap_full();
        if (large_) return too_large();
        mark_alive();
        return start;
    }
    std::span<const Node> nodes() const { return {nodes_, count_}; }

  private:
    bool failed() const { return full_ || large_; }

    std::uint16_t add(Node node) {
        if (failed()) return 0;
        if (count_ == max_nodes) {
            large_ = true;
            return 0;
        }
        Node* const n = heap_.take<Node>(1);  // the next of the array: nothing else is taken meanwhile
        if (n == nullptr) {
            full_ = true;
            return 0;
        }
        *n = node;
        n->flags |= flags_;
        return static_cast<std::uint16_t>(count_++);
    }
    void set_target(std::uint16_t split, std::uint16_t to) {
        if (!failed()) nodes_[split].to = to;
    }

    // The part, and `behind` behind it. A part without nodes is `behind` itself.
    std::uint16_t part(std::uint32_t index, std::uint16_t behind) {
        if (++steps_ > max_steps) large_ = true;
        if (failed()) return 0;
        const Part& p = parts_[index];
        switch (p.kind) {
            case Kind::set: return set({ranges_ + p.last, p.least}, behind);
            case Kind::begin: return add({Op::begin, 0, 0, 0, behind, 0});
            case Kind::end: return add({Op::end, 0, 0, 0, behind, 0});
            case Kind::word_edge: return add({Op::word_edge, 0, 0, 0, behind, 0});
            case Kind::no_word_edge: return add({Op::no_word_edge, 0, 0, 0, behind, 0});
            case Kind::sequence:
                for (std::uint32_t child = p.last; child != none; child = parts_[child].previous)
                    behind = part(child, behind);
                return behind;
            case Kind::choice: {
                std::uint16_t all = part(p.last, behind);
                for (std::uint32_t child = parts_[p.last].previous; child != none; child = parts_[child].previous) {
                    const std::uint16_t one = part(child, behind);
                    all = add({Op::split, 0, 0, 0, one, all});
                }
                return all;
            }
            case Kind::repeat: break;
        }
        std::uint32_t copies = p.least;
        std::uint16_t start = behind;
        if (p.most == unbounded) {
            const std::uint16_t loop = add({Op::split, 0, 0, 0, 0, behind});
            const std::uint16_t body = part(p.last, loop);
            set_target(loop, body);
            start = copies > 0 ? body : loop;
            if (copies > 0) copies--;
        } else {
            for (std::uint32_t i = p.least; i < p.most && !failed(); i++) {
                const std::uint16_t body = part(p.last, start);
                if (body == start) break;  // nothing, however often
                start = add({Op::split, 0, 0, 0, body, behind});
            }
        }
        for (std::uint32_t i = 0; i < copies && !failed(); i++) {
            const std::uint16_t body = part(p.last, start);
            if (body == start) break;
            start = body;
        }
        return start;
    }

    struct Edge {
        std::uint8_t low, high;
        std::uint16_t to;
    };
    // A state with these edges.
    std::uint16_t state(std::span<const Edge> edges, std::uint8_t flags) {
        if (edges.empty()) return fail();
        std::uint16_t first = 0;
        for (std::size_t i = 0; i < edges.size(); i++) {
            const auto f = static_cast<std::uint8_t>(flags | (i + 1 == edges.size() ? Node::last : 0));
            const std::uint16_t made = add({Op::bytes, edges[i].low, edges[i].high, f, edges[i].to, 0});
            if (i == 0) first = made;
        }
        return first;
    }

    // Always the same, so that a repetition of nothing ends.
    std::uint16_t fail() {
        if (!has_fail_) fail_ = add({Op::fail, 0, 0, 0, 0, 0});
        has_fail_ = true;
        return fail_;
    }

    // One character of the set: sorted ranges, without surrogates.
    std::uint16_t set(std::span<const Range> ranges, std::uint16_t behind) {
        any_rest_[0] = behind;
        any_rest_count_ = 1;
        Edge edges[256];
        std::size_t n = 0;
        // ASCII that JSON writes with an escape, bit by bit: 0 to 31 the controls, 32 the quote, 33 the backslash.
        std::uint64_t escaped = 0;
        for (const Range& r : ranges) {
            const auto plain = [&](std::uint32_t low, std::uint32_t high) {
                low = std::max(low, r.low), high = std::min(high, r.high);
                if (low <= high) edges[n++] = {static_cast<std::uint8_t>(low), static_cast<std::uint8_t>(high), behind};
            };
            if (!json_) {
                plain(0, 0x7F);
                continue;
            }
            for (std::uint32_t c = r.low; c < 0x20 && c <= r.high; c++) escaped |= std::uint64_t{1} << c;
            if (r.low <= '"' && r.high >= '"') escaped |= std::uint64_t{1} << 32;
            if (r.low <= '\\' && r.high >= '\\') escaped |= std::uint64_t{1} << 33;
            plain(0x20, '"' - 1);
            plain('"' + 1, '\\' - 1);
            plain('\\' + 1, 0x7F);
        }
        if (escaped != 0) edges[n++] = {'\\', '\\', escapes(escaped, behind)};
        gather(ranges, 0x80, 0x7FF, 1, 0xC0, edges, n);
        gather(ranges, 0x800, 0xFFFF, 2, 0xE0, edges, n);
        gather(ranges, 0x10000, last_code, 3, 0xF0, edges, n);
        return state({edges, n}, 0);
    }

    // n more bytes, 80 to BF each.
    std::uint16_t any_rest(int n) {
        while (any_rest_count_ <= n) {
            const Edge edge[] = {{0x80, 0xBF, any_rest_[any_rest_count_ - 1]}};
            any_rest_[any_rest_count_] = state(edge, Node::inner);
            any_rest_count_++;
        }
        return any_rest_[n];
    }

    // Edges for the code points of low to high in the set. They have the same bytes up to this one, which has the bits
    // of `prefix` and six of the code point's; `rest` bytes follow.
    void gather(std::span<const Range> ranges, std::uint32_t low, std::uint32_t high, int rest, std::uint8_t prefix,
                Edge* edges, std::size_t& n) {
        const int shift = 6 * rest;
        const auto byte = [&](std::uint32_t code) {
            return static_cast<std::uint8_t>(prefix | (code >> shift & 0x3F));
        };
        std::size_t i = 0;
        for (std::uint32_t code = low; !failed();) {
            while (i < ranges.size() && ranges[i].high < code) i++;
            if (i == ranges.size() || ranges[i].low > high) return;
            code = std::max(code, ranges[i].low);
            const std::uint32_t block = code >> shift << shift, block_end = block + (1u << shift) - 1;
            const std::uint32_t in_range = std::min(ranges[i].high, high);
            if (code == block && in_range >= block_end) {
                const std::uint32_t full_end = ((in_range + 1) >> shift << shift) - 1;
                edges[n++] = {byte(code), byte(full_end), any_rest(rest)};
                if (full_end >= high) return;
                code = full_end + 1;
            } else {
                Edge inner[64];
                std::size_t count = 0;
                gather(ranges.subspan(i), code, std::min(block_end, high), rest - 1, 0x80, inner, count);
                edges[n++] = {byte(code), byte(code), state({inner, count}, Node::inner)};
                if (block_end >= high) return;
                code = block_end + 1;
            }
        }
    }

    // What follows the backslash.
    std::uint16_t escapes(std::uint64_t escaped, std::uint16_t behind) {
        Edge edges[40];
        std::size_t n = 0;
        std::uint16_t long_forms[2] = {};  // bit by bit: the last digits of \u000x and of \u001x
        for (unsigned i = 0; i < 34; i++) {
            if ((escaped >> i & 1) == 0) continue;
            unsigned char form[6];
            const int length = json_character(static_cast<unsigned char>(i == 32 ? '"' : i == 33 ? '\\' : i), form);
            if (length == 2)
                edges[n++] = {form[1], form[1], behind};
            else
                long_forms[i >> 4] = static_cast<std::uint16_t>(long_forms[i >> 4] | 1u << (i & 15));
        }
        if (long_forms[0] != 0 || long_forms[1] != 0) {
            Edge tens[2];
            std::size_t ten_count = 0;
            for (unsigned ten = 0; ten < 2; ten++) {
                Edge last[16];
                std::size_t count = 0;
                for (unsigned i = 0; i < 16; i++) {
                    if ((long_forms[ten] >> i & 1) == 0) continue;
                    const auto digit = static_cast<std::uint8_t>("0123456789abcdef"[i]);
                    if (count > 0 && last[count - 1].high + 1 == digit)
                        last[count - 1].high = digit;
                    else
                        last[count++] = {digit, digit, behind};
                }
                const auto digit = static_cast<std::uint8_t>('0' + ten);
                if (count > 0) tens[ten_count++] = {digit, digit, state({last, count}, Node::inner)};
            }
            std::uint16_t at = state({tens, ten_count}, Node::inner);
            for (int i = 0; i < 2; i++) {
                const Edge zero[] = {{'0', '0', at}};
                at = state(zero, Node::inner);
            }
            edges[n++] = {'u', 'u', at};
        }
        return state({edges, n}, Node::inner);
    }

    // Of what a pattern that begins with ^ has besides it nothing is kept after the first byte. One pass will do: a
    // node's way to the accepting one leads over nodes made before it, loops excepted, which lead back.
    void mark_alive() {
        const auto alive = [&](std::uint16_t i) { return (nodes_[i].flags & Node::alive) != 0; };
        for (std::uint32_t i = 0; i < count_; i++) {
            std::uint32_t end = i;
            bool lives = false;
            switch (nodes_[i].op) {
                case Op::accept: lives = true; break;
                case Op::begin:
                case Op::fail: break;
                case Op::split: lives = alive(nodes_[i].other) || alive(nodes_[i].to); break;
                case Op::bytes:
                    for (;; end++) {
                        lives = lives || alive(nodes_[end].to);
                        if ((nodes_[end].flags & Node::last) != 0) break;
                    }
                    break;
                default: lives = alive(nodes_[i].to);
            }
            if (lives) nodes_[i].flags |= Node::alive;
            i = end;
        }
    }

    const Part* parts_;
    const Range* ranges_;
    bool json_;
    Heap& heap_;
    Node* nodes_ = nullptr;
    std::uint32_t count_ = 0, steps_ = 0;
    std::uint8_t flags_ = 0;
    bool full_ = false, large_ = false, has_fail_ = false;
    std::uint16_t fail_ = 0;
    std::uint16_t any_rest_[4] = {};
    int any_rest_count_ = 0;
};

bool is_word(std::uint32_t c) {
    for (const Range& r : word_characters)
        if (c >= r.low && c <= r.high) return true;
    return false;
}

// Subset construction. A state is a sorted list of nodes: those that read bytes, accept, or are assertions of which it
// is decided only by what follows.
class Subsets {
  public:
    Subsets(std::span<const Node> nodes, bool word_edges, Heap& heap)
        : nodes_(nodes), word_edges_(word_edges), heap_(heap), sets_(heap, 1), index_(heap) {}

    // Errors: memory_full, text_too_long.
    Result<Automaton> run(std::uint16_t start, std::size_t mark) {
        const std::size_t n = nodes_.size();
        stamp_ = heap_.take<std::uint32_t>(n);
        stack_ = heap_.take<std::uint16_t>(n);
        list_ = heap_.take<std::uint16_t>(n);
        const auto seen = heap_.take<std::uint8_t>(256 * 256 / 8);
        if (stamp_ == nullptr || stack_ == nullptr || list_ == nullptr || seen == nullptr) return heap_full();
        std::fill_n(stamp_, n, 0u);
        byte_classes(seen);
        if (word_edges_) {
            before_[0] = heap_.take<std::uint16_t>(n), before_[1] = heap_.take<std::uint16_t>(n);
            if (before_[0] == nullptr || before_[1] == nullptr) return heap_full();
        }

        Raw raw(heap_, class_, classes_);
        TRY(find(raw, {&start, 1}, Set::begin));
        for (int s = 0; s < raw.states(); s++) TRY(expand(raw, static_cast<std::uint16_t>(s)));
        return minimal(raw, heap_, mark);
    }

  private:
    enum class Next : std::uint8_t { unknown, word, other, end };
    struct Set {
        static constexpr std::uint8_t begin = 1;       // nothing was read
        static constexpr std::uint8_t after_word = 2;  // only where it may matter
        static constexpr std::uint8_t word_edge = 4;   // waits for what comes next
        static constexpr std::uint8_t at_end = 8;      // has an assertion of the end
        const std::uint16_t* node;
        std::uint32_t count, hash;
        std::uint8_t flags;
        std::span<const std::uint16_t> nodes() const { return {node, count}; }
    };

    // Bytes that no node tells apart are one class, numbered by the first of each.
    void byte_classes(std::uint8_t* seen) {
        std::memset(seen, 0, 256 * 256 / 8);
        std::memset(class_, 0, sizeof class_);
        classes_ = 1;
        if (word_edges_)
            for (const Range& r : word_characters) tell_apart(r.low, r.high);
        for (const Node& node : nodes_) {
            if (node.op != Op::bytes) continue;
            const unsigned key = node.low * 256u + node.high;
            if ((seen[key / 8] >> key % 8 & 1) != 0) continue;
            seen[key / 8] = static_cast<std::uint8_t>(seen[key / 8] | 1u << key % 8);
            tell_apart(node.low, node.high);
        }
        for (int b = 0, c = 0; b < 256; b++) {
            first_class_[b] = static_cast<std::uint16_t>(c);
            if (class_[b] == c) example_[c++] = static_cast<std::uint8_t>(b);
        }
        first_class_[256] = static_cast<std::uint16_t>(classes_);
    }
    void tell_apart(std::uint32_t low, std::uint32_t high) {
        std::int16_t renamed[2][256];
        std::memset(renamed, 0xFF, sizeof renamed);
        classes_ = 0;
        for (std::uint32_t b = 0; b < 256; b++) {
            std::int16_t& name = renamed[b >= low && b <= high][class_[b]];
            if (name < 0) name = static_cast<std::int16_t>(classes_++);
            class_[b] = static_cast<std::uint8_t>(name);
        }
    }

    // Where one gets from these nodes without reading: into list_.
    void close(std::span<const std::uint16_t> from, bool begin, bool after_word, Next next) {
        count_ = 0, flags_ = 0;
        generation_++;
        bool tail = false;
        std::size_t depth = 0;
        const auto visit = [&](std::uint16_t i) {
            if (stamp_[i] == generation_ || (!begin && (nodes_[i].flags & Node::alive) == 0)) return;
            stamp_[i] = generation_;
            stack_[depth++] = i;
        };
        for (const std::uint16_t f : from) visit(f);
        while (depth > 0) {
            const std::uint16_t i = stack_[--depth];
            const Node& node = nodes_[i];
            steps_++;
            bool keep = false;
            switch (node.op) {
                case Op::split:
                    visit(node.to);
                    visit(node.other);
                    break;
                case Op::bytes:
                case Op::accept:
                    keep = true;
                    tail = tail || (node.flags & Node::tail) != 0;
                    break;
                case Op::begin:
                    if (begin) visit(node.to);
                    break;
                case Op::end:
                    if (next == Next::end) visit(node.to);
                    if (next == Next::unknown) keep = true, flags_ |= Set::at_end;
                    break;
                case Op::word_edge:
                case Op::no_word_edge:
                    if (next == Next::unknown)
                        keep = true, flags_ |= Set::word_edge;
                    else if ((after_word != (next == Next::word)) == (node.op == Op::word_edge))
                        visit(node.to);
                    break;
                case Op::fail: break;
            }
            if (keep) list_[count_++] = i;
        }
        if (tail) {
            // What accepts every text that goes on accepts what the others do.
            std::size_t kept = 0;
            for (std::size_t i = 0; i < count_; i++)
                if ((nodes_[list_[i]].flags & Node::tail) != 0) list_[kept++] = list_[i];
            count_ = kept, flags_ = 0;
        }
    }

    // The state for where one gets from these nodes; dead when that is nowhere.
    Result<std::uint16_t> find(Raw& raw, std::span<const std::uint16_t> from, std::uint8_t arrival) {
        close(from, arrival == Set::begin, arrival == Set::after_word, Next::unknown);
        if (count_ == 0 && arrival != Set::begin) return dead;
        std::sort(list_, list_ + count_);
        std::uint8_t flags = flags_;
        // An edge of a word may also stand behind an assertion of the end.
        if (arrival == Set::begin || (flags & (Set::word_edge | Set::at_end)) != 0) flags |= arrival;
        std::uint32_t hash = 2166136261u + flags;
        for (std::size_t i = 0; i < count_; i++) hash = (hash ^ list_[i]) * 16777619u;
        hash ^= hash >> 15;
        std::uint16_t* const at = index_.find(
            hash, raw.states(),
            [&](std::uint16_t s) {
                const Set& set = *sets_[s];
                return set.hash == hash && set.flags == flags && set.count == count_ &&
                       std::equal(list_, list_ + count_, set.node);
            },
            [&](std::uint16_t s) { return sets_[s]->hash; });
        if (at == nullptr) return heap_full();
        if (*at != dead) return *at;
        const std::uint16_t made = TRY(raw.add());
        Set* const set = sets_.add();
        auto* const kept = heap_.take<std::uint16_t>(count_);
        if (set == nullptr || kept == nullptr) return heap_full();
        std::copy_n(list_, count_, kept);
        *set = {kept, static_cast<std::uint32_t>(count_), hash, flags};
        *at = made;
        return made;
    }

    Result<void> expand(Raw& raw, std::uint16_t state) {
        const Set set = *sets_[state];
        const bool begin = (set.flags & Set::begin) != 0, after_word = (set.flags & Set::after_word) != 0;
        const auto accepts_in = [&](std::span<const std::uint16_t> list) {
            return std::any_of(list.begin(), list.end(), [&](std::uint16_t i) { return nodes_[i].op == Op::accept; });
        };
        if ((set.flags & (Set::at_end | Set::word_edge)) != 0) {
            close(set.nodes(), begin, after_word, Next::end);
            raw.label(state) = accepts_in({list_, count_});
        } else {
            raw.label(state) = accepts_in(set.nodes());
        }

        // The nodes that read when what is read belongs to a word [1] or not [0].
        std::span<const std::uint16_t> reading[2] = {set.nodes(), set.nodes()};
        if ((set.flags & Set::word_edge) != 0) {
            for (const int w : {0, 1}) {
                close(set.nodes(), begin, after_word, w == 1 ? Next::word : Next::other);
                std::copy_n(list_, count_, before_[w]);
                reading[w] = {before_[w], count_};
            }
        }
        bool within = true;  // a character: then the byte is no character of its own
        const auto each_edge = [&](auto&& take) {
            for (const int w : {0, 1}) {
                if (w == 1 && !word_edges_) break;
                for (const std::uint16_t first : reading[w]) {
                    if (nodes_[first].op != Op::bytes) continue;
                    for (const Node* node = &nodes_[first];; node++) {
                        within = within && (node->flags & Node::inner) != 0;
                        const unsigned end = first_class_[node->high + 1u];
                        for (unsigned c = first_class_[node->low]; c < end; c++, steps_++)
                            if (!word_edges_ || is_word(example_[c]) == (w == 1)) take(c, node->to);
                        if ((node->flags & Node::last) != 0) break;
                    }
                }
            }
        };
        // The targets of each class: counted, then filed.
        std::uint32_t at[257] = {};
        each_edge([&](unsigned c, std::uint16_t) { at[c + 1]++; });
        for (int c = 0; c < classes_; c++) at[c + 1] += at[c];
        if (at[classes_] > target_room_) {
            target_room_ = 2 * at[classes_];
            targets_ = heap_.take<std::uint16_t>(target_room_);
            if (targets_ == nullptr) return heap_full();
        }
        each_edge([&](unsigned c, std::uint16_t to) { targets_[at[c]++] = to; });
        // at[c] is now where class c ends.
        for (int c = 0; c < classes_; c++) {
            const auto begin_of = [&](int k) { return k == 0 ? 0u : at[k - 1]; };
            const std::span<const std::uint16_t> to{targets_ + begin_of(c), at[c] - begin_of(c)};
            if (to.empty()) continue;
            const std::uint8_t arrival = word_edges_ && !within && is_word(example_[c]) ? Set::after_word : 0;
            if (c > 0 && arrival == arrival_before_ && to.size() == at[c - 1] - begin_of(c - 1) &&
                std::equal(to.begin(), to.end(), targets_ + begin_of(c - 1))) {
                raw.next(state)[c] = raw.next(state)[c - 1];
                continue;
            }
            arrival_before_ = arrival;
            if (steps_ > max_steps) return too_large();
            raw.next(state)[c] = TRY(find(raw, to, arrival));
        }
        return {};
    }

    std::span<const Node> nodes_;
    bool word_edges_;
    Heap& heap_;
    Growing<Set> sets_;
    Index index_;
    std::uint8_t class_[256], example_[256];
    std::uint16_t first_class_[257];  // the first class whose example is not below a byte
    int classes_ = 0;
    std::uint32_t* stamp_ = nullptr;  // [nodes] the generation that has visited it
    std::uint32_t generation_ = 0, steps_ = 0;
    std::uint16_t *stack_ = nullptr, *list_ = nullptr;  // [nodes]
    std::uint16_t* before_[2] = {};                     // [nodes]
    std::uint16_t* targets_ = nullptr;
    std::uint32_t target_room_ = 0;
    std::size_t count_ = 0;
    std::uint8_t flags_ = 0, arrival_before_ = 0;
};

Result<Automaton> build(std::string_view pattern, bool whole, Encoding encoding, Heap& heap) {
    const std::size_t mark = heap.used();
    Parser parser(pattern, heap);
    const std::uint32_t root = TRY(parser.parse());
    Builder builder(parser, encoding, heap);
    const std::uint16_t start = TRY(builder.build(root, whole));
    return Subsets(builder.nodes(), parser.word_edges(), heap).run(start, mark);
}

}  // namespace

Result<Automaton> regex(std::string_view pattern, bool whole, Encoding encoding, Heap& heap) {
    const std::size_t mark = heap.used();
    Result<Automaton> made = build(pattern, whole, encoding, heap);
    if (!made) heap.release(mark);
    return made;
}

}  // namespace slmd::grammar
