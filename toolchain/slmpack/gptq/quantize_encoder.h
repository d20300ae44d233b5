// An encoder to an image in 4 bits: layer after layer, each rounded against what the layers before it have become.
#pragma once
#include <functional>
#include <span>

#include "survey.h"
#include "toolchain/slmpack/image/import.h"

namespace slmd::pack {

struct QuantizeEncoderOptions {
    // The embeddings of tokens, positions and types and the matrices of what attention passes on as well, which
    // otherwise have 8 bits.
    bool only_i4 = false;
    unsigned threads = 0;  // 0: one a core
    ImportOptions import{};
    std::function<void(double part)> progress{};
    std::function<void(const std::string& line)> report{};  // a line a matrix
};

// texts: tokens of calibration texts, with what stands before and behind them. The same texts and options give the same
// bytes, on any number of threads. What rounding moves the mean of a matrix's outputs by goes into its bias. Errors:
// those of the source and of import_model(); incorrect_parameters for too few texts.
Result<ImportSummary> quantize_encoder(const Source& source, std::span<const Sequence> texts, const std::string& path,
                                       const QuantizeEncoderOptions& options);

// Texts of words that an encoder's vocabulary has, drawn at random, the same every time: about `tokens` in all.
std::vector<Sequence> texts_of_vocabulary(const Source& source, std::size_t tokens);

}  // namespace slmd::pack
