#include "image/rows.h"

#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstdio>
#include <cstring>
#include <new>

#include "base/bytes.h"
#include "image/layout.h"

namespace slmd::image {
namespace {

// Of decoded frames. Most tokens of a text are among the first thousands of a vocabulary, which BPE sorts by frequency.
constexpr std::uint64_t kept_bytes = 2u << 20;
constexpr int least_kept = 4;  // codes, scales and steps of one block, and one more

StreamSizes of_block(const TensorEntry& t) { return stream_sizes(t.kind, block_rows, t.cols); }

}  // namespace

std::uint64_t Rows::Layout::total() const {
    return round_up(block, 64) + static_cast<std::uint64_t>(kept) * round_up(frame, 64);
}

Rows::Layout Rows::layout_of(const StoredFile& file, const TensorEntry& t) {
    Layout l{};
    const Extent all = extent_of(t);
    for (std::uint32_t i = file.frame_at(all.begin); i <= file.frame_at(all.end - 1); i++) {
        l.frame = std::max<std::uint64_t>(l.frame, file.frames()[i].raw);
        l.stored = std::max<std::uint64_t>(l.stored, file.frames()[i].stored);
    }
    const StreamSizes block = of_block(t);
    l.block = round_up(block.codes, 64) + round_up(block.scales, 64) + block.steps;
    l.kept = static_cast<int>(std::clamp<std::uint64_t>(kept_bytes / l.frame, least_kept, max_kept));
    return l;
}

std::uint64_t Rows::bytes(const StoredFile& file, const TensorEntry& tensor) {
    const Layout l = layout_of(file, tensor);
    return sizeof(Rows) + l.total() + FrameDecoder::bytes(l.stored);
}

Rows::Rows(const char* path, const StoredFile& file, const TensorEntry& tensor, const FrameHashes* hashes,
           const Layout& layout)
    : path_(path), file_(file), tensor_(tensor), decoder_(file, layout.stored, hashes) {}

Result<std::unique_ptr<Rows>> Rows::open(const char* path, const StoredFile& file, const TensorEntry& tensor,
                                         const FrameHashes* hashes) {
    const Layout l = layout_of(file, tensor);
    std::unique_ptr<Rows> rows(new (std::nothrow) Rows(path, file, tensor, hashes, l));
    if (rows != nullptr) {
        rows->memory_bytes_ = l.total();
        void* const memory = mmap(nullptr, rows->memory_bytes_, PROT_READ | PROT_WRITE,
                                  MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
        if (memory != MAP_FAILED) rows->memory_ = static_cast<std::byte*>(memory);
    }
    if (rows == nullptr || rows->memory_ == nullptr)
        return Error::make(Code::model_memory, "%s: no memory to decode rows of %s (%" PRIu64 " KiB)", path,
                           tensor.name, l.total() >> 10);
    rows->block_ = rows->memory_;
    rows->count_ = l.kept;
    for (int i = 0; i < l.kept; i++)
        rows->frames_[i] = {
            UINT32_MAX, 0,
            rows->memory_ + round_up(l.block, 64) + static_cast<std::uint64_t>(i) * round_up(l.frame, 64)};
    return rows;
}

Rows::~Rows() {
    if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

FrameFault Rows::keep(std::uint32_t frame, const std::byte*& bytes) {
    Frame* oldest = frames_;
    for (int i = 0; i < count_; i++) {
        Frame& f = frames_[i];
        if (f.number == frame) {
            f.used = ++clock_;
            bytes = f.bytes;
            return {};
        }
        if (f.used < oldest->used) oldest = &f;
    }
    oldest->number = UINT32_MAX;  // what is half decoded is nobody's
    oldest->used = 0;
    decoded_++;
    if (const FrameFault fault = decoder_.decode(frame, oldest->bytes)) return fault;
    oldest->number = frame;
    oldest->used = ++clock_;
    bytes = oldest->bytes;
    return {};
}

Result<void> Rows::copy(const char* stream, std::uint64_t offset, std::uint64_t size, std::byte* out) {
    for (const std::uint64_t end = offset + size; offset < end;) {
        const std::uint32_t i = file_.frame_at(offset);
        const std::byte* bytes = nullptr;
        if (const FrameFault fault = keep(i, bytes)) {
            char what[96];
            std::snprintf(what, sizeof what, "%s %s", tensor_.name, stream);
            return frame_error(path_, file_, i, what, fault);
        }
        const std::uint64_t at = offset - file_.raw_offset(i), n = std::min(end - offset, file_.frames()[i].raw - at);
        std::memcpy(out, bytes + at, n);
        out += n;
        offset += n;
    }
    return {};
}

Result<RowBlock> Rows::block(std::uint32_t row) {
    const std::uint64_t i = row / block_rows;
    const StreamSizes size = of_block(tensor_);
    std::byte *const to_scales = block_ + round_up(size.codes, 64), *const to_steps =
                                                                        to_scales + round_up(size.scales, 64);
    TRY(copy("codes", tensor_.codes + i * size.codes, size.codes, block_));
    TRY(copy("scales", tensor_.scales + i * size.scales, size.scales, to_scales));
    TRY(copy("steps", tensor_.steps + i * size.steps, size.steps, to_steps));
    return RowBlock{block_, to_scales, to_steps};
}

}  // namespace slmd::image
