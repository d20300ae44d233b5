// Inputs whose answers are known: lines {"input": ..., "output": ...} of a file; and what an agent answers to one.
#pragma once
#include <functional>
#include <span>
#include <string>
#include <vector>

#include "base/json.h"
#include "base/result.h"
#include "wire/json.h"

namespace slmd::client {

struct Labelled {
    std::string input, output;
    bool object;  // the input is a JSON object
};

// Calls use with each line of JSON of a file and its number; blank lines are left out, and the members that left names
// stay as they are written. Errors: storage_failure; incorrect_parameters with the line; those of use.
Result<void> read_json_lines(const char* path, std::span<const std::string_view> left,
                             const std::function<Result<void>(const JsonReader&, int)>& use);

// output may be left out where it is not asked for. Errors: storage_failure; incorrect_parameters with the line.
Result<std::vector<Labelled>> read_labelled(const char* path, bool outputs = true);

std::string text_of(const JsonReader& reader, const JsonNode& object, const char* name);
// "value" of a schema, "label" of a choice, or "text".
std::string answer_of(const wire::JsonLine& reader, const JsonNode& result);
// What is judged of it: of an agent with tools its calls, {"calls":[{"name": ..., "arguments": {...}}]}, if it made
// any.
std::string judged_of(const wire::JsonLine& reader, const JsonNode& result);
// Of the method "run". What is asked to judge the local model is not asked of another, and switches nothing.
std::string run_params(const char* name, std::string_view input, bool object);
std::string local_params(const char* name, std::string_view input, bool object);
// The same text, or the same JSON; {"text": ...} is wanted of an agent with tools that is to call none. memory: to read
// them in.
bool same_answer(const std::string& wanted, const std::string& got, std::span<std::byte> memory);

}  // namespace slmd::client
