#include <cstring>
#include <optional>

#include "commands.h"
#include "model.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/reference.h"

namespace slmd::pack {
namespace {

Result<void> write_logits(const LogitsCommand& command) {
    const auto tokens = TRY(read_npy_tokens(command.tokens));
    if (tokens.values.empty())
        return Error::make(Code::incorrect_parameters, "%s: holds no tokens", command.tokens.c_str());
    std::vector<float> logits;
    if (command.f32) {
        if (is_image(command.model))
            return Error::make(Code::incorrect_parameters, "%s: --f32 is the reference, which runs sources, not images",
                               command.model.c_str());
        const auto source = TRY(Source::open(command.model));
        const auto reference = TRY(Reference::open(*source));
        if (!command.adapter.empty()) reference->adapt(TRY(open_adapter(command.adapter, source->params)));
        logits = TRY(reference->logits(tokens.values));
    } else {
        engine::Config config{
            .context = static_cast<int>(tokens.values.size()), .threads = command.threads, .batch = command.batch};
        if (!command.level.empty()) config.level = command.level.c_str();
        std::optional<image::Image> adapter;
        const image::Image* adapters[1];
        if (!command.adapter.empty()) {
            adapters[0] = &adapter.emplace(TRY(image::Image::open(command.adapter.c_str(), {.threads = 2})));
            config.adapters = adapters;
        }
        const LoadedEngine loaded = TRY(load_engine(command.model, config));
        logits.resize(tokens.values.size() * static_cast<std::size_t>(loaded.engine->vocab()));
        const auto keep = [](void* context, int position, std::span<const float> row) {
            auto& out = *static_cast<std::vector<float>*>(context);
            std::memcpy(out.data() + static_cast<std::size_t>(position) * row.size(), row.data(), row.size_bytes());
        };
        TRY(loaded.engine->score(tokens.values, command.batch, keep, &logits, adapter ? 0 : engine::no_adapter));
    }
    const std::size_t shape[] = {tokens.values.size(), logits.size() / tokens.values.size()};
    return write_npy(command.output, shape, logits);
}

}  // namespace

int run_logits(const LogitsCommand& command) {
    const auto done = write_logits(command);
    return done ? 0 : fail(done.error().text);
}

}  // namespace slmd::pack
