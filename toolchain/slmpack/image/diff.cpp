#include "diff.h"

#include <fcntl.h>

#include <cerrno>
#include <cstring>
#include <map>
#include <vector>

#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"
#include "image/delta.h"
#include "image/stored.h"

namespace slmd::pack {
namespace {

using namespace image;

struct Stored {
    MappedFile map;
    StoredFile file;

    static Result<Stored> open(const std::string& path) {
        MappedFile map = TRY(MappedFile::open(path.c_str()));
        if (map.bytes().size() >= sizeof raw_magic && std::memcmp(map.bytes().data(), raw_magic, sizeof raw_magic) == 0)
            return Error::make(Code::model_format,
                               "%s: a raw image has no frames to compare; make the stored form with slmpack import",
                               path.c_str());
        const int fd = ::open(path.c_str(), O_RDONLY | O_CLOEXEC);
        if (fd < 0) return Error::make(Code::storage_failure, "%s: %s", path.c_str(), strerror(errno));
        StoredFile file = TRY(StoredFile::open(path.c_str(), fd, map.bytes().size()));
        for (std::uint32_t i = 0; i < file.frames().size(); i++) {
            const FrameEntry& e = file.frames()[i];
            if (crc32c(map.bytes().subspan(e.offset, e.stored)) != e.crc32c)
                return frame_error(path.c_str(), file, i, "compared", {FrameFault::crc});
        }
        return Stored{std::move(map), std::move(file)};
    }
    std::span<const std::byte> frame(std::size_t i) const {
        return map.bytes().subspan(file.frames()[i].offset, file.frames()[i].stored);
    }
    std::span<const std::byte> front() const {
        return map.bytes().first(8 + sizeof(StoredHeader) + file.frames().size_bytes());
    }
};

}  // namespace

Result<DiffSummary> write_diff(const std::string& old_path, const std::string& new_path,
                               const std::string& delta_path) {
    const Stored before = TRY(Stored::open(old_path)), after = TRY(Stored::open(new_path));
    std::map<Sha256, std::uint64_t> offsets;  // of the old file's frames, by content
    for (std::size_t i = 0; i < before.file.frames().size(); i++) {
        const Sha256 digest = TRY(sha256(before.frame(i)));
        offsets.emplace(digest, before.file.frames()[i].offset);
    }

    DiffSummary summary;
    std::vector<DeltaOp> ops;
    std::vector<std::byte> literals;
    const auto add = [&](DeltaOp::Kind kind, std::uint64_t offset, std::uint64_t length) {
        if (!ops.empty() && ops.back().kind == kind && ops.back().offset + ops.back().length == offset)
            ops.back().length += length;
        else
            ops.push_back({kind, 0, offset, length});
    };
    const auto add_literal = [&](std::span<const std::byte> bytes) {
        if (bytes.empty()) return;
        add(DeltaOp::literal, literals.size(), bytes.size());
        literals.insert(literals.end(), bytes.begin(), bytes.end());
    };
    const auto file = after.map.bytes();
    std::uint64_t at = 0;
    for (std::size_t i = 0; i < after.file.frames().size(); i++) {
        const FrameEntry& e = after.file.frames()[i];
        add_literal(file.subspan(at, e.offset - at));
        at = e.offset + e.stored;
        const Sha256 digest = TRY(sha256(after.frame(i)));
        const auto found = offsets.find(digest);
        if (found == offsets.end()) {
            add_literal(after.frame(i));
        } else {
            add(DeltaOp::copy, found->second, e.stored);
            summary.kept++;
        }
    }
    add_literal(file.subspan(at));
    if (ops.size() > max_delta_ops)
        return Error::make(Code::model_format, "%s: %zu pieces are more than a difference holds", new_path.c_str(),
                           ops.size());

    DeltaHeader header{};
    std::memcpy(header.magic, delta_magic, sizeof header.magic);
    header.version = delta_version;
    header.op_count = static_cast<std::uint32_t>(ops.size());
    header.old_size = before.map.bytes().size();
    header.new_size = file.size();
    std::vector<Sha256> digests;
    for (const DeltaOp& op : ops)
        digests.push_back(TRY(sha256(op.kind == DeltaOp::copy ? before.map.bytes().subspan(op.offset, op.length)
                                                              : std::span(literals).subspan(op.offset, op.length))));
    const Sha256 old_front = TRY(sha256(before.front())), whole = TRY(sha256(std::as_bytes(std::span(digests)))),
                 list = TRY(sha256(std::as_bytes(std::span(ops))));
    std::memcpy(header.old_front, old_front.data(), old_front.size());
    std::memcpy(header.new_digest, whole.data(), whole.size());
    std::memcpy(header.ops_sha256, list.data(), list.size());

    AtomicFile out = TRY(AtomicFile::create(delta_path.c_str()));
    TRY(out.write(std::as_bytes(std::span(&header, 1))));
    TRY(out.write(std::as_bytes(std::span(ops))));
    TRY(out.write(literals));
    TRY(out.commit());
    summary.bytes = sizeof header + ops.size() * sizeof(DeltaOp) + literals.size();
    summary.new_bytes = file.size();
    summary.frames = static_cast<std::uint32_t>(after.file.frames().size());
    return summary;
}

}  // namespace slmd::pack
