#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/sysmacros.h>

#include <algorithm>

#include "hal/linux/devices.h"

namespace slmd::hal {

Result<Volume> LinuxStorage::volume(const char* folder) {
    const int fd = TRY(root_.file(folder[0] == '/' ? folder + 1 : folder, O_RDONLY | O_DIRECTORY));
    struct statvfs fs;
    struct stat st;
    const bool known = fstatvfs(fd, &fs) == 0 && fstat(fd, &st) == 0;
    const int e = errno;
    close(fd);
    if (!known) return Error::make(Code::device_io, "%s: %s", folder, strerror(e));
    Volume v;
    v.free = static_cast<std::uint64_t>(fs.f_bavail) * fs.f_frsize;
    v.total = static_cast<std::uint64_t>(fs.f_blocks) * fs.f_frsize;
    v.read_only = (fs.f_flag & ST_RDONLY) != 0;
    if (major(st.st_dev) == 0) {  // no block device: tmpfs, overlay
        snprintf(v.kind, sizeof v.kind, "memory");
        return v;
    }
    char path[128], target[512];
    snprintf(path, sizeof path, "sys/dev/block/%u:%u", major(st.st_dev), minor(st.st_dev));
    const ssize_t n = readlinkat(root_.fd(), path, target, sizeof target - 1);
    if (n <= 0) return v;
    target[n] = 0;
    char type[8] = "", life[32] = "";
    snprintf(path, sizeof path, "sys/dev/block/%u:%u/device/type", major(st.st_dev), minor(st.st_dev));
    char of_parent[128];  // a partition's device is its parent's
    snprintf(of_parent, sizeof of_parent, "sys/dev/block/%u:%u/../device/type", major(st.st_dev), minor(st.st_dev));
    if (!root_.read(path, type)) (void)!static_cast<bool>(root_.read(of_parent, type));
    const char* const kind = strstr(target, "/mmc") != nullptr    ? (strcmp(type, "SD") == 0 ? "sd" : "emmc")
                             : strstr(target, "/nvme") != nullptr ? "nvme"
                             : strstr(target, "/usb") != nullptr  ? "usb"
                                                                  : "disk";
    snprintf(v.kind, sizeof v.kind, "%s", kind);
    // JEDEC JESD84-B51: DEVICE_LIFE_TIME_EST, steps of a tenth of the life, 0x0b: used up
    snprintf(of_parent, sizeof of_parent, "sys/dev/block/%u:%u/../device/life_time", major(st.st_dev),
             minor(st.st_dev));
    if (root_.read(of_parent, life)) {
        char* end;
        const long a = strtol(life, &end, 16), b = strtol(end, nullptr, 16), worst = std::max(a, b);
        if (worst >= 1 && worst <= 11) v.worn = std::min(100, static_cast<int>(worst) * 10);
    }
    return v;
}

}  // namespace slmd::hal
