#include "image/resident.h"

#include <algorithm>
#include <atomic>
#include <cinttypes>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <new>

#include "base/bytes.h"
#include "base/sha256.h"
#include "image/check.h"
#include "image/layout.h"
#include "image/threads.h"

namespace slmd::image {

bool is_on_demand(const TensorEntry& t) {
    return t.residency == residency_on_demand && t.kind != Kind::f32 && std::strcmp(t.name, "token_embd") == 0;
}

int layer_of(const TensorEntry& t) {
    unsigned layer = 0;
    int end = 0;
    return std::sscanf(t.name, "blk.%3u.%n", &layer, &end) == 1 && end > 0 ? static_cast<int>(layer) : -1;
}

bool is_expert(const TensorEntry& t) {
    const std::string_view name = t.name;
    return t.kind != Kind::f32 && name.ends_with("_exps") && layer_of(t) >= 0;
}

bool is_streamed(const TensorEntry& t) { return t.kind != Kind::f32 && layer_of(t) >= 0; }

Extent extent_of(const TensorEntry& t) {
    const std::uint64_t end = std::max({t.codes + t.codes_size, t.scales + t.scales_size, t.steps + t.steps_size});
    return {t.codes, round_up(end, stream_align)};
}

Result<FrameSet> absent_frames(const char* path, const StoredFile& file, std::span<const TensorEntry> tensors,
                               Residency residency) {
    FrameSet absent;
    for (const TensorEntry& t : tensors) {
        if (!is_absent(t, residency)) continue;
        const std::size_t n = file.frames().size();
        if (absent == nullptr) absent.reset(new (std::nothrow) std::uint8_t[n]{});
        if (absent == nullptr)
            return Error::make(Code::model_memory, "%s: no memory for a table of %zu frames", path, n);
        const Extent e = extent_of(t);
        for (std::uint32_t i = file.frame_at(e.begin); i < n && file.raw_offset(i) < e.end; i++)
            absent[i] = file.raw_offset(i) >= e.begin && file.raw_offset(i) + file.frames()[i].raw <= e.end;
    }
    return absent;
}

std::uint64_t resident_bytes(const StoredFile& file, const FrameSet& absent) {
    std::uint64_t bytes = 0;
    for (std::size_t i = 0; i < file.frames().size(); i++)
        if (absent == nullptr || absent[i] == 0) bytes += file.frames()[i].raw;
    return bytes;
}

Result<std::unique_ptr<FrameHashes>> FrameHashes::make(const char* path, std::uint32_t frames) {
    std::unique_ptr<FrameHashes> made(new (std::nothrow) FrameHashes);
    if (made != nullptr) made->hashes_.reset(new (std::nothrow) std::uint8_t[frames * size]{});
    if (made == nullptr || made->hashes_ == nullptr)
        return Error::make(Code::model_memory, "%s: no memory for the hashes of %" PRIu32 " frames", path, frames);
    return made;
}

Result<void> FrameHashes::set(std::uint32_t frame, std::span<const std::byte> stored) {
    const Sha256 digest = TRY(sha256(stored));
    std::memcpy(hashes_.get() + frame * size, digest.data(), size);
    return {};
}

bool FrameHashes::holds(std::uint32_t frame, std::span<const std::byte> stored) const {
    const auto digest = sha256(stored);
    return digest && std::memcmp(hashes_.get() + frame * size, digest.value().data(), size) == 0;
}

namespace {

struct Checking {
    const char* path;
    const StoredFile& file;
    const RawHeader& header;
    std::span<const TensorEntry> tensors;
    const OpenOptions& options;
    FrameHashes& hashes;
    std::atomic<std::size_t> next{0};
    std::atomic<bool> failed{false};
    Error error{};  // written once, by whoever set failed
};

// The tensor's bytes as its hash has them: its streams, without their padding, which has to be zero.
Result<void> check_tensor(const Checking& c, const TensorEntry& t, FrameDecoder& decoder, std::byte* frame,
                          bool reports) {
    const Extent all = extent_of(t);
    Sha256Stream hash;
    for (std::uint64_t at = all.begin; at < all.end;) {
        const std::uint32_t i = c.file.frame_at(at);
        const std::uint64_t begin = c.file.raw_offset(i), end = begin + c.file.frames()[i].raw;
        if (const FrameFault fault = decoder.decode(i, frame)) {
            char place[96];
            name_place(c.header, c.tensors, begin, end, place, sizeof place);
            return frame_error(c.path, c.file, i, place, fault);
        }
        TRY(c.hashes.set(i, decoder.stored(i)));
        // What is resident was counted as all there is.
        if (reports && c.options.progress != nullptr) c.options.progress(c.options.context, 1, 1);
        const std::uint64_t stop = std::min(end, all.end);
        const struct {
            std::uint64_t offset, size;
        } streams[] = {{t.codes, t.codes_size}, {t.scales, t.scales_size}, {t.steps, t.steps_size}};
        for (const auto& s : streams) {
            if (s.size == 0) continue;
            const std::uint64_t from = std::max(at, s.offset), to = std::min(stop, s.offset + s.size);
            if (from >= to) continue;
            hash.update({frame + (from - begin), to - from});
            if (!std::all_of(frame + (at - begin), frame + (from - begin),
                             [](std::byte b) { return b == std::byte{}; }))
                break;
            at = to;
        }
        if (!std::all_of(frame + (at - begin), frame + (stop - begin), [](std::byte b) { return b == std::byte{}; }))
            return Error::make(Code::model_integrity,
                               "%s: tensor %s: there is something between its streams; copy the file again or run "
                               "slmpack verify",
                               c.path, t.name);
        at = stop;
    }
    const Sha256 digest = TRY(hash.finish());
    if (std::memcmp(digest.data(), t.sha256, sizeof t.sha256) != 0)
        return Error::make(Code::model_integrity,
                           "%s: tensor %s: SHA-256 mismatch; copy the file again or run slmpack verify", c.path,
                           t.name);
    return {};
}

void check_tensors(Checking& c, bool reports) {
    FrameDecoder decoder(c.file);
    auto* const frame = static_cast<std::byte*>(std::malloc(frame_bytes));
    while (!c.failed.load(std::memory_order_relaxed)) {
        const std::size_t i = c.next.fetch_add(1, std::memory_order_relaxed);
        if (i >= c.tensors.size()) break;
        if (!is_absent(c.tensors[i], c.options.residency)) continue;
        const auto checked = frame == nullptr
                                 ? Result<void>(Error::make(Code::model_memory, "%s: no memory to check it", c.path))
                                 : check_tensor(c, c.tensors[i], decoder, frame, reports);
        if (!checked && !c.failed.exchange(true)) c.error = checked.error();
    }
    std::free(frame);
}

}  // namespace

Result<std::unique_ptr<FrameHashes>> verify_absent(const char* path, const StoredFile& file, const RawHeader& header,
                                                   std::span<const TensorEntry> tensors, const OpenOptions& options) {
    auto hashes = TRY(FrameHashes::make(path, static_cast<std::uint32_t>(file.frames().size())));
    Checking job{
        .path = path, .file = file, .header = header, .tensors = tensors, .options = options, .hashes = *hashes};
    run_together(
        options.threads, [](void* context, bool own) { check_tensors(*static_cast<Checking*>(context), own); }, &job);
    if (job.failed) return job.error;
    return hashes;
}

}  // namespace slmd::image
