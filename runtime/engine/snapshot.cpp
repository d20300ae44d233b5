#include "engine/snapshot.h"

// For contexts in memory that was planned.
#define ZSTD_STATIC_LINKING_ONLY
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>
#include <zstd.h>

#include <algorithm>
#include <cstdio>

#include "base/bytes.h"
#include "base/file.h"
#include "compute/kernels.h"

namespace slmd::engine {
namespace {

struct Header {
    char magic[8];
    std::uint8_t key[32];
    std::uint32_t tokens, zero;
    std::uint64_t raw;        // bytes of all pieces
    std::uint8_t sha256[32];  // of the fields before it and of all that follows the header
};
static_assert(sizeof(Header) == 88);
constexpr char magic[8] = {'s', 'l', 'm', 'd', 'k', 'v', '1', '\0'};
constexpr std::size_t hashed_bytes = offsetof(Header, sha256);

constexpr std::size_t buffer_bytes = 64 * 1024;
constexpr int window_log = 17;

// Codes of K and V hardly repeat: what there is to gain is their entropy, which the fastest strategy finds.
ZSTD_compressionParameters parameters() { return {window_log, 12, 12, 1, 6, 0, ZSTD_fast}; }
std::size_t compressor_bytes() { return ZSTD_estimateCStreamSize_usingCParams(parameters()); }
std::size_t decompressor_bytes() { return ZSTD_estimateDStreamSize(std::size_t{1} << window_log); }

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) close(fd);
    }
};

}  // namespace

std::size_t Snapshots::memory_bytes() {
    return buffer_bytes + round_up(std::max(compressor_bytes(), decompressor_bytes()), 64);
}

Result<void> Snapshots::open(const char* folder, std::uint64_t limit, std::span<std::byte> memory) {
    if (static_cast<std::size_t>(std::snprintf(folder_, sizeof folder_, "%s", folder)) >= sizeof folder_)
        return Error::make(Code::storage_failure, "%s: the path is too long", folder);
    count_ = 0;
    limit_ = limit;
    memory_ = memory;
    DIR* const dir = opendir(folder);
    if (dir == nullptr) return close(), Error::make(Code::storage_failure, "%s: %s", folder, strerror(errno));
    while (const dirent* const entry = readdir(dir)) {
        char path[512];
        File file{};
        const std::string_view name = entry->d_name;
        if (name.find(".kv.tmp-") != std::string_view::npos) {  // of a power cut
            std::snprintf(path, sizeof path, "%s/%.60s", folder_, entry->d_name);
            unlink(path);
        }
        if (name.size() != 35 || !name.ends_with(".kv")) continue;
        for (std::size_t i = 0; i < 16; i++) {
            unsigned byte = 0;
            std::sscanf(entry->d_name + 2 * i, "%2x", &byte);
            file.key[i] = static_cast<std::uint8_t>(byte);
        }
        struct stat st;
        std::snprintf(path, sizeof path, "%s/%.35s", folder_, entry->d_name);
        if (stat(path, &st) != 0) continue;
        file.bytes = static_cast<std::uint64_t>(st.st_size);
        file.used = st.st_mtime - INT64_C(0x4000000000000000);  // before whatever is used from now on
        if (count_ < max_files)
            files_[count_++] = file;
        else
            unlink(path);
    }
    closedir(dir);
    return {};
}

Result<Sha256> Snapshots::key(const image::RawHeader& header, std::span<const std::byte> more,
                              std::span<const std::int32_t> tokens) {
    // Other sections may change, among them the one that holds these.
    std::uint32_t params = 0;
    for (const image::Section& s : std::span(header.sections, header.section_count))
        if (s.id == static_cast<std::uint32_t>(image::SectionId::params)) params = s.crc32c;
    return sha256({std::as_bytes(std::span(header.index_sha256)), std::as_bytes(std::span(&params, 1)), more,
                   std::as_bytes(std::span(&compute::numerics_version, 1)), std::as_bytes(tokens)});
}

std::span<const std::byte> Snapshots::baked(const Sha256& key) const {
    for (std::span<const std::byte> rest = baked_; rest.size() > sizeof(image::Prefix) + sizeof(Header);) {
        const auto bytes = slmd::load<image::Prefix>(rest.data()).bytes;
        if (bytes < sizeof(Header) || bytes > rest.size() - sizeof(image::Prefix)) break;
        const auto file = rest.subspan(sizeof(image::Prefix), bytes);
        if (memcmp(file.data() + offsetof(Header, key), key.data(), key.size()) == 0) return file;
        rest = rest.subspan(std::min<std::size_t>(rest.size(), round_up(sizeof(image::Prefix) + bytes, 64)));
    }
    return {};
}

Result<std::uint32_t> Snapshots::check(std::span<const std::byte> file, const image::RawHeader& header) {
    const auto broken = [](const char* what) { return Error::make(Code::model_integrity, "%s", what); };
    if (file.size() < sizeof(Header)) return broken("it ends too early");
    const auto h = slmd::load<Header>(file.data());
    if (memcmp(h.magic, magic, sizeof magic) != 0) return broken("it is no kept beginning of a prompt");
    const auto rest = file.subspan(sizeof(Header));
    if (h.tokens == 0 || rest.size() / sizeof(std::int32_t) < h.tokens) return broken("it ends too early");
    const Sha256 sum = TRY(sha256({file.first(hashed_bytes), rest}));
    if (!std::equal(sum.begin(), sum.end(), h.sha256)) return broken("it is damaged");
    const auto tokens = reinterpret_cast<const std::int32_t*>(rest.data());
    const Sha256 want = TRY(key(header, {}, {tokens, h.tokens}));
    if (!std::equal(want.begin(), want.end(), h.key))
        return broken("it is of another image, of an adapter, or of another version of the arithmetic");
    return h.tokens;
}

const Snapshots::File* Snapshots::find(const Sha256& key) const {
    const File* const end = files_ + count_;
    const File* const found =
        std::find_if(files_, end, [&](const File& f) { return memcmp(f.key.data(), key.data(), 16) == 0; });
    return found == end ? nullptr : found;
}

void Snapshots::path_of(const Sha256& key, char (&path)[512]) const {
    char hex[65];
    write_hex(key, hex);
    std::snprintf(path, sizeof path, "%s/%.32s.kv", folder_, hex);
}

void Snapshots::drop(const File& file) {
    char path[512];
    path_of(file.key, path);
    unlink(path);
    files_[&file - files_] = files_[--count_];
}

Result<void> Snapshots::save(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key) {
    const auto count = static_cast<int>(tokens.size());
    char path[512];
    path_of(key, path);
    AtomicFile file = TRY(AtomicFile::create(path));
    Header h{};
    memcpy(h.magic, magic, sizeof magic);
    std::copy(key.begin(), key.end(), h.key);
    h.tokens = static_cast<std::uint32_t>(count);
    for (int i = 0; i < engine.pieces(); i++) h.raw += engine.piece(slot, i, count).size();

    ZSTD_CCtx* const context = ZSTD_initStaticCStream(memory_.data() + buffer_bytes, memory_.size() - buffer_bytes);
    const auto cannot = [&] { return Error::make(Code::unknown, "%s: zstd cannot compress it", path); };
    const std::pair<ZSTD_cParameter, int> settings[] = {
        {ZSTD_c_windowLog, parameters().windowLog}, {ZSTD_c_chainLog, parameters().chainLog},
        {ZSTD_c_hashLog, parameters().hashLog},     {ZSTD_c_searchLog, parameters().searchLog},
        {ZSTD_c_minMatch, parameters().minMatch},   {ZSTD_c_strategy, parameters().strategy}};
    if (context == nullptr) return cannot();
    for (const auto& [name, value] : settings)
        if (ZSTD_isError(ZSTD_CCtx_setParameter(context, name, value)) != 0) return cannot();

    Sha256Stream hash;
    std::uint64_t bytes = 0;
    const auto put = [&](std::span<const std::byte> part) -> Result<void> {
        hash.update(part);
        bytes += part.size();
        return file.write(part);
    };
    TRY(file.write(std::as_bytes(std::span(&h, 1))));
    hash.update(std::as_bytes(std::span(&h, 1)).first(hashed_bytes));
    TRY(put(std::as_bytes(tokens)));
    for (int i = 0; i < engine.pieces(); i++) {
        const std::span<const std::byte> piece = engine.piece(slot, i, count);
        const bool last = i + 1 == engine.pieces();
        ZSTD_inBuffer in{piece.data(), piece.size(), 0};
        for (bool more = true; more;) {
            ZSTD_outBuffer out{memory_.data(), buffer_bytes, 0};
            const std::size_t left = ZSTD_compressStream2(context, &out, &in, last ? ZSTD_e_end : ZSTD_e_continue);
            if (ZSTD_isError(left) != 0) return cannot();
            TRY(put(memory_.first(out.pos)));
            more = last ? left > 0 : in.pos < in.size;
        }
        if (bytes > limit_)
            return Error::make(Code::memory_full, "%s: the beginning of a prompt is larger than all that may be kept",
                               path);
    }
    const Sha256 sum = TRY(hash.finish());
    TRY(file.write_at(hashed_bytes, std::as_bytes(std::span(sum))));

    std::uint64_t all = bytes;
    for (int i = 0; i < count_; i++) all += files_[i].bytes;
    while (count_ > 0 && (all > limit_ || count_ == max_files)) {
        const File& oldest =
            *std::min_element(files_, files_ + count_, [](const File& a, const File& b) { return a.used < b.used; });
        all -= oldest.bytes;
        drop(oldest);
    }
    TRY(file.commit());
    files_[count_++] = {key, bytes + sizeof h, ++now_};
    return {};
}

// A file or what an image has of one, from its beginning.
class Snapshots::Bytes {
  public:
    explicit Bytes(std::span<const std::byte> memory) : memory_(memory) {}
    explicit Bytes(const char* path) : fd_{::open(path, O_RDONLY | O_CLOEXEC)} {}
    bool is_file() const { return fd_.fd >= 0; }
    bool is_open() const { return fd_.fd >= 0 || !memory_.empty(); }
    // As read(2): fewer at the end; below 0: errno.
    ssize_t read(std::span<std::byte> out) {
        if (fd_.fd >= 0) return ::read(fd_.fd, out.data(), out.size());
        const auto part = memory_.first(std::min(out.size(), memory_.size()));
        std::copy(part.begin(), part.end(), out.begin());
        memory_ = memory_.subspan(part.size());
        return static_cast<ssize_t>(part.size());
    }

  private:
    Descriptor fd_{-1};
    std::span<const std::byte> memory_;
};

Result<void> Snapshots::load(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key,
                             int adapter) {
    char path[512];
    path_of(key, path);
    const File* const file = find(key);
    engine.forget(slot);
    Bytes from = file != nullptr ? Bytes(path) : Bytes(baked(key));
    if (file == nullptr) std::snprintf(path, sizeof path, "the image's section prefixes");
    const auto loaded = read(engine, slot, tokens, key, path, from);
    if (!loaded) {
        engine.forget(slot);
        if (file != nullptr) drop(*file);
        if (file == nullptr) baked_ = {};  // what is wrong with one of them is wrong with who made them
        return loaded.error();
    }
    if (file != nullptr) files_[file - files_].used = ++now_;
    engine.hold(slot, tokens, adapter);
    return {};
}

Result<void> Snapshots::read(Engine& engine, int slot, std::span<const std::int32_t> tokens, const Sha256& key,
                             const char* path, Bytes& from) const {
    const auto failed = [&] { return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno)); };
    const auto broken = [&](const char* what) {
        return Error::make(Code::model_integrity, "%s: %s; it is %s, and made again", path, what,
                           from.is_file() ? "removed" : "not used");
    };
    if (!from.is_open()) return failed();
    const auto count = static_cast<int>(tokens.size());
    Sha256Stream hash;
    const auto take = [&](std::span<std::byte> part) -> Result<bool> {
        const ssize_t n = from.read(part);
        if (n < 0) return failed();
        return static_cast<std::size_t>(n) == part.size();
    };
    Header h;
    if (!TRY(take(std::as_writable_bytes(std::span(&h, 1))))) return broken("it ends too early");
    std::uint64_t raw = 0;
    for (int i = 0; i < engine.pieces(); i++) raw += engine.piece(slot, i, count).size();
    if (memcmp(h.magic, magic, sizeof magic) != 0 || !std::equal(key.begin(), key.end(), h.key) ||
        h.tokens != tokens.size() || h.zero != 0 || h.raw != raw)
        return broken("it is not what its name says");
    hash.update(std::as_bytes(std::span(&h, 1)).first(hashed_bytes));
    for (std::size_t at = 0; at < tokens.size();) {
        const std::size_t n = std::min(tokens.size() - at, buffer_bytes / sizeof(std::int32_t));
        const auto part = memory_.first(n * sizeof(std::int32_t));
        if (!TRY(take(part))) return broken("it ends too early");
        hash.update(part);
        if (memcmp(part.data(), tokens.data() + at, part.size()) != 0) return broken("its tokens are others");
        at += n;
    }
    ZSTD_DCtx* const context = ZSTD_initStaticDStream(memory_.data() + buffer_bytes, memory_.size() - buffer_bytes);
    if (context == nullptr) return Error::make(Code::unknown, "%s: zstd cannot read it", path);
    ZSTD_inBuffer in{memory_.data(), 0, 0};
    std::size_t expected = 1;  // 0: the frame is complete
    const auto refill = [&]() -> Result<bool> {
        const ssize_t n = from.read(memory_.first(buffer_bytes));
        if (n < 0) return failed();
        in = {memory_.data(), static_cast<std::size_t>(n), 0};
        hash.update(memory_.first(in.size));
        return n > 0;
    };
    for (int i = 0; i < engine.pieces(); i++) {
        const std::span<std::byte> piece = engine.piece(slot, i, count);
        ZSTD_outBuffer out{piece.data(), piece.size(), 0};
        while (out.pos < out.size) {
            if (in.pos == in.size && !TRY(refill())) return broken("it ends too early");
            expected = ZSTD_decompressStream(context, &out, &in);
            if (ZSTD_isError(expected) != 0 || (expected == 0 && out.pos < out.size)) return broken("it is damaged");
        }
    }
    while (expected != 0 || in.pos < in.size) {  // the frame's end, and nothing behind it
        std::byte none;
        ZSTD_outBuffer out{&none, 0, 0};
        if (expected == 0 || (in.pos == in.size && !TRY(refill()))) return broken("it is damaged");
        expected = ZSTD_decompressStream(context, &out, &in);
        if (ZSTD_isError(expected) != 0) return broken("it is damaged");
    }
    if (TRY(refill())) return broken("it is longer than it says");
    const Sha256 sum = TRY(hash.finish());
    if (!std::equal(sum.begin(), sum.end(), h.sha256)) return broken("it is damaged");
    return {};
}

}  // namespace slmd::engine
