// What a command is given as MODEL: an image, or a source.
#pragma once
#include <cstddef>
#include <memory>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "engine/engine.h"
#include "image/image.h"
#include "text/tokenizer.h"

namespace slmd::pack {

// By the first bytes; false also for what is no file.
bool is_image(const std::string& path);

// A tokenizer and the section that it runs on.
struct LoadedTokenizer {
    std::vector<std::byte> section;
    text::Tokenizer tokenizer;
    Result<std::vector<std::int32_t>> encode(std::string_view text, bool add_bos, bool specials) const;
};
// The front of a text, cut into windows of `window` tokens, `most` of them at most: each a text of its own, with the
// beginning of sequence in place of its first token where the model has one.
Result<std::vector<std::vector<std::int32_t>>> text_windows(const LoadedTokenizer& tokenizer, std::string_view text,
                                                            std::size_t window, std::size_t most);
// Of an image, of a model's source, or of a folder that holds nothing else. Errors: not_found when the model has none.
Result<LoadedTokenizer> load_tokenizer(const std::string& path);

// An open image and an engine on it.
struct LoadedEngine {
    std::unique_ptr<image::Image> image;
    std::unique_ptr<engine::Engine> engine;
};
// A source is imported into a temporary image, which is gone when this returns.
Result<LoadedEngine> load_engine(const std::string& path, const engine::Config& config);

Result<std::string> read_text(const std::string& path);

}  // namespace slmd::pack
