#include "base/sha256.h"

namespace slmd {

Sha256Stream::Sha256Stream() : operation_(PSA_HASH_OPERATION_INIT) { begin(); }
Sha256Stream::~Sha256Stream() { psa_hash_abort(&operation_); }

// Hashing needs no key store and no random numbers, and Mbed TLS does it without psa_crypto_init(), which gathers
// entropy by reading the clock many thousand times (PSA_ERROR_BAD_STATE is a library's right, though).
void Sha256Stream::begin() {
    status_ = psa_hash_setup(&operation_, PSA_ALG_SHA_256);
    if (status_ == PSA_ERROR_BAD_STATE) {
        status_ = psa_crypto_init();
        if (status_ == PSA_SUCCESS) status_ = psa_hash_setup(&operation_, PSA_ALG_SHA_256);
    }
}

void Sha256Stream::update(std::span<const std::byte> bytes) {
    if (status_ == PSA_SUCCESS)
        status_ = psa_hash_update(&operation_, reinterpret_cast<const std::uint8_t*>(bytes.data()), bytes.size());
}

Result<Sha256> Sha256Stream::finish() {
    Sha256 digest;
    std::size_t length = 0;
    if (status_ == PSA_SUCCESS) status_ = psa_hash_finish(&operation_, digest.data(), digest.size(), &length);
    const std::int32_t status = status_;
    psa_hash_abort(&operation_);
    begin();
    if (status == PSA_SUCCESS) return digest;
    return Error::make(Code::unknown, "SHA-256 is not available (PSA status %d)", static_cast<int>(status));
}

Result<Sha256> sha256(std::span<const std::byte> bytes) {
    return sha256(std::initializer_list<std::span<const std::byte>>{bytes});
}

Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts) {
    Sha256Stream stream;
    for (const auto part : parts) stream.update(part);
    return stream.finish();
}

}  // namespace slmd
