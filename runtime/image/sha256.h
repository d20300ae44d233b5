// SHA-256 through PSA Crypto.
#pragma once
#include <psa/crypto.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/result.h"

namespace slmd::image {

using Sha256 = std::array<std::uint8_t, 32>;

// Over what is added, one after the other.
class Sha256Stream {
  public:
    Sha256Stream();
    Sha256Stream(const Sha256Stream&) = delete;
    Sha256Stream& operator=(const Sha256Stream&) = delete;
    ~Sha256Stream() { psa_hash_abort(&operation_); }
    void add(std::span<const std::byte> bytes);
    // Once. Errors: unknown, when the crypto library refuses.
    Result<Sha256> finish();

  private:
    psa_hash_operation_t operation_ = PSA_HASH_OPERATION_INIT;
    psa_status_t status_;
};

// Errors: unknown, when the crypto library refuses.
Result<Sha256> sha256(std::span<const std::byte> bytes);
// Over the parts, one after the other.
Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts);

}  // namespace slmd::image
