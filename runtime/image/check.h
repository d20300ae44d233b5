// The checks of what a raw form says about itself, before any of it is used.
#pragma once
#include <span>

#include "base/result.h"
#include "image/format.h"

namespace slmd::image {

// Magic, versions, section table: known and unique ids, aligned, in ascending order, inside raw_size; index and params
// of the right size; a signature of a known type with nothing behind it; hashes of all sections that have one, or of
// none. Errors: model_format, beginning with `path`.
Result<void> check_header(const char* path, const RawHeader& header);

// Every tensor: name, kind, shape, sizes that follow from them, spans in ascending order inside the tensors section;
// names unique; hashes of all tensors, or of none, as of the sections; a tied embedding is not on demand.
Result<void> check_index(const char* path, const RawHeader& header, std::span<const TensorEntry> tensors,
                         const ModelParams& params);

// It is for another image, and no model.
bool is_adapter(const RawHeader& header);

// False in an image that was written before there were hashes: nothing can vouch for its tensors.
bool has_hashes(const RawHeader& header);

// Null when the image has no such section.
const Section* find_section(const RawHeader& header, SectionId id);

// Names what lies in [begin, end) of the raw form: "blk.3.ffn_up codes", or the section. out is terminated.
void name_place(const RawHeader& header, std::span<const TensorEntry> tensors, std::uint64_t begin, std::uint64_t end,
                char* out, std::size_t size);

}  // namespace slmd::image
