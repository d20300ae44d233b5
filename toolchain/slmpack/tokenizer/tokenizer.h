// Tokenizers and chat templates as they are published, and the image's sections made from them. All input is hostile.
#pragma once
#include <cstddef>
#include <span>
#include <string>
#include <string_view>
#include <vector>

#include "toolchain/slmpack/source.h"

namespace slmd::pack {

// Chooses by what a folder holds: tokenizer.json; tokenizer.model; vocab.json + merges.txt; encoder.json + vocab.bpe;
// tokenizer.bin. Reads BOS, EOS and the end tokens from tokenizer_config.json, config.json and generation_config.json
// where they are. Errors name the file.
Result<TokenizerSpec> read_tokenizer_folder(const std::string& path);

// One file each; `where` names it in errors.
Result<TokenizerSpec> read_tokenizer_json(std::string_view json, const std::string& where);  // Hugging Face: BPE, WordPiece
Result<TokenizerSpec> read_sentencepiece(std::span<const std::byte> model,
                                         const std::string& where);  // tokenizer.model, BPE only
Result<TokenizerSpec> read_llama2c_tokenizer(std::span<const std::byte> bytes,
                                             const std::string& where);  // llama2.c's tokenizer.bin
// GPT-2's pair of files. They do not say how text is cut into words: pre does, or, when it is empty, the sizes of
// well-known vocabularies.
Result<TokenizerSpec> read_vocab_and_merges(std::string_view vocab_json, std::string_view merges,
                                            const std::string& pre, const std::string& where);
// tokenizer_config.json, config.json or generation_config.json of the same folder, into a spec that has its tokens.
Result<void> apply_config(TokenizerSpec& spec, std::string_view json, const std::string& where);

// The image's tokenizer section. Errors: model_format naming the token or merge that cannot be.
Result<std::vector<std::byte>> build_tokenizer(const TokenizerSpec& spec);

// The image's chat section, from the Jinja text of the source or, whatever that says, from the template of
// models/templates that is called `name`; "none": no template. Found by rendering, and proven to give what Jinja gives
// for conversations of one to five turns; see chat.cpp. A template that asks for the date gets that of packing: today,
// in UTC, or $SOURCE_DATE_EPOCH. Empty section: none. Errors: not_supported with the template's line for what is not
// in the subset of Jinja that jinja.h describes, and for what the section cannot hold; not_found.
Result<std::vector<std::byte>> build_chat(std::string_view jinja, const TokenizerSpec& spec,
                                          const std::string& name = {});
std::vector<std::string> chat_template_names();

}  // namespace slmd::pack
