// HTML as text: what a reader sees, paragraph by paragraph, under its headings. Not a browser's parser: tags that are
// never closed, or closed wrongly, part the text all the same and lose none of it.
#include <algorithm>
#include <cstdlib>

#include "base/ascii.h"
#include "docs/cut.h"

namespace slmd::docs {
namespace {

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f'; }

std::string in_lower_case(std::string_view s) {
    std::string out(s);
    std::transform(out.begin(), out.end(), out.begin(), lower);
    return out;
}

bool one_of(std::string_view name, std::initializer_list<std::string_view> names) {
    return std::find(names.begin(), names.end(), name) != names.end();
}

// Its text is no text of the page.
bool is_hidden(std::string_view name) {
    return one_of(name, {"script", "style", "template", "noscript", "svg", "math", "iframe", "object", "head"});
}

bool parts(std::string_view name) {
    return one_of(name,
                  {"p",       "div",   "br",     "li",     "ul",     "ol",         "table",      "tr",       "section",
                   "article", "main",  "header", "footer", "nav",    "aside",      "pre",        "hr",       "dl",
                   "dt",      "dd",    "body",   "form",   "figure", "figcaption", "blockquote", "fieldset", "title",
                   "caption", "thead", "tbody",  "tfoot",  "option", "select",     "html"});
}

void put_utf8(std::string& out, unsigned long c) {
    if (c == 0 || c > 0x10FFFF || (c >= 0xD800 && c <= 0xDFFF)) c = 0xFFFD;
    const auto byte = [&](unsigned long b) { out += static_cast<char>(static_cast<unsigned char>(b)); };
    if (c < 0x80) return byte(c);
    if (c < 0x800) return byte(0xC0 | c >> 6), byte(0x80 | (c & 63));
    if (c < 0x10000) return byte(0xE0 | c >> 12), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
    byte(0xF0 | c >> 18), byte(0x80 | (c >> 12 & 63)), byte(0x80 | (c >> 6 & 63)), byte(0x80 | (c & 63));
}

// A character reference at the start of text: how long it is; 0: it is none, and stands for itself.
std::size_t reference(std::string_view text, std::string& out) {
    const std::size_t end = text.substr(0, 11).find(';');  // not in all that follows each &
    if (end == std::string_view::npos || end < 2) return 0;
    const std::string name(text.substr(1, end - 1));
    if (name[0] == '#') {
        const bool hex = name.size() > 1 && (name[1] == 'x' || name[1] == 'X');
        const char* const digits = name.c_str() + (hex ? 2 : 1);
        char* stop = nullptr;
        const unsigned long c = std::strtoul(digits, &stop, hex ? 16 : 10);
        if (stop == digits || *stop != 0) return 0;
        return put_utf8(out, c == 0xA0 ? ' ' : c), end + 1;
    }
    static constexpr std::pair<std::string_view, unsigned> names[] = {
        {"amp", '&'},      {"lt", '<'},       {"gt", '>'},       {"quot", '"'},      {"apos", '\''},
        {"nbsp", ' '},     {"ndash", 0x2013}, {"mdash", 0x2014}, {"hellip", 0x2026}, {"lsquo", 0x2018},
        {"rsquo", 0x2019}, {"ldquo", 0x201C}, {"rdquo", 0x201D}, {"bdquo", 0x201E},  {"laquo", 0xAB},
        {"raquo", 0xBB},   {"deg", 0xB0},     {"micro", 0xB5},   {"plusmn", 0xB1},   {"times", 0xD7},
        {"middot", 0xB7},  {"bull", 0x2022},  {"euro", 0x20AC},  {"pound", 0xA3},    {"copy", 0xA9},
        {"reg", 0xAE},     {"trade", 0x2122}, {"sect", 0xA7},    {"auml", 0xE4},     {"ouml", 0xF6},
        {"uuml", 0xFC},    {"Auml", 0xC4},    {"Ouml", 0xD6},    {"Uuml", 0xDC},     {"szlig", 0xDF},
        {"eacute", 0xE9},  {"egrave", 0xE8},  {"agrave", 0xE0},  {"ccedil", 0xE7},   {"ntilde", 0xF1},
        {"shy", 0xAD}};
    for (const auto& [n, c] : names)
        if (n == name) return put_utf8(out, c), end + 1;
    return 0;
}

// The end of a tag that begins at `at`: quotes may hold a >.
std::size_t tag_end(std::string_view content, std::size_t at) {
    char quote = 0;
    for (; at < content.size(); at++) {
        const char c = content[at];
        if (quote != 0)
            quote = c == quote ? '\0' : quote;
        else if (c == '"' || c == '\'')
            quote = c;
        else if (c == '>')
            return at + 1;
    }
    return content.size();
}

class Reader {
  public:
    explicit Reader(std::string_view content) : content_(content) {}

    std::vector<Block> read() {
        for (std::size_t at = 0; at < content_.size();) {
            if (content_.substr(at, 4) == "<!--") {
                at = std::min(content_.find("-->", at + 4), content_.size() - 3) + 3;
                continue;
            }
            const char next = at + 1 < content_.size() ? content_[at + 1] : '\0';
            if (content_[at] == '<' && (is_letter(next) || next == '/' || next == '!' || next == '?')) {
                at = tag(at);
                continue;
            }
            character(at);
        }
        close();
        return std::move(out_);
    }

  private:
    std::size_t tag(std::size_t at) {
        const bool closes = content_[at + 1] == '/';
        std::size_t begin = at + 1 + closes, end = begin;
        while (end < content_.size() && is_alnum(content_[end])) end++;
        const std::string name = in_lower_case(content_.substr(begin, end - begin));
        const std::size_t behind = tag_end(content_, end);
        if (name == "title" && !closes) return close(), behind;
        if (is_hidden(name) && !closes && name != "head" &&
            content_.substr(at, behind - at).find("/>") == std::string::npos)
            return skip(name, behind);
        const bool heads = name.size() == 2 && name[0] == 'h' && name[1] >= '1' && name[1] <= '6';
        if (name == "title" && closes) {
            headings_.enter(0, text_);
            text_.clear();
        } else if (heads && !closes) {
            close();
        } else if (heads) {
            headings_.enter(name[1] - '0', text_);
            text_.clear();
        } else if (name == "td" || name == "th") {
            if (!text_.empty() && !closes) text_ += text_.back() == ' ' ? "| " : " | ";
        } else if (parts(name)) {
            if (name == "pre") verbatim_ = !closes;
            close();
        }
        return behind;
    }

    // Behind what closes it.
    std::size_t skip(std::string_view name, std::size_t at) const {
        for (; at < content_.size(); at++) {
            at = content_.find("</", at);
            if (at == std::string_view::npos) return content_.size();
            if (same_letters(content_.substr(at + 2, name.size()), name)) return tag_end(content_, at);
        }
        return content_.size();
    }

    void character(std::size_t& at) {
        const char c = content_[at];
        const std::size_t begin = at;
        if (is_space(c)) {
            at++;
            if (verbatim_)
                text_ += c;
            else if (!text_.empty() && text_.back() != ' ')
                text_ += ' ';
            return;
        }
        if (text_.empty()) begin_ = begin;
        const std::size_t n = c == '&' ? reference(content_.substr(at), text_) : 0;
        if (n == 0) text_ += c;
        at += n == 0 ? 1 : n;
        end_ = at;
    }

    void close() {
        while (!text_.empty() && is_space(text_.back())) text_.pop_back();
        if (!text_.empty()) out_.push_back({headings_.path(), begin_, end_, text_});
        text_.clear();
    }

    std::string_view content_;
    std::vector<Block> out_;
    Headings headings_;
    std::string text_;
    std::size_t begin_ = 0, end_ = 0;
    bool verbatim_ = false;
};

}  // namespace

std::vector<Block> html_blocks(std::string_view content) { return Reader(content).read(); }

}  // namespace slmd::docs
