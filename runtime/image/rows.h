// Rows of a tensor that is decoded on demand. A fixed number of its frames is kept decoded; the one that was used least
// recently makes room.
#pragma once
#include <memory>
#include <span>

#include "base/result.h"
#include "image/format.h"
#include "image/resident.h"
#include "image/stored.h"

namespace slmd::image {

// Eight rows, as they lie in the raw form.
struct RowBlock {
    const std::byte *codes, *scales, *steps;
};

// For one thread.
class Rows {
  public:
    // path, file and hashes (null: nobody's signature is trusted) must outlive it. Errors: model_memory.
    static Result<std::unique_ptr<Rows>> open(const char* path, const StoredFile& file, const TensorEntry& tensor,
                                              const FrameHashes* hashes);
    // What open() takes, bytes.
    static std::uint64_t bytes(const StoredFile& file, const TensorEntry& tensor);
    Rows(const Rows&) = delete;
    Rows& operator=(const Rows&) = delete;
    ~Rows();

    // The block that holds the row (below rows of the tensor): row % 8 in it. Until the next call. Every frame that is
    // decoded is checked. Errors: model_integrity and storage_failure, naming tensor and frame: the next call tries
    // again.
    Result<RowBlock> block(std::uint32_t row);

    int kept() const { return count_; }                 // frames, at most
    std::uint64_t decoded() const { return decoded_; }  // frames, so far
    const TensorEntry& tensor() const { return tensor_; }

  private:
    struct Frame {
        std::uint32_t number;  // UINT32_MAX: none
        std::uint64_t used;
        std::byte* bytes;
    };
    struct Layout {
        std::uint64_t frame, stored, block;  // bytes: of the largest frame, raw and in the file; of a block
        int kept;
        std::uint64_t total() const;
    };
    static Layout layout_of(const StoredFile& file, const TensorEntry& tensor);
    Rows(const char* path, const StoredFile& file, const TensorEntry& tensor, const FrameHashes* hashes,
         const Layout& layout);
    Result<void> copy(const char* stream, std::uint64_t offset, std::uint64_t size, std::byte* out);
    FrameFault keep(std::uint32_t frame, const std::byte*& bytes);

    static constexpr int max_kept = 64;
    const char* path_;
    const StoredFile& file_;
    const TensorEntry tensor_;
    FrameDecoder decoder_;
    std::byte* memory_ = nullptr;
    std::uint64_t memory_bytes_ = 0;
    std::byte* block_ = nullptr;
    Frame frames_[max_kept];
    int count_ = 0;
    std::uint64_t clock_ = 0, decoded_ = 0;
};

}  // namespace slmd::image
