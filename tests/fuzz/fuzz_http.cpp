// LINK: slmd_uplink
// An answer of HTTP, whole and in pieces: both read the same, and nothing beyond the limits.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>

#include "uplink/http.h"

using slmd::uplink::ResponseParser;

namespace {

struct Seen {
    bool fine = true, done = false;
    int status = 0;
    std::string body;
};

Seen read(std::string_view text, const std::uint8_t* sizes, std::size_t count) {
    ResponseParser parser;
    Seen seen;
    for (std::size_t i = 0; !text.empty(); i++) {
        const std::size_t n = count == 0 ? text.size() : 1 + sizes[i % count];
        std::string_view in = text.substr(0, n);
        text.remove_prefix(in.size());
        while (!in.empty()) {
            const std::size_t before = in.size();
            const auto piece = parser.next(in);
            if (!piece) {
                if (piece.error().text[0] == 0) std::abort();
                seen.fine = false;
                return seen;
            }
            if (in.size() >= before && !in.empty()) std::abort();  // it must go on
            seen.body += piece.value();
        }
    }
    if (parser.head_done() && (parser.status() < 200 || parser.status() > 599)) std::abort();
    seen.done = static_cast<bool>(parser.end());
    seen.status = parser.status();
    return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 4 || size > 65536) return 0;
    const std::string_view text(reinterpret_cast<const char*>(data) + 4, size - 4);
    const Seen whole = read(text, data, 0), pieces = read(text, data, 4);
    if (whole.fine != pieces.fine || whole.done != pieces.done) std::abort();
    if (whole.fine && (whole.body != pieces.body || whole.status != pieces.status)) std::abort();
    return 0;
}
