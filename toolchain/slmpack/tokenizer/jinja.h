// Chat templates as they are published: a bounded subset of Jinja, read and rendered as Hugging Face's transformers
// does (trim_blocks, lstrip_blocks, no tools, no documents). Used when packing only. All input is hostile: nesting,
// texts, lists and steps are bounded, and a template can reach nothing but what it is given.
//
// The subset: {{ }}, {% if elif else for set macro break continue generation %}, {# #}, white space control; integers,
// strings, lists, mappings, namespace(), slices, methods of strings and mappings, the filters and tests of
// jinja_library.cpp. Syntax outside the subset is refused where it stands; a filter, test, function or method that is
// not known, where rendering reaches it: the branches that call tools need not be understood to render a conversation.
#pragma once
#include <cstdint>
#include <ctime>
#include <memory>
#include <span>
#include <string>
#include <string_view>
#include <utility>
#include <vector>

#include "base/result.h"

namespace slmd::pack::jinja {

constexpr std::size_t max_source = 256u << 10, max_text = 64u << 10, max_items = 4096;
constexpr int max_depth = 128;  // of statements and expressions in one another

struct Message {
    std::string role, content;
};

struct Context {
    std::span<const Message> messages{};
    std::string bos_token{}, eos_token{};  // empty: the tokenizer names none
    // What strftime_now() says. To `is defined` there is no such function, so that a template with a date of its own
    // to fall back to uses it and the image does not depend on the day.
    std::time_t now = 0;
};

struct Rendered {
    std::string text;
    std::vector<std::pair<std::size_t, int>> lines;  // from this byte on, the text comes from this line of the template

    int line_at(std::size_t byte) const;
};

struct Block;

class Template {
  public:
    // Errors: not_supported, "line N: ...".
    static Result<Template> parse(std::string_view source);

    // With add_generation_prompt. steps: what rendering may still cost, taken from; about one a node and 64 bytes.
    // Errors: incorrect_parameters when the template calls raise_exception(), not_supported for what the subset lacks
    // and for what is an error in Jinja; both "line N: ...".
    Result<Rendered> render(const Context& context, std::int64_t& steps) const;

  private:
    std::shared_ptr<const Block> program_;
};

}  // namespace slmd::pack::jinja
