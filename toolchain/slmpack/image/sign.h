// Makes keys, and signs images with them.
#pragma once
#include <array>
#include <cstdint>
#include <string>

#include "base/result.h"
#include "image/private_key.h"

namespace slmd::pack {

// A new key: the private one at path (mode 0600), the public one at path.pub (0644). Files that are there already stay
// as they are. Errors: storage_failure, unknown.
Result<image::PublicKey> make_key(const std::string& path);

// Writes the image at `path`, in the form that it has, to `output` with a signature in its header, in place of one that
// it may have; output may be path. The image is checked first, every hash of it. The same image and key give the same
// bytes. Errors: those of Image::open(); model_integrity when it has no hashes; storage_failure.
Result<void> sign_image(const std::string& path, const std::string& output, const image::PrivateKey& key);

}  // namespace slmd::pack
