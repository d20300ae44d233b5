// A folder with a published tokenizer: which files are there, and in which order they count.
#include <filesystem>
#include <fstream>
#include <optional>
#include <sstream>

#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;
constexpr std::uintmax_t max_file = 256u << 20;

Result<std::string> read_file(const fs::path& path) {
    std::error_code error;
    const auto size = fs::file_size(path, error);
    if (error) return Error::make(Code::storage_failure, "%.150s: %s", path.c_str(), error.message().c_str());
    if (size > max_file)
        return Error::make(Code::model_format, "%.150s: larger than 256 MiB; not a tokenizer", path.c_str());
    std::ifstream in(path, std::ios::binary);
    std::string text(size, '\0');
    in.read(text.data(), static_cast<std::streamsize>(size));
    if (!in) return Error::make(Code::storage_failure, "%.150s: could not be read", path.c_str());
    return text;
}

std::span<const std::byte> bytes_of(const std::string& s) {
    return {reinterpret_cast<const std::byte*>(s.data()), s.size()};
}

Result<TokenizerSpec> read_main_file(const fs::path& folder) {
    const auto has = [&](const char* name) { return fs::exists(folder / name); };
    const auto name = [&](const char* file) { return (folder / file).string(); };
    if (has("tokenizer.json")) {
        const std::string json = TRY(read_file(folder / "tokenizer.json"));
        return read_tokenizer_json(json, name("tokenizer.json"));
    }
    if (has("tokenizer.model")) {
        const std::string model = TRY(read_file(folder / "tokenizer.model"));
        return read_sentencepiece(bytes_of(model), name("tokenizer.model"));
    }
    for (const auto& [vocab, merges] : {std::pair{"vocab.json", "merges.txt"}, std::pair{"encoder.json", "vocab.bpe"}})
        if (has(vocab) && has(merges)) {
            std::string pre;
            if (has("tokenizer_config.json")) {
                const std::string config = TRY(read_file(folder / "tokenizer_config.json"));
                for (const auto& [word, value] :
                     {std::pair{"\"Qwen2Tokenizer", "qwen2"}, std::pair{"\"GPT2Tokenizer", "gpt-2"}})
                    if (config.find(word) != std::string::npos) pre = value;
            }
            const std::string vocab_json = TRY(read_file(folder / vocab)),
                              merge_lines = TRY(read_file(folder / merges));
            return read_vocab_and_merges(vocab_json, merge_lines, pre, name(vocab));
        }
    if (has("tokenizer.bin")) {
        const std::string bytes = TRY(read_file(folder / "tokenizer.bin"));
        return read_llama2c_tokenizer(bytes_of(bytes), name("tokenizer.bin"));
    }
    return Error::make(
        Code::not_found,
        "%.100s: no tokenizer (tokenizer.json, tokenizer.model, vocab.json + merges.txt, encoder.json + vocab.bpe)",
        folder.c_str());
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_folder(const std::string& path) {
    TokenizerSpec spec = TRY(read_main_file(path));
    for (const char* name : {"tokenizer_config.json", "config.json", "generation_config.json"})
        if (const fs::path file = fs::path(path) / name; fs::exists(file)) {
            const std::string json = TRY(read_file(file));
            TRY(apply_config(spec, json, file.string()));
        }
    return spec;
}

}  // namespace slmd::pack
