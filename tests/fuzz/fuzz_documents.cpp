// LINK: slmd_docs
// A document in any format, cut into passages. The first byte says which; the rest is the document. What holds of all:
// a passage is not empty, not too long, of the document, UTF-8; in text, Markdown and CSV it is the document's bytes,
// behind those of the passage before it.
#include <cstdint>
#include <cstdlib>

#include "base/utf8.h"
#include "docs/cut.h"
#include "docs/evidence.h"
#include "docs/query.h"
#include "docs/store.h"

using namespace slmd;
using namespace slmd::docs;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size == 0) return 0;
    const std::string_view content(reinterpret_cast<const char*>(data) + 1, size - 1);
    const auto format = static_cast<Format>(data[0] % 5);
    Query query;
    make_query(content, query);
    if (query.size > sizeof query.text) std::abort();
    const auto blocks = blocks_of(content, format);
    if (!blocks) return 0;
    const CutOptions options{40, 120};
    std::size_t end = 0;
    for (const Piece& p : cut(blocks.value(), content, options)) {
        if (p.text.empty() || p.text.size() > options.most || p.heading.size() > Store::heading_bytes) std::abort();
        if (p.begin > p.end || p.end > content.size() || !utf8_valid(p.text) || !utf8_valid(p.heading)) std::abort();
        if (format == Format::html) continue;
        if (p.begin < end) std::abort();
        end = p.end;
        Word words[Query::max_words];
        for (std::size_t i = 0; i < query.count; i++) words[i] = {query.words[i], 1};
        Hit hit{};
        hit.text = p.text, hit.heading = p.heading;
        const Evidence e = find_evidence({words, query.count}, {&hit, 1}, 60);
        if (e.begin > e.end || e.end > p.text.size() || e.end - e.begin > 60) std::abort();
    }
    return 0;
}
