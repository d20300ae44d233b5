// The file of an image, as both who write one make it: the writer, and what amends one.
#pragma once
#include <memory>
#include <span>
#include <string_view>
#include <vector>

#include "base/file.h"
#include "base/result.h"
#include "image/format.h"
#include "writer.h"

struct ZSTD_CCtx_s;

namespace slmd::pack {

// Raw bytes of a frame of a tensor's stream. Smaller than the format allows: encoded and decoded bytes stay in a small
// core's cache together, and zstd loses nothing (0.02 % against 1 MiB on 4-bit codes).
constexpr std::uint64_t stream_frame = 256 * 1024;
// Of a tensor that is decoded on demand, some tens of rows at a time.
constexpr std::uint64_t row_frame = 32 * 1024;

// Puts raw bytes into the file, in order, in the chosen form. The first frame, the header's, has a size known
// beforehand and is written last.
class Output {
  public:
    // frame_count: of the whole image, the header's one included. file and options must outlive this.
    Output(AtomicFile& file, const WriteOptions& options, std::uint32_t frame_count);

    // One frame, or its bytes in the raw form. Returns what it takes in the file.
    Result<std::uint64_t> put(std::span<const std::byte> bytes, int level);
    // The frames of a stream: whole units, of nearly equal size.
    Result<std::uint64_t> put_stream(std::span<const std::byte> bytes, std::uint64_t unit, int level,
                                     std::uint64_t target = stream_frame);
    static std::uint64_t frame_count(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target = stream_frame);
    // A section, padded, where the raw form has come to; and what the header says of it.
    Result<void> put_section(image::RawHeader& header, image::SectionId id, std::vector<std::byte> bytes);
    static std::uint64_t section_frames(image::SectionId id, std::uint64_t bytes);
    // A frame as another image has it, which decodes to `raw` bytes. In the stored form only.
    Result<void> copy(std::span<const std::byte> frame, std::uint32_t raw);

    std::uint64_t raw() const { return raw_; }
    void expect(std::uint64_t total) { total_ = total; }

    // Header frame, then for the stored form its skippable frame in front and the seek table at the end. Returns the
    // size of the file.
    Result<std::uint64_t> finish(const image::RawHeader& header);

  private:
    static std::uint64_t frame_size(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target);
    Result<std::size_t> compress(std::span<const std::byte> bytes, int level, bool huffman, std::vector<std::byte>& to);
    Result<std::uint64_t> emit(std::span<const std::byte> frame, std::size_t raw);

    AtomicFile& file_;
    const WriteOptions& options_;
    std::unique_ptr<ZSTD_CCtx_s, std::size_t (*)(ZSTD_CCtx_s*)> context_;
    std::vector<std::byte> compressed_, second_;
    std::vector<image::FrameEntry> frames_;
    std::uint32_t next_ = 1;
    std::uint64_t first_frame_ = 0, at_ = 0, raw_ = image::section_align, total_ = 0;
};

// Errors: model_format: none, or more than a reader takes.
Result<void> check_provenance(std::string_view text);

// One zstd frame of raw (RLE and raw) blocks that decodes to `bytes`. Zero pages at the end
// cost nothing.
std::vector<std::byte> plain_frame(std::span<const std::byte> bytes);

}  // namespace slmd::pack
