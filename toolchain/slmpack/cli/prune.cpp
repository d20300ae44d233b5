// slmpack prune.
#include "toolchain/slmpack/prune/prune.h"

#include <algorithm>
#include <cstdio>
#include <numeric>
#include <span>

#include "commands.h"
#include "model.h"
#include "toolchain/slmpack/tokenizer/jinja.h"

namespace slmd::pack {
namespace {

// "3 5 17"
std::string left_out(const std::vector<std::uint32_t>& kept, std::uint32_t all) {
    std::string s;
    for (std::uint32_t i = 0; i < all; i++)
        if (!std::binary_search(kept.begin(), kept.end(), i)) s += " " + std::to_string(i);
    return s;
}

Kept whole(const image::ModelParams& p) {
    Kept kept{std::vector<std::uint32_t>(p.layers), {}};
    std::iota(kept.layers.begin(), kept.layers.end(), 0u);
    std::vector<std::uint32_t> channels(p.hidden);
    std::iota(channels.begin(), channels.end(), 0u);
    kept.channels.assign(p.layers, channels);
    return kept;
}

// What a text is made of, and what the chat template puts around it, with a system text and without.
Result<std::vector<std::int32_t>> tokens_of(const Source& source, const LoadedTokenizer& tokenizer,
                                            const std::string& text) {
    std::vector<std::int32_t> all = TRY(tokenizer.encode(text, true, false));
    const auto program = jinja::Template::parse(source.chat_template);
    if (!program) return all;  // no conversations with this model
    const TokenizerSpec& t = source.tokenizer;
    const auto named = [&](std::int32_t id) { return id < 0 ? "" : t.tokens[static_cast<std::size_t>(id)]; };
    const jinja::Message talk[] = {{"system", "0"}, {"user", "0"}, {"assistant", "0"}, {"user", "0"}};
    for (const std::size_t first : {0, 1}) {
        std::int64_t steps = 1'000'000;
        const auto rendered = program.value().render(
            {.messages = std::span(talk).subspan(first), .bos_token = named(t.bos), .eos_token = named(t.eos)}, steps);
        if (!rendered) continue;  // some take no system text
        const auto around = TRY(tokenizer.encode(rendered.value().text, true, true));
        all.insert(all.end(), around.begin(), around.end());
    }
    return all;
}

Result<void> prune(const PruneCommand& command) {
    const auto source = TRY(Source::open(command.source));
    const image::ModelParams& p = source->params;
    if (command.layers == 0 && command.channels == 0 && command.vocab == 0)
        return Error::make(Code::incorrect_parameters,
                           "say what is to be left: --layers (of %u), --channels (of %u), --vocab (of %u)", p.layers,
                           p.hidden, p.vocab);
    const auto window = std::min(static_cast<std::size_t>(command.window), std::size_t{p.context});
    const auto tokenizer = TRY(load_tokenizer(command.source));
    const std::string text = TRY(read_text(command.text));
    std::vector<std::uint32_t> entries;
    if (command.vocab != 0)
        entries = TRY(choose_tokens(source->tokenizer, TRY(tokens_of(*source, tokenizer, text)),
                                    static_cast<std::uint32_t>(command.vocab)));
    const bool priced = command.layers != 0 || command.channels != 0;
    Kept kept = whole(p);
    Prices prices{std::vector<double>(p.layers), std::vector(p.layers, std::vector<double>(p.hidden))};
    if (priced) {
        const auto sequences =
            TRY(text_windows(tokenizer, text, window, static_cast<std::size_t>(command.tokens) / window));
        prices = TRY(price(*source, sequences, static_cast<unsigned>(command.threads), remaining_line("looking")));
        end_progress();
        kept = TRY(
            choose(prices, static_cast<std::uint32_t>(command.layers), static_cast<std::uint32_t>(command.channels)));
    }
    kept.tokens = std::move(entries);
    if (command.verbose && priced)
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
    if (command.vocab != 0) std::printf(", %zu of %u entries of the vocabulary", kept.tokens.size(), p.vocab);
    std::printf("; estimates, for what is cut one at a time: slmpack eval measures\n");
    return {};
}

}  // namespace

int run_prune(const PruneCommand& command) {
    const auto done = prune(command);
    return done ? 0 : fail(done.error().text);
}

}  // namespace slmd::pack
