#include "uplink/http.h"

#include <algorithm>
#include <cstring>

#include "base/ascii.h"

namespace slmd::uplink {
namespace {

Error odd(const char* what) { return Error::make(Code::incorrect_parameters, "not the HTTP that is taken: %s", what); }

// RFC 9110, 5.6.2.
bool is_token(std::string_view text) {
    return !text.empty() && std::all_of(text.begin(), text.end(), [](char c) {
        return is_alnum(c) || std::string_view("!#$%&'*+-.^_`|~").find(c) != std::string_view::npos;
    });
}

std::string_view trimmed(std::string_view text) {
    while (!text.empty() && (text.front() == ' ' || text.front() == '\t')) text.remove_prefix(1);
    while (!text.empty() && (text.back() == ' ' || text.back() == '\t')) text.remove_suffix(1);
    return text;
}

template <std::size_t N>
std::size_t keep(std::string_view text, char (&out)[N]) {
    if (text.size() > N) return 0;
    std::memcpy(out, text.data(), text.size());
    return text.size();
}

}  // namespace

// Whether a line is whole; it then is in line_, without its end.
Result<bool> ResponseParser::line(std::string_view& in) {
    while (!in.empty()) {
        const char c = in.front();
        in.remove_prefix(1);
        // Sizes of chunks are no part of the head: there may be many.
        const bool of_head = state_ == State::status || state_ == State::fields || state_ == State::trailers;
        if (of_head && ++head_size_ > max_head)
            return Error::make(Code::text_too_long, "the head of the answer is longer than %zu bytes", max_head);
        if (cr_) {
            if (c != '\n') return odd("CR without LF");
            cr_ = false;
            return true;
        }
        if (c == '\r') {
            cr_ = true;
            continue;
        }
        if ((static_cast<unsigned char>(c) < 0x20 && c != '\t') || c == 0x7F) return odd("a control character");
        if (line_size_ == max_line)
            return Error::make(Code::text_too_long, "a line of the answer's head is longer than %zu bytes", max_line);
        line_[line_size_++] = c;
    }
    return false;
}

Result<void> ResponseParser::status_line() {
    const std::string_view text(line_, line_size_);
    if (!text.starts_with("HTTP/1.1 ") && !text.starts_with("HTTP/1.0 ")) return odd("no status line of HTTP/1");
    if (text.size() < 12 || !std::all_of(text.begin() + 9, text.begin() + 12, is_digit) ||
        (text.size() > 12 && text[12] != ' '))
        return odd("no status of three digits");
    status_ = (text[9] - '0') * 100 + (text[10] - '0') * 10 + (text[11] - '0');
    if (status_ < 100 || status_ > 599) return odd("a status that there is not");
    if (status_ == 101) return Error::make(Code::not_supported, "the server wants to speak another protocol (101)");
    informational_ = status_ < 200;
    state_ = State::fields;
    return {};
}

Result<void> ResponseParser::field() {
    const std::string_view text(line_, line_size_);
    const std::size_t colon = text.find(':');
    if (colon == std::string_view::npos || !is_token(text.substr(0, colon)))
        return odd("a line of the head is not NAME: VALUE");
    if (state_ == State::trailers || informational_) return {};
    const std::string_view name = text.substr(0, colon), value = trimmed(text.substr(colon + 1));
    if (same_letters(name, "content-length")) {
        if (has_length_) return odd("two Content-Length");
        if (value.empty() || value.size() > 15 || !std::all_of(value.begin(), value.end(), is_digit))
            return odd("Content-Length is not a number");
        for (const char c : value) left_ = left_ * 10 + static_cast<std::uint64_t>(c - '0');
        has_length_ = true;
    } else if (same_letters(name, "transfer-encoding")) {
        if (chunked_) return odd("two Transfer-Encoding");
        if (!same_letters(value, "chunked"))
            return Error::make(Code::not_supported, "the answer comes in a transfer coding other than chunked");
        chunked_ = true;
    } else if (same_letters(name, "content-encoding")) {
        if (!value.empty() && !same_letters(value, "identity"))
            return Error::make(Code::not_supported,
                               "the answer is compressed, which the request did not ask for; let the server or its "
                               "proxy send it plain");
    } else if (same_letters(name, "content-type")) {
        const std::string_view type = trimmed(value.substr(0, value.find(';')));
        type_size_ = keep(type, type_);
        std::transform(type_, type_ + type_size_, type_, lower);
    } else if (same_letters(name, "retry-after")) {
        retry_size_ = keep(value, retry_);
    } else if (same_letters(name, "date")) {
        date_size_ = keep(value, date_);
    }
    return {};
}

Result<void> ResponseParser::fields_end() {
    if (informational_) {  // what follows is the answer, or another of these
        state_ = State::status;
        return {};
    }
    if (of_ == Of::connect && status_ / 100 == 2) {
        state_ = State::done;
        return {};
    }
    if (chunked_ && has_length_) return odd("both Content-Length and Transfer-Encoding");
    if (status_ == 204 || status_ == 304) {
        state_ = State::done;
    } else if (chunked_) {
        body_ = Body::chunked;
        state_ = State::chunk_size;
    } else if (has_length_) {
        if (left_ > max_body)
            return Error::make(Code::text_too_long, "an answer of %llu bytes is too long; %llu at most",
                               static_cast<unsigned long long>(left_), static_cast<unsigned long long>(max_body));
        body_ = Body::length;
        state_ = left_ == 0 ? State::done : State::body;
    } else {
        state_ = State::body;
    }
    return {};
}

Result<void> ResponseParser::chunk_size() {
    std::string_view text(line_, line_size_);
    text = trimmed(text.substr(0, text.find(';')));
    if (text.empty() || text.size() > 8) return odd("a chunk without its size");
    left_ = 0;
    for (const char c : text) {
        const int d = is_digit(c) ? c - '0' : lower(c) >= 'a' && lower(c) <= 'f' ? lower(c) - 'a' + 10 : -1;
        if (d < 0) return odd("the size of a chunk is not hexadecimal");
        left_ = left_ << 4 | static_cast<std::uint64_t>(d);
    }
    state_ = left_ == 0 ? State::trailers : State::chunk;
    return {};
}

Result<void> ResponseParser::head(std::string_view& in) {
    while (!head_done() && TRY(line(in))) {
        if (state_ == State::status)
            TRY(status_line());
        else if (line_size_ == 0)
            TRY(fields_end());
        else
            TRY(field());
        line_size_ = 0;
    }
    return {};
}

Result<std::string_view> ResponseParser::next(std::string_view& in) {
    TRY(head(in));
    while (!in.empty()) switch (state_) {
            case State::status:
            case State::fields: return std::string_view{};
            case State::chunk_size:
                if (!TRY(line(in))) return std::string_view{};
                TRY(chunk_size());
                line_size_ = 0;
                break;
            case State::chunk_end:
                if (!TRY(line(in))) return std::string_view{};
                if (line_size_ != 0) return odd("a chunk is longer than its size");
                state_ = State::chunk_size;
                break;
            case State::trailers:
                if (!TRY(line(in))) return std::string_view{};
                if (line_size_ == 0)
                    state_ = State::done;
                else
                    TRY(field());
                line_size_ = 0;
                break;
            case State::body:
            case State::chunk: {
                std::string_view piece = in;
                if (body_ != Body::until_end)
                    piece = piece.substr(0, static_cast<std::size_t>(std::min<std::uint64_t>(left_, in.size())));
                in.remove_prefix(piece.size());
                body_size_ += piece.size();
                if (body_size_ > max_body)
                    return Error::make(Code::text_too_long, "an answer of more than %llu bytes",
                                       static_cast<unsigned long long>(max_body));
                if (body_ != Body::until_end && (left_ -= piece.size()) == 0)
                    state_ = body_ == Body::chunked ? State::chunk_end : State::done;
                return piece;
            }
            case State::done: return odd("something follows the answer");
        }
    return std::string_view{};
}

Result<void> ResponseParser::end() {
    if (state_ == State::body && body_ == Body::until_end) state_ = State::done;
    if (state_ == State::done) return {};
    return Error::make(Code::device_io, "the connection ended %s",
                       head_done() ? "in the middle of the answer" : "before the answer");
}

}  // namespace slmd::uplink
