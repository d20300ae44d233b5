#include "image/experts.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/memory.h"
#include "image/check.h"
#include "image/layout.h"

namespace slmd::image {
namespace {

constexpr const char* matrix_names[expert_matrices] = {"ffn_gate_exps", "ffn_up_exps", "ffn_down_exps"};

// Which of the three; -1: none.
int matrix_of(const TensorEntry& t) {
    for (int i = 0; i < expert_matrices; i++)
        if (is_expert(t) && std::strstr(t.name, matrix_names[i]) != nullptr) return i;
    return -1;
}

}  // namespace

std::uint64_t Experts::Layout::memory(const ModelParams& p) const {
    return sizeof(Experts) + p.layers * sizeof(LayerShares) +
           std::uint64_t{p.layers} * p.experts * sizeof(std::int32_t) +
           std::uint64_t{p.layers} * p.experts * (sizeof(Slot) + sizeof(std::int32_t)) +  // if all of them are kept
           static_cast<std::uint64_t>(slots) * slot + readers * (scratch + FrameDecoder::bytes(stored));
}

Result<Experts::Layout> Experts::lay_out(const char* path, const StoredFile& file, const ModelParams& p,
                                         std::span<const TensorEntry> tensors, std::uint64_t keep) {
    Layout l{};
    l.layers.reset(new (std::nothrow) LayerShares[p.layers]{});
    if (l.layers == nullptr) return Error::make(Code::model_memory, "%s: no memory for a table of experts", path);
    for (const TensorEntry& t : tensors) {
        const int matrix = matrix_of(t), layer = layer_of(t);
        if (matrix < 0) continue;
        if (layer < 0 || layer >= static_cast<int>(p.layers) || t.rows % (p.experts * block_rows) != 0)
            return Error::make(Code::model_format, "%s: tensor %s is not that of %" PRIu32 " experts", path, t.name,
                               p.experts);
        const struct {
            std::uint64_t offset, size;
        } streams[] = {{t.codes, t.codes_size}, {t.scales, t.scales_size}, {t.steps, t.steps_size}};
        for (int k = 0; k < 3; k++)
            l.layers[layer].shares[3 * matrix + k] = {streams[k].offset, streams[k].size / p.experts};
        // Frames that are not one expert's alone are decoded aside.
        const Extent all = extent_of(t);
        for (std::uint32_t i = file.frame_at(all.begin); i < file.frames().size() && file.raw_offset(i) < all.end;
             i++) {
            const std::uint64_t begin = file.raw_offset(i), end = begin + file.frames()[i].raw;
            l.stored = std::max<std::uint64_t>(l.stored, file.frames()[i].stored);
            l.all_stored += file.frames()[i].stored;
            const bool alone = std::any_of(std::begin(streams), std::end(streams), [&](const auto& s) {
                const std::uint64_t share = s.size / p.experts;
                return s.size != 0 && begin >= s.offset && end <= s.offset + s.size &&
                       (begin - s.offset) / share == (end - 1 - s.offset) / share;
            });
            if (!alone) l.scratch = std::max<std::uint64_t>(l.scratch, file.frames()[i].raw);
        }
    }
    for (std::uint32_t i = 0; i < p.layers; i++) {
        std::uint64_t bytes = 0;
        for (int k = 0; k < 3 * expert_matrices; k++) {
            const std::uint64_t share = l.layers[i].shares[k].bytes;
            if (share == 0 && k % 3 == 0)
                return Error::make(Code::model_format, "%s: tensor blk.%" PRIu32 ".%s is absent", path, i,
                                   matrix_names[k / 3]);
            bytes += round_up(share, stream_align);
        }
        l.slot = std::max(l.slot, bytes);
    }
    l.sizes.each = l.slot;
    l.sizes.least = static_cast<int>(p.experts);
    l.sizes.most = static_cast<int>(p.layers * p.experts);
    l.slots = l.sizes.kept(keep);
    l.sizes.memory = l.memory(p);
    l.sizes.pass = l.all_stored / p.experts * p.experts_used;
    return l;
}

Experts::Sizes Experts::sizes(const StoredFile& file, const ModelParams& p, std::span<const TensorEntry> tensors) {
    const auto layout = lay_out("", file, p, tensors, 0);
    if (!layout) return {};
    return layout.value().sizes;
}

Experts::Experts(const char* path, const StoredFile& file, const RawHeader& header, const ModelParams& params,
                 std::span<const TensorEntry> tensors, std::atomic<std::uint64_t>* progress, Layout layout)
    : path_(path),
      file_(file),
      header_(header),
      tensors_(tensors),
      progress_(progress),
      layout_(std::move(layout)),
      experts_(static_cast<int>(params.experts)),
      slots_(layout_.slots) {}

Result<std::unique_ptr<Experts>> Experts::open(const char* path, const StoredFile& file, const RawHeader& header,
                                               const ModelParams& p, std::span<const TensorEntry> tensors,
                                               const FrameHashes* hashes, std::uint64_t keep,
                                               std::atomic<std::uint64_t>* progress) {
    Layout layout = TRY(lay_out(path, file, p, tensors, keep));
    const std::uint64_t scratch = layout.scratch, stored = layout.stored,
                        bytes = static_cast<std::uint64_t>(layout.slots) * layout.slot + readers * scratch;
    const std::size_t all = std::size_t{p.layers} * p.experts;
    std::unique_ptr<Experts> made(new (std::nothrow)
                                      Experts(path, file, header, p, tensors, progress, std::move(layout)));
    const auto no_memory = [&] {
        return Error::make(Code::model_memory, "%s: no memory to keep %d experts (%" PRIu64 " MiB)", path,
                           made == nullptr ? 0 : made->slots_, bytes >> 20);
    };
    if (made == nullptr || bytes > available_memory()) return no_memory();
    const auto slots = static_cast<std::size_t>(made->slots_);
    made->slot_.reset(new (std::nothrow) Slot[slots]);
    made->slot_of_.reset(new (std::nothrow) std::int32_t[all]);
    made->missing_.reset(new (std::nothrow) std::int32_t[slots]);
    if (made->slot_ == nullptr || made->slot_of_ == nullptr || made->missing_ == nullptr) return no_memory();
    std::fill_n(made->slot_.get(), slots, Slot{-1, 0});
    std::fill_n(made->slot_of_.get(), all, -1);
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return no_memory();
    made->memory_ = static_cast<std::byte*>(memory);
    made->memory_bytes_ = bytes;
    std::byte* aside = made->memory_ + slots * made->layout_.slot;
    for (Reader& r : made->readers_) {
        r.decoder.reset(new (std::nothrow) FrameDecoder(file, stored, hashes));
        if (r.decoder == nullptr) return no_memory();
        r.scratch = aside;
        aside += scratch;
    }
    return made;
}

Experts::~Experts() {
    if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

void Experts::reserve(int layer, std::span<const std::uint16_t> experts) {
    const std::uint64_t before = clock_;
    missing_count_ = 0;
    for (const std::uint16_t e : experts)
        if (const std::int32_t at = slot_of_[layer * experts_ + e]; at >= 0) slot_[at].used = ++clock_;
    for (const std::uint16_t e : experts) {
        const std::int32_t key = layer * experts_ + e;
        if (slot_of_[key] >= 0) continue;
        // There are as many as a layer has: one of them is not of this call.
        Slot* oldest = slot_.get();
        for (int i = 1; i < slots_; i++)
            if (slot_[i].used < oldest->used) oldest = &slot_[i];
        if (oldest->used > before) break;  // never, of experts that differ
        if (oldest->key >= 0) slot_of_[oldest->key] = -1;
        *oldest = {key, ++clock_};
        slot_of_[key] = static_cast<std::int32_t>(oldest - slot_.get());
        missing_[missing_count_++] = slot_of_[key];
        for (const Share& s : layout_.layers[layer].shares) {
            if (s.bytes == 0) continue;
            const std::uint64_t begin = s.offset + e * s.bytes;
            const std::uint32_t first = file_.frame_at(begin), last = file_.frame_at(begin + s.bytes - 1);
            const FrameEntry &from = file_.frames()[first], &to = file_.frames()[last];
            posix_fadvise(file_.fd(), static_cast<off_t>(from.offset),
                          static_cast<off_t>(to.offset + to.stored - from.offset), POSIX_FADV_WILLNEED);
        }
    }
}

FrameFault Experts::copy(const Share& share, int expert, std::byte* to, Reader& reader) const {
    const std::uint64_t begin = share.offset + static_cast<std::uint64_t>(expert) * share.bytes,
                        end = begin + share.bytes;
    for (std::uint64_t at = begin; at < end;) {
        const std::uint32_t i = file_.frame_at(at);
        const std::uint64_t first = file_.raw_offset(i), last = first + file_.frames()[i].raw,
                            stop = std::min(last, end);
        const bool alone = first >= begin && last <= end;
        reader.faulty = i;
        if (const FrameFault fault = reader.decoder->decode(i, alone ? to + (first - begin) : reader.scratch))
            return fault;
        if (progress_ != nullptr) progress_->fetch_add(1, std::memory_order_relaxed);
        if (!alone) std::memcpy(to + (at - begin), reader.scratch + (at - first), stop - at);
        at = stop;
    }
    return {};
}

void Experts::read(int i, int reader) {
    Reader& r = readers_[reader];
    const std::int32_t slot = missing_[i], key = slot_[slot].key;
    std::byte* to = memory_ + static_cast<std::uint64_t>(slot) * layout_.slot;
    for (const Share& s : layout_.layers[key / experts_].shares) {
        if (s.bytes == 0 || r.fault) continue;
        r.fault = copy(s, key % experts_, to, r);
        to += round_up(s.bytes, stream_align);
    }
}

Result<void> Experts::finish() {
    decoded_ += static_cast<std::uint64_t>(missing_count_);
    const Reader* failed = nullptr;
    for (const Reader& r : readers_)
        if (r.fault) failed = &r;
    if (failed == nullptr) return {};
    for (int i = 0; i < missing_count_; i++) {
        Slot& s = slot_[missing_[i]];
        slot_of_[s.key] = -1;
        s = {-1, 0};
    }
    char what[96];
    const std::uint64_t begin = file_.raw_offset(failed->faulty);
    name_place(header_, tensors_, begin, begin + file_.frames()[failed->faulty].raw, what, sizeof what);
    const Error e = frame_error(path_, file_, failed->faulty, what, failed->fault);
    for (Reader& r : readers_) r.fault = {};
    return e;
}

Expert Experts::place(int layer, int expert) const {
    const std::byte* at = memory_ + static_cast<std::uint64_t>(slot_of_[layer * experts_ + expert]) * layout_.slot;
    const Share* share = layout_.layers[layer].shares;
    const auto next = [&] {
        const std::byte* const here = share->bytes == 0 ? nullptr : at;
        at += round_up(share++->bytes, stream_align);
        return here;
    };
    Expert e{};
    for (int matrix = 0; matrix < expert_matrices; matrix++) {
        e.codes[matrix] = next();
        e.scales[matrix] = next();
        e.steps[matrix] = next();
    }
    return e;
}

}  // namespace slmd::image
