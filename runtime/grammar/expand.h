// From schemas to alternatives: what holds in place (allOf, anyOf, oneOf, not, if, $ref) is multiplied out, so that
// what is left is a list of types with plain constraints.
#pragma once
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "grammar/automaton.h"
#include "grammar/schema.h"

namespace slmd::grammar {

// A schema, or a value that is to be equal to a node of the document, or the opposite of that.
struct Literal {
    std::uint32_t bits;  // node << 2 | constant << 1 | negated

    static Literal schema(int node, bool negated = false) {
        return {static_cast<std::uint32_t>(node) << 2 | (negated ? 1u : 0)};
    }
    static Literal constant(int node, bool negated = false) {
        return {static_cast<std::uint32_t>(node) << 2 | 2u | (negated ? 1u : 0)};
    }
    int node() const { return static_cast<int>(bits >> 2); }
    bool is_constant() const { return (bits & 2) != 0; }
    bool negated() const { return (bits & 1) != 0; }
    Literal opposite() const { return {bits ^ 1}; }
};

enum Types : unsigned char {
    type_null = 1,
    type_true = 2,
    type_false = 4,
    type_number = 8,
    type_string = 16,
    type_array = 32,
    type_object = 64,
    all_types = 127,
};

// One plain constraint. It says nothing of values of other types.
struct Fact {
    enum Kind : unsigned char {
        one_of,   // the scalars in `node`, a list, or node itself when single; of every type
        none_of,  // likewise
        integer,  // or, negated, not one
        minimum,
        maximum,
        above,
        below,
        multiple,  // of the number `node`; or, negated, not
        min_length,
        max_length,  // count
        pattern,     // name; or, negated, not found
        format,      // name
        from,        // the source
        items,    // node: the list of the first ones' schemas (constants: `constant`) or -1; other: that of the rest or
                  // -1
        item_at,  // literal holds for the count-th
        min_items,
        max_items,
        unique,
        contains,      // count .. most of literal
        closed_items,  // literal holds for those that `inner` does not evaluate
        properties,    // node: an object of schemas (constants) or -1; patterns likewise; other: for the rest, or -1
        property,      // literal holds for `name`
        required,
        forbidden,  // name
        min_properties,
        max_properties,
        names,              // literal holds for the names
        dependent,          // when `name` is there, the list `node` is
        closed_properties,  // literal holds for those that `inner` does not evaluate
    };

    const Fact* next;
    Kind kind;
    bool negated, single, constant;
    bool silent;  // stands under a "not": it evaluates nothing
    int id;       // of items, properties and closed ones
    int node, patterns, other;
    std::uint32_t count, most;
    Literal literal;
    std::string_view name;
    const Fact* inner;
};
unsigned char types_of(Fact::Kind kind);

struct Draft {
    Draft* next;
    unsigned char types;
    const Fact* facts;
};

class Expander {
  public:
    static constexpr int max_drafts = 512, max_nesting = 40;

    Expander(const Schema& schema, Heap& scratch) : schema_(schema), scratch_(scratch) {}

    // The alternatives of a set of literals that hold together. Errors: not_supported, incorrect_parameters (a schema
    // that is itself), memory_full; they name the place.
    Result<Draft*> expand(std::span<const Literal> set);
    bool same_value(int a, int b) const;  // two values of the document are equal

  private:
    struct Context {
        bool annotated;  // an unevaluated... above wants to know what is evaluated
        bool silent;
        int depth;
    };
    Result<Draft*> expand(Literal literal, Context context);
    Result<Draft*> schema(int node, Context context);
    Result<Draft*> not_schema(int node, Context context);
    Result<Draft*> constant(int node, bool negated);
    Result<Draft*> enumeration(int list, bool negated);
    Result<Draft*> type(int node, bool negated);
    Result<Draft*> any_of(int list, Context context);
    Result<Draft*> one_of(int list, Context context);
    Result<bool> apart(const Draft* a, const Draft* b, int depth);
    Result<bool> apart(std::span<const Literal> a, std::span<const Literal> b, int depth);
    int literals_of(const Draft* draft, std::string_view name, std::span<Literal> out) const;

    Result<Draft*> product(const Draft* a, const Draft* b);
    Draft* joined(Draft* a, Draft* b);
    Result<Draft*> draft(unsigned char types, const Fact* facts);
    Result<const Fact*> fact(const Fact& f, const Fact* next);
    Result<Draft*> only(unsigned char types, const Fact& f);
    Error wrong(Code code, int node, const char* what) const;
    static Error full() { return Error::make(Code::memory_full, "schema: it is too large to compile"); }

    const Schema& schema_;
    Heap& scratch_;
    int ids_ = 0;
};

}  // namespace slmd::grammar
