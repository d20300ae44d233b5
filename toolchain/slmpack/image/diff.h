// Makes what apply_delta() (runtime/image/delta.h) takes.
#pragma once
#include <cstdint>
#include <string>

#include "base/result.h"

namespace slmd::pack {

struct DiffSummary {
    std::uint64_t bytes = 0, new_bytes = 0;
    std::uint32_t frames = 0, kept = 0;  // of the new image, and those that the old one has
};

// Both images are checked frame by frame. Errors: storage_failure; model_format (a raw image, or none);
// model_integrity.
Result<DiffSummary> write_diff(const std::string& old_path, const std::string& new_path, const std::string& delta_path);

}  // namespace slmd::pack
