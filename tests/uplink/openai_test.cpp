// Requests, answers and streams of chat/completions.
#include "uplink/openai.h"

#include <gtest/gtest.h>

#include <nlohmann/json.hpp>
#include <string>
#include <vector>

namespace slmd::uplink {
namespace {

using nlohmann::json;

Upstream upstream() {
    Upstream u;
    std::strcpy(u.name, "one");
    std::strcpy(u.host, "api.example.com");
    std::strcpy(u.path, "/v1");
    std::strcpy(u.model, "large \"1\"");
    return u;
}

struct Rooms {
    std::vector<char> text = std::vector<char>(65536), out = std::vector<char>(65536);
    std::vector<JsonNode> nodes = std::vector<JsonNode>(512);
    Scratch scratch() { return {text, nodes}; }
};

std::string request(const Upstream& u, const Ask& ask, const char* key = "KEY") {
    Rooms r;
    const auto w = write_request(u, ask, key, r.scratch(), r.out);
    return w ? std::string(w.value()) : std::string("error: ") + w.error().text;
}

TEST(Request, to_the_byte) {
    Ask ask;
    ask.messages = R"([{"role":"user","content":"caf\u00e9 é"}])";
    ask.max_tokens = 7;
    ask.key = "k-1";
    const std::string body =
        R"({"model":"large \"1\"","messages":[{"role":"user","content":"caf\u00e9 é"}],"max_tokens":7,"temperature":0})";
    const std::string head =
        "POST /v1/chat/completions HTTP/1.1\r\nHost: api.example.com\r\nUser-Agent: slm-uplink/" SLMD_VERSION
        "\r\nAuthorization: Bearer KEY\r\nContent-Type: application/json\r\nAccept: "
        "application/json\r\nAccept-Encoding: identity\r\nContent-Length: " +
        std::to_string(body.size()) + "\r\nConnection: close\r\n\r\n";
    EXPECT_EQ(request(upstream(), ask), head + body);
    // The preview differs in the key alone.
    std::string preview = request(upstream(), ask, "****");
    preview.replace(preview.find("****"), 4, "KEY");
    EXPECT_EQ(preview, head + body);
    EXPECT_EQ(request(upstream(), ask, "").find("Authorization"), std::string::npos);
}

TEST(Request, what_an_upstream_takes) {
    Ask ask;
    ask.messages = "[]";
    ask.schema = R"({"type":"object"})";
    ask.seed = 18446744073709551615u;
    ask.temperature = 0.7f;
    ask.key = "k-1";
    ask.stream = true;
    Upstream u = upstream();
    const auto body = [&] {
        const std::string r = request(u, ask);
        return json::parse(r.substr(r.find("\r\n\r\n") + 4));
    };
    json b = body();
    EXPECT_EQ(b["response_format"]["json_schema"]["schema"], json::parse(ask.schema));
    EXPECT_EQ(b["seed"], 18446744073709551615u);
    EXPECT_EQ(b["temperature"], 0.7);
    EXPECT_EQ(b["stream_options"]["include_usage"], true);
    EXPECT_EQ(b["max_tokens"], 256);
    u.completion_tokens = true;
    ask.temperature = -1;
    b = body();
    EXPECT_EQ(b["max_completion_tokens"], 256);
    EXPECT_FALSE(b.contains("max_tokens") || b.contains("temperature"));
    u.structured = Structured::json_object;
    EXPECT_EQ(body()["response_format"], json({{"type", "json_object"}}));
    u.structured = Structured::none;
    EXPECT_FALSE(body().contains("response_format"));
    // The idempotency key goes only where it is honoured: elsewhere it would promise what nobody keeps.
    EXPECT_EQ(request(u, ask).find("Idempotency-Key"), std::string::npos);
    u.idempotency = true;
    EXPECT_NE(request(u, ask).find("\r\nIdempotency-Key: k-1\r\n"), std::string::npos);
    u.tls = false, u.port = 8080;
    std::strcpy(u.host, "fd00::1");
    EXPECT_NE(request(u, ask).find("\r\nHost: [fd00::1]:8080\r\n"), std::string::npos);
}

// OpenAI refuses "strict" with a schema that leaves anything open.
TEST(Request, strictness_is_asked_for_where_it_is_taken) {
    const std::string closed = R"("required":["a","b"],"additionalProperties":false)", a = R"("a":{"type":"string"})";
    const auto object = [](const std::string& properties, const std::string& more) {
        return R"({"type":"object","properties":{)" + properties + "}," + more + "}";
    };
    const std::string inner = object(a, R"("required":["a"],"additionalProperties":false)");
    const std::pair<std::string, bool> cases[] = {
        {object(a + R"(,"b":{"type":"integer"})", closed), true},
        {object(a + ",\"b\":" + inner, closed), true},
        {object(a + ",\"b\":" + object(a, R"("required":["a"])"), closed), false},
        {object(a + ",\"b\":" + object(a, R"("required":[],"additionalProperties":false)"), closed), false},
        {object(a + R"(,"b":{"type":"object"})", closed), false},
        {object(a + R"(,"b":{},"c":{})", closed), false},
        {object(a + R"(,"b":{})", R"("required":["a","b"],"additionalProperties":true)"), false},
        {R"({"type":"object"})", false},
        {R"({"enum":["x"]})", false},
        {R"({"type":"array","items":)" + inner + "}", false}};
    for (const auto& [schema, strict] : cases) {
        Ask ask;
        ask.messages = "[]", ask.schema = schema;
        const std::string r = request(upstream(), ask);
        const json b = json::parse(r.substr(r.find("\r\n\r\n") + 4))["response_format"]["json_schema"];
        EXPECT_EQ(b["schema"], json::parse(schema));
        EXPECT_EQ(b.contains("strict"), strict) << schema;
    }
}

TEST(Request, nothing_can_be_slipped_in) {
    for (const char* messages :
         {R"([],"model":"other","messages":[])", R"({"role":"user"})", "", "[", "[{\"a\":\"\xFF\"}]", "[] []"}) {
        Ask ask;
        ask.messages = messages;
        EXPECT_EQ(request(upstream(), ask).find("error: "), 0u) << messages;
    }
    Ask ask;
    ask.messages = "[]";
    ask.schema = R"({}},"x":{"y":{})";
    EXPECT_EQ(request(upstream(), ask).find("error: schema"), 0u);
    ask.schema = {};
    ask.key = "a\r\nX-Evil: 1";
    EXPECT_EQ(request(upstream(), ask).find("error: "), 0u);
    const std::string big = "[\"" + std::string(70000, 'a') + "\"]";
    ask.key = {}, ask.messages = big;
    EXPECT_EQ(request(upstream(), ask).find("error: messages: 70004 bytes"), 0u);
}

struct Said {
    bool fine = false;
    std::string text, model, finish, error;
    std::uint32_t in = 0, out = 0;
    bool usage = false;
    bool operator==(const Said&) const = default;
};

Said said(const Result<Answer>& a) {
    Said s;
    if (!a) {
        s.error = a.error().text;
        return s;
    }
    const Answer& v = a.value();
    return {true, std::string(v.text), std::string(v.model), std::string(v.finish),
            "",   v.prompt_tokens,     v.completion_tokens,  v.has_usage};
}

Said answer(std::string body) {
    Rooms r;
    return said(read_answer(body, r.nodes));
}

TEST(Answer, is_read) {
    const Said s = answer(
        R"({"id":"1","object":"chat.completion","model":"m-1","choices":[{"index":0,"message":{"role":"assistant","content":"caf\u00e9\n"},"logprobs":{"content":[1,2]},"finish_reason":"stop"}],"usage":{"prompt_tokens":12,"completion_tokens":3,"total_tokens":15}})");
    EXPECT_TRUE(s.fine) << s.error;
    EXPECT_EQ(s.text, "café\n");
    EXPECT_EQ(s.model, "m-1");
    EXPECT_EQ(s.finish, "stop");
    EXPECT_TRUE(s.usage && s.in == 12 && s.out == 3);
    EXPECT_FALSE(
        answer(R"({"choices":[{"message":{"content":"x"}}],"usage":{"prompt_tokens":-1,"completion_tokens":3}})")
            .usage);
    EXPECT_FALSE(answer(R"({"choices":[{"message":{"content":"x"}}]})").usage);
}

TEST(Answer, what_is_none_is_refused) {
    const struct {
        const char *body, *why;
    } cases[] = {{"", "cannot be read"},
                 {"<html>", "cannot be read"},
                 {"{\"choices\":[{\"message\":{\"content\":\"\xC3\"}}]}", "UTF-8"},
                 {"{\"choices\":[{\"message\":{\"content\":\"\xED\xA0\x80\"}}]}", "UTF-8"},
                 {R"({"choices":[{"message":{"content":"x"}}]} {})", "cannot be read"},
                 {"[]", "no object"},
                 {"{}", "no choices"},
                 {R"({"choices":{}})", "no choices"},
                 {R"({"choices":[]})", "no choices"},
                 {R"({"choices":[{"index":0}]})", "no message"},
                 {R"({"choices":[{"message":{"content":null,"tool_calls":[]}}]})", "no text"},
                 {R"({"choices":[{"message":{"content":null,"refusal":"I cannot"}}]})", "refuses"},
                 {R"({"error":{"message":"over\nloaded","code":1}})", "over loaded"},
                 {R"({"error":"flat"})", "flat"},
                 {R"({"error":{}})", "says no more"}};
    for (const auto& c : cases) {
        const Said s = answer(c.body);
        EXPECT_FALSE(s.fine) << c.body;
        EXPECT_NE(s.error.find(c.why), std::string::npos) << c.body << ": " << s.error;
    }
    std::string deep = R"({"choices":)" + std::string(40, '[') + std::string(40, ']') + "}";
    EXPECT_NE(answer(deep).error.find("nested"), std::string::npos);
    std::string many = R"({"choices":[)";
    for (int i = 0; i < 600; i++) many += "1,";
    EXPECT_NE(answer(many + "1]}").error.find("too many"), std::string::npos);
}

TEST(Answer, an_errors_body_is_one_line) {
    Rooms r;
    const auto line = [&](std::string body) { return std::string(read_error(body, r.nodes)); };
    EXPECT_EQ(line(R"({"error":{"message":"no \u001b[31m such\r\nmodel"}})"), "no  [31m such  model");
    EXPECT_EQ(line(R"({"detail":"x\u009by"})"), "x  y");
    EXPECT_EQ(line(R"({"message":"m"})"), "m");
    EXPECT_EQ(line("not json"), "");
    EXPECT_EQ(line("[]"), "");
    std::string emoji;
    for (int i = 0; i < 60; i++) emoji += "€";
    EXPECT_EQ(line("{\"message\":\"" + emoji + "\"}").size(), 138u);  // whole characters
}

struct Streamed {
    Said said;
    std::vector<std::string> pieces;
    bool operator==(const Streamed&) const = default;
};

Streamed stream(std::string_view text, std::size_t piece, std::size_t event_room = 4096, std::size_t text_room = 4096) {
    std::vector<char> event(event_room), out(text_room);
    std::vector<JsonNode> nodes(128);
    Streamed s;
    const OnText on_text{[](void* self, std::string_view p) { static_cast<Streamed*>(self)->pieces.emplace_back(p); },
                         &s};
    StreamReader reader(event, nodes, out, on_text);
    for (std::size_t at = 0; at < text.size(); at += piece)
        if (const auto r = reader.feed(text.substr(at, piece)); !r) {
            s.said.error = r.error().text;
            return s;
        }
    s.said = said(reader.end());
    return s;
}

Streamed stream_all_ways(std::string_view text) {
    const Streamed whole = stream(text, text.size() + 1);
    for (std::size_t piece = 1; piece < std::min<std::size_t>(text.size(), 50); piece++)
        EXPECT_EQ(stream(text, piece), whole) << piece;
    return whole;
}

constexpr char events[] =
    "\xEF\xBB\xBF: hello\r\n\r\n"
    "data: "
    "{\"model\":\"m\",\"choices\":[{\"index\":0,\"delta\":{\"role\":\"assistant\",\"content\":\"\"},\"finish_reason\":"
    "null}]}\n\n"
    "event: message\rdata:{\"choices\":[{\"index\":0,\r"
    "data: \"delta\":{\"content\":\"caf\\u00e9\"}}]}\r\r"
    "data: {\"choices\":[{\"index\":1,\"delta\":{\"content\":\"other\"}}]}\r\n\r\n"
    "data: {\"choices\":[{\"index\":0,\"delta\":{\"content\":\" au "
    "lait\"},\"finish_reason\":\"stop\"}],\"usage\":null}\n\n"
    "data: {\"choices\":[],\"usage\":{\"prompt_tokens\":5,\"completion_tokens\":2}}\n\n"
    "data: [DONE]\n\n";

TEST(Stream, is_read_in_pieces_of_any_size) {
    const Streamed s = stream_all_ways(events);
    EXPECT_TRUE(s.said.fine) << s.said.error;
    EXPECT_EQ(s.said.text, "café au lait");
    EXPECT_EQ(s.pieces, (std::vector<std::string>{"café", " au lait"}));
    EXPECT_EQ(s.said.finish, "stop");
    EXPECT_EQ(s.said.model, "m");
    EXPECT_TRUE(s.said.usage && s.said.in == 5 && s.said.out == 2);
}

TEST(Stream, cut_off_is_no_answer) {
    const std::string whole = events;
    const std::size_t finished = whole.find("\"usage\":null}\n\n") + sizeof "\"usage\":null}\n\n" - 1;
    for (std::size_t n = 0; n < finished; n++) EXPECT_FALSE(stream(whole.substr(0, n), 7).said.fine) << n;
    EXPECT_TRUE(stream(whole.substr(0, finished), 7).said.fine);  // an end that is said, without the counts
}

TEST(Stream, what_is_none_is_refused) {
    EXPECT_NE(stream_all_ways("data: {\"error\":{\"message\":\"boom\"}}\n\n").said.error.find("boom"),
              std::string::npos);
    EXPECT_NE(stream_all_ways("data: {\n\n").said.error.find("cannot be read"), std::string::npos);
    EXPECT_NE(stream_all_ways("data: 1\n\n").said.error.find("no object"), std::string::npos);
    EXPECT_NE(stream_all_ways("data: {\"a\":\"\xFF\"}\n\n").said.error.find("UTF-8"), std::string::npos);
    EXPECT_NE(stream("data: " + std::string(5000, 'x'), 100).said.error.find("longer than 4096"), std::string::npos);
    std::string lines;  // an event of many short lines is one event
    for (int i = 0; i < 1000; i++) lines += "data: 12345\n";
    EXPECT_NE(stream(lines, 100).said.error.find("longer than 4096"), std::string::npos);
    EXPECT_NE(stream(events, 100, 4096, 8).said.error.find("answer is longer than 8"), std::string::npos);
}

}  // namespace
}  // namespace slmd::uplink
