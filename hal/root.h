// Where the machine's files are: sysfs, procfs and /dev below one folder, "/" on a board, a fixture tree in a test.
#pragma once
#include <dirent.h>
#include <fcntl.h>
#include <sys/syscall.h>
#include <unistd.h>

#include <cstdint>
#include <span>
#include <string_view>
#include <utility>

#include "base/result.h"

namespace slmd::hal {

// Paths are relative to the folder: "sys/class/thermal". Nothing here allocates.
class Root {
  public:
    static Result<Root> open(const char* folder = "/");
    Root(Root&& o) noexcept : fd_(std::exchange(o.fd_, -1)) {}
    Root& operator=(Root&& o) noexcept {
        std::swap(fd_, o.fd_);
        return *this;
    }
    ~Root();
    // The text of a small file without the white space at its end, as much of it as buffer takes; zero-terminated.
    // Errors: not_found; device_io with path and reason.
    Result<std::string_view> read(const char* path, std::span<char> buffer) const;
    // A whole number at the text's beginning, decimal or 0x. Errors: as read; device_io when there is none.
    Result<std::int64_t> number(const char* path) const;
    // Errors: as read.
    Result<void> write(const char* path, std::string_view text) const;
    // A descriptor to close(); flags as of open(2), O_CLOEXEC is added. Errors: as read.
    Result<int> file(const char* path, int flags) const;
    int fd() const { return fd_; }

    // Calls each(name) for what is in a folder, in the kernel's order, until it returns false. A missing folder is
    // empty.
    template <class Each>
    void list(const char* folder, Each each) const {
        const int fd = openat(fd_, folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
        if (fd < 0) return;
        alignas(dirent64) char buffer[4096];  // getdents64: opendir would allocate
        bool more = true;
        for (long n; more && (n = syscall(SYS_getdents64, fd, buffer, sizeof buffer)) > 0;)
            for (long at = 0; more && at < n;) {
                const auto* e = reinterpret_cast<const dirent64*>(buffer + at);
                at += e->d_reclen;
                if (e->d_name[0] != '.') more = each(static_cast<const char*>(e->d_name));
            }
        close(fd);
    }

  private:
    explicit Root(int fd) : fd_(fd) {}
    int fd_;
};

}  // namespace slmd::hal
