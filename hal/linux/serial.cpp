#include <errno.h>
#include <fcntl.h>
#include <linux/serial.h>
#include <string.h>
#include <sys/ioctl.h>
#include <termios.h>
#include <unistd.h>

#include "hal/linux/devices.h"

namespace slmd::hal {
namespace {

constexpr struct {
    int baud;
    speed_t speed;
} rates[] = {{9600, B9600},     {19200, B19200},   {38400, B38400},   {57600, B57600},   {115200, B115200},
             {230400, B230400}, {460800, B460800}, {500000, B500000}, {576000, B576000}, {921600, B921600}};

Error failed(const char* path, const char* what, int e) {
    const char* const advice =
        e == EACCES   ? "; add the user to the group dialout"
        : e == ENOENT ? "; is the adapter plugged in, the UART enabled (dtoverlay, raspi-config)?"
        : e == EBUSY  ? "; another program has it: stop serial-getty@ for this port, minicom, ModemManager"
                      : "";
    return Error::make(Code::device_io, "serial line %s: %s: %s%s", path, what, strerror(e), advice);
}

}  // namespace

bool serial_baud_ok(int baud) {
    for (const auto& r : rates)
        if (r.baud == baud) return true;
    return false;
}

// What is on its way may still leave. For a side that takes nothing (CTS, XOFF) the kernel would wait half a minute in
// close(); here a tenth of a second without a byte is enough.
void LinuxSerial::close(int fd) {
    for (int before = 0, left = 0; ioctl(fd, TIOCOUTQ, &left) == 0 && left > 0; before = left) {
        if (left == before) {
            tcflush(fd, TCOFLUSH);
            break;
        }
        usleep(100'000);
    }
    ioctl(fd, TIOCNXCL);
    ::close(fd);
}

Result<int> LinuxSerial::open(const SerialConfig& config) {
    speed_t speed = B0;
    for (const auto& r : rates)
        if (r.baud == config.baud) speed = r.speed;
    if (speed == B0)
        return Error::make(
            Code::incorrect_parameters,
            "serial line %s: %d baud; use 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, 576000 or 921600",
            config.path, config.baud);
    const char* const path = config.path[0] == '/' ? config.path + 1 : config.path;
    const int fd = openat(root_.fd(), path, O_RDWR | O_NOCTTY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) return failed(config.path, "cannot open", errno);
    const auto set = [&]() -> Result<void> {
        if (!isatty(fd)) return Error::make(Code::device_io, "serial line %s: not a terminal device", config.path);
        if (ioctl(fd, TIOCEXCL) != 0) return failed(config.path, "cannot take it for ourselves", errno);
        termios t;
        if (tcgetattr(fd, &t) != 0) return failed(config.path, "cannot read its settings", errno);
        cfmakeraw(&t);
        t.c_cflag &= ~static_cast<tcflag_t>(CSTOPB | PARENB | CSIZE | CRTSCTS);
        t.c_cflag |= CS8 | CLOCAL | CREAD | (config.rtscts ? CRTSCTS : 0u);
        t.c_iflag = IGNBRK | IGNPAR;  // a byte with a framing error is noise; the driver counts it
        if (config.xonxoff) t.c_iflag |= IXON | IXOFF;
        t.c_cc[VSTART] = 0x11, t.c_cc[VSTOP] = 0x13;
        t.c_cc[VMIN] = 0;
        t.c_cc[VTIME] = 0;
        cfsetispeed(&t, speed);
        cfsetospeed(&t, speed);
        if (tcsetattr(fd, TCSANOW, &t) != 0) return failed(config.path, "cannot set rate and frame", errno);
        termios now;  // tcsetattr succeeds when any of it could be set
        if (tcgetattr(fd, &now) != 0) return failed(config.path, "cannot read its settings", errno);
        if (cfgetospeed(&now) != speed)
            return Error::make(Code::device_io, "serial line %s: the device does not do %d baud", config.path,
                               config.baud);
        if (config.rtscts && !(now.c_cflag & CRTSCTS))
            return Error::make(Code::device_io, "serial line %s: the device has no RTS/CTS; set rtscts = false",
                               config.path);
        tcflush(fd, TCIFLUSH);  // not what we said last, before we opened it again
        return {};
    }();
    if (!set) {
        close(fd);
        return set.error();
    }
    return fd;
}

SerialErrors LinuxSerial::errors(int fd) const {
    serial_icounter_struct c{};
    if (ioctl(fd, TIOCGICOUNT, &c) != 0) return {};  // ENOTTY on a pty
    return {static_cast<std::uint32_t>(c.frame), static_cast<std::uint32_t>(c.overrun),
            static_cast<std::uint32_t>(c.parity), static_cast<std::uint32_t>(c.brk)};
}

}  // namespace slmd::hal
