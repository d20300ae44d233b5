// The model as its authors wrote it down, in float32: what images and the engine are judged against. It shares no
// arithmetic with the engine.
#pragma once
#include <cstdint>
#include <functional>
#include <map>
#include <memory>
#include <span>
#include <string>
#include <vector>

#include "base/result.h"
#include "toolchain/slmpack/source.h"
#include "toolchain/slmpack/source/adapter.h"

namespace slmd::pack {

class Reference {
  public:
    // Holds every weight in float32: 4 bytes a parameter. Errors: what the source says about a tensor.
    static Result<std::unique_ptr<Reference>> open(const Source& source);

    // From now on every matrix that the adapter changes is applied as W x + scale * B (A x).
    void adapt(Adapter adapter);

    const image::ModelParams& params() const { return params_; }

    // Logits of positions first .. tokens.size() - 1 of one sequence: [(tokens.size() - first) x vocab], row-major.
    // Errors: incorrect_parameters (no token, a token outside the vocabulary), context_full. May be called from several
    // threads at once.
    Result<std::vector<float>> logits(std::span<const std::int32_t> tokens, std::size_t first = 0) const;

    // Keys (rotated) and values of a sequence: per layer [length x kv_heads * head_dim].
    struct Cache {
        std::vector<std::vector<float>> keys, values;
        std::size_t length = 0;
    };
    // Of tokens, to be continued by tree(). None gives an empty one. Errors as logits().
    Result<Cache> read(std::span<const std::int32_t> tokens) const;
    // Texts that begin alike, in one pass: token i continues token parents[i], which stands before it, or, -1, the
    // sequence of `before`. Hands out the logits [vocab] after each of the rows `wanted`, in their order. Errors as
    // logits(), and incorrect_parameters for a parent that does not stand before. May be called from several threads
    // at once.
    Result<void> tree(const Cache& before, std::span<const std::int32_t> tokens, std::span<const std::int32_t> parents,
                      std::span<const std::size_t> wanted,
                      const std::function<void(std::size_t i, std::span<const float> logits)>& sink) const;

    struct Step {
        std::int32_t token;
        float margin;  // its logit minus the second best
    };
    // Greedy decoding with a cache: at most max_tokens, up to and with the first of `ends`. Lowest id wins a tie.
    // Errors as logits().
    Result<std::vector<Step>> greedy(std::span<const std::int32_t> prompt, std::size_t max_tokens,
                                     std::span<const std::int32_t> ends) const;

  private:
    struct Pass;
    Reference() = default;
    const float* weight(const std::string& name) const { return weights_.at(name).data(); }
    // length: of the longest sequence that they end.
    Result<void> check(std::span<const std::int32_t> tokens, std::size_t length) const;
    // Appends tokens to the cache; returns the normed hidden states of tokens[first..]: [n x dim]. parents: as in
    // tree(), where the tokens are one; then the cache ends here.
    std::vector<float> forward(std::span<const std::int32_t> tokens, std::size_t first, Cache& cache,
                               const std::vector<std::int32_t>& parents = {}) const;
    std::vector<float> output(const std::vector<float>& hidden) const;

    image::ModelParams params_{};
    std::vector<float> inv_freq_, inv_freq_local_;
    std::map<std::string, std::vector<float>> weights_;
    std::map<std::string, AdapterTarget> adapted_;
};

}  // namespace slmd::pack
