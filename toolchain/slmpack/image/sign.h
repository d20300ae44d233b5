// Makes keys, and signs images with them.
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "base/sha256.h"
#include "image/keys.h"

namespace slmd::pack {

// Wiped when it goes.
struct PrivateKey {
    std::array<std::uint8_t, 32> scalar{};
    image::PublicKey public_key{};
    ~PrivateKey();
};

// "EC PRIVATE KEY" (SEC 1, RFC 5915) or "PRIVATE KEY" (PKCS #8), as `slmpack keygen`, `openssl genpkey` and `openssl
// ecparam -genkey -noout` write it; not encrypted. Errors begin with `path`: incorrect_parameters: not PEM, encrypted,
// another algorithm or curve, a public key that is not that of the private one, something behind the key.
Result<PrivateKey> parse_private_key(const char* path, std::string_view text);
// Errors: those, and storage_failure.
Result<PrivateKey> read_private_key(const char* path);

// A new key: the private one at path (mode 0600), the public one at path.pub (0644). Files that are there already stay
// as they are. Errors: storage_failure, unknown.
Result<image::PublicKey> make_key(const std::string& path);

// r, s, 32 bytes each, big endian; deterministic (RFC 6979). Errors: unknown.
Result<std::array<std::uint8_t, 64>> sign_digest(const Sha256& digest, const PrivateKey& key);

// Writes the image at `path`, in the form that it has, to `output` with a signature in its header, in place of one that
// it may have; output may be path. The image is checked first, every hash of it. The same image and key give the same
// bytes. Errors: those of Image::open(); model_integrity when it has no hashes; storage_failure.
Result<void> sign_image(const std::string& path, const std::string& output, const PrivateKey& key);

}  // namespace slmd::pack
