#include <stdio.h>
#include <stdlib.h>

#include <algorithm>

#include "hal/linux/devices.h"

namespace slmd::hal {

Result<int> LinuxCpu::clusters(std::span<CoreCluster> out) {
    constexpr int max_cpus = 64;
    struct Core {
        int number, capacity;
        unsigned midr;
    } cores[max_cpus];
    int count = 0;
    root_.list("sys/devices/system/cpu", [&](const char* name) {
        char* end;
        if (name[0] != 'c' || name[1] != 'p' || name[2] != 'u' || name[3] < '0' || name[3] > '9') return true;
        const long number = strtol(name + 3, &end, 10);
        if (*end != 0 || count == max_cpus) return true;
        char path[96];
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%ld/cpu_capacity", number);
        const auto capacity = root_.number(path);
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpu%ld/regs/identification/midr_el1", number);
        const auto midr = root_.number(path);
        cores[count++] = {static_cast<int>(number),
                          capacity ? static_cast<int>(std::clamp<std::int64_t>(capacity.value(), 0, 1024)) : 0,
                          midr ? static_cast<unsigned>(midr.value()) : 0};
        return true;
    });
    if (count == 0) return Error::make(Code::device_io, "/sys/devices/system/cpu: no CPUs");
    // the same core at the same capacity is one cluster, wherever its numbers are
    std::sort(cores, cores + count, [](const Core& a, const Core& b) {
        return a.capacity != b.capacity ? a.capacity < b.capacity : a.number < b.number;
    });
    std::size_t clusters = 0;
    for (int i = 0; i < count; i++) {
        const Core& c = cores[i];
        if (clusters > 0 && out[clusters - 1].capacity == c.capacity && out[clusters - 1].midr == c.midr)
            out[clusters - 1].cores++;
        else if (clusters < out.size())
            out[clusters++] = {c.number, 1, c.capacity, c.midr};
    }
    return static_cast<int>(clusters);
}

LinuxCpu::LinuxCpu(const Root& root) : root_(root) { find_fastest(); }

void LinuxCpu::find_fastest() {
    std::int64_t highest = 0;
    fastest_[0] = 0;
    root_.list("sys/devices/system/cpu/cpufreq", [&](const char* name) {
        if (std::string_view(name).substr(0, 6) != "policy") return true;
        char path[96];
        snprintf(path, sizeof path, "sys/devices/system/cpu/cpufreq/%.16s/cpuinfo_max_freq", name);
        const auto maximum = root_.number(path);
        if (maximum && maximum.value() > highest) {
            highest = maximum.value();
            snprintf(fastest_, sizeof fastest_, "sys/devices/system/cpu/cpufreq/%.16s", name);
        }
        return true;
    });
}

Result<Frequency> LinuxCpu::frequency() {
    char path[96];
    const auto read = [&](const char* name) -> Result<int> {
        snprintf(path, sizeof path, "%s/%s", fastest_, name);
        const std::int64_t khz = TRY(root_.number(path));
        if (khz < 0 || khz > 100'000'000)
            return Error::make(Code::device_io, "/%s: %lld kHz is no frequency", path, static_cast<long long>(khz));
        return static_cast<int>(khz);
    };
    if (fastest_[0] == 0) return Error::make(Code::not_found, "this machine does not tell its frequency (cpufreq)");
    const auto maximum = read("cpuinfo_max_freq"), cap = read("scaling_max_freq");
    if (maximum && cap) return Frequency{std::min(cap.value(), maximum.value()), maximum.value()};
    find_fastest();  // its cores may have been taken offline
    return maximum ? cap.error() : maximum.error();
}

const char* core_name(unsigned midr) {
    if (midr >> 24 != 0x41) return "";  // Arm Ltd
    switch (midr >> 4 & 0xfff) {
        case 0xd03: return "Cortex-A53";
        case 0xd04: return "Cortex-A35";
        case 0xd05: return "Cortex-A55";
        case 0xd07: return "Cortex-A57";
        case 0xd08: return "Cortex-A72";
        case 0xd09: return "Cortex-A73";
        case 0xd0a: return "Cortex-A75";
        case 0xd0b: return "Cortex-A76";
        case 0xd0c: return "Neoverse-N1";
        case 0xd41: return "Cortex-A78";
        case 0xd46: return "Cortex-A510";
        case 0xd47: return "Cortex-A710";
        case 0xd80: return "Cortex-A520";
        case 0xd81: return "Cortex-A720";
        default: return "";
    }
}

}  // namespace slmd::hal
