// LINK: slmd_hal
// What the kernel's files say. The input is their texts, one after the other, separated by the byte 0x1e.
#include <cmath>
#include <cstring>

#include "file.h"
#include "hal/hardware.h"
#include "hal/linux/pmic.h"

namespace {

constexpr const char* names[] = {
    "sys/class/thermal/thermal_zone0/temp",
    "sys/class/thermal/thermal_zone0/type",
    "sys/class/thermal/thermal_zone0/trip_point_0_type",
    "sys/class/thermal/thermal_zone0/trip_point_0_temp",
    "sys/devices/system/cpu/cpu0/cpu_capacity",
    "sys/devices/system/cpu/cpu0/regs/identification/midr_el1",
    "sys/devices/system/cpu/cpufreq/policy0/cpuinfo_max_freq",
    "sys/devices/system/cpu/cpufreq/policy0/scaling_max_freq",
    "sys/class/hwmon/hwmon0/name",
    "sys/class/hwmon/hwmon0/in0_lcrit_alarm",
    "sys/class/hwmon/hwmon0/power1_input",
    "sys/bus/iio/devices/iio:device0/in_power0_scale",
    "sys/bus/iio/devices/iio:device0/in_power0_raw",
    "sys/class/powercap/intel-rapl:0/energy_uj",
    "sys/devices/platform/soc/soc:firmware/get_throttled",
    "proc/meminfo",
    "proc/self/cgroup",
    "proc/pressure/memory",
    "sys/fs/cgroup/slmd/memory.max",
    "sys/fs/cgroup/slmd/memory.pressure",
    "sys/class/leds/ACT/max_brightness",
    "sys/class/leds/ACT/trigger",
    "sys/class/leds/ACT/brightness",
    "sys/firmware/devicetree/base/model",
    "sys/firmware/devicetree/base/serial-number",
    "sys/firmware/devicetree/base/compatible",
};

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd::hal;
    static const slmd::fuzz::Folder folder;
    std::string_view rest{reinterpret_cast<const char*>(data), size};
    for (const char* const name : names) {
        static bool made = [] {
            for (const char* const n : names)
                std::filesystem::create_directories(std::filesystem::path(folder.path() + "/" + n).parent_path());
            return true;
        }();
        const std::string_view text = rest.substr(0, made ? rest.find('\x1e') : 0);
        folder.put(name, text);
        rest.remove_prefix(std::min(rest.size(), text.size() + 1));
    }
    auto root = Root::open(folder.path().c_str());
    if (!root) abort();
    (void)!static_cast<bool>(find_board(root.value(), SLMD_SOURCE "/boards"));
    const auto opened = open_linux(std::move(root).value(), {});
    if (!opened) abort();
    Hardware& h = *opened.value();
    bool good = true;
    for (int i = 0; i < 2; i++) {
        if (const auto v = h.thermal().temperature()) good = good && v.value() > -100'000 && v.value() < 300'000;
        (void)!static_cast<bool>(h.thermal().throttle_point());
        if (auto f = h.cpu().frequency()) good = good && f->cap >= 0 && f->cap <= f->maximum;
        CoreCluster clusters[3];
        if (const auto n = h.cpu().clusters(clusters)) good = good && n.value() >= 1 && n.value() <= 3;
        (void)!static_cast<bool>(h.power().undervoltage());
        (void)!static_cast<bool>(h.power().microjoules());
        if (auto m = h.board().memory()) good = good && (m->pressure == -1 || (m->pressure >= 0 && m->pressure <= 100));
        if (h.led().take("ACT")) (void)!static_cast<bool>(h.led().set(true));
        h.led().give_back();
    }
    const Identity who = h.board().identity();
    good = good && memchr(who.model, 0, sizeof who.model) != nullptr &&
           memchr(who.serial, 0, sizeof who.serial) != nullptr;
    good = good && !std::isnan(pmic_microwatts(std::string(rest).c_str()));
    if (!good) abort();
    return 0;
}
