// From a published model to an image: which tensor becomes which kind, and what the image says about where it came
// from.
#pragma once
#include <functional>
#include <map>
#include <optional>
#include <string>

#include "base/sha256.h"
#include "toolchain/slmpack/source.h"
#include "writer.h"

namespace slmd::pack {

struct ImportOptions {
    std::optional<image::Kind> kind{};  // i4 or i8, of an encoder f32, too: round every matrix to it, also where the
                                        // source's own codes would do
    std::string name{};                 // instead of the source's, for people
    std::string chat_template{};  // a name of chat_template_names(), "none", or empty: what the source's template is
                                  // recognised as
    // Tensors that were made elsewhere: their kinds, and what gives them. `made`: JSON on how, for the provenance.
    std::map<std::string, image::Kind> kinds{};
    std::function<Result<TensorData>(const SourceTensor&)> tensor{};
    std::string made{};
    // What becomes the golden section, asked of the image without it. Not set: none.
    std::function<Result<std::vector<std::byte>>(const std::string& image)> golden{};
    WriteOptions write{};
};

struct KindSummary {
    std::uint64_t tensors = 0, weights = 0, raw = 0, stored = 0;
    double error = 0, power = 0;  // squared, of tensors that were rounded here
};

struct ImportSummary {
    std::uint64_t source_bytes = 0, raw_bytes = 0, image_bytes = 0;
    std::map<image::Kind, KindSummary> kinds;
};

std::string hex(const Sha256& digest);

// The files of a source with their sizes and SHA-256, as JSON: one, or those of a folder that say what the model is.
struct SourceFiles {
    std::string json;
    std::uint64_t bytes = 0;  // of the weights
};
// parts: further ones of a split file.
Result<SourceFiles> describe_files(const std::string& path, const std::vector<std::string>& parts = {});

// Which experts a token goes to is a choice: a small error makes another one of it. It is a ten-thousandth of the model
// and is kept in f32.
bool is_router(const SourceTensor& tensor);

// Bytes that the file will have besides its matrices, about.
Result<double> stored_besides_matrices(const Source& source);

// Codes that fit go in unchanged (i4, i4a, i6, i8). Other quantized matrices (Q2_K, Q3_K, Q5_1, Q5_K, Q6_K) become i8;
// float matrices become i4, embedding and output i8; vectors stay f32. The same source and options give the same bytes.
// Errors: those of the source, of the tokenizer and chat builders, of write_image(), amend_image() and `golden`.
Result<ImportSummary> import_model(const Source& source, const std::string& path, const ImportOptions& options);

// The kind that import_model() gives a tensor.
Result<image::Kind> kind_of(const Source& source, const SourceTensor& tensor, const ImportOptions& options);

}  // namespace slmd::pack
