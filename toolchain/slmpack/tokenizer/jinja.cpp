// Renders the syntax tree of a chat template.
#include "toolchain/slmpack/tokenizer/jinja.h"

#include <algorithm>
#include <ctime>
#include <optional>

#include "toolchain/slmpack/tokenizer/jinja_syntax.h"

namespace slmd::pack::jinja {
namespace {

constexpr std::size_t max_names = 64;  // in a namespace
constexpr int max_frames = 400;        // of evaluation in evaluation: macros that call themselves end here

Error error_of(const Refusal& r) { return Error::make(r.code, "line %d: %s", r.line, r.text.c_str()); }

class Interpreter {
  public:
    Interpreter(const Context& context, std::int64_t& steps) : context_(context), steps_(steps), scopes_(1) {
        Items messages;
        for (const Message& m : context.messages)
            messages.push_back(Value::of(Entries{{"role", Value::of(m.role)}, {"content", Value::of(m.content)}}, 0));
        auto& globals = scopes_[0].names;
        globals["messages"] = Value::of(std::move(messages), 0);
        globals["add_generation_prompt"] = Value::of(true);
        for (const char* absent : {"tools", "documents"}) globals[absent] = Value{.kind = Value::none};
        for (const char* function : {"raise_exception", "namespace", "range", "dict"})
            globals[function] = Value{.kind = Value::function, .text = function};
        if (!context.bos_token.empty()) globals["bos_token"] = Value::of(context.bos_token);
        if (!context.eos_token.empty()) globals["eos_token"] = Value::of(context.eos_token);
    }

    Rendered run(const Block& program) {
        execute(program);
        return std::move(out_);
    }

  private:
    struct Scope {
        std::map<std::string, Value, std::less<>> names{};
        bool macro = false;  // below it, only the globals are seen
    };
    enum class Flow { on, out, again };  // out: break, again: continue

    struct Deeper {
        Deeper(Interpreter& i, int line) : i_(i) {
            if (++i_.frames_ > max_frames) refuse(line, "calls nested too deep");
        }
        ~Deeper() { --i_.frames_; }
        Deeper(const Deeper&) = delete;
        Deeper& operator=(const Deeper&) = delete;
        Interpreter& i_;
    };

    void spend(std::size_t n, int line) {
        steps_ -= static_cast<std::int64_t>(n);
        if (steps_ < 0) refuse(line, "the template takes too long to render");
    }

    // ---- Statements

    Flow execute(const Block& block) {
        for (const Statement& s : block.statements)
            if (const Flow flow = execute(s); flow != Flow::on) return flow;
        return Flow::on;
    }

    Flow execute(const Statement& s) {
        const Deeper deeper(*this, s.line);
        spend(1, s.line);
        switch (s.kind) {
            case Statement::data: print(s.text, s.line); break;
            case Statement::print: print(to_text(evaluate(*s.a), s.line), s.line); break;
            case Statement::branch:
                for (const Statement::Branch& b : s.branches)
                    if (truthy(evaluate(*b.condition))) return execute(b.body);
                return execute(s.otherwise);
            case Statement::loop: return loop(s);
            case Statement::set: assign(s.names, evaluate(*s.a), s.line); break;
            case Statement::set_block: assign(s.names, Value::of(captured(s.branches[0].body)), s.line); break;
            case Statement::macro:
                scopes_.back().names[s.text] = Value{.kind = Value::function, .text = s.text, .macro = &s};
                break;
            case Statement::plain: return execute(s.branches[0].body);
            case Statement::break_loop: return Flow::out;
            case Statement::continue_loop: return Flow::again;
        }
        return Flow::on;
    }

    void print(std::string_view text, int line) {
        if (text.empty()) return;
        spend(text.size() / 64, line);
        if (out_.lines.empty() || out_.lines.back().second != line) out_.lines.emplace_back(out_.text.size(), line);
        append(out_.text, text, line);
    }

    std::string captured(const Block& body) {
        Rendered outer = std::exchange(out_, {});
        execute(body);
        return std::exchange(out_, std::move(outer)).text;
    }

    void assign(const std::vector<std::string>& names, const Value& v, int line) {
        if (names.size() == 1) return assign(names[0], v, line);
        const Items items = items_of(v, line);
        if (items.size() != names.size()) refuse(line, "%zu values for %zu names", items.size(), names.size());
        for (std::size_t i = 0; i < items.size(); ++i) assign(names[i], items[i], line);
    }
    void assign(const std::string& name, const Value& v, int line) {
        const std::size_t dot = name.find('.');
        if (dot == name.npos) {
            scopes_.back().names[name] = v;
            return;
        }
        const Value* space = variable(name.substr(0, dot));
        if (!space || space->kind != Value::space) refuse(line, "\"%.40s\" is no namespace", name.c_str());
        if (v.kind == Value::space) refuse(line, "a namespace inside of another value");  // it could hold itself
        const std::string attribute = name.substr(dot + 1);
        for (auto& [key, value] : *space->entries)
            if (key == attribute) {
                value = v;
                return;
            }
        if (space->entries->size() >= max_names) refuse(line, "a namespace of more than %zu names", max_names);
        space->entries->emplace_back(attribute, v);
    }

    Flow loop(const Statement& s) {
        Items items = items_of(evaluate(*s.a), s.line);
        scopes_.emplace_back();
        if (s.b) {
            Items kept;
            for (Value& item : items) {
                assign(s.names, item, s.line);
                if (truthy(evaluate(*s.b))) kept.push_back(std::move(item));
            }
            items = std::move(kept);
        }
        for (std::size_t i = 0; i < items.size(); ++i) {
            spend(16, s.line);
            scopes_.back().names.clear();
            scopes_.back().names["loop"] = loop_variable(items, i, s.line);
            assign(s.names, items[i], s.line);
            if (execute(s.branches[0].body) == Flow::out) break;
        }
        scopes_.pop_back();
        return items.empty() ? execute(s.otherwise) : Flow::on;
    }

    static Value loop_variable(const Items& items, std::size_t i, int line) {
        const auto number = [](std::size_t n) { return Value::of(static_cast<std::int64_t>(n)); };
        const std::size_t n = items.size();
        Entries entries{{"index", number(i + 1)},     {"index0", number(i)},
                        {"revindex", number(n - i)},  {"revindex0", number(n - i - 1)},
                        {"first", Value::of(i == 0)}, {"last", Value::of(i + 1 == n)},
                        {"length", number(n)}};
        if (i > 0) entries.emplace_back("previtem", items[i - 1]);
        if (i + 1 < n) entries.emplace_back("nextitem", items[i + 1]);
        return Value::of(std::move(entries), line);
    }

    // ---- Expressions

    const Value* variable(std::string_view name) const {
        for (std::size_t i = scopes_.size(); i-- > 0;) {
            if (const auto found = scopes_[i].names.find(name); found != scopes_[i].names.end()) return &found->second;
            if (scopes_[i].macro) i = 1;  // on to the globals
        }
        return nullptr;
    }

    Value evaluate(const Expr& e) {
        const Deeper deeper(*this, e.line);
        Value v = compute(e);
        spend(v.weight(), e.line);
        return v;
    }

    Value compute(const Expr& e) {
        switch (e.kind) {
            case Expr::none: return {.kind = Value::none};
            case Expr::boolean: return Value::of(e.number != 0);
            case Expr::integer: return Value::of(e.number);
            case Expr::string: return Value::of(e.text);
            case Expr::name: return named(e);
            case Expr::list: return list(e);
            case Expr::mapping: return mapping(e);
            case Expr::attribute: return attribute(evaluate(*e.kids[0]), e.text, e.line);
            case Expr::subscript: return subscript(evaluate(*e.kids[0]), evaluate(*e.kids[1]), e.line);
            case Expr::slice: return slice(e);
            case Expr::call: return call(e);
            case Expr::filter: return apply_filter(e.text, evaluate(*e.kids[0]), arguments(e), e.line);
            case Expr::test: return Value::of(apply_test(e.text, evaluate(*e.kids[0]), arguments(e), e.line));
            case Expr::unary: return unary(e);
            case Expr::binary: return binary(e);
            case Expr::concat: return concat(e);
            case Expr::compare: return compare(e);
            case Expr::conditional:
                if (truthy(evaluate(*e.kids[1]))) return evaluate(*e.kids[0]);
                return e.kids[2] ? evaluate(*e.kids[2]) : Value{.text = "the missing else"};
        }
        return {};
    }

    Value named(const Expr& e) {
        if (const Value* v = variable(e.text)) return *v;
        for (const char* token : {"unk_token", "pad_token", "sep_token", "cls_token", "mask_token"})
            if (e.text == token) refuse(e.line, "the template needs %s, which is not known here", token);
        return {.text = e.text};
    }

    Value list(const Expr& e) {
        Items items;
        for (const ExprPtr& kid : e.kids) items.push_back(evaluate(*kid));
        return Value::of(std::move(items), e.line);
    }

    Value mapping(const Expr& e) {
        Entries entries;
        for (std::size_t i = 0; i < e.kids.size(); i += 2) {
            const Value key = evaluate(*e.kids[i]);
            set_entry(entries, string_of(key, e.line, "a mapping's key"), evaluate(*e.kids[i + 1]));
        }
        return Value::of(std::move(entries), e.line);
    }
    static void set_entry(Entries& entries, const std::string& key, Value v) {
        for (auto& [k, value] : entries)
            if (k == key) {
                value = std::move(v);
                return;
            }
        entries.emplace_back(key, std::move(v));
    }

    Value attribute(const Value& v, const std::string& name, int line) {
        if (v.kind == Value::undefined)
            refuse(line, "\"%.40s\" is undefined; it has no \"%.40s\"", v.text.c_str(), name.c_str());
        if (has_method(v, name)) refuse(line, "the method %s without a call", name.c_str());
        if (v.kind == Value::mapping || v.kind == Value::space)
            if (const Value* found = find(*v.entries, name)) return *found;
        return {.text = name};
    }

    // Where an index counts from, for Python: negative ones from the end.
    static std::int64_t from_end(std::int64_t i, std::size_t n) { return i < 0 ? i + static_cast<std::int64_t>(n) : i; }

    Value subscript(const Value& v, const Value& index, int line) {
        if (v.kind == Value::undefined) refuse(line, "\"%.40s\" is undefined; it has no elements", v.text.c_str());
        if (v.kind == Value::mapping) {
            const Value* found = index.kind == Value::string ? find(*v.entries, index.text) : nullptr;
            return found ? *found : Value{.text = index.text};
        }
        if (index.kind == Value::string) return {.text = index.text};
        const Items items = v.kind == Value::string ? items_of(v, line) : Items{};
        const Items& all = v.kind == Value::list ? *v.items : items;
        if (v.kind != Value::list && v.kind != Value::string) refuse(line, "an index into what has no elements");
        const std::int64_t i = from_end(integer_of(index, line, "an index"), all.size());
        if (i < 0 || i >= static_cast<std::int64_t>(all.size())) return {.text = "an element beyond the end"};
        return all[static_cast<std::size_t>(i)];
    }

    Value slice(const Expr& e) {
        const Value of = evaluate(*e.kids[0]);
        if (of.kind != Value::list && of.kind != Value::string) refuse(e.line, "a slice of what has no elements");
        const Items all = items_of(of, e.line);
        const auto n = static_cast<std::int64_t>(all.size());
        const auto given = [&](std::size_t i) {
            const Value v = e.kids[i] ? evaluate(*e.kids[i]) : Value{.kind = Value::none};
            return v.kind == Value::none ? std::nullopt : std::optional(integer_of(v, e.line, "a slice"));
        };
        const std::int64_t step = given(3).value_or(1), least = step > 0 ? 0 : -1, most = step > 0 ? n : n - 1;
        const auto part = [&](std::size_t i, std::int64_t otherwise) {
            const auto raw = given(i);
            return raw ? std::clamp(from_end(*raw, all.size()), least, most) : otherwise;
        };
        if (step == 0) refuse(e.line, "a slice in steps of zero");
        const std::int64_t begin = part(1, step > 0 ? least : most), end = part(2, step > 0 ? most : least);
        Items out;
        for (std::int64_t i = begin; step > 0 ? i < end : i > end;) {
            out.push_back(all[static_cast<std::size_t>(i)]);
            if (__builtin_add_overflow(i, step, &i)) break;
        }
        if (of.kind == Value::list) return Value::of(std::move(out), e.line);
        std::string text;
        for (const Value& c : out) text += c.text;
        return Value::of(std::move(text));
    }

    Arguments arguments(const Expr& e) {
        Arguments a;
        for (std::size_t i = 1; i < e.kids.size(); ++i) a.values.push_back(evaluate(*e.kids[i]));
        a.names = e.names;
        return a;
    }

    Value call(const Expr& e) {
        const Expr& callee = *e.kids[0];
        if (callee.kind == Expr::attribute) {
            const Value of = evaluate(*callee.kids[0]);
            if (has_method(of, callee.text)) return call_method(of, callee.text, arguments(e), e.line);
            if (of.kind == Value::string || of.kind == Value::mapping || of.kind == Value::list)
                refuse(e.line, "the method %.40s is not in the subset of Jinja that is read", callee.text.c_str());
        }
        if (callee.kind == Expr::name && callee.text == "strftime_now" && !variable(callee.text)) return date(e);
        const Value f = evaluate(callee);
        if (f.kind != Value::function)
            refuse(e.line, "the function %.40s is not in the subset of Jinja that is read",
                   callee.text.empty() ? "here" : callee.text.c_str());
        const Arguments a = arguments(e);
        if (f.macro) return call_macro(*f.macro, a, e.line);
        if (f.text == "raise_exception") {
            const Value* why = a.find(0);
            throw Refusal{Code::incorrect_parameters, e.line, why ? to_text(*why, e.line) : ""};
        }
        if (f.text == "range") return range(a, e.line);
        Entries entries;
        for (std::size_t i = 0; i < a.values.size(); ++i) {
            if (a.names[i].empty()) refuse(e.line, "%s takes named arguments", f.text.c_str());
            set_entry(entries, a.names[i], a.values[i]);
        }
        return Value::of(std::move(entries), e.line, f.text == "namespace" ? Value::space : Value::mapping);
    }

    Value call_macro(const Statement& m, const Arguments& a, int line) {
        Scope scope{.macro = true};
        for (std::size_t i = 0; i < a.values.size(); ++i)
            if (a.names[i].empty() ? i >= m.names.size()
                                   : std::find(m.names.begin(), m.names.end(), a.names[i]) == m.names.end())
                refuse(line, "%s takes no such argument", m.text.c_str());
        for (std::size_t i = 0; i < m.names.size(); ++i) {
            const Value* given = a.find(i, m.names[i]);
            scope.names[m.names[i]] = given           ? *given
                                      : m.defaults[i] ? evaluate(*m.defaults[i])
                                                      : Value{.text = m.names[i]};
        }
        scopes_.push_back(std::move(scope));
        std::string text = captured(m.branches[0].body);
        scopes_.pop_back();
        return Value::of(std::move(text));
    }

    Value range(const Arguments& a, int line) {
        std::int64_t n[3] = {0, 0, 1};
        if (a.values.empty() || a.values.size() > 3) refuse(line, "range takes one to three numbers");
        for (std::size_t i = 0; i < a.values.size(); ++i)
            n[a.values.size() == 1 ? 1 : i] = integer_of(a.values[i], line, "range");
        if (n[2] == 0) refuse(line, "a range in steps of zero");
        Items out;
        for (std::int64_t i = n[0]; n[2] > 0 ? i < n[1] : i > n[1];) {
            if (out.size() >= max_items) refuse(line, "a range of more than %zu numbers", max_items);
            out.push_back(Value::of(i));
            if (__builtin_add_overflow(i, n[2], &i)) break;
        }
        return Value::of(std::move(out), line);
    }

    Value date(const Expr& e) {
        const Arguments a = arguments(e);
        if (!a.find(0)) refuse(e.line, "strftime_now needs a format");
        const std::string& format = string_of(*a.find(0), e.line, "strftime_now");
        std::tm parts{};
        gmtime_r(&context_.now, &parts);
        char text[256];
        if (format.size() > 64) refuse(e.line, "strftime_now: the format is too long");
        return Value::of(std::string(text, std::strftime(text, sizeof text, format.c_str(), &parts)));
    }

    Value unary(const Expr& e) {
        const Value v = evaluate(*e.kids[0]);
        if (e.text == "not") return Value::of(!truthy(v));
        std::int64_t n = integer_of(v, e.line, e.text.c_str());
        if (e.text == "-" && __builtin_sub_overflow(0, n, &n)) refuse(e.line, "the number is too large");
        return Value::of(n);
    }

    Value binary(const Expr& e) {
        Value a = evaluate(*e.kids[0]);
        if (e.text == "and") return truthy(a) ? evaluate(*e.kids[1]) : a;
        if (e.text == "or") return truthy(a) ? a : evaluate(*e.kids[1]);
        const Value b = evaluate(*e.kids[1]);
        const char* what = e.text.c_str();
        if (e.text == "+" && a.kind == Value::list && b.kind == Value::list) {
            Items items = *a.items;
            items.insert(items.end(), b.items->begin(), b.items->end());
            return Value::of(std::move(items), e.line);
        }
        if (e.text == "+" && !(a.is_number() && b.is_number())) {
            std::string text = string_of(a, e.line, what);
            append(text, string_of(b, e.line, what), e.line);
            return Value::of(std::move(text));
        }
        const std::int64_t x = integer_of(a, e.line, what), y = integer_of(b, e.line, what);
        std::int64_t n = 0;
        bool overflow = false;
        if (e.text == "+") {
            overflow = __builtin_add_overflow(x, y, &n);
        } else if (e.text == "-") {
            overflow = __builtin_sub_overflow(x, y, &n);
        } else if (e.text == "*") {
            overflow = __builtin_mul_overflow(x, y, &n);
        } else {
            if (y == 0) refuse(e.line, "division by zero");
            overflow = y == -1 && __builtin_sub_overflow(0, x, &n);
            if (y != -1) n = x / y - (x % y != 0 && (x < 0) != (y < 0));  // Python rounds down
            if (e.text == "%") n = y == -1 ? 0 : x - n * y;
        }
        if (overflow) refuse(e.line, "the number is too large");
        return Value::of(n);
    }

    Value concat(const Expr& e) {
        std::string text;
        for (const ExprPtr& kid : e.kids) append(text, to_text(evaluate(*kid), e.line), e.line);
        return Value::of(std::move(text));
    }

    Value compare(const Expr& e) {
        Value left = evaluate(*e.kids[0]);
        for (std::size_t i = 0; i < e.names.size(); ++i) {
            Value right = evaluate(*e.kids[i + 1]);
            if (!holds(left, e.names[i], right, e.line)) return Value::of(false);
            left = std::move(right);
        }
        return Value::of(true);
    }

    static bool holds(const Value& a, const std::string& op, const Value& b, int line) {
        if (op == "==") return equal(a, b);
        if (op == "!=") return !equal(a, b);
        if (op == "in" || op == "not in") {
            if (b.kind == Value::mapping)
                return (find(*b.entries, string_of(a, line, "in")) != nullptr) == (op == "in");
            return apply_test("in", a, {{b}, {""}}, line) == (op == "in");
        }
        int order = 0;
        if (a.kind == Value::string && b.kind == Value::string) {
            order = a.text.compare(b.text);
        } else {
            const std::int64_t x = integer_of(a, line, op.c_str()), y = integer_of(b, line, op.c_str());
            order = x < y ? -1 : x > y ? 1 : 0;
        }
        return op == "<" ? order < 0 : op == "<=" ? order <= 0 : op == ">" ? order > 0 : order >= 0;
    }

    const Context& context_;
    std::int64_t& steps_;
    std::vector<Scope> scopes_;
    Rendered out_{};
    int frames_ = 0;
};

}  // namespace

int Rendered::line_at(std::size_t byte) const {
    const auto past = std::upper_bound(lines.begin(), lines.end(), byte,
                                       [](std::size_t b, const auto& line) { return b < line.first; });
    return past == lines.begin() ? 1 : std::prev(past)->second;
}

Result<Template> Template::parse(std::string_view source) try {
    Template t;
    t.program_ = std::make_shared<const Block>(jinja::parse(source));
    return t;
} catch (const Refusal& r) {
    return error_of(r);
}

Result<Rendered> Template::render(const Context& context, std::int64_t& steps) const try {
    return Interpreter(context, steps).run(*program_);
} catch (const Refusal& r) {
    return error_of(r);
}

}  // namespace slmd::pack::jinja
