// The other half of a key: for whoever signs.
#pragma once
#include <array>
#include <cstdint>
#include <string_view>

#include "base/result.h"
#include "base/sha256.h"
#include "image/keys.h"

namespace slmd::image {

// Wiped when it goes.
struct PrivateKey {
    std::array<std::uint8_t, 32> scalar{};
    PublicKey public_key{};
    ~PrivateKey();
};

// "EC PRIVATE KEY" (SEC 1, RFC 5915) or "PRIVATE KEY" (PKCS #8), as `slmpack keygen`, `openssl genpkey` and `openssl
// ecparam -genkey -noout` write it; not encrypted. Errors begin with `path`: incorrect_parameters: not PEM, encrypted,
// another algorithm or curve, a public key that is not that of the private one, something behind the key.
Result<PrivateKey> parse_private_key(const char* path, std::string_view text);
// Errors: those, and storage_failure.
Result<PrivateKey> read_private_key(const char* path);

// r, s, 32 bytes each, big endian; deterministic (RFC 6979). Errors: unknown.
Result<std::array<std::uint8_t, 64>> sign_digest(const Sha256& digest, const PrivateKey& key);

// ---- for whoever makes keys

// DER, around the scalar and the point: on P-256 every length in it is always the same (SEC 1, RFC 5915).
constexpr std::uint8_t sec1_front[] = {0x30, 0x77, 0x02, 0x01, 0x01, 0x04, 0x20};
constexpr std::uint8_t sec1_middle[] = {0xa0, 0x0a, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                        0x03, 0x01, 0x07, 0xa1, 0x44, 0x03, 0x42, 0x00};

// A new one. Errors: unknown.
Result<PrivateKey> generate_key();

}  // namespace slmd::image
