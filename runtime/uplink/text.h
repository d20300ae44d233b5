// Small texts of the net: URLs, base64, dates.
#pragma once
#include <cstdint>
#include <cstring>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::uplink {

struct Url {
    bool tls = false, port_given = false;
    std::string_view host;  // a name or an address, without brackets
    std::uint16_t port = 0;
    std::string_view path;  // without a slash at its end; "": none
};

// "https://host[:port][/path]" or http://, of RFC 3986 what an API's base needs: no user, query or fragment; the host
// in ASCII. Errors: incorrect_parameters.
Result<Url> split_url(std::string_view text);

// 32 bytes of base64 (RFC 4648, section 4), with its padding: whether it is that.
bool base64_32(std::string_view text, std::uint8_t (&out)[32]);
// 44 characters and the 0 behind them.
void write_base64_32(const std::uint8_t (&bytes)[32], char (&out)[45]);

// An IPv4 or IPv6 address: its 4 or 16 bytes, or 0 for what is none.
int address_bytes(const char* text, std::uint8_t (&out)[16]);

// The three forms of RFC 9110, 5.6.7, as seconds since 1970; -1 for anything else.
std::int64_t http_date(std::string_view text);

// text fits, and the 0 behind it.
template <std::size_t N>
void copy(std::string_view text, char (&out)[N]) {
    const std::size_t n = text.size() < N ? text.size() : N - 1;
    std::memcpy(out, text.data(), n);
    out[n] = 0;
}

// Appends to a buffer of fixed size; what does not fit is remembered as an overflow.
class Writer {
  public:
    explicit Writer(std::span<char> out) : out_(out) {}
    Writer& operator<<(std::string_view text) {
        if (text.size() > out_.size() - size_) {
            overflow_ = true;
        } else if (!text.empty()) {
            std::memcpy(out_.data() + size_, text.data(), text.size());
            size_ += text.size();
        }
        return *this;
    }
    [[gnu::format(printf, 2, 3)]] void print(const char* format, ...);
    void json_string(std::string_view text);  // in quotes, escaped
    bool overflow() const { return overflow_; }
    std::string_view text() const { return {out_.data(), size_}; }

  private:
    std::span<char> out_;
    std::size_t size_ = 0;
    bool overflow_ = false;
};

}  // namespace slmd::uplink
