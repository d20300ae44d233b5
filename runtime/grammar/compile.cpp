// From alternatives to rules: every set of schemas that a value may have to obey becomes a node.
#include <algorithm>
#include <cstdio>
#include <cstring>
#include <new>
#include <utility>

#include "base/utf8.h"
#include "grammar/expand.h"
#include "grammar/grammar.h"
#include "grammar/nodes.h"
#include "grammar/raw.h"
#include "grammar/regex.h"

namespace slmd::grammar {
namespace {

// A list that grows in scratch memory, where what it outgrows stays until the end.
template <class T>
struct List {
    T* data = nullptr;
    std::size_t size = 0, capacity = 0;

    Result<void> add(const T& value, Heap& heap) {
        if (size == capacity) {
            const std::size_t wanted = capacity == 0 ? 8 : 2 * capacity;
            T* const larger = heap.take<T>(wanted);
            if (larger == nullptr) return full();
            std::copy(data, data + size, larger);
            data = larger, capacity = wanted;
        }
        data[size++] = value;
        return {};
    }
    T& operator[](std::size_t i) { return data[i]; }
    std::span<T> view() { return {data, size}; }
    T* begin() const { return data; }
    T* end() const { return data + size; }
};

// Bytes of a string as it is written between quotes.
std::size_t json_bytes(std::string_view text) {
    std::size_t n = 0;
    unsigned char written[6];
    for (const char c : text) {
        const auto byte = static_cast<unsigned char>(c);
        n += byte < 0x80 ? static_cast<std::size_t>(json_character(byte, written)) : 1;
    }
    return n;
}

std::uint32_t characters(std::string_view text) {
    std::uint32_t n = 0;
    for (const char c : text) n += (static_cast<unsigned char>(c) & 0xC0) != 0x80;
    return n;
}

// RFC 3339, RFC 4122, RFC 2673, RFC 5321 and RFC 1123, as far as a regular expression says it; null: not known.
const char* format_pattern(std::string_view format) {
#define SLMD_DATE                                                                                                     \
    "[0-9]{4}-(?:(?:0[13578]|1[02])-(?:0[1-9]|[12][0-9]|3[01])|(?:0[469]|11)-(?:0[1-9]|[12][0-9]|30)|02-(?:0[1-9]|1[" \
    "0-9]|2[0-8]))"
#define SLMD_TIME \
    "(?:[01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](?:\\.[0-9]{1,9})?(?:Z|[+-](?:[01][0-9]|2[0-3]):[0-5][0-9])"
#define SLMD_LABEL "[A-Za-z0-9](?:[A-Za-z0-9-]{0,61}[A-Za-z0-9])?"
    constexpr std::pair<std::string_view, const char*> formats[] = {
        {"date", SLMD_DATE},
        {"time", SLMD_TIME},
        {"date-time", SLMD_DATE "T" SLMD_TIME},
        {"duration",
         "P(?:[0-9]{1,4}W|(?:[0-9]{1,4}Y)?(?:[0-9]{1,4}M)?[0-9]{1,4}D(?:T[0-9]{1,4}[HMS])?|[0-9]{1,4}[YMD]|T[0-9]{1,4}["
         "HMS])"},
        {"uuid", "[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}"},
        {"ipv4",
         "(?:(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])\\.){3}(?:25[0-5]|2[0-4][0-9]|1[0-9]{2}|[1-9]?[0-9])"},
        {"email",
         "[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+(?:\\.[A-Za-z0-9!#$%&'*+/=?^_`{|}~-]+)*@" SLMD_LABEL "(?:\\." SLMD_LABEL ")+"},
        {"hostname", SLMD_LABEL "(?:\\." SLMD_LABEL ")*"},
        {"uri", "[A-Za-z][A-Za-z0-9+.-]*:(?://)?[A-Za-z0-9._~:/?#@!$&'()*+,;=%-]+"},
    };
#undef SLMD_DATE
#undef SLMD_TIME
#undef SLMD_LABEL
    for (const auto& [name, pattern] : formats)
        if (name == format) return pattern;
    return nullptr;
}

class Compiler {
  public:
    Compiler(const Schema& schema, const CompileOptions& options, Heap& heap, Heap& scratch)
        : schema_(schema), options_(options), heap_(heap), scratch_(scratch), expander_(schema, scratch) {}
    Result<Grammar> run();

  private:
    static constexpr std::size_t max_nodes = 4096, max_set = 24, max_patterns = 12;

    // A set of literals, sorted, and the node that it becomes.
    struct Set {
        std::uint64_t hash;
        Literal* literals;
        std::size_t count;
    };
    struct LiteralList {
        Literal items[max_set];
        std::size_t count = 0;
        bool impossible = false;
        Result<void> add(Literal l) {
            if (count == max_set)
                return Error::make(Code::not_supported, "schema: more than %zu schemas hold for one value", max_set);
            items[count++] = l;
            return {};
        }
    };

    Result<std::uint16_t> node_of(const LiteralList& list);
    Result<void> build(std::size_t node);
    Result<const StringRule*> string_rule(const Draft& d);
    Result<const NumberRule*> number_rule(const Draft& d);
    Result<const ArrayRule*> array_rule(const Draft& d);
    Result<const ObjectRule*> object_rule(const Draft& d);
    Result<Automaton> pattern(const Fact& f, bool whole, std::string_view text);
    Result<Automaton> any_string();
    Result<Automaton> copied(const Automaton& a);
    Result<int> search(const Automaton& content);
    Result<void> check_searches() const;
    Result<void> literals_of(const Draft& d, std::string_view name, bool named, unsigned patterns, LiteralList& out);
    bool evaluates(const Fact* inner, std::string_view name, bool named, unsigned patterns) const;
    Result<std::uint16_t> shortest_other(const ObjectRule& rule);
    Result<void> count_others(ObjectRule& rule);
    bool in_list(const Fact& f, int node) const;
    template <class Rule>
    Result<std::span<const Rule* const>> kept(List<const Rule*>& list);
    template <class T>
    Result<T*> result(std::size_t n) {
        T* const p = heap_.take<T>(n);
        if (p == nullptr) return full();
        return p;
    }
    Error wrong(Code code, int node, const char* what) const {
        return Error::make(code, "schema, %s: %s", schema_.place(node).text, what);
    }
    Error at(int node, const Error& e) const {
        return Error::make(e.code, "schema, %s: %s", schema_.place(node).text, e.text);
    }

    const Schema& schema_;
    const CompileOptions& options_;
    Heap &heap_, &scratch_;
    Expander expander_;
    List<Set> sets_;
    List<Node> nodes_;
    Automaton any_{};
    bool has_any_ = false;
    Automaton searches_[Grammar::max_searches];
    std::size_t search_count_ = 0;
    List<std::pair<const StringRule*, int>> searching_;  // and where its "from" stands
    // Patterns of the object rule that is being built.
    struct {
        int node;  // where it stands
        std::string_view text;
        Automaton found;
    } patterns_[max_patterns];
    int pattern_count_ = 0;
    int pattern_index(std::string_view text) const {
        for (int i = 0; i < pattern_count_; i++)
            if (patterns_[i].text == text) return i;
        return -1;
    }
};

template <class Rule>
Result<std::span<const Rule* const>> Compiler::kept(List<const Rule*>& list) {
    const Rule** const copy = TRY(result<const Rule*>(list.size));
    std::copy(list.begin(), list.end(), copy);
    return std::span<const Rule* const>(copy, list.size);
}

// Node 0 is the whole schema's, node 1 has no value.
constexpr std::uint16_t nothing = 1;

Result<std::uint16_t> Compiler::node_of(const LiteralList& list) {
    LiteralList clean;
    for (std::size_t i = 0; i < list.count; i++) {
        Literal l = list.items[i];
        // A schema that is only a reference is what it refers to.
        for (int steps = 0; !l.is_constant() && steps < 64; steps++) {
            if (schema_.at(l.node()).type != JsonType::object || schema_.target(l.node()) < 0 ||
                schema_.count(l.node()) != 1)
                break;
            l = Literal::schema(schema_.target(l.node()), l.negated());
        }
        if (!l.is_constant()) {
            const JsonNode& n = schema_.at(l.node());
            const bool all = (n.type == JsonType::boolean && n.truth) ||
                             (n.type == JsonType::object && schema_.count(l.node()) == 0);
            const bool none = n.type == JsonType::boolean && !n.truth;
            if (all || none) {
                if (all == l.negated()) return nothing;
                continue;
            }
        }
        bool there = false;
        for (std::size_t k = 0; k < clean.count; k++) {
            there |= clean.items[k].bits == l.bits;
            if (clean.items[k].bits == l.opposite().bits) return nothing;
        }
        if (!there) TRY(clean.add(l));
    }
    std::sort(clean.items, clean.items + clean.count, [](Literal a, Literal b) { return a.bits < b.bits; });
    std::uint64_t hash = 1469598103934665603u;
    for (std::size_t i = 0; i < clean.count; i++) hash = (hash ^ clean.items[i].bits) * 1099511628211u;
    for (std::size_t i = 0; i < sets_.size; i++)
        if (i != nothing && sets_[i].hash == hash && sets_[i].count == clean.count &&
            std::equal(clean.items, clean.items + clean.count, sets_[i].literals,
                       [](Literal a, Literal b) { return a.bits == b.bits; }))
            return static_cast<std::uint16_t>(i);
    if (sets_.size == max_nodes)
        return Error::make(Code::not_supported, "schema: its parts combine to more than %zu different values",
                           max_nodes);
    Literal* const copy = scratch_.take<Literal>(clean.count);
    if (copy == nullptr) return full();
    std::copy(clean.items, clean.items + clean.count, copy);
    TRY(sets_.add({hash, copy, clean.count}, scratch_));
    TRY(nodes_.add({}, scratch_));
    return static_cast<std::uint16_t>(sets_.size - 1);
}

Result<Grammar> Compiler::run() {
    LiteralList root;
    TRY(root.add(Literal::schema(0)));
    if (TRY(node_of(root)) == nothing) return wrong(Code::incorrect_parameters, 0, "no value obeys it");
    TRY(sets_.add({0, nullptr, 0}, scratch_));
    TRY(nodes_.add({}, scratch_));
    for (std::size_t i = 0; i < sets_.size; i++)
        if (i != nothing) TRY(build(i));
    TRY(count_values(nodes_.view(), heap_, scratch_));
    TRY(price_values(nodes_.view(), heap_));
    const bool nested_differ = TRY(count_nested(nodes_.view(), scratch_));
    TRY(check_searches());
    if (nodes_[0].cost >= never) return wrong(Code::incorrect_parameters, 0, "no value obeys it");
    if (nodes_[0].depth > max_depth) return wrong(Code::not_supported, 0, "its values are nested too deeply");
    Node* const nodes = TRY(result<Node>(nodes_.size));
    std::copy(nodes_.begin(), nodes_.end(), nodes);
    Grammar g;
    g.nodes = {nodes, nodes_.size};
    g.nested_differ = nested_differ;
    for (const Node& n : g.nodes)
        for (const StringRule* r : n.strings) g.from_source |= r->from_source;
    Automaton* const searches = TRY(result<Automaton>(search_count_));
    std::copy_n(searches_, search_count_, searches);
    g.searches = {searches, search_count_};
    return g;
}

// Which alternatives say the same of one type.
std::uint64_t signature(const Draft& d, unsigned char type) {
    std::uint64_t sum = 0;
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        if ((types_of(f->kind) & type) == 0) continue;
        std::uint64_t h = 1469598103934665603u;
        const auto mix = [&](std::uint64_t v) { h = (h ^ v) * 1099511628211u, h ^= h >> 29; };
        mix(f->kind), mix(f->negated), mix(f->single), mix(f->constant), mix(static_cast<std::uint64_t>(f->node));
        mix(static_cast<std::uint64_t>(f->patterns)), mix(static_cast<std::uint64_t>(f->other)), mix(f->count),
            mix(f->most);
        mix(f->literal.bits);
        for (const char c : f->name) mix(static_cast<unsigned char>(c));
        if (f->kind == Fact::closed_items || f->kind == Fact::closed_properties)
            for (const Fact* g = f->inner; g != nullptr; g = g->next)
                if ((types_of(g->kind) & type) != 0 && !g->silent)
                    h += static_cast<std::uint64_t>(g->id) * 0x9E3779B97F4A7C15u;
        mix(0);
        sum += h;
    }
    return sum;
}

Result<void> Compiler::build(std::size_t node) {
    const std::size_t mark = scratch_.used();
    Draft* const drafts = TRY(expander_.expand({sets_[node].literals, sets_[node].count}));
    Node n;
    List<const StringRule*> strings;
    List<const NumberRule*> numbers;
    List<const ArrayRule*> arrays;
    List<const ObjectRule*> objects;
    // Lists of nodes and sets must outlive the drafts, so what they outgrow while rules are built stays: the mark is
    // used only when they did not grow.
    const std::size_t capacity = sets_.capacity, count = sets_.size;
    List<std::uint64_t> seen[4];
    const auto is_new = [&](int type, std::uint64_t s) -> Result<bool> {
        if (std::find(seen[type].begin(), seen[type].end(), s) != seen[type].end()) return false;
        TRY(seen[type].add(s, scratch_));
        return true;
    };
    for (const Draft* d = drafts; d != nullptr; d = d->next) {
        const auto allowed = [&](unsigned char type, auto is_value) {
            if ((d->types & type) == 0) return false;
            for (const Fact* f = d->facts; f != nullptr; f = f->next) {
                if (f->kind != Fact::one_of && f->kind != Fact::none_of) continue;
                bool there = false;
                for (int i = f->single ? f->node : schema_.first(f->node); i < schema_.end(f->node);
                     i = schema_.next(i))
                    there |= is_value(schema_.at(i));
                if (there != (f->kind == Fact::one_of)) return false;
            }
            return true;
        };
        n.null |= allowed(type_null, [](const JsonNode& v) { return v.type == JsonType::null; });
        n.truth |= allowed(type_true, [](const JsonNode& v) { return v.type == JsonType::boolean && v.truth; });
        n.falsity |= allowed(type_false, [](const JsonNode& v) { return v.type == JsonType::boolean && !v.truth; });
        const auto is_listed = [&] {
            for (const Fact* f = d->facts; f != nullptr; f = f->next)
                if (f->kind == Fact::one_of) return true;
            return false;
        };
        if ((d->types & type_string) != 0 && TRY(is_new(0, signature(*d, type_string))))
            if (const StringRule* r = TRY(string_rule(*d)); r != nullptr) TRY(strings.add(r, scratch_));
        if ((d->types & type_number) != 0 && TRY(is_new(1, signature(*d, type_number))))
            if (const NumberRule* r = TRY(number_rule(*d)); r != nullptr) TRY(numbers.add(r, scratch_));
        // The values of a list that are arrays and objects have alternatives of their own.
        if ((d->types & type_array) != 0 && !is_listed() && TRY(is_new(2, signature(*d, type_array))))
            if (const ArrayRule* r = TRY(array_rule(*d)); r != nullptr) TRY(arrays.add(r, scratch_));
        if ((d->types & type_object) != 0 && !is_listed() && TRY(is_new(3, signature(*d, type_object))))
            if (const ObjectRule* r = TRY(object_rule(*d)); r != nullptr) TRY(objects.add(r, scratch_));
    }
    n.strings = TRY(kept(strings));
    n.numbers = TRY(kept(numbers));
    n.arrays = TRY(kept(arrays));
    n.objects = TRY(kept(objects));
    nodes_[node] = n;
    if (sets_.capacity == capacity && sets_.size == count) scratch_.release(mark);
    return {};
}

Result<Automaton> Compiler::any_string() {
    if (!has_any_) any_ = TRY(regex("[^]*", true, Encoding::json, heap_));
    has_any_ = true;
    return any_;
}

// Automata are made in scratch memory, of which they take several times what they need in the end.
Result<Automaton> Compiler::copied(const Automaton& a) {
    const auto states = static_cast<std::size_t>(a.states), cells = states * static_cast<std::size_t>(a.classes);
    Automaton copy = a;
    if (states == 0) return copy;
    auto* const classes = TRY(result<std::uint8_t>(256));
    auto* const next = TRY(result<std::uint16_t>(cells));
    auto* const label = TRY(result<std::uint16_t>(states));
    auto* const to_end = TRY(result<std::uint16_t>(states));
    std::copy_n(a.byte_class, 256, classes);
    std::copy_n(a.next, cells, next);
    std::copy_n(a.label, states, label);
    std::copy_n(a.to_end, states, to_end);
    copy.byte_class = classes, copy.next = next, copy.label = label, copy.to_end = to_end;
    return copy;
}

Result<Automaton> Compiler::pattern(const Fact& f, bool whole, std::string_view text) {
    auto found = regex(text, whole, Encoding::json, scratch_);
    if (!found) return at(f.node, found.error());
    return std::move(found).value();
}

bool Compiler::in_list(const Fact& f, int node) const {
    for (int i = f.single ? f.node : schema_.first(f.node); i < schema_.end(f.node); i = schema_.next(i))
        if (expander_.same_value(i, node)) return true;
    return false;
}

Result<const StringRule*> Compiler::string_rule(const Draft& d) {
    StringRule r;
    const Fact* listed = nullptr;
    bool patterns = false;
    int from = 0;
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        if (f->kind == Fact::one_of) listed = f;
        if (f->kind == Fact::from) from = f->node;
        if (f->kind == Fact::min_length) r.min = std::max(r.min, f->count);
        if (f->kind == Fact::max_length) r.max = std::min(r.max, f->count);
        r.from_source |= f->kind == Fact::from;
        patterns |=
            f->kind == Fact::pattern || (f->kind == Fact::format && options_.formats) || f->kind == Fact::none_of;
    }
    if (r.min > r.max) return nullptr;
    if (r.from_source && listed != nullptr)
        return Error::make(Code::not_supported, "schema: \"from\" cannot be together with enum or const");
    patterns |= r.from_source && r.min > 1;
    if (listed != nullptr) {
        List<std::string_view> words_list;
        for (int i = listed->single ? listed->node : schema_.first(listed->node); i < schema_.end(listed->node);
             i = schema_.next(i)) {
            const JsonNode& v = schema_.at(i);
            if (v.type != JsonType::string) continue;
            const std::uint32_t length = characters(v.text);
            bool good = length >= r.min && length <= r.max;
            for (const Fact* f = d.facts; f != nullptr && good; f = f->next)
                if (f->kind == Fact::one_of || f->kind == Fact::none_of)
                    good = in_list(*f, i) == (f->kind == Fact::one_of);
            if (good) TRY(words_list.add(v.text, scratch_));
        }
        if (words_list.size == 0) return nullptr;
        r.content = TRY(words({words_list.data, words_list.size}, Encoding::json, scratch_));
    } else {
        r.content = TRY(any_string());
        r.any = !patterns;
    }
    for (const Fact* f = d.facts; f != nullptr && patterns; f = f->next) {
        if (f->kind == Fact::none_of && listed == nullptr) {
            List<std::string_view> list;
            for (int i = f->single ? f->node : schema_.first(f->node); i < schema_.end(f->node); i = schema_.next(i))
                if (schema_.at(i).type == JsonType::string) TRY(list.add(schema_.at(i).text, scratch_));
            if (list.size == 0) continue;
            r.content =
                TRY(difference(r.content, TRY(words({list.data, list.size}, Encoding::json, scratch_)), scratch_));
        }
        if (f->kind == Fact::pattern) {
            const Automaton p = TRY(pattern(*f, false, f->name));
            auto both = f->negated ? difference(r.content, p, scratch_) : intersection(r.content, p, scratch_);
            if (!both) return at(f->node, both.error());
            r.content = std::move(both).value();
        }
        if (f->kind == Fact::format && options_.formats) {
            const char* const text = format_pattern(f->name);
            if (text == nullptr)
                return wrong(
                    Code::not_supported, f->node,
                    "is none of the formats date, time, date-time, duration, uuid, ipv4, email, hostname, uri");
            r.content = TRY(intersection(r.content, TRY(pattern(*f, true, text)), scratch_));
        }
    }
    if (patterns && listed == nullptr && (r.min > 0 || r.max < never)) {
        constexpr std::uint32_t most = 512;
        if ((r.max != never && r.max > most) || r.min > most)
            return Error::make(Code::not_supported,
                               "schema: minLength and maxLength above %u cannot be together with pattern or format",
                               most);
        char text[48];
        if (r.max == never)
            std::snprintf(text, sizeof text, "[^]{%u,}", r.min);
        else
            std::snprintf(text, sizeof text, "[^]{%u,%u}", r.min, r.max);
        r.content = TRY(intersection(r.content, TRY(regex(text, true, Encoding::json, scratch_)), scratch_));
    }
    if (!r.any) r.min = 0, r.max = never;
    if (r.content.states == 0) return nullptr;
    if (!r.any) r.content = TRY(copied(r.content));
    r.cost = 2 + (r.any ? r.min : r.content.to_end[0]);
    if (r.from_source && !r.any) {
        r.search = TRY(search(r.content));
        if (r.content.label[0] == 0) r.cost = never;  // until there is a source
    }
    StringRule* const kept = TRY(result<StringRule>(1));
    *kept = r;
    if (r.search >= 0) TRY(searching_.add({kept, from}, heap_));
    return kept;
}

// Which of the searches it is, a new one unless there is one like it.
Result<int> Compiler::search(const Automaton& content) {
    const auto same = [&](const Automaton& a) {
        return a.states == content.states && a.classes == content.classes &&
               std::equal(a.byte_class, a.byte_class + 256, content.byte_class) &&
               std::equal(a.next, a.next + a.states * a.classes, content.next) &&
               std::equal(a.label, a.label + a.states, content.label);
    };
    const auto found = std::find_if(searches_, searches_ + search_count_, same);
    if (found == searches_ + search_count_) {
        if (search_count_ == Grammar::max_searches)
            return Error::make(Code::not_supported, "schema: \"from\" is beside more than %zu different patterns",
                               Grammar::max_searches);
        searches_[search_count_++] = content;
    }
    return static_cast<int>(found - searches_);
}

// A source may have nothing that is searched for, and then there must be something else to say.
Result<void> Compiler::check_searches() const {
    for (const Node& n : nodes_)
        for (const StringRule* r : n.strings)
            if (n.cost >= never)
                for (const auto& [rule, from] : searching_)
                    if (rule == r)
                        return wrong(Code::not_supported, from,
                                     "a source may have nothing that fits the pattern: another type is needed, as in "
                                     "\"type\": [\"string\", \"null\"]");
    return {};
}

Result<const NumberRule*> Compiler::number_rule(const Draft& d) {
    NumberRule r;
    const Fact* listed = nullptr;
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        if (f->kind == Fact::one_of) listed = f;
        if ((types_of(f->kind) & type_number) == 0 || f->kind == Fact::one_of) continue;
        const auto decimal = [&](int node) -> Result<Decimal> {
            const auto v = to_decimal(schema_.at(node).text);
            if (!v) return at(node, v.error());
            return v.value();
        };
        const auto not_multiple = [&](Decimal v) -> Result<void> {
            if (r.not_multiples == NumberRule::max_excluded)
                return wrong(Code::not_supported, f->node, "too many of these");
            r.not_multiple[r.not_multiples++] = v;
            return {};
        };
        const auto multiple = [&](Decimal v) -> Result<void> {
            if (r.step == 0) {
                r.step = v;
                return {};
            }
            Decimal a = r.step, b = v;
            while (b != 0) a = std::exchange(b, a % b);
            if (v / a > decimal_max / r.step)
                return wrong(Code::not_supported, f->node, "has too large a common multiple with the others");
            r.step *= v / a;
            return {};
        };
        switch (f->kind) {
            case Fact::integer:
                if (f->negated) {
                    TRY(not_multiple(decimal_one));
                    r.free = false;
                } else {
                    r.integer = true;
                }
                continue;
            case Fact::minimum: r.low = std::max(r.low, TRY(decimal(f->node))); break;
            case Fact::maximum: r.high = std::min(r.high, TRY(decimal(f->node))); break;
            case Fact::above: r.low = std::max<Decimal>(r.low, TRY(decimal(f->node)) + 1); break;
            case Fact::below: r.high = std::min<Decimal>(r.high, TRY(decimal(f->node)) - 1); break;
            case Fact::multiple:
                if (f->negated)
                    TRY(not_multiple(TRY(decimal(f->node))));
                else
                    TRY(multiple(TRY(decimal(f->node))));
                break;
            case Fact::none_of: {
                bool any = false;
                for (int i = f->single ? f->node : schema_.first(f->node); i < schema_.end(f->node);
                     i = schema_.next(i)) {
                    if (schema_.at(i).type != JsonType::number) continue;
                    if (r.excludes == NumberRule::max_excluded)
                        return wrong(Code::not_supported, f->node, "more than 8 numbers are excluded");
                    r.excluded[r.excludes++] = TRY(decimal(i));
                    any = true;
                }
                if (!any) continue;
                break;
            }
            default: continue;
        }
        r.free = false;
    }
    if (r.integer && !r.free) {
        const Decimal step = r.step;
        r.step = decimal_one;
        if (step != 0) {
            Decimal a = r.step, b = step;
            while (b != 0) a = std::exchange(b, a % b);
            if (step / a > decimal_max / decimal_one)
                return Error::make(Code::not_supported, "schema: multipleOf of an integer is too large");
            r.step *= step / a;
        }
    }
    for (Decimal unit = decimal_one; r.step % unit != 0; unit /= 10) r.step_digits++;
    if (listed != nullptr) {
        List<std::string_view> list;
        for (int i = listed->single ? listed->node : schema_.first(listed->node); i < schema_.end(listed->node);
             i = schema_.next(i)) {
            if (schema_.at(i).type != JsonType::number) continue;
            bool good = true;
            for (const Fact* f = d.facts; f != nullptr && good; f = f->next)
                if (f->kind == Fact::one_of || f->kind == Fact::none_of)
                    good = in_list(*f, i) == (f->kind == Fact::one_of);
            char plain[128];
            const std::size_t n = plain_number(schema_.at(i).text, plain);
            if (n == 0) return wrong(Code::not_supported, i, "has more than 125 digits");
            good = good && !(r.integer && std::string_view(plain, n).find('.') != std::string_view::npos);
            if (good && !r.free) {
                const auto value = to_decimal(schema_.at(i).text);
                if (!value) return at(i, value.error());
                good = r.allows(value.value());
            }
            if (!good) continue;
            char* const copy = scratch_.take<char>(n);
            if (copy == nullptr) return full();
            std::copy(plain, plain + n, copy);
            TRY(list.add({copy, n}, scratch_));
        }
        if (list.size == 0) return nullptr;
        r.listed = true;
        r.words = TRY(words({list.data, list.size}, Encoding::utf8, scratch_));
    } else if (r.integer && !r.free && r.high - r.low < 256 * decimal_one) {
        // A few values are a list: then it is known which are left where no two items may be equal.
        List<std::string_view> list;
        Decimal v = r.low / decimal_one * decimal_one;
        if (v < r.low) v += decimal_one;
        for (; v <= r.high; v += decimal_one) {
            if (!r.allows(v)) continue;
            char* const copy = scratch_.take<char>(24);
            if (copy == nullptr) return full();
            const int n = std::snprintf(copy, 24, "%lld", static_cast<long long>(v / decimal_one));
            TRY(list.add({copy, static_cast<std::size_t>(n)}, scratch_));
        }
        if (list.size == 0) return nullptr;
        r.listed = true;
        r.words = TRY(words({list.data, list.size}, Encoding::utf8, scratch_));
    }
    if (r.listed) r.words = TRY(copied(r.words));
    const std::uint32_t cost = remaining(r, NumberState{});
    if (cost >= never) return nullptr;
    r.cost = cost;
    NumberRule* const kept = TRY(result<NumberRule>(1));
    *kept = r;
    return kept;
}

Result<const ArrayRule*> Compiler::array_rule(const Draft& d) {
    ArrayRule r;
    const Fact* contains[ArrayRule::max_contains];
    int prefix = 0;
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        switch (f->kind) {
            case Fact::items:
                if (f->node >= 0) prefix = std::max(prefix, schema_.count(f->node));
                break;
            case Fact::item_at: prefix = std::max(prefix, static_cast<int>(f->count) + 1); break;
            case Fact::min_items: r.min = std::max(r.min, f->count); break;
            case Fact::max_items: r.max = std::min(r.max, f->count); break;
            case Fact::unique: r.unique = true; break;
            case Fact::contains:
                if (r.contains_count == ArrayRule::max_contains)
                    return wrong(Code::not_supported, f->node, "more than two \"contains\" for one array");
                r.contains[r.contains_count] = {f->count, f->most};
                if (f->count > f->most) return nullptr;
                contains[r.contains_count++] = f;
                break;
            default: break;
        }
    }
    if (r.min > r.max) return nullptr;
    if (prefix > 256) return Error::make(Code::not_supported, "schema: more than 256 items have schemas of their own");
    // Where nobody counts the matches, an item need not be told from those that match.
    r.prefix = prefix;
    const unsigned choices = 1u << r.contains_count;
    std::uint16_t* const table = TRY(result<std::uint16_t>((static_cast<std::size_t>(prefix) + 1) * choices));
    for (int item = 0; item <= prefix; item++)
        for (unsigned choice = 0; choice < choices; choice++) {
            LiteralList list;
            const auto of_group = [&](const Fact& f, bool& has) -> Result<void> {
                int k = 0, found = -1;
                if (f.node >= 0)
                    for (int i = schema_.first(f.node); i < schema_.end(f.node); i = schema_.next(i), k++)
                        if (k == item) found = i;
                has = found >= 0 || f.other >= 0;
                if (found >= 0) return list.add(f.constant ? Literal::constant(found) : Literal::schema(found));
                if (f.other >= 0) return list.add(Literal::schema(f.other));
                return {};
            };
            for (const Fact* f = d.facts; f != nullptr; f = f->next) {
                bool has;
                if (f->kind == Fact::items) TRY(of_group(*f, has));
                if (f->kind == Fact::item_at && static_cast<int>(f->count) == item) TRY(list.add(f->literal));
                if (f->kind != Fact::closed_items) continue;
                bool evaluated = false;
                for (const Fact* g = f->inner; g != nullptr && !evaluated; g = g->next) {
                    if (g->silent) continue;
                    evaluated |= g->kind == Fact::closed_items;
                    if (g->kind == Fact::items)
                        evaluated |= g->other >= 0 || (g->node >= 0 && item < schema_.count(g->node));
                    for (int c = 0; c < r.contains_count; c++)
                        evaluated |= g->id == contains[c]->id && (choice >> c & 1) != 0;
                }
                if (!evaluated) TRY(list.add(f->literal));
            }
            for (int c = 0; c < r.contains_count; c++)
                TRY(list.add((choice >> c & 1) != 0 ? contains[c]->literal : contains[c]->literal.opposite()));
            table[static_cast<unsigned>(item) * choices + choice] = TRY(node_of(list));
        }
    r.nodes = table;
    ArrayRule* const kept = TRY(result<ArrayRule>(1));
    *kept = r;
    return kept;
}

// The name is evaluated by something that stands in `inner`.
bool Compiler::evaluates(const Fact* inner, std::string_view name, bool named, unsigned patterns) const {
    for (const Fact* f = inner; f != nullptr; f = f->next) {
        if (f->silent) continue;
        if (f->kind == Fact::closed_properties) return true;
        if (f->kind != Fact::properties) continue;
        if (f->other >= 0) return true;
        if (named && f->node >= 0 && schema_.find(f->node, name) >= 0) return true;
        if (f->patterns >= 0)
            for (int i = schema_.first(f->patterns); i < schema_.end(f->patterns); i = schema_.next(i))
                if ((patterns >> pattern_index(schema_.at(i).key) & 1) != 0) return true;
    }
    return false;
}

// All that holds for the value of a property: of this name, or of one that has none here, found by these patterns.
Result<void> Compiler::literals_of(const Draft& d, std::string_view name, bool named, unsigned patterns,
                                   LiteralList& out) {
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        if (f->kind == Fact::forbidden && named && f->name == name) out.impossible = true;
        if (f->kind == Fact::property && named && f->name == name) TRY(out.add(f->literal));
        if (f->kind == Fact::closed_properties && !evaluates(f->inner, name, named, patterns)) TRY(out.add(f->literal));
        if (f->kind != Fact::properties) continue;
        bool matched = false;
        if (const int i = named && f->node >= 0 ? schema_.find(f->node, name) : -1; i >= 0) {
            TRY(out.add(f->constant ? Literal::constant(i) : Literal::schema(i)));
            matched = true;
        }
        if (f->patterns >= 0)
            for (int i = schema_.first(f->patterns); i < schema_.end(f->patterns); i = schema_.next(i))
                if ((patterns >> pattern_index(schema_.at(i).key) & 1) != 0) {
                    TRY(out.add(Literal::schema(i)));
                    matched = true;
                }
        if (!matched && f->other >= 0) TRY(out.add(Literal::schema(f->other)));
    }
    return {};
}

Result<const ObjectRule*> Compiler::object_rule(const Draft& d) {
    ObjectRule r;
    List<std::string_view> names;
    pattern_count_ = 0;
    const auto name = [&](std::string_view text) -> Result<void> {
        if (std::find(names.begin(), names.end(), text) != names.end()) return {};
        if (names.size == ObjectRule::max_named)
            return Error::make(Code::not_supported, "schema: an object has more than %d named properties",
                               ObjectRule::max_named);
        return names.add(text, scratch_);
    };
    List<const Fact*> dependents, key_rules;
    for (const Fact* f = d.facts; f != nullptr; f = f->next) {
        switch (f->kind) {
            case Fact::min_properties: r.min = std::max(r.min, f->count); break;
            case Fact::max_properties: r.max = std::min(r.max, f->count); break;
            case Fact::required:
            case Fact::forbidden:
            case Fact::property: TRY(name(f->name)); break;
            case Fact::dependent:
                TRY(name(f->name));
                for (int i = schema_.first(f->node); i < schema_.end(f->node); i = schema_.next(i))
                    TRY(name(schema_.at(i).text));
                TRY(dependents.add(f, scratch_));
                break;
            case Fact::names: TRY(key_rules.add(f, scratch_)); break;
            case Fact::properties:
                if (f->node >= 0)
                    for (int i = schema_.first(f->node); i < schema_.end(f->node); i = schema_.next(i))
                        TRY(name(schema_.at(i).key));
                if (f->patterns >= 0)
                    for (int i = schema_.first(f->patterns); i < schema_.end(f->patterns); i = schema_.next(i)) {
                        if (pattern_index(schema_.at(i).key) >= 0) continue;
                        if (pattern_count_ == static_cast<int>(max_patterns))
                            return wrong(Code::not_supported, f->patterns, "more than 12 patterns for one object");
                        Fact at_pattern = *f;
                        at_pattern.node = i;
                        patterns_[pattern_count_++] = {i, schema_.at(i).key,
                                                       TRY(pattern(at_pattern, false, schema_.at(i).key))};
                    }
                break;
            default: break;
        }
    }
    if (r.min > r.max) return nullptr;
    r.ordered = options_.ordered;
    // Labels of keys: what is named and which patterns are found in it.
    struct Kind {
        std::uint16_t name;  // 1 ..; 0: none
        std::uint16_t patterns;
    };
    List<Kind> kinds;
    TRY(kinds.add({0, 0}, scratch_));
    for (std::size_t i = 0; i < names.size; i++) TRY(kinds.add({static_cast<std::uint16_t>(i + 1), 0}, scratch_));
    LiteralList others;
    TRY(literals_of(d, "", false, 0, others));
    const bool only_named = pattern_count_ == 0 && TRY(node_of(others)) == nothing;
    Automaton keys = TRY(words({names.data, names.size}, Encoding::json, scratch_));
    struct Labels {
        List<Kind>& kinds;
        Heap& heap;
        int pattern;
        bool overflow = false;
        std::uint16_t of(Kind k) {
            for (std::size_t i = 1; i < kinds.size; i++)
                if (kinds[i].name == k.name && kinds[i].patterns == k.patterns) return static_cast<std::uint16_t>(i);
            if (!kinds.add(k, heap)) {
                overflow = true;
                return 1;
            }
            return static_cast<std::uint16_t>(kinds.size - 1);
        }
    } labels{kinds, scratch_, -1};
    if (!only_named) {
        keys = TRY(combine(
            keys, TRY(any_string()),
            [](void* context, std::uint16_t a, std::uint16_t b) -> std::uint16_t {
                auto& l = *static_cast<Labels*>(context);
                return a != 0 ? a : b != 0 ? l.of({0, 0}) : std::uint16_t{0};
            },
            &labels, scratch_));
        for (int p = 0; p < pattern_count_; p++) {
            labels.pattern = p;
            auto both = combine(
                keys, patterns_[p].found,
                [](void* context, std::uint16_t a, std::uint16_t b) -> std::uint16_t {
                    auto& l = *static_cast<Labels*>(context);
                    if (a == 0 || b == 0) return a;
                    Kind k = l.kinds[a];
                    k.patterns = static_cast<std::uint16_t>(k.patterns | 1u << l.pattern);
                    return l.of(k);
                },
                &labels, scratch_);
            if (!both) return at(patterns_[p].node, both.error());
            keys = std::move(both).value();
        }
        if (labels.overflow) return full();
    }
    for (const Fact* f : key_rules) {
        // A name is a string: what its schema says of strings holds.
        const Draft* const drafts = TRY(expander_.expand({&f->literal, 1}));
        Automaton allowed{};
        for (const Draft* n = drafts; n != nullptr; n = n->next) {
            if ((n->types & type_string) == 0) continue;
            const StringRule* const rule = TRY(string_rule(*n));
            if (rule == nullptr) continue;
            Automaton content = rule->content;
            if (rule->any && (rule->min > 0 || rule->max != never)) {
                if ((rule->max != never && rule->max > 512) || rule->min > 512)
                    return wrong(Code::not_supported, f->node, "lengths above 512 are not supported for names");
                char text[48];
                if (rule->max == never)
                    std::snprintf(text, sizeof text, "[^]{%u,}", rule->min);
                else
                    std::snprintf(text, sizeof text, "[^]{%u,%u}", rule->min, rule->max);
                content = TRY(regex(text, true, Encoding::json, scratch_));
            }
            allowed = TRY(combine(
                allowed, content,
                [](void*, std::uint16_t a, std::uint16_t b) -> std::uint16_t { return a | b ? 1 : 0; }, nullptr,
                scratch_));
        }
        keys = TRY(combine(
            keys, allowed, [](void*, std::uint16_t a, std::uint16_t b) -> std::uint16_t { return b != 0 ? a : 0; },
            nullptr, scratch_));
    }
    keys = TRY(copied(keys));
    // One label for a name, whatever patterns are found in it; those of others behind them.
    const std::size_t named = names.size;
    std::uint16_t* const map = TRY(result<std::uint16_t>(kinds.size));
    List<Kind> final_kinds;
    TRY(final_kinds.add({0, 0}, scratch_));
    for (std::size_t i = 0; i < named; i++) TRY(final_kinds.add({static_cast<std::uint16_t>(i + 1), 0}, scratch_));
    for (std::size_t i = 1; i < kinds.size; i++) {
        if (kinds[i].name != 0) {
            map[i] = kinds[i].name;
        } else {
            TRY(final_kinds.add(kinds[i], scratch_));
            map[i] = static_cast<std::uint16_t>(final_kinds.size - 1);
        }
    }
    // A name has one set of patterns, so a reachable label of it tells which.
    std::uint16_t* const state_labels = TRY(result<std::uint16_t>(static_cast<std::size_t>(keys.states)));
    for (int s = 0; s < keys.states; s++) {
        const std::uint16_t l = keys.label[s];
        state_labels[s] = l == 0 ? std::uint16_t{0} : map[l];
        if (l != 0 && kinds[l].name != 0) final_kinds[kinds[l].name].patterns = kinds[l].patterns;
    }
    keys.label = state_labels;
    r.keys = keys;
    r.named = static_cast<int>(named);
    r.labels = static_cast<int>(final_kinds.size) - 1;
    std::uint16_t* const nodes = TRY(result<std::uint16_t>(final_kinds.size));
    std::uint16_t* const bytes = TRY(result<std::uint16_t>(named + 1));
    nodes[0] = nothing;
    bytes[0] = 0;
    bool reachable[ObjectRule::max_named + 1] = {};
    for (int s = 0; s < keys.states; s++)
        if (state_labels[s] != 0 && state_labels[s] <= named) reachable[state_labels[s]] = true;
    for (std::size_t i = 1; i < final_kinds.size; i++) {
        LiteralList list;
        const Kind k = final_kinds[i];
        TRY(literals_of(d, k.name != 0 ? names[k.name - 1u] : "", k.name != 0, k.patterns, list));
        const bool impossible = list.impossible || (i <= named && !reachable[i]);
        nodes[i] = impossible ? nothing : TRY(node_of(list));
        if (i <= named) bytes[i] = static_cast<std::uint16_t>(json_bytes(names[i - 1]));
    }
    r.nodes = nodes;
    r.name_bytes = bytes;
    const auto label_of = [&](std::string_view text) {
        return static_cast<std::size_t>(std::find(names.begin(), names.end(), text) - names.begin());
    };
    for (const Fact* f = d.facts; f != nullptr; f = f->next)
        if (f->kind == Fact::required) {
            const std::size_t l = label_of(f->name);
            r.required[l / 64] |= std::uint64_t{1} << l % 64;
        }
    if (dependents.size > 0) {
        auto* const list = TRY(result<ObjectRule::Dependent>(dependents.size));
        for (std::size_t i = 0; i < dependents.size; i++) {
            list[i] = {};
            list[i].trigger = static_cast<std::uint16_t>(label_of(dependents[i]->name) + 1);
            for (int k = schema_.first(dependents[i]->node); k < schema_.end(dependents[i]->node);
                 k = schema_.next(k)) {
                const std::size_t l = label_of(schema_.at(k).text);
                list[i].needs[l / 64] |= std::uint64_t{1} << l % 64;
            }
        }
        r.dependents = list;
        r.dependent_count = static_cast<int>(dependents.size);
    }
    r.other_bytes = TRY(shortest_other(r));
    TRY(count_others(r));
    ObjectRule* const kept = TRY(result<ObjectRule>(1));
    *kept = r;
    return kept;
}

// A key beside the named ones that can have a value.
bool is_other(const ObjectRule& r, std::uint16_t label) { return label > r.named && r.nodes[label] != nothing; }

// How many such keys there are, and from each state, when they are few.
Result<void> Compiler::count_others(ObjectRule& r) {
    const auto states = static_cast<std::size_t>(r.keys.states), classes = static_cast<std::size_t>(r.keys.classes);
    const std::size_t mark = heap_.used();
    auto* const counts = TRY(result<std::uint8_t>(states));
    std::fill_n(counts, states, std::uint8_t{0});
    int bytes[256] = {};
    for (int b = 0; b < 256 && states > 0; b++) bytes[r.keys.byte_class[b]]++;
    bool more = states > 0;
    for (int pass = 0; more && pass < 1024; pass++) {
        more = false;
        for (std::size_t s = states; s-- > 0;) {
            int sum = is_other(r, r.keys.label[s]);
            for (std::size_t c = 0; c < classes && sum < 255; c++)
                if (const std::uint16_t t = r.keys.next[s * classes + c]; t != Automaton::dead)
                    sum += bytes[c] * counts[t];
            sum = std::min(sum, 255);
            more |= sum != counts[s];
            counts[s] = static_cast<std::uint8_t>(sum);
        }
    }
    if (more || std::all_of(counts, counts + states, [](std::uint8_t n) { return n == 0 || n == 255; })) {
        r.other_count = states > 0 && counts[0] > 0 ? never : 0;
        heap_.release(mark);
        return {};
    }
    r.others = counts;
    r.other_count = counts[0] == 255 ? never : counts[0];
    return {};
}

// Bytes of the shortest key that is none of the named ones.
Result<std::uint16_t> Compiler::shortest_other(const ObjectRule& r) {
    const auto states = static_cast<std::size_t>(r.keys.states);
    auto* const queue = scratch_.take<std::uint16_t>(2 * states);
    if (queue == nullptr) return full();
    std::uint16_t* const bytes = queue + states;
    std::fill_n(bytes, states, Automaton::dead);
    std::size_t head = 0, tail = 0;
    if (states > 0) bytes[queue[tail++] = 0] = 0;
    while (head < tail) {
        const std::uint16_t s = queue[head++];
        if (is_other(r, r.keys.label[s])) return bytes[s];
        for (int c = 0; c < r.keys.classes; c++) {
            const std::uint16_t t = r.keys.next[static_cast<std::size_t>(s) * static_cast<std::size_t>(r.keys.classes) +
                                                static_cast<std::size_t>(c)];
            if (t == Automaton::dead || bytes[t] != Automaton::dead) continue;
            bytes[t] = static_cast<std::uint16_t>(bytes[s] + 1);
            queue[tail++] = t;
        }
    }
    return std::uint16_t{0};
}

}  // namespace

Result<Grammar> compile_schema(std::span<char> text, const CompileOptions& options, Heap& heap, Heap& scratch) {
    const std::size_t mark = scratch.used();
    Schema* const schema = scratch.take<Schema>(1);
    if (schema == nullptr) return full();
    new (schema) Schema;
    TRY(schema->read(text, scratch));
    Compiler compiler(*schema, options, heap, scratch);
    auto grammar = compiler.run();
    scratch.release(mark);
    return grammar;
}

Result<Grammar> compile_regex(std::string_view pattern, Heap& heap) {
    Grammar g;
    g.kind = Grammar::text;
    g.text_rule = TRY(regex(pattern, true, Encoding::utf8, heap));
    if (g.text_rule.states == 0) return Error::make(Code::incorrect_parameters, "regex: no text matches it");
    return g;
}

}  // namespace slmd::grammar
