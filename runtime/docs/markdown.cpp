// Markdown (CommonMark's blocks, as far as they part a text): headings, fenced code, paragraphs, lists, tables.
#include <algorithm>

#include "docs/cut.h"

namespace slmd::docs {
namespace {

std::size_t indent_of(std::string_view line) { return std::min(line.find_first_not_of(' '), line.size()); }

// 1 to 6, and the title; 0: none.
int heading_level(std::string_view line, std::string_view& title) {
    const std::size_t indent = indent_of(line);
    if (indent > 3) return 0;
    line.remove_prefix(indent);
    std::size_t n = 0;
    while (n < line.size() && line[n] == '#') n++;
    if (n == 0 || n > 6 || (n < line.size() && line[n] != ' ' && line[n] != '\t')) return 0;
    title = line.substr(n);
    while (!title.empty() && (title.back() == ' ' || title.back() == '\t')) title.remove_suffix(1);
    std::string_view bare = title;
    while (!bare.empty() && bare.back() == '#') bare.remove_suffix(1);
    if (bare.empty() || bare.back() == ' ' || bare.back() == '\t') title = bare;
    return static_cast<int>(n);
}

bool is_line_of(std::string_view line, char c) {
    if (indent_of(line) > 3) return false;
    line.remove_prefix(indent_of(line));
    while (!line.empty() && (line.back() == ' ' || line.back() == '\t')) line.remove_suffix(1);
    return !line.empty() && line.find_first_not_of(c) == std::string_view::npos;
}

// ``` or ~~~, three or more; 0: none.
std::size_t fence_of(std::string_view line, char& mark) {
    const std::size_t indent = indent_of(line);
    if (indent > 3 || indent == line.size() || (line[indent] != '`' && line[indent] != '~')) return 0;
    mark = line[indent];
    const std::size_t n = std::min(line.find_first_not_of(mark, indent), line.size()) - indent;
    if (n < 3 || (mark == '`' && line.find('`', indent + n) != std::string_view::npos)) return 0;
    return n;
}

}  // namespace

std::vector<Block> markdown_blocks(std::string_view content) {
    std::vector<Block> out;
    Headings headings;
    std::size_t begin = 0, fence = 0, line_count = 0;
    char mark = 0;
    const auto close = [&](std::size_t end) {
        if (end > begin && line_count > 0)
            out.push_back({headings.path(), begin, end, std::string(content.substr(begin, end - begin))});
        begin = end;
        line_count = 0;
    };
    std::size_t previous = 0;  // where the line before this one begins
    for (std::size_t at = 0; at < content.size();) {
        const std::size_t next = std::min(content.find('\n', at), content.size() - 1) + 1;
        std::string_view line = content.substr(at, next - at);
        while (!line.empty() && (line.back() == '\n' || line.back() == '\r')) line.remove_suffix(1);
        char m = 0;
        const std::size_t f = fence_of(line, m);
        std::string_view title;
        if (fence != 0) {
            line_count++;
            if (f >= fence && m == mark && is_line_of(line, mark)) fence = 0, close(next);
        } else if (f != 0) {
            close(at);
            fence = f, mark = m, line_count = 1;
        } else if (const int level = heading_level(line, title); level > 0) {
            close(at);
            headings.enter(level, title);
            begin = next;
        } else if (line_count == 1 && (is_line_of(line, '=') || (is_line_of(line, '-') && line.size() > 1))) {
            title = content.substr(previous, at - previous);  // the line above is a heading
            headings.enter(is_line_of(line, '=') ? 1 : 2, title);
            begin = next, line_count = 0;
        } else if (line.find_first_not_of(" \t") == std::string_view::npos) {
            close(at);
            begin = next;
        } else {
            if (line_count == 0) begin = at;
            line_count++;
        }
        previous = at;
        at = next;
    }
    close(content.size());
    return out;
}

}  // namespace slmd::docs
