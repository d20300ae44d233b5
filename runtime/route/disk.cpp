#include "route/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

#include <utility>

namespace slmd::route {
namespace {

Error failed(const char* what, const char* name = "") {
    return Error::make(Code::storage_failure, "cannot %s %s: %s", what, name, strerror(errno));
}

}  // namespace

Folder::~Folder() {
    if (fd_ >= 0) ::close(fd_);
}

Result<void> Folder::open_folder(const char* path) {
    if (mkdir(path, 0750) != 0 && errno != EEXIST) return failed("make the folder", path);
    const int fd = ::open(path, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return failed("open the folder", path);
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        ::close(fd);
        return Error::make(Code::busy, "%s: another process writes it", path);
    }
    if (fd_ >= 0) ::close(fd_);
    fd_ = fd;
    return {};
}

Result<void> Folder::list(Look look, void* context) {
    // readdir() allocates once; this is before READY.
    const int fd = openat(fd_, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR* const d = fd < 0 ? nullptr : fdopendir(fd);
    if (d == nullptr) {
        const Error e = failed("list the folder");
        if (fd >= 0) ::close(fd);
        return e;
    }
    while (const dirent* const e = readdir(d))
        if (!look(context, e->d_name)) break;
    closedir(d);
    return {};
}

Result<int> Folder::open(const char* name, How how) {
    const int more = how == How::existing ? 0 : how == How::emptied ? O_CREAT | O_TRUNC : O_CREAT;
    const int fd = openat(fd_, name, O_RDWR | O_CLOEXEC | O_NOFOLLOW | more, 0640);
    if (fd < 0) return failed("open", name);
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        ::close(fd);
        return Error::make(Code::storage_failure, "%s: not a regular file", name);
    }
    return fd;
}

void Folder::close(int file) { ::close(file); }

Result<std::uint64_t> Folder::size(int file) {
    struct stat st;
    if (fstat(file, &st) != 0) return failed("ask how large it is");
    return static_cast<std::uint64_t>(st.st_size);
}

Result<std::size_t> Folder::read(int file, std::uint64_t at, std::span<std::byte> out) {
    std::size_t done = 0;
    while (done < out.size()) {
        const ssize_t n = pread(file, out.data() + done, out.size() - done, static_cast<off_t>(at + done));
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) return failed("read");
        if (n == 0) break;
        done += static_cast<std::size_t>(n);
    }
    return done;
}

Result<void> Folder::write(int file, std::uint64_t at, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = pwrite(file, bytes.data(), bytes.size(), static_cast<off_t>(at));
        if (n < 0 && errno == EINTR) continue;
        if (n == 0) errno = ENOSPC;
        if (n <= 0) return failed("write");
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        at += static_cast<std::uint64_t>(n);
    }
    return {};
}

Result<void> Folder::truncate(int file, std::uint64_t size) {
    if (ftruncate(file, static_cast<off_t>(size)) != 0) return failed("cut");
    return {};
}

Result<void> Folder::sync(int file) {
    if (fdatasync(file) != 0) return failed("sync");
    return {};
}

Result<void> Folder::rename(const char* from, const char* to) {
    if (renameat(fd_, from, fd_, to) != 0) return failed("rename", from);
    return sync_names();
}

Result<void> Folder::sync_names() {
    if (fsync(fd_) != 0 && errno == EIO) return failed("sync the folder");  // other reasons: not for folders here
    return {};
}

Result<void> Folder::remove(const char* name) {
    if (unlinkat(fd_, name, 0) != 0 && errno != ENOENT) return failed("remove", name);
    return {};
}

}  // namespace slmd::route
