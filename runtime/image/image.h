// Opens a model image in either form, checks it, and gives its tensors as they lie in memory.
#pragma once
#include <atomic>
#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"
#include "image/format.h"

namespace slmd::image {

struct Tensor {
    std::string_view name;
    Kind kind;
    std::uint32_t rows, cols;
    std::span<const std::byte> codes, scales, steps;
    const std::int8_t* book;  // 16 levels, i4 only
};

struct PublicKey;  // image/keys.h

// Whose images are opened. Without keys: anybody's.
struct Trust {
    std::span<const PublicKey> keys;  // an image that is signed must be by one of them, and all its hashes must hold
    bool required = true;             // false: an image that is not signed is opened all the same
};

// What of a stored image is decoded when it is opened and stays in memory.
enum class Residency {
    whole,
    on_demand,  // but for an embedding that is marked so (TensorEntry::residency 2) and is not the output matrix:
                // rows()
    streamed,   // nor the matrices of the layers: layers(). Of a mixture of experts it means
    by_expert,  // all but the experts: experts()
};

struct OpenOptions {
    int threads = 1;                         // that hydrate; they end before open() returns
    Residency residency = Residency::whole;  // a raw image is mapped in place, whatever this says
    bool verify =
        true;       // raw form: check every byte, which reads it all; the stored form is always checked, frame by frame
    Trust trust{};  // checked before any frame but that of header, index and params is decoded, and whatever `verify`
                    // says
    // Called now and then from the opening thread. Never null-checked by the caller's thread count: only one call at a
    // time.
    void (*progress)(void* context, std::uint64_t done, std::uint64_t total) = nullptr;
    void* context = nullptr;
    std::uint64_t experts = 0;  // bytes of decoded experts that are kept when they are not resident; those of a layer
                                // are, at the least
    // One more with each frame of a layer that is decoded later on; must outlive the image. null: nobody asks.
    std::atomic<std::uint64_t>* frames = nullptr;
};

// What open() would need, without reading a frame.
struct Sizes {
    std::uint64_t file, raw, frames;
    bool compressed;
};

// Bytes of an open image in memory, by what they are for; not those of opening it.
struct Footprint {
    std::uint64_t resident;  // decoded once; of a raw image all, in pages that the system may take back
    std::uint64_t rows;      // decodes rows of the embedding, and keeps some
    std::uint64_t layers;    // reads layers, and keeps two; or experts, and keeps as many as asked for
    std::uint64_t pass;  // not in memory: read of the file for every pass over the layers; of experts, for a token's
};

class Rows;     // image/rows.h
class Layers;   // image/layers.h
class Experts;  // image/experts.h

// Bytes that open() takes beside the image while it decodes one on that many threads: each thread's buffers and
// decoder, and what of the file is read ahead. The rest of the file's pages the system may take back.
std::uint64_t loading_bytes(int threads);

// Tells what a compressed image file holds without reading a frame of it: SHA-256, its first half in hex, of the file's
// header (which covers the index and the CRC of every frame) and its device, inode, size and time of last change. ""
// for a raw file, which is mapped and needs no memory to be kept.
struct Identity {
    char hex[33] = "";
};
// Errors: storage_failure, model_format, model_integrity.
Result<Identity> identity(const char* path);

class Image {
  public:
    // Errors: storage_failure; model_format (not an image, newer version, impossible sizes); model_integrity (CRC,
    // hash or signature, naming what it is of); model_memory. The file may be hostile.
    static Result<Image> open(const char* path, const OpenOptions& options);
    // Takes the memory that an earlier open() of this very file made, perhaps in another process: memfd() of then.
    // Reads the file's header only; the memory's index is checked against it, its other bytes cannot have changed since
    // they were checked, for it is sealed: whoever trusts nobody's images but some must know that it was open() with
    // such a trust that made it, for of that only the signature is checked again. What is decoded on demand was never
    // in it, and is checked as open() does. Takes fd when it succeeds. Errors:
    // those of identity(); model_integrity when the memory is not sealed, or is not that of the file.
    // options: threads, trust and residency, which must be that of the earlier open(), and not streamed.
    static Result<Image> adopt(const char* path, int fd, const OpenOptions& options);
    static Result<Sizes> sizes(const char* path);
    // Header and index only, with their signature, for a plan before anything is loaded: tensor() gives empty spans,
    // params() and the sizes are valid.
    static Result<Image> open_index(const char* path, const Trust& trust = {});

    Image(Image&&) noexcept;
    Image& operator=(Image&&) noexcept;
    ~Image();

    const RawHeader& header() const;
    const ModelParams& params() const;
    std::span<const TensorEntry> tensors() const;
    // not_found names the tensor. Of a tensor that is decoded on demand the spans are empty; of a layer that is
    // streamed they are what it is decoded into.
    Result<Tensor> tensor(std::string_view name) const;
    bool has(std::string_view name) const;
    std::span<const std::byte> section(SectionId id) const;  // empty when absent
    std::span<const std::byte> raw() const;                  // zeros where it is not resident
    const Sizes& sizes() const;
    // experts: as in OpenOptions. Valid after open_index(), too.
    Footprint footprint(Residency residency, std::uint64_t experts = 0) const;
    Rows* rows() const;                // of token_embd; null: it is resident
    Layers* layers() const;            // null: they are resident
    Experts* experts() const;          // null: they are resident, or there are none
    int memfd() const;                 // -1 when a raw file is mapped in place
    const Identity& identity() const;  // of the file as it was when it was opened

  private:
    Image();
    struct State;
    State* state_;
};

}  // namespace slmd::image
