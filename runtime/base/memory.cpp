#include "base/memory.h"

#include <fcntl.h>
#include <unistd.h>

#include <cstdlib>
#include <cstring>

namespace slmd {

std::uint64_t available_memory() {
    constexpr std::uint64_t unknown = ~std::uint64_t{0};
    char text[512];  // the third line of the file
    const int fd = open("/proc/meminfo", O_RDONLY | O_CLOEXEC);
    if (fd < 0) return unknown;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return unknown;
    text[n] = 0;
    const char* line = std::strstr(text, "MemAvailable:");
    return line == nullptr ? unknown : std::strtoull(line + 13, nullptr, 10) << 10;
}

}  // namespace slmd
