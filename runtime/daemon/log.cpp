#include "daemon/log.h"

#include <endian.h>
#include <errno.h>
#include <poll.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <atomic>
#include <string_view>

namespace slmd::daemon {
namespace {

constexpr std::size_t message_bytes = 512, datagram_bytes = 3072;

int journal_fd = -1;
std::atomic<unsigned> lost{0};

struct Datagram {
    char bytes[datagram_bytes];
    std::size_t size = 0;

    // The first form for what has no line end, the second for what has one. A field that does not fit is left out.
    void add(std::string_view name, std::string_view value) {
        const bool lines = value.find('\n') != value.npos;
        if (name.size() + value.size() + 2 + sizeof(std::uint64_t) > sizeof bytes - size) return;
        put(name);
        if (lines) {
            put("\n");
            const std::uint64_t length = htole64(value.size());
            put({reinterpret_cast<const char*>(&length), sizeof length});
        } else {
            put("=");
        }
        put(value);
        put("\n");
    }
    void put(std::string_view s) {
        memcpy(bytes + size, s.data(), s.size());
        size += s.size();
    }
};

bool to_journal(Level level, std::initializer_list<Field> fields, std::string_view message) {
    Datagram d;
    const char priority = static_cast<char>('0' + static_cast<int>(level));
    d.add("MESSAGE", message);
    d.add("PRIORITY", {&priority, 1});
    d.add("SYSLOG_IDENTIFIER", "slmd");
    for (const Field& f : fields) {
        char number[32];
        if (f.kind == Field::text) {
            d.add(f.name, f.string);
            continue;
        }
        if (f.kind == Field::whole)
            snprintf(number, sizeof number, "%lld", static_cast<long long>(f.number));
        else
            snprintf(number, sizeof number, "%.9g", f.value);
        d.add(f.name, number);
    }
    return send(journal_fd, d.bytes, d.size, MSG_DONTWAIT | MSG_NOSIGNAL) >= 0;
}

// A pipe or a terminal that nobody empties would hold the event loop: asked before, not after.
bool to_stderr(Level level, std::string_view message) {
    char line[message_bytes + 16];
    const int n = snprintf(line, sizeof line, "<%d>slmd: %.*s\n", static_cast<int>(level),
                           static_cast<int>(message.size()), message.data());
    pollfd p{STDERR_FILENO, POLLOUT, 0};
    return poll(&p, 1, 0) == 1 && write(STDERR_FILENO, line, static_cast<std::size_t>(n)) == n;
}

bool put(Level level, std::initializer_list<Field> fields, std::string_view message) {
    return (journal_fd >= 0 && to_journal(level, fields, message)) || to_stderr(level, message);
}

}  // namespace

void open_log(const char* journal) {
    const char* const stream = getenv("JOURNAL_STREAM");
    struct stat st;
    unsigned long long device = 0, inode = 0;
    if (stream == nullptr || sscanf(stream, "%llu:%llu", &device, &inode) != 2 || fstat(STDERR_FILENO, &st) != 0 ||
        st.st_dev != device || st.st_ino != inode)
        return;
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    if (strlen(journal) >= sizeof address.sun_path) return;
    memcpy(address.sun_path, journal, strlen(journal));
    const int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) return;
    if (connect(fd, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0) {
        close(fd);  // stderr is the journal as well, only without fields
        return;
    }
    journal_fd = fd;
}

void log(Level level, std::initializer_list<Field> fields, const char* format, ...) {
    const int kept = errno;
    char message[message_bytes];
    va_list args;
    va_start(args, format);
    const int n = vsnprintf(message, sizeof message, format, args);
    va_end(args);
    const std::size_t size = n < 0                                          ? 0
                             : static_cast<std::size_t>(n) < sizeof message ? static_cast<std::size_t>(n)
                                                                            : sizeof message - 1;
    if (const unsigned missing = lost.exchange(0); missing > 0) {
        char note[96];
        const int m = snprintf(note, sizeof note, "%u messages before this one are lost: nothing took them", missing);
        if (!put(Level::warning, {{"SLMD_EVENT", "log_lost"}, {"SLMD_COUNT", missing}},
                 {note, static_cast<std::size_t>(m)}))
            lost.fetch_add(missing);
    }
    if (!put(level, fields, {message, size})) lost.fetch_add(1);
    errno = kept;
}

}  // namespace slmd::daemon
