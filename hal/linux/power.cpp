#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "base/clock.h"
#include "hal/linux/devices.h"
#include "hal/linux/pmic.h"
#include "hal/saturated.h"

namespace slmd::hal {
namespace {

// The property channel to the firmware: a message of 32-bit words. Source: the mailbox property interface of the
// Raspberry Pi firmware's documentation; the tag that runs a vcgencmd command is the one that vcgencmd itself sends.
constexpr unsigned long mailbox_property = _IOWR(100, 0, char*);
constexpr std::uint32_t tag_command = 0x00030080;

}  // namespace

double pmic_microwatts(const char* text) {
    double total = 0;
    for (const char* line = text; *line != 0; line += *line == '\n') {
        const char* const end = line + strcspn(line, "\n");
        const char* const name = line + strspn(line, " \t");
        const char* const cut = static_cast<const char*>(memmem(name, static_cast<std::size_t>(end - name), "_A ", 3));
        const char* const value = static_cast<const char*>(memchr(line, '=', static_cast<std::size_t>(end - line)));
        if (cut != nullptr && value != nullptr) {
            const auto n = static_cast<std::size_t>(cut - name);
            char voltage[40];
            if (n < sizeof voltage - 3) {
                snprintf(voltage, sizeof voltage, "%.*s_V ", static_cast<int>(n), name);
                if (const char* v = strstr(text, voltage))
                    if (const char* equals = strchr(v, '='))
                        total += strtod(value + 1, nullptr) * strtod(equals + 1, nullptr) * 1e6;
            }
        }
        line = end;
    }
    return total;
}

LinuxPower::LinuxPower(const Root& root) : root_(root) {
    char path[80], text[64];
    root.list("sys/class/hwmon", [&](const char* name) {
        snprintf(path, sizeof path, "sys/class/hwmon/%.16s/name", name);
        if (!root.read(path, text)) return true;
        if (strcmp(text, "rpi_volt") == 0) snprintf(flag_, sizeof flag_, "sys/class/hwmon/%.16s/in0_lcrit_alarm", name);
        snprintf(path, sizeof path, "sys/class/hwmon/%.16s/power1_input", name);
        if (source_ == none && root.number(path)) source_ = hwmon, snprintf(meter_, sizeof meter_, "%s", path);
        return true;
    });
    if (source_ == none) {
        root.list("sys/bus/iio/devices", [&](const char* device) {
            for (int channel = 0; channel < 8 && source_ == none; channel++) {
                snprintf(path, sizeof path, "sys/bus/iio/devices/%.24s/in_power%d_scale", device, channel);
                if (!root.read(path, text)) continue;
                scale_ = strtod(text, nullptr) * 1000;  // IIO's unit is the milliwatt
                snprintf(meter_, sizeof meter_, "sys/bus/iio/devices/%.24s/in_power%d_raw", device, channel);
                if (root.number(meter_) && scale_ > 0) source_ = iio;
            }
            return source_ == none;
        });
    }
    if (source_ == none) {
        snprintf(meter_, sizeof meter_, "sys/class/powercap/intel-rapl:0/energy_uj");
        if (root.number(meter_)) source_ = rapl;
    }
    if (source_ == none) {
        if (const auto fd = root.file("dev/vcio", O_RDWR)) {
            mailbox_ = fd.value();
            source_ = pmic;
            if (!microwatts()) source_ = none;
        }
    }
}

LinuxPower::~LinuxPower() {
    if (mailbox_ >= 0) close(mailbox_);
}

Result<bool> LinuxPower::undervoltage() {
    if (flag_[0] != 0) return TRY(root_.number(flag_)) != 0;
    // Raspberry Pi OS has the firmware's own flags beside it; bit 0 is the supply now
    char text[24];
    if (!root_.read("sys/devices/platform/soc/soc:firmware/get_throttled", text))
        return Error::make(Code::not_found, "this machine does not watch its supply");
    char* end;
    const unsigned long flags = strtoul(text, &end, 16);
    if (end == text) return Error::make(Code::device_io, "get_throttled: not a number: \"%.20s\"", text);
    return (flags & 1) != 0;
}

Result<double> LinuxPower::microwatts() const {
    if (source_ != pmic) return static_cast<double>(TRY(root_.number(meter_))) * scale_;
    constexpr char command[] = "pmic_read_adc";
    alignas(16) std::uint32_t message[6 + 256]{};
    message[0] = sizeof message;
    message[2] = tag_command;
    message[3] = 1024 - 4;
    char* const text = reinterpret_cast<char*>(message + 6);
    memcpy(text, command, sizeof command);
    if (ioctl(mailbox_, mailbox_property, message) != 0)
        return Error::make(Code::device_io, "/dev/vcio: the firmware does not answer: %s", strerror(errno));
    message[std::size(message) - 1] = 0;
    const double sum = pmic_microwatts(text);
    if (sum <= 0) return Error::make(Code::not_found, "the firmware knows no currents: not a Raspberry Pi 5");
    return sum;
}

Result<std::uint64_t> LinuxPower::microjoules() {
    if (source_ == none) return Error::make(Code::not_found, "this machine has no power sensor that we may read");
    if (source_ == rapl) {
        const std::int64_t now = TRY(root_.number(meter_));
        // the counter starts again at some 2^38; what is lost then is at most one interval
        if (last_ns_ != 0 && now >= last_ns_) summed_ += static_cast<double>(now - last_ns_);
        last_ns_ = now;
        return saturated<std::uint64_t>(summed_);
    }
    const double watts = TRY(microwatts());
    const std::int64_t now = now_ns();
    if (last_ns_ != 0) summed_ += (watts + last_microwatts_) / 2 * static_cast<double>(now - last_ns_) * 1e-9;
    last_ns_ = now, last_microwatts_ = watts;
    return saturated<std::uint64_t>(summed_);
}

}  // namespace slmd::hal
