// A Hugging Face folder: config.json, model.safetensors or its shards, the tokenizer's files.
#include <cmath>
#include <filesystem>
#include <set>
#include <sstream>

#include "toolchain/slmpack/source/four_bit.h"
#include "toolchain/slmpack/source/rope.h"
#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

using nlohmann::json;

// "a|b.c": the first that is there and not null; `none` otherwise.
const json& lookup(const json& config, const std::string& keys) {
    static const json none;
    std::istringstream alternatives(keys);
    for (std::string key; std::getline(alternatives, key, '|');) {
        const json* v = &config;
        std::istringstream path(key);
        for (std::string part; std::getline(path, part, '.');)
            v = v->is_object() && v->contains(part) ? &(*v)[part] : &none;
        if (!v->is_null()) return *v;
    }
    return none;
}

// A layer's entry in a list: a number, a flag, or a name of layer_types.
std::optional<double> number_of(const json& v) {
    if (v.is_number()) return v.get<double>();
    if (v.is_boolean()) return v.get<bool>() ? 1 : 0;
    if (v == "sliding_attention") return 1;
    if (v == "full_attention") return 0;
    return std::nullopt;
}

Result<std::vector<double>> numbers_in(const json& config, const std::string& keys) {
    const json& v = lookup(config, keys);
    std::vector<double> out;
    if (v.is_null()) return out;
    for (const json& each : v.is_array() ? v : json::array({v})) {
        const auto n = number_of(each);
        if (!n)
            return Error::make(Code::model_format, "config.json: key %s is not a number: %s", keys.c_str(),
                               shown(each.dump()).c_str());
        out.push_back(*n);
    }
    return out;
}

bool equals(const json& value, const std::string& wanted) {
    if (value.is_string()) return value.get<std::string>() == wanted;
    if (value.is_number()) return json(value.get<double>()) == json::parse(wanted, nullptr, false);
    return value.dump() == wanted;
}

Result<std::vector<float>> rope_frequencies(const json& config, image::ModelParams& p) {
    const json& scaling = lookup(config, "rope_parameters.full_attention|rope_parameters|rope_scaling");
    RopeScaling s;
    if (const json& type = lookup(scaling, "rope_type|type"); type.is_string()) s.type = type.get<std::string>();
    for (const auto& [key, to] : {std::pair{"factor", &s.factor},
                                  {"original_max_position_embeddings", &s.original_context},
                                  {"low_freq_factor", &s.low_freq_factor},
                                  {"high_freq_factor", &s.high_freq_factor},
                                  {"beta_fast", &s.beta_fast},
                                  {"beta_slow", &s.beta_slow},
                                  {"attention_factor", &s.attention_factor}}) {
        const auto v = TRY(numbers_in(scaling, key));
        if (!v.empty()) *to = v[0];
    }
    if (s.type == "yarn") {
        if (s.original_context == 0) s.original_context = p.context;
        for (const char* key : {"mscale", "mscale_all_dim"})
            if (!lookup(scaling, key).is_null())
                return Error::make(Code::not_supported, "config.json: RoPE scaling with %s is not supported", key);
    }
    return scaled_inv_freq(p, s);
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

// What sentence-transformers keeps beside an encoder: how long the texts are that it was made for, and how it pools.
Result<void> apply_sentence_transformers(const std::string& folder, image::ModelParams& p) {
    const auto file = [&](const char* name) -> Result<json> {
        if (!std::filesystem::exists(folder + "/" + name)) return json();
        const std::string text = TRY(file_text(folder + "/" + name));
        return parse_json(text, name);
    };
    const json settings = TRY(file("sentence_bert_config.json"));
    if (const auto longest = TRY(numbers_in(settings, "max_seq_length")); !longest.empty()) {
        if (!(longest[0] >= 2 && longest[0] <= 1 << 20) || longest[0] != std::floor(longest[0]))
            return Error::make(Code::model_format,
                               "sentence_bert_config.json: max_seq_length is %g: not a number of tokens", longest[0]);
        p.context = std::min(p.context, std::uint32_t(longest[0]));
    }
    const json pooling = TRY(file("1_Pooling/config.json"));
    if (pooling.is_null()) return {};
    for (const auto& [key, value] : pooling.items())
        if (key.starts_with("pooling_mode_") && (value == true) != (key == "pooling_mode_mean_tokens"))
            return Error::make(Code::not_supported,
                               "1_Pooling/config.json: %s is %s: the mean over the tokens is supported alone",
                               shown(key).c_str(), shown(value.dump()).c_str());
    return {};
}

}  // namespace

Result<std::unique_ptr<Source>> open_hugging_face(std::string_view config_text,
                                                  // NOLINTNEXTLINE(performance-unnecessary-value-param): moved from
                                                  std::vector<std::pair<std::string, FileBytes>> shards,
                                                  const std::string& path, const ShardIndex& index) {
    const json config = TRY(parse_json(config_text, "config.json"));
    const json& architectures = lookup(config, "architectures");
    const json& architecture =
        architectures.is_array() && !architectures.empty() ? architectures[0] : lookup(config, "model_type");
    if (!architecture.is_string())
        return Error::make(Code::model_format, "config.json: it names neither architectures nor a model_type");
    const Family family = TRY(find_family(Form::hugging_face, architecture.get<std::string>()));
    const json& quantization = lookup(config, "quantization_config");
    std::optional<FourBitConfig> four_bit;
    if (!quantization.is_null()) four_bit = TRY(read_four_bit_config(quantization));

    auto s = std::make_unique<StoredSource>();
    s->path = path;
    s->format = "safetensors";
    std::map<std::string, StoredTensor> stored;
    for (auto& shard : shards) {
        const std::string& name = shard.first;
        s->files.push_back(std::move(shard.second));
        const auto listed = index.find(name);
        const auto misplaced = [&](bool present) -> Result<void> {
            if (listed == index.end()) return {};
            for (const std::string& tensor : listed->second)
                if (stored.contains(tensor) == present)
                    return Error::make(
                        Code::model_format,
                        "tensor %s is not in %s, where model.safetensors.index.json says it is%s: download both again",
                        shown(tensor).c_str(), shown(name).c_str(), present ? ", but in another file" : "");
            return {};
        };
        TRY(misplaced(true));
        TRY(read_safetensors(s->files.back().bytes, name, stored));
        TRY(misplaced(false));
    }
    bool has_output = false;
    for (const auto& t : family.tensors)
        has_output |=
            t.name == "output" && (stored.contains(t.hugging_face) ||
                                   stored.contains(t.hugging_face.substr(0, t.hugging_face.rfind('.')) + ".qweight"));
    std::uint32_t embedding_rows = 0;
    for (const auto& t : family.tensors)
        if (const auto found = stored.find(t.hugging_face); t.name == "token_embd" && found != stored.end())
            embedding_rows = found->second.rows;

    s->params = TRY(fill_params(
        family, Form::hugging_face, [&](const std::string& keys) { return numbers_in(config, keys); }, embedding_rows));
    for (const auto& r : family.requirements) {
        if (r.form != Form::hugging_face) continue;
        const json& v = lookup(config, r.key);
        if (!v.is_null() && !equals(v, r.value))
            return Error::make(Code::not_supported, "config.json: %s is %s: family %s is supported with %s only",
                               r.key.c_str(), shown(v.dump()).c_str(), family.name.c_str(), r.value.c_str());
    }
    const bool encoder = (s->params.flags & image::flag_encoder) != 0;
    const json& tied = lookup(config, "tie_word_embeddings");
    if (!tied.is_null() && !tied.is_boolean())
        return Error::make(Code::model_format, "config.json: key tie_word_embeddings is neither true nor false");
    if (!encoder && (tied.is_boolean() ? tied.get<bool>() : !has_output)) s->params.flags |= image::flag_tied_output;
    set_name(s->params, path);
    if (four_bit) {
        std::set<std::string> expected;
        for (const auto& e : expected_tensors(family, Form::hugging_face, s->params))
            for (std::uint32_t i = 0; i < e.parts; i++) expected.insert(e.source_of(i));
        TRY(join_four_bit(
            *four_bit, [&](const std::string& name) { return expected.contains(name); }, stored, s->warnings));
    }
    for (const auto& [name, t] : stored)
        if (!t.packed && !t.type->dequantize && !is_ignored(family, Form::hugging_face, name))
            return Error::make(Code::not_supported, "tensor %s is of type %s: slmpack reads F32 F16 BF16%s",
                               shown(name).c_str(), t.type->name,
                               four_bit ? "" : "; config.json has no quantization_config that says what it holds");
    if (auto r = s->take(family, Form::hugging_face, std::move(stored)); !r) return r.error();
    if (encoder) return std::unique_ptr<Source>(std::move(s));
    s->inv_freq = TRY(rope_frequencies(config, s->params));
    if (s->params.rope_theta_local != 0)
        s->inv_freq_local = plain_inv_freq(s->params.rope_theta_local, s->params.rope_dims);
    return std::unique_ptr<Source>(std::move(s));
}

Result<std::unique_ptr<Source>> open_hugging_face(const std::string& folder) {
    namespace fs = std::filesystem;
    if (!fs::exists(folder + "/config.json"))
        return Error::make(Code::not_found, "%.120s: the folder has no config.json: it is no Hugging Face model",
                           folder.c_str());
    std::set<std::string> names;
    ShardIndex index;
    if (fs::exists(folder + "/model.safetensors")) {
        names.insert("model.safetensors");
    } else if (fs::exists(folder + "/model.safetensors.index.json")) {
        const std::string text = TRY(file_text(folder + "/model.safetensors.index.json"));
        index = TRY(read_shard_index(text));
        for (const auto& [name, tensors] : index) {
            if (!fs::exists(folder + "/" + name))
                return Error::make(Code::not_found,
                                   "%.100s: %s is missing, which model.safetensors.index.json names: download it too",
                                   folder.c_str(), shown(name).c_str());
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
    auto s = TRY(open_hugging_face(config, std::move(shards), folder, index));
    s->chat_template = TRY(folder_chat_template(folder));
    auto tokenizer = read_tokenizer_folder(folder);
    const bool encoder = (s->params.flags & image::flag_encoder) != 0;
    if (encoder) TRY(apply_sentence_transformers(folder, s->params));
    if (!encoder && !tokenizer && tokenizer.error().code == Code::not_found)
        return s;  // weights alone: logits can be had
    s->tokenizer = TRY(std::move(tokenizer));
    if (encoder != (s->tokenizer.model == TokenizerSpec::Model::wordpiece))
        return Error::make(Code::not_supported, "%.120s: %s", folder.c_str(),
                           encoder ? "an encoder is supported with WordPiece alone, and its tokenizer is another"
                                   : "WordPiece is supported for encoders alone");
    if (s->tokenizer.tokens.size() > s->params.vocab)
        return Error::make(Code::model_format, "%.120s: the tokenizer has %zu tokens, the embedding %u rows",
                           folder.c_str(), s->tokenizer.tokens.size(), s->params.vocab);
    return s;
}

}  // namespace slmd::pack
