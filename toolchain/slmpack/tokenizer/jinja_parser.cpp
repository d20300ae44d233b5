// From a template's text to its syntax tree, as Jinja 3.1 reads it with trim_blocks and lstrip_blocks.
#include <algorithm>
#include <cstdarg>
#include <cstdio>

#include "text/unicode.h"
#include "toolchain/slmpack/tokenizer/jinja_syntax.h"

namespace slmd::pack::jinja {

void refuse(int line, const char* format, ...) {
    char text[200];
    va_list args;
    va_start(args, format);
    std::vsnprintf(text, sizeof text, format, args);
    va_end(args);
    throw Refusal{Code::not_supported, line, text};
}

namespace {

void append_utf8(std::string& out, std::uint32_t c) {
    if (c < 0x80) {
        out += static_cast<char>(c);
        return;
    }
    const int more = c < 0x800 ? 1 : c < 0x10000 ? 2 : 3;
    out += static_cast<char>((0xFF00 >> (more + 1) & 0xFF) | c >> 6 * more);
    for (int i = more - 1; i >= 0; --i) out += static_cast<char>(0x80 | (c >> 6 * i & 0x3F));
}

constexpr int max_height = 256;  // of an expression's tree

bool is_digit(char c) { return c >= '0' && c <= '9'; }
bool is_letter(char c) { return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || c == '_'; }

class Lexer {
  public:
    explicit Lexer(std::string_view source) {
        for (std::size_t i = 0; i < source.size(); ++i) {
            if (source[i] != '\r')
                s_ += source[i];
            else if (i + 1 == source.size() || source[i + 1] != '\n')
                s_ += '\n';
        }
        if (s_.ends_with('\n')) s_.pop_back();
    }

    std::vector<Token> run() {
        while (at_ < s_.size()) {
            data();
            if (at_ == s_.size()) break;
            const char kind = s_[at_ + 1];
            const std::size_t begin = at_;
            take(2);
            if (at_ < s_.size() && (s_[at_] == '-' || (s_[at_] == '+' && kind != '{'))) take(1);
            if (kind == '#')
                comment(begin);
            else
                inside(kind == '%');
        }
        add(Token::end, "");
        return std::move(tokens_);
    }

  private:
    void take(std::size_t n) {
        line_ += static_cast<int>(std::count(s_.begin() + static_cast<std::ptrdiff_t>(at_),
                                             s_.begin() + static_cast<std::ptrdiff_t>(at_ + n), '\n'));
        at_ += n;
    }
    void take_space() {
        const std::string_view rest = std::string_view(s_).substr(at_);
        take(rest.size() - text::stripped(rest, true, false).size());
    }
    bool next_is(std::string_view what) const { return std::string_view(s_).substr(at_).starts_with(what); }
    void add(Token::Kind kind, std::string text, std::int64_t number = 0) {
        tokens_.push_back({kind, line_, std::move(text), number});
    }

    // Text up to the next tag, without the white space that the tag takes away before it.
    void data() {
        std::size_t tag = at_;
        while ((tag = s_.find('{', tag)) != std::string::npos &&
               (tag + 1 == s_.size() || std::string_view("{%#").find(s_[tag + 1]) == std::string_view::npos))
            ++tag;
        tag = std::min(tag, s_.size());
        std::string_view text = std::string_view(s_).substr(at_, tag - at_);
        if (tag < s_.size()) {
            const char kind = s_[tag + 1], sign = tag + 2 < s_.size() ? s_[tag + 2] : ' ';
            if (sign == '-') {
                text = text::stripped(text, false, true);
            } else if (kind != '{' && sign != '+') {  // lstrip_blocks
                const std::size_t newline = text.rfind('\n');
                const bool starts_line = newline != text.npos || at_ == 0 || s_[at_ - 1] == '\n';
                const std::size_t begin = newline == text.npos ? 0 : newline + 1;
                if (starts_line && text::stripped(text.substr(begin), true, true).empty()) text = text.substr(0, begin);
            }
        }
        if (!text.empty()) add(Token::data, std::string(text));
        take(tag - at_);
    }

    // After the end of a block or comment: its sign, or trim_blocks.
    void after(char sign) {
        if (sign == '-')
            take_space();
        else if (sign != '+' && next_is("\n"))
            take(1);
    }

    void comment(std::size_t begin) {
        const std::size_t end = s_.find("#}", at_);
        if (end == std::string::npos) refuse(line_, "the comment \"%.20s\" does not end", s_.substr(begin, 20).c_str());
        const char sign = end > at_ ? s_[end - 1] : ' ';
        take(end + 2 - at_);
        after(sign);
    }

    void inside(bool block) {
        add(block ? Token::block_begin : Token::print_begin, "");
        const std::string_view close = block ? "%}" : "}}";
        const int first_line = line_;
        std::string open;  // brackets: inside them `}}` is two of them
        for (;;) {
            take_space();
            if (at_ == s_.size()) refuse(first_line, "the tag does not end with \"%s\"", block ? "%}" : "}}");
            const char c = s_[at_];
            const bool sign = c == '-' || (c == '+' && block);
            if (open.empty() && (next_is(close) || (sign && std::string_view(s_).substr(at_ + 1).starts_with(close)))) {
                add(block ? Token::block_end : Token::print_end, "");
                take(sign ? 3 : 2);
                if (block || sign) after(sign ? c : ' ');
                return;
            }
            if (is_letter(c))
                name();
            else if (is_digit(c))
                number();
            else if (c == '\'' || c == '"')
                string(c);
            else
                operation(c, open);
        }
    }

    void name() {
        std::size_t n = 1;
        while (at_ + n < s_.size() && (is_letter(s_[at_ + n]) || is_digit(s_[at_ + n]))) ++n;
        add(Token::name, s_.substr(at_, n));
        take(n);
        if (tokens_.back().text == "raw" && tokens_[tokens_.size() - 2].kind == Token::block_begin)
            refuse(line_, "{%% raw %%} is not in the subset of Jinja that is read");
    }

    void number() {
        std::int64_t value = 0;
        std::size_t n = 0;
        for (; at_ + n < s_.size() && is_digit(s_[at_ + n]); ++n)
            if (__builtin_mul_overflow(value, 10, &value) || __builtin_add_overflow(value, s_[at_ + n] - '0', &value))
                refuse(line_, "the number is too large");
        const auto digit_at = [&](std::size_t i) { return i < s_.size() && is_digit(s_[i]); };
        const bool fraction = at_ + n < s_.size() && s_[at_ + n] == '.' && digit_at(at_ + n + 1) &&
                              !(!tokens_.empty() && tokens_.back().is("."));
        if (fraction || (at_ + n < s_.size() && is_letter(s_[at_ + n])))
            refuse(line_, "numbers other than decimal integers are not in the subset of Jinja that is read");
        add(Token::integer, "", value);
        take(n);
    }

    // With Python's escapes. A string may go over several lines; it stands where it begins.
    void string(char quote) {
        const int line = line_;
        std::string value;
        take(1);
        for (;;) {
            if (at_ == s_.size()) refuse(line, "the string does not end");
            const char c = s_[at_];
            take(1);
            if (c == quote) break;
            if (c == '\\')
                escape(value, line);
            else
                value += c;
        }
        tokens_.push_back({Token::string, line, std::move(value)});
    }

    void escape(std::string& value, int line) {
        if (at_ == s_.size()) refuse(line, "the string does not end");
        const char c = s_[at_];
        take(1);
        constexpr std::string_view from = "abfnrtv\\'\"", to = "\a\b\f\n\r\t\v\\'\"";
        if (const std::size_t known = from.find(c); known != from.npos) {
            value += to[known];
        } else if (c == 'x' || c == 'u' || c == 'U') {
            const std::size_t digits = c == 'x' ? 2 : c == 'u' ? 4 : 8;
            std::uint32_t code = 0;
            for (std::size_t n = 0; n < digits; ++n, take(1)) {
                constexpr std::string_view hex = "0123456789abcdef";
                const std::size_t d = at_ < s_.size()
                                          ? hex.find(static_cast<char>(is_digit(s_[at_]) ? s_[at_] : s_[at_] | 0x20))
                                          : hex.npos;
                if (d == hex.npos) refuse(line, "\\%c is followed by %zu hexadecimal digits", c, digits);
                code = code << 4 | static_cast<std::uint32_t>(d);
            }
            if (code > 0x10FFFF || (code >= 0xD800 && code < 0xE000)) refuse(line, "\\%c%x is no character", c, code);
            append_utf8(value, code);
        } else if (c == 'N' || is_digit(c)) {
            refuse(line, "the escape \\%c is not in the subset of Jinja that is read", c);
        } else if (c != '\n') {  // a backslash at the end of a line joins the two
            (value += '\\') += c;
        }
    }

    void operation(char c, std::string& open) {
        for (const char* two : {"//", "**", "==", "!=", ">=", "<="})
            if (next_is(two)) return add(Token::op, two), take(2);
        if (std::string_view("+-/*%~[](){}><=.:|,").find(c) == std::string_view::npos)
            refuse(line_, "unexpected \"%c\"", c);
        if (c == '(' || c == '[' || c == '{') open += c == '(' ? ')' : c == '[' ? ']' : '}';
        if (c == ')' || c == ']' || c == '}') {
            if (open.empty() || open.back() != c) refuse(line_, "unexpected \"%c\"", c);
            open.pop_back();
        }
        add(Token::op, std::string(1, c));
        take(1);
    }

    std::string s_;
    std::size_t at_ = 0;
    int line_ = 1;
    std::vector<Token> tokens_;
};

class Parser {
  public:
    explicit Parser(std::string_view source) : tokens_(Lexer(source).run()) {}

    Block run() {
        Block b = block();
        if (now().kind != Token::end) unexpected();  // block() stops at a name that no tag opened
        return b;
    }

  private:
    // ---- Tokens

    const Token& now() const { return tokens_[at_]; }
    const Token& ahead() const { return tokens_[std::min(at_ + 1, tokens_.size() - 1)]; }
    Token take() { return tokens_[at_ + 1 < tokens_.size() ? at_++ : at_]; }
    bool take_if(std::string_view s) { return now().is(s) && (++at_, true); }
    [[noreturn]] void unexpected(const char* instead = nullptr) const {
        const Token& t = now();
        const char* what = t.kind == Token::end           ? "the end of the template"
                           : t.kind == Token::block_end   ? "%}"
                           : t.kind == Token::print_end   ? "}}"
                           : t.kind == Token::block_begin ? "{%"
                           : t.kind == Token::print_begin ? "{{"
                           : t.kind == Token::data        ? "text"
                           : t.kind == Token::string      ? "a string"
                           : t.kind == Token::integer     ? "a number"
                                                          : t.text.c_str();
        if (instead) refuse(t.line, "%s where %s should be", what, instead);
        refuse(t.line, "unexpected %s", what);
    }
    void expect(std::string_view s) {
        if (!take_if(s)) unexpected(std::string(s).c_str());
    }
    void expect(Token::Kind kind, const char* what) {
        if (now().kind != kind) unexpected(what);
        take();
    }
    std::string name() {
        if (now().kind != Token::name) unexpected("a name");
        return take().text;
    }

    struct Deeper {
        explicit Deeper(Parser& p) : p_(p) {
            if (++p_.depth_ > max_depth) refuse(p_.now().line, "nested more than %d deep", max_depth);
        }
        ~Deeper() { --p_.depth_; }
        Deeper(const Deeper&) = delete;
        Deeper& operator=(const Deeper&) = delete;
        Parser& p_;
    };

    // ---- Statements

    // Up to the tag that is not this block's: its name is the next token.
    Block block() {
        const Deeper deeper(*this);
        Block b;
        while (now().kind != Token::end) {
            const Token t = take();
            if (t.kind == Token::data) {
                b.statements.push_back({.kind = Statement::data, .line = t.line, .text = t.text});
            } else if (t.kind == Token::print_begin) {
                b.statements.push_back({.kind = Statement::print, .line = now().line, .a = tuple()});
                expect(Token::print_end, "}}");
            } else {
                const std::string& s = now().text;
                if (now().kind == Token::name && (s.starts_with("end") || s == "else" || s == "elif")) return b;
                b.statements.push_back(statement());
                expect(Token::block_end, "%}");
            }
        }
        return b;
    }
    // A block and the name of its end; `line` is where it began.
    Block block_until(std::string_view end, int line) {
        expect(Token::block_end, "%}");
        Block b = block();
        if (now().kind == Token::end) refuse(line, "no {%% %.*s %%} follows", static_cast<int>(end.size()), end.data());
        expect(end);
        return b;
    }

    Statement statement() {
        const int line = now().line;
        const std::string what = name();
        if (what == "if") return branch(line);
        if (what == "for") return loop(line);
        if (what == "set") return set(line);
        if (what == "macro") return macro(line);
        if (what == "break" || what == "continue") {
            if (loops_ == 0) refuse(line, "%s outside of a loop", what.c_str());
            return {.kind = what == "break" ? Statement::break_loop : Statement::continue_loop, .line = line};
        }
        if (what == "generation") {  // marks what training is to learn
            Statement s{.kind = Statement::plain, .line = line};
            s.branches.push_back({nullptr, block_until("endgeneration", line)});
            return s;
        }
        refuse(line, "{%% %.40s %%} is not in the subset of Jinja that is read", what.c_str());
    }

    Statement branch(int line) {
        Statement s{.kind = Statement::branch, .line = line};
        for (;;) {
            ExprPtr condition = either();
            expect(Token::block_end, "%}");
            s.branches.push_back({std::move(condition), block()});
            if (take_if("elif")) continue;
            if (take_if("else"))
                s.otherwise = block_until("endif", line);
            else if (now().kind == Token::end)
                refuse(line, "no {%% endif %%} follows");
            else
                expect("endif");
            return s;
        }
    }

    Statement loop(int line) {
        Statement s{.kind = Statement::loop, .line = line};
        do s.names.push_back(name());
        while (take_if(","));
        expect("in");
        s.a = either();  // `if` after it is the loop's
        if (take_if("if")) s.b = expression();
        if (now().is("recursive")) refuse(line, "recursive loops are not in the subset of Jinja that is read");
        expect(Token::block_end, "%}");
        ++loops_;
        s.branches.push_back({nullptr, block()});
        --loops_;
        if (take_if("else"))
            s.otherwise = block_until("endfor", line);
        else if (now().kind == Token::end)
            refuse(line, "no {%% endfor %%} follows");
        else
            expect("endfor");
        return s;
    }

    Statement set(int line) {
        Statement s{.kind = Statement::set, .line = line};
        do {
            s.names.push_back(name());
            if (take_if(".")) s.names.back() += '.' + name();
        } while (take_if(","));
        if (take_if("=")) {
            s.a = tuple();
            return s;
        }
        if (s.names.size() != 1 || now().kind != Token::block_end) unexpected("=");
        s.kind = Statement::set_block;
        s.branches.push_back({nullptr, block_until("endset", line)});
        return s;
    }

    Statement macro(int line) {
        Statement s{.kind = Statement::macro, .line = line, .text = name()};
        expect("(");
        while (!take_if(")")) {
            if (!s.names.empty()) expect(",");
            s.names.push_back(name());
            s.defaults.push_back(take_if("=") ? expression() : nullptr);
        }
        const int loops = std::exchange(loops_, 0);
        s.branches.push_back({nullptr, block_until("endmacro", line)});
        loops_ = loops;
        return s;
    }

    // ---- Expressions, the loosest first

    template <class... Kids>
    ExprPtr make(Expr::Kind kind, int line, std::string text, Kids... kids) const {
        std::vector<ExprPtr> all;
        (all.push_back(std::move(kids)), ...);
        return made({.kind = kind, .line = line, .text = std::move(text), .kids = std::move(all)});
    }
    static ExprPtr made(Expr e) {
        for (const ExprPtr& kid : e.kids)
            if (kid) e.height = std::max(e.height, kid->height + 1);
        if (e.height > max_height) refuse(e.line, "an expression of more than %d operations in a row", max_height);
        return std::make_unique<const Expr>(std::move(e));
    }

    // An expression, or several with commas between them: a list.
    ExprPtr tuple() {
        const int line = now().line;
        ExprPtr first = expression();
        if (!now().is(",")) return first;
        Expr e{.kind = Expr::list, .line = line};
        e.kids.push_back(std::move(first));
        while (take_if(",")) {
            if (now().kind == Token::block_end || now().kind == Token::print_end || now().is(")")) break;
            e.kids.push_back(expression());
        }
        return made(std::move(e));
    }

    ExprPtr expression() {
        const Deeper deeper(*this);
        ExprPtr e = either();
        while (now().is("if")) {
            const int line = take().line;
            ExprPtr condition = either(), other = take_if("else") ? expression() : nullptr;
            e = make(Expr::conditional, line, "", std::move(e), std::move(condition), std::move(other));
        }
        return e;
    }

    // Operators of one level, from the left.
    ExprPtr chain(std::initializer_list<const char*> operators, ExprPtr (Parser::*operand)()) {
        ExprPtr e = (this->*operand)();
        while (std::any_of(operators.begin(), operators.end(), [&](const char* o) { return now().is(o); })) {
            const Token op = take();
            if (op.text == "/" || op.text == "**")
                refuse(op.line, "the operator %s is not in the subset of Jinja that is read", op.text.c_str());
            ExprPtr right = (this->*operand)();
            e = make(Expr::binary, op.line, op.text, std::move(e), std::move(right));
        }
        return e;
    }
    ExprPtr either() { return chain({"or"}, &Parser::both); }
    ExprPtr both() { return chain({"and"}, &Parser::negation); }
    ExprPtr negation() {
        const Deeper deeper(*this);
        if (!now().is("not")) return comparison();
        const int line = take().line;
        ExprPtr operand = negation();
        return make(Expr::unary, line, "not", std::move(operand));
    }

    ExprPtr comparison() {
        const int line = now().line;
        Expr e{.kind = Expr::compare, .line = line};
        e.kids.push_back(sum());
        for (;;) {
            std::string op;
            for (const char* o : {"==", "!=", "<=", ">=", "<", ">", "in"})
                if (now().is(o)) op = o;
            if (op.empty() && now().is("not") && ahead().is("in")) take(), op = "not in";
            if (op.empty()) break;
            take();
            e.names.push_back(op);
            e.kids.push_back(sum());
        }
        if (e.names.empty()) return std::move(e.kids[0]);
        return made(std::move(e));
    }
    ExprPtr sum() { return chain({"+", "-"}, &Parser::concatenation); }
    ExprPtr concatenation() {
        Expr e{.kind = Expr::concat, .line = now().line};
        do e.kids.push_back(product());
        while (take_if("~"));
        if (e.kids.size() == 1) return std::move(e.kids[0]);
        return made(std::move(e));
    }
    ExprPtr product() { return chain({"*", "/", "//", "%", "**"}, &Parser::factor); }
    ExprPtr factor() { return filters_and_tests(sign()); }
    ExprPtr sign() {
        const Deeper deeper(*this);
        if (!now().is("-") && !now().is("+")) return postfix(primary());
        const Token op = take();
        ExprPtr operand = sign();
        return make(Expr::unary, op.line, op.text, std::move(operand));
    }

    ExprPtr primary() {
        const Token t = take();
        if (t.kind == Token::string) {
            std::string text = t.text;
            while (now().kind == Token::string) text += take().text;
            return made({.kind = Expr::string, .line = t.line, .text = std::move(text)});
        }
        if (t.kind == Token::integer) return made({.kind = Expr::integer, .line = t.line, .number = t.number});
        if (t.is("true") || t.is("True")) return made({.kind = Expr::boolean, .line = t.line, .number = 1});
        if (t.is("false") || t.is("False")) return made({.kind = Expr::boolean, .line = t.line});
        if (t.is("none") || t.is("None")) return made({.kind = Expr::none, .line = t.line});
        if (t.kind == Token::name) return made({.kind = Expr::name, .line = t.line, .text = t.text});
        if (t.is("(")) {
            if (take_if(")")) return made({.kind = Expr::list, .line = t.line});
            ExprPtr e = tuple();
            expect(")");
            return e;
        }
        if (t.is("[")) return sequence(t.line, "]");
        if (t.is("{")) return mapping(t.line);
        --at_;
        unexpected("an expression");
    }
    ExprPtr sequence(int line, std::string_view close) {
        Expr e{.kind = Expr::list, .line = line};
        while (!take_if(close)) {
            if (!e.kids.empty()) expect(",");
            if (take_if(close)) break;
            e.kids.push_back(expression());
        }
        return made(std::move(e));
    }
    ExprPtr mapping(int line) {
        Expr e{.kind = Expr::mapping, .line = line};
        while (!take_if("}")) {
            if (!e.kids.empty()) expect(",");
            if (take_if("}")) break;
            e.kids.push_back(expression());
            expect(":");
            e.kids.push_back(expression());
        }
        return made(std::move(e));
    }

    ExprPtr postfix(ExprPtr e) {
        for (;;) {
            const int line = now().line;
            if (take_if(".")) {
                if (now().kind == Token::integer)
                    e = make(Expr::subscript, line, "", std::move(e),
                             made({.kind = Expr::integer, .line = line, .number = take().number}));
                else
                    e = make(Expr::attribute, line, name(), std::move(e));
            } else if (take_if("[")) {
                e = subscript(std::move(e), line);
            } else if (now().is("(")) {
                e = with_arguments({.kind = Expr::call, .line = line}, std::move(e));
            } else {
                return e;
            }
        }
    }
    ExprPtr subscript(ExprPtr of, int line) {
        ExprPtr parts[3];
        int colons = 0;
        while (!now().is("]")) {
            if (take_if(":")) {
                if (++colons > 2) unexpected();
            } else if (parts[colons]) {
                unexpected("]");
            } else {
                parts[colons] = expression();
            }
        }
        expect("]");
        if (colons > 0)
            return make(Expr::slice, line, "", std::move(of), std::move(parts[0]), std::move(parts[1]),
                        std::move(parts[2]));
        if (!parts[0]) unexpected("an index before ]");
        return make(Expr::subscript, line, "", std::move(of), std::move(parts[0]));
    }
    // e with its subject and, where a parenthesis follows, the arguments in it.
    ExprPtr with_arguments(Expr e, ExprPtr subject) {
        e.kids.push_back(std::move(subject));
        if (take_if("("))
            while (!take_if(")")) {
                if (e.kids.size() > 1) expect(",");
                if (take_if(")")) break;
                if (now().is("*") || now().is("**"))
                    refuse(now().line, "arguments after * are not in the subset of Jinja that is read");
                const bool named = now().kind == Token::name && ahead().is("=");
                e.names.push_back(named ? take().text : "");
                if (named) take();
                e.kids.push_back(expression());
            }
        return made(std::move(e));
    }
    ExprPtr filters_and_tests(ExprPtr e) {
        for (;;) {
            const int line = now().line;
            if (take_if("|")) {
                e = with_arguments({.kind = Expr::filter, .line = line, .text = name()}, std::move(e));
            } else if (take_if("is")) {
                const bool negated = take_if("not");
                Expr t{.kind = Expr::test, .line = line, .text = name()};
                // A test's one argument may stand without parentheses.
                const Token& n = now();
                if (n.is("is")) unexpected();  // Jinja has no test of a test
                const bool bare = n.kind == Token::string || n.kind == Token::integer || n.is("[") || n.is("{") ||
                                  (n.kind == Token::name && !n.is("else") && !n.is("or") && !n.is("and") &&
                                   !n.is("if") && !n.is("in") && !n.is("not"));
                if (bare) {
                    t.kids.push_back(std::move(e));
                    t.kids.push_back(postfix(primary()));
                    t.names.emplace_back();
                    e = made(std::move(t));
                } else {
                    e = with_arguments(std::move(t), std::move(e));
                }
                if (negated) e = make(Expr::unary, line, "not", std::move(e));
            } else if (now().is("(")) {
                e = with_arguments({.kind = Expr::call, .line = line}, std::move(e));
            } else {
                return e;
            }
        }
    }

    std::vector<Token> tokens_;
    std::size_t at_ = 0;
    int depth_ = 0, loops_ = 0;
};

}  // namespace

Block parse(std::string_view source) {
    if (source.size() > max_source) refuse(1, "longer than %zu KiB", max_source >> 10);
    return Parser(source).run();
}

}  // namespace slmd::pack::jinja
