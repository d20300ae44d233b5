#include "route/journal.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <algorithm>
#include <cstddef>

#include "base/bytes.h"

namespace slmd::route {
namespace {

Error failed(const char* what, const char* path) {
    return Error::make(Code::storage_failure, "%s: %s: %s", path, what, strerror(errno));
}

std::uint32_t crc_of(const RecordHeader& h, std::string_view text, std::string_view rest = {}) {
    constexpr std::size_t from = offsetof(RecordHeader, size);
    std::uint32_t crc = crc32c({reinterpret_cast<const std::byte*>(&h) + from, sizeof h - from});
    for (const std::string_view part : {text, rest}) crc = crc32c(std::as_bytes(std::span(part)), crc);
    return crc;
}

std::uint64_t length_of(std::uint64_t text) { return sizeof(RecordHeader) + round_up(text, 8); }

// A good record at a place of a file of n bytes, its text in scratch.
bool record_at(int fd, std::uint64_t at, std::uint64_t n, std::span<char> scratch, RecordHeader& h) {
    if (n - at < sizeof h || pread(fd, &h, sizeof h, static_cast<off_t>(at)) != static_cast<ssize_t>(sizeof h))
        return false;
    if (h.magic != Journal::magic || h.size > std::min(Journal::max_record, scratch.size()) ||
        length_of(h.size) > n - at)
        return false;
    return pread(fd, scratch.data(), h.size, static_cast<off_t>(at + sizeof h)) == static_cast<ssize_t>(h.size) &&
           h.crc == crc_of(h, {scratch.data(), h.size});
}

// Behind the last byte from `begin` on that is not 0.
std::uint64_t last_written(int fd, std::uint64_t begin, std::uint64_t end, std::span<char> scratch) {
    std::uint64_t last = begin;
    for (std::uint64_t at = begin; at < end;) {
        const ssize_t n =
            pread(fd, scratch.data(), std::min<std::uint64_t>(scratch.size(), end - at), static_cast<off_t>(at));
        if (n <= 0) return end;
        for (ssize_t i = 0; i < n; i++)
            if (scratch[static_cast<std::size_t>(i)] != 0) last = at + static_cast<std::uint64_t>(i) + 1;
        at += static_cast<std::uint64_t>(n);
    }
    return last;
}

Result<void> sync_folder(const char* path) {
    char folder[288];
    const char* const slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash == nullptr ? 1 : static_cast<int>(slash - path + 1),
             slash == nullptr ? "." : path);
    const int fd = ::open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    const bool done = fd >= 0 && fsync(fd) == 0;
    const Error e = failed("the folder cannot be written", folder);
    if (fd >= 0) close(fd);
    if (!done) return e;
    return {};
}

}  // namespace

Journal& Journal::operator=(Journal&& o) noexcept {
    std::swap(fd_, o.fd_);
    std::swap(changed_, o.changed_);
    std::swap(end_, o.end_);
    std::swap(filled_, o.filled_);
    std::swap(commits_, o.commits_);
    std::swap(path_, o.path_);
    std::swap(temporary_, o.temporary_);
    return *this;
}

Journal::~Journal() {
    if (fd_ >= 0) close(fd_);
    if (temporary_[0] != 0) unlink(temporary_);
}

Result<Journal::Found> Journal::open(const char* path, std::span<char> scratch, Visitor& visitor) {
    if (strlen(path) >= sizeof path_) return Error::make(Code::text_too_long, "%.180s...: too long a path", path);
    strcpy(path_, path);
    fd_ = ::open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    if (fd_ < 0) return failed("cannot be opened", path);
    if (flock(fd_, LOCK_EX | LOCK_NB) != 0)
        return Error::make(Code::busy, "%s: another process has it; stop that one first", path);
    struct stat st;
    if (fstat(fd_, &st) != 0) return failed("cannot be read", path);
    const auto n = static_cast<std::uint64_t>(st.st_size);
    Found found;
    RecordHeader h;
    std::uint64_t at = 0;
    while (at < n) {
        std::uint64_t next = at;
        while (next < n && !record_at(fd_, next, n, scratch, h)) next += 8;
        if (next >= n) break;
        found.damaged += next > at;
        TRY(visitor.record(h.type, {scratch.data(), h.size}, {next + sizeof h, h.size}));
        at = end_ = next + length_of(h.size);
    }
    filled_ = n;
    if (const std::uint64_t behind = last_written(fd_, end_, n, scratch); behind > end_) {
        found.torn = behind - end_;
        filled_ = end_;
        if (ftruncate(fd_, static_cast<off_t>(end_)) != 0 || fdatasync(fd_) != 0)
            return failed("its torn end cannot be cut off", path);
    }
    if (n == 0) TRY(sync_folder(path));
    return found;
}

// So many bytes are there, zeros behind the records.
Result<void> Journal::fill(std::uint64_t end) {
    static constexpr char zeros[4096] = {};
    for (const std::uint64_t wanted = filled_ >= end ? 0 : round_up(end, chunk_bytes); filled_ < wanted;) {
        const std::size_t n = static_cast<std::size_t>(std::min<std::uint64_t>(sizeof zeros, wanted - filled_));
        const ssize_t written = pwrite(fd_, zeros, n, static_cast<off_t>(filled_));
        if (written <= 0) {
            if (written == 0) errno = ENOSPC;
            const Error e = failed("cannot be written", path_);
            if (ftruncate(fd_, static_cast<off_t>(end_)) == 0) filled_ = end_;
            return e;
        }
        filled_ += static_cast<std::uint64_t>(written);
    }
    return {};
}

Result<Journal::Place> Journal::append(std::uint32_t type, std::string_view head, std::string_view rest) {
    const std::size_t n = head.size() + rest.size();
    if (n > max_record) return Error::make(Code::text_too_long, "a record of %zu bytes: at most %zu", n, max_record);
    RecordHeader h{magic, 0, static_cast<std::uint32_t>(n), type};
    h.crc = crc_of(h, head, rest);
    char zeros[8] = {};
    iovec parts[] = {{&h, sizeof h},
                     {const_cast<char*>(head.data()), head.size()},
                     {const_cast<char*>(rest.data()), rest.size()},
                     {zeros, round_up(n, 8) - n}};
    const auto wanted = static_cast<ssize_t>(length_of(n));
    TRY(fill(end_ + static_cast<std::uint64_t>(wanted)));
    if (lseek(fd_, static_cast<off_t>(end_), SEEK_SET) < 0) return failed("cannot be written", path_);
    const ssize_t written = writev(fd_, parts, 4);
    if (written != wanted) {
        if (written >= 0) errno = ENOSPC;
        const Error e = failed("cannot be written", path_);
        if (ftruncate(fd_, static_cast<off_t>(end_)) == 0) filled_ = end_;
        return e;
    }
    const Place place{end_ + sizeof h, h.size};
    end_ += static_cast<std::uint64_t>(wanted);
    changed_ = true;
    return place;
}

Result<void> Journal::commit() {
    if (!changed_) return {};
    if (fdatasync(fd_) != 0) return failed("cannot be written", path_);
    changed_ = false;
    commits_++;
    return {};
}

Result<std::string_view> Journal::read(Place place, std::span<char> out) const {
    RecordHeader h;
    if (place.size > out.size()) return Error::make(Code::text_too_long, "a record of %u bytes", place.size);
    if (!record_at(fd_, place.at - sizeof h, end_, out, h) || h.size != place.size)
        return Error::make(Code::check_failed, "%s: the record at byte %llu is damaged", path_,
                           static_cast<unsigned long long>(place.at));
    return std::string_view(out.data(), h.size);
}

Result<Journal> Journal::successor() const {
    Journal next;
    strcpy(next.path_, path_);
    snprintf(next.temporary_, sizeof next.temporary_, "%s.new", path_);
    next.fd_ = ::open(next.temporary_, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    if (next.fd_ < 0) return failed("cannot be written", next.temporary_);
    if (flock(next.fd_, LOCK_EX | LOCK_NB) != 0) return failed("cannot be locked", next.temporary_);
    return next;
}

Result<void> Journal::replace(Journal&& next) {
    TRY(next.commit());
    next.commits_ += commits_;
    if (rename(next.temporary_, path_) != 0) return failed("cannot be renamed", next.temporary_);
    next.temporary_[0] = 0;
    *this = std::move(next);
    return sync_folder(path_);
}

}  // namespace slmd::route
