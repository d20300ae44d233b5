#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "hal/linux/devices.h"

namespace slmd::hal {
namespace {

constexpr char tree[] = "sys/firmware/devicetree/base";

void copy(const Root& root, const char* path, std::span<char> out) {
    if (!root.read(path, out)) out[0] = 0;
    for (char* c = out.data(); *c != 0; c++)
        if (static_cast<unsigned char>(*c) < 0x20 || *c == 0x7f) *c = '?';
}

// "Name:   12345 kB" of /proc/meminfo, in bytes.
std::uint64_t meminfo(std::string_view text, const char* name) {
    const std::size_t at = text.find(name);
    return at == text.npos ? 0 : strtoull(text.data() + at + strlen(name), nullptr, 10) * 1024;
}

}  // namespace

LinuxBoard::LinuxBoard(const Root& root, const BoardFile& file) : root_(root), reserve_(static_cast<std::uint64_t>(file.reserve_mib) << 20) {
    snprintf(identity_.name, sizeof identity_.name, "%s", file.name);
    snprintf(identity_.compatible, sizeof identity_.compatible, "%s", file.matched);
    char path[128];
    snprintf(path, sizeof path, "%s/model", tree);
    copy(root, path, identity_.model);
    if (identity_.model[0] == 0) copy(root, "sys/class/dmi/id/product_name", identity_.model);
    snprintf(path, sizeof path, "%s/serial-number", tree);
    copy(root, path, identity_.serial);
    // the control group of our own: "0::/system.slice/slmd.service" (version 2 only)
    char text[4096];
    if (const auto groups = root.read("proc/self/cgroup", text)) {
        const std::size_t at = groups.value().find("0::/");
        if (at != std::string_view::npos) {
            const char* const begin = groups.value().data() + at + 4;
            snprintf(group_, sizeof group_, "sys/fs/cgroup/%.*s", static_cast<int>(strcspn(begin, "\n")), begin);
        }
    }
}

// The smallest limit on the way up: an outer slice may be tighter than our own.
std::uint64_t LinuxBoard::limit() const {
    char folder[300], path[320];
    snprintf(folder, sizeof folder, "%s", group_);
    std::uint64_t least = 0;
    for (;;) {
        snprintf(path, sizeof path, "%s/memory.max", folder);
        if (const auto v = root_.number(path))  // "max" is no number
            if (v.value() > 0 && (least == 0 || static_cast<std::uint64_t>(v.value()) < least))
                least = static_cast<std::uint64_t>(v.value());
        char* const slash = strrchr(folder, '/');
        if (slash == nullptr || strlen(folder) <= strlen("sys/fs/cgroup")) return least;
        *slash = 0;
    }
}

Result<MemoryState> LinuxBoard::memory() {
    MemoryState m;
    char text[4096], path[320];
    const std::string_view info = TRY(root_.read("proc/meminfo", text));
    m.total = meminfo(info, "MemTotal:");
    m.available = meminfo(info, "MemAvailable:");
    if (m.total == 0) return Error::make(Code::device_io, "/proc/meminfo: no MemTotal");
    m.reserve = reserve_;
    if (group_[0] != 0) m.limit = limit();
    // our own group's pressure, else the machine's
    snprintf(path, sizeof path, "%s/memory.pressure", group_);
    auto pressure = group_[0] != 0 ? root_.read(path, text) : Result<std::string_view>(Error{Code::not_found, {}});
    if (!pressure) pressure = root_.read("proc/pressure/memory", text);
    if (pressure)
        if (const char* at = strstr(text, "avg10=")) m.pressure = std::clamp(strtod(at + 6, nullptr), 0.0, 100.0);
    return m;
}

}  // namespace slmd::hal
