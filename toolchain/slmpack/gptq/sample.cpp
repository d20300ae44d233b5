#include "sample.h"

#include <algorithm>
#include <cmath>

#include "draw.h"

namespace slmd::pack {

Result<std::vector<Sequence>> sample_sequences(engine::Engine& engine, std::size_t count, std::size_t window,
                                               std::span<const std::int32_t> start,
                                               const std::function<void(double)>& progress) {
    std::vector<Sequence> out(count);
    for (std::size_t i = 0; i < count; i++) out[i].assign(1, start[i % start.size()]);
    const auto together = static_cast<std::size_t>(engine.slots());
    for (std::size_t first = 0; first < count; first += together) {
        const std::size_t n = std::min(together, count - first);
        for (std::size_t length = 1; length < window; length++) {
            std::vector<engine::Engine::Step> steps(n);
            for (std::size_t i = 0; i < n; i++) {
                steps[i].slot = static_cast<int>(i);
                steps[i].tokens = out[first + i];
            }
            // A slot is done when all of its tokens are cached; a first pass may be too full for some.
            std::size_t done = 0;
            while (done < n) {
                TRY(engine.advance(std::span(steps).subspan(done)));
                for (; done < n && steps[done].cached == int(length); done++) {
                    const std::span<float> p = steps[done].logits;
                    const float largest = *std::max_element(p.begin(), p.end());
                    double sum = 0;
                    for (float& v : p) sum += v = std::exp(v - largest);
                    out[first + done].push_back(draw(p, sum, first + done, length));
                }
            }
            if (progress) progress((double(first) + double(n) * double(length) / double(window)) / double(count));
        }
    }
    return out;
}

}  // namespace slmd::pack
