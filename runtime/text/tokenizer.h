// Tokenizers that run in place on the image's tokenizer section: nothing is parsed or built at start, nothing is
// allocated.
#pragma once
#include <cstddef>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::text {

// A part of the text in which special tokens ("<|im_end|>") count. Elsewhere they are ordinary text: a user cannot
// forge a turn.
struct Trusted {
    std::uint32_t begin, end;
};

class Tokenizer {
  public:
    // The section is hostile: every table is bounded and checked once here. The span must outlive the tokenizer.
    static Result<Tokenizer> open(std::span<const std::byte> section);

    // Bytes of scratch that encode() needs for a text of that length.
    static std::size_t scratch_bytes(std::size_t text_bytes);
    // Token ids of text, with the model's own beginning-of-sequence token (WordPiece: and the one that ends a text)
    // when it wants one and add_bos is set. Returns their number. The pieces of the tokens are the text's bytes,
    // invalid UTF-8 too, except that a byte for which the vocabulary has no token is left out (SmolLM lacks 21 control
    // and invalid bytes) or, in SentencePiece without byte tokens, becomes <unk>. User-defined tokens of the vocabulary
    // count in any text. Trusted ranges are in order. Errors: context_full when out is too small, memory_full when
    // scratch is, text_too_long from 200 MB on.
    Result<std::size_t> encode(std::string_view text, std::span<const Trusted> trusted, bool add_bos,
                               std::span<std::int32_t> out, std::span<std::byte> scratch) const;
    struct Fitted {
        std::size_t tokens;
        bool cut;
    };
    // What a model reads of a text, whatever its length: as encode() with add_bos, but what `out` has no room for is
    // left out. Behind a text of WordPiece its closing token stands all the same. Errors: those of encode() but
    // context_full; incorrect_parameters when out has no room for two tokens.
    Result<Fitted> encode_fitting(std::string_view text, std::span<std::int32_t> out,
                                  std::span<std::byte> scratch) const;
    // The bytes of one token as they continue a text (SentencePiece: the leading space is a space). Special tokens give
    // "" unless specials is set. The view is into the section.
    std::string_view piece(std::int32_t id, bool specials = false) const;

    std::int32_t vocab() const;
    std::int32_t bos() const;                             // -1 when there is none
    bool is_end(std::int32_t id) const;                   // end of sequence, end of turn
    std::size_t ends(std::span<std::int32_t> out) const;  // the first of those; returns how many
    std::int32_t find(std::string_view special) const;    // id of a special token by its text, -1
    // SentencePiece with a dummy prefix: the first decoded piece of a text drops one space.
    bool strip_first_space() const;

  private:
    std::span<const std::byte> section_;
};

}  // namespace slmd::text
