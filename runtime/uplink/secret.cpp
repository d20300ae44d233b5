#include "uplink/secret.h"

#include <fcntl.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>
#include <cerrno>

namespace slmd::uplink {

Result<void> Secret::read(const char* path) {
    wipe();
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return Error::make(Code::storage_failure, "key %s: %s", path, strerror(errno));
    struct stat st;
    if (fstat(fd, &st) != 0 || !S_ISREG(st.st_mode)) {
        close(fd);
        return Error::make(Code::storage_failure, "key %s: not a regular file", path);
    }
    if ((st.st_mode & S_IROTH) != 0) {
        close(fd);
        return Error::make(Code::not_permitted, "key %s: everybody may read it; chmod 0600 it", path);
    }
    ssize_t n = 0;
    while (size_ < max_bytes && (n = ::read(fd, text_ + size_, max_bytes - size_)) != 0) {
        if (n < 0 && errno == EINTR) continue;
        if (n < 0) break;
        size_ += static_cast<std::size_t>(n);
    }
    const int reason = errno;
    close(fd);
    const auto refuse = [&](Code code, const char* why) {
        wipe();
        return Error::make(code, "key %s: %s", path, why);
    };
    if (n < 0) return refuse(Code::storage_failure, strerror(reason));
    if (size_ == max_bytes) return refuse(Code::text_too_long, "a key is at most 1023 bytes");
    if (size_ > 0 && text_[size_ - 1] == '\n') size_--;
    if (size_ > 0 && text_[size_ - 1] == '\r') size_--;
    if (size_ == 0) return refuse(Code::incorrect_parameters, "it is empty; put the key there, on one line");
    // RFC 6750, 2.1: b64token, and nothing that could end the field.
    if (!std::all_of(text_, text_ + size_, [](char c) { return c > ' ' && c < 0x7F; }))
        return refuse(Code::invalid_characters, "a key is one line of printable ASCII without blanks");
    return {};
}

void Secret::wipe() {
    explicit_bzero(text_, sizeof text_);
    size_ = 0;
}

}  // namespace slmd::uplink
