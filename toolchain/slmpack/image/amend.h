// Writes an image again with other small sections; its tensors stay as they are stored.
#pragma once
#include <cstddef>
#include <cstdint>
#include <optional>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::pack {

// What changes; what is not set stays.
struct Amendment {
    std::optional<std::string> provenance{};           // JSON, not empty
    std::optional<std::vector<std::byte>> golden{};    // empty: the section goes
    std::optional<std::vector<std::byte>> prefixes{};  // the same
};

struct AmendSummary {
    std::uint64_t raw = 0, bytes = 0;  // of the raw form, and of the file
    bool was_signed = false;           // the signature is gone with what it was of: sign the image again
};

// Writes the image at `path`, in the form that it has, to `output`, which may be `path`: whole or not at all. All that
// lies up to the end of the tensors is copied, frame by frame, after it was checked. The same image and amendment give
// the same bytes. Errors: those of Image::open(); model_format when the image has no hashes or was not laid out by
// slmpack; storage_failure.
Result<AmendSummary> amend_image(const std::string& path, const std::string& output, const Amendment& amendment);

}  // namespace slmd::pack
