// What the tests of the text room share: sections in memory, encoding into vectors, files, the key-values of a GGUF
// vocabulary.
#pragma once
#include <cstdint>
#include <string>
#include <string_view>
#include <vector>

#include "text/tokenizer.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::tests {

using Ids = std::vector<std::int32_t>;

// A tokenizer with the section that it lies on. Throws std::runtime_error with the error's text.
class Loaded {
  public:
    explicit Loaded(const pack::TokenizerSpec& spec);
    explicit Loaded(std::vector<std::byte> section);
    const text::Tokenizer& operator*() const { return tokenizer_; }
    const text::Tokenizer* operator->() const { return &tokenizer_; }
    const std::vector<std::byte>& section() const { return section_; }

    Ids encode(std::string_view text, bool trusted = false, bool add_bos = false) const;
    Ids encode(std::string_view text, const std::vector<text::Trusted>& trusted) const;
    std::string decode(const Ids& ids, bool specials = false) const;

  private:
    std::vector<std::byte> section_;
    text::Tokenizer tokenizer_;
};

// A byte-level BPE of our own: all 256 bytes, a few dozen merges, ChatML's special tokens, an end of text.
pack::TokenizerSpec small_bpe(const std::string& pre);
// A SentencePiece BPE of our own: byte tokens, single characters, some words.
pack::TokenizerSpec small_sentencepiece();
// WordPiece, of the tiny encoder in tests/pack/bert, with the texts and tokens that are known of it.
pack::TokenizerSpec small_wordpiece();
// A spec as tokenizer.json: vocabulary, merges and added tokens; GPT-2's pre-tokenizer.
std::string tokenizer_json_text(const pack::TokenizerSpec& spec);
// The spelling of bytes in GPT-2's alphabet.
std::string spell(std::string_view bytes);

bool exists(const std::string& path);
std::string read_file(const std::string& path);  // throws
std::string shared(const std::string& path);     // ../shared/PATH
std::string cached_model(const std::string& file);

// tokenizer.* of a GGUF file, as the converter fills a spec from it; *chat_template when it has one.
pack::TokenizerSpec read_gguf_tokenizer(const std::string& path, std::string* chat_template = nullptr);

}  // namespace slmd::tests
