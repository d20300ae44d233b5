// The model against what it is known to say. One answer on every machine: a hash of it is enough.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "engine/encoder.h"
#include "engine/engine.h"
#include "image/golden.h"
#include "image/image.h"

namespace slmd::task {

// SHA-256 over the `answer` tokens (int32 each) that the model finds likeliest, one after the other, behind a prompt:
// the first `prompt` of tokens. tokens: room for prompt + answer, where the answer is left. Uses slot 0. Errors:
// context_full when the engine's context has no room for both, aborted, those of Engine::advance.
Result<Sha256> likeliest(engine::Engine& engine, std::span<std::int32_t> tokens, std::size_t prompt,
                         const std::atomic<bool>& cancel);

// Asks the image's golden prompts. tokens: [context], scratch. Gives how many were asked: none where the image has
// none, or where the engine's context is too small for all of them. Errors: model_integrity, naming the prompt whose
// answer is another one; model_format; aborted.
Result<int> check_golden(const char* path, const image::Image& image, engine::Engine& engine,
                         std::span<std::int32_t> tokens, const std::atomic<bool>& cancel);

// The same for an encoder, whose answer to some tokens is their embedding.
Result<Sha256> embedding_hash(engine::Encoder& encoder, std::span<const std::int32_t> tokens,
                              const std::atomic<bool>& cancel);
Result<int> check_golden(const char* path, const image::Image& image, engine::Encoder& encoder,
                         std::span<std::int32_t> tokens, const std::atomic<bool>& cancel);

}  // namespace slmd::task
