// Evens out the channels of queries and keys before they become int8.
//
// A score is a sum over RoPE pairs of query times key, so a pair of key channels may be divided by what the same pair
// of every query that meets it is multiplied with. Where biases give keys a few channels that dwarf the others (Qwen
// 2), one scale a head vector would leave the others nothing: KL falls from 0.0084 to 0.0017 on Qwen2.5-Coder-0.5B. The
// factors are powers of two, so that a faithful image stays faithful.
#pragma once
#include <map>
#include <string>
#include <vector>

#include "layout.h"
#include "toolchain/slmpack/source.h"

namespace slmd::pack {

class Balance {
  public:
    // Nothing is balanced in a model without biases on query and key. Errors: those of the source.
    static Result<Balance> of(const Source& source);

    // What letters() said. Errors: model_format when they are not those of such a model.
    static Result<Balance> of_letters(const std::map<std::string, std::string>& letters,
                                      const image::ModelParams& params);

    bool empty() const { return exponents_.empty(); }
    // For the image's provenance, since an adapter's rows must be balanced like those of its base: a letter for every
    // row of each "blk.0.attn_k", 'm' for 0, 'n' where the key is divided by 2.
    std::map<std::string, std::string> letters() const;
    // Multiplies the rows of a query or key matrix, or the values of its bias, by their powers of two; leaves every
    // other tensor as it is. Errors: model_format when a scale grows beyond f16.
    Result<void> apply(const std::string& name, TensorData& tensor) const;

  private:
    std::map<std::string, std::vector<int>> exponents_;  // of attn_q and attn_k, a row each
};

}  // namespace slmd::pack
