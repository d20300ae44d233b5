// Trees of tokens behind a sequence: every logit has the bits that it has in the plain sequence, whatever the passes.
#include <gtest/gtest.h>

#include <algorithm>
#include <map>
#include <memory>

#include "compute/kernels.h"
#include "engine/engine.h"
#include "tests/engine/tiny_model.h"

using namespace slmd;
using engine::Config;
using engine::Engine;
using engine::Tree;
using engine::TreeNode;

namespace {

using Tokens = std::vector<std::int32_t>;
const std::atomic<bool> never{false};

// window: 0, or a model whose layers slide but for the last.
std::unique_ptr<image::Image> make_image(std::uint32_t window) {
    test::TinyModel model;
    model.contents.params.window = window;
    if (window != 0) model.contents.params.sliding[0] = 3;
    return test::open_image(model);
}
const image::Image& tiny_image() {
    static const auto image = make_image(0);
    return *image;
}
const image::Image& sliding_image() {
    static const auto image = make_image(100);
    return *image;
}

std::unique_ptr<Engine> make(Config c, const image::Image& image = tiny_image()) {
    auto e = Engine::open(image, c);
    EXPECT_TRUE(e) << (e ? "" : e.error().what());
    return std::unique_ptr<Engine>(e.value());
}

Tokens tokens_of(int n, unsigned seed = 1) {
    test::Random r{seed};
    Tokens t;
    for (int i = 0; i < n; i++) t.push_back(r.between(0, 300));
    return t;
}

// Random: chains of forced tokens, forks of up to `forks` children, at most `nodes` nodes.
struct RandomTree {
    std::vector<TreeNode> nodes;
    test::Random random;
    int most, forks, deepest;

    RandomTree(unsigned seed, int most_nodes, int most_forks, int most_deep)
        : random{seed}, most(most_nodes), forks(most_forks), deepest(most_deep) {
        grow(Tree::root, 0);
    }
    void grow(int parent, int depth) {
        if (depth > deepest) return;
        const int kind = random.between(0, 9), children = parent == -1 ? forks
                                                          : kind < 3   ? 1
                                                          : kind < 6   ? random.between(2, forks)
                                                                       : 0;
        const int first = random.between(0, 300);
        for (int c = 0; c < children && static_cast<int>(nodes.size()) < most; c++) {
            const auto at = nodes.size();
            nodes.push_back({(first + c * 7) % 301, static_cast<std::int16_t>(parent), 0, 0});
            grow(static_cast<int>(at), depth + 1);
            nodes[at].end = static_cast<std::int16_t>(nodes.size());
        }
    }
    Tree tree() {
        for (TreeNode& n : nodes) n.logit = -12345;
        return {nodes};
    }
};

std::vector<float> run(Engine& e, int slot, const Tokens& tokens, Tree tree, int max_tokens = 1 << 30,
                       int* passes = nullptr) {
    int n = 0;
    do {
        Engine::Step step{.slot = slot, .tokens = tokens, .max_tokens = max_tokens, .tree = &tree};
        const auto done = e.advance({&step, 1});
        EXPECT_TRUE(done) << (done ? "" : done.error().what());
        EXPECT_TRUE(step.logits.empty());
        if (!done || ++n > 10000) break;
    } while (!tree.done() || e.cached(slot).size() < tokens.size());
    if (passes != nullptr) *passes = n;
    std::vector<float> logits;
    for (const TreeNode& node : tree.nodes) logits.push_back(node.logit);
    return logits;
}

// Each fork's logits from a plain sequence.
std::vector<float> plain(Engine& e, const Tokens& tokens, const Tree& tree) {
    std::vector<float> logits(tree.nodes.size(), -12345);
    for (int fork = tree.fork_from(Tree::root); fork < tree.size(); fork = tree.fork_from(fork + 1)) {
        Tokens sequence;
        for (int i = fork; i != Tree::root; i = tree.parent(i)) sequence.insert(sequence.begin(), tree[i].token);
        sequence.insert(sequence.begin(), tokens.begin(), tokens.end());
        auto p = e.advance(0, sequence, 10000, never);
        EXPECT_TRUE(p) << (p ? "" : p.error().what());
        for (int child = fork + 1; child < tree.end(fork); child = tree.end(child))
            logits[static_cast<std::size_t>(child)] = p->logits[static_cast<std::size_t>(tree[child].token)];
    }
    return logits;
}

TEST(Tree, LogitsAreThoseOfPlainSequences) {
    // Behind the tokens a chunk of positions ends at once, in the middle of the tree, or after it.
    for (const int prompt : {1, 60, 127, 128, 250, 300}) {
        const Tokens tokens = tokens_of(prompt);
        for (unsigned seed = 1; seed <= 2; seed++) {
            RandomTree random(seed, 120, 6, 14);
            const Tree tree = random.tree();
            auto reference = make({.context = 512, .threads = 1, .level = "scalar"});
            const auto expected = plain(*reference, tokens, tree);
            ASSERT_GT(std::count_if(expected.begin(), expected.end(), [](float f) { return f != -12345; }), 20);
            for (auto level = compute::levels(); *level != nullptr; level++)
                for (auto [threads, batch] : {std::pair{1, 1}, {2, 2}, {1, 7}, {2, 32}, {3, 4}, {2, 128}}) {
                    if ((*level)->name == std::string("scalar") && batch < 32) continue;  // slow
                    auto e = make({.context = 512, .threads = threads, .batch = batch, .level = (*level)->name});
                    EXPECT_EQ(run(*e, 0, tokens, random.tree()), expected)
                        << (*level)->name << " prompt " << prompt << " seed " << seed << " threads " << threads
                        << " batch " << batch;
                    // Again, all of it in the cache.
                    EXPECT_EQ(run(*e, 0, tokens, random.tree(), 5), expected);
                }
        }
    }
}

TEST(Tree, WhatIsSkippedBehindTheRootIsNotComputed) {
    const Tokens tokens = tokens_of(60);
    RandomTree random(2, 120, 6, 14);
    Tree tree = random.tree();
    auto reference = make({.context = 512, .threads = 1});
    const int first = tree.fork_from(0);
    const auto skip = [&] {
        for (int child = 0, n = 0; child < tree.size(); child = tree.end(child), n++)
            random.nodes[static_cast<std::size_t>(child)].skipped = child >= first && n % 2 == 1;
    };
    skip();
    const auto expected = plain(*reference, tokens, tree);  // of what is not skipped
    for (const int batch : {1, 7, 128}) {
        auto e = make({.context = 512, .threads = 2, .batch = batch});
        for (TreeNode& n : random.nodes) n.skipped = false;
        tree = random.tree();
        tree.root_first = true;
        Engine::Step step{.slot = 0, .tokens = tokens, .max_tokens = 1 << 30, .tree = &tree};
        while (tree.next == Tree::root) ASSERT_TRUE(e->advance({&step, 1}));
        EXPECT_EQ(tree.next, first) << batch;
        for (int child = 0; child < tree.size(); child = tree.end(child))
            EXPECT_EQ(tree[child].logit, expected[static_cast<std::size_t>(child)]) << batch;
        skip();
        while (!tree.done()) ASSERT_TRUE(e->advance({&step, 1}));
        for (std::size_t i = 0; i < expected.size(); i++)
            EXPECT_EQ(tree.nodes[i].logit, expected[i]) << batch << ' ' << i;
    }
}

TEST(Tree, SlidingLayersSeeTheirWindow) {
    for (const int prompt : {50, 99, 127, 255, 390}) {
        const Tokens tokens = tokens_of(prompt);
        RandomTree random(7, 150, 5, 30);
        const Tree tree = random.tree();
        auto reference = make({.context = 512, .threads = 1}, sliding_image());
        const auto expected = plain(*reference, tokens, tree);
        for (const int batch : {1, 3, 32, 128}) {
            auto e = make({.context = 512, .threads = 2, .batch = batch}, sliding_image());
            EXPECT_EQ(run(*e, 0, tokens, random.tree()), expected) << prompt << " batch " << batch;
            EXPECT_EQ(run(*e, 0, tokens, random.tree()), expected) << prompt << " batch " << batch;
        }
    }
}

TEST(Tree, ADeepWayInSmallPiecesIsWrittenOnce) {
    // A chain of the greatest depth, each of whose nodes has a second child.
    std::vector<TreeNode> all;
    constexpr int depth = engine::max_tree_depth;
    const auto add = [&](int token, int parent, int end) {
        all.push_back({token, static_cast<std::int16_t>(parent), static_cast<std::int16_t>(end), -12345});
    };
    for (int i = 0; i < depth; i++) add(i, i - 1, 2 * depth + 1 - i);
    add(100, depth - 1, depth + 1);
    for (int i = 0; i < depth; i++) add(200, depth - 1 - i, depth + 2 + i);
    const Tokens tokens = tokens_of(120);
    auto reference = make({.context = 512, .threads = 1});
    const auto expected = plain(*reference, tokens, {all});
    for (const int batch : {1, 4, 31, 32, 33}) {
        auto e = make({.context = 152, .threads = 2, .batch = batch});
        int passes = 0;
        EXPECT_EQ(run(*e, 0, tokens, {all}, 1 << 30, &passes), expected) << batch;
        if (batch == 1) {  // each node once with its children's logits, once to go on from
            EXPECT_LE(passes, 120 + 2 * depth);
        }
    }
    auto small = make({.context = 150});
    Tree tree{all};
    Engine::Step step{.slot = 0, .tokens = tokens, .tree = &tree};
    const auto refused = small->advance({&step, 1});
    ASSERT_FALSE(refused);
    EXPECT_EQ(refused.error().code, Code::context_full);
}

// The tree goes with the end of the prompt: no pass of its own while the batch has room.
TEST(Tree, ItSharesThePassThatEndsThePrompt) {
    const Tokens tokens = tokens_of(40);
    RandomTree random(3, 30, 4, 3);
    int passes = 0, rows = 0;
    auto e = make({.context = 128, .threads = 2});
    run(*e, 0, tokens, random.tree(), 1 << 30, &passes);
    const Tree tree = random.tree();
    for (int i = 0; i < tree.size(); i++) rows += i + 1 < tree.end(i);
    ASSERT_GT(rows, 2);
    ASSERT_LE(rows, 24);
    EXPECT_EQ(passes, 2);
}

TEST(Tree, OthersAreServedInTheSamePasses) {
    const Tokens a = tokens_of(70), b = tokens_of(40, 5), c = tokens_of(33, 6);
    RandomTree first(11, 90, 5, 6), second(12, 90, 5, 6);
    auto reference = make({.context = 256, .threads = 1});
    const auto expected_a = plain(*reference, a, first.tree()), expected_b = plain(*reference, b, second.tree());
    auto logits = reference->advance(0, c, 1000, never);
    ASSERT_TRUE(logits);
    const std::vector<float> expected_c(logits->logits.begin(), logits->logits.end());
    for (const int batch : {2, 9, 32}) {
        auto e = make({.context = 256, .slots = 3, .threads = 2, .batch = batch});
        Tree tree_a = first.tree(), tree_b = second.tree();
        bool said = false;
        for (int pass = 0; pass < 1000; pass++) {
            Engine::Step steps[] = {{.slot = 0, .tokens = a, .tree = &tree_a},
                                    {.slot = 1, .tokens = b, .tree = &tree_b},
                                    {.slot = 2, .tokens = c}};
            ASSERT_TRUE(e->advance(steps));
            if (steps[2].cached == 33 && !steps[2].logits.empty()) {
                EXPECT_EQ(std::vector<float>(steps[2].logits.begin(), steps[2].logits.end()), expected_c);
                said = true;
            }
            if (said && tree_a.done() && tree_b.done()) break;
        }
        EXPECT_TRUE(said && tree_a.done() && tree_b.done()) << batch;
        for (std::size_t i = 0; i < expected_a.size(); i++) EXPECT_EQ(first.nodes[i].logit, expected_a[i]) << i;
        for (std::size_t i = 0; i < expected_b.size(); i++) EXPECT_EQ(second.nodes[i].logit, expected_b[i]) << i;
    }
}

TEST(Tree, ACancelledPassAndAnotherUseOfTheSlotLoseNothing) {
    const Tokens tokens = tokens_of(60), other = tokens_of(90, 4);
    RandomTree random(5, 120, 6, 10);
    auto reference = make({.context = 256, .threads = 1});
    const auto expected = plain(*reference, tokens, random.tree());
    std::atomic<bool> cancel{false};
    for (const int batch : {2, 8}) {
        auto e = make({.context = 256, .threads = 2, .batch = batch});
        Tree tree = random.tree();
        int pass = 0;
        for (; !tree.done() && pass < 3000; pass++) {
            cancel = pass % 3 == 1;
            Engine::Step step{.slot = 0, .tokens = tokens, .cancel = &cancel, .tree = &tree};
            ASSERT_TRUE(e->advance({&step, 1}));
            EXPECT_EQ(step.cancelled, cancel.load());
            if (pass == 60) {
                ASSERT_TRUE(e->advance(0, other, 1000, never));
            }
        }
        ASSERT_TRUE(tree.done());
        ASSERT_GT(pass, batch == 2 ? 60 : 10);
        for (std::size_t i = 0; i < expected.size(); i++) EXPECT_EQ(random.nodes[i].logit, expected[i]) << i;
        // What a tree leaves in the cache is a prefix like any.
        Tokens longer = tokens;
        longer.push_back(random.nodes[0].token);
        auto a = e->advance(0, longer, 1000, never), b = reference->advance(0, longer, 1000, never);
        ASSERT_TRUE(a && b);
        EXPECT_TRUE(std::equal(a->logits.begin(), a->logits.end(), b->logits.begin(), b->logits.end()));
    }
}

TEST(Tree, WhatIsNoTreeIsRefused) {
    const Tokens tokens = tokens_of(10);
    auto e = make({.context = 128});
    const auto refused = [&](std::vector<TreeNode> nodes) {
        Tree tree{nodes};
        Engine::Step step{.slot = 0, .tokens = tokens, .tree = &tree};
        const auto r = e->advance({&step, 1});
        return !r && r.error().code == Code::incorrect_parameters;
    };
    EXPECT_FALSE(refused({{1, -1, 3, 0}, {2, 0, 2, 0}, {3, 0, 3, 0}, {4, -1, 4, 0}}));
    EXPECT_FALSE(refused({}));
    EXPECT_TRUE(refused({{301, -1, 1, 0}}));                             // no such token
    EXPECT_TRUE(refused({{1, 0, 1, 0}}));                                // its own parent
    EXPECT_TRUE(refused({{1, -1, 0, 0}}));                               // ends before it begins
    EXPECT_TRUE(refused({{1, -1, 2, 0}}));                               // ends behind the tree
    EXPECT_TRUE(refused({{1, -1, 3, 0}, {2, 0, 2, 0}, {3, -1, 3, 0}}));  // a parent that does not hold it
    EXPECT_TRUE(refused({{1, -1, 3, 0}, {2, 0, 3, 0}, {3, 0, 3, 0}}));   // inside another child
    EXPECT_TRUE(refused({{1, -1, 2, 0}, {2, 0, 3, 0}, {3, -1, 3, 0}}));  // ends behind its parent
    EXPECT_TRUE(refused(std::vector<TreeNode>(engine::max_tree_nodes + 1, {1, -1, 1, 0})));
    std::vector<TreeNode> deep;
    for (int i = 0; i < engine::max_tree_depth + 2; i++)
        deep.push_back({1, static_cast<std::int16_t>(i - 1), engine::max_tree_depth + 2, 0});
    EXPECT_TRUE(refused(deep));
    deep.pop_back();
    for (TreeNode& n : deep) n.end--;
    EXPECT_FALSE(refused(deep));
}

}  // namespace
