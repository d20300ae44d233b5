#include "base/cluster.h"

#include <fcntl.h>
#include <unistd.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>

namespace slmd {
namespace {

// 0: unknown
long capacity_of(const char* folder, int cpu) {
    char path[512], text[32];
    std::snprintf(path, sizeof path, "%s/cpu%d/cpu_capacity", folder, cpu);
    const int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return 0;
    const ssize_t n = read(fd, text, sizeof text - 1);
    close(fd);
    if (n <= 0) return 0;
    text[n] = 0;
    return std::strtol(text, nullptr, 10);
}

}  // namespace

Cluster fastest_cluster(const char* folder) {
    Cluster c;
    CPU_ZERO(&c.cpus);
    if (sched_getaffinity(0, sizeof c.cpus, &c.cpus) != 0) CPU_SET(0, &c.cpus);
    long highest = 0, capacity[CPU_SETSIZE];
    for (int i = 0; i < CPU_SETSIZE; i++) {
        if (!CPU_ISSET(i, &c.cpus)) continue;
        capacity[i] = capacity_of(folder, i);
        highest = std::max(highest, capacity[i]);
    }
    for (int i = 0; i < CPU_SETSIZE; i++)
        if (CPU_ISSET(i, &c.cpus) && capacity[i] * 10 < highest * 9) CPU_CLR(i, &c.cpus);
    c.cores = CPU_COUNT(&c.cpus);
    return c;
}

}  // namespace slmd
