#include "client/board.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "hal/replay/trace.h"

namespace slmd::client {
namespace {

struct Machine {
    hal::BoardFile file;
    std::unique_ptr<hal::Hardware> hardware;
};

Result<Machine> open_machine(const char* folder, const char* name) {
    auto root = hal::Root::open();
    if (!root) return root.error();
    Machine m;
    m.file = TRY(hal::find_board(root.value(), folder, name));
    m.hardware = TRY(hal::open_linux(std::move(root).value(), m.file));
    return m;
}

template <std::size_t N, std::size_t Size>
void print_paths(const char* what, const char (&names)[N][Size], int count, const char* prefix) {
    for (int i = 0; i < count; i++) {
        char path[128];
        snprintf(path, sizeof path, "%s%s", prefix, names[i]);
        printf("%-14s %s%s\n", i == 0 ? what : "", names[i], access(path, F_OK) == 0 ? "" : "  (not here)");
    }
}

}  // namespace

Result<void> show_board(const char* folder, const char* name) {
    Machine m = TRY(open_machine(folder, name));
    const hal::BoardFile& b = m.file;
    hal::Hardware& h = *m.hardware;
    const hal::Identity who = h.board().identity();
    printf("%-14s %s (%s)\n", "board", b.name, b.title);
    if (who.model[0] != 0) printf("%-14s %s\n", "model", who.model);
    if (who.compatible[0] != 0) printf("%-14s %s\n", "compatible", who.compatible);
    if (who.serial[0] != 0) printf("%-14s %s\n", "serial number", who.serial);
    hal::CoreCluster clusters[hal::BoardFile::max_clusters];
    if (const auto n = h.cpu().clusters(clusters))
        for (int i = 0; i < n.value(); i++) {
            const char* const core = hal::core_name(clusters[i].midr);
            printf("%-14s %d x %s", i == 0 ? "cores" : "", clusters[i].cores,
                   core[0] != 0          ? core
                   : i < b.cluster_count ? b.clusters[i].core
                                         : "CPU");
            clusters[i].capacity > 0 ? printf(", capacity %d\n", clusters[i].capacity) : puts("");
        }
    if (auto f = h.cpu().frequency()) printf("%-14s %d of %d MHz\n", "clock", f->cap / 1000, f->maximum / 1000);
    const auto throttle = h.thermal().throttle_point();
    if (const auto t = h.thermal().temperature()) {
        printf("%-14s %.1f deg C", "temperature", t.value() / 1000.0);
        throttle ? printf(", slows down from %.0f on\n", throttle.value() / 1000.0) : puts("");
    } else {
        printf("%-14s %s\n", "temperature", t.error().text);
    }
    if (const auto low = h.power().undervoltage()) printf("%-14s %s\n", "supply", low.value() ? "too low" : "good");
    printf("%-14s %s\n", "power sensor", h.power().microjoules() ? "yes" : "none");
    if (auto mem = h.board().memory()) {
        printf("%-14s %llu MiB, %llu available", "memory", static_cast<unsigned long long>(mem->total >> 20),
               static_cast<unsigned long long>(mem->available >> 20));
        if (b.reserve_mib > 0) printf(", %d left to the system", b.reserve_mib);
        puts(mem->limit > 0 ? ", limited" : "");
    }
    print_paths("serial lines", b.serials, b.serial_count, "");
    print_paths("LEDs", b.leds, b.led_count, "/sys/class/leds/");
    if (b.gpio_chip[0] != 0) printf("%-14s %s\n", "GPIO chip", b.gpio_chip);
    for (int i = 0; i < b.pin_count; i++) {
        hal::LineConfig line;  // an input as it is: looking changes nothing
        line.name = b.pins[i].name;
        const auto n = h.gpio().request(line);
        printf("%-14s %-8s %-24s %s\n", i == 0 ? "pins" : "", b.pins[i].name, b.pins[i].line,
               n                                   ? "free"
               : n.error().code == Code::busy      ? "in use"
               : n.error().code == Code::not_found ? "not here"
                                                   : n.error().text);
        if (n) h.gpio().release(n.value());
    }
    if (b.watchdog_s > 0) printf("%-14s up to %d s\n", "watchdog", b.watchdog_s);
    if (auto v = h.storage().volume("/")) {
        printf("%-14s %s, %llu MiB free%s", "storage", v->kind[0] != 0 ? v->kind : "unknown",
               static_cast<unsigned long long>(v->free >> 20), v->read_only ? ", read-only" : "");
        v->worn >= 0 ? printf(", %d %% worn\n", v->worn) : puts("");
    }
    return {};
}

int check_boards(std::span<char* const> files) {
    int code = 0;
    for (const char* const file : files) {
        const auto board = hal::read_board_file(file);
        if (board)
            printf("%s: good: %s\n", file, board.value().title);
        else
            fprintf(stderr, "%s\n", board.error().text), code = 1;
    }
    return code;
}

Result<void> record(const char* path, std::span<const char* const> lines, int seconds, const char* folder,
                    const char* name, const volatile std::sig_atomic_t& interrupts) {
    Machine m = TRY(open_machine(folder, name));
    const int out = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0644);
    if (out < 0)
        return Error::make(Code::storage_failure, "%s: %s%s", path, strerror(errno),
                           errno == EEXIST ? "; a trace is not overwritten" : "");
    auto recorder = hal::Recorder::open(*m.hardware, lines, out);
    Result<void> result;
    if (!recorder) result = recorder.error();
    const std::uint64_t begin = m.hardware->now_ms();
    while (result && interrupts == 0) {
        result = recorder->sample();
        const std::uint64_t passed = m.hardware->now_ms() - begin;
        if (seconds > 0 && passed >= static_cast<std::uint64_t>(seconds) * 1000) break;
        pollfd p{recorder->fd(), POLLIN, 0};
        poll(&p, 1, static_cast<int>(1000 - passed % 1000));  // an edge is written when it comes
    }
    if (close(out) != 0 && result) result = Error::make(Code::storage_failure, "%s: %s", path, strerror(errno));
    return result;
}

}  // namespace slmd::client
