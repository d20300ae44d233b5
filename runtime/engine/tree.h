// Tokens that may follow a sequence, as a tree, whose logits are asked for together.
#pragma once
#include <algorithm>
#include <cstdint>
#include <span>

namespace slmd::engine {

constexpr int max_tree_nodes = 4096;
constexpr int max_tree_depth = 32;  // nodes that have children stand at most so deep

struct TreeNode {
    std::int32_t token;
    std::int16_t parent;   // -1: it follows the sequence
    std::int16_t end;      // index behind its last descendant, so the next sibling's where there is one
    float logit;           // out: of nodes that have siblings; that of a forced token is never computed
    bool skipped = false;  // what is below is not asked for any more; set between passes, of nodes from Tree::next on
};

// Nodes stand before their children, and a node's descendants directly behind it. At a node that has two or more
// children, the engine computes their logits, and of the output matrix only their rows.
struct Tree {
    std::span<TreeNode> nodes;  // at most max_tree_nodes
    int next = root;            // the node whose children's logits come next; done at nodes.size()
    bool root_first = false;    // the logits of the root's children come alone, so that the rest may be skipped by them
    static constexpr int root = -1;

    int size() const { return static_cast<int>(nodes.size()); }
    const TreeNode& operator[](int i) const { return nodes[static_cast<std::size_t>(i)]; }
    int end(int i) const { return i == root ? size() : (*this)[i].end; }
    int parent(int i) const { return (*this)[i].parent; }
    bool forks(int i) const { return i + 1 < end(i) && (*this)[i + 1].end < end(i); }
    // From node i on, the first one that forks and is not skipped, or size().
    int fork_from(int i) const {
        while (i < size()) {
            if (i != root && (*this)[i].skipped) {
                i = end(i);
                continue;
            }
            if (forks(i)) break;
            i++;
        }
        return i;
    }
    // Nodes on the way to node i, itself too: 0 for the root.
    int depth(int i) const {
        int n = 0;
        for (; i != root; i = parent(i)) n++;
        return n;
    }
    bool done() const { return fork_from(next) >= size(); }
};

}  // namespace slmd::engine
