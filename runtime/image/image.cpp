#include "image/image.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <new>
#include <optional>
#include <utility>

#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"
#include "image/check.h"
#include "image/experts.h"
#include "image/hydrate.h"
#include "image/layers.h"
#include "image/resident.h"
#include "image/rows.h"
#include "image/signature.h"
#include "image/stored.h"

namespace slmd::image {

struct Image::State {
    Sizes sizes{};
    Identity identity{};
    RawHeader header{};
    ModelParams params{};
    std::optional<MappedFile> raw_file;  // raw form: the map
    int memfd = -1;                      // stored form: its memory ...
    std::span<const std::byte> bytes;    // ... and map. Empty after open_index().
    TensorEntry* own_index = nullptr;    // malloc'ed where no map holds the index
    std::span<const TensorEntry> tensors;
    Footprint footprints[3]{};  // of each Residency
    // Stored form, when a part of it is decoded later on.
    char* name = nullptr;  // its path, for errors
    std::optional<StoredFile> kept_file;
    std::unique_ptr<FrameHashes> hashes;
    std::unique_ptr<Rows> rows;
    std::unique_ptr<Layers> layers;
    std::unique_ptr<Experts> experts;
    Experts::Sizes expert_sizes{};

    // Header, index and params of a stored image; nothing of raw_size is allocated.
    Result<void> read_index(const char* path, const StoredFile& stored, const Trust& trust);
    Result<void> map_raw(const char* path, bool verify, const Trust& trust);
    // The same of a raw form in memory.
    Result<void> read_raw(const char* path, std::span<const std::byte> whole, bool verify, const Trust& trust);
    // hashed: those of absent frames will be kept.
    Result<void> measure(const char* path, const StoredFile& stored, bool hashed);
    void leave_on_demand() const;
    bool any_absent(Residency residency) const {
        return std::any_of(tensors.begin(), tensors.end(),
                           [&](const TensorEntry& t) { return is_absent(t, residency); });
    }
    // Makes what decodes the absent frames, and takes the file for it. After everything else is checked.
    Result<void> open_absent(const char* path, StoredFile stored, const OpenOptions& options);
    ~State() {
        std::free(name);
        if (memfd >= 0) {
            munmap(const_cast<std::byte*>(bytes.data()), bytes.size());
            close(memfd);
        }
        std::free(own_index);
    }
};

namespace {

struct Opened {
    int fd;
    std::uint64_t size;
    bool compressed;
};

// Tells the two forms apart by their first bytes.
Result<Opened> open_file(const char* path) {
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    struct stat st;
    char magic[8] = {};
    const bool regular = fstat(fd, &st) == 0 && S_ISREG(st.st_mode);
    const ssize_t n = regular ? pread(fd, magic, sizeof magic, 0) : -1;
    const int reason = errno;
    const bool raw = n == 8 && std::memcmp(magic, raw_magic, 8) == 0;
    const bool stored = n == 8 && load<std::uint32_t>(magic) == skippable_magic;
    if (raw || stored) return Opened{fd, static_cast<std::uint64_t>(st.st_size), stored};
    close(fd);
    if (!regular) return Error::make(Code::storage_failure, "%s: not a regular file", path);
    if (n < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(reason));
    if (n >= 4 && std::memcmp(magic, "GGUF", 4) == 0)
        return Error::make(Code::model_format,
                           "%s: a GGUF file; make an image of it first: slmpack import %s -o model.slm", path, path);
    return Error::make(Code::model_format, "%s: not a model image", path);
}

Result<void> check_hash(const char* path, std::span<const TensorEntry> tensors, const std::uint8_t* want) {
    const Sha256 digest = TRY(sha256(std::as_bytes(tensors)));
    if (std::memcmp(digest.data(), want, digest.size()) != 0)
        return Error::make(Code::model_integrity,
                           "%s: index: SHA-256 mismatch; copy the file again or run slmpack verify", path);
    return {};
}

Result<Identity> identity_of(const char* path, int fd, const StoredHeader& header) {
    struct stat st;
    if (fstat(fd, &st) != 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    struct {
        StoredHeader header;
        std::uint64_t file[5];
    } about{header,
            {st.st_dev, st.st_ino, static_cast<std::uint64_t>(st.st_size),
             static_cast<std::uint64_t>(st.st_mtim.tv_sec), static_cast<std::uint64_t>(st.st_mtim.tv_nsec)}};
    static_assert(sizeof about == sizeof(StoredHeader) + sizeof about.file);  // no padding is hashed
    const Sha256 digest = TRY(sha256(std::as_bytes(std::span(&about, 1))));
    Identity identity;
    write_hex(std::span(digest).first(sizeof identity.hex / 2), identity.hex);
    return identity;
}

// The raw form has no frames: sections and tensors carry the checks of their bytes themselves.
Result<void> check_bytes(const char* path, const RawHeader& header, std::span<const TensorEntry> tensors,
                         std::span<const std::byte> raw) {
    const auto check = [&](std::uint64_t offset, std::uint64_t size, std::uint32_t want) -> Result<void> {
        if (crc32c(raw.subspan(offset, size)) == want) return {};
        char place[96];
        name_place(header, tensors, offset, offset + size, place, sizeof place);
        return Error::make(Code::model_integrity, "%s: %s: CRC mismatch; copy the file again or run slmpack verify",
                           path, place);
    };
    for (std::uint32_t i = 0; i < header.section_count; i++) {
        const Section& s = header.sections[i];
        const auto id = static_cast<SectionId>(s.id);
        if (id != SectionId::tensors && id != SectionId::index) TRY(check(s.offset, s.size, s.crc32c));
    }
    for (const TensorEntry& t : tensors) {
        TRY(check(t.codes, t.codes_size, t.crc32c[0]));
        TRY(check(t.scales, t.scales_size, t.crc32c[1]));
        TRY(check(t.steps, t.steps_size, t.crc32c[2]));
    }
    return {};
}

// Decoding is half of the work where hashing follows it.
OpenOptions first_half(const OpenOptions& options) {
    OpenOptions half = options;
    half.context = const_cast<OpenOptions*>(&options);
    if (options.progress != nullptr)
        half.progress = [](void* context, std::uint64_t done, std::uint64_t total) {
            const auto& whole = *static_cast<const OpenOptions*>(context);
            whole.progress(whole.context, done, 2 * total);
        };
    return half;
}

}  // namespace

Result<void> Image::State::read_index(const char* path, const StoredFile& file, const Trust& trust) {
    const StoredHeader& stored = file.header();
    sizes = {stored.stored_size, stored.raw_size, stored.frame_count, true};
    RawHeader& h = header;
    TRY(file.read(path, "header", 0, std::as_writable_bytes(std::span(&h, 1))));
    TRY(check_header(path, h));
    if (h.raw_size != stored.raw_size || h.version != stored.version || h.reader != stored.reader ||
        std::memcmp(h.index_sha256, stored.index_sha256, sizeof h.index_sha256) != 0)
        return Error::make(Code::model_integrity, "%s: its two headers contradict each other; copy the file again",
                           path);
    const Section& index = *find_section(h, SectionId::index);
    own_index = static_cast<TensorEntry*>(std::malloc(index.size));
    if (own_index == nullptr) return Error::make(Code::model_memory, "%s: no memory for the index", path);
    const std::span<TensorEntry> entries(own_index, h.tensor_count);
    TRY(file.read(path, "index", index.offset, std::as_writable_bytes(entries)));
    TRY(check_hash(path, entries, h.index_sha256));
    TRY(file.read(path, "params", find_section(h, SectionId::params)->offset,
                  std::as_writable_bytes(std::span(&params, 1))));
    TRY(check_trust(path, h, params, trust));
    TRY(check_index(path, h, entries, params));
    tensors = entries;
    return measure(path, file, needs_hashes(h, trust));
}

Result<void> Image::State::measure(const char* path, const StoredFile& stored, bool hashed) {
    for (const Residency r : {Residency::whole, Residency::on_demand, Residency::streamed}) {
        const FrameSet absent = TRY(absent_frames(path, stored, tensors, residency_of(params, r)));
        Footprint& f = footprints[static_cast<int>(r)];
        f = {resident_bytes(stored, absent), 0, 0, 0};
        if (absent == nullptr) continue;
        const std::uint64_t tables =
            stored.table_bytes() +
            (hashed ? FrameHashes::bytes(static_cast<std::uint32_t>(stored.frames().size())) : 0);
        (r == Residency::streamed ? f.layers : f.rows) = tables;
        for (const TensorEntry& t : tensors)
            if (is_on_demand(t)) f.rows += Rows::bytes(stored, t);
        if (r != Residency::streamed) continue;
        if (params.experts != 0) {
            expert_sizes = Experts::sizes(stored, params, tensors);
            f.layers += expert_sizes.memory;
            f.pass = expert_sizes.pass;
            continue;
        }
        const Layers::Sizes of_layers = Layers::sizes(stored, tensors);
        f.layers += of_layers.memory;
        f.pass = of_layers.pass;
    }
    return {};
}

Result<void> Image::State::open_absent(const char* path, StoredFile stored, const OpenOptions& options) {
    if (!any_absent(options.residency)) return {};
    name = strdup(path);
    if (name == nullptr) return Error::make(Code::model_memory, "%s: no memory", path);
    kept_file.emplace(std::move(stored));
    if (needs_hashes(header, options.trust)) hashes = TRY(verify_absent(name, *kept_file, header, tensors, options));
    for (const TensorEntry& t : tensors)
        if (is_on_demand(t)) rows = TRY(Rows::open(name, *kept_file, t, hashes.get()));
    if (options.residency == Residency::by_expert)
        experts = TRY(
            Experts::open(name, *kept_file, header, params, tensors, hashes.get(), options.experts, options.frames));
    else if (options.residency == Residency::streamed)
        layers = TRY(Layers::open(name, *kept_file, header, tensors, hashes.get(), options.frames));
    return {};
}

Result<void> Image::State::map_raw(const char* path, bool verify, const Trust& trust) {
    raw_file.emplace(TRY(MappedFile::open(path)));
    return read_raw(path, raw_file->bytes(), verify, trust);
}

Result<void> Image::State::read_raw(const char* path, std::span<const std::byte> whole, bool verify,
                                    const Trust& trust) {
    sizes = {whole.size(), whole.size(), 0, false};
    for (Footprint& f : footprints) f = {whole.size(), 0, 0, 0};
    if (whole.size() < sizeof(RawHeader))
        return Error::make(Code::model_integrity, "%s: the file ends inside its header (%zu bytes); copy it again",
                           path, whole.size());
    std::memcpy(&header, whole.data(), sizeof header);
    TRY(check_header(path, header));
    if (header.raw_size != whole.size())
        return Error::make(Code::model_integrity,
                           "%s: the file has %zu bytes and should have %" PRIu64
                           ": incomplete or damaged, copy it again",
                           path, whole.size(), header.raw_size);
    const Section& index = *find_section(header, SectionId::index);
    tensors = {reinterpret_cast<const TensorEntry*>(whole.data() + index.offset), header.tensor_count};
    if (verify || needs_hashes(header, trust)) TRY(check_hash(path, tensors, header.index_sha256));
    std::memcpy(&params, whole.data() + find_section(header, SectionId::params)->offset, sizeof params);
    TRY(check_trust(path, header, params, trust));
    return check_index(path, header, tensors, params);
}

Image::Image() : state_(new (std::nothrow) State) {}
Image::Image(Image&& o) noexcept : state_(std::exchange(o.state_, nullptr)) {}
Image& Image::operator=(Image&& o) noexcept {
    std::swap(state_, o.state_);
    return *this;
}
Image::~Image() { delete state_; }

// What was read to check it: a raw embedding's pages come back when a token asks for them.
void Image::State::leave_on_demand() const {
    const auto page = static_cast<std::uint64_t>(sysconf(_SC_PAGESIZE));
    for (const TensorEntry& t : tensors) {
        const Extent all = extent_of(t);
        const std::uint64_t begin = round_up(all.begin, page), end = all.end / page * page;
        if (is_on_demand(t) && begin < end)
            madvise(const_cast<std::byte*>(bytes.data()) + begin, end - begin, MADV_DONTNEED);
    }
}

Result<Image> Image::open_index(const char* path, const Trust& trust) {
    const Opened file = TRY(open_file(path));
    Image image;
    if (image.state_ == nullptr) {
        close(file.fd);
        return Error::make(Code::model_memory, "%s: no memory", path);
    }
    State& s = *image.state_;
    if (file.compressed) {
        const StoredFile stored = TRY(StoredFile::open(path, file.fd, file.size));
        TRY(s.read_index(path, stored, trust));
    } else {
        close(file.fd);
        TRY(s.map_raw(path, true, trust));
    }
    return image;
}

Result<Image> Image::open(const char* path, const OpenOptions& asked) {
    const Opened file = TRY(open_file(path));
    Image image;
    if (image.state_ == nullptr) {
        close(file.fd);
        return Error::make(Code::model_memory, "%s: no memory", path);
    }
    State& s = *image.state_;
    if (!file.compressed) {
        close(file.fd);
        TRY(s.map_raw(path, asked.verify, asked.trust));
        s.bytes = s.raw_file->bytes();
        if (asked.verify) TRY(check_bytes(path, s.header, s.tensors, s.bytes));
        OpenOptions whole = asked;
        whole.residency = Residency::whole;
        if (needs_hashes(s.header, asked.trust)) TRY(verify_hashes(path, s.header, s.tensors, s.bytes, whole));
        if (asked.residency != Residency::whole) s.leave_on_demand();
        return image;
    }
    StoredFile stored = TRY(StoredFile::open(path, file.fd, file.size));
    s.identity = TRY(identity_of(path, stored.fd(), stored.header()));
    TRY(s.read_index(path, stored, asked.trust));  // all spans are bounded before the memory is made
    OpenOptions options = asked;
    options.residency = residency_of(s.params, asked.residency);
    const bool hashed = needs_hashes(s.header, options.trust);
    const FrameSet absent = TRY(absent_frames(path, stored, s.tensors, options.residency));
    const Hydrated memory =
        TRY(hydrate(path, stored, s.header, s.tensors, absent, hashed ? first_half(options) : options));
    s.memfd = memory.fd;
    s.bytes = memory.bytes;
    // The same bytes as before, unless the file changed meanwhile.
    const Section& index = *find_section(s.header, SectionId::index);
    const Section& params = *find_section(s.header, SectionId::params);
    if (std::memcmp(s.bytes.data(), &s.header, sizeof s.header) != 0 ||
        std::memcmp(s.bytes.data() + index.offset, s.tensors.data(), index.size) != 0 ||
        // NOLINTNEXTLINE(bugprone-suspicious-memory-comparison,cert-exp42-c,cert-flp37-c): the very bytes are meant
        std::memcmp(s.bytes.data() + params.offset, &s.params, sizeof s.params) != 0)
        return Error::make(Code::model_integrity, "%s: the file changed while it was read", path);
    s.tensors = {reinterpret_cast<const TensorEntry*>(s.bytes.data() + index.offset), s.header.tensor_count};
    std::free(std::exchange(s.own_index, nullptr));
    // Of the memory, not of the file: it is sealed, and nobody can change it from here on.
    if (hashed) TRY(verify_hashes(path, s.header, s.tensors, s.bytes, options));
    TRY(s.open_absent(path, std::move(stored), options));
    return image;
}

Result<Identity> identity(const char* path) {
    const Opened file = TRY(open_file(path));
    const auto result = [&]() -> Result<Identity> {
        if (!file.compressed) return Identity{};
        return identity_of(path, file.fd, TRY(StoredFile::read_header(path, file.fd, file.size)));
    }();
    close(file.fd);
    return result;
}

Result<Image> Image::adopt(const char* path, int fd, const OpenOptions& options) {
    Opened file = TRY(open_file(path));
    Image image;
    const auto adopted = [&]() -> Result<void> {
        if (image.state_ == nullptr) return Error::make(Code::model_memory, "%s: no memory", path);
        State& s = *image.state_;
        const auto refused = [&](const char* why) {
            return Error::make(Code::model_integrity, "%s: the memory that was kept of it %s", path, why);
        };
        if (!file.compressed) return refused("is not needed: the file is raw");
        const StoredHeader header = TRY(StoredFile::read_header(path, file.fd, file.size));
        constexpr int seals = F_SEAL_SHRINK | F_SEAL_GROW | F_SEAL_WRITE | F_SEAL_SEAL;
        const int sealed = fcntl(fd, F_GET_SEALS);
        if (sealed < 0 || (sealed & seals) != seals) return refused("is not sealed");
        struct stat st;
        if (fstat(fd, &st) != 0 || static_cast<std::uint64_t>(st.st_size) != header.raw_size)
            return refused("has another size");
        void* const map = mmap(nullptr, header.raw_size, PROT_READ, MAP_SHARED, fd, 0);
        if (map == MAP_FAILED) return Error::make(Code::model_memory, "%s: cannot map: %s", path, strerror(errno));
        s.bytes = {static_cast<const std::byte*>(map), header.raw_size};
        s.memfd = fd;
        TRY(s.read_raw(path, s.bytes, true, options.trust));
        if (std::memcmp(s.header.index_sha256, header.index_sha256, sizeof header.index_sha256) != 0)
            return refused("is that of another file");
        s.sizes = {header.stored_size, header.raw_size, header.frame_count, true};
        s.identity = TRY(identity_of(path, file.fd, header));
        if (!s.any_absent(options.residency)) {
            populate(s.bytes, nullptr, nullptr, options.threads);
            return {};
        }
        StoredFile stored = TRY(StoredFile::open(path, std::exchange(file.fd, -1), file.size));
        TRY(s.measure(path, stored, needs_hashes(s.header, options.trust)));
        const FrameSet absent = TRY(absent_frames(path, stored, s.tensors, options.residency));
        populate(s.bytes, &stored, absent, options.threads);
        return s.open_absent(path, std::move(stored), options);
    }();
    if (file.fd >= 0) close(file.fd);
    if (adopted) return image;
    if (image.state_ != nullptr && image.state_->memfd >= 0) {  // it is the caller's still
        munmap(const_cast<std::byte*>(image.state_->bytes.data()), image.state_->bytes.size());
        image.state_->memfd = -1;
    }
    return adopted.error();
}

Result<Sizes> Image::sizes(const char* path) {
    const Opened file = TRY(open_file(path));
    if (!file.compressed) {
        close(file.fd);
        return Sizes{file.size, file.size, 0, false};
    }
    const StoredFile stored = TRY(StoredFile::open(path, file.fd, file.size));
    return Sizes{file.size, stored.header().raw_size, stored.header().frame_count, true};
}

const RawHeader& Image::header() const { return state_->header; }
const ModelParams& Image::params() const { return state_->params; }
std::span<const TensorEntry> Image::tensors() const { return state_->tensors; }
std::span<const std::byte> Image::raw() const { return state_->bytes; }
const Sizes& Image::sizes() const { return state_->sizes; }
Footprint Image::footprint(Residency r, std::uint64_t experts) const {
    Footprint f = state_->footprints[static_cast<int>(r)];
    const Experts::Sizes& s = state_->expert_sizes;
    if (r == Residency::streamed && s.each != 0)
        f.layers += s.each * static_cast<std::uint64_t>(s.kept(experts) - s.least);
    return f;
}
Rows* Image::rows() const { return state_->rows.get(); }
Layers* Image::layers() const { return state_->layers.get(); }
Experts* Image::experts() const { return state_->experts.get(); }
int Image::memfd() const { return state_->memfd; }
const Identity& Image::identity() const { return state_->identity; }

bool Image::has(std::string_view name) const {
    for (const TensorEntry& t : state_->tensors)
        if (name == t.name) return true;
    return false;
}

Result<Tensor> Image::tensor(std::string_view name) const {
    for (const TensorEntry& t : state_->tensors) {
        if (name != t.name) continue;
        const bool on_demand =
                       (state_->rows != nullptr && is_on_demand(t)) || (state_->experts != nullptr && is_expert(t)),
                   streamed = state_->layers != nullptr && is_streamed(t);
        const auto span = [&](std::uint64_t offset, std::uint64_t size) {
            if (streamed && size != 0) return std::span(state_->layers->place(layer_of(t), offset), size);
            return on_demand || state_->bytes.empty() || size == 0 ? std::span<const std::byte>{}
                                                                   : state_->bytes.subspan(offset, size);
        };
        return Tensor{t.name,
                      t.kind,
                      t.rows,
                      t.cols,
                      span(t.codes, t.codes_size),
                      span(t.scales, t.scales_size),
                      span(t.steps, t.steps_size),
                      t.kind == Kind::i4 ? t.book : nullptr};
    }
    return Error::make(Code::not_found, "the image has no tensor %.*s", static_cast<int>(name.size()), name.data());
}

std::span<const std::byte> Image::section(SectionId id) const {
    const Section* s = find_section(state_->header, id);
    if (s == nullptr || state_->bytes.empty()) return {};
    return state_->bytes.subspan(s->offset, s->size);
}

}  // namespace slmd::image
