// Layers that are not kept: decoded before they are computed, into one of two places, while the layer before them is
// computed in the other. Threads of its own read ahead; all memory is there when it is opened.
#pragma once
#include <pthread.h>

#include <atomic>
#include <memory>
#include <span>

#include "base/result.h"
#include "image/format.h"
#include "image/resident.h"
#include "image/stored.h"

namespace slmd::image {

class Layers {
  public:
    // How many threads decode: storage is the limit, and even a small core decodes faster than a memory card reads.
    static constexpr int readers = 4;

    // path, file, header, tensors, hashes (null: nobody's signature is trusted) and progress (one more a frame; null:
    // nobody asks) must outlive it. Reads the first layers. Errors: model_format when the frames are not one layer's
    // each, or layers do not follow each other; those of acquire(); model_memory.
    static Result<std::unique_ptr<Layers>> open(const char* path, const StoredFile& file, const RawHeader& header,
                                                std::span<const TensorEntry> tensors, const FrameHashes* hashes,
                                                std::atomic<std::uint64_t>* progress);
    // What open() takes, and what a pass over all layers reads; 0 where open() would refuse.
    struct Sizes {
        std::uint64_t memory, pass;
    };
    static Sizes sizes(const StoredFile& file, std::span<const TensorEntry> tensors);
    Layers(const Layers&) = delete;
    Layers& operator=(const Layers&) = delete;
    ~Layers();

    // Where the byte at a place of the raw form, in a matrix of a layer, is while the layer is.
    const std::byte* place(int layer, std::uint64_t offset) const;

    // Waits until the layer is there, and lets the one after it be read; the one before it is gone then. For one
    // thread. Errors: model_integrity and storage_failure, naming tensor and frame: the next call tries again.
    Result<void> acquire(int layer);
    // The last layer was computed: the first ones are read.
    void rewind();

    std::uint64_t pass_bytes() const { return pass_bytes_; }       // of the file
    double bytes_per_second() const { return bytes_per_second_; }  // of the file, when the first layers were read
    std::uint64_t decoded() const { return decoded_.load(std::memory_order_relaxed); }  // frames, so far

  private:
    struct Unit {
        std::uint64_t begin, end;    // in the raw form
        std::uint32_t first, count;  // in order_
    };
    struct Layout {
        std::unique_ptr<Unit[]> units;
        std::unique_ptr<std::uint32_t[]> order;  // frames of all layers
        std::uint32_t layers = 0, frames = 0;
        std::uint64_t place_bytes = 0, largest_stored = 0, pass_bytes = 0;
        int places() const { return layers > 1 ? 2 : 1; }
        std::uint64_t memory() const;
    };
    // One layer's frames on their way into its place.
    struct Place {
        int layer;                // -1: none
        std::uint32_t next, end;  // of order: frames that nobody has begun
        int busy;                 // frames that are being decoded
        FrameFault fault;
        std::uint32_t faulty;  // frame
        bool settled() const { return next == end && busy == 0; }
    };
    Layers(const char* path, const StoredFile& file, const RawHeader& header, std::span<const TensorEntry> tensors,
           std::atomic<std::uint64_t>* progress, Layout layout);
    static Result<Layout> lay_out(const char* path, const StoredFile& file, std::span<const TensorEntry> tensors);
    Result<void> read_first();
    static void* reader_main(void* argument);
    void read(FrameDecoder& decoder);
    // With the lock.
    Place* next_work();
    void assign(Place& place, int layer);
    Result<void> wait_for(Place& place);

    struct Reader {
        Layers* layers;
        std::unique_ptr<FrameDecoder> decoder;
        pthread_t thread;
    };
    const char* path_;
    const StoredFile& file_;
    const RawHeader& header_;
    const std::span<const TensorEntry> tensors_;
    std::atomic<std::uint64_t>* progress_;
    const Layout layout_;
    const std::uint64_t pass_bytes_;
    double bytes_per_second_ = 0;
    std::byte* memory_ = nullptr;
    std::uint64_t memory_bytes_ = 0;
    std::atomic<std::uint64_t> decoded_{0};

    pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t work_ = PTHREAD_COND_INITIALIZER;   // for readers
    pthread_cond_t ready_ = PTHREAD_COND_INITIALIZER;  // a place is settled
    Place places_[2] = {{-1, 0, 0, 0, {}, 0}, {-1, 0, 0, 0, {}, 0}};
    int wanted_ = 0;  // the place that is waited for
    bool stop_ = false;
    Reader readers_[readers] = {};
    int started_ = 0;
};

}  // namespace slmd::image
