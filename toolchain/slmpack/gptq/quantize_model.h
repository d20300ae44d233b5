// A published model to an image in 4, 6 and 8 bits: layer after layer, each rounded against what the layers before it
// have become.
#pragma once
#include <functional>
#include <string>

#include "feedback.h"
#include "survey.h"
#include "toolchain/slmpack/image/import.h"

namespace slmd::pack {

struct QuantizeOptions {
    // The dial, of which one is not 0: KL in nats a token, bytes of the file, or what one bit in the file is worth in
    // nats of KL a token.
    double kl = 0;
    std::uint64_t bytes = 0;
    double nats_a_bit = 0;
    Choice choice{};
    std::size_t surveyed = 16;  // sequences that the survey looks at
    unsigned threads = 0;       // 0: one a core
    std::string work{};         // folder for what is done so far
    std::string description{};  // JSON, for the provenance: source, calibration and dial; other work in the folder is
                                // told by it
    ImportOptions import{};
    std::function<void(double part)> progress{};
    std::function<void(const std::string& line)> report{};  // a line a tensor
};

struct QuantizeSummary {
    ImportSummary image;
    double nats_a_bit = 0;  // what the dial came to
    double loss = 0;        // KL by the quadratic model on calibration text
    double kl = 0;          // measured on the part of it that was held out
    bool resumed = false;
};

// sequences: tokens of calibration text, the windows that the model is run on. Interrupted at any time, the same call
// goes on from the last layer that was finished, and ends with the same bytes, on any number of threads. Errors: those
// of the source and of import_model(); storage_failure; incorrect_parameters when the folder holds work of another
// model or with other options. Memory: one layer at a time and what all positions hold between layers; of a layer with
// experts about 20 bytes for each expert and pair of columns, 0.8 GB for 64 experts of 768 columns.
Result<QuantizeSummary> quantize_model(const Source& source, std::span<const Sequence> sequences,
                                       const std::string& path, const QuantizeOptions& options);

}  // namespace slmd::pack
