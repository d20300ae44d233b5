#include "task/embed.h"

#include <chrono>
#include <cstdio>
#include <iostream>
#include <memory>

#include "commands.h"
#include "image/image.h"
#include "model.h"
#include "toolchain/slmpack/npy.h"

namespace slmd::pack {
namespace {

Result<void> embed_lines(const EmbedCommand& command) {
    std::vector<std::string> lines;
    std::size_t longest = 0;
    for (std::string line; std::getline(std::cin, line);) {
        longest = std::max(longest, line.size());
        lines.push_back(std::move(line));
    }
    if (lines.empty()) return Error::make(Code::incorrect_parameters, "no text on standard input");
    const auto image = TRY(image::Image::open(command.model.c_str(), {.threads = 2}));
    const auto tokenizer = TRY(text::Tokenizer::open(image.section(image::SectionId::tokenizer)));
    const image::ModelParams& p = image.params();
    const bool encodes = (p.flags & image::flag_encoder) != 0;
    engine::Config config{.context = command.context, .threads = command.threads};
    if (!encodes && config.context == 0) config.context = std::min(2048, static_cast<int>(p.context));
    if (!command.level.empty()) config.level = command.level.c_str();
    std::unique_ptr<engine::Encoder> encoder;
    std::unique_ptr<engine::Engine> engine;
    if (encodes)
        encoder.reset(TRY(engine::Encoder::open(image, config)));
    else
        engine.reset(TRY(engine::Engine::open(image, config)));
    const int dim = static_cast<int>(p.dim), context = encodes ? encoder->context() : engine->context();
    std::vector<float> vectors(lines.size() * p.dim);
    std::vector<std::int32_t> tokens(static_cast<std::size_t>(context));
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(longest));
    const task::Workspace workspace{{}, {}, scratch};
    const std::atomic<bool> never{false};
    std::size_t cut = 0, read = 0;
    const auto start = std::chrono::steady_clock::now();
    for (std::size_t at = 0; at < lines.size(); at += task::Embedding::max_texts) {
        task::EmbeddedText texts[task::Embedding::max_texts];
        const std::size_t n = std::min<std::size_t>(task::Embedding::max_texts, lines.size() - at);
        for (std::size_t i = 0; i < n; i++) texts[i].text = lines[at + i];
        task::Embedding embedding;
        TRY(embedding.open(tokenizer, {texts, n}, dim, std::span(vectors).subspan(at * p.dim, n * p.dim), tokens, 0,
                           workspace));
        for (bool done = false; !done;) {
            if (encodes) {
                done = TRY(embedding.work(*encoder, never, 0));
                continue;
            }
            engine::Engine::Step step;
            TRY(embedding.ask(0, context, never, 0, step));
            TRY(engine->advance({&step, 1}));
            done = embedding.take(step);
        }
        for (std::size_t i = 0; i < n; i++)
            cut += texts[i].cut ? 1 : 0, read += static_cast<std::size_t>(texts[i].tokens);
    }
    const double seconds = std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count();
    const std::size_t shape[] = {lines.size(), p.dim};
    TRY(write_npy(command.output, shape, vectors));
    std::printf("%zu texts, %zu tokens, %zu cut at %d tokens; %d dimensions; %.3f s, %.1f texts/s\n", lines.size(),
                read, cut, context, dim, seconds, static_cast<double>(lines.size()) / seconds);
    return {};
}

}  // namespace

int run_embed(const EmbedCommand& command) {
    const auto done = embed_lines(command);
    return done ? 0 : fail(done.error().text);
}

}  // namespace slmd::pack
