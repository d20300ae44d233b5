// The safetensors container (https://github.com/huggingface/safetensors#format). The file is hostile.
#pragma once
#include <map>
#include <nlohmann/json.hpp>
#include <string>
#include <string_view>

#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {

// JSON of bounded depth. `what` names the text in the error.
Result<nlohmann::json> parse_json(std::string_view text, const std::string& what);

// The text of a file of settings.
Result<std::string> file_text(const std::string& path, std::size_t most = 16u << 20);

// The text of model.safetensors.index.json. Errors name the tensor: files that are not beside the index; a number of
// files that is not the one in their names.
Result<ShardIndex> read_shard_index(std::string_view text);

// Adds the file's tensors to `into`. Errors name the file, the tensor and the offset: sizes that do not fit, overlaps,
// types other than F32, F16, BF16 and I32 (which holds codes), shapes that are no matrix, a name that `into` has
// already. The bytes must outlive the tensors.
Result<void> read_safetensors(std::span<const std::byte> bytes, const std::string& file,
                              std::map<std::string, StoredTensor>& into);

}  // namespace slmd::pack
