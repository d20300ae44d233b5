#include "uplink/openai.h"

#include <string.h>

#include <algorithm>
#include <cstring>
#include <utility>

#include "base/utf8.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

// Nothing that is written into the body as it is may be more than one value: it could add members to the request.
Result<void> check_json(const char* name, std::string_view json, JsonType type, JsonReader& reader, Scratch scratch) {
    if (json.size() > scratch.text.size())
        return Error::make(Code::text_too_long, "%s: %zu bytes; at most %zu", name, json.size(), scratch.text.size());
    std::copy(json.begin(), json.end(), scratch.text.begin());
    if (auto r = reader.parse(scratch.text.first(json.size())); !r)
        return Error::make(r.error().code, "%s: %.180s", name, r.error().text);
    if (reader.root().type != type)
        return Error::make(Code::incorrect_parameters, "%s is not a JSON %s", name,
                           type == JsonType::array ? "array" : "object");
    return {};
}

// Whether a server may be asked to obey it strictly: OpenAI's refuse that of a schema with an object whose members are
// not all required, or that may have others. When in doubt it is not.
bool is_strict(const JsonReader& schema) {
    if (schema.find(schema.root(), "properties") == nullptr) return false;
    for (int i = 0; i < schema.count(); i++) {
        const JsonNode& of = schema.node(i);
        if (of.type != JsonType::object) continue;
        const JsonNode *const properties = schema.find(of, "properties"), *const type = schema.find(of, "type"),
                              *const required = schema.find(of, "required"),
                              *const others = schema.find(of, "additionalProperties");
        if (properties == nullptr && (type == nullptr || type->text != "object")) continue;
        if (properties == nullptr || required == nullptr || others == nullptr || others->type != JsonType::boolean ||
            others->truth)
            return false;
        for (int p = schema.first(*properties); p < properties->next; p = schema.node(p).next) {
            bool named = false;
            for (int r = schema.first(*required); r < required->next; r = schema.node(r).next)
                named |= schema.node(r).text == schema.node(p).key;
            if (!named) return false;
        }
    }
    return true;
}

void write_body(const Upstream& u, const Ask& ask, bool strict, Writer& w) {
    w << "{\"model\":";
    w.json_string(u.model);
    w << ",\"messages\":" << ask.messages;
    w.print(",\"%s\":%d", u.completion_tokens ? "max_completion_tokens" : "max_tokens", ask.max_tokens);
    if (ask.temperature >= 0) w.print(",\"temperature\":%.4g", static_cast<double>(ask.temperature));
    if (ask.seed != 0) w.print(",\"seed\":%llu", static_cast<unsigned long long>(ask.seed));
    if (!ask.schema.empty() && u.structured == Structured::json_schema)
        w << ",\"response_format\":{\"type\":\"json_schema\",\"json_schema\":{\"name\":\"answer\","
          << (strict ? "\"strict\":true," : "") << "\"schema\":" << ask.schema << "}}";
    if (!ask.schema.empty() && u.structured == Structured::json_object)
        w << ",\"response_format\":{\"type\":\"json_object\"}";
    if (ask.stream) w << ",\"stream\":true,\"stream_options\":{\"include_usage\":true}";
    w << "}";
}

void write_head(const Upstream& u, const Ask& ask, std::string_view bearer, std::size_t length, Writer& w) {
    const bool v6 = std::strchr(u.host, ':') != nullptr;
    w << "POST " << u.path << "/chat/completions HTTP/1.1\r\nHost: " << (v6 ? "[" : "") << u.host << (v6 ? "]" : "");
    if (u.port != (u.tls ? 443 : 80)) w.print(":%u", u.port);
    w << "\r\nUser-Agent: slm-uplink/" SLMD_VERSION "\r\n";
    if (!bearer.empty()) w << "Authorization: Bearer " << bearer << "\r\n";
    if (u.idempotency && !ask.key.empty()) w << "Idempotency-Key: " << ask.key << "\r\n";
    w << "Content-Type: application/json\r\nAccept: " << (ask.stream ? "text/event-stream" : "application/json")
      << "\r\nAccept-Encoding: identity\r\n";
    w.print("Content-Length: %zu\r\nConnection: close\r\n\r\n", length);
}

template <std::size_t N>
std::size_t keep(std::string_view text, char (&out)[N]) {
    if (text.size() > N) return 0;
    std::copy(text.begin(), text.end(), out);
    return text.size();
}

std::string_view text_of(const JsonReader& r, const JsonNode& object, std::string_view key) {
    const JsonNode* const n = r.find(object, key);
    return n != nullptr && n->type == JsonType::string ? n->text : std::string_view{};
}

void read_usage(const JsonReader& r, Answer& out) {
    const JsonNode* const usage = r.find(r.root(), "usage");
    if (usage == nullptr || usage->type != JsonType::object) return;
    const auto count = [&](std::string_view key, std::uint32_t& to) {
        const JsonNode* const n = r.find(*usage, key);
        if (n == nullptr || n->type != JsonType::number || !(n->number >= 0 && n->number < 1e9)) return false;
        to = static_cast<std::uint32_t>(n->number);
        return true;
    };
    const bool has_prompt = count("prompt_tokens", out.prompt_tokens);
    out.has_usage = count("completion_tokens", out.completion_tokens) && has_prompt;
}

// The message of {"error": {"message": ...}} and its kin; null when there is none.
const JsonNode* message_of(const JsonReader& r) {
    const JsonNode& root = r.root();
    for (const char* key : {"error", "message", "detail"}) {
        const JsonNode* n = r.find(root, key);
        if (n != nullptr && n->type == JsonType::object) n = r.find(*n, "message");
        if (n != nullptr && n->type == JsonType::string) return n;
    }
    return nullptr;
}

// One line of text that came from outside, cut between characters.
std::string_view one_line(char* text, std::size_t size, std::size_t most) {
    std::size_t n = 0;
    while (n < size) {
        const int length = utf8_length({text + n, size - n});
        if (length <= 0 || n + static_cast<std::size_t>(length) > most) break;
        if (static_cast<unsigned char>(text[n]) < 0x20 || text[n] == 0x7F) text[n] = ' ';
        // C1 controls steer terminals, too.
        if (length == 2 && text[n] == '\xC2' && static_cast<unsigned char>(text[n + 1]) < 0xA0)
            text[n] = text[n + 1] = ' ';
        n += static_cast<std::size_t>(length);
    }
    return {text, n};
}

Error server_says(const JsonReader& r) {
    const JsonNode* const m = message_of(r);
    char said[141] = "";
    if (m != nullptr) {
        copy(m->text, said);
        const std::string_view line = one_line(said, std::strlen(said), sizeof said - 1);
        said[line.size()] = 0;
    }
    return Error::make(Code::device_io, "the server answers with an error: %s",
                       said[0] != 0 ? said : "it says no more");
}

// The first choice, or null: what every answer and most events have.
const JsonNode* choice_of(const JsonReader& r) {
    const JsonNode* const choices = r.find(r.root(), "choices");
    if (choices == nullptr || choices->type != JsonType::array) return nullptr;
    for (int i = r.first(*choices); i < choices->next; i = r.node(i).next) {
        const JsonNode& c = r.node(i);
        const JsonNode* const index = r.find(c, "index");
        if (c.type == JsonType::object && (index == nullptr || index->number == 0)) return &c;
    }
    return nullptr;
}

// What is long and not for us.
constexpr std::string_view unread[] = {"logprobs",    "tool_calls", "prompt_filter_results", "content_filter_results",
                                       "annotations", "timings"};

}  // namespace

Result<std::string_view> write_request(const Upstream& upstream, const Ask& ask, std::string_view bearer,
                                       Scratch scratch, std::span<char> out) {
    JsonReader reader(scratch.nodes, 64);
    TRY(check_json("messages", ask.messages, JsonType::array, reader, scratch));
    if (!ask.schema.empty()) TRY(check_json("schema", ask.schema, JsonType::object, reader, scratch));
    if (ask.key.size() > 128 ||
        !std::all_of(ask.key.begin(), ask.key.end(), [](char c) { return c > ' ' && c < 0x7F; }))
        return Error::make(Code::invalid_characters, "an idempotency key is up to 128 bytes of ASCII without blanks");
    Writer body(out);
    write_body(upstream, ask, !ask.schema.empty() && is_strict(reader), body);
    char head[4096];
    Writer w(head);
    write_head(upstream, ask, bearer, body.text().size(), w);
    const std::size_t before = w.text().size(), size = body.text().size();
    if (body.overflow() || w.overflow() || before > out.size() - size) {
        explicit_bzero(head, sizeof head);
        return Error::make(Code::text_too_long, "the request is longer than %zu bytes", out.size());
    }
    std::memmove(out.data() + before, out.data(), size);
    std::memcpy(out.data(), head, before);
    explicit_bzero(head, sizeof head);
    return std::string_view(out.data(), before + size);
}

Result<Answer> read_answer(std::span<char> body, std::span<JsonNode> nodes) {
    JsonReader r(nodes, 32);
    r.leave(unread);
    if (auto ok = r.parse(body); !ok)
        return Error::make(ok.error().code, "the answer cannot be read: %.180s", ok.error().text);
    const auto other = [](const char* what) {
        return Error::make(Code::incorrect_parameters, "not an answer of chat/completions: %s", what);
    };
    if (r.root().type != JsonType::object) return other("no object");
    const JsonNode* const error = r.find(r.root(), "error");
    if (error != nullptr && error->type != JsonType::null) return server_says(r);
    const JsonNode* const choice = choice_of(r);
    if (choice == nullptr) return other("no choices");
    const JsonNode* const message = r.find(*choice, "message");
    if (message == nullptr || message->type != JsonType::object) return other("no message");
    const JsonNode* const content = r.find(*message, "content");
    if (content == nullptr || content->type != JsonType::string) {
        const std::string_view refusal = text_of(r, *message, "refusal");
        if (refusal.empty()) return other("the message has no text");
        return Error::make(Code::not_permitted, "the model refuses to answer");
    }
    Answer a;
    a.text = content->text;
    a.model = text_of(r, r.root(), "model");
    a.finish = text_of(r, *choice, "finish_reason");
    if (a.model.size() > 128 || a.finish.size() > 24) return other("a name that is too long");
    read_usage(r, a);
    return a;
}

std::string_view read_error(std::span<char> body, std::span<JsonNode> nodes) {
    JsonReader r(nodes, 32);
    r.leave(unread);
    if (!r.parse(body)) return {};
    const JsonNode* const m = message_of(r);
    if (m == nullptr) return {};
    return one_line(body.data() + (m->text.data() - body.data()), m->text.size(), 140);
}

Result<void> StreamReader::feed(std::string_view bytes) {
    for (const char c : bytes) {
        if (done_) return {};  // nothing after [DONE] is of interest
        if (after_cr_) {
            after_cr_ = false;
            if (c == '\n') continue;
        }
        if (c == '\n' || c == '\r') {
            after_cr_ = c == '\r';
            TRY(line());
            continue;
        }
        if (line_begin_ + used_ >= event_.size())
            return Error::make(Code::text_too_long, "an event of the stream is longer than %zu bytes", event_.size());
        event_[line_begin_ + used_++] = c;
    }
    return {};
}

Result<void> StreamReader::line() {
    std::string_view text(event_.data() + line_begin_, used_);
    used_ = 0;
    if (text.empty()) return event();
    if (!text.starts_with("data:")) return {};  // a comment, or a field that says nothing here
    text.remove_prefix(5);
    if (text.starts_with(' ')) text.remove_prefix(1);
    if (text == "[DONE]" && !has_data_) {
        done_ = true;
        return {};
    }
    // Lines of data are joined by a line feed, which fits: the name of the field was longer.
    if (has_data_) event_[line_begin_++] = '\n';
    std::memmove(event_.data() + line_begin_, text.data(), text.size());
    line_begin_ += text.size();
    has_data_ = true;
    return {};
}

Result<void> StreamReader::event() {
    const std::size_t size = line_begin_;
    line_begin_ = 0;
    if (!std::exchange(has_data_, false)) return {};
    JsonReader r(nodes_, 32);
    r.leave(unread);
    if (auto ok = r.parse(event_.first(size)); !ok)
        return Error::make(ok.error().code, "an event of the stream cannot be read: %.170s", ok.error().text);
    if (r.root().type != JsonType::object)
        return Error::make(Code::incorrect_parameters, "an event of the stream is no object");
    const JsonNode* const error = r.find(r.root(), "error");
    if (error != nullptr && error->type != JsonType::null) return server_says(r);
    if (const std::string_view model = text_of(r, r.root(), "model"); !model.empty()) model_size_ = keep(model, model_);
    read_usage(r, answer_);
    const JsonNode* const choice = choice_of(r);  // the event with the usage has none
    if (choice == nullptr) return {};
    if (const std::string_view f = text_of(r, *choice, "finish_reason"); !f.empty()) finish_size_ = keep(f, finish_);
    const JsonNode* const delta = r.find(*choice, "delta");
    if (delta == nullptr) return {};
    const std::string_view piece = text_of(r, *delta, "content");
    if (piece.empty()) return {};
    if (piece.size() > out_.size() - size_)
        return Error::make(Code::text_too_long, "the answer is longer than %zu bytes", out_.size());
    std::copy(piece.begin(), piece.end(), out_.begin() + static_cast<std::ptrdiff_t>(size_));
    size_ += piece.size();
    if (on_text_.call != nullptr) on_text_.call(on_text_.self, piece);
    return {};
}

Result<Answer> StreamReader::end() const {
    // [DONE] alone is an end, too: some servers leave finish_reason out.
    if (finish_size_ == 0 && !done_)
        return Error::make(Code::device_io, "the stream ended in the middle of the answer");
    Answer a = answer_;
    a.text = {out_.data(), size_};
    a.model = {model_, model_size_};
    a.finish = {finish_, finish_size_};
    return a;
}

}  // namespace slmd::uplink
