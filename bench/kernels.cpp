// Weights a second and multiply-adds a second of each matrix kernel, one thread, on the shapes of SmolLM2-135M.
#include "compute/kernels.h"

#include <benchmark/benchmark.h>

#include <string>
#include <vector>

using namespace slmd::compute;

namespace {

// kind: 0 i4, 1 i4a, 2 i8, 3 i6
void matmul(benchmark::State& state, const Kernels* kernels, int kind, int rows, int cols, int tokens) {
    const std::size_t cells = static_cast<std::size_t>(rows / block) * static_cast<std::size_t>(cols / group);
    const std::size_t code_bytes = cells * (kind == 2 ? 256 : 128), scale_bytes = cells * (kind == 0   ? 8
                                                                                           : kind == 1 ? 32
                                                                                                       : 16);
    // Enough copies that decode reads memory and not the cache.
    const std::size_t copies = tokens == 1 ? (std::size_t{96} << 20) / code_bytes + 1 : 1;
    std::vector<std::uint8_t> codes(code_bytes * copies, 0x53), scales(scale_bytes * copies, 0x31);
    const std::size_t high_bytes = kind == 3 ? cells * 64 : 0;
    std::vector<std::uint8_t> high(high_bytes * copies, 0x1B);
    std::vector<float> steps(static_cast<std::size_t>(rows), 0.01f), x(static_cast<std::size_t>(cols * tokens), 0.5f),
        y(static_cast<std::size_t>(rows * tokens));
    std::vector<std::int8_t> q(x.size() + 64);
    std::vector<float> sx(x.size() / group);
    std::vector<std::int32_t> sum(x.size() / group);
    const std::int8_t book[16] = {-31, -22, -17, -13, -10, -7, -4, -2, 0, 2, 5, 8, 12, 16, 22, 31};
    for (int t = 0; t < tokens; t++)
        kernels->quantize(&x[static_cast<std::size_t>(t * cols)], cols, &q[static_cast<std::size_t>(t * cols)],
                          &sx[static_cast<std::size_t>(t * cols / group)],
                          &sum[static_cast<std::size_t>(t * cols / group)]);
    const Quantized in{q.data(), sx.data(), sum.data(), cols};
    std::size_t copy = 0;
    for (auto _ : state) {
        const Matrix w{rows,         cols, codes.data() + copy * code_bytes, scales.data() + copy * scale_bytes,
                       steps.data(), book, high.data() + copy * high_bytes};
        (kind == 0   ? kernels->i4
         : kind == 1 ? kernels->i4a
         : kind == 2 ? kernels->i8
                     : kernels->i6)(w, 0, rows / block, in, tokens, y.data(), static_cast<std::size_t>(rows));
        benchmark::DoNotOptimize(y.data());
        copy = (copy + 1) % copies;
    }
    const double weights = static_cast<double>(rows) * cols * static_cast<double>(state.iterations());
    state.counters["GMAC/s"] = benchmark::Counter(weights * tokens / 1e9, benchmark::Counter::kIsRate);
    state.counters["GB/s"] = benchmark::Counter(
        static_cast<double>(code_bytes + scale_bytes + high_bytes) * static_cast<double>(state.iterations()) / 1e9,
        benchmark::Counter::kIsRate);
}

const bool registered = [] {
    const char* kinds[] = {"i4", "i4a", "i8", "i6"};
    for (auto l = levels(); *l != nullptr; l++) {
        if (std::string((*l)->name) == "scalar") continue;
        for (int kind = 0; kind < 4; kind++)
            for (int tokens : {1, 32})
                for (auto [rows, cols] : {std::pair{1536, 576}, {576, 1536}})
                    benchmark::RegisterBenchmark(
                        (std::string((*l)->name) + "/" + kinds[kind] + "/" + std::to_string(rows) + "x" +
                         std::to_string(cols) + "/tokens:" + std::to_string(tokens))
                            .c_str(),
                        [=, k = *l, r = rows, c = cols](benchmark::State& s) { matmul(s, k, kind, r, c, tokens); });
    }
    return true;
}();

}  // namespace
