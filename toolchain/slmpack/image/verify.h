// Checks of an image that a start has no time for.
#pragma once
#include <cstdint>
#include <functional>
#include <string>
#include <vector>

namespace slmd::pack {

// Everything that is wrong, each naming the place; empty: the image is good. Header, index, every frame (all the bad
// ones are listed, not only the first), the seek table for other zstd tools, and values that no model has (scales,
// steps and vectors that are not finite, codes outside their range).
std::vector<std::string> verify_image(
    const std::string& path, const std::function<void(std::uint64_t done, std::uint64_t total)>& progress = {});

}  // namespace slmd::pack
