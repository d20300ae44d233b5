#include "output.h"

#define ZSTD_STATIC_LINKING_ONLY  // ZSTD_c_literalCompressionMode
#include <zstd.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>

#include "base/bytes.h"
#include "base/sha256.h"
#include "image/layout.h"

namespace slmd::pack {
namespace {

using namespace image;

constexpr std::uint64_t skippable_header = 8;
constexpr std::uint32_t block_bytes = 128 * 1024;  // the most that a zstd block holds

template <class T>
void append(std::vector<std::byte>& out, const T& value) {
    const auto bytes = std::as_bytes(std::span(&value, 1));
    out.insert(out.end(), bytes.begin(), bytes.end());
}

constexpr int metadata_level = 19;            // of zstd; text and tables win by it, and are small
constexpr std::uint64_t whole = frame_bytes;  // unit of metadata sections: one frame where it fits
constexpr int no_matches = -100;              // a level that looks for next to none

std::vector<std::byte> header_unit() { return std::vector<std::byte>(section_align); }

std::uint64_t padded(SectionId id, std::uint64_t size) {
    return round_up(size, id == SectionId::index ? stream_align : section_align);
}

}  // namespace

Output::Output(AtomicFile& file, const WriteOptions& options, std::uint32_t frame_count)
    : file_(file), options_(options), context_(ZSTD_createCCtx(), ZSTD_freeCCtx) {
    compressed_.resize(ZSTD_compressBound(frame_bytes));
    second_.resize(compressed_.size());
    if (options.raw) return;
    frames_.resize(frame_count);
    first_frame_ = skippable_header + sizeof(StoredHeader) + frame_count * sizeof(FrameEntry);
    at_ = first_frame_ + plain_frame(header_unit()).size();
}
Result<std::uint64_t> Output::put(std::span<const std::byte> bytes, int level) {
    const std::uint64_t raw_at = raw_;
    raw_ += bytes.size();
    if (options_.raw) {
        TRY(file_.write_at(raw_at, bytes));
        return bytes.size();
    }
    std::size_t n = TRY(compress(bytes, level, false, compressed_));
    // Codes are noise with a skewed histogram: what zstd takes for repetitions is chance, costs more than it saves
    // (0.4 bits a weight of i8) and decodes at half the speed. Huffman codes alone, where they are the smaller.
    if (level == options_.level) {
        const std::size_t literals = TRY(compress(bytes, no_matches, true, second_));
        if (literals < n) {
            n = literals;
            compressed_.swap(second_);
        }
    }
    if (static_cast<double>(n) > static_cast<double>(bytes.size()) * (1 - options_.least_saving))
        return emit(plain_frame(bytes), bytes.size());
    return emit(std::span(compressed_).first(n), bytes.size());
}

Result<std::uint64_t> Output::put_stream(std::span<const std::byte> bytes, std::uint64_t unit, int level,
                                         std::uint64_t target) {
    const std::uint64_t piece = frame_size(bytes.size(), unit, target);
    std::uint64_t stored = 0;
    for (std::uint64_t at = 0; at < bytes.size(); at += piece) {
        stored += TRY(put(bytes.subspan(at, std::min<std::uint64_t>(piece, bytes.size() - at)), level));
        if (options_.progress) options_.progress(raw_, total_);
    }
    return stored;
}

std::uint64_t Output::frame_size(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target) {
    if (bytes == 0) return frame_bytes;
    const std::uint64_t most = unit > frame_bytes ? frame_bytes : std::max(unit, target) / unit * unit;
    const std::uint64_t count = (bytes + most - 1) / most;
    return std::min(most, round_up((bytes + count - 1) / count, unit > frame_bytes ? stream_align : unit));
}

std::uint64_t Output::frame_count(std::uint64_t bytes, std::uint64_t unit, std::uint64_t target) {
    const std::uint64_t piece = frame_size(bytes, unit, target);
    return (bytes + piece - 1) / piece;
}

std::uint64_t Output::section_frames(SectionId id, std::uint64_t bytes) {
    return frame_count(padded(id, bytes), whole);
}

Result<void> Output::put_section(RawHeader& header, SectionId id, std::vector<std::byte> bytes) {
    if (header.section_count == std::size(header.sections))
        return Error::make(Code::model_format, "an image has room for %zu sections", std::size(header.sections));
    const std::uint32_t i = header.section_count++;
    const bool hashed = id != SectionId::index;  // which index_sha256 covers
    header.sections[i] = {static_cast<std::uint32_t>(id), hashed ? crc32c(bytes) : 0, raw_, bytes.size()};
    if (hashed) {
        const Sha256 hash = TRY(sha256(bytes));
        std::memcpy(header.section_sha256[i], hash.data(), hash.size());
    }
    bytes.resize(padded(id, bytes.size()));
    TRY(put_stream(bytes, whole, metadata_level));
    return {};
}

Result<void> Output::copy(std::span<const std::byte> frame, std::uint32_t raw) {
    TRY(emit(frame, raw));
    raw_ += raw;
    return {};
}

Result<std::uint64_t> Output::finish(const RawHeader& header) {
    std::vector<std::byte> unit = header_unit();
    std::memcpy(unit.data(), &header, sizeof header);
    if (options_.raw) {
        TRY(file_.write_at(0, unit));
        return raw_;
    }
    const auto first = plain_frame(unit);
    frames_[0] = {first_frame_, static_cast<std::uint32_t>(first.size()), static_cast<std::uint32_t>(unit.size()),
                  crc32c(first), 0};
    TRY(file_.write_at(first_frame_, first));
    if (next_ != frames_.size())
        return Error::make(Code::unknown, "%zu frames were planned, %u written", frames_.size(), next_);

    // https://github.com/facebook/zstd/blob/dev/contrib/seekable_format/zstd_seekable_compression_format.md,
    // without checksums
    const auto count = static_cast<std::uint32_t>(frames_.size());
    std::vector<std::byte> table;
    append(table, seek_table_magic);
    append(table, (count + 1) * 8 + 9);
    append(table, static_cast<std::uint32_t>(first_frame_));
    append(table, std::uint32_t{0});
    for (const FrameEntry& e : frames_) {
        append(table, e.stored);
        append(table, e.raw);
    }
    append(table, count + 1);
    append(table, std::uint8_t{0});
    append(table, seekable_magic);
    TRY(file_.write_at(at_, table));

    StoredHeader stored{};
    std::memcpy(stored.magic, stored_magic, sizeof stored.magic);
    stored.version = header.version;
    stored.reader = header.reader;
    stored.raw_size = header.raw_size;
    stored.stored_size = at_ + table.size();
    stored.frame_count = count;
    std::memcpy(stored.index_sha256, header.index_sha256, sizeof stored.index_sha256);
    const Sha256 digest = TRY(sha256(std::as_bytes(std::span(frames_))));
    std::memcpy(stored.frames_sha256, digest.data(), digest.size());
    std::vector<std::byte> front;
    append(front, skippable_magic);
    append(front, static_cast<std::uint32_t>(first_frame_ - skippable_header));
    append(front, stored);
    const auto entries = std::as_bytes(std::span(frames_));
    front.insert(front.end(), entries.begin(), entries.end());
    TRY(file_.write_at(0, front));
    return stored.stored_size;
}

Result<std::size_t> Output::compress(std::span<const std::byte> bytes, int level, bool huffman,
                                     std::vector<std::byte>& to) {
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_compressionLevel, level);
    ZSTD_CCtx_setParameter(context_.get(), ZSTD_c_literalCompressionMode, huffman ? ZSTD_ps_enable : ZSTD_ps_auto);
    const std::size_t n = ZSTD_compress2(context_.get(), to.data(), to.size(), bytes.data(), bytes.size());
    if (ZSTD_isError(n)) return Error::make(Code::unknown, "zstd: %s", ZSTD_getErrorName(n));
    return n;
}

Result<std::uint64_t> Output::emit(std::span<const std::byte> frame, std::size_t raw) {
    if (next_ >= frames_.size()) return Error::make(Code::unknown, "more than %zu frames", frames_.size());
    frames_[next_++] = {at_, static_cast<std::uint32_t>(frame.size()), static_cast<std::uint32_t>(raw), crc32c(frame),
                        0};
    TRY(file_.write_at(at_, frame));
    at_ += frame.size();
    return frame.size();
}

Result<void> check_provenance(std::string_view text) {
    if (!text.empty() && text.size() <= frame_bytes) return {};
    return Error::make(Code::model_format, "provenance has %zu bytes; 1 to %" PRIu64 " fit", text.size(), frame_bytes);
}

std::vector<std::byte> plain_frame(std::span<const std::byte> bytes) {
    std::vector<std::byte> out;
    out.reserve(bytes.size() + bytes.size() / block_bytes * 3 + 32);
    append(out, std::uint32_t{0xFD2FB528});
    append(out, std::uint8_t{
                    0xA0});  // 4 bytes of content size, single segment, no checksum, no dictionary (RFC 8878, 3.1.1.1)
    append(out, static_cast<std::uint32_t>(bytes.size()));
    const auto block = [&](std::span<const std::byte> part, bool rle, bool last) {
        const std::uint32_t header = (last ? 1u : 0u) | (rle ? 2u : 0u) | static_cast<std::uint32_t>(part.size()) << 3;
        for (int shift : {0, 8, 16}) append(out, static_cast<std::uint8_t>(header >> shift));
        out.insert(out.end(), part.begin(), rle ? part.begin() + 1 : part.end());
    };
    // A tail of zeros (padding) from a multiple of 4 KiB on becomes RLE blocks.
    constexpr std::size_t page = 4096;
    std::size_t tail = bytes.size();
    while (tail > page && std::all_of(bytes.begin() + (tail - 1) / page * page, bytes.begin() + tail,
                                      [](std::byte b) { return b == std::byte{}; }))
        tail = (tail - 1) / page * page;
    for (std::size_t at = 0; at < bytes.size();) {
        const std::size_t end = std::min(at < tail ? tail : bytes.size(), at + block_bytes);
        block(bytes.subspan(at, end - at), at >= tail, end == bytes.size());
        at = end;
    }
    return out;
}

}  // namespace slmd::pack
