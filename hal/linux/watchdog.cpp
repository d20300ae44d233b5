#include <errno.h>
#include <linux/watchdog.h>
#include <string.h>
#include <sys/ioctl.h>

#include <algorithm>

#include "hal/linux/devices.h"

namespace slmd::hal {

Result<int> LinuxWatchdog::start(int seconds) {
    stop();
    if (longest_ > 0) seconds = std::min(seconds, longest_);
    const auto fd = root_.file("dev/watchdog", O_WRONLY);
    if (!fd) {
        if (fd.error().code == Code::not_found) return fd.error();
        return Error::make(errno == EBUSY ? Code::busy : Code::device_io,
                           "%s; systemd has it when RuntimeWatchdogSec= is set: leave one of the two to it",
                           fd.error().text);
    }
    fd_ = fd.value();
    int taken = seconds;
    if (ioctl(fd_, WDIOC_SETTIMEOUT, &taken) != 0 && ioctl(fd_, WDIOC_GETTIMEOUT, &taken) != 0) {
        const Error e = Error::make(Code::device_io, "/dev/watchdog: cannot set %d s: %s", seconds, strerror(errno));
        stop();
        return e;
    }
    return taken;
}

Result<void> LinuxWatchdog::feed() {
    if (fd_ < 0 || ioctl(fd_, WDIOC_KEEPALIVE, 0) != 0)
        return Error::make(Code::device_io, "/dev/watchdog: cannot feed it: %s", strerror(fd_ < 0 ? EBADF : errno));
    return {};
}

void LinuxWatchdog::stop() {
    if (fd_ < 0) return;
    (void)!write(fd_, "V", 1);  // the magic close: without it the driver takes our end for a crash
    close(fd_);
    fd_ = -1;
}

}  // namespace slmd::hal
