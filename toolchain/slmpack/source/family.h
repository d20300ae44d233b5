// Model families as data (models/families/*.family): which key is which parameter, and which tensor is which.
#pragma once
#include <functional>
#include <optional>
#include <string>
#include <string_view>
#include <vector>

#include "base/result.h"
#include "image/format.h"

namespace slmd::pack {

enum class Form { gguf, hugging_face, llama2c };

struct Family {
    struct Param {
        std::string name, gguf, hugging_face, absent;
    };
    struct Requirement {
        Form form;
        std::string key, value;
    };
    struct Tensor {
        std::string name, rows, cols, gguf, hugging_face;
        bool rope, untied, plus_one;
    };
    // A property of layers in a period: `sliding` holds for all but the last layer of each period, `no_rope` for that
    // one. Period 0: sliding holds for all.
    struct Pattern {
        std::string name, gguf, hugging_face;
        std::uint32_t period;
    };
    struct Ignored {
        Form form;
        std::string name;
    };
    std::string name;
    std::vector<std::string> gguf, hugging_face;  // the architectures that it covers
    std::vector<Form> pairs;                      // the forms whose query and key rows are adjacent pairs
    bool gelu = false;
    bool encoder = false;  // as BERT: no RoPE, nothing is written
    std::vector<Pattern> patterns;
    std::vector<Param> params;
    std::vector<Requirement> requirements;
    std::vector<Tensor> tensors;
    std::vector<Ignored> ignored;
    std::vector<std::string> llama2c;
};

// The texts of models/families, compiled in.
const std::vector<std::string_view>& family_texts();
// One table; `like NAME` starts it from another. Errors name the line.
Result<Family> parse_family(std::string_view text);
// not_supported lists what there is.
Result<Family> find_family(Form form, const std::string& architecture);

// By its own name, as an image's params have it. Errors: not_supported.
Result<Family> family_named(const std::string& name);

// The values of the first key of `a|b` that is there: one number, or a list (a flag a layer); empty when there is none;
// an error when it is neither.
using NumbersOf = std::function<Result<std::vector<double>>(const std::string& keys)>;
// All parameters of the family, checked for sense. embedding_rows stands in where the vocabulary has no key. Errors
// name the key.
Result<image::ModelParams> fill_params(const Family& family, Form form, const NumbersOf& numbers,
                                       std::uint32_t embedding_rows);
// A size by its name in the table: a parameter, "q", "kv", a number, or a product of those. nullopt: no such name.
std::optional<std::uint32_t> size_named(const image::ModelParams& params, std::string_view name);
// What any engine may take for granted: nothing zero, heads a multiple of kv_heads, no size that could overflow. Errors
// name the parameter.
Result<void> check_params(const image::ModelParams& params);

struct Expected {
    std::string name, source;  // the image's, and the source's in that form
    std::uint32_t first_row;   // of the source's tensor, which may hold several of ours
    std::uint32_t rows, cols;
    bool rope, plus_one;
    // Of experts: our rows are so many runs, one behind the other. A % in the source's name stands for the number of
    // the run, which is a tensor of its own; without it, the source's rows are as many runs, and each holds one of
    // ours.
    std::uint32_t parts = 1;
    std::string source_of(std::uint32_t part) const;
};
// Every tensor of the model, in execution order.
std::vector<Expected> expected_tensors(const Family& family, Form form, const image::ModelParams& params);
bool is_ignored(const Family& family, Form form, const std::string& name);

// Text of a source in an error message: printable, at most 64 bytes.
std::string shown(std::string_view text);
// The model's name for people: the file's or folder's, less a number format at its end.
void set_name(image::ModelParams& params, const std::string& path);

}  // namespace slmd::pack
