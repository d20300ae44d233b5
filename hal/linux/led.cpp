#include <stdio.h>
#include <string.h>

#include "hal/linux/devices.h"

namespace slmd::hal {

Result<void> LinuxLed::take(const char* name) {
    give_back();
    char path[160], text[1024];
    if (name[0] == 0 || strlen(name) >= sizeof name_ || strchr(name, '/') != nullptr || name[0] == '.')
        return Error::make(Code::not_found, "\"%s\" is not the name of an LED; ls /sys/class/leds shows them", name);
    snprintf(path, sizeof path, "sys/class/leds/%s/max_brightness", name);
    const auto full = root_.number(path);
    if (!full) return Error::make(Code::not_found, "no LED \"%s\"; ls /sys/class/leds shows them", name);
    snprintf(full_, sizeof full_, "%d", static_cast<int>(full.value() & 0xffff));
    snprintf(path, sizeof path, "sys/class/leds/%s/trigger", name);
    trigger_[0] = 0;
    if (const auto triggers = root_.read(path, text)) {  // "none timer [mmc0] heartbeat"
        const char* const begin = strchr(text, '[');
        const char* const end = begin == nullptr ? nullptr : strchr(begin, ']');
        if (end != nullptr && end - begin < static_cast<long>(sizeof trigger_))
            snprintf(trigger_, sizeof trigger_, "%.*s", static_cast<int>(end - begin - 1), begin + 1);
        TRY(root_.write(path, "none"));
    }
    snprintf(name_, sizeof name_, "%s", name);
    return set(false);
}

Result<void> LinuxLed::set(bool on) {
    char path[160];
    snprintf(path, sizeof path, "sys/class/leds/%s/brightness", name_);
    return root_.write(path, on ? full_ : "0");
}

void LinuxLed::give_back() {
    if (name_[0] == 0) return;
    char path[160];
    (void)!static_cast<bool>(set(false));
    snprintf(path, sizeof path, "sys/class/leds/%s/trigger", name_);
    if (trigger_[0] != 0) (void)!static_cast<bool>(root_.write(path, trigger_));
    name_[0] = 0;
}

}  // namespace slmd::hal
