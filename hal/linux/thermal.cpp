#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <algorithm>

#include "hal/linux/devices.h"

namespace slmd::hal {
namespace {

// Drivers give nonsense while a sensor starts.
bool plausible(std::int64_t mc) { return mc > -60'000 && mc < 200'000; }

}  // namespace

LinuxThermal::LinuxThermal(const Root& root, const BoardFile& file) : root_(root), throttle_mc_(file.throttle_mc) {
    const auto take = [&](bool named) {
        root.list("sys/class/thermal", [&](const char* name) {
            char path[96], type[64];
            int number;
            if (sscanf(name, "thermal_zone%d", &number) != 1 || count_ == max_zones) return true;
            snprintf(path, sizeof path, "sys/class/thermal/thermal_zone%d/type", number);
            if (!root.read(path, type)) return true;
            bool wanted = !named;
            for (int i = 0; i < file.zone_count && !wanted; i++) wanted = strcmp(type, file.zones[i]) == 0;
            if (wanted) zones_[count_++] = number;
            return true;
        });
    };
    take(file.zone_count > 0);
    if (count_ == 0) take(false);  // another kernel may name them otherwise
}

Result<int> LinuxThermal::temperature() {
    int hottest = 0;
    bool any = false;
    Error why = Error::make(Code::not_found, "this machine has no thermal zone");
    for (int i = 0; i < count_; i++) {
        char path[96];
        snprintf(path, sizeof path, "sys/class/thermal/thermal_zone%d/temp", zones_[i]);
        const auto mc = root_.number(path);
        if (!mc)
            why = mc.error();
        else if (!plausible(mc.value()))
            why = Error::make(Code::device_io, "/%s: %lld is no temperature", path, static_cast<long long>(mc.value()));
        else if (!any || mc.value() > hottest)
            hottest = static_cast<int>(mc.value()), any = true;
    }
    if (!any) return why;
    return hottest;
}

Result<int> LinuxThermal::throttle_point() {
    if (throttle_mc_ > 0) return throttle_mc_;
    int lowest = 0;
    for (int i = 0; i < count_; i++)
        for (int t = 0; t < 12; t++) {
            char path[96], type[32];
            snprintf(path, sizeof path, "sys/class/thermal/thermal_zone%d/trip_point_%d_type", zones_[i], t);
            if (!root_.read(path, type)) break;
            if (strcmp(type, "passive") != 0 && strcmp(type, "hot") != 0) continue;
            snprintf(path, sizeof path, "sys/class/thermal/thermal_zone%d/trip_point_%d_temp", zones_[i], t);
            const auto mc = root_.number(path);
            if (mc && mc.value() > 40'000 && plausible(mc.value()) && (lowest == 0 || mc.value() < lowest))
                lowest = static_cast<int>(mc.value());
        }
    if (lowest == 0) return Error::make(Code::not_found, "no trip point says where this machine slows down");
    return lowest;
}

}  // namespace slmd::hal
