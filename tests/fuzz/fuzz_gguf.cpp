// LINK: slmd_pack_source
// Any bytes as a GGUF file: an error, or a source whose tensors and codes can all be read. "PART" and four bytes of
// length begin the first of two parts; the rest is the second.
#include <cstdint>
#include <cstdlib>

#include "base/bytes.h"
#include "toolchain/slmpack/source/gguf.h"
#include "toolchain/slmpack/source/gguf_source.h"
#include "toolchain/slmpack/source/stored.h"

using namespace slmd::pack;

namespace {

void read_all(const slmd::Result<std::unique_ptr<Source>>& source) {
    if (!source) return;
    for (const auto& t : source.value()->tensors) {
        (void)source.value()->read(t);
        (void)source.value()->codes(t);
    }
}

}  // namespace

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
    if (slmd::ByteReader in(bytes); in.text(4) == "PART") {
        std::vector<std::pair<std::string, FileBytes>> parts(2);
        parts[0].second.bytes = in.take(in.get<std::uint32_t>());
        parts[1].second.bytes = in.take(in.left());
        if (in.ok()) read_all(open_gguf(std::move(parts), "fuzz.gguf"));
        return 0;
    }
    const auto gguf = Gguf::open(bytes);
    if (!gguf) return 0;
    // Tensors by themselves, whatever the family says.
    StoredSource stored;
    for (const auto& [name, t] : gguf.value().tensors()) {
        std::uint64_t rows = 1;
        for (std::size_t d = 1; d < t.dims.size(); d++) rows *= t.dims[d];
        if (rows * t.dims[0] < 1u << 20)
            stored.add(name, {t.type, std::uint32_t(rows), std::uint32_t(t.dims[0]), t.bytes}, false);
    }
    for (const auto& t : stored.tensors) {
        const auto values = stored.read(t);
        const auto codes = stored.codes(t);
        if (values && values.value().size() != std::size_t(t.rows) * t.cols) std::abort();
        if (codes && codes.value() && codes.value()->codes.size() != std::size_t(t.rows) * t.cols) std::abort();
    }
    if (const auto tokenizer = read_gguf_tokenizer(gguf.value()); tokenizer && !tokenizer.value().types.empty())
        if (tokenizer.value().types.size() != tokenizer.value().tokens.size()) std::abort();

    FileBytes file;
    file.bytes = bytes;
    read_all(open_gguf(std::move(file), "fuzz.gguf"));
    return 0;
}
