// Speed of the engine on an image, as JSON: prefill of N tokens and decode of M tokens after a depth, tokens a second.
//   bench_engine IMAGE [--threads 2] [--prefill 512] [--decode 128] [--depth 0] [--repeat 3] [--level L] [--batch 32]
#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

using namespace slmd;

namespace {

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int fail(const Error& e) {
    std::fprintf(stderr, "bench_engine: %s\n", e.what());
    return 1;
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

}  // namespace

int main(int argc, char** argv) {
    int threads = 2, prefill = 512, decode = 128, depth = 0, repeat = 3, batch = 32;
    const char* level = nullptr;
    for (int i = 2; i + 1 < argc; i += 2) {
        struct {
            const char* name;
            int* value;
        } const options[] = {{"--threads", &threads}, {"--prefill", &prefill}, {"--decode", &decode},
                             {"--depth", &depth},     {"--repeat", &repeat},   {"--batch", &batch}};
        for (const auto& o : options)
            if (std::strcmp(argv[i], o.name) == 0) *o.value = std::atoi(argv[i + 1]);
        if (std::strcmp(argv[i], "--level") == 0) level = argv[i + 1];
    }
    if (argc < 2 || argc % 2 != 0 || prefill < 1 || decode < 1 || depth < 0 || repeat < 1) {
        std::fprintf(stderr,
                     "usage: bench_engine IMAGE [--threads N] [--prefill N] [--decode N] [--depth N] [--repeat N] "
                     "[--batch N] [--level NAME]\n");
        return 2;
    }
    const double start = now();
    auto image = image::Image::open(argv[1], {.threads = threads});
    if (!image) return fail(image.error());
    const double loaded = now();
    engine::Config config;
    config.context = std::max(prefill, depth + decode) + 1;
    config.threads = threads;
    config.batch = batch;
    config.level = level;
    auto opened = engine::Engine::open(*image, config);
    if (!opened) return fail(opened.error());
    engine::Engine& engine = **opened;
    const double ready = now();

    std::vector<std::int32_t> tokens;
    for (int i = 0; i < config.context; i++) tokens.push_back((1000 + 7 * i) % engine.vocab());
    const std::span<const std::int32_t> all(tokens);
    const std::atomic<bool> cancel{false};
    std::vector<double> prefill_rates, decode_rates;
    for (int r = 0; r < repeat; r++) {
        engine.forget(0);
        double t = now();
        if (auto p = engine.advance(0, all.first(static_cast<std::size_t>(prefill)), prefill, cancel); !p)
            return fail(p.error());
        prefill_rates.push_back(prefill / (now() - t));
        engine.forget(0);
        if (depth > 0)
            if (auto p = engine.advance(0, all.first(static_cast<std::size_t>(depth)), depth, cancel); !p)
                return fail(p.error());
        t = now();
        for (int i = 0; i < decode; i++)
            if (auto p = engine.advance(0, all.first(static_cast<std::size_t>(depth + i + 1)), 1, cancel); !p)
                return fail(p.error());
        decode_rates.push_back(decode / (now() - t));
    }
    std::printf(
        "{\"level\": \"%s\", \"threads\": %d, \"load_ms\": %.1f, \"open_ms\": %.1f, \"prefill\": %d, \"prefill_tps\": "
        "%.1f, \"decode\": %d, \"depth\": %d, \"decode_tps\": %.1f, \"arena_bytes\": %llu}\n",
        engine.level(), threads, (loaded - start) * 1e3, (ready - loaded) * 1e3, prefill, median(prefill_rates), decode,
        depth, median(decode_rates), static_cast<unsigned long long>(engine.arena_bytes()));
    delete &engine;
}
