// Read bandwidth of this machine with 1..N threads, as JSON: {"threads 1": GB/s, ...}. Each thread sums its part of a
// buffer that no cache holds; the best of several passes counts.
//   bench_bandwidth [--threads 2] [--mib 1024] [--passes 7]
#include <sys/mman.h>

#include <algorithm>
#include <atomic>
#include <chrono>
#include <cstdint>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <thread>
#include <vector>

namespace {

using Line = std::uint64_t __attribute__((vector_size(64)));

std::uint64_t sum(const Line* line, std::size_t count) {
    Line total[4] = {};
    for (std::size_t i = 0; i + 4 <= count; i += 4)
        for (std::size_t j = 0; j < 4; j++) total[j] += line[i + j];
    total[0] += total[1] + total[2] + total[3];
    std::uint64_t out = 0;
    for (int k = 0; k < 8; k++) out += total[0][k];
    return out;
}

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

// Seconds from the moment that all threads are there to the end of the last.
double pass(const Line* lines, std::size_t count, int threads) {
    std::atomic<int> waiting{threads};
    std::atomic<std::uint64_t> kept{0};
    std::vector<double> begin(static_cast<std::size_t>(threads)), end(begin);
    std::vector<std::thread> team;
    const std::size_t part = count / static_cast<std::size_t>(threads);
    for (std::size_t t = 0; t < begin.size(); t++)
        team.emplace_back([&, t] {
            waiting--;
            while (waiting > 0) {
            }
            begin[t] = now();
            kept += sum(lines + t * part, part);
            end[t] = now();
        });
    for (auto& t : team) t.join();
    return *std::max_element(end.begin(), end.end()) - *std::min_element(begin.begin(), begin.end());
}

}  // namespace

int main(int argc, char** argv) {
    int threads = 2, mib = 1024, passes = 7;
    for (int i = 1; i + 1 < argc; i += 2) {
        const int value = std::atoi(argv[i + 1]);
        if (std::strcmp(argv[i], "--threads") == 0) threads = value;
        if (std::strcmp(argv[i], "--mib") == 0) mib = value;
        if (std::strcmp(argv[i], "--passes") == 0) passes = value;
    }
    if (argc % 2 == 0 || threads < 1 || mib < 1 || passes < 1) {
        std::fprintf(stderr, "usage: bench_bandwidth [--threads N] [--mib N] [--passes N]\n");
        return 2;
    }
    const std::size_t bytes = static_cast<std::size_t>(mib) << 20;
    void* const block = mmap(nullptr, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (block == MAP_FAILED) {
        std::fprintf(stderr, "bench_bandwidth: cannot map %d MiB\n", mib);
        return 1;
    }
    madvise(block, bytes, MADV_HUGEPAGE);
    std::memset(block, 1, bytes);
    for (int t = 1; t <= threads; t++) {
        double best = 1e9;
        for (int p = 0; p < passes; p++)
            best = std::min(best, pass(static_cast<const Line*>(block), bytes / sizeof(Line), t));
        std::printf("%s\"%d\": %.2f", t == 1 ? "{" : ", ", t, static_cast<double>(bytes) / best / 1e9);
    }
    std::printf("}\n");
}
