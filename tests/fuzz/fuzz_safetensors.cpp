// LINK: slmd_pack_source
// Any bytes as a Hugging Face model: two bytes of length, config.json, and the rest model.safetensors.
#include <cstdint>
#include <cstdlib>

#include "base/bytes.h"
#include "toolchain/slmpack/source/safetensors.h"

using namespace slmd::pack;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    slmd::ByteReader in({reinterpret_cast<const std::byte*>(data), size});
    const auto config = in.text(in.get<std::uint16_t>());
    const auto bytes = in.take(in.left());
    if (!in.ok()) return 0;
    std::map<std::string, StoredTensor> tensors;
    if (read_safetensors(bytes, "fuzz.safetensors", tensors))
        for (const auto& [name, t] : tensors)
            if (t.bytes.size() != std::size_t(t.rows) * t.cols * t.type->bytes) std::abort();

    std::vector<std::pair<std::string, FileBytes>> shards(1);
    shards[0].first = "fuzz.safetensors";
    shards[0].second.bytes = bytes;
    const auto source = open_hugging_face(config, std::move(shards), "fuzz");
    if (!source) return 0;
    for (const auto& t : source.value()->tensors) {
        const auto values = source.value()->read(t);
        if (values && values.value().size() != std::size_t(t.rows) * t.cols) std::abort();
    }
    return 0;
}
