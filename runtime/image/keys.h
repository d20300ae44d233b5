// The keys that sign images: ECDSA on the curve P-256 (secp256r1, prime256v1), in the PEM files of OpenSSL.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <string_view>

#include "base/result.h"

namespace slmd::image {

// What names a key: the first bytes of SHA-256 over its public point.
struct KeyId {
    std::array<std::uint8_t, 8> bytes;
    bool operator==(const KeyId&) const = default;
};
// In hex, for people.
struct KeyName {
    char hex[17];
};
KeyName name_of(const KeyId& id);

struct PublicKey {
    std::array<std::uint8_t, 65> point;  // 4, x, y
    KeyId id;
};

// Of a point. Errors: unknown.
Result<PublicKey> public_key(const std::array<std::uint8_t, 65>& point);

// "PUBLIC KEY" (SubjectPublicKeyInfo, RFC 5480), as `openssl ec -pubout` and `slmpack keygen` write it. `path` is for
// the errors, which begin with it. Errors: incorrect_parameters: not PEM, a private key, another algorithm or curve,
// not a point of the curve, something behind the key.
Result<PublicKey> parse_public_key(const char* path, std::string_view text);
// Errors: those, and storage_failure.
Result<PublicKey> read_public_key(const char* path);

// ---- for whoever reads or writes other kinds of keys

// SubjectPublicKeyInfo { { id-ecPublicKey, prime256v1 }, BIT STRING } up to the point: in DER every P-256 key begins
// so.
constexpr std::uint8_t public_key_prefix[26] = {0x30, 0x59, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86, 0x48,
                                                0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48,
                                                0xce, 0x3d, 0x03, 0x01, 0x07, 0x03, 0x42, 0x00};

struct KeyText {
    static constexpr std::size_t most = 8192;  // bytes; no P-256 key has that many
    char bytes[most];
    std::size_t size;
    std::string_view view() const { return {bytes, size}; }
};
// A regular file. Errors: storage_failure; incorrect_parameters when it is too large for a key.
Result<KeyText> read_key_text(const char* path);

struct Pem {
    char label[32];
    std::uint8_t der[256];  // room for any key on P-256
    std::size_t size;
};
// One block of PEM (RFC 7468, strict) and nothing but white space behind it. Errors: incorrect_parameters, saying which
// other kind of key it is where that can be told.
Result<Pem> parse_pem(const char* path, std::string_view text);

}  // namespace slmd::image
