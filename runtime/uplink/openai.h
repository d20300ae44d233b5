// The chat/completions API of OpenAI, as cloud models, vLLM, llama-server and others speak it: requests written,
// answers and streams read. Pure: no socket, nothing allocated.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "uplink/config.h"

namespace slmd::uplink {

struct Ask {
    std::string_view messages;  // a JSON array, sent as it is
    std::string_view schema;    // JSON Schema that the answer is to obey; "": none
    std::string_view key;       // of idempotency: the same for the same question; "": none is sent
    int max_tokens = 256;
    float temperature = 0;   // below 0: none is sent, as some models take none
    std::uint64_t seed = 0;  // 0: none is sent
    bool stream = false;
};

// Room to read JSON in; what one call leaves there is the next one's to overwrite.
struct Scratch {
    std::span<char> text;
    std::span<JsonNode> nodes;
};

// Head and body of the HTTP request, to the byte as it is sent. bearer: the key, or what stands for it in a preview;
// "": no Authorization. scratch.text: as large as messages and schema. Errors: incorrect_parameters (messages or schema
// is not JSON), invalid_characters, text_too_long (out is too small).
Result<std::string_view> write_request(const Upstream& upstream, const Ask& ask, std::string_view bearer,
                                       Scratch scratch, std::span<char> out);

struct Answer {
    std::string_view text, model, finish;  // finish: "stop", "length", ...
    std::uint32_t prompt_tokens = 0, completion_tokens = 0;
    bool has_usage = false;
};

// A whole answer, unescaped in place; the result points into body. Errors: incorrect_parameters (not JSON, or not such
// an answer), invalid_characters (not UTF-8), not_permitted (the model refuses), device_io (the server's error).
Result<Answer> read_answer(std::span<char> body, std::span<JsonNode> nodes);

// What the body of an answer that is no 2xx says, as one line: at most 140 bytes of UTF-8 without control characters;
// "" when it says nothing.
std::string_view read_error(std::span<char> body, std::span<JsonNode> nodes);

// Who is told of each piece of a stream's text.
struct OnText {
    void (*call)(void* self, std::string_view piece) = nullptr;
    void* self = nullptr;
};

// The events of a stream (text/event-stream, WHATWG HTML 9.2), in pieces of any size.
class StreamReader {
  public:
    // event: room for the longest one; out: for the text.
    StreamReader(std::span<char> event, std::span<JsonNode> nodes, std::span<char> out, OnText on_text)
        : event_(event), nodes_(nodes), out_(out), on_text_(on_text) {}

    // Errors: those of read_answer(); text_too_long (an event, or the text).
    Result<void> feed(std::string_view bytes);
    bool done() const { return done_; }  // [DONE] came
    // The stream ended, by [DONE] or not. Error: device_io when no finish_reason came: it was cut off.
    Result<Answer> end() const;
    bool has_text() const { return size_ > 0; }

  private:
    Result<void> line();
    Result<void> event();

    std::span<char> event_;
    std::span<JsonNode> nodes_;
    std::span<char> out_;
    OnText on_text_;
    std::size_t line_begin_ = 0, used_ = 0;  // of event_: its data so far, and behind it the line that is being read
    std::size_t size_ = 0;                   // of the text
    bool after_cr_ = false, done_ = false, has_data_ = false;
    Answer answer_;
    std::size_t model_size_ = 0, finish_size_ = 0;
    char model_[128], finish_[24];
};

}  // namespace slmd::uplink
