// CSV (RFC 4180) and what is separated by semicolons or tabs: a block a row, under the names of the columns.
#include <algorithm>

#include "docs/cut.h"

namespace slmd::docs {
namespace {

// The end of the row that begins at `at`, its line end included; quotes may hold line ends.
std::size_t row_end(std::string_view content, std::size_t at) {
    bool quoted = false;
    for (; at < content.size(); at++) {
        if (content[at] == '"') quoted = !quoted;
        if (content[at] == '\n' && !quoted) return at + 1;
    }
    return content.size();
}

std::string_view bare(std::string_view row) {
    while (!row.empty() && (row.back() == '\n' || row.back() == '\r')) row.remove_suffix(1);
    return row;
}

}  // namespace

std::vector<Block> csv_blocks(std::string_view content) {
    std::vector<Block> out;
    const std::size_t first = row_end(content, 0);
    std::string names(clip(bare(content.substr(0, first)), 240));
    std::replace_if(
        names.begin(), names.end(), [](char c) { return (c & 0xE0) == 0; }, ' ');
    const auto blank = [](std::string_view row) {
        return row.find_first_not_of(",;\t \r\n") == std::string_view::npos;
    };
    for (std::size_t at = first; at < content.size();) {
        const std::size_t end = row_end(content, at);
        const std::string_view row = content.substr(at, end - at);
        if (!blank(row)) out.push_back({names, at, end, std::string(row)});
        at = end;
    }
    // Names alone are a row.
    if (out.empty() && !blank(content)) out.push_back({"", 0, content.size(), std::string(content)});
    return out;
}

}  // namespace slmd::docs
