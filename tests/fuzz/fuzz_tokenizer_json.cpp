// LINK: slmd_pack_tokenizer slmd_text
// tokenizer.json from a stranger: read, built into a section, opened, used. What build_tokenizer makes must open, and
// text must come back.
#include <cstdint>
#include <cstdlib>
#include <string>
#include <vector>

#include "text/tokenizer.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd;
    const std::string_view json(reinterpret_cast<const char*>(data), size);
    const auto spec = pack::read_tokenizer_json(json, "tokenizer.json");
    if (!spec) return 0;
    const auto section = pack::build_tokenizer(spec.value());
    if (!section) return 0;
    const auto opened = text::Tokenizer::open(section.value());
    if (!opened) std::abort();
    const text::Tokenizer& t = opened.value();

    const std::string_view text = json.substr(0, 4096);
    const text::Trusted trusted[] = {{0, static_cast<std::uint32_t>(text.size() / 2)}};
    std::vector<std::int32_t> ids(text.size() * 2 + 16);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    const auto n = t.encode(text, trusted, false, ids, scratch);
    if (!n) return 0;
    std::size_t bytes = 0;
    for (std::size_t i = 0; i < n.value(); ++i) {
        if (ids[i] < 0 || ids[i] >= t.vocab()) std::abort();
        bytes += t.piece(ids[i], true).size();
    }
    // Byte-level BPE says each byte once, or leaves it out when the vocabulary lacks it.
    if (spec.value().model == pack::TokenizerSpec::Model::bpe && bytes > text.size()) std::abort();
    return 0;
}
