#include "hal/board_file.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "hal/toml.h"

namespace slmd::hal {
namespace {

struct Reader : TomlFile {
    BoardFile& board;

    Reader(const char* file, BoardFile& out) : TomlFile{file}, board(out) {}
    Error at(const toml::node& node, const char* format, const char* a = "", const char* b = "") const {
        char text[160];
        snprintf(text, sizeof text, format, a, b);  // NOLINT(clang-diagnostic-format-nonliteral)
        return TomlFile::at(node, text);
    }
    Result<void> text(const char* name, const toml::node& node, char* out, std::size_t size) const {
        const auto* s = node.as_string();
        if (s == nullptr) return at(node, "%s is a text in quotes", name);
        const std::string& v = s->get();
        if (v.empty()) return at(node, "%s is empty; leave it out", name);
        if (v.size() >= size) return at(node, "%s is too long", name);
        for (const char c : v)
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7f) return at(node, "%s has a control character", name);
        memcpy(out, v.c_str(), v.size() + 1);
        return {};
    }
    // One text, or a list of them.
    template <std::size_t N, std::size_t Size>
    Result<void> texts(const char* name, const toml::node& node, char (&out)[N][Size], int& count) const {
        count = 0;
        const auto* list = node.as_array();
        if (list == nullptr) return count = 1, text(name, node, out[0], Size);
        if (list->empty() || list->size() > N) return at(node, "%s is one text, or a list of a few", name);
        for (const toml::node& n : *list) TRY(text(name, n, out[count++], Size));
        return {};
    }
    Result<void> number(const char* name, const toml::node& node, double low, double high, double& out) const {
        const auto v = node.value<double>();
        char range[40];
        snprintf(range, sizeof range, "%g to %g", low, high);
        if (node.is_boolean() || node.is_string() || !v || !(*v >= low && *v <= high))
            return at(node, "%s is a number from %s", name, range);
        out = *v;
        return {};
    }
    Result<void> whole(const char* name, const toml::node& node, int low, int high, int& out) const {
        double v;
        TRY(number(name, node, low, high, v));
        if (v != static_cast<int>(v)) return at(node, "%s is a whole number", name);
        out = static_cast<int>(v);
        return {};
    }
    Result<void> table(const char* name, const toml::node& node,
                       Result<void> (Reader::*read)(const toml::table&) const) const {
        const auto* t = node.as_table();
        if (t == nullptr) return no_table(node, name);
        return (this->*read)(*t);
    }

    Result<void> root(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "title")
                TRY(text("title", node, board.title, sizeof board.title));
            else if (k == "compatible")
                TRY(texts("compatible", node, board.compatible, board.compatible_count));
            else if (k == "gpio")
                TRY(table("gpio", node, &Reader::gpio));
            else if (k == "serial")
                TRY(texts("serial", node, board.serials, board.serial_count));
            else if (k == "led")
                TRY(texts("led", node, board.leds, board.led_count));
            else if (k == "thermal")
                TRY(table("thermal", node, &Reader::thermal));
            else if (k == "cluster")
                TRY(clusters(node));
            else if (k == "memory")
                TRY(table("memory", node, &Reader::memory));
            else if (k == "watchdog")
                TRY(table("watchdog", node, &Reader::watchdog));
            else if (k == "storage")
                TRY(table("storage", node, &Reader::storage));
            else
                return unknown(key,
                               "title, compatible, serial, led, [gpio], [thermal], [[cluster]], [memory], "
                               "[watchdog], [storage]");
        }
        if (board.title[0] == 0) return at(t, "title is missing: what the board is called");
        if (board.compatible_count == 0)
            return at(t, "compatible is missing: the device tree's strings by which the board is known");
        return {};
    }
    Result<void> gpio(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() == "chip") {
                TRY(text("chip", node, board.gpio_chip, sizeof board.gpio_chip));
            } else if (key.str() == "pins") {
                TRY(table("gpio.pins", node, &Reader::pins));
            } else {
                return unknown(key, "chip, [gpio.pins]");
            }
        }
        return {};
    }
    Result<void> pins(const toml::table& t) const {
        for (const auto& [key, line] : t) {
            if (board.pin_count == BoardFile::max_pins) return at(line, "at most 64 pins");
            BoardFile::Pin& pin = board.pins[board.pin_count++];
            const std::string_view name = key.str();
            if (name.empty() || name.size() >= sizeof pin.name) return at(line, "a pin's name has 1 to 15 bytes");
            memcpy(pin.name, name.data(), name.size());
            pin.name[name.size()] = 0;
            TRY(text(pin.name, line, pin.line, sizeof pin.line));
        }
        return {};
    }
    Result<void> thermal(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() == "zone") {
                TRY(texts("zone", node, board.zones, board.zone_count));
            } else if (key.str() == "throttle") {
                double celsius;
                TRY(number("throttle", node, 40, 120, celsius));
                board.throttle_mc = static_cast<int>(celsius * 1000);
            } else {
                return unknown(key, "zone, throttle");
            }
        }
        return {};
    }
    Result<void> clusters(const toml::node& node) const {
        const auto* list = node.as_array();
        if (list == nullptr || list->size() > BoardFile::max_clusters)
            return at(node, "cluster is a list of at most 3: write [[cluster]] on a line of its own");
        for (const toml::node& n : *list) TRY(table("cluster", n, &Reader::cluster));
        return {};
    }
    Result<void> cluster(const toml::table& t) const {
        auto& c = board.clusters[board.cluster_count++];
        for (const auto& [key, node] : t) {
            if (key.str() == "core")
                TRY(text("core", node, c.core, sizeof c.core));
            else if (key.str() == "cpus")
                TRY(text("cpus", node, c.cpus, sizeof c.cpus));
            else
                return unknown(key, "core, cpus");
        }
        if (c.core[0] == 0 || c.cpus[0] == 0) return at(t, "a [[cluster]] has a core and cpus");
        return {};
    }
    Result<void> memory(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() != "reserve_mib") return unknown(key, "reserve_mib");
            TRY(whole("reserve_mib", node, 16, 4096, board.reserve_mib));
        }
        return {};
    }
    Result<void> watchdog(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() != "longest_s") return unknown(key, "longest_s");
            TRY(whole("longest_s", node, 1, 3600, board.watchdog_s));
        }
        return {};
    }
    Result<void> storage(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() != "kind") return unknown(key, "kind");
            TRY(text("kind", node, board.storage, sizeof board.storage));
            const std::string_view kind = board.storage;
            if (kind != "sd" && kind != "emmc" && kind != "nvme" && kind != "usb" && kind != "disk")
                return at(node, "kind is one of \"sd\", \"emmc\", \"nvme\", \"usb\", \"disk\"");
        }
        return {};
    }
};

}  // namespace

Result<BoardFile> read_board_file(const char* path) {
    BoardFile board;
    const char* const slash = strrchr(path, '/');
    const char* const file = slash == nullptr ? path : slash + 1;
    const std::size_t n = strcspn(file, ".");
    if (n == 0 || n >= sizeof board.name || strcmp(file + n, ".toml") != 0)
        return Error::make(Code::incorrect_parameters, "%s: a board file is called NAME.toml", path);
    snprintf(board.name, sizeof board.name, "%.*s", static_cast<int>(n), file);
    const Reader reader(path, board);
    const toml::table text = TRY(reader.parse());
    TRY(reader.root(text));
    return board;
}

Result<BoardFile> find_board(const Root& root, const char* folder, const char* name) {
    char path[512];
    if (name[0] != 0) {
        snprintf(path, sizeof path, "%s/%s.toml", folder, name);
        if (strchr(name, '/') != nullptr || access(path, R_OK) != 0)
            return Error::make(Code::not_found, "no board \"%s\" in %s; its files' names are the boards", name, folder);
        return read_board_file(path);
    }
    char list[1024];
    const auto told = root.read("sys/firmware/devicetree/base/compatible", list);
#if defined(__x86_64__)
    constexpr std::string_view other{"pc", 3};
#else
    constexpr std::string_view other{"generic", 8};
#endif
    std::string_view all = told ? std::string_view(told.value().data(), told.value().size() + 1) : other;
    DIR* const boards = opendir(folder);
    if (boards == nullptr) return Error::make(Code::storage_failure, "board files in %s: %s", folder, strerror(errno));
    // the best is whichever has the string that stands first in the machine's list; "generic" is for all others
    BoardFile best;
    std::size_t best_at = static_cast<std::size_t>(-1);
    Result<void> bad;
    while (const dirent* e = readdir(boards)) {
        const std::size_t n = strlen(e->d_name);
        if (n < 6 || strcmp(e->d_name + n - 5, ".toml") != 0) continue;
        snprintf(path, sizeof path, "%s/%s", folder, e->d_name);
        auto board = read_board_file(path);
        if (!board) {
            if (bad) bad = board.error();
            continue;  // one bad file does not hide the others
        }
        for (std::size_t at = 0; at < all.size() && at < best_at; at += strlen(all.data() + at) + 1)
            for (int i = 0; i < board->compatible_count; i++)
                if (strcmp(all.data() + at, board->compatible[i]) == 0) {
                    best_at = at;
                    best = board.value();
                    snprintf(best.matched, sizeof best.matched, "%s", board->compatible[i]);
                }
        if (best_at == static_cast<std::size_t>(-1) && strcmp(board->name, "generic") == 0) best = board.value();
    }
    closedir(boards);
    if (best.title[0] != 0) return best;
    if (!bad) return bad.error();
    return Error::make(Code::not_found, "%s has no file for this machine, and no generic.toml", folder);
}

const char* line_of(const BoardFile& board, const char* name) {
    for (int i = 0; i < board.pin_count; i++)
        if (strcmp(board.pins[i].name, name) == 0) return board.pins[i].line;
    return name;
}

}  // namespace slmd::hal
