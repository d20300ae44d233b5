#include "toolchain/slmpack/source.h"

#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {

Result<std::unique_ptr<Source>> Source::open(const std::string& path) {
    FileBytes file = TRY(FileBytes::open(path));
    return open_gguf(std::move(file), path);
}

}  // namespace slmd::pack
