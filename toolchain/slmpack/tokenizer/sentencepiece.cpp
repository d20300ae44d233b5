// SentencePiece's tokenizer.model: a protobuf message (sentencepiece_model.proto), read by a small reader of our own.
#include <cstring>

#include "base/bytes.h"
#include "text/section.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

// The fields of one message. Protobuf wire format: https://protobuf.dev/programming-guides/encoding
struct Message {
    ByteReader in;
    std::uint64_t number = 0, value = 0;  // the field; value of varints and fixed32
    std::span<const std::byte> bytes{};   // of length-delimited fields
    bool broken = false;

    explicit Message(std::span<const std::byte> data) : in(data) {}

    std::uint64_t varint() {
        std::uint64_t v = 0;
        for (int shift = 0; shift < 64; shift += 7) {
            const auto b = in.get<std::uint8_t>();
            v |= static_cast<std::uint64_t>(b & 0x7F) << shift;
            if (!(b & 0x80)) return v;
        }
        broken = true;
        return 0;
    }
    bool next() {
        if (broken || in.left() == 0) return false;
        const std::uint64_t key = varint();
        number = key >> 3;
        switch (key & 7) {
            case 0: value = varint(); break;
            case 1: in.get<std::uint64_t>(); break;
            case 2: {
                const std::uint64_t n = varint();
                if (n > in.left())
                    broken = true;
                else
                    bytes = in.take(n);
                break;
            }
            case 5: value = in.get<std::uint32_t>(); break;
            default: broken = true;
        }
        if (!in.ok() || number == 0) broken = true;
        return !broken;
    }
    std::string_view text() const { return {reinterpret_cast<const char*>(bytes.data()), bytes.size()}; }
};

}  // namespace

Result<TokenizerSpec> read_sentencepiece(std::span<const std::byte> model, const std::string& where) {
    const auto bad = [&](const char* what) {
        return Error::make(Code::model_format, "%.120s: %s", where.c_str(), what);
    };
    const auto broken = [&] { return bad("not a SentencePiece model, or truncated (protobuf)"); };
    TokenizerSpec spec;
    spec.model = TokenizerSpec::Model::sentencepiece;
    spec.add_space_prefix = true;  // the defaults of sentencepiece_model.proto
    spec.unk = 0, spec.bos = 1, spec.eos = 2;
    std::uint64_t model_type = 1;
    bool charsmap = false, remove_spaces = true;

    Message top(model);
    while (top.next()) {
        Message m(top.bytes);
        if (top.number == 1) {  // SentencePiece
            std::string_view piece;
            std::uint32_t score = 0;
            std::uint64_t type = 1;
            while (m.next()) {
                if (m.number == 1) piece = m.text();
                if (m.number == 2) score = static_cast<std::uint32_t>(m.value);
                if (m.number == 3) type = m.value;
            }
            if (spec.tokens.size() == text::max_vocab) return bad("more than 4194304 pieces");
            if (type < 1 || type > 6) return bad("a piece of an unknown type");
            spec.tokens.emplace_back(piece);
            spec.scores.push_back(load<float>(&score));
            spec.types.push_back(static_cast<std::uint8_t>(type));
        } else if (top.number == 2) {  // TrainerSpec
            while (m.next()) {
                const auto id = static_cast<std::int32_t>(m.value);
                if (m.number == 3) model_type = m.value;
                if (m.number == 40) spec.unk = id;
                if (m.number == 41) spec.bos = id;
                if (m.number == 42) spec.eos = id;
            }
        } else if (top.number == 3) {  // NormalizerSpec
            while (m.next()) {
                if (m.number == 2) charsmap = !m.bytes.empty();
                if (m.number == 3) spec.add_space_prefix = m.value != 0;
                if (m.number == 4) remove_spaces = m.value != 0;
            }
        }
        if (m.broken) return broken();
    }
    if (top.broken || spec.tokens.empty()) return broken();
    if (model_type != 2) return bad("only SentencePiece BPE models are supported, not unigram, word or char ones");
    if (charsmap) return bad("SentencePiece models that normalize text (precompiled_charsmap) are not supported");
    if (remove_spaces) return bad("SentencePiece models that remove extra white space are not supported");
    spec.add_bos = spec.bos >= 0;
    return spec;
}

}  // namespace slmd::pack
