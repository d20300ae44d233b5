#include <algorithm>
#include <cstdio>
#include <cstring>

#include "base/bytes.h"
#include "base/file.h"
#include "commands.h"
#include "engine/snapshot.h"
#include "image/image.h"
#include "toolchain/slmpack/image/amend.h"

namespace slmd::pack {
namespace {

using namespace image;

struct Baked {
    AmendSummary image;
    std::size_t files, tokens, bytes;
};

Result<Baked> bake(const PrefixesCommand& command, const std::string& output) {
    Baked baked{};
    Amendment amendment;
    std::vector<std::byte>& section = amendment.prefixes.emplace();
    if (!command.remove) {
        const Image image = TRY(Image::open_index(command.image.c_str()));
        std::vector<std::string> files = command.files;
        std::sort(files.begin(), files.end());  // the same bytes however the shell gives them
        for (const std::string& path : files) {
            const MappedFile file = TRY(MappedFile::open(path.c_str()));
            const auto tokens = engine::Snapshots::check(file.bytes(), image.header());
            if (!tokens)
                return Error::make(tokens.error().code,
                                   "%s: %s: files NAME.kv of the state folder of a slmd that ran %s", path.c_str(),
                                   tokens.error().text, command.image.c_str());
            Prefix prefix{};
            prefix.bytes = file.bytes().size();
            const auto head = std::as_bytes(std::span(&prefix, 1));
            section.insert(section.end(), head.begin(), head.end());
            section.insert(section.end(), file.bytes().begin(), file.bytes().end());
            section.resize(round_up(section.size(), sizeof(Prefix)));
            baked.files++;
            baked.tokens += tokens.value();
        }
    }
    baked.bytes = section.size();
    baked.image = TRY(amend_image(command.image, output, amendment));
    return baked;
}

}  // namespace

int run_prefixes(const PrefixesCommand& command) {
    const std::string& output = command.output.empty() ? command.image : command.output;
    auto baked = bake(command, output);
    if (!baked) return fail(baked.error().text);
    if (command.remove)
        std::printf("%s: no beginnings of prompts\n", output.c_str());
    else
        std::printf("%s: %zu beginnings of prompts, %zu tokens, %zu bytes\n", output.c_str(), baked->files,
                    baked->tokens, baked->bytes);
    warn_of_signature(baked->image, output);
    return 0;
}

}  // namespace slmd::pack
