// Signed heads of a ledger: lines "SEQUENCE HASH KEY SIGNATURE", in hex but for the first, in the file `heads` beside
// its segments. A signature is over SHA-256 of "slmd ledger head\n", the sequence (8 bytes, little-endian) and the
// hash; it vouches for that record and all before it.
#pragma once
#include <array>
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"
#include "base/sha256.h"

namespace slmd::client {

struct SignedHead {
    std::uint64_t sequence = 0;
    Sha256 hash{};
    std::array<std::uint8_t, 8> key{};
    std::array<std::uint8_t, 64> rs{};
};

// Those that the public key in a file has signed, of the folders in which these segments lie. Errors: those of reading
// them; model_integrity: a signature does not hold; incorrect_parameters: a line is none.
Result<std::vector<SignedHead>> read_heads(const std::vector<std::string>& segments, const char* key);
// Signs it by the private key in a file. Errors: those of reading it, storage_failure.
Result<void> add_head(const std::string& segment, SignedHead head, const char* key);

}  // namespace slmd::client
