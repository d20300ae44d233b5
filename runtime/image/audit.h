// Checks a whole image file in little memory: whether a board may keep it.
#pragma once
#include "base/result.h"
#include "image/image.h"

namespace slmd::image {

// All that open() checks, and every hash that the image has, be it signed or not: a frame at a time, in about 2 MiB,
// while another model runs. trust: whose signature it needs. Errors: those of Image::open().
Result<void> audit(const char* path, const Trust& trust);

}  // namespace slmd::image
