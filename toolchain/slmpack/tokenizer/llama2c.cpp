// llama2.c's tokenizer.bin: i32 longest piece, then until the end of the file f32 score, i32 length, bytes (export in
// tokenizer.py, read in run.c).
#include "base/bytes.h"
#include "text/section.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {

Result<TokenizerSpec> read_llama2c_tokenizer(std::span<const std::byte> bytes, const std::string& where) {
    ByteReader in(bytes);
    TokenizerSpec spec;
    spec.model = TokenizerSpec::Model::sentencepiece;
    spec.add_space_prefix = spec.add_bos = true;
    spec.unk = 0, spec.bos = 1, spec.eos = 2;
    const auto longest = in.get<std::int32_t>();
    while (in.ok() && in.left() > 0) {
        const auto score = in.get<float>();
        const auto length = in.get<std::int32_t>();
        if (length < 0 || length > longest || spec.tokens.size() == text::max_vocab) break;
        const std::string_view piece = in.text(static_cast<std::size_t>(length));
        if (!in.ok()) break;
        const std::size_t id = spec.tokens.size();
        // The export turned U+2581 into a space and wrapped <s> and </s> in newlines.
        std::string token;
        for (char c : piece) c == ' ' ? token += "\u2581" : token += c;
        spec.types.push_back(id == 0                                ? text::type_unknown
                             : id < 3                               ? text::type_control
                             : id < 259 && piece.starts_with("<0x") ? text::type_byte
                                                                    : text::type_normal);
        if (id == 1) token = "<s>";
        if (id == 2) token = "</s>";
        spec.tokens.push_back(std::move(token));
        spec.scores.push_back(score);
    }
    if (!in.ok() || in.left() > 0 || longest <= 0 || spec.tokens.size() < 3)
        return Error::make(Code::model_format, "%.120s: not a llama2.c tokenizer, or damaged after token %zu",
                           where.c_str(), spec.tokens.size());
    return spec;
}

}  // namespace slmd::pack
