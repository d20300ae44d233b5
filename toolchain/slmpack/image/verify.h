// Checks of an image that a start has no time for.
#pragma once
#include <cstdint>
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "image/keys.h"

namespace slmd::pack {

// Everything that is wrong, each naming the place; empty: the image is good. Header, index, every frame (all the bad
// ones are listed, not only the first), the seek table for other zstd tools, and values that no model has (scales,
// steps and vectors that are not finite, codes outside their range), and every hash, where there are any. With keys:
// that it is signed by one of them.
std::vector<std::string> verify_image(const std::string& path,
                                      const std::function<void(std::uint64_t done, std::uint64_t total)>& progress = {},
                                      std::span<const image::PublicKey> keys = {});

}  // namespace slmd::pack
