#include "image/stored.h"

#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <utility>

#include "base/bytes.h"
#include "base/sha256.h"
#include "image/resident.h"

namespace slmd::image {
namespace {

struct SkippableHeader {
    std::uint32_t magic, size;
};

constexpr std::uint64_t header_end = sizeof(SkippableHeader) + sizeof(StoredHeader);

// All of out, or the reason why not.
FrameFault read_at(int fd, std::uint64_t offset, std::span<std::byte> out) {
    while (!out.empty()) {
        const ssize_t n = pread(fd, out.data(), out.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return {FrameFault::io, errno};
        if (n == 0) return {FrameFault::truncated};
        out = out.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::uint64_t>(n);
    }
    return {};
}

template <class T>
std::span<std::byte> bytes_of(T& object) {
    return std::as_writable_bytes(std::span(&object, 1));
}

}  // namespace

const char* FrameFault::text() const {
    switch (kind) {
        case none: return "no error";
        case io: return strerror(reason);
        case truncated: return "the file ends inside it";
        case crc: return "CRC mismatch";
        case zstd: return "not valid zstd data";
        case size: return "decodes to a wrong size";
        case memory: return "no memory to decode it";
        case hash: return "SHA-256 mismatch: the file was changed since it was opened";
    }
    return "?";
}

Error frame_error(const char* path, const StoredFile& file, std::uint32_t frame, const char* what, FrameFault fault) {
    const auto count = static_cast<std::uint32_t>(file.frames().size());
    if (fault.kind == FrameFault::memory)
        return Error::make(Code::model_memory, "%s: frame %" PRIu32 " of %" PRIu32 " (%s): %s", path, frame, count,
                           what, fault.text());
    const Code code = fault.kind == FrameFault::io ? Code::storage_failure : Code::model_integrity;
    return Error::make(code, "%s: frame %" PRIu32 " of %" PRIu32 " (%s): %s; copy the file again or run slmpack verify",
                       path, frame, count, what, fault.text());
}

Result<StoredHeader> StoredFile::read_header(const char* path, int fd, std::uint64_t file_size) {
    SkippableHeader skippable{};
    StoredHeader h;
    if (file_size < header_end)
        return Error::make(Code::model_integrity,
                           "%s: the file ends inside its header (%" PRIu64 " bytes); copy it again", path, file_size);
    FrameFault fault = read_at(fd, 0, bytes_of(skippable));
    if (!fault) fault = read_at(fd, sizeof skippable, bytes_of(h));
    if (fault) return Error::make(Code::storage_failure, "%s: cannot read the header: %s", path, fault.text());
    if (skippable.magic != skippable_magic || std::memcmp(h.magic, stored_magic, sizeof stored_magic) != 0)
        return Error::make(Code::model_format, "%s: a zstd file, but not a model image (wrong magic)", path);
    if (h.reader > reader_version)
        return Error::make(Code::model_format,
                           "%s: written for a newer reader (%" PRIu32 "; this program reads up to %" PRIu32
                           "): update slmd, or import the model again with this slmpack",
                           path, h.reader, reader_version);
    if (h.version < h.reader || h.reader == 0 || h.reserved != 0)
        return Error::make(Code::model_format, "%s: impossible format version %" PRIu32 " in the header", path,
                           h.version);
    if (h.stored_size != file_size)
        return Error::make(Code::model_integrity,
                           "%s: the file has %" PRIu64 " bytes and should have %" PRIu64
                           ": incomplete or damaged, copy it again",
                           path, file_size, h.stored_size);
    const std::uint64_t table_size = std::uint64_t{h.frame_count} * sizeof(FrameEntry);
    if (h.frame_count == 0 || h.frame_count > max_frames || table_size > file_size - header_end ||
        skippable.size != sizeof(StoredHeader) + table_size)
        return Error::make(Code::model_format, "%s: impossible number of frames: %" PRIu32, path, h.frame_count);
    return h;
}

Result<StoredFile> StoredFile::open(const char* path, int fd, std::uint64_t file_size) {
    StoredFile f;
    f.fd_ = fd;
    f.header_ = TRY(read_header(path, fd, file_size));
    const StoredHeader& h = f.header_;
    const std::uint64_t table_size = std::uint64_t{h.frame_count} * sizeof(FrameEntry);

    f.entries_ = static_cast<FrameEntry*>(std::malloc(table_size));
    f.raw_offsets_ = static_cast<std::uint64_t*>(std::malloc((h.frame_count + 1) * sizeof(std::uint64_t)));
    if (f.entries_ == nullptr || f.raw_offsets_ == nullptr)
        return Error::make(Code::model_memory, "%s: no memory for a table of %" PRIu32 " frames", path, h.frame_count);
    const auto table = std::as_writable_bytes(std::span(f.entries_, h.frame_count));
    const FrameFault fault = read_at(fd, header_end, table);
    if (fault) return Error::make(Code::storage_failure, "%s: cannot read the frame table: %s", path, fault.text());
    const Sha256 digest = TRY(sha256(table));
    if (std::memcmp(digest.data(), h.frames_sha256, digest.size()) != 0)
        return Error::make(Code::model_integrity,
                           "%s: frame table: SHA-256 mismatch; copy the file again or run slmpack verify", path);

    std::uint64_t at = header_end + table_size, raw = 0;
    for (std::uint32_t i = 0; i < h.frame_count; i++) {
        const FrameEntry& e = f.entries_[i];
        if (e.offset != at || e.raw == 0 || e.raw > frame_bytes || e.stored == 0 ||
            e.stored > ZSTD_COMPRESSBOUND(frame_bytes) || e.stored > file_size - at)
            return Error::make(Code::model_format,
                               "%s: frame table: frame %" PRIu32 " of %" PRIu32 " has an impossible place or size",
                               path, i, h.frame_count);
        f.raw_offsets_[i] = raw;
        at += e.stored;
        raw += e.raw;
        f.largest_stored_ = std::max(f.largest_stored_, e.stored);
    }
    f.raw_offsets_[h.frame_count] = raw;
    if (raw != h.raw_size || raw < sizeof(RawHeader))
        return Error::make(Code::model_format,
                           "%s: frame table: frames decode to %" PRIu64 " bytes, the header says %" PRIu64, path, raw,
                           h.raw_size);
    // What is left is the seek table: 8 bytes a frame, counting the leading skippable frame as one.
    if (file_size - at != sizeof(SkippableHeader) + (h.frame_count + 1ull) * 8 + 9)
        return Error::make(Code::model_format, "%s: the seek table does not follow the last frame", path);
    return f;
}

StoredFile::StoredFile(StoredFile&& o) noexcept
    : fd_(std::exchange(o.fd_, -1)),
      header_(o.header_),
      entries_(std::exchange(o.entries_, nullptr)),
      raw_offsets_(std::exchange(o.raw_offsets_, nullptr)),
      largest_stored_(o.largest_stored_) {}

StoredFile::~StoredFile() {
    if (fd_ >= 0) close(fd_);
    std::free(entries_);
    std::free(raw_offsets_);
}

std::uint32_t StoredFile::frame_at(std::uint64_t at) const {
    const std::uint64_t* begin = raw_offsets_;
    return static_cast<std::uint32_t>(std::upper_bound(begin, begin + header_.frame_count + 1, at) - begin - 1);
}

Result<void> StoredFile::read(const char* path, const char* what, std::uint64_t offset,
                              std::span<std::byte> out) const {
    FrameDecoder decoder(*this);
    auto* frame = static_cast<std::byte*>(std::malloc(frame_bytes));
    const std::uint64_t end = offset + out.size();
    for (std::uint64_t at = offset; at < end;) {
        const std::uint32_t i = frame_at(at);
        const FrameFault fault = frame == nullptr ? FrameFault{FrameFault::memory} : decoder.decode(i, frame);
        if (fault) {
            std::free(frame);
            return frame_error(path, *this, i, what, fault);
        }
        const std::uint64_t stop = std::min(end, raw_offsets_[i + 1]);
        std::memcpy(out.data() + (at - offset), frame + (at - raw_offsets_[i]), stop - at);
        at = stop;
    }
    std::free(frame);
    return {};
}

FrameDecoder::FrameDecoder(const StoredFile& file, std::uint64_t largest_stored, const FrameHashes* hashes)
    : file_(file),
      hashes_(hashes),
      stored_(static_cast<std::byte*>(std::malloc(largest_stored))),
      context_(ZSTD_createDCtx()) {
    if (stored_ != nullptr) std::memset(stored_, 0, largest_stored);
}

FrameDecoder::~FrameDecoder() {
    std::free(stored_);
    ZSTD_freeDCtx(context_);
}

FrameFault FrameDecoder::decode(std::uint32_t frame, std::byte* out) {
    if (stored_ == nullptr || context_ == nullptr) return {FrameFault::memory};
    const FrameEntry& e = file_.frames()[frame];
    // pread, not a map: a bad sector or a file cut short while we read is an error here, not a SIGBUS.
    if (const FrameFault fault = read_at(file_.fd(), e.offset, {stored_, e.stored})) return fault;
    if (crc32c({stored_, e.stored}) != e.crc32c) return {FrameFault::crc};
    if (hashes_ != nullptr && !hashes_->holds(frame, {stored_, e.stored})) return {FrameFault::hash};
    const std::size_t n = ZSTD_decompressDCtx(context_, out, e.raw, stored_, e.stored);
    if (ZSTD_isError(n)) return {FrameFault::zstd};
    if (n != e.raw) return {FrameFault::size};
    return {};
}

}  // namespace slmd::image
