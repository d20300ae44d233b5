#include "toolchain/slmpack/source.h"

#include <cstring>
#include <filesystem>

#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {

Result<std::unique_ptr<Source>> Source::open(const std::string& path) {
    std::error_code none;
    if (std::filesystem::is_directory(path, none)) return open_hugging_face(path);
    FileBytes file = TRY(FileBytes::open(path));
    const auto is_gguf = file.bytes.size() >= 4 && std::memcmp(file.bytes.data(), "GGUF", 4) == 0;
    if (is_gguf || path.ends_with(".gguf")) return open_gguf(std::move(file), path);
    if (path.ends_with(".bin")) return open_llama2c(std::move(file), path);
    if (path.ends_with(".safetensors"))
        return Error::make(Code::incorrect_parameters, "%.150s: give the folder: its config.json is needed too",
                           path.c_str());
    return Error::make(
        Code::not_supported,
        "%.150s: not a model that slmpack knows: a *.gguf file, a Hugging Face folder, or llama2.c's *.bin",
        path.c_str());
}

}  // namespace slmd::pack
