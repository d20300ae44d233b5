// Values as Python and Jinja treat them; the filters, tests and methods of the subset.
#include <algorithm>
#include <array>
#include <cstdio>

#include "text/unicode.h"
#include "toolchain/slmpack/tokenizer/jinja_syntax.h"

namespace slmd::pack::jinja {

// ---- Values

namespace {

constexpr int max_value_depth = 16;
constexpr std::size_t max_weight = 16384, max_short = 1024;

void hold(Value& container, const Value& v, int line) {
    if (v.kind == Value::space) refuse(line, "a namespace inside of another value");  // it could hold itself
    container.depth = std::max(container.depth, v.depth + 1);
    container.held += v.weight();  // what is shared counts each time: comparing goes through it each time
    if (container.depth > max_value_depth) refuse(line, "values nested more than %d deep", max_value_depth);
    if (container.held > max_weight) refuse(line, "a list or mapping of more than %zu elements", max_weight);
}

const char* kind_name(const Value& v) {
    constexpr const char* names[] = {"undefined", "none",      "a boolean",   "a number",  "a string",
                                     "a list",    "a mapping", "a namespace", "a function"};
    return names[v.kind];
}

}  // namespace

Value Value::of(Items items, int line) {
    if (items.size() > max_items) refuse(line, "a list of more than %zu elements", max_items);
    Value v{.kind = list};
    for (const Value& item : items) hold(v, item, line);
    v.items = std::make_shared<const Items>(std::move(items));
    return v;
}

Value Value::of(Entries entries, int line, Kind kind) {
    if (entries.size() > max_items) refuse(line, "a mapping of more than %zu entries", max_items);
    Value v{.kind = kind};
    for (const auto& entry : entries) hold(v, entry.second, line);
    v.entries = std::make_shared<Entries>(std::move(entries));
    return v;
}

const Value* Arguments::find(std::size_t at, std::string_view name) const {
    for (std::size_t i = 0; i < values.size(); ++i)
        if (names[i].empty() ? i == at : names[i] == name) return &values[i];
    return nullptr;
}

const Value* find(const Entries& entries, std::string_view name) {
    for (const auto& [key, value] : entries)
        if (key == name) return &value;
    return nullptr;
}

bool truthy(const Value& v) {
    switch (v.kind) {
        case Value::undefined:
        case Value::none: return false;
        case Value::boolean:
        case Value::integer: return v.number != 0;
        case Value::string: return !v.text.empty();
        case Value::list: return !v.items->empty();
        case Value::mapping: return !v.entries->empty();
        default: return true;
    }
}

bool equal(const Value& a, const Value& b) {
    if (a.is_number() && b.is_number()) return a.number == b.number;
    if (a.kind != b.kind) return false;
    switch (a.kind) {
        case Value::undefined:
        case Value::none: return true;
        case Value::string: return a.text == b.text;
        case Value::list: return std::equal(a.items->begin(), a.items->end(), b.items->begin(), b.items->end(), equal);
        case Value::mapping:
            return a.entries->size() == b.entries->size() &&
                   std::all_of(a.entries->begin(), a.entries->end(), [&](const auto& entry) {
                       const Value* other = find(*b.entries, entry.first);
                       return other && equal(entry.second, *other);
                   });
        case Value::space: return a.entries == b.entries;
        default: return a.macro == b.macro && a.text == b.text;
    }
}

std::string to_text(const Value& v, int line) {
    switch (v.kind) {
        case Value::undefined:
            if (v.text == "bos_token" || v.text == "eos_token")
                refuse(line, "the template needs the model's %s-of-sequence token, which the tokenizer does not name",
                       v.text == "bos_token" ? "beginning" : "end");
            return "";
        case Value::none: return "None";
        case Value::boolean: return v.number ? "True" : "False";
        case Value::integer: return std::to_string(v.number);
        case Value::string: return v.text;
        default: refuse(line, "%s is no text", kind_name(v));
    }
}

const std::string& string_of(const Value& v, int line, const char* what) {
    if (v.kind == Value::undefined) to_text(v, line);
    if (v.kind == Value::undefined) refuse(line, "%s: \"%.40s\" is undefined", what, v.text.c_str());
    if (v.kind != Value::string) refuse(line, "%s: %s where a string should be", what, kind_name(v));
    return v.text;
}

const std::string& short_string(const Value& v, int line, const char* what) {
    const std::string& s = string_of(v, line, what);
    if (s.size() > max_short) refuse(line, "%s: a string of more than %zu bytes", what, max_short);
    return s;
}

std::int64_t integer_of(const Value& v, int line, const char* what) {
    if (v.kind == Value::undefined) refuse(line, "%s: \"%.40s\" is undefined", what, v.text.c_str());
    if (!v.is_number()) refuse(line, "%s: %s where a number should be", what, kind_name(v));
    return v.number;
}

void append(std::string& out, std::string_view more, int line) {
    if (more.size() > max_text - out.size()) refuse(line, "a text of more than %zu KiB", max_text >> 10);
    out += more;
}

std::vector<std::string_view> characters(std::string_view s) {
    std::vector<std::string_view> out;
    for (std::size_t at = 0; at < s.size(); at += out.back().size())
        out.push_back(s.substr(at, text::char_at(s, at).bytes));
    return out;
}

Items items_of(const Value& v, int line) {
    Items out;
    switch (v.kind) {
        case Value::undefined: return out;
        case Value::list: return *v.items;
        case Value::mapping:
            for (const auto& entry : *v.entries) out.push_back(Value::of(entry.first));
            return out;
        case Value::string: {
            const auto all = characters(v.text);
            if (all.size() > max_items) refuse(line, "a list of more than %zu elements", max_items);
            for (const std::string_view c : all) out.push_back(Value::of(std::string(c)));
            return out;
        }
        default: refuse(line, "%s has no elements", kind_name(v));
    }
}

// Python's str.strip(), lstrip(), rstrip(), of white space or of some characters.
std::string_view stripped(std::string_view s, const Value* set, bool left, bool right, int line) {
    if (!set || set->kind == Value::none) return text::stripped(s, left, right);
    const auto strip = characters(short_string(*set, line, "strip"));
    const auto all = characters(s);
    const auto in = [&](std::string_view c) { return std::find(strip.begin(), strip.end(), c) != strip.end(); };
    std::size_t begin = 0, end = all.size();
    while (left && begin < end && in(all[begin])) s.remove_prefix(all[begin++].size());
    while (right && begin < end && in(all[end - 1])) s.remove_suffix(all[--end].size());
    return s;
}

// ---- What filters and methods share

namespace {

enum class Case { lower, upper, title, capital };

std::string cased(std::string_view s, Case to, int line) {
    std::string out;
    bool inside = false;  // a word
    for (const char c : s) {
        if (static_cast<unsigned char>(c) >= 128) refuse(line, "the case of letters beyond ASCII is not changed");
        const bool lower = c >= 'a' && c <= 'z', upper = c >= 'A' && c <= 'Z';
        const bool up = to == Case::upper || (to == Case::title && !inside) || (to == Case::capital && out.empty());
        out += (up && lower) || (!up && upper) ? static_cast<char>(c ^ 0x20) : c;
        inside = lower || upper;
    }
    return out;
}

std::string replaced(std::string_view s, const Arguments& a, int line) {
    const Value *from = a.find(0), *to = a.find(1), *limit = a.find(2, "count");
    if (!from || !to) refuse(line, "replace needs two strings");
    const std::string &old = short_string(*from, line, "replace"), &fresh = string_of(*to, line, "replace");
    if (old.empty()) refuse(line, "replace of an empty string");
    std::int64_t left = limit && limit->kind != Value::none ? integer_of(*limit, line, "replace") : -1;
    std::string out;
    for (std::size_t at = 0; at <= s.size();) {
        const std::size_t next = left == 0 ? s.npos : s.find(old, at);
        append(out, s.substr(at, std::min(next, s.size()) - at), line);
        if (next == s.npos) break;
        append(out, fresh, line);
        at = next + old.size(), --left;
    }
    return out;
}

std::string joined(const Items& items, std::string_view between, int line) {
    std::string out;
    for (std::size_t i = 0; i < items.size(); ++i) {
        if (i > 0) append(out, between, line);
        append(out, to_text(items[i], line), line);
    }
    return out;
}

Value pairs(const Value& v, int line) {
    Items out;
    for (const auto& [key, value] : *v.entries) out.push_back(Value::of(Items{Value::of(key), value}, line));
    return Value::of(std::move(out), line);
}

std::string json(const Value& v, int line) {
    std::string out;
    switch (v.kind) {
        case Value::none: return "null";
        case Value::boolean: return v.number ? "true" : "false";
        case Value::integer: return std::to_string(v.number);
        case Value::string:
            out = '"';
            for (const char c : v.text) {
                constexpr std::string_view from = "\"\\\b\f\n\r\t", to = "\"\\bfnrt";
                char hex[8];
                if (const std::size_t i = from.find(c); i != from.npos)
                    append(out, std::string{'\\', to[i]}, line);
                else if (static_cast<unsigned char>(c) < 0x20)
                    std::snprintf(hex, sizeof hex, "\\u%04x", static_cast<unsigned>(c)), append(out, hex, line);
                else
                    append(out, {&c, 1}, line);
            }
            return out + '"';
        case Value::list:
            for (const Value& item : *v.items) append(out, (out.empty() ? "" : ", ") + json(item, line), line);
            return '[' + out + ']';
        case Value::mapping:
            for (const auto& [key, value] : *v.entries)
                append(out, (out.empty() ? "" : ", ") + json(Value::of(key), line) + ": " + json(value, line), line);
            return '{' + out + '}';
        default: refuse(line, "tojson of %s", kind_name(v));
    }
}

Value member(const Value& v, const Value& name, int line) {
    if (string_of(name, line, "the attribute").find('.') != std::string::npos)
        refuse(line, "attributes of attributes are not in the subset of Jinja that is read");
    const Value* found = v.kind == Value::mapping ? find(*v.entries, name.text) : nullptr;
    return found ? *found : Value{.text = name.text};
}

// selectattr("role", "equalto", "user"), select("string"), map(attribute="content") and their like.
Value chosen(const std::string& filter, const Value& v, const Arguments& a, int line) {
    const bool by_attribute = filter.ends_with("attr"), keep = filter.starts_with("select");
    const std::size_t test_at = by_attribute ? 1 : 0;
    if (by_attribute && !a.find(0)) refuse(line, "%s needs an attribute", filter.c_str());
    Arguments rest;
    for (std::size_t i = test_at + 1; i < a.values.size(); ++i)
        rest.values.push_back(a.values[i]), rest.names.emplace_back();
    Items out;
    if (!truthy(v)) return Value::of(std::move(out), line);  // none has no elements, here
    for (Value& item : items_of(v, line)) {
        const Value tested = by_attribute ? member(item, *a.find(0), line) : item;
        const Value* test = a.find(test_at);
        if ((test ? apply_test(string_of(*test, line, "the test"), tested, rest, line) : truthy(tested)) == keep)
            out.push_back(std::move(item));
    }
    return Value::of(std::move(out), line);
}

Value mapped(const Value& v, const Arguments& a, int line) {
    const Value *attribute = a.find(max_items, "attribute"), *otherwise = a.find(max_items, "default");
    const Value* filter = a.find(0);
    if (!attribute && !filter) refuse(line, "map needs a filter or an attribute");
    Arguments rest;
    for (std::size_t i = 1; i < a.values.size(); ++i)
        rest.values.push_back(a.values[i]), rest.names.push_back(a.names[i]);
    Items out;
    if (!truthy(v)) return Value::of(std::move(out), line);
    for (const Value& item : items_of(v, line)) {
        Value one = attribute ? member(item, *attribute, line)
                              : apply_filter(string_of(*filter, line, "the filter"), item, rest, line);
        if (one.kind == Value::undefined && otherwise) one = *otherwise;
        out.push_back(std::move(one));
    }
    return Value::of(std::move(out), line);
}

std::int64_t length(const Value& v, int line) {
    switch (v.kind) {
        case Value::undefined: return 0;
        case Value::string: return static_cast<std::int64_t>(characters(v.text).size());
        case Value::list: return static_cast<std::int64_t>(v.items->size());
        case Value::mapping: return static_cast<std::int64_t>(v.entries->size());
        default: refuse(line, "%s has no length", kind_name(v));
    }
}

Value number_in(const std::string& s, std::int64_t otherwise) {
    const std::string_view digits = text::stripped(s, true, true);
    std::int64_t n = 0;
    const bool minus = digits.starts_with('-');
    bool good = digits.size() > minus;
    for (const char c : digits.substr(minus))
        good = good && c >= '0' && c <= '9' && !__builtin_mul_overflow(n, 10, &n) &&
               !__builtin_add_overflow(n, c - '0', &n);
    return Value::of(!good ? otherwise : minus ? -n : n);
}

}  // namespace

// ---- Filters, tests, methods: each by its name

Value apply_filter(const std::string& name, const Value& v, const Arguments& a, int line) {
    const auto text = [&] { return to_text(v, line); };
    for (const std::string& n : a.names)
        if (n == "indent" || n == "separators" || n == "sort_keys" || n == "base" || n == "case_sensitive" ||
            (n == "attribute" && name != "map"))
            refuse(line, "%.40s(%s) is not in the subset of Jinja that is read", name.c_str(), n.c_str());
    if (name == "trim") return Value::of(std::string(stripped(text(), a.find(0, "chars"), true, true, line)));
    if (name == "upper") return Value::of(cased(text(), Case::upper, line));
    if (name == "lower") return Value::of(cased(text(), Case::lower, line));
    if (name == "capitalize") return Value::of(cased(text(), Case::capital, line));
    if (name == "string" || name == "safe") return Value::of(text());
    if (name == "replace") return Value::of(replaced(text(), a, line));
    if (name == "length" || name == "count") return Value::of(length(v, line));
    if (name == "default" || name == "d") {
        const Value *otherwise = a.find(0, "default_value"), *falsy = a.find(1, "boolean");
        const bool keep = falsy && truthy(*falsy) ? truthy(v) : v.kind != Value::undefined;
        return keep ? v : otherwise ? *otherwise : Value::of(std::string());
    }
    if (name == "join") {
        const Value* between = a.find(0, "d");
        return Value::of(joined(items_of(v, line), between ? to_text(*between, line) : "", line));
    }
    if (name == "first" || name == "last") {
        const Items items = items_of(v, line);
        if (items.empty()) return Value{.text = name};
        return name == "first" ? items.front() : items.back();
    }
    if (name == "list") return Value::of(items_of(v, line), line);
    if (name == "reverse") {
        if (v.kind == Value::string) refuse(line, "reverse of a string");
        Items items = items_of(v, line);
        std::reverse(items.begin(), items.end());
        return Value::of(std::move(items), line);
    }
    if (name == "int") {
        const Value* otherwise = a.find(0, "default");
        const std::int64_t n = otherwise ? integer_of(*otherwise, line, "int") : 0;
        return v.is_number() ? Value::of(v.number) : number_in(v.kind == Value::string ? v.text : "", n);
    }
    if (name == "items") {
        if (v.kind == Value::undefined) return Value::of(Items{}, line);
        if (v.kind != Value::mapping) refuse(line, "items of %s", kind_name(v));
        return pairs(v, line);
    }
    if (name == "tojson") return Value::of(json(v, line));
    if (name == "selectattr" || name == "rejectattr" || name == "select" || name == "reject")
        return chosen(name, v, a, line);
    if (name == "map") return mapped(v, a, line);
    refuse(line, "the filter %.40s is not in the subset of Jinja that is read", name.c_str());
}

namespace {
bool has_elements(const Value& v) {
    return v.kind == Value::string || v.kind == Value::list || v.kind == Value::mapping || v.kind == Value::undefined;
}
}  // namespace

bool apply_test(const std::string& name, const Value& v, const Arguments& a, int line) {
    using Test = bool (*)(const Value&);
    constexpr std::pair<const char*, Test> simple[] = {
        {"defined", [](const Value& x) { return x.kind != Value::undefined; }},
        {"undefined", [](const Value& x) { return x.kind == Value::undefined; }},
        {"none", [](const Value& x) { return x.kind == Value::none; }},
        {"true", [](const Value& x) { return x.kind == Value::boolean && x.number; }},
        {"false", [](const Value& x) { return x.kind == Value::boolean && !x.number; }},
        {"boolean", [](const Value& x) { return x.kind == Value::boolean; }},
        {"integer", [](const Value& x) { return x.kind == Value::integer; }},
        {"number", [](const Value& x) { return x.is_number(); }},
        {"string", [](const Value& x) { return x.kind == Value::string; }},
        {"mapping", [](const Value& x) { return x.kind == Value::mapping; }},
        {"callable", [](const Value& x) { return x.kind == Value::function; }},
        {"iterable", has_elements},
        {"sequence", has_elements},
    };
    for (const auto& [known, holds] : simple)
        if (name == known) {
            if (!a.values.empty()) refuse(line, "the test %s takes no argument", known);
            return holds(v);
        }
    const auto argument = [&]() -> const Value& {
        if (a.values.size() != 1) refuse(line, "the test %.40s needs one argument", name.c_str());
        return a.values[0];
    };
    if (name == "equalto" || name == "eq" || name == "==") return equal(v, argument());
    if (name == "ne" || name == "!=") return !equal(v, argument());
    if (name == "in") {
        const Value& where = argument();
        if (where.kind == Value::string) return where.text.find(short_string(v, line, "in")) != std::string::npos;
        const Items items = items_of(where, line);
        return std::any_of(items.begin(), items.end(), [&](const Value& item) { return equal(item, v); });
    }
    if (name == "odd" || name == "even") return (integer_of(v, line, name.c_str()) % 2 != 0) == (name == "odd");
    if (name == "divisibleby") {
        const std::int64_t by = integer_of(argument(), line, "divisibleby");
        if (by == 0) refuse(line, "division by zero");
        return by == -1 || integer_of(v, line, "divisibleby") % by == 0;
    }
    refuse(line, "the test %.40s is not in the subset of Jinja that is read", name.c_str());
}

bool has_method(const Value& v, std::string_view name) {
    constexpr std::array of_strings{"strip", "lstrip",     "rstrip",  "startswith", "endswith", "split", "lower",
                                    "upper", "capitalize", "replace", "title",      "join",     "find"};
    constexpr std::array of_mappings{"get", "items", "keys", "values"};
    const auto in = [&](const auto& names) { return std::find(names.begin(), names.end(), name) != names.end(); };
    return v.kind == Value::string ? in(of_strings) : v.kind == Value::mapping && in(of_mappings);
}

namespace {

Value split(const std::string& s, const Arguments& a, int line) {
    const Value *separator = a.find(0, "sep"), *most = a.find(1, "maxsplit");
    std::int64_t left = most ? integer_of(*most, line, "split") : -1;
    Items out;
    std::string_view rest = s;
    const auto add = [&](std::string_view part) {
        if (out.size() >= max_items) refuse(line, "a list of more than %zu elements", max_items);
        out.push_back(Value::of(std::string(part)));
    };
    if (!separator || separator->kind == Value::none) {  // at runs of white space
        for (rest = text::stripped(rest, true, false); !rest.empty(); rest = text::stripped(rest, true, false)) {
            std::size_t n = 0;
            while (n < rest.size() && text::stripped(rest.substr(n), true, false).size() == rest.size() - n)
                n += text::char_at(rest, n).bytes;
            if (left-- == 0) n = text::stripped(rest, false, true).size();
            add(rest.substr(0, n));
            rest.remove_prefix(n);
        }
        return Value::of(std::move(out), line);
    }
    const std::string& at = short_string(*separator, line, "split");
    if (at.empty()) refuse(line, "split at an empty string");
    for (std::size_t n; left != 0 && (n = rest.find(at)) != rest.npos; rest.remove_prefix(n + at.size()), --left)
        add(rest.substr(0, n));
    add(rest);
    return Value::of(std::move(out), line);
}

bool starts_or_ends(const std::string& s, const Value& with, bool starts, int line) {
    if (with.kind == Value::list)
        return std::any_of(with.items->begin(), with.items->end(),
                           [&](const Value& one) { return starts_or_ends(s, one, starts, line); });
    const std::string& what = string_of(with, line, starts ? "startswith" : "endswith");
    return starts ? s.starts_with(what) : s.ends_with(what);
}

}  // namespace

Value call_method(const Value& v, const std::string& name, const Arguments& a, int line) {
    const auto needed = [&]() -> const Value& {
        if (!a.find(0)) refuse(line, "%.40s needs an argument", name.c_str());
        return *a.find(0);
    };
    if (v.kind == Value::mapping) {
        if (name == "items") return pairs(v, line);
        if (name == "get") {
            const Value* found = find(*v.entries, string_of(needed(), line, "get"));
            const Value* otherwise = a.find(1);
            return found ? *found : otherwise ? *otherwise : Value{.kind = Value::none};
        }
        Items out;
        for (const auto& entry : *v.entries) out.push_back(name == "keys" ? Value::of(entry.first) : entry.second);
        return Value::of(std::move(out), line);
    }
    const std::string& s = v.text;
    if (name == "strip") return Value::of(std::string(stripped(s, a.find(0), true, true, line)));
    if (name == "lstrip") return Value::of(std::string(stripped(s, a.find(0), true, false, line)));
    if (name == "rstrip") return Value::of(std::string(stripped(s, a.find(0), false, true, line)));
    if (name == "startswith" || name == "endswith")
        return Value::of(starts_or_ends(s, needed(), name == "startswith", line));
    if (name == "split") return split(s, a, line);
    if (name == "replace") return Value::of(replaced(s, a, line));
    if (name == "join") return Value::of(joined(items_of(needed(), line), s, line));
    if (name == "find") {
        const std::size_t at = s.find(short_string(needed(), line, "find"));
        return Value::of(at == s.npos
                             ? std::int64_t{-1}
                             : static_cast<std::int64_t>(characters(std::string_view(s).substr(0, at)).size()));
    }
    return Value::of(cased(s,
                           name == "lower"   ? Case::lower
                           : name == "upper" ? Case::upper
                           : name == "title" ? Case::title
                                             : Case::capital,
                           line));
}

}  // namespace slmd::pack::jinja
