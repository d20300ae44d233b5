// A model as published, read through one interface: GGUF, a Hugging Face folder, or a llama2.c file. All input is
// hostile.
#pragma once
#include <array>
#include <cstdint>
#include <memory>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"
#include "image/format.h"

namespace slmd::pack {

// A tokenizer as its source describes it, before it becomes the image's tables.
struct TokenizerSpec {
    enum class Model { bpe, sentencepiece, wordpiece } model = Model::bpe;
    std::string pre;  // byte-level BPE: "gpt-2", "smollm", "llama-bpe", "qwen2"
    std::vector<std::string>
        tokens;  // as the source spells them: byte-level BPE in GPT-2's printable alphabet, SentencePiece with U+2581
    std::vector<float> scores;  // SentencePiece
    std::vector<std::uint8_t>
        types;  // GGUF's: 1 normal, 2 unknown, 3 control, 4 user defined, 5 unused, 6 byte; empty: all normal
    std::vector<std::string> merges;  // "left right", by rank
    std::int32_t bos = -1, eos = -1, unk = -1;
    std::vector<std::int32_t> ends;  // further tokens that end an answer (end of turn)
    bool add_bos = false, add_space_prefix = false;
    bool uncased = false;  // WordPiece: lower case without accents
    bool ignore_merges = false;  // Llama 3: a word that is a token is that token
};

struct SourceTensor {
    std::string name;          // the image's name: token_embd, blk.0.attn_q, ...
    std::string type;          // the source's: "Q4_1", "BF16"
    std::uint32_t rows, cols;  // vectors: 1 x cols
};

// Codes that can go into the image unchanged, in rows of groups of 32.
struct Codes {
    image::Kind kind;                       // i4, i4a: codes 0..15; i6: -32..31; i8: -127..127
    std::vector<std::int8_t> codes;         // rows * cols
    std::vector<std::uint16_t> scales{};    // i4a, i6, i8: f16, rows * cols / 32
    std::vector<std::uint16_t> minimums{};  // i4a: f16, rows * cols / 32
    std::vector<std::uint8_t> indices{};    // i4: sign and log2 of the scale, rows * cols / 32
    std::vector<float> steps{};             // i4: rows
    std::array<std::int8_t, 16> book{};     // i4
};

class Source {
  public:
    // Chooses the reader: a folder is Hugging Face, *.gguf or its magic is GGUF, *.bin is llama2.c (tokenizer beside
    // it: tokenizer.bin, tok*.bin).
    static Result<std::unique_ptr<Source>> open(const std::string& path);
    virtual ~Source() = default;

    image::ModelParams params{};        // complete, rope_dims and scales included
    std::vector<float> inv_freq;        // rope_dims / 2, with rope scaling applied
    std::vector<float> inv_freq_local;  // the same for sliding layers; empty when they rotate alike
    std::vector<SourceTensor> tensors;  // in execution order
    TokenizerSpec tokenizer;            // tokens empty when the source has none
    std::string chat_template;          // Jinja, empty when the source has none
    std::string format;                 // "GGUF v3", "safetensors", "llama2.c", for provenance
    std::string path;
    std::vector<std::string> parts;     // further files of a split GGUF
    std::vector<std::string> warnings;  // what the user should know before the model is used

    // Row-major float32 values, rows * cols. Query and key rows are in halves order (element i of a head pairs with i +
    // rope_dims / 2), whatever the source uses. Errors name the tensor.
    virtual Result<std::vector<float>> read(const SourceTensor& tensor) const = 0;
    // The same values as codes when the source is 4-bit or 8-bit in groups of 32 and its scales fit; nullopt otherwise.
    virtual Result<std::optional<Codes>> codes(const SourceTensor& tensor) const = 0;

    const SourceTensor* find(const std::string& name) const {
        for (const auto& t : tensors)
            if (t.name == name) return &t;
        return nullptr;
    }
};

}  // namespace slmd::pack
