// HTTP/1.1 as a client reads it (RFC 9112): a pure parser, without a socket, strict where laxity would let two readers
// see different answers.
#pragma once
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace slmd::uplink {

// Bytes go in as they come, in pieces of any size; pieces of the body come out. Nothing is kept of a body. Refused are:
// lines without CR LF, folded lines, blanks before a colon, control characters, more than one Content-Length, one
// beside Transfer-Encoding, any coding other than chunked, any content coding, 101, and what follows the end of an
// answer.
//
//     for (std::string_view in(buffer, n); !in.empty();) use(TRY(parser.next(in)));
//     at the end of the connection: TRY(parser.end());
class ResponseParser {
  public:
    enum class Of : std::uint8_t { request, connect };  // after 2xx to CONNECT there is no body (RFC 9110, 9.3.6)

    static constexpr std::size_t max_line = 4096, max_head = 16384;  // bytes; trailers and 1xx count as head
    static constexpr std::uint64_t max_body = 16u << 20;             // bytes that any answer may have

    explicit ResponseParser(Of of = Of::request) : of_(of) {}

    // Takes from in until the head is read or in is empty. Errors: incorrect_parameters, text_too_long, not_supported.
    Result<void> head(std::string_view& in);
    // The next piece of the body, taken from in, which it points into; "" when more is needed or the answer is whole.
    // Bytes that are left in in after the answer was whole are an error.
    Result<std::string_view> next(std::string_view& in);
    // The connection ended. Error device_io: before the answer did.
    Result<void> end();

    bool head_done() const { return state_ >= State::body; }
    bool done() const { return state_ == State::done; }
    int status() const { return status_; }
    std::string_view content_type() const { return {type_, type_size_}; }   // lower case, without parameters; or ""
    std::string_view retry_after() const { return {retry_, retry_size_}; }  // as it was written
    std::string_view date() const { return {date_, date_size_}; }

  private:
    enum class State : std::uint8_t { status, fields, body, chunk_size, chunk, chunk_end, trailers, done };
    enum class Body : std::uint8_t { none, length, chunked, until_end };

    Result<bool> line(std::string_view& in);
    Result<void> status_line();
    Result<void> field();
    Result<void> fields_end();
    Result<void> chunk_size();

    Of of_;
    State state_ = State::status;
    Body body_ = Body::until_end;
    bool informational_ = false, has_length_ = false, chunked_ = false, cr_ = false;
    int status_ = 0;
    std::size_t line_size_ = 0, head_size_ = 0;
    std::uint64_t left_ = 0, body_size_ = 0;
    std::size_t type_size_ = 0, retry_size_ = 0, date_size_ = 0;
    char type_[64], retry_[40], date_[40], line_[max_line];
};

}  // namespace slmd::uplink
