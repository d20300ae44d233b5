// Which of some labels answers a prompt: nothing is decoded, the labels' tokens are scored as a tree behind the prompt.
#pragma once
#include <atomic>
#include <cstdint>
#include <span>
#include <string_view>

#include "base/features.h"
#include "base/result.h"
#include "engine/engine.h"
#include "task/generate.h"
#include "task/prompt.h"

namespace slmd::task {

struct Label {
    std::string_view text;
    float prior = 1;        // a weight above 0: how frequent it is, on any scale
    float probability = 0;  // when it is known
    std::int16_t node = 0;  // of the tree, of its last token
};

struct ClassifyOptions {
    bool raw = false;              // the last message as it is, no chat template
    std::int64_t deadline_ns = 0;  // CLOCK_MONOTONIC; 0: none
};

// The probability of a label is that with which the model would write it if it could write nothing but the labels: the
// product over its tokens of the model's softmax among the tokens with which some label goes on there. So only those
// rows of the output matrix are computed, and a token without an alternative costs nothing. Where a label begins
// another one, the end of an answer (any of the model's end tokens) is such an alternative. Priors are multiplied in,
// and the sum is 1 again. It is the model's own number and not calibrated.
//
// Of many labels the first tokens are scored alone, and those with one beginning that are less likely than `negligible`
// all together are not told apart but share what it has. That is less than 1 / max_labels: the most probable label is
// none of them, and no other probability is wrong by more.
class Classification {
  public:
    static constexpr int max_labels = 512, max_label_tokens = engine::max_tree_depth, max_nodes = 3072;
    static constexpr double negligible = 1.0 / 1024;

    // Tokenizes prompt and labels, each label as an answer begins. The labels, with texts and priors, stay the
    // caller's, as long as the classification; so do the tokens, as many as the engine's context, and the nodes.
    // Errors: as encode_prompt; incorrect_parameters for fewer than 2 labels or more than max_labels, one that has no
    // tokens, too many, or the same as another one, for all together when they are too many, and for a prior that is
    // not above 0: naming it; context_full when a label does not fit behind the prompt.
    Result<void> open(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                      std::span<const text::Message> messages, const ClassifyOptions& options, std::span<Label> labels,
                      std::span<engine::TreeNode> nodes, std::span<std::int32_t> tokens, const Workspace& workspace);

    // As Generation's. Errors: deadline.
    Result<bool> ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns,
                     engine::Engine::Step& step);
    // True when the labels are scored, or when it was cancelled.
    bool take(const engine::Engine::Step& step);

    std::span<const std::int32_t> tokens() const { return tokens_.first(static_cast<std::size_t>(prompt_)); }
    int prompt_tokens() const { return prompt_; }
    int cached() const { return cached_; }  // of the prompt
    Finish finish() const { return finish_; }
    const engine::Tree& tree() const { return tree_; }
    // When finished. best(): the most probable ones in order, of equal ones the first; returns how many there are.
    std::span<const Label> labels() const { return labels_; }
    int best(std::span<const Label*> out) const;
    Features features() const;  // of the labels' probabilities

  private:
    int child(int parent, std::int32_t token) const;
    int add_child(int parent, std::int32_t token);
    Result<void> add_label(int index, std::span<const std::int32_t> tokens);
    Result<void> add_ends();
    void normalise();
    double chance(int node) const;
    void skip();
    void score();

    const text::Tokenizer* tokenizer_ = nullptr;
    std::span<std::int32_t> tokens_;
    std::span<Label> labels_;
    std::span<engine::TreeNode> nodes_;
    engine::Tree tree_{};
    double uneven_ = 1;               // the greatest prior over the smallest
    int known_ = engine::Tree::root;  // the first node whose children's logits are not probabilities yet
    int prompt_ = 0, cached_ = 0;
    Finish finish_ = Finish::none;
    std::int64_t deadline_ns_ = 0;
};

}  // namespace slmd::task
