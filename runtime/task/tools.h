// Functions that a model may call, as a program describes them, in the two texts that an answer needs. Nothing is
// called here.
#pragma once
#include <span>
#include <string_view>

#include "base/result.h"

namespace slmd::task {

class TextSink;

constexpr int max_tools = 64, max_calls = 8;

// Of an answer in words only.
constexpr std::string_view words_schema =
    R"({"type":"object","additionalProperties":false,"required":["text"],"properties":{"text":{"type":"string"}}})";

struct ToolTexts {
    std::string_view system;  // what the model is told
    std::string_view schema;  // of its answer; "": anything
};

// What calls are written as. bare: {"name", "arguments"}, several in an array, as models are trained to; listed:
// {"calls": [{"name", "arguments"}, ...]}, of which both are read. Words are {"text"}.
enum class CallForm : unsigned char { bare, listed };

// tools: a JSON array of {"type": "function", "function": {"name", "description", "parameters"}}, or of the inner
// objects alone; it is changed. parameters is a JSON Schema; what it does not name is no argument. choice: "auto" or ""
// (it may answer in words), "none", "required", or the name of the one to call. before: what the system text begins
// with. The texts are written into out. Errors: incorrect_parameters, naming the tool and what is wrong; text_too_long.
Result<ToolTexts> describe_tools(std::span<char> tools, std::string_view choice, std::string_view before,
                                 CallForm form, std::span<char> out);

// An answer of the form listed as the model wrote it, when it was bare; other texts as they are.
std::string_view bare_calls(std::string_view answer);

// Turns an answer of the form bare, as it comes, into one of the form listed.
class CallList {
  public:
    // Of an answer that obeys the schema.
    void append(std::string_view text, TextSink& sink);
    void end(TextSink& sink);

  private:
    enum : unsigned char { nothing, brace, quote, words, one, several } at_ = nothing;
};

}  // namespace slmd::task
