#include "image/audit.h"

#include <fcntl.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/sha256.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/signature.h"
#include "image/stored.h"

namespace slmd::image {
namespace {

struct Free {
    void operator()(void* p) const { std::free(p); }
};
template <class T>
using Heap = std::unique_ptr<T[], Free>;
template <class T>
Heap<T> heap(std::size_t count) {
    return Heap<T>(static_cast<T*>(std::malloc(count * sizeof(T))));
}

// A stretch of the raw form that a hash is over; the streams of a tensor are three, of which the last has the hash.
struct Piece {
    std::uint64_t offset, size;
    const std::uint8_t* want;  // null: goes on in the next one, or has no hash
    std::size_t want_size;
    bool header;         // or index: covered otherwise
    const char* tensor;  // null: a section
    std::uint32_t section;
};

// In the order of the file, which check_header() and check_index() made sure of. Gives how many.
std::size_t list_pieces(const RawHeader& header, std::span<const TensorEntry> tensors, Piece* out) {
    std::size_t n = 0;
    out[n++] = {0, sizeof header, nullptr, 0, true, nullptr, 0};
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        const auto id = static_cast<SectionId>(s.id);
        if (id != SectionId::tensors) {
            const bool index = id == SectionId::index;
            out[n++] = {s.offset, s.size, index ? nullptr : header.section_sha256[i], sizeof(Sha256), index,
                        nullptr,  s.id};
            continue;
        }
        for (const TensorEntry& t : tensors) {
            for (const auto& [offset, size] : {std::pair{t.codes, t.codes_size}, std::pair{t.scales, t.scales_size},
                                               std::pair{t.steps, t.steps_size}})
                if (size != 0) out[n++] = {offset, size, nullptr, 0, false, t.name, 0};
            out[n - 1].want = t.sha256;
            out[n - 1].want_size = sizeof t.sha256;
        }
    }
    return n;
}

// Takes the raw form in order, in any cuts.
class Walk {
  public:
    Walk(const char* path, std::span<const Piece> pieces) : path_(path), pieces_(pieces) {}

    Result<void> take(std::span<const std::byte> bytes) {
        while (!bytes.empty()) {
            const Piece* const piece = at_piece_ < pieces_.size() ? &pieces_[at_piece_] : nullptr;
            const bool inside = piece != nullptr && at_ >= piece->offset;
            const std::uint64_t end = piece == nullptr ? at_ + bytes.size()
                                      : inside         ? piece->offset + piece->size
                                                       : piece->offset;
            const auto part = bytes.first(std::min<std::uint64_t>(bytes.size(), end - at_));
            bytes = bytes.subspan(part.size());
            at_ += part.size();
            if (!inside && !std::all_of(part.begin(), part.end(), [](std::byte b) { return b == std::byte{}; }))
                return Error::make(Code::model_integrity,
                                   "%s: there is something between its sections or tensors; copy the file again",
                                   path_);
            if (inside && !piece->header) hash_.update(part);
            if (inside && at_ == end) TRY(finish(*piece));
        }
        return {};
    }

  private:
    Result<void> finish(const Piece& piece) {
        at_piece_++;
        if (piece.header || piece.want == nullptr) return {};
        const Sha256 digest = TRY(hash_.finish());
        if (std::memcmp(digest.data(), piece.want, piece.want_size) == 0) return {};
        return Error::make(Code::model_integrity,
                           "%s: %s %s: SHA-256 mismatch; copy the file again or run slmpack verify", path_,
                           piece.tensor == nullptr ? "section" : "tensor",
                           piece.tensor == nullptr ? section_name(piece.section) : piece.tensor);
    }

    const char* path_;
    std::span<const Piece> pieces_;
    std::size_t at_piece_ = 0;
    std::uint64_t at_ = 0;
    Sha256Stream hash_;
};

}  // namespace

Result<void> audit(const char* path, const Trust& trust) {
    const Image index = TRY(Image::open_index(path, trust));
    const RawHeader& header = index.header();
    if (!index.sizes().compressed) {  // a map: its pages are the system's to take back
        const OpenOptions options{.trust = trust};
        const Image raw = TRY(Image::open(path, options));
        return has_hashes(header) ? verify_hashes(path, header, raw.tensors(), raw.raw(), options) : Result<void>{};
    }
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    struct stat st;
    if (fd < 0 || fstat(fd, &st) != 0) {
        const int reason = errno;
        if (fd >= 0) close(fd);
        return Error::make(Code::storage_failure, "%s: %s", path, strerror(reason));
    }
    const StoredFile file = TRY(StoredFile::open(path, fd, static_cast<std::uint64_t>(st.st_size)));
    const auto pieces = heap<Piece>(1 + sizeof header.sections / sizeof(Section) + 3 * index.tensors().size());
    const auto raw = heap<std::byte>(frame_bytes);
    if (!pieces || !raw) return Error::make(Code::model_memory, "%s: no memory to check it", path);
    const std::size_t count = list_pieces(header, index.tensors(), pieces.get());
    const bool hashed = has_hashes(header);
    Walk walk(path, {pieces.get(), count});
    FrameDecoder decoder(file);
    for (std::uint32_t i = 0; i < file.header().frame_count; i++) {
        const std::span<std::byte> out(raw.get(), file.frames()[i].raw);
        if (const FrameFault fault = decoder.decode(i, out.data())) {
            char place[96];
            name_place(header, index.tensors(), file.raw_offset(i), file.raw_offset(i) + out.size(), place,
                       sizeof place);
            return frame_error(path, file, i, place, fault);
        }
        if (hashed) TRY(walk.take(out));
    }
    return {};
}

}  // namespace slmd::image
