// LINK: slmd_pack_source
// Any bytes as a GGUF file: an error, or a source whose tensors and codes can all be read.
#include <cstdint>
#include <cstdlib>

#include "toolchain/slmpack/source/gguf.h"
#include "toolchain/slmpack/source/gguf_source.h"
#include "toolchain/slmpack/source/stored.h"

using namespace slmd::pack;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    const std::span<const std::byte> bytes(reinterpret_cast<const std::byte*>(data), size);
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
    const auto source = open_gguf(std::move(file), "fuzz.gguf");
    if (!source) return 0;
    for (const auto& t : source.value()->tensors) {
        (void)source.value()->read(t);
        (void)source.value()->codes(t);
    }
    return 0;
}
