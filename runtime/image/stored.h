// The stored form: header, frame table, and one frame at a time.
#pragma once
#include <atomic>
#include <cstddef>
#include <memory>
#include <span>

#include "base/result.h"
#include "image/format.h"

struct ZSTD_DCtx_s;

namespace slmd::image {

// What is wrong with a frame; text() is for people.
struct FrameFault {
    enum Kind { none, io, truncated, crc, zstd, size, memory, hash } kind = none;
    int reason = 0;  // errno for io
    explicit operator bool() const { return kind != none; }
    const char* text() const;
};

class FrameHashes;  // image/resident.h

class StoredFile {
  public:
    // Reads and checks header and frame table: frames follow each other without a gap, so that nothing overlaps, and
    // end where the seek table begins; their raw sizes add up to raw_size. Takes fd. Errors: storage_failure,
    // model_format, model_integrity.
    static Result<StoredFile> open(const char* path, int fd, std::uint64_t file_size);
    // The header alone, checked as far as it can be without what follows it. Same errors.
    static Result<StoredHeader> read_header(const char* path, int fd, std::uint64_t file_size);
    StoredFile(StoredFile&& o) noexcept;
    StoredFile& operator=(StoredFile&&) = delete;
    ~StoredFile();

    int fd() const { return fd_; }
    const StoredHeader& header() const { return header_; }
    std::span<const FrameEntry> frames() const { return {entries_, header_.frame_count}; }
    std::uint64_t raw_offset(std::uint32_t frame) const { return raw_offsets_[frame]; }
    // The frame that holds the byte at raw offset `at`, which is below raw_size.
    std::uint32_t frame_at(std::uint64_t at) const;
    std::uint32_t largest_stored() const { return largest_stored_; }
    // Bytes of its table in memory.
    std::uint64_t table_bytes() const { return frames().size() * (sizeof(FrameEntry) + sizeof(std::uint64_t)); }

    // Decodes the frames that hold [offset, offset + out.size()) of the raw form. Errors name the frame and `what`.
    Result<void> read(const char* path, const char* what, std::uint64_t offset, std::span<std::byte> out) const;

  private:
    StoredFile() = default;
    int fd_ = -1;
    StoredHeader header_{};
    FrameEntry* entries_ = nullptr;         // malloc'ed, frame_count
    std::uint64_t* raw_offsets_ = nullptr;  // malloc'ed, frame_count + 1
    std::uint32_t largest_stored_ = 0;
};

// Decodes frames of one file, one at a time; each thread has its own.
class FrameDecoder {
  public:
    explicit FrameDecoder(const StoredFile& file) : FrameDecoder(file, file.largest_stored(), nullptr) {}
    // For frames of at most so many stored bytes, each checked against its hash unless hashes is null, which must
    // outlive the decoder. Its memory is there: decode() allocates nothing.
    FrameDecoder(const StoredFile& file, std::uint64_t largest_stored, const FrameHashes* hashes);
    // What such a decoder takes. ZSTD_estimateDCtxSize() is 93 to 160 KiB.
    static std::uint64_t bytes(std::uint64_t largest_stored) { return largest_stored + 160 * 1024; }
    FrameDecoder(const FrameDecoder&) = delete;
    FrameDecoder& operator=(const FrameDecoder&) = delete;
    ~FrameDecoder();
    // out has the frame's raw size. CRC first: nothing unchecked reaches the decoder of zstd.
    FrameFault decode(std::uint32_t frame, std::byte* out);
    // The frame's bytes in the file, when it was the last to be decoded.
    std::span<const std::byte> stored(std::uint32_t frame) const { return {stored_, file_.frames()[frame].stored}; }

  private:
    const StoredFile& file_;
    const FrameHashes* hashes_;
    std::byte* stored_;
    ZSTD_DCtx_s* context_;
};

Error frame_error(const char* path, const StoredFile& file, std::uint32_t frame, const char* what, FrameFault fault);

}  // namespace slmd::image
