// Golden prompts: what a model says to them goes into its image, and is asked again wherever the image comes to.
#pragma once
#include <cstddef>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::pack {

struct GoldenQuestions {
    // Empty: three short ones, of which those are left out that do not fit the model's context or make no tokens.
    std::vector<std::string> prompts{};
    int tokens = 16;  // of an answer
};

// The golden section of an image: each prompt as slmd would put it, by the model's chat template where it has one, and
// what the engine answers. Empty for an image without tokenizer. Errors: those of Image::open() and Engine::open();
// incorrect_parameters, context_full.
Result<std::vector<std::byte>> ask_golden(const std::string& image, const GoldenQuestions& questions);

// Asks an image's golden prompts again; gives how many it has. Errors: model_integrity, naming the first whose answer
// is another one; those of Image::open() and Engine::open().
Result<int> check_golden(const std::string& image);

}  // namespace slmd::pack
