#include "engine/threads.h"

#include <algorithm>

#include "base/clock.h"
#include "base/team.h"

namespace slmd::engine {
namespace {

double seconds() { return 1e-9 * static_cast<double>(now_ns()); }

// The least number of threads that is nearly the fastest.
int best_of(const double (&time)[Team::max_size + 1], int n) {
    const double fastest = *std::min_element(time + 1, time + n + 1);
    int best = 1;
    while (time[best] > 1.03 * fastest) best++;
    return best;
}

}  // namespace

Result<Threads> measure_threads(Engine& engine) {
    constexpr int rounds = 3, decoded = 5;
    const std::atomic<bool> never{false};
    std::int32_t tokens[128 + rounds * decoded];
    for (int i = 0; auto& t : tokens) t = (17 + 97 * i++) % engine.vocab();
    const int prompt = std::min(engine.batch(), engine.context() / 2);
    const int last = std::min<int>(prompt + decoded, engine.context());
    double prefill[Team::max_size + 1] = {}, decode[Team::max_size + 1] = {};
    const int most = engine.threads();
    for (int n = 1; n <= most; n++) {
        engine.work_with(n, n);
        prefill[n] = decode[n] = 1e9;
        for (int round = 0; round < rounds; round++) {
            engine.forget(0);
            const double start = seconds();
            TRY(engine.advance(0, {tokens, static_cast<std::size_t>(prompt)}, prompt, never));
            const double read = seconds();
            for (int i = prompt + 1; i <= last; i++)
                TRY(engine.advance(0, {tokens, static_cast<std::size_t>(i)}, 1, never));
            prefill[n] = std::min(prefill[n], read - start);
            decode[n] = std::min(decode[n], seconds() - read);
        }
    }
    engine.forget(0);
    const Threads best{best_of(prefill, most), best_of(decode, most)};
    engine.work_with(best.prefill, best.decode);
    return best;
}

}  // namespace slmd::engine
