#include "uplink/text.h"

#include <arpa/inet.h>
#include <time.h>

#include <algorithm>
#include <cstdarg>

#include "base/ascii.h"
#include "base/json.h"

namespace slmd::uplink {

Result<Url> split_url(std::string_view text) {
    const auto wrong = [](const char* why) {
        return Error::make(Code::incorrect_parameters, "%s; a url is https://HOST[:PORT]/PATH", why);
    };
    Url url;
    if (text.starts_with("https://"))
        url.tls = true, url.port = 443, text.remove_prefix(8);
    else if (text.starts_with("http://"))
        url.port = 80, text.remove_prefix(7);
    else
        return wrong("neither https:// nor http://");
    const std::size_t slash = std::min(text.find('/'), text.size());
    std::string_view authority = text.substr(0, slash);
    url.path = text.substr(slash);
    while (url.path.ends_with('/')) url.path.remove_suffix(1);
    if (authority.find('@') != std::string_view::npos)
        return wrong("a user or a password in the url; a key comes from key or key_file");
    if (authority.starts_with('[')) {
        const std::size_t end = authority.find(']');
        if (end == std::string_view::npos) return wrong("] is missing");
        url.host = authority.substr(1, end - 1);
        authority.remove_prefix(end + 1);
    } else {
        url.host = authority.substr(0, authority.find(':'));
        authority.remove_prefix(url.host.size());
    }
    const bool v6 = url.host.find(':') != std::string_view::npos;
    const auto host_letter = [v6](char c) { return is_alnum(c) || c == '.' || (v6 ? c == ':' : c == '-' || c == '_'); };
    if (url.host.empty() || url.host.size() > 253 || !std::all_of(url.host.begin(), url.host.end(), host_letter))
        return wrong("no host, or one with letters that a host cannot have (write an IDN as xn--...)");
    if (!authority.empty()) {
        authority.remove_prefix(1);
        unsigned port = 0;
        if (authority.empty() || authority.size() > 5 || !std::all_of(authority.begin(), authority.end(), is_digit))
            return wrong("the port is not a number");
        for (const char c : authority) port = port * 10 + static_cast<unsigned>(c - '0');
        if (port == 0 || port > 65535) return wrong("a port is 1 to 65535");
        url.port = static_cast<std::uint16_t>(port), url.port_given = true;
    }
    const auto path_letter = [](char c) {
        return is_alnum(c) || std::string_view("/-._~%!$&'()*+,;=:@").find(c) != std::string_view::npos;
    };
    if (!std::all_of(url.path.begin(), url.path.end(), path_letter))
        return wrong("a path without query, fragment and blanks");
    return url;
}

namespace {
constexpr std::string_view base64_letters = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789+/";
}

bool base64_32(std::string_view text, std::uint8_t (&out)[32]) {
    if (text.size() != 44 || text[43] != '=') return false;
    std::uint32_t bits = 0;
    int have = 0, n = 0;
    for (const char c : text.substr(0, 43)) {
        const std::size_t v = base64_letters.find(c);
        if (v == std::string_view::npos) return false;
        bits = bits << 6 | static_cast<std::uint32_t>(v);
        if ((have += 6) >= 8) out[n++] = static_cast<std::uint8_t>(bits >> (have -= 8));
    }
    return (bits & 3) == 0;  // the bits that are left over are 0 in what an encoder writes
}

void write_base64_32(const std::uint8_t (&bytes)[32], char (&out)[45]) {
    std::uint32_t bits = 0;
    int have = 0, n = 0;
    for (const std::uint8_t b : bytes) {
        bits = bits << 8 | b;
        for (have += 8; have >= 6; have -= 6) out[n++] = base64_letters[bits >> (have - 6) & 63];
    }
    out[n++] = base64_letters[bits << (6 - have) & 63];
    out[n++] = '=';
    out[n] = 0;
}

int address_bytes(const char* text, std::uint8_t (&out)[16]) {
    if (inet_pton(AF_INET, text, out) == 1) return 4;
    return inet_pton(AF_INET6, text, out) == 1 ? 16 : 0;
}

std::int64_t http_date(std::string_view text) {
    char copy_of[40];
    if (text.size() >= sizeof copy_of) return -1;
    copy(text, copy_of);
    for (const char* form : {"%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"}) {
        tm t{};
        const char* const end = strptime(copy_of, form, &t);
        if (end != nullptr && *end == 0) return timegm(&t);
    }
    return -1;
}

void Writer::print(const char* format, ...) {
    char line[256];
    va_list args;
    va_start(args, format);
    const int n = std::vsnprintf(line, sizeof line, format, args);
    va_end(args);
    if (n < 0 || static_cast<std::size_t>(n) >= sizeof line)
        overflow_ = true;
    else
        *this << std::string_view(line, static_cast<std::size_t>(n));
}

void Writer::json_string(std::string_view text) {
    char six[6];
    *this << "\"";
    for (const char& c : text) *this << json_written(c, six);
    *this << "\"";
}

}  // namespace slmd::uplink
