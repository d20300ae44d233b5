// LINK: slmd_pack_source
// Any bytes as a Hugging Face model: config.json and model.safetensors.index.json, each behind two bytes of length, the
// first shard behind four, and the rest the second, which may be empty.
#include <cstdint>
#include <cstdlib>

#include "base/bytes.h"
#include "toolchain/slmpack/source/safetensors.h"

using namespace slmd::pack;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    slmd::ByteReader in({reinterpret_cast<const std::byte*>(data), size});
    const auto config = in.text(in.get<std::uint16_t>());
    const auto index = read_shard_index(in.text(in.get<std::uint16_t>()));
    const auto bytes = in.take(in.get<std::uint32_t>()), second = in.take(in.left());
    if (!in.ok()) return 0;
    std::map<std::string, StoredTensor> tensors;
    if (read_safetensors(bytes, "fuzz.safetensors", tensors))
        for (const auto& [name, t] : tensors)
            if (t.bytes.size() != std::size_t(t.rows) * t.cols * t.type->bytes) std::abort();

    std::vector<std::pair<std::string, FileBytes>> shards(second.empty() ? 1 : 2);
    shards[0].second.bytes = bytes;
    shards.back().second.bytes = second.empty() ? bytes : second;
    std::size_t n = 0;
    if (index)
        for (const auto& [name, listed] : index.value())
            if (n < shards.size()) shards[n++].first = name;
    const auto source = open_hugging_face(config, std::move(shards), "fuzz", index ? index.value() : ShardIndex{});
    if (!source) return 0;
    for (const auto& t : source.value()->tensors) {
        const auto values = source.value()->read(t);
        const auto codes = source.value()->codes(t);
        if (values && values.value().size() != std::size_t(t.rows) * t.cols) std::abort();
        if (codes && codes.value() && codes.value()->codes.size() != std::size_t(t.rows) * t.cols) std::abort();
    }
    return 0;
}
