#include "image/sha256.h"

#include <psa/crypto.h>

namespace slmd::image {

Result<Sha256> sha256(std::span<const std::byte> bytes) {
    Sha256 digest;
    std::size_t length = 0;
    const auto compute = [&] {
        return psa_hash_compute(PSA_ALG_SHA_256, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size(),
                                digest.data(), digest.size(), &length);
    };
    // Hashing needs no key store and no random numbers, and Mbed TLS does it without psa_crypto_init(), which gathers
    // entropy by reading the clock many thousand times (PSA_ERROR_BAD_STATE is a library's right, though).
    psa_status_t status = compute();
    if (status == PSA_ERROR_BAD_STATE) {
        status = psa_crypto_init();
        if (status == PSA_SUCCESS) status = compute();
    }
    if (status != PSA_SUCCESS)
        return Error::make(Code::unknown, "SHA-256 is not available (PSA status %d)", static_cast<int>(status));
    return digest;
}

}  // namespace slmd::image
