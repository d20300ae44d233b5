// A document as passages: pieces of one meaning where its structure allows it, each with the headings above it and the
// bytes that it is of. For slmctl, on files that may be anything.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"

namespace slmd::docs {

enum class Format : unsigned char { text, markdown, html, csv, pdf };

// By the name's end; of other names a file that begins with %PDF- is one, and all else is text.
Format format_of(std::string_view name, std::string_view content);

// What belongs together: a paragraph, a heading's text, a row, a list.
struct Block {
    std::string heading;     // "Pumps > Pump 2"
    std::size_t begin, end;  // bytes of the document
    std::string text;        // as it is read; the bytes themselves where nothing had to be left out
};

struct Piece {
    std::string heading, text;
    std::size_t begin, end;
};

struct CutOptions {
    std::size_t wanted = 800, most = 1200;  // bytes of a passage
};

// The blocks of a document's text. Of PDF the text that pdftotext made of it: pages end in form feeds. Errors:
// invalid_characters, with the place, for what is not UTF-8 or is binary; text_too_long.
Result<std::vector<Block>> blocks_of(std::string_view content, Format format);
// Blocks under one heading go together until a passage has what is wanted; what is longer than the most is cut at the
// end of a line, of a sentence, of a word, in this order. Every byte of a block that is not white space is in one
// passage, and in no other.
std::vector<Piece> cut(const std::vector<Block>& blocks, std::string_view content, const CutOptions& options = {});

// Changes when the same bytes are cut otherwise: it is hashed with them.
constexpr std::string_view cutter = "slmd passages 1";

// For each format; content is UTF-8.
std::vector<Block> text_blocks(std::string_view content);
std::vector<Block> markdown_blocks(std::string_view content);
std::vector<Block> html_blocks(std::string_view content);
std::vector<Block> csv_blocks(std::string_view content);
std::vector<Block> page_blocks(std::string_view content);

// The headings above a place, outermost first.
class Headings {
  public:
    void enter(int level, std::string_view title);
    std::string path() const;

  private:
    std::vector<std::pair<int, std::string>> open_;
};

// At most so many bytes of whole code points.
std::string_view clip(std::string_view text, std::size_t bytes);

}  // namespace slmd::docs
