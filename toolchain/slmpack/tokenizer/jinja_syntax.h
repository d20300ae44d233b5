// The syntax tree of a chat template, and the values that it computes with. Private to jinja_*.cpp.
#pragma once
#include <cstdint>
#include <map>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "toolchain/slmpack/tokenizer/jinja.h"

namespace slmd::pack::jinja {

// Thrown inside, an Error outside.
struct Refusal {
    Code code;
    int line;
    std::string text;
};
[[noreturn, gnu::format(printf, 2, 3)]] void refuse(int line, const char* format, ...);

struct Token {
    enum Kind { data, block_begin, block_end, print_begin, print_end, name, string, integer, op, end } kind;
    int line;
    std::string text;         // decoded
    std::int64_t number = 0;  // integer

    bool is(std::string_view s) const { return (kind == op || kind == name) && text == s; }
};
struct Expr;
using ExprPtr = std::unique_ptr<const Expr>;

struct Expr {
    enum Kind {
        none,
        boolean,      // number
        integer,      // number
        string,       // text
        name,         // text
        list,         // kids
        mapping,      // kids: key, value, key, value, ...
        attribute,    // kids[0].text
        subscript,    // kids[0][kids[1]]
        slice,        // kids[0][kids[1]:kids[2]:kids[3]], each may be missing
        call,         // kids[0](kids[1], ...); names: of the arguments
        filter,       // kids[0] | text(kids[1], ...); names: of the arguments
        test,         // kids[0] is text(kids[1], ...)
        unary,        // text kids[0]: "not" "-" "+"
        binary,       // kids[0] text kids[1]: + - * // % and or
        concat,       // kids[0] ~ kids[1] ~ ...
        compare,      // kids[0] names[0] kids[1] names[1] ...: == != < <= > >= "in" "not in"
        conditional,  // kids[0] if kids[1] else kids[2], which may be missing
    } kind;
    int line;
    std::string text{};
    std::int64_t number = 0;
    std::vector<ExprPtr> kids{};
    std::vector<std::string> names{};
    int height = 1;
};

struct Statement;
struct Block {
    std::vector<Statement> statements;
};

struct Statement {
    enum Kind {
        data,       // text
        print,      // a
        branch,     // branches, otherwise
        loop,       // names in a, if b: branches[0].body, otherwise
        set,        // names = a; names[0] may be "namespace.attribute"
        set_block,  // names[0] = what branches[0].body prints
        macro,      // text(names = defaults): branches[0].body
        plain,      // branches[0].body
        break_loop,
        continue_loop,
    } kind;
    int line;
    std::string text{};
    std::vector<std::string> names{};
    ExprPtr a{}, b{};
    std::vector<ExprPtr> defaults{};
    struct Branch {
        ExprPtr condition;
        Block body;
    };
    std::vector<Branch> branches{};
    Block otherwise{};
};

Block parse(std::string_view source);

// ---- Values

struct Value;
using Items = std::vector<Value>;
using Entries = std::vector<std::pair<std::string, Value>>;  // in the order of insertion

struct Value {
    enum Kind { undefined, none, boolean, integer, string, list, mapping, space, function } kind = undefined;
    std::int64_t number = 0;
    std::string text{};  // of a string; the name of what is undefined; of a function
    std::shared_ptr<const Items> items{};
    std::shared_ptr<Entries> entries{};  // of a mapping, never changed; of a namespace
    const Statement* macro = nullptr;
    int depth = 0;         // of lists and mappings in one another
    std::size_t held = 0;  // the weight of what a list or mapping holds

    static Value of(bool b) { return {.kind = boolean, .number = b}; }
    static Value of(std::int64_t n) { return {.kind = integer, .number = n}; }
    static Value of(std::string s) { return {.kind = string, .text = std::move(s)}; }
    static Value of(Items items, int line);
    static Value of(Entries entries, int line, Kind kind = mapping);
    // What going through all of it costs: elements, and 64 bytes of text each.
    std::size_t weight() const { return 1 + (kind == string ? text.size() / 64 : 0) + held; }
    bool is_number() const { return kind == boolean || kind == integer; }
};

struct Arguments {
    std::vector<Value> values;
    std::vector<std::string> names;  // empty: by position

    // By position or by name; nullptr when it is not given.
    const Value* find(std::size_t at, std::string_view name = {}) const;
};

const Value* find(const Entries& entries, std::string_view name);
bool truthy(const Value& v);
bool equal(const Value& a, const Value& b);
std::string to_text(const Value& v, int line);                                // as {{ }} prints it
const std::string& string_of(const Value& v, int line, const char* what);     // refuses what is no string
const std::string& short_string(const Value& v, int line, const char* what);  // to search for: not too long either
std::int64_t integer_of(const Value& v, int line, const char* what);
void append(std::string& out, std::string_view more, int line);  // refuses what becomes longer than max_text
Items items_of(const Value& v, int line);                        // what `for` and `in` go through
std::string_view stripped(std::string_view s, const Value* characters, bool left, bool right, int line);
std::vector<std::string_view> characters(std::string_view s);

Value apply_filter(const std::string& name, const Value& v, const Arguments& arguments, int line);
bool apply_test(const std::string& name, const Value& v, const Arguments& arguments, int line);
bool has_method(const Value& v, std::string_view name);
Value call_method(const Value& v, const std::string& name, const Arguments& arguments, int line);

}  // namespace slmd::pack::jinja
