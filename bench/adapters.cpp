// What adapters cost, and switching between them: requests (a prompt of its own, then an answer) under none, always the
// same, and eight adapters in turn, interleaved. The adapters are random: what they say does not matter here.
//   bench_adapters IMAGE [--rank 16] [--prompt 64] [--answer 32] [--requests 16] [--repeat 5] [--threads N]
#include <time.h>

#include <algorithm>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <string>
#include <vector>

#include "engine/engine.h"
#include "tests/engine/tiny_adapter.h"

using namespace slmd;

namespace {

constexpr int adapters = 8;
const std::atomic<bool> never{false};

// Of one thread the time that it computes, since others may share the core; of several the clock's.
bool alone = false;
double now() {
    timespec t;
    clock_gettime(alone ? CLOCK_PROCESS_CPUTIME_ID : CLOCK_MONOTONIC, &t);
    return static_cast<double>(t.tv_sec) + 1e-9 * static_cast<double>(t.tv_nsec);
}

template <class T>
T value_of(Result<T> r) {
    if (!r) {
        std::fprintf(stderr, "bench_adapters: %s\n", r.error().what());
        std::exit(1);
    }
    return std::move(r).value();
}

double median(std::vector<double> v) {
    std::sort(v.begin(), v.end());
    return v[v.size() / 2];
}

struct Times {
    double prompt = 0, answer = 0;
    double total() const { return prompt + answer; }
};

// No prompt begins like another one.
void ask(engine::Engine& e, test::Random& random, int prompt, int answer, int adapter, Times& t) {
    e.forget(0);
    std::vector<std::int32_t> tokens;
    for (int k = 0; k < prompt; k++) tokens.push_back(random.between(0, e.vocab() - 1));
    double start = now();
    for (int k = 0; k <= answer; k++) {
        const auto p = value_of(e.advance(0, tokens, 1 << 30, never, {}, adapter));
        if (k == 0) t.prompt += now() - start, start = now();
        tokens.push_back(
            static_cast<std::int32_t>(std::max_element(p.logits.begin(), p.logits.end()) - p.logits.begin()));
    }
    t.answer += now() - start;
}

}  // namespace

int main(int argc, char** argv) {
    int rank = 16, prompt = 64, answer = 32, requests = 16, repeat = 5, threads = 0;
    const char* path = nullptr;
    for (int i = 1; i < argc; i++) {
        const std::pair<const char*, int*> options[] = {{"--rank", &rank},     {"--prompt", &prompt},
                                                        {"--answer", &answer}, {"--requests", &requests},
                                                        {"--repeat", &repeat}, {"--threads", &threads}};
        bool known = false;
        for (const auto& [name, to] : options)
            if (std::strcmp(argv[i], name) == 0 && i + 1 < argc) *to = std::atoi(argv[++i]), known = true;
        if (!known) path = argv[i];
    }
    if (path == nullptr) return std::fputs("bench_adapters: which image?\n", stderr), 1;
    const auto base = value_of(image::Image::open(path, {.threads = 2}));
    std::vector<image::Image> images;
    std::vector<const image::Image*> pointers;
    for (int i = 0; i < adapters; i++) {
        const std::string file = std::string(path) + ".adapter-" + std::to_string(i) + ".tmp";
        const test::TinyAdapter random(base, "random", static_cast<std::uint64_t>(i) + 1,
                                       static_cast<std::uint32_t>(rank));
        value_of(pack::write_image(file, random.contents, {}));
        images.push_back(value_of(image::Image::open(file.c_str(), {})));
        std::remove(file.c_str());
    }
    for (const auto& i : images) pointers.push_back(&i);
    engine::Config c{.context = prompt + answer + 1, .threads = threads};
    c.adapters = pointers;
    const std::unique_ptr<engine::Engine> e(value_of(engine::Engine::open(base, c)));
    alone = e->threads() == 1;
    test::Random random{7};
    // Request by request, so that whatever else the machine does is everybody's; the order turns.
    std::vector<double> prompts[3], answers[3], switched;
    Times warm;
    for (int i = 0; i < adapters; i++) ask(*e, random, prompt, 2, i, warm);
    for (int r = 0; r < repeat; r++) {
        Times times[3];
        for (int i = 0; i < requests; i++)
            for (int k = 0; k < 3; k++) {
                const int which = (i + r + k) % 3, adapter = which == 0   ? engine::no_adapter
                                                             : which == 1 ? 0
                                                                          : i % adapters;
                ask(*e, random, prompt, answer, adapter, times[which]);
            }
        for (int k = 0; k < 3; k++) {
            prompts[k].push_back(requests * prompt / times[k].prompt);
            answers[k].push_back(requests * answer / times[k].answer);
        }
        switched.push_back(times[2].total() / times[1].total());
    }
    std::printf("%s, rank %d (%.1f MiB), %d requests of %d + %d tokens, %d threads, level %s, median of %d\n",
                base.params().name, rank,
                static_cast<double>(images[0].footprint(image::Residency::whole).resident) / 1048576, requests, prompt,
                answer, e->threads(), e->level(), repeat);
    const char* const names[] = {"none", "one", "eight in turn"};
    for (int k = 0; k < 3; k++)
        std::printf("%-14s prefill %8.1f tokens/s  decode %7.2f tokens/s\n", names[k], median(prompts[k]),
                    median(answers[k]));
    std::printf("time of eight in turn by that of one: %.4f (median; %.4f to %.4f)\n", median(switched),
                *std::min_element(switched.begin(), switched.end()),
                *std::max_element(switched.begin(), switched.end()));
    return 0;
}
