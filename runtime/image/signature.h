// Who vouches for an image: a signature over its header, whose hashes cover everything else in it.
#pragma once
#include <span>

#include "base/result.h"
#include "base/sha256.h"
#include "image/format.h"
#include "image/image.h"
#include "image/keys.h"

namespace slmd::image {

bool is_signed(const RawHeader& header);
// By whom it says that it is signed.
KeyId signer(const RawHeader& header);

// SHA-256 over the header with its signature zeroed: what is signed.
Result<Sha256> signed_digest(const RawHeader& header);

// Whether r, s (32 bytes each, big endian) is a signature of that key over a digest. Errors: unknown.
Result<bool> holds(const PublicKey& key, const Sha256& digest, std::span<const std::uint8_t, 64> rs);

// That the header is signed by one of the keys. Errors: model_integrity: unsigned, an unknown key, a signature that
// does not hold, no hashes; the text says which and what to do.
Result<void> verify_signature(const char* path, const RawHeader& header, std::span<const PublicKey> keys);

// verify_signature(), and that params, which plans are made from, is what was signed. An unsigned image passes where
// trust says so; where trust has no keys everything does.
Result<void> check_trust(const char* path, const RawHeader& header, const ModelParams& params, const Trust& trust);

// What trust lets through without a look at a hash.
inline bool needs_hashes(const RawHeader& header, const Trust& trust) {
    return !trust.keys.empty() && is_signed(header);
}

// Every section and every tensor against its hash, tensors shared out over the threads, and that there is nothing but
// zeros between them. header and tensors are checked already (check_header, check_index, index_sha256). Reports half of
// the progress, from total / 2 on. Tensors that are not resident are verify_absent()'s. Errors: model_integrity, naming
// the place.
Result<void> verify_hashes(const char* path, const RawHeader& header, std::span<const TensorEntry> tensors,
                           std::span<const std::byte> raw, const OpenOptions& options);

}  // namespace slmd::image
