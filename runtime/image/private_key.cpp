#include "image/private_key.h"

#include <psa/crypto.h>
#include <strings.h>

#include <cstring>
#include <span>

namespace slmd::image {
namespace {

constexpr std::uint8_t pkcs8_front[] = {0x30, 0x81, 0x87, 0x02, 0x01, 0x00, 0x30, 0x13, 0x06, 0x07, 0x2a, 0x86,
                                        0x48, 0xce, 0x3d, 0x02, 0x01, 0x06, 0x08, 0x2a, 0x86, 0x48, 0xce, 0x3d,
                                        0x03, 0x01, 0x07, 0x04, 0x6d, 0x30, 0x6b, 0x02, 0x01, 0x01, 0x04, 0x20};
constexpr std::uint8_t pkcs8_middle[] = {0xa1, 0x44, 0x03, 0x42, 0x00};

using Bytes = std::span<const std::uint8_t>;

// Front, scalar, middle, point: taken apart where the other bytes are those.
bool match(const Pem& pem, Bytes front, Bytes middle, PrivateKey& out, std::array<std::uint8_t, 65>& point) {
    if (pem.size != front.size() + 32 + middle.size() + 65) return false;
    const std::uint8_t* const at = pem.der;
    if (std::memcmp(at, front.data(), front.size()) != 0 ||
        std::memcmp(at + front.size() + 32, middle.data(), middle.size()) != 0)
        return false;
    std::memcpy(out.scalar.data(), at + front.size(), 32);
    std::memcpy(point.data(), at + front.size() + 32 + middle.size(), point.size());
    return true;
}

Error psa_error(const char* what, psa_status_t status) {
    return Error::make(Code::unknown, "%s (PSA status %d)", what, static_cast<int>(status));
}

psa_key_attributes_t pair_attributes(psa_key_usage_t usage, psa_algorithm_t algorithm) {
    psa_key_attributes_t attributes = PSA_KEY_ATTRIBUTES_INIT;
    psa_set_key_type(&attributes, PSA_KEY_TYPE_ECC_KEY_PAIR(PSA_ECC_FAMILY_SECP_R1));
    psa_set_key_bits(&attributes, 256);
    psa_set_key_usage_flags(&attributes, usage);
    psa_set_key_algorithm(&attributes, algorithm);
    return attributes;
}

// RFC 6979: no random numbers at the time of signing, whose failure would give the key away, and the same bytes again.
constexpr psa_algorithm_t signing = PSA_ALG_DETERMINISTIC_ECDSA(PSA_ALG_SHA_256);

struct Handle {
    psa_key_id_t id = 0;
    ~Handle() { psa_destroy_key(id); }
};

Result<void> import(const PrivateKey& key, psa_key_usage_t usage, Handle& out) {
    if (const psa_status_t status = psa_crypto_init(); status != PSA_SUCCESS)
        return psa_error("no cryptography here", status);
    const psa_key_attributes_t attributes = pair_attributes(usage, signing);
    if (psa_import_key(&attributes, key.scalar.data(), key.scalar.size(), &out.id) != PSA_SUCCESS)
        return Error::make(Code::incorrect_parameters, "the private key is no number that the curve P-256 has");
    return {};
}

Result<PublicKey> public_of(psa_key_id_t id) {
    std::array<std::uint8_t, 65> point;
    std::size_t size = 0;
    const psa_status_t status = psa_export_public_key(id, point.data(), point.size(), &size);
    if (status != PSA_SUCCESS || size != point.size()) return psa_error("the public key cannot be made", status);
    return public_key(point);
}

}  // namespace

Result<std::array<std::uint8_t, 64>> sign_digest(const Sha256& digest, const PrivateKey& key) {
    Handle handle;
    TRY(import(key, PSA_KEY_USAGE_SIGN_HASH, handle));
    std::array<std::uint8_t, 64> rs;
    std::size_t size = 0;
    const psa_status_t status =
        psa_sign_hash(handle.id, signing, digest.data(), digest.size(), rs.data(), rs.size(), &size);
    if (status != PSA_SUCCESS || size != rs.size()) return psa_error("signing failed", status);
    return rs;
}

PrivateKey::~PrivateKey() { explicit_bzero(scalar.data(), scalar.size()); }

Result<PrivateKey> parse_private_key(const char* path, std::string_view text) {
    Pem pem = TRY(parse_pem(path, text));
    const std::string_view label = pem.label;
    PrivateKey key;
    std::array<std::uint8_t, 65> point;
    const bool matched = label == "EC PRIVATE KEY" ? match(pem, sec1_front, sec1_middle, key, point)
                         : label == "PRIVATE KEY"  ? match(pem, pkcs8_front, pkcs8_middle, key, point)
                                                   : false;
    const bool is_public = label == "PUBLIC KEY";
    explicit_bzero(&pem, sizeof pem);
    if (!matched && is_public)
        return Error::make(Code::incorrect_parameters, "%s: a public key; the private one signs", path);
    if (!matched)
        return Error::make(Code::incorrect_parameters,
                           "%s: not a private key on the curve P-256 with its public point; slmpack keygen makes one",
                           path);
    Handle handle;
    if (auto ok = import(key, PSA_KEY_USAGE_EXPORT, handle); !ok)
        return Error::make(ok.error().code, "%s: %s", path, ok.error().text);
    key.public_key = TRY(public_of(handle.id));
    if (key.public_key.point != point)
        return Error::make(Code::incorrect_parameters,
                           "%s: the key is damaged: its public point is not that of its private number", path);
    return key;
}

Result<PrivateKey> read_private_key(const char* path) {
    KeyText text = TRY(read_key_text(path));
    auto key = parse_private_key(path, text.view());
    explicit_bzero(&text, sizeof text);
    return key;
}

Result<PrivateKey> generate_key() {
    if (const psa_status_t status = psa_crypto_init(); status != PSA_SUCCESS)
        return psa_error("no cryptography here", status);
    Handle handle;
    const psa_key_attributes_t attributes = pair_attributes(PSA_KEY_USAGE_EXPORT, signing);
    if (const psa_status_t status = psa_generate_key(&attributes, &handle.id); status != PSA_SUCCESS)
        return psa_error("no key can be made", status);
    PrivateKey key;
    std::size_t size = 0;
    const psa_status_t status = psa_export_key(handle.id, key.scalar.data(), key.scalar.size(), &size);
    if (status != PSA_SUCCESS || size != key.scalar.size()) return psa_error("the key cannot be exported", status);
    key.public_key = TRY(public_of(handle.id));
    return key;
}

}  // namespace slmd::image
