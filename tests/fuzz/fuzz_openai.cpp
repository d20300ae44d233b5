// LINK: slmd_uplink
// What a server says: as an answer, as an error, and as a stream, whole and in pieces; and as what is to be sent.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <string_view>
#include <vector>

#include "base/utf8.h"
#include "uplink/openai.h"

using namespace slmd;
using namespace slmd::uplink;

namespace {

std::vector<JsonNode> nodes(256);

struct Seen {
    bool fine = false;
    std::string text, told;
};

Seen stream(std::string_view bytes, std::size_t piece) {
    std::vector<char> event(1024), out(512);
    Seen seen;
    StreamReader reader(event, nodes, out,
                        {[](void* self, std::string_view p) { static_cast<Seen*>(self)->told += p; }, &seen});
    for (; !bytes.empty(); bytes.remove_prefix(std::min(piece, bytes.size())))
        if (const auto r = reader.feed(bytes.substr(0, piece)); !r) {
            if (r.error().text[0] == 0) std::abort();
            return seen;
        }
    const auto answer = reader.end();
    if (!answer) return seen;
    seen.fine = true;
    seen.text = answer.value().text;
    if (seen.text != seen.told || !utf8_valid(seen.text)) std::abort();
    return seen;
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    if (size < 1 || size > 16384) return 0;
    const std::string text(reinterpret_cast<const char*>(data) + 1, size - 1);
    std::string copy = text;
    if (const auto a = read_answer(copy, nodes); a && !utf8_valid(a.value().text)) std::abort();
    copy = text;
    const std::string_view line = read_error(copy, nodes);
    if (line.size() > 140 || !utf8_valid(line)) std::abort();
    for (const char c : line)
        if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F) std::abort();
    const Seen whole = stream(text, text.size() + 1), pieces = stream(text, 1 + data[0] % 32);
    if (whole.fine != pieces.fine || whole.text != pieces.text || whole.told != pieces.told) std::abort();

    // Whatever is asked, the request is one: its body is one object, and its head has the lines that it should have.
    Upstream u;
    u.host[0] = 'h', u.model[0] = 'm';
    Ask ask;
    ask.messages = text;
    ask.key = std::string_view(text).substr(0, 16);
    u.idempotency = true;
    std::vector<char> room(65536), out(65536), again(65536);
    const auto request = write_request(u, ask, "****", {room, nodes}, out);
    if (!request) return 0;
    const std::size_t head = request.value().find("\r\n\r\n");
    if (head == std::string_view::npos) std::abort();
    std::size_t lines = 0;
    for (std::size_t at = 0; (at = request.value().find("\r\n", at)) < head; at += 2) lines++;
    if (lines != 8 + (ask.key.empty() ? 0u : 1u)) std::abort();
    std::string body(request.value().substr(head + 4));
    std::vector<JsonNode> more(1024);
    JsonReader reader(more, 80);
    if (!reader.parse(body) || reader.root().type != JsonType::object) std::abort();
    return 0;
}
