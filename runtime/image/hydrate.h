// From the stored form to one sealed memfd, in parallel.
#pragma once
#include <span>

#include "base/result.h"
#include "image/image.h"
#include "image/resident.h"
#include "image/stored.h"

namespace slmd::image {

struct Hydrated {
    int fd;                            // sealed memfd of raw_size bytes
    std::span<const std::byte> bytes;  // its read-only map, present in the page tables
};

// Decodes every frame that is not absent into a new memfd, seals it and maps it; elsewhere it has holes. header and
// tensors are for the names in errors only.
// Errors: model_memory with need and available, storage_failure, model_integrity naming frame and tensor.
Result<Hydrated> hydrate(const char* path, const StoredFile& file, const RawHeader& header,
                         std::span<const TensorEntry> tensors, const FrameSet& absent, const OpenOptions& options);

// Fills the page tables of a map, by all threads; otherwise the first token pays for it. Without the file all of it,
// else what is not absent: holes stay.
void populate(std::span<const std::byte> map, const StoredFile* file, const FrameSet& absent, int threads);

}  // namespace slmd::image
