// Experts of a mixture that are decoded when a token goes to them. A fixed number of them is kept decoded; the one that
// was used least recently makes room.
#pragma once
#include <algorithm>
#include <atomic>
#include <memory>
#include <span>

#include "base/result.h"
#include "image/format.h"
#include "image/resident.h"
#include "image/stored.h"

namespace slmd::image {

constexpr int expert_matrices = 3;  // gate, up, down

// One expert's rows of the three matrices, as they lie in the raw form. steps: null but for i4.
struct Expert {
    const std::byte *codes[expert_matrices], *scales[expert_matrices], *steps[expert_matrices];
};

class Experts {
  public:
    static constexpr int readers = 4;  // that may decode at the same time

    // path, file, header, tensors, hashes (null: nobody's signature is trusted) and progress (one more a frame; null:
    // nobody asks) must outlive it. keep: bytes of decoded experts to keep; those of one layer are, at the least.
    // Errors: model_format when a layer lacks one of its matrices; model_memory.
    static Result<std::unique_ptr<Experts>> open(const char* path, const StoredFile& file, const RawHeader& header,
                                                 const ModelParams& params, std::span<const TensorEntry> tensors,
                                                 const FrameHashes* hashes, std::uint64_t keep,
                                                 std::atomic<std::uint64_t>* progress);
    // What open() takes when it keeps the least, what it takes for each expert more, how many
    // it keeps then and could keep, and what of the file a token's pass reads where nothing is kept. 0: open() would
    // refuse.
    struct Sizes {
        std::uint64_t memory, each, pass;
        int least, most;  // experts
        // How many are kept where so many bytes may be.
        int kept(std::uint64_t keep) const {
            return static_cast<int>(std::clamp<std::uint64_t>(keep / each, static_cast<std::uint64_t>(least),
                                                              static_cast<std::uint64_t>(most)));
        }
    };
    static Sizes sizes(const StoredFile& file, const ModelParams& params, std::span<const TensorEntry> tensors);
    Experts(const Experts&) = delete;
    Experts& operator=(const Experts&) = delete;
    ~Experts();

    // A layer's experts, each once: they have places until the next call.
    void reserve(int layer, std::span<const std::uint16_t> experts);
    int missing() const { return missing_count_; }  // of those, to be read
    // Number i of them. Different numbers at the same time on different readers.
    void read(int i, int reader);
    // When all of them were read. Errors: model_integrity and storage_failure, naming tensor and frame: none of them is
    // there then, and the next reserve() tries again.
    Result<void> finish();
    // One that was reserved and read.
    Expert place(int layer, int expert) const;

    int kept() const { return slots_; }                 // experts, at most
    std::uint64_t decoded() const { return decoded_; }  // experts, so far

  private:
    // An expert's share of a stream: its first byte of expert 0 in the raw form, and how many each has.
    struct Share {
        std::uint64_t offset, bytes;
    };
    struct LayerShares {
        Share shares[3 * expert_matrices];  // codes, scales, steps of each matrix
    };
    struct Slot {
        std::int32_t key;  // layer * experts + expert; -1: none
        std::uint64_t used;
    };
    struct Layout {
        std::unique_ptr<LayerShares[]> layers;
        std::uint64_t slot;  // bytes
        std::uint64_t scratch,
            stored;                // bytes of the largest frame that holds others too, and of the largest in the file
        std::uint64_t all_stored;  // bytes of all experts in the file
        int slots;
        Sizes sizes;  // when it keeps no more than `slots`
        std::uint64_t memory(const ModelParams& params) const;
    };
    struct Reader {
        std::unique_ptr<FrameDecoder> decoder;
        std::byte* scratch;
        FrameFault fault;
        std::uint32_t faulty;  // frame
    };
    static Result<Layout> lay_out(const char* path, const StoredFile& file, const ModelParams& params,
                                  std::span<const TensorEntry> tensors, std::uint64_t keep);
    Experts(const char* path, const StoredFile& file, const RawHeader& header, const ModelParams& params,
            std::span<const TensorEntry> tensors, std::atomic<std::uint64_t>* progress, Layout layout);
    FrameFault copy(const Share& share, int expert, std::byte* to, Reader& reader) const;

    const char* path_;
    const StoredFile& file_;
    const RawHeader& header_;
    const std::span<const TensorEntry> tensors_;
    std::atomic<std::uint64_t>* const progress_;
    const Layout layout_;
    const int experts_, slots_;
    std::byte* memory_ = nullptr;
    std::uint64_t memory_bytes_ = 0;
    std::unique_ptr<Slot[]> slot_;
    std::unique_ptr<std::int32_t[]> slot_of_;  // [layers * experts], -1: not there
    std::unique_ptr<std::int32_t[]> missing_;  // slots, of the last reserve()
    int missing_count_ = 0;
    std::uint64_t clock_ = 0, decoded_ = 0;
    Reader readers_[readers] = {};
};

}  // namespace slmd::image
