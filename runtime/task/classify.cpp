#include "task/classify.h"

#include <algorithm>
#include <cmath>

#include "engine/exp.h"

namespace slmd::task {
namespace {

using engine::Tree;
using engine::TreeNode;

constexpr int max_ends = 8;
// With fewer rows behind the prompt, another pass over the weights costs more than what it saves.
constexpr int worth_two_passes = 8;

struct Shown {  // of a label in an error
    int size;
    const char* text;
};
Shown shown(std::string_view s) { return {static_cast<int>(std::min<std::size_t>(s.size(), 64)), s.data()}; }

}  // namespace

int Classification::child(int parent, std::int32_t token) const {
    for (int i = parent + 1; i < tree_.end(parent); i = tree_.end(i))
        if (tree_[i].token == token) return i;
    return -1;
}

// Behind the last one that it has; what stands further back moves by one. -1: there is no room.
int Classification::add_child(int parent, std::int32_t token) {
    const int at = tree_.end(parent), size = tree_.size();
    if (size == static_cast<int>(nodes_.size())) return -1;
    tree_.nodes = nodes_.first(static_cast<std::size_t>(size) + 1);
    std::copy_backward(nodes_.begin() + at, nodes_.begin() + size, nodes_.begin() + size + 1);
    for (TreeNode& n : tree_.nodes.subspan(static_cast<std::size_t>(at) + 1)) {
        n.end++;
        n.parent = static_cast<std::int16_t>(n.parent + (n.parent >= at));
    }
    for (int i = parent; i != Tree::root; i = tree_.parent(i)) tree_.nodes[static_cast<std::size_t>(i)].end++;
    for (Label& l : labels_) l.node = static_cast<std::int16_t>(l.node + (l.node >= at));
    tree_.nodes[static_cast<std::size_t>(at)] = {token, static_cast<std::int16_t>(parent),
                                                 static_cast<std::int16_t>(at + 1), 0};
    return at;
}

Result<void> Classification::add_label(int index, std::span<const std::int32_t> tokens) {
    Label& label = labels_[static_cast<std::size_t>(index)];
    const auto [size, text] = shown(label.text);
    int node = Tree::root;
    for (const std::int32_t token : tokens) {
        const int known = child(node, token);
        node = known >= 0 ? known : add_child(node, token);
        if (node < 0)
            return Error::make(Code::incorrect_parameters,
                               "the labels up to %d, \"%.*s\", have more than %d tokens that differ", index + 1, size,
                               text, max_nodes);
    }
    for (const Label& other : labels_)
        if (other.node == node)
            return Error::make(Code::incorrect_parameters, "label %d, \"%.*s\": label %d has the same tokens",
                               index + 1, size, text, static_cast<int>(&other - labels_.data()) + 1);
    label.node = static_cast<std::int16_t>(node);
    return {};
}

// A label that goes on as another one is told from it by what ends an answer.
Result<void> Classification::add_ends() {
    std::int32_t ends[max_ends];
    const auto all = std::span(ends).first(tokenizer_->ends(ends));
    for (Label& label : labels_) {
        if (label.node + 1 == tree_.end(label.node)) continue;
        const auto [size, text] = shown(label.text);
        if (all.empty())
            return Error::make(Code::incorrect_parameters,
                               "label \"%.*s\": another one begins with it, and the model has no token for an end",
                               size, text);
        for (const std::int32_t token : all)
            if (add_child(label.node, token) < 0)
                return Error::make(Code::incorrect_parameters, "the labels have more than %d tokens that differ",
                                   max_nodes);
    }
    return {};
}

Result<void> Classification::open(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                                  std::span<const text::Message> messages, const ClassifyOptions& options,
                                  std::span<Label> labels, std::span<TreeNode> nodes, std::span<std::int32_t> tokens,
                                  const Workspace& workspace) {
    *this = {};
    const auto count = labels.size();
    if (count < 2 || count > max_labels)
        return Error::make(Code::incorrect_parameters, "%zu labels: 2 to %d", count, max_labels);
    tokenizer_ = &tokenizer;
    deadline_ns_ = options.deadline_ns;
    tokens_ = tokens;
    labels_ = labels;
    nodes_ = nodes.first(std::min<std::size_t>(max_nodes, nodes.size()));
    for (std::size_t i = 0; i < count; i++) {
        if (!(labels[i].prior > 0) || !std::isfinite(labels[i].prior))
            return Error::make(Code::incorrect_parameters, "the prior of label %zu is not above 0", i + 1);
        labels[i].node = -1;
    }
    prompt_ = TRY(encode_prompt(tokenizer, chat, messages, options.raw, tokens, workspace)).tokens;
    for (std::size_t i = 0; i < count; i++) {
        const std::string_view label = labels[i].text;
        const auto [size, text] = shown(label);
        std::int32_t of_label[max_label_tokens];
        const auto n = tokenizer.encode(label, {}, false, of_label, workspace.scratch);
        if (!n && n.error().code == Code::context_full)
            return Error::make(Code::incorrect_parameters, "label %zu, \"%.*s\", has more than %d tokens", i + 1, size,
                               text, max_label_tokens);
        if (!n) return n.error();
        if (n.value() == 0) return Error::make(Code::incorrect_parameters, "label %zu has no tokens", i + 1);
        if (static_cast<std::size_t>(prompt_) + n.value() > tokens.size())
            return Error::make(
                Code::context_full,
                "label %zu, \"%.*s\", does not fit behind the prompt's %d tokens into the context of %zu", i + 1, size,
                text, prompt_, tokens.size());
        if (std::any_of(of_label, of_label + n.value(), [&](std::int32_t t) { return tokenizer.is_end(t); }))
            return Error::make(Code::incorrect_parameters, "label %zu, \"%.*s\", holds what ends an answer", i + 1,
                               size, text);
        TRY(add_label(static_cast<int>(i), std::span(of_label).first(n.value())));
    }
    TRY(add_ends());
    const auto [least, most] = std::minmax_element(labels.begin(), labels.end(),
                                                   [](const Label& a, const Label& b) { return a.prior < b.prior; });
    uneven_ = static_cast<double>(most->prior) / static_cast<double>(least->prior);
    int rows = 0;
    for (int i = 0; i < tree_.size(); i++) rows += tree_.fork_from(i) < tree_.end(i);
    tree_.root_first = rows >= worth_two_passes && tree_.forks(Tree::root);
    return {};
}

Result<bool> Classification::ask(int slot, int chunk, const std::atomic<bool>& cancel, std::int64_t now_ns,
                                 engine::Engine::Step& step) {
    if (finish_ != Finish::none) return false;
    if (deadline_ns_ != 0 && now_ns >= deadline_ns_)
        return Error::make(Code::deadline,
                           "the deadline passed before the labels were scored (%d of %d prompt tokens read)", cached_,
                           prompt_);
    step = {.slot = slot, .tokens = tokens(), .max_tokens = chunk, .cancel = &cancel, .tree = &tree_};
    return true;
}

bool Classification::take(const engine::Engine::Step& step) {
    if (step.cancelled) {
        finish_ = Finish::cancelled;
        return true;
    }
    cached_ = std::min(step.cached, prompt_);
    if (cached_ < prompt_) return false;
    const bool began = known_ != Tree::root;
    normalise();
    if (tree_.root_first && !began && known_ != Tree::root) skip();
    if (!tree_.done()) return false;
    normalise();
    score();
    finish_ = Finish::stop;
    return true;
}

// The logits that have come become the probabilities among siblings; those that nobody asked for are even.
void Classification::normalise() {
    const int until = tree_.done() ? tree_.size() : tree_.next;
    int skipped = Tree::root;  // up to here nothing was asked for
    for (int parent = known_; parent < until; parent++) {
        const int first = parent + 1, end = tree_.end(parent);
        if (parent != Tree::root && tree_[parent].skipped) skipped = std::max(skipped, end);
        if (first >= end) continue;
        const auto each = [&](auto&& f) {
            for (int i = first; i < end; i = tree_.end(i)) f(tree_.nodes[static_cast<std::size_t>(i)].logit);
        };
        double top = static_cast<double>(tree_[first].logit), total = 0;
        if (!tree_.forks(parent) || parent < skipped) each([&](float& logit) { logit = 0, top = 0; });
        each([&](float& logit) { top = std::max(top, static_cast<double>(logit)); });
        each([&](float& logit) { total += engine::exp_of(static_cast<double>(logit) - top); });
        each([&](float& logit) {
            logit = static_cast<float>(engine::exp_of(static_cast<double>(logit) - top) / total);
        });
    }
    known_ = until;
}

// That an answer goes through a node, as far as it is known.
double Classification::chance(int node) const {
    double p = 1;
    for (int i = node; i != Tree::root; i = tree_.parent(i)) p *= static_cast<double>(tree_[i].logit);
    return p;
}

// By what the first tokens say, and nothing else: what more is known by then depends on how much fits a pass.
void Classification::skip() {
    for (int i = known_; i < tree_.size();) {
        bool& skipped = tree_.nodes[static_cast<std::size_t>(i)].skipped;
        skipped = tree_.parent(i) < known_ && chance(i) * uneven_ < negligible;
        i = skipped ? tree_.end(i) : i + 1;
    }
}

// A label's probability is the product of those along its tokens.
void Classification::score() {
    const auto weight = [&](const Label& label) {
        const double p = static_cast<double>(label.prior) * chance(label.node);
        if (label.node + 1 == tree_.end(label.node)) return p;
        double ends = 0;
        for (int i = label.node + 1; i < tree_.end(label.node); i = tree_.end(i))
            if (tokenizer_->is_end(tree_[i].token)) ends += static_cast<double>(tree_[i].logit);
        return p * ends;
    };
    double total = 0;
    for (const Label& label : labels_) total += weight(label);
    for (Label& label : labels_) label.probability = static_cast<float>(weight(label) / total);
}

int Classification::best(std::span<const Label*> out) const {
    std::size_t n = 0;
    for (const Label& label : labels_) {
        if (n == out.size() && (n == 0 || label.probability <= out[n - 1]->probability)) continue;
        std::size_t at = n < out.size() ? n++ : n - 1;
        for (; at > 0 && out[at - 1]->probability < label.probability; at--) out[at] = out[at - 1];
        out[at] = &label;
    }
    return static_cast<int>(n);
}

Features Classification::features() const {
    float first = 0, second = 0;
    double entropy = 0;
    for (const Label& label : labels_) {
        const float p = label.probability;
        if (p > 0) entropy -= static_cast<double>(p) * engine::log_of(static_cast<double>(p));
        second = std::max(second, std::min(p, first));
        first = std::max(first, p);
    }
    return {
        .min = first, .mean = first, .margin = first - second, .entropy = static_cast<float>(engine::exp_of(-entropy))};
}

}  // namespace slmd::task
