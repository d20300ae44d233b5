#include "image/layers.h"

#include <fcntl.h>
#include <sys/mman.h>

#include <algorithm>
#include <cinttypes>
#include <cstring>
#include <new>
#include <utility>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/memory.h"
#include "image/check.h"
#include "image/threads.h"

namespace slmd::image {
namespace {

constexpr std::uint64_t readahead_bytes = 4u << 20;

struct Lock {
    explicit Lock(pthread_mutex_t& m) : mutex(m) { pthread_mutex_lock(&mutex); }
    ~Lock() { pthread_mutex_unlock(&mutex); }
    pthread_mutex_t& mutex;
};

}  // namespace

std::uint64_t Layers::Layout::memory() const {
    return sizeof(Layers) + layers * sizeof(Unit) + frames * sizeof(std::uint32_t) +
           static_cast<std::uint64_t>(places()) * place_bytes + readers * FrameDecoder::bytes(largest_stored);
}

Result<Layers::Layout> Layers::lay_out(const char* path, const StoredFile& file, std::span<const TensorEntry> tensors) {
    Layout l;
    l.units.reset(new (std::nothrow) Unit[max_layers]{});
    l.order.reset(new (std::nothrow) std::uint32_t[file.frames().size()]);
    if (l.units == nullptr || l.order == nullptr)
        return Error::make(Code::model_memory, "%s: no memory for a table of %zu frames", path, file.frames().size());
    for (const TensorEntry& t : tensors) {
        if (!is_streamed(t)) continue;
        const int layer = layer_of(t);
        const Extent all = extent_of(t);
        const bool follows = layer + 1 == static_cast<int>(l.layers) || layer == static_cast<int>(l.layers);
        if (!follows || layer >= static_cast<int>(max_layers))
            return Error::make(Code::model_format,
                               "%s: tensor %s: layers do not follow each other, and cannot be streamed; import the "
                               "model again",
                               path, t.name);
        Unit& unit = l.units[layer];
        if (layer == static_cast<int>(l.layers)) {
            l.layers++;
            unit = {all.begin, all.begin, l.frames, 0};
        }
        unit.end = all.end;
        l.place_bytes = std::max(l.place_bytes, round_up(unit.end - unit.begin, 4096));
        std::uint64_t at = all.begin;
        for (std::uint32_t i = file.frame_at(at); at < all.end && file.raw_offset(i) == at; i++) {
            l.order[l.frames++] = i;
            unit.count++;
            at += file.frames()[i].raw;
            l.largest_stored = std::max<std::uint64_t>(l.largest_stored, file.frames()[i].stored);
            l.pass_bytes += file.frames()[i].stored;
        }
        if (at != all.end)
            return Error::make(Code::model_format,
                               "%s: tensor %s: its frames hold others too, and cannot be streamed; import the model "
                               "again",
                               path, t.name);
    }
    if (l.layers == 0) return Error::make(Code::model_format, "%s: there are no layers to stream", path);
    return l;
}

Layers::Sizes Layers::sizes(const StoredFile& file, std::span<const TensorEntry> tensors) {
    const auto layout = lay_out("", file, tensors);
    return layout ? Sizes{layout.value().memory(), layout.value().pass_bytes} : Sizes{};
}

Layers::Layers(const char* path, const StoredFile& file, const RawHeader& header, std::span<const TensorEntry> tensors,
               std::atomic<std::uint64_t>* progress, Layout layout)
    : path_(path),
      file_(file),
      header_(header),
      tensors_(tensors),
      progress_(progress),
      layout_(std::move(layout)),
      pass_bytes_(layout_.pass_bytes) {}

Result<std::unique_ptr<Layers>> Layers::open(const char* path, const StoredFile& file, const RawHeader& header,
                                             std::span<const TensorEntry> tensors, const FrameHashes* hashes,
                                             std::atomic<std::uint64_t>* progress) {
    Layout layout = TRY(lay_out(path, file, tensors));
    const std::uint64_t bytes = static_cast<std::uint64_t>(layout.places()) * layout.place_bytes,
                        stored = layout.largest_stored;
    std::unique_ptr<Layers> made(new (std::nothrow) Layers(path, file, header, tensors, progress, std::move(layout)));
    const auto no_memory = [&] {
        return Error::make(Code::model_memory, "%s: no memory for two layers (%" PRIu64 " MiB)", path, bytes >> 20);
    };
    if (made == nullptr || bytes > available_memory()) return no_memory();
    void* const memory =
        mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_POPULATE, -1, 0);
    if (memory == MAP_FAILED) return no_memory();
    made->memory_ = static_cast<std::byte*>(memory);
    made->memory_bytes_ = bytes;

    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, stack_bytes);
    int failure = 0;
    for (Reader& r : made->readers_) {
        r.layers = made.get();
        r.decoder.reset(new (std::nothrow) FrameDecoder(file, stored, hashes));
        if (r.decoder == nullptr) break;
        failure = pthread_create(&r.thread, &attributes, reader_main, &r);
        if (failure != 0) break;
        made->started_++;
    }
    pthread_attr_destroy(&attributes);
    if (failure != 0)
        return Error::make(Code::memory_full, "%s: cannot start a thread that reads it: %s", path, strerror(failure));
    if (made->started_ < readers) return no_memory();
    TRY(made->read_first());
    return made;
}

Layers::~Layers() {
    {
        const Lock guard(lock_);
        stop_ = true;
        pthread_cond_broadcast(&work_);
    }
    for (int i = 0; i < started_; i++) pthread_join(readers_[i].thread, nullptr);
    if (memory_ != nullptr) munmap(memory_, memory_bytes_);
}

const std::byte* Layers::place(int layer, std::uint64_t offset) const {
    return memory_ + static_cast<std::uint64_t>(layer % layout_.places()) * layout_.place_bytes +
           (offset - layout_.units[layer].begin);
}

// From storage, not from what the system still holds of the file: what it takes when the model is larger than memory.
Result<void> Layers::read_first() {
    std::uint64_t bytes = 0;
    for (int layer = 0; layer < layout_.places(); layer++) {
        const Unit& unit = layout_.units[layer];
        for (std::uint32_t i = 0; i < unit.count; i++) {
            const FrameEntry& e = file_.frames()[layout_.order[unit.first + i]];
            posix_fadvise(file_.fd(), static_cast<off_t>(e.offset), e.stored, POSIX_FADV_DONTNEED);
            bytes += e.stored;
        }
    }
    const std::int64_t start = now_ns();
    rewind();
    {
        const Lock guard(lock_);
        for (int i = 0; i < layout_.places(); i++) TRY(wait_for(places_[i]));
    }
    bytes_per_second_ =
        static_cast<double>(bytes) * 1e9 / static_cast<double>(std::max<std::int64_t>(1, now_ns() - start));
    return {};
}

void* Layers::reader_main(void* argument) {
    auto& reader = *static_cast<Reader*>(argument);
    reader.layers->read(*reader.decoder);
    return nullptr;
}

Layers::Place* Layers::next_work() {
    for (const int i : {wanted_, wanted_ ^ 1})
        if (places_[i].next < places_[i].end) return &places_[i];
    return nullptr;
}

void Layers::read(FrameDecoder& decoder) {
    const Lock guard(lock_);
    while (!stop_) {
        Place* const place = next_work();
        if (place == nullptr) {
            pthread_cond_wait(&work_, &lock_);
            continue;
        }
        const std::uint32_t frame = layout_.order[place->next++];
        const Unit& unit = layout_.units[place->layer];
        std::byte* const to = memory_ + static_cast<std::uint64_t>(place - places_) * layout_.place_bytes +
                              (file_.raw_offset(frame) - unit.begin);
        place->busy++;
        pthread_mutex_unlock(&lock_);
        const FrameEntry& e = file_.frames()[frame];
        posix_fadvise(file_.fd(), static_cast<off_t>(e.offset + readahead_bytes), e.stored, POSIX_FADV_WILLNEED);
        const FrameFault fault = decoder.decode(frame, to);
        decoded_.fetch_add(1, std::memory_order_relaxed);
        if (!fault && progress_ != nullptr) progress_->fetch_add(1, std::memory_order_relaxed);
        pthread_mutex_lock(&lock_);
        place->busy--;
        if (fault) {
            if (!place->fault) place->fault = fault, place->faulty = frame;
            place->next = place->end;
        }
        if (place->settled()) pthread_cond_broadcast(&ready_);
    }
}

void Layers::assign(Place& place, int layer) {
    place.next = place.end;  // a pass that was stopped leaves what it does not need
    while (place.busy != 0) pthread_cond_wait(&ready_, &lock_);
    const Unit& unit = layout_.units[layer];
    place = {layer, unit.first, unit.first + unit.count, 0, {}, 0};
    pthread_cond_broadcast(&work_);
}

Result<void> Layers::wait_for(Place& place) {
    while (!place.settled()) pthread_cond_wait(&ready_, &lock_);
    if (!place.fault) return {};
    char what[96];
    const std::uint64_t begin = file_.raw_offset(place.faulty);
    name_place(header_, tensors_, begin, begin + file_.frames()[place.faulty].raw, what, sizeof what);
    place.layer = -1;
    return frame_error(path_, file_, place.faulty, what, place.fault);
}

Result<void> Layers::acquire(int layer) {
    const Lock guard(lock_);
    const int places = layout_.places(), next = (layer + 1) % static_cast<int>(layout_.layers);
    wanted_ = layer % places;
    Place &own = places_[wanted_], &other = places_[next % places];
    if (own.layer != layer) assign(own, layer);
    TRY(wait_for(own));
    if (&other != &own && other.layer != next) assign(other, next);
    return {};
}

void Layers::rewind() {
    const Lock guard(lock_);
    wanted_ = 0;
    for (int i = 0; i < layout_.places(); i++)
        if (places_[i].layer != i) assign(places_[i], i);
}

}  // namespace slmd::image
