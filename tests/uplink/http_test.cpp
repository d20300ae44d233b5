// Answers of HTTP: every way to cut them into pieces gives the same, and what two readers could read differently is
// refused.
#include "uplink/http.h"

#include <gtest/gtest.h>

#include <string>
#include <vector>

namespace slmd::uplink {
namespace {

struct Read {
    bool fine = false, done = false;
    int status = 0;
    std::string body, type, retry, error;
    bool operator==(const Read&) const = default;
};

Read read(std::string_view text, std::size_t piece, bool ends = true,
          ResponseParser::Of of = ResponseParser::Of::request) {
    ResponseParser parser(of);
    Read r;
    for (std::size_t at = 0; at < text.size(); at += piece)
        for (std::string_view in = text.substr(at, piece); !in.empty();) {
            const auto got = parser.next(in);
            if (!got) {
                r.error = got.error().text;
                return r;
            }
            r.body += got.value();
        }
    if (ends)
        if (const auto end = parser.end(); !end) {
            r.error = end.error().text;
            return r;
        }
    r.fine = true, r.done = parser.done(), r.status = parser.status();
    r.type = parser.content_type(), r.retry = parser.retry_after();
    return r;
}

// In pieces of every size; all must agree.
Read read_all_ways(std::string_view text, bool ends = true) {
    const Read whole = read(text, text.size() + 1, ends);
    for (std::size_t piece = 1; piece < std::min<std::size_t>(text.size(), 40); piece++)
        EXPECT_EQ(read(text, piece, ends), whole) << "pieces of " << piece << ": " << text;
    return whole;
}

TEST(Http, bodies_by_length_by_chunks_and_to_the_end) {
    const Read length = read_all_ways(
        "HTTP/1.1 200 OK\r\nContent-Type: Application/JSON; charset=utf-8\r\nContent-Length: 5\r\n\r\nhello", false);
    EXPECT_TRUE(length.fine && length.done);
    EXPECT_EQ(length.body, "hello");
    EXPECT_EQ(length.type, "application/json");
    const Read chunks = read_all_ways(
        "HTTP/1.1 200 OK\r\ntransfer-encoding: Chunked\r\n\r\n3\r\nhel\r\n0002;name=\"x\"\r\nlo\r\n0\r\nTrailer: "
        "1\r\n\r\n",
        false);
    EXPECT_TRUE(chunks.fine && chunks.done) << chunks.error;
    EXPECT_EQ(chunks.body, "hello");
    const Read end = read_all_ways("HTTP/1.0 200 OK\r\n\r\nhello");
    EXPECT_TRUE(end.fine && end.done);
    EXPECT_EQ(end.body, "hello");
    EXPECT_TRUE(read_all_ways("HTTP/1.1 204 None\r\n\r\n", false).done);
    EXPECT_TRUE(read_all_ways("HTTP/1.1 200\r\nContent-Length: 0\r\n\r\n", false).done);
}

TEST(Http, interim_answers_are_skipped_with_their_fields) {
    const Read r = read_all_ways(
        "HTTP/1.1 100 Continue\r\nContent-Length: 99\r\n\r\nHTTP/1.1 103 Early\r\n\r\n"
        "HTTP/1.1 503 Busy\r\nRetry-After: 7\r\nContent-Length: 1\r\n\r\nx",
        false);
    EXPECT_TRUE(r.done) << r.error;
    EXPECT_EQ(r.status, 503);
    EXPECT_EQ(r.body, "x");
    EXPECT_EQ(r.retry, "7");
}

TEST(Http, after_connect_there_is_no_body) {
    EXPECT_TRUE(read("HTTP/1.1 200 Connected\r\n\r\n", 99, false, ResponseParser::Of::connect).done);
    EXPECT_FALSE(read("HTTP/1.1 200 Connected\r\n\r\nx", 99, false, ResponseParser::Of::connect).fine);
    EXPECT_FALSE(read("HTTP/1.1 407 No\r\n\r\nwhy", 99, false, ResponseParser::Of::connect).done);
}

TEST(Http, what_could_be_read_in_two_ways_is_refused) {
    const struct {
        const char *text, *why;
    } cases[] = {
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 6\r\n\r\nhello", "two Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nContent-Length: 5\r\n\r\nhello", "two Content-Length"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n", "both"},
        {"HTTP/1.1 200 OK\r\nContent-Length: +5\r\n\r\nhello", "not a number"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5, 5\r\n\r\nhello", "not a number"},
        {"HTTP/1.1 200 OK\r\nContent-Length:\r\n\r\nhello", "not a number"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999999999999\r\n\r\n", "not a number"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 99999999999\r\n\r\n", "too long"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: gzip, chunked\r\n\r\n", "other than chunked"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\nTransfer-Encoding: chunked\r\n\r\n", "two Transfer"},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: gzip\r\nContent-Length: 1\r\n\r\nx", "compressed"},
        {"HTTP/1.1 200 OK\r\nContent-Encoding: zstd\r\nContent-Length: 1\r\n\r\nx", "compressed"},
        {"HTTP/1.1 200 OK\nContent-Length: 5\n\nhello", "control character"},
        {"HTTP/1.1 200 OK\rContent-Length: 5\r\n\r\nhello", "CR without LF"},
        {"HTTP/1.1 200 OK\r\nA: b\r\n c\r\n\r\n", "not NAME: VALUE"},
        {"HTTP/1.1 200 OK\r\nContent-Length : 5\r\n\r\nhello", "not NAME: VALUE"},
        {"HTTP/1.1 200 OK\r\n: 5\r\n\r\nhello", "not NAME: VALUE"},
        {"HTTP/1.1 101 Switch\r\n\r\n", "another protocol"},
        {"HTTP/2 200\r\n\r\n", "no status line"},
        {"HTTP/1.1 20 OK\r\n\r\n", "status"},
        {"HTTP/1.1 2000 OK\r\n\r\n", "status"},
        {"HTTP/1.1 999 OK\r\n\r\n", "status"},
        {"HTTP/1.1 200 OK\r\nContent-Length: 5\r\n\r\nhelloHTTP/1.1 200 OK\r\n", "follows"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nx\r\n", "not hexadecimal"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n\r\n", "without its size"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n-1\r\n", "not hexadecimal"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n100000000\r\n", "without its size"},
        {"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n3\r\nhello\r\n", "longer than its size"},
        {"SSH-2.0-OpenSSH\r\n", "no status line"},
    };
    for (const auto& c : cases) {
        const Read r = read_all_ways(c.text, false);
        EXPECT_FALSE(r.fine) << c.text;
        EXPECT_NE(r.error.find(c.why), std::string::npos) << c.text << "\n" << r.error;
    }
}

TEST(Http, an_end_in_the_middle_is_told_from_an_end) {
    for (const char* text :
         {"", "HTTP/1.1 200 OK\r\n", "HTTP/1.1 200 OK\r\nContent-Length: 6\r\n\r\nhello",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n",
          "HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n", "HTTP/1.1 100 Continue\r\n\r\n"})
        EXPECT_NE(read_all_ways(text).error.find("the connection ended"), std::string::npos) << text;
}

TEST(Http, heads_lines_and_bodies_have_limits) {
    const std::string status = "HTTP/1.1 200 OK\r\n", length = status + "A: " + std::string(4094, 'a');
    EXPECT_NE(read(length + "\r\n\r\n", 999, false).error.find("a line"), std::string::npos);
    std::string head = status;
    while (head.size() < ResponseParser::max_head) head += "A: " + std::string(100, 'a') + "\r\n";
    EXPECT_NE(read(head + "\r\n", 999, false).error.find("the head"), std::string::npos);
    std::string interim;
    while (interim.size() <= ResponseParser::max_head) interim += "HTTP/1.1 100 Continue\r\n\r\n";
    EXPECT_NE(read(interim, 999, false).error.find("the head"), std::string::npos);
    std::string trailers = status + "Transfer-Encoding: chunked\r\n\r\n0\r\n";
    while (trailers.size() <= ResponseParser::max_head) trailers += "A: " + std::string(100, 'a') + "\r\n";
    EXPECT_NE(read(trailers + "A: b\r\n\r\n", 999, false).error.find("the head"), std::string::npos);
    // Chunks are not part of the head: any number of them comes.
    std::string many = status + "Transfer-Encoding: chunked\r\n\r\n";
    for (int i = 0; i < 20000; i++) many += "1\r\nx\r\n";
    EXPECT_EQ(read(many + "0\r\n\r\n", 4096, false).body.size(), 20000u);
    const std::string endless(ResponseParser::max_body + 1, 'x');
    EXPECT_NE(read(status + "\r\n" + endless, 1 << 16, false).error.find("more than"), std::string::npos);
}

}  // namespace
}  // namespace slmd::uplink
