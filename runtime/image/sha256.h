// SHA-256 through PSA Crypto.
#pragma once
#include <array>
#include <cstddef>
#include <cstdint>
#include <initializer_list>
#include <span>

#include "base/result.h"

namespace slmd::image {

using Sha256 = std::array<std::uint8_t, 32>;

// Errors: unknown, when the crypto library refuses.
Result<Sha256> sha256(std::span<const std::byte> bytes);
// Over the parts, one after the other.
Result<Sha256> sha256(std::initializer_list<std::span<const std::byte>> parts);

}  // namespace slmd::image
