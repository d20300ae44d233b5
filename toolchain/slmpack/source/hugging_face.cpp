// A Hugging Face folder: config.json, model.safetensors or its shards, the tokenizer's files.
#include <cmath>
#include <filesystem>
#include <numbers>
#include <set>

#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

using nlohmann::json;

// "a|b.c": the first that is there and not null; `none` otherwise.
const json& lookup(const json& config, const std::string& keys) {
    static const json none;
    for (std::size_t at = 0; at <= keys.size();) {
        const std::size_t end = std::min(keys.find('|', at), keys.size());
        const std::string key = keys.substr(at, end - at);
        const auto dot = key.find('.');
        const json* v = &config;
        for (const std::string& part : dot == key.npos
                                           ? std::vector<std::string>{key}
                                           : std::vector<std::string>{key.substr(0, dot), key.substr(dot + 1)})
            v = v->is_object() && v->contains(part) ? &(*v)[part] : &none;
        if (!v->is_null()) return *v;
        at = end + 1;
    }
    return none;
}

Result<std::optional<double>> number_in(const json& config, const std::string& keys) {
    const json& v = lookup(config, keys);
    if (v.is_null()) return std::optional<double>{};
    if (!v.is_number()) return Error::make(Code::model_format, "config.json: key %s is not a number", keys.c_str());
    return std::optional<double>(v.get<double>());
}

Result<double> needed(const json& scaling, const char* key, double least) {
    const auto v = TRY(number_in(scaling, key));
    if (!v || !(*v >= least && *v <= 1e9))
        return Error::make(Code::model_format, "config.json: RoPE scaling needs %s, a number from %g to 1e9", key,
                           least);
    return *v;
}

bool equals(const json& value, const std::string& wanted) {
    if (value.is_string()) return value.get<std::string>() == wanted;
    if (value.is_number()) return json(value.get<double>()) == json::parse(wanted, nullptr, false);
    return value.dump() == wanted;
}

// Scaling as in transformers/modeling_rope_utils.py.
Result<std::vector<float>> rope_frequencies(const json& config, const image::ModelParams& p) {
    std::vector<float> f = plain_inv_freq(p);
    const json& scaling = lookup(config, "rope_parameters|rope_scaling");
    const json& type = lookup(scaling, "rope_type|type");
    if (type.is_null() || equals(type, "default")) return f;
    if (equals(type, "linear")) {
        const double factor = TRY(needed(scaling, "factor", 1e-3));
        for (float& v : f) v = float(v / factor);
        return f;
    }
    if (!equals(type, "llama3"))
        return Error::make(Code::not_supported,
                           "config.json: RoPE scaling %s is not supported: default, linear and llama3 are",
                           shown(type.dump()).c_str());

    // Long wavelengths are slowed by the factor, short ones stay, those between are mixed.
    const double factor = TRY(needed(scaling, "factor", 1e-3)), low = TRY(needed(scaling, "low_freq_factor", 1e-3)),
                 high = TRY(needed(scaling, "high_freq_factor", 1e-3));
    const double old = TRY(needed(scaling, "original_max_position_embeddings", 1));
    if (!(high > low))
        return Error::make(Code::model_format,
                           "config.json: RoPE scaling: high_freq_factor %g must be above low_freq_factor %g", high,
                           low);
    for (float& v : f) {
        const double wavelength = 2 * std::numbers::pi / v;
        if (wavelength < old / high) continue;
        const double smooth = wavelength > old / low ? 0 : (old / wavelength - low) / (high - low);
        v = float((1 - smooth) * v / factor + smooth * v);
    }
    return f;
}

Result<std::string> file_text(const std::string& path) {
    const FileBytes file = TRY(FileBytes::open(path));
    if (file.bytes.size() > 16u << 20)
        return Error::make(Code::model_format, "%.150s: %zu bytes: too long for a text of settings", path.c_str(),
                           file.bytes.size());
    return std::string(reinterpret_cast<const char*>(file.bytes.data()), file.bytes.size());
}

// chat_template.jinja, or the entry of tokenizer_config.json: a text, or a list with one named "default".
Result<std::string> folder_chat_template(const std::string& folder) {
    if (std::filesystem::exists(folder + "/chat_template.jinja")) return file_text(folder + "/chat_template.jinja");
    if (!std::filesystem::exists(folder + "/tokenizer_config.json")) return std::string();
    const std::string text = TRY(file_text(folder + "/tokenizer_config.json"));
    const json config = TRY(parse_json(text, "tokenizer_config.json"));
    const json& t = lookup(config, "chat_template");
    if (t.is_string()) return t.get<std::string>();
    if (t.is_array())
        for (const auto& entry : t)
            if (equals(lookup(entry, "name"), "default") && lookup(entry, "template").is_string())
                return entry["template"].get<std::string>();
    return std::string();
}

}  // namespace

Result<std::unique_ptr<Source>> open_hugging_face(std::string_view config_text,
                                                  // NOLINTNEXTLINE(performance-unnecessary-value-param): moved from
                                                  std::vector<std::pair<std::string, FileBytes>> shards,
                                                  const std::string& path) {
    const json config = TRY(parse_json(config_text, "config.json"));
    const json& architectures = lookup(config, "architectures");
    const json& architecture =
        architectures.is_array() && !architectures.empty() ? architectures[0] : lookup(config, "model_type");
    if (!architecture.is_string())
        return Error::make(Code::model_format, "config.json: it names neither architectures nor a model_type");
    const Family family = TRY(find_family(Form::hugging_face, architecture.get<std::string>()));
    if (const json& q = lookup(config, "quantization_config"); !q.is_null())
        return Error::make(Code::not_supported,
                           "config.json: the weights are quantized (%s): take the unquantized model, or a GGUF of it",
                           shown(lookup(q, "quant_method").dump()).c_str());

    auto s = std::make_unique<StoredSource>();
    s->path = path;
    s->format = "safetensors";
    std::map<std::string, StoredTensor> stored;
    for (auto& [name, bytes] : shards) {
        s->files.push_back(std::move(bytes));
        if (auto r = read_safetensors(s->files.back().bytes, name, stored); !r) return r.error();
    }
    std::uint32_t embedding_rows = 0;
    for (const auto& t : family.tensors)
        if (const auto found = stored.find(t.hugging_face); t.name == "token_embd" && found != stored.end())
            embedding_rows = found->second.rows;

    s->params = TRY(fill_params(
        family, Form::hugging_face, [&](const std::string& keys) { return number_in(config, keys); }, embedding_rows));
    for (const auto& r : family.requirements) {
        if (r.form != Form::hugging_face) continue;
        const json& v = lookup(config, r.key);
        if (!v.is_null() && !equals(v, r.value))
            return Error::make(Code::not_supported, "config.json: %s is %s: family %s is supported with %s only",
                               r.key.c_str(), shown(v.dump()).c_str(), family.name.c_str(), r.value.c_str());
    }
    const json& tied = lookup(config, "tie_word_embeddings");
    if (!tied.is_null() && !tied.is_boolean())
        return Error::make(Code::model_format, "config.json: key tie_word_embeddings is neither true nor false");
    if (tied.is_boolean() && tied.get<bool>()) s->params.flags |= image::flag_tied_output;
    set_name(s->params, path);
    if (auto r = s->take(family, Form::hugging_face, std::move(stored)); !r) return r.error();
    s->inv_freq = TRY(rope_frequencies(config, s->params));
    return std::unique_ptr<Source>(std::move(s));
}

Result<std::unique_ptr<Source>> open_hugging_face(const std::string& folder) {
    namespace fs = std::filesystem;
    if (!fs::exists(folder + "/config.json"))
        return Error::make(Code::not_found, "%.120s: the folder has no config.json: it is no Hugging Face model",
                           folder.c_str());
    std::set<std::string> names;
    if (fs::exists(folder + "/model.safetensors")) {
        names.insert("model.safetensors");
    } else if (fs::exists(folder + "/model.safetensors.index.json")) {
        const std::string text = TRY(file_text(folder + "/model.safetensors.index.json"));
        const json index = TRY(parse_json(text, "model.safetensors.index.json"));
        const json& map = lookup(index, "weight_map");
        if (!map.is_object() || map.empty())
            return Error::make(Code::model_format, "model.safetensors.index.json: key weight_map is missing or empty");
        for (const auto& [tensor, file] : map.items()) {
            const std::string name = file.is_string() ? file.get<std::string>() : "";
            if (name.empty() || name.find('/') != name.npos || !name.ends_with(".safetensors"))
                return Error::make(Code::model_format,
                                   "model.safetensors.index.json: tensor %s: \"%s\" is no safetensors file beside it",
                                   shown(tensor).c_str(), shown(name).c_str());
            names.insert(name);
        }
    } else {
        return Error::make(
            Code::not_found, "%.120s: neither model.safetensors nor model.safetensors.index.json%s", folder.c_str(),
            fs::exists(folder + "/pytorch_model.bin") ? "; pytorch_model.bin is not read: save it as safetensors" : "");
    }
    std::vector<std::pair<std::string, FileBytes>> shards;
    for (const auto& name : names) shards.emplace_back(name, TRY(FileBytes::open(folder + "/" + name)));
    const std::string config = TRY(file_text(folder + "/config.json"));
    auto s = TRY(open_hugging_face(config, std::move(shards), folder));
    s->chat_template = TRY(folder_chat_template(folder));
    auto tokenizer = read_tokenizer_folder(folder);
    if (!tokenizer && tokenizer.error().code == Code::not_found) return s;  // weights alone: logits can be had
    s->tokenizer = TRY(std::move(tokenizer));
    if (s->tokenizer.tokens.size() > s->params.vocab)
        return Error::make(Code::model_format, "%.120s: the tokenizer has %zu tokens, the embedding %u rows",
                           folder.c_str(), s->tokenizer.tokens.size(), s->params.vocab);
    return s;
}

}  // namespace slmd::pack
