// SHA-256 through PSA Crypto.
#pragma once
#include <psa/crypto.h>

#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/result.h"

namespace slmd {

using Sha256 = std::array<std::uint8_t, 32>;

// Over bytes that come in parts. Errors of its functions: unknown, when the crypto library refuses.
class Sha256Stream {
  public:
    Sha256Stream();
    Sha256Stream(const Sha256Stream&) = delete;
    Sha256Stream& operator=(const Sha256Stream&) = delete;
    ~Sha256Stream();
    void update(std::span<const std::byte> bytes);
    // Of all since the beginning, or since the last finish().
    Result<Sha256> finish();

  private:
    void begin();
    psa_hash_operation_s operation_;
    std::int32_t status_ = 0;  // of the first call that failed
};

// Errors: unknown, when the crypto library refuses.
Result<Sha256> sha256(std::span<const std::byte> bytes);
// Over the parts, one after the other.
Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts);

}  // namespace slmd
