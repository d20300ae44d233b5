// Prints a hash of all logits of a fixed run for every level of this CPU, thread count and batch size: one line each,
// "level threads batch hash".
//   answer_hash IMAGE TOKENS [LEVEL [streamed]]      LEVEL "best": the first alone
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <memory>
#include <vector>

#include "compute/kernels.h"
#include "engine/engine.h"

using namespace slmd;

int main(int argc, char** argv) {
    if (argc < 3) {
        std::fprintf(stderr, "usage: answer_hash IMAGE TOKENS [LEVEL [streamed]]\n");
        return 2;
    }
    const bool streamed = argc > 4 && std::strcmp(argv[4], "streamed") == 0;
    auto image = image::Image::open(
        argv[1], {.threads = 2, .residency = streamed ? image::Residency::streamed : image::Residency::on_demand});
    if (!image) {
        std::fprintf(stderr, "answer_hash: %s\n", image.error().what());
        return 1;
    }
    std::vector<std::int32_t> tokens;
    for (int i = 0; i < std::atoi(argv[2]); i++)
        tokens.push_back((17 + 97 * i + i * i) % static_cast<int>(image->params().vocab));
    for (auto level = compute::levels(); *level != nullptr; level++) {
        const bool wanted = argc <= 3 || std::strcmp(argv[3], (*level)->name) == 0 ||
                            (std::strcmp(argv[3], "best") == 0 && level == compute::levels());
        if (!wanted) continue;
        for (auto [threads, batch] : {std::pair{1, 1}, {1, 32}, {2, 7}, {2, 32}}) {
            auto engine = engine::Engine::open(
                *image,
                {.context = static_cast<int>(tokens.size()), .threads = threads, .batch = 32, .level = (*level)->name});
            if (!engine) {
                std::fprintf(stderr, "answer_hash: %s\n", engine.error().what());
                return 1;
            }
            const std::unique_ptr<engine::Engine> owner(*engine);
            std::uint64_t hash = 1469598103934665603ull;
            auto sink = [](void* context, int, std::span<const float> logits) {
                auto& h = *static_cast<std::uint64_t*>(context);
                for (float f : logits) {
                    std::uint32_t bits;
                    std::memcpy(&bits, &f, 4);
                    h = (h ^ bits) * 1099511628211ull;
                }
            };
            if (auto r = owner->score(tokens, batch, sink, &hash); !r) {
                std::fprintf(stderr, "answer_hash: %s\n", r.error().what());
                return 1;
            }
            std::printf("%s %d %d %016llx\n", (*level)->name, threads, batch, static_cast<unsigned long long>(hash));
        }
    }
}
