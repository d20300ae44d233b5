// slmctl route: what would leave the board.
#pragma once
#include <span>
#include <string>

namespace slmd::client {

// Prints the text as it would leave, to the byte, and to stderr what was taken out. Returns an exit status.
int preview_route(const std::string& text, std::span<const char* const> terms);

}  // namespace slmd::client
