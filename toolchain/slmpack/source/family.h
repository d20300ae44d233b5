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
        bool rope, untied;
    };
    struct Ignored {
        Form form;
        std::string name;
    };
    std::string name;
    std::vector<std::string> gguf, hugging_face;  // the architectures that it covers
    std::vector<Form> pairs;                      // the forms whose query and key rows are adjacent pairs
    std::vector<Param> params;
    std::vector<Requirement> requirements;
    std::vector<Tensor> tensors;
    std::vector<Ignored> ignored;
    std::vector<std::string> llama2c;
};

// The texts of models/families, compiled in.
const std::vector<std::string_view>& family_texts();
// One table. Errors name the line.
Result<Family> parse_family(std::string_view text);
// not_supported lists what there is.
Result<Family> find_family(Form form, const std::string& architecture);

// The value of the first key of `a|b` that is there, as a number; nullopt when there is none; an error when it is not a
// number.
using NumberOf = std::function<Result<std::optional<double>>(const std::string& keys)>;
// All parameters of the family, checked for sense. embedding_rows stands in where the vocabulary has no key. Errors
// name the key.
Result<image::ModelParams> fill_params(const Family& family, Form form, const NumberOf& number,
                                       std::uint32_t embedding_rows);
// A size by its name in the table: a parameter, "q", "kv" or a number. nullopt: no such name.
std::optional<std::uint32_t> size_named(const image::ModelParams& params, std::string_view name);
// What any engine may take for granted: nothing zero, heads a multiple of kv_heads, no size that could overflow. Errors
// name the parameter.
Result<void> check_params(const image::ModelParams& params);

struct Expected {
    std::string name, source;  // the image's, and the source's in that form
    std::uint32_t rows, cols;
    bool rope;
};
// Every tensor of the model, in execution order.
std::vector<Expected> expected_tensors(const Family& family, Form form, const image::ModelParams& params);
bool is_ignored(const Family& family, Form form, const std::string& name);

// 1 / theta^(2 i / rope_dims), i < rope_dims / 2.
std::vector<float> plain_inv_freq(const image::ModelParams& params);

// Text of a source in an error message: printable, at most 64 bytes.
std::string shown(std::string_view text);
// The model's name for people: the file's or folder's, less a number format at its end.
void set_name(image::ModelParams& params, const std::string& path);

}  // namespace slmd::pack
