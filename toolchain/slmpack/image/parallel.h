// Independent work on all cores.
#pragma once
#include <algorithm>
#include <atomic>
#include <cstddef>
#include <thread>
#include <vector>

namespace slmd::pack {

// work(i) for i = 0 .. count - 1, `piece` of them at a time in order; what it computes does not depend on the number of
// cores. threads 0: one a core.
template <class Work>
void parallel(std::size_t count, std::size_t piece, const Work& work, unsigned threads = 0) {
    std::atomic<std::size_t> next{0};
    const auto run = [&] {
        for (std::size_t first; (first = next.fetch_add(piece)) < count;)
            for (std::size_t i = first; i < std::min(count, first + piece); i++) work(i);
    };
    if (threads == 0) threads = std::min(16u, std::max(1u, std::thread::hardware_concurrency()));
    std::vector<std::jthread> others;
    for (unsigned i = 1; i < threads; i++) others.emplace_back(run);
    run();
}

}  // namespace slmd::pack
