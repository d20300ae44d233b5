// Speed of the engine on an image, as JSON: prefill of each number of tokens, and decode of M tokens after each depth,
// in tokens a second, after a short pass that is not counted. A decoded token's bytes are what it reads: every matrix
// once, the keys and values of the positions before it.
//   bench_engine IMAGE [--threads 2] [--prefill 32,128,512] [--decode 128] [--depth 0,512] [--repeat 3] [--level L]
//                [--batch 32]
#include "engine/engine.h"

#include <algorithm>
#include <chrono>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <vector>

#include "base/bytes.h"

using namespace slmd;

namespace {

#ifdef __clang__
constexpr char compiler[] = "clang " __clang_version__;
#else
constexpr char compiler[] = "GCC " __VERSION__;
#endif

double now() { return std::chrono::duration<double>(std::chrono::steady_clock::now().time_since_epoch()).count(); }

int fail(const Error& e) {
    std::fprintf(stderr, "bench_engine: %s\n", e.what());
    return 1;
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

std::vector<int> numbers(const char* text) {
    std::vector<int> out;
    for (char* end; *text != 0; text = *end == ',' ? end + 1 : end) {
        const long v = std::strtol(text, &end, 10);
        if (end == text) return {};
        out.push_back(static_cast<int>(v));
    }
    return out;
}

// Bytes of every tensor that a decoded token reads whole; of an untied embedding it reads one row, left out here.
std::uint64_t weight_bytes(const image::Image& image) {
    const bool tied = (image.params().flags & image::flag_tied_output) != 0;
    std::uint64_t bytes = 0;
    for (const auto& t : image.tensors())
        if (tied || std::strcmp(t.name, "token_embd") != 0) bytes += t.codes_size + t.scales_size + t.steps_size;
    return bytes;
}

// Bytes of int8 keys and values and their f32 scales that a token at this depth reads.
std::uint64_t cache_bytes(const image::ModelParams& p, std::uint64_t depth) {
    const std::uint64_t position = p.head_dim + round_up(p.head_dim, 16) + 2 * sizeof(float);
    std::uint64_t bytes = 0;
    for (std::uint32_t l = 0; l < p.layers; l++) {
        const bool slides = p.window != 0 && image::layer_bit(p.sliding, l);
        bytes += (slides ? std::min<std::uint64_t>(depth, p.window) : depth) * p.kv_heads * position;
    }
    return bytes;
}

struct Options {
    int threads = 2, decode = 128, repeat = 3, batch = 32;
    std::vector<int> prefill = {512}, depth = {0};
    const char* level = nullptr;
};

bool parse(int argc, char** argv, Options& o) {
    for (int i = 2; i + 1 < argc; i += 2) {
        struct {
            const char* name;
            int* value;
        } const whole[] = {
            {"--threads", &o.threads}, {"--decode", &o.decode}, {"--repeat", &o.repeat}, {"--batch", &o.batch}};
        bool known = false;
        for (const auto& w : whole)
            if (std::strcmp(argv[i], w.name) == 0) *w.value = std::atoi(argv[i + 1]), known = true;
        if (std::strcmp(argv[i], "--prefill") == 0) o.prefill = numbers(argv[i + 1]), known = true;
        if (std::strcmp(argv[i], "--depth") == 0) o.depth = numbers(argv[i + 1]), known = true;
        if (std::strcmp(argv[i], "--level") == 0) o.level = argv[i + 1], known = true;
        if (!known) return false;
    }
    return argc >= 2 && argc % 2 == 0 && !o.prefill.empty() && !o.depth.empty() && std::ranges::min(o.prefill) > 0 &&
           std::ranges::min(o.depth) >= 0 && o.decode > 0 && o.repeat > 0;
}

struct Bench {
    engine::Engine& engine;
    std::vector<std::int32_t> tokens;
    std::atomic<bool> cancel{false};

    // Seconds that the engine took from `from` cached tokens to `to`, `step` tokens a call.
    Result<double> advance(int from, int to, int step) {
        const std::span<const std::int32_t> all(tokens);
        const double start = now();
        for (int at = from + step; at <= to; at += step)
            TRY(engine.advance(0, all.first(static_cast<std::size_t>(at)), step, cancel));
        return now() - start;
    }

    Result<double> prefill_rate(int count) {
        engine.forget(0);
        auto seconds = advance(0, count, count);
        if (!seconds) return seconds.error();
        return count / *seconds;
    }

    Result<double> decode_rate(int depth, int count) {
        engine.forget(0);
        if (depth > 0) TRY(advance(0, depth, depth));
        auto seconds = advance(depth, depth + count, 1);
        if (!seconds) return seconds.error();
        return count / *seconds;
    }
};

// Rates of every prefill, then of every depth: the medians of o.repeat measurements.
Result<std::vector<double>> measure(Bench& bench, const Options& o) {
    std::vector<std::vector<double>> rates(o.prefill.size() + o.depth.size());
    TRY(bench.prefill_rate(std::min(o.prefill[0], 32)));
    TRY(bench.decode_rate(0, 4));
    for (int r = 0; r < o.repeat; r++)
        for (std::size_t i = 0; i < rates.size(); i++) {
            auto rate = i < o.prefill.size() ? bench.prefill_rate(o.prefill[i])
                                             : bench.decode_rate(o.depth[i - o.prefill.size()], o.decode);
            if (!rate) return rate.error();
            rates[i].push_back(*rate);
        }
    std::vector<double> medians;
    for (auto& r : rates) medians.push_back(median(r));
    return medians;
}

void print(const std::vector<double>& rates, const Options& o, const image::Image& image) {
    std::printf("\"prefill\": [");
    for (std::size_t i = 0; i < o.prefill.size(); i++)
        std::printf("%s{\"tokens\": %d, \"tps\": %.2f}", i == 0 ? "" : ", ", o.prefill[i], rates[i]);
    std::printf("], \"decode\": [");
    const std::uint64_t weights = weight_bytes(image);
    for (std::size_t i = 0; i < o.depth.size(); i++) {
        const auto depth = static_cast<std::uint64_t>(o.depth[i] + o.decode / 2);  // of the middle token
        std::printf("%s{\"depth\": %d, \"tokens\": %d, \"tps\": %.2f, \"bytes\": %llu}", i == 0 ? "" : ", ", o.depth[i],
                    o.decode, rates[o.prefill.size() + i],
                    static_cast<unsigned long long>(weights + cache_bytes(image.params(), depth)));
    }
    std::printf("], \"weight_bytes\": %llu", static_cast<unsigned long long>(weights));
}

}  // namespace

int main(int argc, char** argv) {
    Options o;
    if (!parse(argc, argv, o)) {
        std::fprintf(stderr,
                     "usage: bench_engine IMAGE [--threads N] [--prefill N,N,...] [--decode N] [--depth N,N,...] "
                     "[--repeat N] [--batch N] [--level NAME]\n");
        return 2;
    }
    const double start = now();
    auto image = image::Image::open(argv[1], {.threads = o.threads});
    if (!image) return fail(image.error());
    const double loaded = now();
    engine::Config config;
    config.context =
        std::max({std::ranges::max(o.prefill), std::ranges::max(o.depth) + o.decode, 32}) + 1;  // 32: the warm-up
    config.threads = o.threads;
    config.batch = o.batch;
    config.level = o.level;
    auto opened = engine::Engine::open(*image, config);
    if (!opened) return fail(opened.error());
    const double ready = now();

    Bench bench{.engine = **opened, .tokens = {}};
    for (int i = 0; i < config.context; i++) bench.tokens.push_back((1000 + 7 * i) % bench.engine.vocab());
    auto rates = measure(bench, o);
    if (!rates) return fail(rates.error());
    std::printf("{\"level\": \"%s\", \"compiler\": \"%s\", \"threads\": %d, \"load_ms\": %.1f, \"open_ms\": %.1f, ",
                bench.engine.level(), compiler, o.threads, (loaded - start) * 1e3, (ready - loaded) * 1e3);
    print(*rates, o, *image);
    std::printf(", \"arena_bytes\": %llu}\n", static_cast<unsigned long long>(bench.engine.arena_bytes()));
    delete &bench.engine;
}
