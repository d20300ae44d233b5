// A conversation as the tokens from which a model goes on.
#pragma once
#include <cstdint>
#include <span>

#include "base/result.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace slmd::task {

// Buffers that opening a task needs and that all tasks of a thread may share.
struct Workspace {
    std::span<char> text;  // the rendered prompt
    std::span<text::Trusted> trusted;
    std::span<std::byte> scratch;  // Tokenizer::scratch_bytes(text.size())
};

struct Prompt {
    int tokens;
    bool rendered;  // by the chat template
};

// raw: the last message as it is, no chat template. Errors: context_full with the numbers, text_too_long,
// incorrect_parameters.
Result<Prompt> encode_prompt(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                             std::span<const text::Message> messages, bool raw, std::span<std::int32_t> tokens,
                             const Workspace& workspace);

}  // namespace slmd::task
