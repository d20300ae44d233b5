// BERT's basic tokenizer and WordPiece (Devlin et al., arXiv 1810.04805; Wu et al., arXiv 1609.08144), on the tables of
// the image: which characters are what is data, not code.
#pragma once
#include "base/result.h"
#include "text/view.h"

namespace slmd::text {

// Errors: model_format, of a section whose TokenizerHeader was found good.
Result<void> check_wordpiece(const View& view);

// The pieces of a text, without what stands before and behind it. Stops when out is full.
void encode_wordpiece(const View& view, std::string_view text, Out& out);

// The token behind a text, or none.
std::uint32_t closing_token(const View& view);

}  // namespace slmd::text
