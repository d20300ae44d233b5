#include "image/sha256.h"

namespace slmd::image {

// Hashing needs no key store and no random numbers, and Mbed TLS does it without psa_crypto_init(), which gathers
// entropy by reading the clock many thousand times (PSA_ERROR_BAD_STATE is a library's right, though).
Sha256Stream::Sha256Stream() : status_(psa_hash_setup(&operation_, PSA_ALG_SHA_256)) {
    if (status_ != PSA_ERROR_BAD_STATE) return;
    status_ = psa_crypto_init();
    if (status_ == PSA_SUCCESS) status_ = psa_hash_setup(&operation_, PSA_ALG_SHA_256);
}

void Sha256Stream::add(std::span<const std::byte> bytes) {
    if (status_ == PSA_SUCCESS)
        status_ = psa_hash_update(&operation_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Result<Sha256> Sha256Stream::finish() {
    Sha256 digest;
    std::size_t length = 0;
    if (status_ == PSA_SUCCESS) status_ = psa_hash_finish(&operation_, digest.data(), digest.size(), &length);
    if (status_ == PSA_SUCCESS) return digest;
    return Error::make(Code::unknown, "SHA-256 is not available (PSA status %d)", static_cast<int>(status_));
}

Result<Sha256> sha256(std::span<const std::byte> bytes) {
    return sha256(std::initializer_list<std::span<const std::byte>>{bytes});
}

Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts) {
    Sha256Stream stream;
    for (const auto part : parts) stream.add(part);
    return stream.finish();
}

}  // namespace slmd::image
