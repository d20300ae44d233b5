#include "hal/root.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

namespace slmd::hal {
namespace {

Error failed(const char* path, const char* what, int e) {
    const bool gone = e == ENOENT || e == ENODEV || e == ENXIO || e == ENOTDIR;
    return Error::make(gone ? Code::not_found : Code::device_io, "/%s: %s: %s", path, what, strerror(e));
}

}  // namespace

Result<Root> Root::open(const char* folder) {
    const int fd = ::open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) return Error::make(Code::device_io, "%s: cannot open the folder: %s", folder, strerror(errno));
    return Root(fd);
}

Root::~Root() {
    if (fd_ >= 0) close(fd_);
}

Result<int> Root::file(const char* path, int flags) const {
    const int fd = openat(fd_, path, flags | O_CLOEXEC);
    if (fd < 0) return failed(path, "cannot open", errno);
    return fd;
}

Result<std::string_view> Root::read(const char* path, std::span<char> buffer) const {
    const int fd = TRY(file(path, O_RDONLY));
    std::size_t size = 0;
    for (ssize_t n = 1; n > 0 && size + 1 < buffer.size(); size += n > 0 ? static_cast<std::size_t>(n) : 0) {
        n = ::read(fd, buffer.data() + size, buffer.size() - 1 - size);
        if (n < 0 && errno == EINTR) {
            n = 1, size--;
        } else if (n < 0) {
            const int e = errno;
            close(fd);
            return failed(path, "cannot read", e);
        }
    }
    close(fd);
    while (size > 0 && (buffer[size - 1] == '\n' || buffer[size - 1] == ' ' || buffer[size - 1] == 0)) size--;
    buffer[size] = 0;
    return std::string_view(buffer.data(), size);
}

Result<std::int64_t> Root::number(const char* path) const {
    char text[64];
    TRY(read(path, text));
    char* end;
    errno = 0;
    const long long v = strtoll(text, &end, 0);
    if (end == text || errno != 0) return Error::make(Code::device_io, "/%s: not a number: \"%.20s\"", path, text);
    return v;
}

Result<void> Root::write(const char* path, std::string_view text) const {
    const int fd = TRY(file(path, O_WRONLY));
    const ssize_t n = ::write(fd, text.data(), text.size());
    const int e = errno;
    close(fd);
    if (n != static_cast<ssize_t>(text.size())) return failed(path, "cannot write", n < 0 ? e : EIO);
    return {};
}

}  // namespace slmd::hal
