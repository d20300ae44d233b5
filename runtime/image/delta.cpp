#include "image/delta.h"

#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/file.h"
#include "base/sha256.h"
#include "image/format.h"

namespace slmd::image {
namespace {

// Reads a struct that need not be aligned.
template <class T>
T at(std::span<const std::byte> bytes, std::uint64_t offset) {
    T value;
    std::memcpy(&value, bytes.data() + offset, sizeof value);
    return value;
}

// Up to the first frame of a stored image; empty when it is none.
std::span<const std::byte> front(std::span<const std::byte> file) {
    constexpr std::uint64_t begin = 8 + sizeof(StoredHeader);
    if (file.size() < begin || at<std::uint32_t>(file, 0) != skippable_magic) return {};
    const auto header = at<StoredHeader>(file, 8);
    if (std::memcmp(header.magic, stored_magic, sizeof stored_magic) != 0 || header.frame_count > max_frames) return {};
    const std::uint64_t size = begin + std::uint64_t{header.frame_count} * sizeof(FrameEntry);
    return size <= file.size() ? file.first(size) : std::span<const std::byte>{};
}

}  // namespace

Result<void> apply_delta(const char* old_path, const char* delta_path, const char* new_path) {
    const MappedFile delta_file = TRY(MappedFile::open(delta_path));
    const auto delta = delta_file.bytes();
    if (delta.size() < sizeof(DeltaHeader) || std::memcmp(delta.data(), delta_magic, sizeof delta_magic) != 0)
        return Error::make(Code::model_format, "%s: not a difference of images (slmpack diff makes one)", delta_path);
    const auto header = at<DeltaHeader>(delta, 0);
    if (header.version != delta_version)
        return Error::make(Code::model_format, "%s: version %" PRIu32 ", this program understands %" PRIu32, delta_path,
                           header.version, delta_version);
    const std::uint64_t literals = sizeof header + std::uint64_t{header.op_count} * sizeof(DeltaOp);
    if (header.op_count == 0 || header.op_count > max_delta_ops || literals > delta.size())
        return Error::make(Code::model_format, "%s: the file ends inside its list of %" PRIu32 " pieces; copy it again",
                           delta_path, header.op_count);
    const Sha256 ops_digest = TRY(sha256(delta.subspan(sizeof header, literals - sizeof header)));
    if (std::memcmp(ops_digest.data(), header.ops_sha256, sizeof header.ops_sha256) != 0)
        return Error::make(Code::model_integrity, "%s: its list of pieces is damaged; copy it again", delta_path);

    const MappedFile old_file = TRY(MappedFile::open(old_path));
    const auto old = old_file.bytes();
    const auto old_front = front(old);
    if (old_front.empty())
        return Error::make(Code::model_format, "%s: not a stored image (a raw one has no frames to take)", old_path);
    const Sha256 old_digest = TRY(sha256(old_front));
    if (old.size() != header.old_size || std::memcmp(old_digest.data(), header.old_front, sizeof header.old_front) != 0)
        return Error::make(Code::not_found, "%s is not the image that %s begins from", old_path, delta_path);

    // Everything is checked before anything is written.
    std::uint64_t size = 0, literal_end = literals;
    for (std::uint32_t i = 0; i < header.op_count; i++) {
        const auto op = at<DeltaOp>(delta, sizeof header + std::uint64_t{i} * sizeof(DeltaOp));
        const bool literal = op.kind == DeltaOp::literal;
        const std::uint64_t most = literal ? delta.size() - literals : old.size();
        if (op.kind > DeltaOp::literal || op.length == 0 || op.offset > most || op.length > most - op.offset ||
            (literal && op.offset != literal_end - literals))
            return Error::make(Code::model_format,
                               "%s: piece %" PRIu32 " of %" PRIu32 " lies outside of its file; copy it again",
                               delta_path, i, header.op_count);
        if (literal) literal_end += op.length;
        size += op.length;
        if (size > header.new_size) break;
    }
    if (size != header.new_size || literal_end != delta.size())
        return Error::make(Code::model_format, "%s: its pieces do not add up to the new image; copy it again",
                           delta_path);

    struct Free {
        void operator()(Sha256* p) const { std::free(p); }
    };
    const std::unique_ptr<Sha256[], Free> digests(static_cast<Sha256*>(std::malloc(header.op_count * sizeof(Sha256))));
    if (!digests)
        return Error::make(Code::model_memory, "%s: no memory for its %" PRIu32 " pieces", delta_path, header.op_count);
    AtomicFile out = TRY(AtomicFile::create(new_path));
    for (std::uint32_t i = 0; i < header.op_count; i++) {
        const auto op = at<DeltaOp>(delta, sizeof header + std::uint64_t{i} * sizeof(DeltaOp));
        const auto piece = op.kind == DeltaOp::literal ? delta.subspan(literals + op.offset, op.length)
                                                       : old.subspan(op.offset, op.length);
        digests[i] = TRY(sha256(piece));
        TRY(out.write(piece));
    }
    const Sha256 digest = TRY(sha256(std::as_bytes(std::span(digests.get(), header.op_count))));
    if (std::memcmp(digest.data(), header.new_digest, sizeof header.new_digest) != 0)
        return Error::make(
            Code::model_integrity,
            "%s with %s does not give the image that it was made for: one of them is damaged (slmpack verify %s tells)",
            old_path, delta_path, old_path);
    return out.commit();
}

}  // namespace slmd::image
