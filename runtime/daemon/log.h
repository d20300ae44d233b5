// slmd's messages. Each is a line for people, and fields for programs: journalctl SLMD_EVENT=reload -o json.
//
//     log(Level::warning, {{"SLMD_EVENT", "hot"}, {"SLMD_TEMP_C", 81.5}}, "%.1f °C: 2 threads from now on", 81.5);
//
// Where stderr is the journal (JOURNAL_STREAM, systemd.exec(5)), messages go to it by its own protocol
// (systemd.io/JOURNAL_NATIVE_PROTOCOL), with PRIORITY and SYSLOG_IDENTIFIER; everywhere else to stderr, as
// "<priority>slmd: message", without the fields. Written out here, because libsystemd allocates and this must work
// after READY. Never waits: a message that cannot be taken at once is dropped, and the next that is taken is preceded
// by how many were. For all threads.
#pragma once
#include <concepts>
#include <cstdint>
#include <initializer_list>

namespace slmd::daemon {

enum class Level : int { error = 3, warning = 4, notice = 5, info = 6, debug = 7 };  // as in syslog(3)

// Names are capital letters, digits and underscores, beginning with SLMD_ where the journal has no own name for it.
struct Field {
    enum Kind : unsigned char { text, whole, real } kind;
    const char* name;
    union {
        const char* string;
        std::int64_t number;
        double value;
    };
    Field(const char* n, const char* s) : kind(text), name(n), string(s) {}
    template <std::integral T>
    Field(const char* n, T v) : kind(whole), name(n), number(static_cast<std::int64_t>(v)) {}
    Field(const char* n, double v) : kind(real), name(n), value(v) {}
};

constexpr char journal_socket[] = "/run/systemd/journal/socket";

// Finds out where messages go; before it they go to stderr. Once, before there are other threads.
void open_log(const char* journal = journal_socket);

// At most 511 bytes of text and 2 KiB of fields; what is longer is cut.
[[gnu::format(printf, 3, 4)]] void log(Level level, std::initializer_list<Field> fields, const char* format, ...);

}  // namespace slmd::daemon
