// What a large model is told and says, as texts: schemas, fences, labels.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

namespace slmd::daemon {

// A schema without what is ours: "from": "source". Returns the size of what is in out, which has room for it.
std::size_t without_source(std::string_view schema, char* out);
// JSON without the white space between its parts, in place.
std::size_t compact(char* text, std::size_t size);
// Models put an answer into a fence of Markdown, whatever they are told.
std::string_view without_fence(std::string_view text);
// The label of {"label":"..."}, which is then in room, or of words alone, without a fence, quotes and a full stop.
std::string_view label_in(std::string_view answer, std::span<char> room);

}  // namespace slmd::daemon
