// Models whose output matrix is their embedding, published as two roundings of one matrix.
#pragma once
#include <memory>

#include "toolchain/slmpack/source.h"

namespace slmd::pack {

// The model with the finer of the two as its one matrix (flag_tied_output set, no tensor `output`), and a line in
// warnings that says so; `source` itself where they are two matrices, or one already. They count as one when their
// difference is no larger than rounding to the coarser one's bits makes it. Errors: those of reading the tensors.
Result<std::unique_ptr<Source>> with_one_matrix(std::unique_ptr<Source> source);

}  // namespace slmd::pack
