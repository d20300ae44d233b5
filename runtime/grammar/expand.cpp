#include "grammar/expand.h"

#include <algorithm>
#include <cmath>

#include "grammar/number.h"

namespace slmd::grammar {

unsigned char types_of(Fact::Kind kind) {
    if (kind <= Fact::none_of) return all_types;
    if (kind <= Fact::multiple) return type_number;
    if (kind <= Fact::from) return type_string;
    return kind <= Fact::closed_items ? type_array : type_object;
}

Error Expander::wrong(Code code, int node, const char* what) const {
    return Error::make(code, "schema, %s: %s", schema_.place(node).text, what);
}

Result<Draft*> Expander::draft(unsigned char types, const Fact* facts) {
    Draft* const d = scratch_.take<Draft>(1);
    if (d == nullptr) return full();
    *d = {nullptr, types, facts};
    return d;
}

Result<const Fact*> Expander::fact(const Fact& f, const Fact* next) {
    Fact* const copy = scratch_.take<Fact>(1);
    if (copy == nullptr) return full();
    *copy = f;
    copy->next = next;
    if (copy->id == 0) copy->id = ++ids_;
    return copy;
}

// The values of these types that obey the fact.
Result<Draft*> Expander::only(unsigned char types, const Fact& f) { return draft(types, TRY(fact(f, nullptr))); }

Draft* Expander::joined(Draft* a, Draft* b) {
    if (a == nullptr) return b;
    Draft* last = a;
    while (last->next != nullptr) last = last->next;
    last->next = b;
    return a;
}

Result<Draft*> Expander::product(const Draft* a, const Draft* b) {
    Draft* all = nullptr;
    int count = 0;
    for (const Draft* x = a; x != nullptr; x = x->next)
        for (const Draft* y = b; y != nullptr; y = y->next) {
            const auto types = static_cast<unsigned char>(x->types & y->types);
            if (types == 0) continue;
            const Fact* facts = y->facts;
            for (const Fact* f = x->facts; f != nullptr; f = f->next)
                if ((types_of(f->kind) & types) != 0) facts = TRY(fact(*f, facts));
            Draft* const d = TRY(draft(types, facts));
            d->next = all;
            all = d;
            if (++count > max_drafts)
                return Error::make(Code::not_supported,
                                   "schema: anyOf, oneOf, not and if combine to more than %d alternatives; make the "
                                   "branches differ in type, or in a required property with \"const\"",
                                   max_drafts);
        }
    return all;
}

bool Expander::same_value(int a, int b) const {
    const JsonNode &x = schema_.at(a), &y = schema_.at(b);
    if (x.type != y.type) return false;
    switch (x.type) {
        case JsonType::null: return true;
        case JsonType::boolean: return x.truth == y.truth;
        case JsonType::string: return x.text == y.text;
        case JsonType::number: {
            char p[128], q[128];
            const std::size_t n = normal_number(x.text, p), m = normal_number(y.text, q);
            return n == 0 || m == 0 ? x.text == y.text : std::string_view(p, n) == std::string_view(q, m);
        }
        case JsonType::array: {
            int j = schema_.first(b);
            for (int i = schema_.first(a); i < schema_.end(a); i = schema_.next(i), j = schema_.next(j))
                if (j >= schema_.end(b) || !same_value(i, j)) return false;
            return j >= schema_.end(b);
        }
        case JsonType::object: {
            if (schema_.count(a) != schema_.count(b)) return false;
            for (int i = schema_.first(a); i < schema_.end(a); i = schema_.next(i))
                if (const int j = schema_.find(b, schema_.at(i).key); j < 0 || !same_value(i, j)) return false;
            return true;
        }
    }
    return false;
}

namespace {

unsigned char type_of(const JsonNode& n) {
    switch (n.type) {
        case JsonType::null: return type_null;
        case JsonType::boolean: return n.truth ? type_true : type_false;
        case JsonType::number: return type_number;
        case JsonType::string: return type_string;
        case JsonType::array: return type_array;
        case JsonType::object: return type_object;
    }
    return 0;
}

unsigned char types_named(std::string_view name) {
    if (name == "boolean") return type_true | type_false;
    return name == "null"     ? type_null
           : name == "string" ? type_string
           : name == "array"  ? type_array
           : name == "object" ? type_object
                              : type_number;
}

}  // namespace

Result<Draft*> Expander::expand(std::span<const Literal> set) {
    Draft* all = TRY(draft(all_types, nullptr));
    for (const Literal l : set) all = TRY(product(all, TRY(expand(l, {false, false, 0}))));
    return all;
}

Result<Draft*> Expander::expand(Literal literal, Context context) {
    if (++context.depth > max_nesting)
        return wrong(Code::incorrect_parameters, literal.node(), "refers to itself without an object or array between");
    if (literal.is_constant()) return constant(literal.node(), literal.negated());
    const JsonNode& n = schema_.at(literal.node());
    if (n.type == JsonType::boolean) {
        if (n.truth == literal.negated()) return static_cast<Draft*>(nullptr);
        return draft(all_types, nullptr);
    }
    if (!literal.negated()) return schema(literal.node(), context);
    context.annotated = false;
    return not_schema(literal.node(), context);
}

Result<Draft*> Expander::constant(int node, bool negated) {
    const JsonNode& n = schema_.at(node);
    Fact f{};
    f.node = node, f.single = f.constant = true;
    f.patterns = f.other = -1;
    if (n.type != JsonType::array && n.type != JsonType::object) {
        f.kind = negated ? Fact::none_of : Fact::one_of;
        return only(negated ? static_cast<unsigned char>(all_types) : type_of(n), f);
    }
    const auto count = static_cast<std::uint32_t>(schema_.count(node));
    const bool is_array = n.type == JsonType::array;
    const unsigned char own = is_array ? type_array : type_object;
    const auto with = [&](Fact::Kind kind, std::uint32_t number) {
        Fact g{};
        g.kind = kind, g.count = number;
        return g;
    };
    if (!negated) {
        f.kind = is_array ? Fact::items : Fact::properties;
        const Fact* facts = TRY(fact(f, nullptr));
        facts = TRY(fact(with(is_array ? Fact::max_items : Fact::max_properties, count), facts));
        if (is_array) {
            facts = TRY(fact(with(Fact::min_items, count), facts));
        } else {
            for (int i = schema_.first(node); i < schema_.end(node); i = schema_.next(i)) {
                Fact g = with(Fact::required, 0);
                g.name = schema_.at(i).key;
                facts = TRY(fact(g, facts));
            }
        }
        return draft(own, facts);
    }
    Draft* all = TRY(draft(static_cast<unsigned char>(all_types & ~own), nullptr));
    all = joined(all, TRY(only(own, with(is_array ? Fact::min_items : Fact::min_properties, count + 1))));
    if (is_array && count > 0) all = joined(all, TRY(only(own, with(Fact::max_items, count - 1))));
    std::uint32_t position = 0;
    for (int i = schema_.first(node); i < schema_.end(node); i = schema_.next(i), position++) {
        Fact g = with(is_array ? Fact::item_at : Fact::property, position);
        g.name = schema_.at(i).key;
        g.literal = Literal::constant(i, true);
        Draft* const d = TRY(only(own, g));
        Fact there = with(is_array ? Fact::min_items : Fact::required, position + 1);
        there.name = g.name;
        d->facts = TRY(fact(there, d->facts));
        all = joined(all, d);
        if (!is_array) {
            there.kind = Fact::forbidden;
            all = joined(all, TRY(only(own, there)));
        }
    }
    return all;
}

Result<Draft*> Expander::enumeration(int list, bool negated) {
    Fact f{};
    f.kind = negated ? Fact::none_of : Fact::one_of;
    f.node = list;
    unsigned char scalars = 0;
    Draft* all = negated ? TRY(only(all_types, f)) : nullptr;
    for (int i = schema_.first(list); i < schema_.end(list); i = schema_.next(i)) {
        const unsigned char type = type_of(schema_.at(i));
        if ((type & (type_array | type_object)) == 0)
            scalars |= type;
        else if (negated)
            all = TRY(product(all, TRY(constant(i, true))));
        else
            all = joined(all, TRY(constant(i, false)));
    }
    if (scalars != 0 && !negated) all = joined(all, TRY(only(scalars, f)));
    return all;
}

Result<Draft*> Expander::type(int node, bool negated) {
    unsigned char types = 0;
    bool integer = false, number = false;
    const auto add = [&](std::string_view name) {
        types |= types_named(name);
        integer |= name == "integer";
        number |= name == "number";
    };
    if (schema_.at(node).type == JsonType::string)
        add(schema_.at(node).text);
    else
        for (int i = schema_.first(node); i < schema_.end(node); i = schema_.next(i)) add(schema_.at(i).text);
    integer &= !number;
    Fact f{};
    f.kind = Fact::integer;
    f.negated = negated;
    if (!negated) return integer ? only(types, f) : draft(types, nullptr);
    Draft* all = nullptr;
    const auto others = static_cast<unsigned char>(all_types & ~types);
    if (others != 0) all = TRY(draft(others, nullptr));
    if (integer) all = joined(all, TRY(only(type_number, f)));
    return all;
}

// With annotations every set of branches that hold together is an alternative of its own: what one of them evaluates,
// counts only when it holds.
Result<Draft*> Expander::any_of(int list, Context context) {
    Draft* all = nullptr;
    if (!context.annotated) {
        for (int i = schema_.first(list); i < schema_.end(list); i = schema_.next(i))
            all = joined(all, TRY(expand(Literal::schema(i), context)));
        return all;
    }
    const int n = schema_.count(list);
    if (n > 5)
        return wrong(Code::not_supported, list, "more than 5 branches under unevaluatedItems or unevaluatedProperties");
    for (int subset = 1; subset < 1 << n; subset++) {
        Draft* both = TRY(draft(all_types, nullptr));
        int k = 0;
        for (int i = schema_.first(list); i < schema_.end(list); i = schema_.next(i), k++)
            if ((subset >> k & 1) != 0) both = TRY(product(both, TRY(expand(Literal::schema(i), context))));
        all = joined(all, both);
    }
    return all;
}

// Exactly one: one, and none of those that are not apart from it anyway.
Result<Draft*> Expander::one_of(int list, Context context) {
    Draft* all = nullptr;
    const Context quiet{false, true, context.depth};
    for (int i = schema_.first(list); i < schema_.end(list); i = schema_.next(i)) {
        Draft* mine = TRY(expand(Literal::schema(i), context));
        for (int k = schema_.first(list); k < schema_.end(list); k = schema_.next(k)) {
            if (k == i || mine == nullptr) continue;
            const Literal a = Literal::schema(i), b = Literal::schema(k);
            if (TRY(apart({&a, 1}, {&b, 1}, 0))) continue;
            mine = TRY(product(mine, TRY(expand(Literal::schema(k, true), quiet))));
        }
        all = joined(all, mine);
    }
    return all;
}

// What is known of a property's value, at most out.size() literals.
int Expander::literals_of(const Draft* draft, std::string_view name, std::span<Literal> out) const {
    std::size_t n = 0;
    for (const Fact* f = draft->facts; f != nullptr && n < out.size(); f = f->next) {
        if (f->kind == Fact::property && f->name == name) out[n++] = f->literal;
        if (f->kind != Fact::properties || f->node < 0) continue;
        if (const int value = schema_.find(f->node, name); value >= 0)
            out[n++] = f->constant ? Literal::constant(value) : Literal::schema(value);
    }
    return static_cast<int>(n);
}

// No value obeys both: certain when true.
Result<bool> Expander::apart(const Draft* a, const Draft* b, int depth) {
    const auto common = static_cast<unsigned char>(a->types & b->types);
    const auto listed = [](const Draft* d) {
        for (const Fact* f = d->facts; f != nullptr; f = f->next)
            if (f->kind == Fact::one_of) return f;
        return static_cast<const Fact*>(nullptr);
    };
    const Fact *x = listed(a), *y = listed(b);
    constexpr unsigned char scalars = type_null | type_true | type_false | type_number | type_string;
    if ((common & scalars) != 0) {
        if (x == nullptr || y == nullptr) return false;
        const auto begin = [&](const Fact* f) { return f->single ? f->node : schema_.first(f->node); };
        for (int i = begin(x); i < schema_.end(x->node); i = schema_.next(i))
            for (int k = begin(y); k < schema_.end(y->node); k = schema_.next(k))
                if (same_value(i, k)) return false;
    }
    if ((common & type_array) != 0) return false;
    if ((common & type_object) == 0) return true;
    for (const Fact* f = a->facts; f != nullptr; f = f->next) {
        if (f->kind != Fact::required) continue;
        bool both = false;
        for (const Fact* g = b->facts; g != nullptr; g = g->next) {
            both |= g->kind == Fact::required && g->name == f->name;
            if (g->kind == Fact::forbidden && g->name == f->name) return true;
        }
        if (!both || depth >= 3) continue;
        Literal p[8], q[8];
        const auto n = static_cast<std::size_t>(literals_of(a, f->name, p));
        const auto m = static_cast<std::size_t>(literals_of(b, f->name, q));
        if (n != 0 && m != 0 && TRY(apart({p, n}, {q, m}, depth + 1))) return true;
    }
    return false;
}

Result<bool> Expander::apart(std::span<const Literal> a, std::span<const Literal> b, int depth) {
    const Draft *x = TRY(expand(a)), *y = TRY(expand(b));
    for (; x != nullptr; x = x->next)
        for (const Draft* z = y; z != nullptr; z = z->next)
            if (!TRY(apart(x, z, depth))) return false;
    return true;
}

Result<Draft*> Expander::schema(int node, Context context) {
    const int closed_items = schema_.find(node, "unevaluatedItems"),
              closed_properties = schema_.find(node, "unevaluatedProperties");
    context.annotated |= closed_items >= 0 || closed_properties >= 0;
    Draft* all = TRY(draft(all_types, nullptr));
    const auto also = [&](Result<Draft*> more) -> Result<void> {
        all = TRY(product(all, TRY(more)));
        return {};
    };
    const Fact* facts = nullptr;
    const auto add = [&](Fact f) -> Result<void> {
        f.silent = context.silent;
        facts = TRY(fact(f, facts));
        return {};
    };
    Fact items{}, properties{};
    items.kind = Fact::items, properties.kind = Fact::properties;
    items.node = items.other = properties.node = properties.patterns = properties.other = -1;
    int when = -1, then = -1, otherwise = -1, contains = -1;
    std::uint32_t min_contains = 1, max_contains = 1u << 30;

    for (int i = schema_.first(node); i < schema_.end(node); i = schema_.next(i)) {
        const JsonNode& v = schema_.at(i);
        const std::string_view k = v.key;
        Fact f{};
        f.node = i;
        f.count =
            v.type == JsonType::number && v.number >= 0 && v.number <= 1e9 ? static_cast<std::uint32_t>(v.number) : 0;
        f.name = v.text;
        const auto plain = [&](Fact::Kind kind) {
            f.kind = kind;
            return add(f);
        };
        if (k == "$ref")
            TRY(also(expand(Literal::schema(schema_.target(node)), context)));
        else if (k == "type")
            TRY(also(type(i, false)));
        else if (k == "enum")
            TRY(also(enumeration(i, false)));
        else if (k == "const")
            TRY(also(constant(i, false)));
        else if (k == "allOf") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s))
                TRY(also(expand(Literal::schema(s), context)));
        } else if (k == "anyOf")
            TRY(also(any_of(i, context)));
        else if (k == "oneOf")
            TRY(also(one_of(i, context)));
        else if (k == "not")
            TRY(also(expand(Literal::schema(i, true), {false, true, context.depth})));
        else if (k == "if")
            when = i;
        else if (k == "then")
            then = i;
        else if (k == "else")
            otherwise = i;
        else if (k == "minimum")
            TRY(plain(Fact::minimum));
        else if (k == "maximum")
            TRY(plain(Fact::maximum));
        else if (k == "exclusiveMinimum")
            TRY(plain(Fact::above));
        else if (k == "exclusiveMaximum")
            TRY(plain(Fact::below));
        else if (k == "multipleOf")
            TRY(plain(Fact::multiple));
        else if (k == "minLength")
            TRY(plain(Fact::min_length));
        else if (k == "maxLength")
            TRY(plain(Fact::max_length));
        else if (k == "pattern")
            TRY(plain(Fact::pattern));
        else if (k == "format")
            TRY(plain(Fact::format));
        else if (k == "from")
            TRY(plain(Fact::from));
        else if (k == "prefixItems")
            items.node = i;
        else if (k == "items")
            items.other = i;
        else if (k == "contains")
            contains = i;
        else if (k == "minContains")
            min_contains = f.count;
        else if (k == "maxContains")
            max_contains = f.count;
        else if (k == "minItems")
            TRY(plain(Fact::min_items));
        else if (k == "maxItems")
            TRY(plain(Fact::max_items));
        else if (k == "uniqueItems") {
            if (v.truth) TRY(plain(Fact::unique));
        } else if (k == "properties")
            properties.node = i;
        else if (k == "patternProperties")
            properties.patterns = i;
        else if (k == "additionalProperties")
            properties.other = i;
        else if (k == "propertyNames") {
            f.literal = Literal::schema(i);
            TRY(plain(Fact::names));
        } else if (k == "required") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s)) {
                f.name = schema_.at(s).text;
                TRY(plain(Fact::required));
            }
        } else if (k == "minProperties")
            TRY(plain(Fact::min_properties));
        else if (k == "maxProperties")
            TRY(plain(Fact::max_properties));
        else if (k == "dependentRequired") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s)) {
                f.name = schema_.at(s).key;
                f.node = s;
                TRY(plain(Fact::dependent));
            }
        } else if (k == "dependentSchemas") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s)) {
                f.name = schema_.at(s).key;
                f.kind = Fact::forbidden;
                Draft* const without = TRY(only(all_types, f));
                f.kind = Fact::required;
                Draft* const with = TRY(product(TRY(only(type_object, f)), TRY(expand(Literal::schema(s), context))));
                TRY(also(joined(without, with)));
            }
        }
    }
    if (items.node >= 0 || items.other >= 0) TRY(add(items));
    if (properties.node >= 0 || properties.patterns >= 0 || properties.other >= 0) TRY(add(properties));
    if (contains >= 0) {
        Fact f{};
        f.kind = Fact::contains, f.node = contains, f.literal = Literal::schema(contains);
        f.count = min_contains, f.most = max_contains;
        TRY(add(f));
    }
    TRY(also(draft(all_types, facts)));
    if (when >= 0) {
        Draft* holds = TRY(expand(Literal::schema(when), context));
        Draft* fails = TRY(expand(Literal::schema(when, true), {false, true, context.depth}));
        if (then >= 0) holds = TRY(product(holds, TRY(expand(Literal::schema(then), context))));
        if (otherwise >= 0) fails = TRY(product(fails, TRY(expand(Literal::schema(otherwise), context))));
        // Without either, it only matters to what is evaluated.
        if (then >= 0 || otherwise >= 0 || context.annotated) TRY(also(joined(holds, fails)));
    }
    for (const int closed : {closed_items, closed_properties}) {
        if (closed < 0) continue;
        for (Draft* d = all; d != nullptr; d = d->next) {
            Fact f{};
            f.kind = closed == closed_items ? Fact::closed_items : Fact::closed_properties;
            f.node = closed;
            f.literal = Literal::schema(closed);
            f.inner = d->facts;
            f.silent = context.silent;
            d->facts = TRY(fact(f, d->facts));
        }
    }
    return all;
}

// What breaks one of its keywords.
Result<Draft*> Expander::not_schema(int node, Context context) {
    Draft* all = nullptr;
    const auto or_else = [&](Result<Draft*> more) -> Result<void> {
        all = joined(all, TRY(more));
        return {};
    };
    const auto broken = [&](unsigned char types, const Fact& f, const Fact* and_also = nullptr) -> Result<void> {
        Draft* const d = TRY(only(types, f));
        if (and_also != nullptr) d->facts = TRY(fact(*and_also, d->facts));
        return or_else(d);
    };
    const int prefix = schema_.find(node, "prefixItems");
    int when = -1, then = -1, otherwise = -1, contains = -1;
    std::uint32_t min_contains = 1, max_contains = 1u << 30;
    const auto trivial = [&](int s) {
        return schema_.at(s).type == JsonType::boolean ? schema_.at(s).truth : schema_.count(s) == 0;
    };
    for (int i = schema_.first(node); i < schema_.end(node); i = schema_.next(i)) {
        const JsonNode& v = schema_.at(i);
        const std::string_view k = v.key;
        Fact f{};
        f.node = i;
        f.negated = f.silent = true;
        f.name = v.text;
        f.count =
            v.type == JsonType::number && v.number >= 0 && v.number <= 1e9 ? static_cast<std::uint32_t>(v.number) : 0;
        const auto plain = [&](Fact::Kind kind) {
            f.kind = kind;
            return broken(types_of(kind), f);
        };
        if (k == "$ref")
            TRY(or_else(expand(Literal::schema(schema_.target(node), true), context)));
        else if (k == "type")
            TRY(or_else(type(i, true)));
        else if (k == "enum")
            TRY(or_else(enumeration(i, true)));
        else if (k == "const")
            TRY(or_else(constant(i, true)));
        else if (k == "allOf") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s))
                TRY(or_else(expand(Literal::schema(s, true), context)));
        } else if (k == "anyOf") {
            Draft* none = TRY(draft(all_types, nullptr));
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s))
                none = TRY(product(none, TRY(expand(Literal::schema(s, true), context))));
            TRY(or_else(none));
        } else if (k == "not")
            TRY(or_else(expand(Literal::schema(i), {false, true, context.depth})));
        else if (k == "if")
            when = i;
        else if (k == "then")
            then = i;
        else if (k == "else")
            otherwise = i;
        else if (k == "minimum")
            TRY(plain(Fact::below));
        else if (k == "maximum")
            TRY(plain(Fact::above));
        else if (k == "exclusiveMinimum")
            TRY(plain(Fact::maximum));
        else if (k == "exclusiveMaximum")
            TRY(plain(Fact::minimum));
        else if (k == "multipleOf")
            TRY(plain(Fact::multiple));
        else if (k == "minLength") {
            if (f.count == 0) continue;
            f.count--;
            TRY(plain(Fact::max_length));
        } else if (k == "maxLength") {
            f.count++;
            TRY(plain(Fact::min_length));
        } else if (k == "pattern")
            TRY(plain(Fact::pattern));
        else if (k == "minItems" || k == "minProperties") {
            if (f.count == 0) continue;
            f.count--;
            TRY(plain(k == "minItems" ? Fact::max_items : Fact::max_properties));
        } else if (k == "maxItems" || k == "maxProperties") {
            f.count++;
            TRY(plain(k == "maxItems" ? Fact::min_items : Fact::min_properties));
        } else if (k == "prefixItems") {
            std::uint32_t position = 0;
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s), position++) {
                Fact there = f;
                there.kind = Fact::min_items;
                there.count = position + 1;
                f.kind = Fact::item_at;
                f.count = position;
                f.literal = Literal::schema(s, true);
                TRY(broken(type_array, f, &there));
            }
        } else if (k == "items" && prefix < 0) {
            f.kind = Fact::contains;
            f.literal = Literal::schema(i, true);
            f.count = 1, f.most = 1u << 30;
            TRY(broken(type_array, f));
        } else if (k == "contains")
            contains = i;
        else if (k == "minContains")
            min_contains = f.count;
        else if (k == "maxContains")
            max_contains = f.count;
        else if (k == "properties") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s)) {
                f.kind = Fact::property;
                f.name = schema_.at(s).key;
                f.literal = Literal::schema(s, true);
                Fact there = f;
                there.kind = Fact::required;
                TRY(broken(type_object, f, &there));
            }
        } else if (k == "required") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s)) {
                f.name = schema_.at(s).text;
                f.kind = Fact::forbidden;
                TRY(broken(type_object, f));
            }
        } else if (k == "dependentRequired") {
            for (int s = schema_.first(i); s < schema_.end(i); s = schema_.next(s))
                for (int r = schema_.first(s); r < schema_.end(s); r = schema_.next(r)) {
                    f.kind = Fact::forbidden;
                    f.name = schema_.at(r).text;
                    Fact there = f;
                    there.kind = Fact::required;
                    there.name = schema_.at(s).key;
                    TRY(broken(type_object, f, &there));
                }
        } else if (k == "format" || k == "from" || k == "oneOf" || (k == "patternProperties" && schema_.count(i) > 0) ||
                   ((k == "items" || k == "additionalProperties" || k == "propertyNames" || k == "unevaluatedItems" ||
                     k == "unevaluatedProperties") &&
                    !trivial(i)) ||
                   (k == "uniqueItems" && v.truth) || (k == "dependentSchemas" && schema_.count(i) > 0)) {
            return wrong(Code::not_supported, i,
                         "is not supported under \"not\", in \"if\" or in a branch of oneOf that "
                         "the others do not exclude by type or by a const");
        }
    }
    if (contains >= 0) {
        Fact f{};
        f.kind = Fact::contains, f.node = contains, f.literal = Literal::schema(contains), f.silent = true;
        if (min_contains > 0) {
            f.count = 0, f.most = min_contains - 1;
            TRY(broken(type_array, f));
        }
        if (max_contains < 1u << 30) {
            f.count = max_contains + 1, f.most = 1u << 30;
            TRY(broken(type_array, f));
        }
    }
    if (when >= 0) {
        const Context quiet{false, true, context.depth};
        if (then >= 0)
            TRY(or_else(
                product(TRY(expand(Literal::schema(when), quiet)), TRY(expand(Literal::schema(then, true), quiet)))));
        if (otherwise >= 0)
            TRY(or_else(product(TRY(expand(Literal::schema(when, true), quiet)),
                                TRY(expand(Literal::schema(otherwise, true), quiet)))));
    }
    return all;
}

}  // namespace slmd::grammar
