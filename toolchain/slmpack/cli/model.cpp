#include "model.h"

#include <unistd.h>

#include <cstdlib>
#include <cstring>
#include <filesystem>
#include <fstream>

#include "base/file.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

// A new name in the folder for temporary files; the file goes with the object.
struct TemporaryFile {
    std::string path;
    TemporaryFile() : path((std::filesystem::temp_directory_path() / "slmpack-XXXXXX").string()) {
        const int fd = mkstemp(path.data());
        if (fd >= 0) close(fd);
    }
    TemporaryFile(const TemporaryFile&) = delete;
    ~TemporaryFile() { unlink(path.c_str()); }
};

}  // namespace

bool is_image(const std::string& path) {
    char magic[8] = {};
    std::ifstream(path, std::ios::binary).read(magic, sizeof magic);
    std::uint32_t skippable;
    std::memcpy(&skippable, magic, sizeof skippable);
    return std::memcmp(magic, image::raw_magic, sizeof magic) == 0 || skippable == image::skippable_magic;
}

Result<std::vector<std::int32_t>> LoadedTokenizer::encode(std::string_view text, bool add_bos, bool specials) const {
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    std::vector<std::int32_t> ids(text.size() + 8);  // a token is at least a byte; BOS and a space may come in front
    const text::Trusted all{0, static_cast<std::uint32_t>(text.size())};
    const std::span<const text::Trusted> trusted(&all, specials ? 1 : 0);
    ids.resize(TRY(tokenizer.encode(text, trusted, add_bos, ids, scratch)));
    return ids;
}

Result<std::vector<std::vector<std::int32_t>>> text_windows(const LoadedTokenizer& tokenizer, std::string_view text,
                                                            std::size_t window, std::size_t most) {
    const auto tokens = TRY(tokenizer.encode(text, false, false));
    const auto start = TRY(tokenizer.encode("", true, false));
    std::vector<std::vector<std::int32_t>> windows;
    for (std::size_t at = 0; at + window <= tokens.size() && windows.size() < most; at += window) {
        const auto first = tokens.begin() + static_cast<std::ptrdiff_t>(at);
        windows.emplace_back(first, first + static_cast<std::ptrdiff_t>(window));
        if (!start.empty()) windows.back()[0] = start[0];
    }
    return windows;
}

Result<LoadedTokenizer> load_tokenizer(const std::string& path) {
    std::vector<std::byte> section;
    if (is_image(path)) {
        const auto image = TRY(image::Image::open(path.c_str(), {.threads = 2}));
        const auto bytes = image.section(image::SectionId::tokenizer);
        section.assign(bytes.begin(), bytes.end());
    } else if (std::filesystem::is_directory(path)) {
        const TokenizerSpec spec = TRY(read_tokenizer_folder(path));
        section = TRY(build_tokenizer(spec));
    } else {
        const auto source = TRY(Source::open(path));
        if (!source->tokenizer.tokens.empty()) section = TRY(build_tokenizer(source->tokenizer));
    }
    if (section.empty()) return Error::make(Code::not_found, "%s: has no tokenizer", path.c_str());
    const auto tokenizer = TRY(text::Tokenizer::open(section));
    return LoadedTokenizer{std::move(section), tokenizer};  // moving a vector keeps its bytes where they are
}

Result<LoadedEngine> load_engine(const std::string& path, const engine::Config& config) {
    LoadedEngine loaded;
    const auto open = [&](const std::string& file) -> Result<void> {
        auto image = TRY(image::Image::open(file.c_str(), {.threads = 2}));
        loaded.image = std::make_unique<image::Image>(std::move(image));
        return {};
    };
    if (is_image(path)) {
        TRY(open(path));
    } else {
        const auto source = TRY(Source::open(path));
        const TemporaryFile temporary;
        ImportOptions options;
        options.chat_template = "none";
        TRY(import_model(*source, temporary.path, options));
        TRY(open(temporary.path));
    }
    loaded.engine.reset(TRY(engine::Engine::open(*loaded.image, config)));
    return loaded;
}

Result<std::string> read_text(const std::string& path) {
    const auto file = TRY(MappedFile::open(path.c_str()));
    return std::string(reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size());
}

}  // namespace slmd::pack
