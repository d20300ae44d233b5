// What slmctl changes in the slots. A file of its own: slmd, which must stay small, links none of it.
#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "base/sha256.h"
#include "image/audit.h"
#include "image/check.h"
#include "image/delta.h"
#include "image/slots_lock.h"

namespace slmd::image {
namespace {

constexpr std::size_t copy_bytes = 1u << 20;

bool is_delta(const char* path) {
    char first[sizeof delta_magic] = {};
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    const ssize_t n = fd < 0 ? -1 : pread(fd, first, sizeof first, 0);
    if (fd >= 0) close(fd);
    return n == sizeof first && std::memcmp(first, delta_magic, sizeof first) == 0;
}

struct Descriptor {
    int fd;
    ~Descriptor() {
        if (fd >= 0) close(fd);
    }
};

struct Free {
    void operator()(std::byte* p) const { std::free(p); }
};

// Calls take() with the file's bytes, a piece at a time.
template <class Take>
Result<void> read_through(const char* path, bool from_medium, const Take& take) {
    const Descriptor file{open(path, O_RDONLY | O_CLOEXEC)};
    if (file.fd < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    if (from_medium) posix_fadvise(file.fd, 0, 0, POSIX_FADV_DONTNEED);  // not what memory remembers of it
    const std::unique_ptr<std::byte, Free> buffer(static_cast<std::byte*>(std::malloc(copy_bytes)));
    if (!buffer) return Error::make(Code::memory_full, "%s: no memory to copy it", path);
    for (;;) {
        const ssize_t n = ::read(file.fd, buffer.get(), copy_bytes);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
        if (n == 0) return {};
        TRY(take(std::span<const std::byte>(buffer.get(), static_cast<std::size_t>(n))));
    }
}

Result<Sha256> copy_file(const char* from, const char* to) {
    AtomicFile out = TRY(AtomicFile::create(to));
    Sha256Stream hash;
    TRY(read_through(from, false, [&](std::span<const std::byte> bytes) {
        hash.update(bytes);
        return out.write(bytes);
    }));
    TRY(out.commit());
    return hash.finish();
}

Result<void> read_back(const char* path, const Sha256& want) {
    Sha256Stream hash;
    TRY(read_through(path, true, [&](std::span<const std::byte> bytes) -> Result<void> {
        hash.update(bytes);
        return {};
    }));
    if (TRY(hash.finish()) == want) return {};
    return Error::make(Code::model_integrity, "%s: what was written is not what is read: the medium is bad", path);
}

std::uint64_t size_of(const char* path) {
    struct stat st;
    return stat(path, &st) == 0 ? static_cast<std::uint64_t>(st.st_size) : 0;
}

}  // namespace

// What was cut off. With both locks nobody is writing it.
void SlotFolder::remove_leftovers() const {
    const Lock lock(*this, Lock::record);
    DIR* const entries = opendir(folder_);
    if (entries == nullptr) return;
    while (const dirent* const e = readdir(entries))
        if (std::strstr(e->d_name, ".tmp-") != nullptr) unlinkat(dirfd(entries), e->d_name, 0);
    closedir(entries);
}

Result<int> SlotFolder::install(const char* source, const Trust& trust) const {
    const Lock installing(*this, Lock::install);
    if (!installing.taken())
        return Error::make(Code::storage_failure, "%s: %s", folder_,
                           errno == EAGAIN || errno == EACCES ? "another installation is at work, or this needs root"
                                                              : strerror(errno));
    Slots s = read();
    const int target = s.active < 0 ? 0 : slot_count - 1 - s.active;
    char path[512], active[512] = "";
    path_of(target, path);
    if (s.active >= 0) path_of(s.active, active);
    remove_leftovers();
    const bool delta = is_delta(source);
    if (delta && s.active < 0)
        return Error::make(Code::incorrect_parameters, "%s: a difference needs an active model to begin from", source);
    std::uint64_t size = size_of(source);
    if (delta) {
        DeltaHeader header;
        const MappedFile file = TRY(MappedFile::open(source));
        if (file.bytes().size() >= sizeof header) size = load<DeltaHeader>(file.bytes().data()).new_size;
    } else {
        TRY(audit(source, trust));
        if (is_adapter(TRY(Image::open_index(source)).header()))
            return Error::make(Code::incorrect_parameters,
                               "%.140s: an adapter, not a model: [[adapter]] in slmd.toml names its file", source);
    }
    struct statvfs fs;
    const bool known = statvfs(folder_, &fs) == 0;
    const std::uint64_t room = known ? std::uint64_t{fs.f_bavail} * fs.f_frsize : ~std::uint64_t{0};
    const std::uint64_t need = size + (std::uint64_t{1} << 20), held = size_of(path);
    if (room < need && room + held < need)
        return Error::make(Code::storage_failure,
                           "%s: %" PRIu64 " MB are needed and %" PRIu64 " MB are free: remove files there", folder_,
                           need / 1000000, room / 1000000);
    // From here on the record says nothing about what lies in the slot.
    {
        const Lock lock(*this, Lock::record);
        s = read();
        if (s.active == target)
            return Error::make(Code::storage_failure, "slot %c began to answer meanwhile; try again",
                               slot_letter(target));
        if (s.candidate == target) s.candidate = -1, s.tries = 0;
        s.slot[target] = {SlotState::empty, s.slot[target].serial + 1, ""};
        TRY(write(s));
    }
    if (room < need && unlink(path) != 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    if (delta) {
        TRY(apply_delta(active, source, path));
        TRY(audit(path, trust));
    } else {
        const Sha256 copied = TRY(copy_file(source, path));
        TRY(read_back(path, copied));
    }
    const Lock lock(*this, Lock::record);
    s = read();
    s.slot[target].state = SlotState::staged;
    TRY(write(s));
    return target;
}

Result<int> SlotFolder::activate(int slot) const {
    const Lock lock(*this, Lock::record);
    Slots s = read();
    if (slot < 0) slot = staged(s);
    if (slot < 0)
        return Error::make(Code::incorrect_parameters, "no model is staged: slmctl model install IMAGE does that");
    const Slot& it = s.slot[slot];
    if (slot == s.active && s.candidate < 0)
        return Error::make(Code::incorrect_parameters, "slot %c is active already", slot_letter(slot));
    if (it.state == SlotState::empty)
        return Error::make(Code::incorrect_parameters, "slot %c is empty: slmctl model install IMAGE",
                           slot_letter(slot));
    if (it.state == SlotState::bad)
        return Error::make(Code::incorrect_parameters,
                           "slot %c is bad (%s): slmctl model install IMAGE puts another there", slot_letter(slot),
                           it.why);
    s.candidate = slot == s.active ? -1 : slot;
    s.tries = 0;
    TRY(write(s));
    return slot;
}

Result<int> SlotFolder::rollback() const {
    const Slots s = read();
    if (s.candidate >= 0 && s.active >= 0) return activate(s.active);
    const int other = s.active < 0 ? -1 : slot_count - 1 - s.active;
    if (other < 0 || s.slot[other].state != SlotState::good)
        return Error::make(Code::incorrect_parameters, "there is no good model to go back to: %s",
                           other < 0                               ? "none is active"
                           : s.slot[other].state == SlotState::bad ? "the other slot is bad"
                           : s.slot[other].state == SlotState::staged
                               ? "the other slot is staged, and was never tried (slmctl model activate)"
                               : "the other slot is empty");
    return activate(other);
}

}  // namespace slmd::image
