// The difference between two stored images, by the content of their frames: what a thousand boards have already is not
// sent again.
//   DeltaHeader · DeltaOp[op_count] · literal bytes
// The new file is the ops' bytes, one after the other. Everything is little endian. Version 1.
#pragma once
#include <cstdint>

#include "base/result.h"

namespace slmd::image {

constexpr char delta_magic[8] = {'S', 'L', 'M', 'D', 'I', 'F', 'F', '1'};
constexpr std::uint32_t delta_version = 1, max_delta_ops = 1u << 21;

struct DeltaHeader {
    char magic[8];
    std::uint32_t version, op_count;
    std::uint64_t old_size, new_size;
    std::uint8_t old_front[32];   // SHA-256 of the old file up to its first frame: header and frame table, so that it
                                  // covers every frame's CRC
    std::uint8_t new_digest[32];  // SHA-256 of the SHA-256 of each op's bytes
    std::uint8_t ops_sha256[32];  // of DeltaOp[]
};
static_assert(sizeof(DeltaHeader) == 128);

struct DeltaOp {
    enum Kind : std::uint32_t { copy = 0, literal = 1 } kind;
    std::uint32_t reserved;
    std::uint64_t offset;  // in the old file; of a literal: behind the ops, where the literal before it ends
    std::uint64_t length;  // not 0
};
static_assert(sizeof(DeltaOp) == 24);

// Writes the new image: whole or not at all, and only if it comes out byte for byte as it was when the delta was made.
// Nothing else is allocated. Errors: storage_failure; model_format (not a delta, a newer one, or one that is damaged);
// not_found when the old file is not the image that the delta begins from; model_integrity when the old file's frames
// or the delta's bytes are damaged.
Result<void> apply_delta(const char* old_path, const char* delta_path, const char* new_path);

}  // namespace slmd::image
