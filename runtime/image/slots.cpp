#include "image/slots.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

#include <cerrno>
#include <cinttypes>
#include <cstddef>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>

#include "base/bytes.h"
#include "base/file.h"
#include "image/audit.h"
#include "image/delta.h"
#include "image/sha256.h"

namespace slmd::image {
namespace {

constexpr char magic[8] = {'S', 'L', 'M', 'S', 'L', 'O', 'T', '1'};
constexpr std::size_t copy_bytes = 1u << 20;

struct Record {  // little endian
    char magic[8];
    std::uint32_t active, candidate, tries;  // 0: none, 1: a, 2: b
    std::uint32_t reserved;
    Slot slot[slot_count];
    std::uint8_t zero[1024 - 8 - 4 * 4 - sizeof slot - 4];
    std::uint32_t crc32c;  // of all before it
};
static_assert(sizeof(Record) == 1024 && sizeof(Slot) == 216);

Result<Slots> decode(std::span<const std::byte> bytes) {
    const auto damaged = [] { return Error::make(Code::storage_failure, "damaged"); };
    if (bytes.size() != sizeof(Record)) return damaged();
    const auto r = load<Record>(bytes.data());
    if (std::memcmp(r.magic, magic, sizeof magic) != 0 || crc32c(bytes.first(offsetof(Record, crc32c))) != r.crc32c)
        return damaged();
    if (r.active > slot_count || r.candidate > slot_count || r.tries > max_tries) return damaged();
    Slots s{static_cast<int>(r.active) - 1, static_cast<int>(r.candidate) - 1, static_cast<int>(r.tries), {}};
    for (int i = 0; i < slot_count; i++) {
        if (r.slot[i].state > SlotState::bad || std::memchr(r.slot[i].why, 0, sizeof r.slot[i].why) == nullptr)
            return damaged();
        s.slot[i] = r.slot[i];
    }
    return s;
}

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

int staged(const Slots& slots) {
    for (int i = 0; i < slot_count; i++)
        if (slots.slot[i].state == SlotState::staged) return i;
    return -1;
}

std::uint64_t size_of(const char* path) {
    struct stat st;
    return stat(path, &st) == 0 ? static_cast<std::uint64_t>(st.st_size) : 0;
}

}  // namespace

const char* slot_state_name(SlotState state) {
    constexpr const char* names[] = {"empty", "staged", "good", "bad"};
    return names[static_cast<std::uint32_t>(state)];
}

bool is_slot_folder(const char* path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

// One at a time may change the record, and one at a time may install, which takes long. Where nothing can be written
// nothing needs a lock.
class SlotFolder::Lock {
  public:
    enum Of : int { record = 0, install = 1 };
    Lock(const SlotFolder& folder, Of what) {
        char path[512];
        std::snprintf(path, sizeof path, "%s/lock", folder.folder_);
        fd_ = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
        struct flock l {};
        l.l_type = F_WRLCK;
        l.l_whence = SEEK_SET;
        l.l_start = what;
        l.l_len = 1;
        taken_ = fd_ >= 0 && fcntl(fd_, what == install ? F_OFD_SETLK : F_OFD_SETLKW, &l) == 0;
    }
    Lock(const Lock&) = delete;
    Lock& operator=(const Lock&) = delete;
    ~Lock() {
        if (fd_ >= 0) close(fd_);
    }
    bool taken() const { return taken_; }

  private:
    int fd_;
    bool taken_;
};

Result<SlotFolder> SlotFolder::open(const char* folder) {
    SlotFolder f;
    const std::size_t n = std::strlen(folder);
    if (n + 32 > sizeof f.folder_) return Error::make(Code::text_too_long, "path of %zu characters is too long", n);
    if (!is_slot_folder(folder)) return Error::make(Code::storage_failure, "%s: there is no such folder", folder);
    std::memcpy(f.folder_, folder, n + 1);
    return f;
}

void SlotFolder::path_of(int slot, char (&out)[512]) const {
    std::snprintf(out, sizeof out, "%s/%c.slm", folder_, slot_letter(slot));
}

Slots SlotFolder::read() const {
    char path[512];
    std::snprintf(path, sizeof path, "%s/slots", folder_);
    if (const auto file = MappedFile::open(path))
        if (const auto slots = decode(file.value().bytes())) return slots.value();
    Slots found;
    for (int i = 0; i < slot_count; i++) {
        path_of(i, path);
        if (!Image::open_index(path)) continue;
        found.slot[i].state = SlotState::good;
        if (found.active < 0) found.active = i;
    }
    return found;
}

Result<void> SlotFolder::write(const Slots& slots) const {
    Record r{};
    std::memcpy(r.magic, magic, sizeof magic);
    r.active = static_cast<std::uint32_t>(slots.active + 1);
    r.candidate = static_cast<std::uint32_t>(slots.candidate + 1);
    r.tries = static_cast<std::uint32_t>(slots.tries);
    for (int i = 0; i < slot_count; i++) r.slot[i] = slots.slot[i];
    const auto bytes = std::as_bytes(std::span(&r, 1));
    r.crc32c = crc32c(bytes.first(offsetof(Record, crc32c)));
    char path[512];
    std::snprintf(path, sizeof path, "%s/slots", folder_);
    return write_file(path, bytes);
}

Choice SlotFolder::choice(const Slots& slots, int slot) const {
    Choice c;
    c.slot = slot;
    if (slot < 0) return c;
    c.serial = slots.slot[slot].serial;
    c.trial = slot == slots.candidate;
    path_of(slot, c.path);
    return c;
}

Choice SlotFolder::next() const {
    Slots s = read();
    if (s.active < 0 && s.candidate < 0) s.candidate = staged(s);
    return choice(s, s.candidate >= 0 && s.tries < max_tries ? s.candidate : s.active);
}

Error SlotFolder::nothing() const {
    return Error::make(
        Code::not_found,
        "%s: no model is installed: slmctl model install IMAGE, then slmctl model activate; slmctl model list "
        "shows what is there",
        folder_);
}

Result<Choice> SlotFolder::choose() const {
    const Lock lock(*this, Lock::record);
    Slots s = read();
    if (s.active < 0 && s.candidate < 0) s.candidate = staged(s);
    if (s.candidate >= 0 && s.tries >= max_tries) {
        Slot& failed = s.slot[s.candidate];
        failed.state = SlotState::bad;
        std::snprintf(failed.why, sizeof failed.why, "slmd did not get ready with it in %d starts", max_tries);
        s.candidate = -1;
        s.tries = 0;
        (void)write(s);
    }
    if (s.candidate >= 0) {
        s.tries++;
        if (write(s) || s.active < 0) return choice(s, s.candidate);
        s.candidate = -1;  // not counted, so not tried
    }
    if (s.active >= 0) return choice(s, s.active);
    return nothing();
}

Result<void> SlotFolder::confirm(const Choice& choice) const {
    const Lock lock(*this, Lock::record);
    Slots s = read();
    Slot& slot = s.slot[choice.slot];
    if (slot.serial != choice.serial || s.candidate != choice.slot)
        return Error::make(Code::not_found, "slot %c was given to another model meanwhile", slot_letter(choice.slot));
    slot.state = SlotState::good;
    slot.why[0] = 0;
    s.active = choice.slot;
    s.candidate = -1;
    s.tries = 0;
    return write(s);
}

Result<Choice> SlotFolder::reject(const Choice& rejected, const char* why) const {
    const Lock lock(*this, Lock::record);
    Slots s = read();
    const int other = slot_count - 1 - rejected.slot;
    Slot& slot = s.slot[rejected.slot];
    if (s.candidate == rejected.slot)
        s.candidate = -1, s.tries = 0;
    else if (s.slot[other].state != SlotState::good)
        return Error::make(Code::not_found, "%s: slot %c is all there is; it is tried again at the next start", folder_,
                           slot_letter(rejected.slot));
    else if (s.active == rejected.slot)
        s.active = other;
    if (slot.serial == rejected.serial) {
        slot.state = SlotState::bad;
        std::snprintf(slot.why, sizeof slot.why, "%s", why);
    }
    (void)write(s);  // it goes on all the same, and comes here again at the next start
    if (s.active < 0) return nothing();
    return choice(s, s.active);
}

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
