// The tokenizer of a GGUF file, also of one that holds a vocabulary and nothing else.
#pragma once
#include <string>

#include "toolchain/slmpack/source.h"

namespace slmd::pack {

class Gguf;

// From the keys `tokenizer.ggml.*`; tokens empty when there are none. Errors name the key.
Result<TokenizerSpec> read_gguf_tokenizer(const Gguf& gguf);
Result<TokenizerSpec> read_gguf_tokenizer(const std::string& path);

}  // namespace slmd::pack
