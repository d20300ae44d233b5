// Reads the golden section: prompts, and what the model says to them.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>

#include "base/result.h"
#include "base/sha256.h"
#include "image/format.h"

namespace slmd::image {

struct Golden {
    struct Prompt {
        std::span<const std::byte> tokens;  // int32 each, not aligned
        std::uint32_t answer;               // tokens
        Sha256 sha256;                      // of the answer
    } prompts[max_golden_prompts];
    std::uint32_t count = 0;
};

// section: of SectionId::golden, which may be hostile; empty gives none. Errors: model_format.
Result<Golden> read_golden(const char* path, std::span<const std::byte> section);

}  // namespace slmd::image
