#include "client/embed.h"

#include <stdio.h>

#include <algorithm>

#include "base/utf8.h"
#include "client/caller.h"
#include "daemon/plan.h"

namespace slmd::client {
namespace {

// What came back for some texts, read with as many nodes as there may be numbers.
class Reply {
  public:
    Reply() : nodes_(daemon::vector_floats + 16 * wire::Session::max_turns), reader_(nodes_, 4) {}

    // Prints them; false: it is not what was asked for.
    bool print(std::string_view embeddings, std::size_t first, bool bytes) {
        text_.assign(embeddings);
        if (!reader_.parse(text_)) return false;
        const JsonNode& all = reader_.root();
        if (all.type != JsonType::array) return false;
        for (int i = reader_.first(all); i < all.next; i = reader_.node(i).next, first++) {
            const JsonNode& one = reader_.node(i);
            const JsonNode *tokens = reader_.find(one, "tokens"), *cut = reader_.find(one, "cut"),
                           *numbers = reader_.find(one, bytes ? "i8" : "vector"), *scale = reader_.find(one, "scale");
            if (tokens == nullptr || cut == nullptr || numbers == nullptr || (bytes && scale == nullptr)) return false;
            if (cut->truth)
                fprintf(stderr, "slmctl: text %zu is longer than the model reads: only its first %.0f tokens count\n",
                        first + 1, tokens->number);
            if (bytes) put(scale->text), putchar('\t'), put(numbers->text);
            for (int k = bytes ? numbers->next : reader_.first(*numbers); k < numbers->next; k = reader_.node(k).next) {
                if (k != reader_.first(*numbers)) putchar('\t');
                put(reader_.node(k).text);
            }
            putchar('\n');
        }
        return true;
    }

  private:
    static void put(std::string_view s) { fwrite(s.data(), 1, s.size(), stdout); }

    std::vector<JsonNode> nodes_;
    JsonReader reader_;
    std::string text_;
};

}  // namespace

int embed(Connection& connection, const std::vector<std::string>& texts, bool bytes, bool json) {
    for (const std::string& text : texts)
        if (!utf8_valid(text))
            return complain(Error::make(Code::invalid_characters, "a text is not UTF-8"), exit_failed);
    Caller caller(connection);
    if (auto r = caller.wait_for_model(); !r) return outcome(r.error());
    Reply reply;
    std::size_t together = 1;  // how many numbers a text is, the first one tells; a serial line has no room for several
    for (std::size_t at = 0; at < texts.size();) {
        const std::size_t n = std::min(together, texts.size() - at);
        std::string list;
        std::size_t count = 0;
        for (; count < n && (count == 0 || list.size() + texts[at + count].size() < daemon::prompt_bytes / 4); count++)
            list += (count > 0 ? "," : "") + quoted(texts[at + count]);
        const auto r =
            caller.call("emb", "\"texts\":[" + list + "],\"format\":" + (bytes ? "\"i8\"" : "\"f32\""), true);
        if (!r) return outcome(r.error());
        const wire::JsonLine& reader = caller.reader();
        const JsonNode *dim = reader.find(*r.value(), "dim"), *embeddings = reader.find(*r.value(), "embeddings");
        if (dim == nullptr || embeddings == nullptr || dim->number < 1)
            return complain(Error::make(Code::unknown, "no embeddings came back"), exit_failed);
        if (json)
            puts(caller.line().c_str());
        else if (!reply.print(embeddings->text, at, bytes))
            return complain(Error::make(Code::unknown, "the embeddings that came back cannot be read"), exit_failed);
        at += count;
        if (!connection.tty())
            together = std::clamp<std::size_t>(daemon::vector_floats / static_cast<std::size_t>(dim->number), 1,
                                               wire::Session::max_turns);
    }
    return 0;
}

}  // namespace slmd::client
