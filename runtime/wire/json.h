// A bounded JSON reader (RFC 8259): in place, fixed depth, fixed number of values, nothing allocated.
#pragma once
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::wire {

enum class JsonType : unsigned char { null, boolean, number, string, array, object };

struct JsonNode {
    JsonType type = JsonType::null;
    bool truth = false;
    int next = 0;           // index behind this value and all that it holds
    std::string_view key;   // in an object
    std::string_view text;  // a string without its escapes; a number as it was written
    double number = 0;
};

class JsonReader {
  public:
    static constexpr int max_nodes = 1280, max_depth = 8;  // 512 labels and their priors

    // Reads exactly one value. Strings are unescaped within text, to which the nodes point. Errors:
    // incorrect_parameters with the column; invalid_characters (not UTF-8).
    Result<void> parse(std::span<char> text);
    const JsonNode& root() const { return nodes_[0]; }
    // The member of an object, or null. The last one wins, as in JSON.parse.
    const JsonNode* find(const JsonNode& object, std::string_view key) const;
    // Members or elements: for (i = first(n); i < n.next; i = node(i).next)
    int first(const JsonNode& node) const { return static_cast<int>(&node - nodes_) + 1; }
    const JsonNode& node(int index) const { return nodes_[index]; }

  private:
    Result<void> value(int depth, std::string_view key);
    Result<std::string_view> string();
    Result<double> number(std::string_view& source);
    void space();
    Error wrong(const char* what) const;
    bool take(char c);

    std::span<char> text_;
    std::size_t at_ = 0;
    int count_ = 0;
    JsonNode nodes_[max_nodes];
};

}  // namespace slmd::wire
