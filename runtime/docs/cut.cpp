#include "docs/cut.h"

#include <algorithm>

#include "base/ascii.h"
#include "base/utf8.h"
#include "docs/store.h"

namespace slmd::docs {
namespace {

constexpr std::size_t max_bytes = 32u << 20;

bool is_space(char c) { return c == ' ' || c == '\n' || c == '\r' || c == '\t' || c == '\f' || c == '\v'; }

// Where a piece of at most `most` bytes ends best: not before a third of it.
std::size_t break_at(std::string_view text, std::size_t most) {
    if (text.size() <= most) return text.size();
    const std::size_t least = most / 3;
    std::size_t line = 0, sentence = 0, word = 0, any = most;
    while (any > 0 && (text[any] & 0xC0) == 0x80) any--;
    for (std::size_t i = least; i < most; i++) {
        const char c = text[i];
        if (c == '\n') line = i + 1;
        if (!is_space(c)) continue;
        word = i + 1;
        if (i > 0 && (text[i - 1] == '.' || text[i - 1] == '!' || text[i - 1] == '?')) sentence = i + 1;
    }
    return line != 0 ? line : sentence != 0 ? sentence : word != 0 ? word : any;
}

std::string_view trim(std::string_view s) {
    while (!s.empty() && is_space(s.front())) s.remove_prefix(1);
    while (!s.empty() && is_space(s.back())) s.remove_suffix(1);
    return s;
}

bool ends_with(std::string_view name, std::string_view end) {
    return name.size() >= end.size() && same_letters(name.substr(name.size() - end.size()), end);
}

// Paragraphs of part of a document: what empty lines part.
void paragraphs(std::string_view content, std::size_t begin, std::size_t end, const std::string& heading,
                std::vector<Block>& out) {
    while (begin < end) {
        std::size_t at = begin, last = begin;
        bool any = false;
        while (at < end) {
            const std::size_t line = std::min(content.find('\n', at), end - 1) + 1;
            const bool empty = trim(content.substr(at, line - at)).empty();
            at = line;
            if (!empty) any = true, last = line;
            if (empty && any) break;
            if (empty) begin = at;
        }
        if (any) out.push_back({heading, begin, last, std::string(content.substr(begin, last - begin))});
        begin = at;
    }
}

}  // namespace

std::string_view clip(std::string_view text, std::size_t bytes) {
    if (text.size() <= bytes) return text;
    while (bytes > 0 && (text[bytes] & 0xC0) == 0x80) bytes--;
    return text.substr(0, bytes);
}

void Headings::enter(int level, std::string_view title) {
    while (!open_.empty() && open_.back().first >= level) open_.pop_back();
    std::string one(clip(trim(title), 120));
    std::replace_if(
        one.begin(), one.end(), [](char c) { return (c & 0xE0) == 0; }, ' ');
    if (!one.empty()) open_.emplace_back(level, std::move(one));
}

std::string Headings::path() const {
    std::string path;
    for (const auto& [level, title] : open_) path += (path.empty() ? "" : " > ") + title;
    return std::string(clip(path, Store::heading_bytes));
}

Format format_of(std::string_view name, std::string_view content) {
    if (ends_with(name, ".md") || ends_with(name, ".markdown")) return Format::markdown;
    if (ends_with(name, ".html") || ends_with(name, ".htm") || ends_with(name, ".xhtml")) return Format::html;
    if (ends_with(name, ".csv") || ends_with(name, ".tsv")) return Format::csv;
    if (ends_with(name, ".pdf") || content.starts_with("%PDF-")) return Format::pdf;
    return Format::text;
}

std::vector<Block> text_blocks(std::string_view content) {
    std::vector<Block> out;
    paragraphs(content, 0, content.size(), "", out);
    return out;
}

std::vector<Block> page_blocks(std::string_view content) {
    std::vector<Block> out;
    int page = 1;
    for (std::size_t at = 0; at < content.size(); page++) {
        const std::size_t end = std::min(content.find('\f', at), content.size());
        paragraphs(content, at, end, "page " + std::to_string(page), out);
        at = end + 1;
    }
    return out;
}

Result<std::vector<Block>> blocks_of(std::string_view content, Format format) {
    if (content.size() > max_bytes)
        return Error::make(Code::text_too_long, "it is %zu bytes; at most %zu", content.size(), max_bytes);
    for (std::size_t at = 0; at < content.size();) {
        const int n = utf8_length(content.substr(at));
        if (n <= 0 || content[at] == '\0')
            return Error::make(Code::invalid_characters,
                               "byte %zu is %s: save it as UTF-8 text, Markdown, HTML or CSV, or as PDF", at,
                               n > 0 ? "0, as in binary files" : "not UTF-8");
        at += static_cast<std::size_t>(n);
    }
    std::size_t mark = content.starts_with("\xEF\xBB\xBF") ? 3 : 0;
    const std::string_view text = content.substr(mark);
    auto blocks = format == Format::markdown ? markdown_blocks(text)
                  : format == Format::html   ? html_blocks(text)
                  : format == Format::csv    ? csv_blocks(text)
                  : format == Format::pdf    ? page_blocks(text)
                                             : text_blocks(text);
    for (Block& b : blocks) b.begin += mark, b.end += mark;
    return blocks;
}

std::vector<Piece> cut(const std::vector<Block>& blocks, std::string_view content, const CutOptions& o) {
    std::vector<Piece> out;
    const auto is_raw = [&](const Piece& p) { return content.substr(p.begin, p.end - p.begin) == p.text; };
    bool open = false;  // the last piece takes more
    for (const Block& b : blocks) {
        if (trim(b.text).empty()) continue;
        const bool raw = content.substr(b.begin, b.end - b.begin) == b.text;
        if (open && out.back().heading == b.heading) {
            Piece& p = out.back();
            // What is as it stands in the document stays so, with the white space between.
            const bool follows = raw && is_raw(p) && b.begin >= p.end;
            std::string_view between = follows ? content.substr(p.end, b.begin - p.end) : "\n";
            if (!trim(between).empty()) between = "\n";
            if (p.text.size() + between.size() + b.text.size() <= o.wanted) {
                p.text += between;
                p.text += b.text;
                p.end = b.end;
                continue;
            }
        }
        std::string_view rest = b.text;
        std::size_t at = 0;
        while (!rest.empty()) {
            const std::size_t n = break_at(rest, o.most);
            const std::string_view one = rest.substr(0, n);
            if (!trim(one).empty())
                out.push_back(
                    {b.heading, std::string(one), raw ? b.begin + at : b.begin, raw ? b.begin + at + n : b.end});
            rest.remove_prefix(n);
            at += n;
        }
        open = b.text.size() <= o.most;
    }
    for (Piece& p : out) {  // white space at the ends says nothing
        const bool raw = is_raw(p);
        const std::string_view inner = trim(p.text);
        const auto before = static_cast<std::size_t>(inner.data() - p.text.data());
        if (raw) p.begin += before, p.end = p.begin + inner.size();
        p.text = std::string(inner);
    }
    return out;
}

}  // namespace slmd::docs
