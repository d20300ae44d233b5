// Opens a model image in either form, checks it, and gives its tensors as they lie in memory.
#pragma once
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

struct OpenOptions {
    int threads = 1;  // that hydrate; they end before open() returns
    bool verify =
        true;  // raw form: check every byte, which reads it all; the stored form is always checked, frame by frame
    // Called now and then from the opening thread. Never null-checked by the caller's thread count: only one call at a
    // time.
    void (*progress)(void* context, std::uint64_t done, std::uint64_t total) = nullptr;
    void* context = nullptr;
};

// What open() would need, without reading a frame.
struct Sizes {
    std::uint64_t file, raw, frames;
    bool compressed;
};

// Bytes that open() takes beside the image while it decodes one on that many threads: each thread's buffers and
// decoder, and what of the file is read ahead. The rest of the file's pages the system may take back.
std::uint64_t loading_bytes(int threads);

class Image {
  public:
    // Errors: storage_failure; model_format (not an image, newer version, impossible sizes); model_integrity (CRC or
    // hash, naming tensor and frame); model_memory. The file may be hostile.
    static Result<Image> open(const char* path, const OpenOptions& options);
    static Result<Sizes> sizes(const char* path);
    // Header and index only, for a plan before anything is loaded: tensor() gives empty spans, params() and the sizes
    // are valid.
    static Result<Image> open_index(const char* path);

    Image(Image&&) noexcept;
    Image& operator=(Image&&) noexcept;
    ~Image();

    const ModelParams& params() const;
    std::span<const TensorEntry> tensors() const;
    Result<Tensor> tensor(std::string_view name) const;  // not_found names the tensor
    bool has(std::string_view name) const;
    std::span<const std::byte> section(SectionId id) const;  // empty when absent
    std::span<const std::byte> raw() const;
    const Sizes& sizes() const;
    int memfd() const;  // -1 when a raw file is mapped in place

  private:
    Image();
    struct State;
    State* state_;
};

}  // namespace slmd::image
