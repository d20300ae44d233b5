#include "task/golden.h"

#include <algorithm>
#include <cstring>

namespace slmd::task {

Result<Sha256> likeliest(engine::Engine& engine, std::span<std::int32_t> tokens, std::size_t prompt,
                         const std::atomic<bool>& cancel) {
    if (tokens.size() > static_cast<std::size_t>(engine.context()))
        return Error::make(Code::context_full, "%zu tokens of prompt and answer do not fit the context of %d",
                           tokens.size(), engine.context());
    for (std::size_t n = prompt; n < tokens.size(); n++) {
        auto progress = TRY(engine.advance(0, tokens.first(n), static_cast<int>(n), cancel));
        tokens[n] = static_cast<std::int32_t>(std::max_element(progress.logits.begin(), progress.logits.end()) -
                                              progress.logits.begin());
    }
    return sha256(std::as_bytes(tokens.subspan(prompt)));
}

Result<Sha256> embedding_hash(engine::Encoder& encoder, std::span<const std::int32_t> tokens,
                              const std::atomic<bool>& cancel) {
    float embedding[engine::Encoder::max_dim];
    const engine::Encoder::Text text{tokens, embedding};
    TRY(encoder.embed({&text, 1}, cancel));
    return sha256(std::as_bytes(std::span(embedding, static_cast<std::size_t>(encoder.dim()))));
}

namespace {

// Of the answer to the first `size` of tokens, which have room for it behind them.
struct Answers {
    engine::Engine* engine;
    engine::Encoder* encoder;
    const std::atomic<bool>& cancel;

    int context() const { return engine != nullptr ? engine->context() : encoder->context(); }
    Result<Sha256> hash(std::span<std::int32_t> tokens, std::size_t size) const {
        if (engine != nullptr) return likeliest(*engine, tokens, size, cancel);
        return embedding_hash(*encoder, tokens.first(size), cancel);
    }
};

Result<int> check_all(const char* path, const image::Image& image, std::span<std::int32_t> tokens,
                      const Answers& answers) {
    const image::Golden golden = TRY(image::read_golden(path, image.section(image::SectionId::golden)));
    int asked = 0;
    for (std::uint32_t i = 0; i < golden.count; i++) {
        const image::Golden::Prompt& p = golden.prompts[i];
        const std::size_t size = p.tokens.size() / sizeof(std::int32_t), all = size + p.answer;
        if (all > tokens.size() || all > static_cast<std::size_t>(answers.context())) continue;
        std::memcpy(tokens.data(), p.tokens.data(), p.tokens.size());
        const Sha256 digest = TRY(answers.hash(tokens.first(all), size));
        if (digest != p.sha256)
            return Error::make(Code::model_integrity,
                               "%s: golden prompt %u of %u: another answer than when the image was made; this machine "
                               "cannot be trusted with it",
                               path, i + 1, golden.count);
        asked++;
    }
    return asked;
}

}  // namespace

Result<int> check_golden(const char* path, const image::Image& image, engine::Engine& engine,
                         std::span<std::int32_t> tokens, const std::atomic<bool>& cancel) {
    return check_all(path, image, tokens, {&engine, nullptr, cancel});
}

Result<int> check_golden(const char* path, const image::Image& image, engine::Encoder& encoder,
                         std::span<std::int32_t> tokens, const std::atomic<bool>& cancel) {
    return check_all(path, image, tokens, {nullptr, &encoder, cancel});
}

}  // namespace slmd::task
