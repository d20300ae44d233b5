#include "base/file.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

#include <cerrno>
#include <cstring>

namespace slmd {

Result<MappedFile> MappedFile::open(const char* path) {
    const int fd = ::open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return Error::make(Code::storage_failure, "%s: not a regular file", path);
    }
    const auto size = static_cast<std::size_t>(st.st_size);
    void* data = nullptr;
    if (size != 0) {
        data = mmap(nullptr, size, PROT_READ, MAP_SHARED, fd, 0);
        if (data == MAP_FAILED) {
            const int reason = errno;
            close(fd);
            return Error::make(Code::storage_failure, "%s: cannot map: %s", path, strerror(reason));
        }
    }
    close(fd);
    return MappedFile(data, size);
}

MappedFile::~MappedFile() {
    if (data_ != nullptr) munmap(data_, size_);
}

Result<AtomicFile> AtomicFile::create(const char* path) {
    AtomicFile f;
    const int n = std::snprintf(f.temporary_, sizeof f.temporary_, "%s.tmp-%d", path, static_cast<int>(getpid()));
    if (n < 0 || static_cast<std::size_t>(n) >= sizeof f.temporary_)
        return Error::make(Code::text_too_long, "path of %zu characters is too long", strlen(path));
    std::snprintf(f.path_, sizeof f.path_, "%s", path);
    f.fd_ = ::open(f.temporary_, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (f.fd_ < 0) return Error::make(Code::storage_failure, "cannot create %s: %s", f.temporary_, strerror(errno));
    return f;
}

AtomicFile::AtomicFile(AtomicFile&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {
    std::memcpy(path_, o.path_, sizeof path_);
    std::memcpy(temporary_, o.temporary_, sizeof temporary_);
}

AtomicFile::~AtomicFile() {
    if (fd_ < 0) return;
    close(fd_);
    unlink(temporary_);
}

Result<void> AtomicFile::write(std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = ::write(fd_, bytes.data(), bytes.size());
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return Error::make(Code::storage_failure, "cannot write %s: %s", temporary_, strerror(errno));
        bytes = bytes.subspan(static_cast<std::size_t>(n));
    }
    return {};
}

Result<void> AtomicFile::write_at(std::size_t offset, std::span<const std::byte> bytes) {
    while (!bytes.empty()) {
        const ssize_t n = pwrite(fd_, bytes.data(), bytes.size(), static_cast<off_t>(offset));
        if (n < 0 && errno == EINTR) continue;
        if (n <= 0) return Error::make(Code::storage_failure, "cannot write %s: %s", temporary_, strerror(errno));
        bytes = bytes.subspan(static_cast<std::size_t>(n));
        offset += static_cast<std::size_t>(n);
    }
    return {};
}

Result<void> AtomicFile::commit() {
    if (fsync(fd_) != 0) return Error::make(Code::storage_failure, "cannot sync %s: %s", temporary_, strerror(errno));
    if (close(std::exchange(fd_, -1)) != 0 || rename(temporary_, path_) != 0) {
        const int reason = errno;
        unlink(temporary_);
        return Error::make(Code::storage_failure, "cannot rename %s to %s: %s", temporary_, path_, strerror(reason));
    }
    char folder[4096];
    std::memcpy(folder, path_, sizeof folder);
    char* slash = strrchr(folder, '/');
    if (slash == nullptr)
        std::memcpy(folder, ".", 2);
    else
        slash[slash == folder ? 1 : 0] = 0;
    // The rename itself must survive a power cut.
    const int dir = ::open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (dir < 0) return {};
    const bool lost = fsync(dir) != 0 && errno == EIO;  // other reasons: this file system does not do it for folders
    close(dir);
    if (lost) return Error::make(Code::storage_failure, "cannot sync %s: %s", folder, strerror(EIO));
    return {};
}

Result<void> write_file(const char* path, std::span<const std::byte> bytes) {
    AtomicFile file = TRY(AtomicFile::create(path));
    TRY(file.write(bytes));
    return file.commit();
}

}  // namespace slmd
