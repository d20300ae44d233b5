// Which part of a stored image is decoded once and stays, and what is known about the rest.
#pragma once
#include <memory>
#include <span>

#include "base/result.h"
#include "image/image.h"
#include "image/stored.h"

namespace slmd::image {

// A matrix that says so and a few rows of which are needed at a time: an embedding that is not the output matrix.
bool is_on_demand(const TensorEntry& tensor);
// A matrix of a layer. Vectors, a thousandth of it, stay.
bool is_streamed(const TensorEntry& tensor);
// Rows of a layer's experts, one expert behind the other.
bool is_expert(const TensorEntry& tensor);
// The layer of "blk.N.name", -1: none.
int layer_of(const TensorEntry& tensor);
inline bool is_absent(const TensorEntry& tensor, Residency residency) {
    return (residency != Residency::whole && is_on_demand(tensor)) ||
           (residency == Residency::streamed && is_streamed(tensor)) ||
           (residency == Residency::by_expert && is_expert(tensor));
}
// What a residency is for that model: a mixture of experts is not streamed layer by layer.
inline Residency residency_of(const ModelParams& params, Residency residency) {
    return residency == Residency::streamed && params.experts != 0 ? Residency::by_expert : residency;
}

// Where a tensor lies in the raw form, padding to stream_align included.
struct Extent {
    std::uint64_t begin, end;
};
Extent extent_of(const TensorEntry& tensor);

// The frames that lie wholly within absent tensors, a byte each: not 0.
using FrameSet = std::unique_ptr<std::uint8_t[]>;
// Null in a Result that is good: everything is resident. Errors: model_memory.
Result<FrameSet> absent_frames(const char* path, const StoredFile& file, std::span<const TensorEntry> tensors,
                               Residency residency);
// Bytes of what is in the memory of such an image.
std::uint64_t resident_bytes(const StoredFile& file, const FrameSet& absent);

// SHA-256 of the stored bytes of some frames, shortened, so that whoever trusts a signature need not trust that the
// file stays as it was.
class FrameHashes {
  public:
    static constexpr std::size_t size = 16;
    static Result<std::unique_ptr<FrameHashes>> make(const char* path, std::uint32_t frames);
    static std::uint64_t bytes(std::uint32_t frames) { return sizeof(FrameHashes) + std::uint64_t{frames} * size; }
    Result<void> set(std::uint32_t frame, std::span<const std::byte> stored);
    // False also when SHA-256 is not available.
    bool holds(std::uint32_t frame, std::span<const std::byte> stored) const;

  private:
    std::unique_ptr<std::uint8_t[]> hashes_;
};

// Of every absent tensor: decodes it, checks it against the hash in the index, and remembers the hashes of its frames.
// Errors: model_integrity naming the tensor, and the frame where it is damaged; storage_failure; model_memory.
Result<std::unique_ptr<FrameHashes>> verify_absent(const char* path, const StoredFile& file, const RawHeader& header,
                                                   std::span<const TensorEntry> tensors, const OpenOptions& options);

}  // namespace slmd::image
