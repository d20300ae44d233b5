// The files of a Hugging Face folder that name or number the entries of its vocabulary. Private to this folder.
#pragma once
#include <cstdint>
#include <nlohmann/json.hpp>
#include <span>
#include <string>

#include "base/result.h"

namespace slmd::pack {

// Written by write_vocabulary(), or left out because tokenizer.json says the same.
bool names_vocabulary(const std::string& file);

// kept, here and below: the old ids in the order of the new ones, ascending.
void renumber_config(nlohmann::ordered_json& config, std::span<const std::uint32_t> kept);

// tokenizer.json, tokenizer_config.json and generation_config.json of one folder for another. The tokenizer is one that
// read_tokenizer_folder() took. Errors: not_supported (no tokenizer.json), model_format, storage_failure.
Result<void> write_vocabulary(const std::string& from, std::span<const std::uint32_t> kept, const std::string& to);

}  // namespace slmd::pack
