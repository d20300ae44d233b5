// JSON Pointers (RFC 6901) in an answer.
#pragma once
#include <string_view>

#include "base/json.h"

namespace slmd::agent {

// The member or element that one segment of a pointer, with its escapes, names; -1: there is none.
int child_at(const JsonReader& reader, int node, std::string_view segment);

}  // namespace slmd::agent
