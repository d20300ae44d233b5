// How fast a stored image becomes its raw form, as JSON: CRC, zstd, and the pages that it lands on, in raw bytes per
// second of one core. CPU time, so that a busy machine does not count; the file is in the page cache. Median of the
// passes.
//   bench_hydrate IMAGE [--passes 9]
#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "image/image.h"

namespace {

double cpu_seconds() {
    timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

}  // namespace

int main(int argc, char** argv) {
    using slmd::image::Image;
    int passes = 9;
    if (argc == 4 && std::strcmp(argv[2], "--passes") == 0) passes = std::atoi(argv[3]);
    if ((argc != 2 && argc != 4) || passes < 1) {
        std::fprintf(stderr, "usage: bench_hydrate IMAGE [--passes N]\n");
        return 2;
    }
    std::vector<double> took;
    unsigned long long raw = 0, stored = 0;
    for (int p = 0; p <= passes; p++) {
        const double begin = cpu_seconds();
        auto image = Image::open(argv[1], {.threads = 1});
        if (!image) {
            std::fprintf(stderr, "bench_hydrate: %s\n", image.error().text);
            return 1;
        }
        if (p > 0) took.push_back(cpu_seconds() - begin);  // the first brings the file into the page cache
        raw = image.value().sizes().raw;
        stored = image.value().sizes().file;
    }
    std::sort(took.begin(), took.end());
    const double median = took[took.size() / 2];
    std::printf(
        "{\"raw_bytes\": %llu, \"stored_bytes\": %llu, \"ms\": %.2f, \"raw_gb_s\": %.3f, \"stored_gb_s\": %.3f}\n", raw,
        stored, median * 1e3, static_cast<double>(raw) / median / 1e9, static_cast<double>(stored) / median / 1e9);
}
