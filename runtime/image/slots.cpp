#include "image/slots.h"

#include <fcntl.h>
#include <sys/stat.h>
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
#include "image/slots_lock.h"

namespace slmd::image {
namespace {

constexpr char magic[8] = {'S', 'L', 'M', 'S', 'L', 'O', 'T', '1'};

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

}  // namespace

const char* slot_state_name(SlotState state) {
    constexpr const char* names[] = {"empty", "staged", "good", "bad"};
    return names[static_cast<std::uint32_t>(state)];
}

bool is_slot_folder(const char* path) {
    struct stat st;
    return stat(path, &st) == 0 && S_ISDIR(st.st_mode);
}

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

}  // namespace slmd::image
