// What a grammar is once compiled: rules for each type of value, in nodes that name each other by number. Immutable.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"
#include "grammar/number.h"

namespace slmd::grammar {

constexpr std::uint32_t never = 1u << 30;  // a cost: there is no such text
constexpr int max_depth = 48;              // of arrays and objects in each other

struct StringRule {
    Automaton content;                          // between the quotes, in json encoding
    bool any = false;                           // content is every string: its state 0 stands between two characters
    bool from_source = false;                   // and of those, what stands in the source
    int search = -1;                            // with from_source, unless any: which of the grammar's searches it is
    std::uint32_t min = 0, max = never;         // characters; only with any
    const std::uint8_t* completions = nullptr;  // [states] texts that follow, 255: or more; null: not counted
    std::uint32_t cost = never;                 // bytes of the shortest one, quotes included; never, too, where that is
                                                // the source's to say
};

struct ArrayRule {
    static constexpr int max_contains = 2;
    struct Contains {
        std::uint32_t min, max;
    };

    const std::uint16_t* nodes = nullptr;  // [prefix + 1, 2^contains]: bit i of the second: it is one of contains[i]
    int prefix = 0;                        // items that have nodes of their own; the last row is that of the others
    std::uint32_t min = 0, max = never;    // items
    bool unique = false;
    Contains contains[max_contains]{};
    int contains_count = 0;
    std::uint32_t cost = never;
    int depth = 0;  // of nesting that the shortest one has, this one included

    std::uint16_t node(std::uint32_t item, unsigned choice) const {
        const auto row = item < static_cast<std::uint32_t>(prefix) ? item : static_cast<std::uint32_t>(prefix);
        return nodes[(row << contains_count) + choice];
    }
    // Any number of items may follow.
    bool grows() const { return max == never && prefix == 0 && contains_count == 0; }
};

struct ObjectRule {
    static constexpr int max_named = 256, words = max_named / 64;
    using Set = std::uint64_t[words];
    struct Dependent {
        std::uint16_t trigger;  // when this one is there,
        Set needs;              // these must be
    };

    Automaton keys;  // between the quotes; labels 1 .. named are the named ones, others follow
    int named = 0, labels = 0;
    const std::uint16_t* nodes = nullptr;       // [labels + 1] of the value
    const std::uint16_t* name_bytes = nullptr;  // [named + 1] of the key, without quotes
    const Set* reach = nullptr;                 // [states of keys] named ones that can still be meant
    const std::uint16_t* to_other = nullptr;    // [states of keys] bytes to the end of another one and of the shortest
                                                // value that it can have, less ':' and quote; dead: there is none
    bool ordered = false;                       // the named ones come in the order of their labels
    Set required{}, allowed{};                  // bit label - 1
    bool other = false;                         // others are allowed
    const std::uint8_t* others =
        nullptr;                         // [states of keys] how many other keys follow, 255: or more; null: none or 255
    std::uint32_t other_count = never;   // there are
    std::uint32_t min = 0, max = never;  // properties
    const Dependent* dependents = nullptr;
    int dependent_count = 0;
    std::uint16_t other_node = 0, other_bytes = 0;  // of the cheapest other one
    std::uint32_t cost = never;
    int depth = 0;
};

// Whether a set of an object's properties has the one with this label.
inline bool has_bit(const ObjectRule::Set& set, std::uint32_t label) {
    return (set[(label - 1) / 64] >> (label - 1) % 64 & 1) != 0;
}

// The values that a set of schemas leaves.
struct Node {
    bool null = false, truth = false, falsity = false;
    std::span<const StringRule* const> strings;
    std::span<const NumberRule* const> numbers;
    std::span<const ArrayRule* const> arrays;
    std::span<const ObjectRule* const> objects;
    std::uint32_t cost = never;  // bytes of the shortest value
    int depth = 0;               // of nesting that it has
    int values = 0;              // how many there are, 255: or more; also where arrays and objects are among them
    std::uint8_t at_least = 0;   // so many there are, 255: or more, without those of members that need not be there
    std::uint32_t unequal = 0;   // bytes of one more where all must differ, at most; 0: not known, cost and a little

    bool many() const { return at_least == 255; }
    bool nested() const { return !arrays.empty() || !objects.empty(); }
};

struct Grammar {
    static constexpr std::size_t max_searches = 8;

    enum Kind : std::uint8_t { json, text } kind = json;
    std::span<const Node> nodes;          // json: the value is of node 0
    Automaton text_rule{};                // text: what may be written
    bool from_source = false;             // a value has to stand in the source
    bool nested_differ = false;           // arrays or objects are items that must differ
    std::span<const Automaton> searches;  // what such values have to be besides: contents of string rules
};

struct CompileOptions {
    bool ordered = true;  // properties come in the order in which the schema has them, others anywhere: the keys of
                          // those that must be there are then forced, and not decoded
    bool formats =
        true;  // "format" constrains: date, time, date-time, duration, uuid, ipv4, email, hostname; others are errors
};

// What compile_schema and its result need for any schema that is accepted, in slmd and where one is checked before.
constexpr std::size_t heap_bytes = 512u << 10, scratch_bytes = 2048u << 10;
constexpr std::size_t max_source = 32768;  // bytes of a schema

// A JSON Schema, which is changed. What remains in heap is the grammar; scratch is free again. Errors: of Schema::read;
// not_supported naming what and where; incorrect_parameters when no value obeys it; memory_full.
Result<Grammar> compile_schema(std::span<char> text, const CompileOptions& options, Heap& heap, Heap& scratch);
// A regular expression that the text must match from end to end.
Result<Grammar> compile_regex(std::string_view pattern, Heap& heap);

// Bytes of what must still be written, without the closing bracket; never: it cannot be done. Those of an object with
// the properties `seen`, count of them; of an array of `count` items of which matches[i] were one of contains[i].
std::uint32_t rest(const Grammar& grammar, const ObjectRule& rule, const ObjectRule::Set& seen, std::uint32_t count);
std::uint32_t rest(const Grammar& grammar, const ArrayRule& rule, std::uint32_t count, const std::uint32_t* matches);

}  // namespace slmd::grammar
