// A JSON Schema (draft 2020-12) as it was written: every keyword known and well formed, every reference resolved.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/json.h"
#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::grammar {

class Schema {
  public:
    static constexpr int max_depth = 48;

    // Reads and checks it; text is changed and must outlive this, and heap holds the nodes. A keyword that this project
    // does not know is an error and never ignored; "title", "description", "$comment", "default", "examples",
    // "deprecated", "readOnly", "writeOnly", "contentEncoding", "contentMediaType", "contentSchema" and names that
    // begin with "x-" describe and do not constrain. Errors, with the place as a JSON pointer: incorrect_parameters,
    // not_supported, not_found (a reference into another document), memory_full.
    Result<void> read(std::span<char> text, Heap& heap);

    // Nodes are numbered as they are written; the whole is 0.
    const JsonNode& at(int node) const { return nodes_[static_cast<std::size_t>(node)]; }
    int index(const JsonNode& node) const { return static_cast<int>(&node - nodes_.data()); }
    // A member of an object, or -1.
    int find(int object, std::string_view key) const;
    // Members or elements: for (i = first(n); i < end(n); i = next(i))
    static int first(int node) { return node + 1; }
    int end(int node) const { return at(node).next; }
    int next(int node) const { return at(node).next; }
    int count(int node) const;
    // What a schema's "$ref" names.
    int target(int schema) const { return target_[schema]; }
    // "#/properties/a": where a node stands. Cut to what fits.
    struct Place {
        char text[96];
    };
    Place place(int node) const;

  private:
    Result<void> check(int schema, int resource);
    Result<void> check_all(int list, int resource);
    Result<void> resolve(int schema, std::string_view reference);
    Error wrong(Code code, int node, const char* what) const;

    struct Resource {
        int node;
        std::string_view uri;
    };
    struct Anchor {
        int resource, node;
        std::string_view name;
    };
    static constexpr int max_resources = 32, max_anchors = 64;

    std::span<JsonNode> nodes_;
    int count_ = 0;
    int *target_ = nullptr, *resource_ = nullptr;  // [nodes]
    Resource resources_[max_resources];
    Anchor anchors_[max_anchors];
    int resource_count_ = 0, anchor_count_ = 0;
    Heap* heap_ = nullptr;
};

}  // namespace slmd::grammar
