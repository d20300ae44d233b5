// Which CPUs belong together.
#pragma once
#include <sched.h>

namespace slmd {

struct Cluster {
    cpu_set_t cpus;
    int cores;
};

// Of the CPUs that the calling thread may use, the fastest: those whose cpu_capacity (the kernel's scale, 1024 for the
// fastest of the machine) is within a tenth of the highest. All of them where the kernel tells no capacity. folder: for
// tests.
Cluster fastest_cluster(const char* folder = "/sys/devices/system/cpu");

}  // namespace slmd
