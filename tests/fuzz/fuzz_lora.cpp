// LINK: slmd_pack_source
// Any bytes as a published adapter for a Llama of tests/pack/tiny.h: 'G' and a GGUF, or 'P', adapter_config.json behind
// two bytes of length, and adapter_model.safetensors.
#include <cmath>
#include <cstdint>
#include <cstdlib>
#include <cstring>

#include "base/bytes.h"
#include "toolchain/slmpack/source/adapter.h"

using namespace slmd;

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    image::ModelParams p{};
    std::strcpy(p.family, "llama");
    p.layers = 2, p.dim = 32, p.hidden = 48, p.heads = 4, p.kv_heads = 2, p.head_dim = 8, p.rope_dims = 8;
    p.vocab = 24, p.context = 64, p.rope_theta = 10000;
    ByteReader in({reinterpret_cast<const std::byte*>(data), size});
    const auto form = in.get<std::uint8_t>();
    const auto config = form == 'P' ? in.text(in.get<std::uint16_t>()) : std::string_view();
    pack::FileBytes file;
    file.bytes = in.take(in.left());
    if (!in.ok()) return 0;
    const auto adapter =
        form == 'P' ? pack::open_peft(config, file, "fuzz", p) : pack::open_gguf_adapter(file, "fuzz", p);
    if (!adapter) return 0;
    for (const pack::AdapterTarget& t : adapter.value().targets) {
        if (t.rank == 0 || t.rank > image::max_rank || !std::isfinite(t.scale)) std::abort();
        if (t.a.size() != std::size_t{t.rank} * t.cols || t.b.size() != std::size_t{t.rows} * t.rank) std::abort();
    }
    return 0;
}
