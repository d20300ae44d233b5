// A bounded JSON reader (RFC 8259): in place, into nodes that the caller gives, nothing allocated.
#pragma once
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd {

enum class JsonType : unsigned char { null, boolean, number, string, array, object };

struct JsonNode {
    JsonType type = JsonType::null;
    bool truth = false;
    int next = 0;           // index behind this value and all that it holds
    std::string_view key;   // in an object
    std::string_view text;  // a string without its escapes; a number, or what was left unread, as it was written
    double number = 0;
};

// A byte of a string as JSON writes it: itself, or \", \\ or \u00XX, which then is in out.
std::string_view json_written(const char& c, std::span<char, 6> out);

class JsonReader {
  public:
    JsonReader(std::span<JsonNode> nodes, int max_depth) : nodes_(nodes), max_depth_(max_depth) {}
    JsonReader(const JsonReader&) = delete;
    JsonReader& operator=(const JsonReader&) = delete;

    // Objects and arrays that are members of one of these names are not read, but left as they are written: no more
    // than their brackets and quotes have to be right. The names stay the caller's.
    void leave(std::span<const std::string_view> keys) { left_ = keys; }
    // Reads exactly one value. Strings are unescaped within text, to which the nodes point. Errors:
    // incorrect_parameters with the column, and the line after the first; invalid_characters (not UTF-8).
    Result<void> parse(std::span<char> text);
    const JsonNode& root() const { return nodes_[0]; }
    // The member of an object, or null. The last one wins, as in JSON.parse.
    const JsonNode* find(const JsonNode& object, std::string_view key) const;
    // Members or elements: for (i = first(n); i < n.next; i = node(i).next)
    int first(const JsonNode& node) const { return static_cast<int>(&node - nodes_.data()) + 1; }
    const JsonNode& node(int index) const { return nodes_[static_cast<std::size_t>(index)]; }
    int count() const { return count_; }

  private:
    Result<void> value(int depth, std::string_view key);
    Result<std::string_view> string();
    Result<double> number(std::string_view& source);
    void space();
    Error wrong(const char* what, Code code = Code::incorrect_parameters) const;
    bool take(char c);
    Result<std::string_view> skip();

    std::span<char> text_;
    std::size_t at_ = 0, line_begin_ = 0;
    int count_ = 0, line_ = 1;
    std::span<JsonNode> nodes_;
    int max_depth_;
    std::span<const std::string_view> left_{};
};

}  // namespace slmd
