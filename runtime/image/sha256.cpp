#include "image/sha256.h"

#include <psa/crypto.h>

namespace slmd::image {

Result<Sha256> sha256(std::span<const std::byte> bytes) {
    return sha256(std::initializer_list<std::span<const std::byte>>{bytes});
}

Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts) {
    Sha256 digest;
    std::size_t length = 0;
    psa_hash_operation_t operation = PSA_HASH_OPERATION_INIT;
    // Hashing needs no key store and no random numbers, and Mbed TLS does it without psa_crypto_init(), which gathers
    // entropy by reading the clock many thousand times (PSA_ERROR_BAD_STATE is a library's right, though).
    psa_status_t status = psa_hash_setup(&operation, PSA_ALG_SHA_256);
    if (status == PSA_ERROR_BAD_STATE) {
        status = psa_crypto_init();
        if (status == PSA_SUCCESS) status = psa_hash_setup(&operation, PSA_ALG_SHA_256);
    }
    for (const auto part : parts)
        if (status == PSA_SUCCESS)
            status = psa_hash_update(&operation, reinterpret_cast<const std::uint8_t*>(part.data()), part.size());
    if (status == PSA_SUCCESS) status = psa_hash_finish(&operation, digest.data(), digest.size(), &length);
    if (status == PSA_SUCCESS) return digest;
    psa_hash_abort(&operation);
    return Error::make(Code::unknown, "SHA-256 is not available (PSA status %d)", static_cast<int>(status));
}

}  // namespace slmd::image
