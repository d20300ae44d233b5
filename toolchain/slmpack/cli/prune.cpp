// slmpack prune.
#include "toolchain/slmpack/prune/prune.h"

#include <algorithm>
#include <cstdio>

#include "commands.h"
#include "model.h"

namespace slmd::pack {
namespace {

// "3 5 17"
std::string left_out(const std::vector<std::uint32_t>& kept, std::uint32_t all) {
    std::string s;
    for (std::uint32_t i = 0; i < all; i++)
        if (!std::binary_search(kept.begin(), kept.end(), i)) s += " " + std::to_string(i);
    return s;
}

Result<void> prune(const PruneCommand& command) {
    const auto source = TRY(Source::open(command.source));
    const image::ModelParams& p = source->params;
    if (command.layers == 0 && command.channels == 0)
        return Error::make(Code::incorrect_parameters, "say what is to be left: --layers (of %u), --channels (of %u)",
                           p.layers, p.hidden);
    const auto window = std::min(static_cast<std::size_t>(command.window), std::size_t{p.context});
    const auto tokenizer = TRY(load_tokenizer(command.source));
    const std::string text = TRY(read_text(command.text));
    const auto sequences =
        TRY(text_windows(tokenizer, text, window, static_cast<std::size_t>(command.tokens) / window));
    const Prices prices =
        TRY(price(*source, sequences, static_cast<unsigned>(command.threads), remaining_line("looking")));
    end_progress();
    const Kept kept =
        TRY(choose(prices, static_cast<std::uint32_t>(command.layers), static_cast<std::uint32_t>(command.channels)));
    if (command.verbose)
        for (std::uint32_t layer = 0; layer < p.layers; layer++)
            std::printf("layer %2u: %.4f nats%s\n", layer, prices.layers[layer],
                        std::binary_search(kept.layers.begin(), kept.layers.end(), layer) ? "" : ", left out");
    double layers = 0, channels = 0;
    for (const double price : prices.layers) layers += price;
    for (std::size_t i = 0; i < kept.layers.size(); i++) {
        layers -= prices.layers[kept.layers[i]];
        const std::vector<double>& of = prices.channels[kept.layers[i]];
        for (const double price : of) channels += price;
        for (const std::uint32_t c : kept.channels[i]) channels -= of[c];
    }
    TRY(write_pruned(*source, kept, command.output));
    std::printf("%s: %zu of %u layers", command.output.c_str(), kept.layers.size(), p.layers);
    if (const std::string out = left_out(kept.layers, p.layers); !out.empty())
        std::printf(" (without%s, %.4f nats)", out.c_str(), layers);
    std::printf(", %zu of %u channels", kept.channels[0].size(), p.hidden);
    if (kept.channels[0].size() < p.hidden) std::printf(" (%.4f nats)", channels);
    std::printf("; estimates, for what is cut one at a time: slmpack eval measures\n");
    return {};
}

}  // namespace

int run_prune(const PruneCommand& command) {
    const auto done = prune(command);
    return done ? 0 : fail(done.error().text);
}

}  // namespace slmd::pack
