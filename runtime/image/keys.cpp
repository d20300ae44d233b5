#include "image/keys.h"

#include <fcntl.h>
#include <psa/crypto.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstdarg>
#include <cstring>

#include "base/bytes.h"
#include "base/sha256.h"

namespace slmd::image {
namespace {

[[gnu::format(printf, 2, 3)]] Error wrong(const char* path, const char* format, ...) {
    char what[160];
    va_list args;
    va_start(args, format);
    std::vsnprintf(what, sizeof what, format, args);
    va_end(args);
    return Error::make(Code::incorrect_parameters, "%s: %s", path, what);
}

bool is_space(char c) { return c == '\n' || c == '\r' || c == ' ' || c == '\t'; }

int digit_of(char c) {
    if (c >= 'A' && c <= 'Z') return c - 'A';
    if (c >= 'a' && c <= 'z') return c - 'a' + 26;
    if (c >= '0' && c <= '9') return c - '0' + 52;
    return c == '+' ? 62 : c == '/' ? 63 : -1;
}

// The base64 text of a PEM body, line ends between its characters. False: not base64. size grows beyond the room when
// the body does not fit.
bool decode_base64(std::string_view body, Pem& out) {
    std::uint32_t bits = 0, count = 0, pads = 0;
    out.size = 0;
    for (const char c : body) {
        if (c == '\n' || c == '\r') continue;
        if (c == '=') {
            pads++;
            continue;
        }
        const int digit = digit_of(c);
        if (digit < 0 || pads != 0) return false;
        bits = bits << 6 | static_cast<std::uint32_t>(digit);
        if (++count % 4 == 0) {
            for (const int shift : {16, 8, 0}) {
                if (out.size < sizeof out.der) out.der[out.size] = static_cast<std::uint8_t>(bits >> shift);
                out.size++;
            }
            bits = 0;
        }
    }
    const std::uint32_t rest = count % 4;
    if (rest == 1 || pads != (4 - rest) % 4) return false;
    if (rest == 0) return true;
    // One text for one key: bits that no byte takes are zero.
    if ((bits & (rest == 2 ? 0xfu : 3u)) != 0) return false;
    bits <<= 6 * (4 - rest);
    for (std::uint32_t i = 0; i + 1 < rest; i++) {
        if (out.size < sizeof out.der) out.der[out.size] = static_cast<std::uint8_t>(bits >> (16 - 8 * i));
        out.size++;
    }
    return true;
}

}  // namespace

KeyName name_of(const KeyId& id) {
    KeyName name;
    write_hex(id.bytes, name.hex);
    return name;
}

Result<PublicKey> public_key(const std::array<std::uint8_t, 65>& point) {
    PublicKey key{point, {}};
    const Sha256 digest = TRY(sha256(std::as_bytes(std::span(point))));
    std::memcpy(key.id.bytes.data(), digest.data(), key.id.bytes.size());
    return key;
}

Result<Pem> parse_pem(const char* path, std::string_view text) {
    constexpr std::string_view begin = "-----BEGIN ", dashes = "-----";
    while (!text.empty() && is_space(text.front())) text.remove_prefix(1);
    if (!text.starts_with(begin)) return wrong(path, "not a key in PEM (\"-----BEGIN ...\")");
    text.remove_prefix(begin.size());
    const std::size_t label_end = text.find(dashes);
    Pem pem{};
    if (label_end >= sizeof pem.label)  // npos, too
        return wrong(path, "not a key in PEM: its first line does not end");
    const std::string_view label = text.substr(0, label_end);
    std::memcpy(pem.label, label.data(), label.size());
    for (const char c : label)  // it stands in errors
        if ((c < 'A' || c > 'Z') && (c < '0' || c > '9') && c != ' ')
            return wrong(path, "not a key in PEM: a strange first line");
    if (label == "ENCRYPTED PRIVATE KEY")
        return wrong(path, "the key is encrypted; decrypt it first: openssl pkey -in KEY -out PLAIN");
    if (label == "EC PARAMETERS")
        return wrong(path, "begins with EC PARAMETERS, not with a key; openssl ecparam -noout leaves them out");
    text.remove_prefix(label_end + dashes.size());
    if (!text.starts_with("\n") && !text.starts_with("\r\n"))
        return wrong(path, "not a key in PEM: its first line does not end");
    char end[sizeof pem.label + 20];
    std::snprintf(end, sizeof end, "-----END %s-----", pem.label);
    const std::size_t body_end = text.find(end);
    if (body_end == std::string_view::npos) return wrong(path, "the key is cut off: no line \"%s\"", end);
    const std::string_view body = text.substr(0, body_end);
    if (body.find("ENCRYPTED") != std::string_view::npos)  // a line "Proc-Type: 4,ENCRYPTED", RFC 1421
        return wrong(path, "the key is encrypted; decrypt it first: openssl ec -in KEY -out PLAIN");
    text.remove_prefix(body_end + std::strlen(end));
    for (const char c : text)
        if (!is_space(c)) return wrong(path, "something follows the key; one key a file");
    if (!decode_base64(body, pem)) return wrong(path, "the key is damaged: not base64");
    if (pem.size > sizeof pem.der)
        return wrong(path, "not a key on the curve P-256: too large; slmpack keygen makes one");
    return pem;
}

Result<PublicKey> parse_public_key(const char* path, std::string_view text) {
    const Pem pem = TRY(parse_pem(path, text));
    if (std::strstr(pem.label, "PRIVATE KEY") != nullptr)
        return wrong(path,
                     "a private key, which stays where images are signed; the public one (KEY.pub) is needed here");
    if (std::strcmp(pem.label, "PUBLIC KEY") != 0) return wrong(path, "\"%s\" instead of \"PUBLIC KEY\"", pem.label);
    std::array<std::uint8_t, 65> point;
    if (pem.size < sizeof public_key_prefix || std::memcmp(pem.der, public_key_prefix, sizeof public_key_prefix) != 0 ||
        pem.size != sizeof public_key_prefix + point.size())
        return wrong(path, "not a public key on the curve P-256; slmpack keygen makes one");
    std::memcpy(point.data(), pem.der + sizeof public_key_prefix, point.size());

    psa_status_t status = psa_crypto_init();
    if (status != PSA_SUCCESS)
        return Error::make(Code::unknown, "no cryptography here (PSA status %d)", static_cast<int>(status));
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_PUBLIC_KEY(PSA_ECC_FAMILY_SECP_R1));
    psa_key_id_t id = 0;
    status = psa_import_key(&attributes, point.data(), point.size(), &id);
    if (status != PSA_SUCCESS) return wrong(path, "the key is damaged: no point of the curve P-256");
    psa_destroy_key(id);
    return public_key(point);
}

Result<KeyText> read_key_text(const char* path) {
    // Without waiting: a pipe of that name would hold up the start.
    const int fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    KeyText text;
    text.size = 0;
    struct stat st;
    const bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    ssize_t n = 1;
    while (regular && n > 0 && text.size < sizeof text.bytes) {
        n = read(fd, text.bytes + text.size, sizeof text.bytes - text.size);
        if (n < 0 && errno == EINTR)
            n = 1;
        else if (n > 0)
            text.size += static_cast<std::size_t>(n);
    }
    const int reason = errno;
    close(fd);
    if (!regular) return Error::make(Code::storage_failure, "%s: not a regular file", path);
    if (n < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(reason));
    if (text.size == sizeof text.bytes) return wrong(path, "too large for a key");
    return text;
}

Result<PublicKey> read_public_key(const char* path) {
    const KeyText text = TRY(read_key_text(path));
    return parse_public_key(path, text.view());
}

}  // namespace slmd::image
