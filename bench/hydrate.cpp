// How fast a stored image becomes its raw form, as JSON: CRC, zstd, and the pages that it lands on, in raw bytes per
// second of one core. CPU time, so that a busy machine does not count; the file is in the page cache. Median of the
// passes. With --rate, a cold start instead: reading is slowed down to so many MB/s, as a microSD card would, and what
// counts is the time over file size / rate, which is 1 where decoding hides behind reading.
//   bench_hydrate IMAGE [--passes 9] [--rate MB/s] [--threads 2]
#include <sys/syscall.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <ctime>
#include <vector>

#include "image/image.h"

namespace {

double seconds(clockid_t clock) {
    timespec t;
    clock_gettime(clock, &t);
    return static_cast<double>(t.tv_sec) + static_cast<double>(t.tv_nsec) * 1e-9;
}

double rate = 0;                       // bytes a second; 0: as fast as it goes
std::atomic<std::int64_t> free_at{0};  // when the device has done all that it was asked for, ns

// One device, one request after the other, whoever asks.
void pace(std::size_t bytes) {
    const auto now = static_cast<std::int64_t>(seconds(CLOCK_MONOTONIC) * 1e9),
               takes = static_cast<std::int64_t>(static_cast<double>(bytes) / rate * 1e9);
    std::int64_t before = free_at, done;
    do done = std::max(before, now) + takes;
    while (!free_at.compare_exchange_weak(before, done));
    const timespec until{done / 1'000'000'000, done % 1'000'000'000};
    clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, &until, nullptr);
}

}  // namespace

// In place of the C library's: how an image is read.
extern "C" ssize_t pread(int fd, void* out, std::size_t size, off_t offset) {
    const ssize_t n = syscall(SYS_pread64, fd, out, size, offset);
    if (rate > 0 && n > 0) pace(static_cast<std::size_t>(n));
    return n;
}

int main(int argc, char** argv) {
    using slmd::image::Image;
    int passes = 9, threads = 1;
    bool good = argc % 2 == 0;
    for (int i = 2; good && i + 1 < argc; i += 2) {
        if (std::strcmp(argv[i], "--passes") == 0)
            passes = std::atoi(argv[i + 1]);
        else if (std::strcmp(argv[i], "--threads") == 0)
            threads = std::atoi(argv[i + 1]);
        else if (std::strcmp(argv[i], "--rate") == 0)
            rate = std::atof(argv[i + 1]) * 1e6;
        else
            good = false;
    }
    if (!good || passes < 1 || threads < 1) {
        std::fprintf(stderr, "usage: bench_hydrate IMAGE [--passes N] [--rate MB/s] [--threads N]\n");
        return 2;
    }
    const clockid_t clock = rate > 0 ? CLOCK_MONOTONIC : CLOCK_PROCESS_CPUTIME_ID;
    std::vector<double> took;
    unsigned long long raw = 0, stored = 0;
    for (int p = 0; p <= passes; p++) {
        const double begin = seconds(clock);
        auto image = Image::open(argv[1], {.threads = threads});
        if (!image) {
            std::fprintf(stderr, "bench_hydrate: %s\n", image.error().text);
            return 1;
        }
        if (p > 0) took.push_back(seconds(clock) - begin);  // the first brings the file into the page cache
        raw = image.value().sizes().raw;
        stored = image.value().sizes().file;
    }
    std::sort(took.begin(), took.end());
    const double median = took[took.size() / 2];
    if (rate > 0) {
        const double reading = static_cast<double>(stored) / rate;
        std::printf("{\"stored_bytes\": %llu, \"mb_s\": %.0f, \"ms\": %.1f, \"reading_ms\": %.1f, \"over\": %.3f}\n",
                    stored, rate / 1e6, median * 1e3, reading * 1e3, median / reading);
        return 0;
    }
    std::printf(
        "{\"raw_bytes\": %llu, \"stored_bytes\": %llu, \"ms\": %.2f, \"raw_gb_s\": %.3f, \"stored_gb_s\": %.3f}\n", raw,
        stored, median * 1e3, static_cast<double>(raw) / median / 1e9, static_cast<double>(stored) / median / 1e9);
}
