// SHA-256 through PSA Crypto.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"

namespace slmd::image {

using Sha256 = std::array<std::uint8_t, 32>;

// Errors: unknown, when the crypto library refuses.
Result<Sha256> sha256(std::span<const std::byte> bytes);

}  // namespace slmd::image
