#include "toolchain/slmpack/source/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <filesystem>
#include <functional>
#include <map>
#include <optional>
#include <set>

#include "toolchain/slmpack/source/family.h"
#include "toolchain/slmpack/source/gguf.h"
#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {
namespace {

using image::ModelParams;
using nlohmann::json;
using Tensors = std::map<std::string, StoredTensor>;

// One of the seven matrices of a layer, by the image's name.
bool is_adapted(const std::string& name) {
    const auto suffix = name.substr(name.find('.', name.find('.') + 1) + 1);
    return name.starts_with("blk.") &&
           std::any_of(std::begin(image::adapted_matrices), std::end(image::adapted_matrices),
                       [&](const char* m) { return suffix == m; });
}

// The source's name of a module: its weight's without ".weight".
std::string module_of(const std::string& weight) {
    return weight.ends_with(".weight") ? weight.substr(0, weight.size() - 7) : weight;
}

// Values of a tensor, row by row: those of the tensor's row at(r) in row r.
Result<std::vector<float>> read_rows(const std::string& name, const StoredTensor& t, std::uint32_t rows,
                                     const std::function<std::uint32_t(std::uint32_t)>& at) {
    std::vector<float> values(std::size_t(rows) * t.cols);
    const std::size_t blocks = t.cols / t.type->block, row_bytes = blocks * t.type->bytes;
    for (std::uint32_t r = 0; r < rows; r++)
        t.type->dequantize(t.bytes.data() + at(r) * row_bytes, values.data() + std::size_t(r) * t.cols, blocks);
    for (std::size_t i = 0; i < values.size(); i++)
        if (!std::isfinite(values[i]))
            return Error::make(
                Code::model_integrity,
                "tensor %s holds a value that is not finite, at row %zu, column %zu: the file is damaged",
                shown(name).c_str(), i / t.cols, i % t.cols);
    return values;
}

// What differs between the two forms.
struct Naming {
    Form form;
    std::function<std::string(const std::string&weight)> a, b;  // the tensors' names, by that of the base's
    // alpha / rank, or what it stands for; module: the base's name without ".weight".
    std::function<Result<double>(const std::string& module, std::uint32_t rank)> scale;
};

// Takes all tensors, and refuses what is left over.
Result<std::vector<AdapterTarget>> take(const Family& family, const Naming& naming, const ModelParams& base,
                                        Tensors tensors) {
    TRY(check_params(base));
    const auto expected = expected_tensors(family, naming.form, base);
    const bool pairs = std::find(family.pairs.begin(), family.pairs.end(), naming.form) != family.pairs.end();
    std::map<std::string, std::uint64_t> rows_of;  // of a source tensor, which may hold several of ours
    for (const auto& e : expected) rows_of[e.source] += e.rows;
    std::vector<AdapterTarget> targets;
    std::set<std::string> used;
    for (const auto& e : expected) {
        const std::string a_name = naming.a(e.source), b_name = naming.b(e.source);
        const auto a = tensors.find(a_name), b = tensors.find(b_name);
        if (a == tensors.end() && b == tensors.end()) continue;
        if (!is_adapted(e.name)) continue;  // refused below
        if (a == tensors.end() || b == tensors.end())
            return Error::make(Code::model_format, "tensor %s is missing: %s has one half alone; download it again",
                               shown(a == tensors.end() ? a_name : b_name).c_str(),
                               shown(a == tensors.end() ? b_name : a_name).c_str());
        const StoredTensor &low = a->second, &high = b->second;
        const std::uint32_t rank = low.rows;
        if (rank > image::max_rank)
            return Error::make(Code::not_supported, "tensor %s has rank %u: at most %u", shown(a_name).c_str(), rank,
                               image::max_rank);
        if (low.cols != e.cols || high.cols != rank || high.rows != rows_of[e.source])
            return Error::make(Code::model_format,
                               "%s is %u x %u and its B %u x %u: the base's matrix is %llu x %u; is --base the model "
                               "that was fine-tuned?",
                               shown(a_name).c_str(), low.rows, low.cols, high.rows, high.cols,
                               static_cast<unsigned long long>(rows_of[e.source]), e.cols);
        const double scale = TRY(naming.scale(module_of(e.source), rank));
        AdapterTarget t{e.name, rank, e.rows, e.cols, scale, {}, {}};
        if (!(std::abs(t.scale) > 0 && std::abs(t.scale) <= 1e6))
            return Error::make(Code::model_format, "the scale of %s (alpha by rank %u) is %g: not a number up to 1e6",
                               shown(module_of(e.source)).c_str(), rank, t.scale);
        t.a = TRY(read_rows(a_name, low, rank, [](std::uint32_t r) { return r; }));
        t.b = TRY(read_rows(b_name, high, e.rows, [&](std::uint32_t r) {
            return e.first_row + (pairs && e.rope ? row_of_pairs(base, r) : r);
        }));
        targets.push_back(std::move(t));
        used.insert({a_name, b_name});
    }
    for (const auto& [name, t] : tensors)
        if (!used.contains(name))
            return Error::make(Code::not_supported,
                               "tensor %s: adapters of attention and feed-forward matrices of a %s model of %u layers "
                               "are packed, nothing else",
                               shown(name).c_str(), family.name.c_str(), base.layers);
    if (targets.empty()) return Error::make(Code::model_format, "the adapter changes no matrix: it has no tensors");
    return targets;
}

// ---- PEFT

constexpr char peft_prefix[] = "base_model.model.";

bool is_set(const json& v) {
    return !v.is_null() && v != false && !((v.is_array() || v.is_object() || v.is_string()) && v.empty());
}

Result<double> number(const json& config, const char* key) {
    const auto found = config.find(key);
    if (found == config.end() || !found->is_number())
        return Error::make(Code::model_format, "adapter_config.json: key %s is missing or not a number", key);
    return found->get<double>();
}

// What would change the answers and is not plain LoRA.
Result<void> refuse_unsupported(const json& config) {
    const auto type = config.value("peft_type", json());
    if (type != "LORA")
        return Error::make(Code::not_supported, "adapter_config.json: peft_type is %s: LORA is supported",
                           shown(type.dump()).c_str());
    for (const char* key : {"use_dora", "use_qalora", "use_bdlora", "lora_bias", "fan_in_fan_out", "modules_to_save",
                            "trainable_token_indices", "alora_invocation_tokens", "target_parameters",
                            "layer_replication", "megatron_config", "kasa_config", "velora_config", "arrow_config"})
        if (const auto v = config.find(key); v != config.end() && is_set(*v))
            return Error::make(Code::not_supported, "adapter_config.json: %s is %s: only plain LoRA is supported", key,
                               shown(v->dump()).c_str());
    if (const auto v = config.find("bias"); v != config.end() && is_set(*v) && *v != "none")
        return Error::make(Code::not_supported, "adapter_config.json: bias is %s: only \"none\" is supported",
                           shown(v->dump()).c_str());
    // These begin with a change of the base itself, which the adapter's file does not hold.
    if (const auto v = config.find("init_lora_weights"); v != config.end() && v->is_string())
        for (const char* way : {"pissa", "olora", "corda", "loftq", "lora_ga"})
            if (v->get_ref<const std::string&>().starts_with(way))
                return Error::make(Code::not_supported,
                                   "adapter_config.json: init_lora_weights is %s, which changed the base: save it "
                                   "converted to plain LoRA",
                                   shown(v->dump()).c_str());
    return {};
}

// The entry of rank_pattern or alpha_pattern for a module: its name, or the end of it from a dot on.
Result<std::optional<double>> pattern_of(const json& config, const char* key, const std::string& module) {
    using Maybe = std::optional<double>;
    const auto found = config.find(key);
    if (found == config.end() || !is_set(*found)) return Maybe{};
    if (!found->is_object()) return Error::make(Code::model_format, "adapter_config.json: key %s is no table", key);
    for (const auto& [pattern, value] : found->items()) {
        // "^NAME" is the whole name; a dot of a regular expression stands for a dot here.
        const bool whole = pattern.starts_with('^');
        const std::string name = pattern.substr(whole ? 1 : 0);
        if (name.empty() || name.find_first_of("\\^$*+?()[]{}|") != name.npos)
            return Error::make(Code::not_supported,
                               "adapter_config.json: %s names \"%s\": a regular expression; write the modules' names",
                               key, shown(pattern).c_str());
        if (!value.is_number())
            return Error::make(Code::model_format, "adapter_config.json: %s of \"%s\" is not a number", key,
                               shown(pattern).c_str());
        if (module == name || (!whole && module.ends_with("." + name))) return Maybe(value.get<double>());
    }
    return Maybe{};
}

// What the config says is adapted must be there: files are saved in part, too.
Result<void> check_targets(const json& config, const Family& family, const ModelParams& base, const Tensors& tensors) {
    for (const char* key : {"layers_to_transform", "layers_pattern", "exclude_modules"})
        if (config.contains(key) && is_set(config[key])) return {};
    const auto list = config.find("target_modules");
    if (list == config.end() || !list->is_array()) return {};  // a regular expression, or all: the tensors say which
    for (const auto& e : expected_tensors(family, Form::hugging_face, base))
        for (const json& target : *list) {
            const std::string module = module_of(e.source);
            if (!target.is_string() || !module.ends_with("." + target.get<std::string>())) continue;
            if (!tensors.contains(peft_prefix + module + ".lora_A.weight"))
                return Error::make(Code::model_format,
                                   "target_modules names %s, and %s has no lora_A: it is for another model than the base, or not whole",
                                   shown(target.get<std::string>()).c_str(), shown(module).c_str());
        }
    return {};
}

}  // namespace

Result<Adapter> open_peft(std::string_view text, const FileBytes& file, const std::string& path,
                          const ModelParams& base) {
    const json config = TRY(parse_json(text, "adapter_config.json"));
    if (!config.is_object()) return Error::make(Code::model_format, "adapter_config.json is no JSON object");
    TRY(refuse_unsupported(config));
    const double r = TRY(number(config, "r")), alpha = TRY(number(config, "lora_alpha"));
    const auto rs = config.find("use_rslora");
    const bool rslora = rs != config.end() && is_set(*rs);
    const Family family = TRY(family_named(base.family));
    Tensors tensors;
    TRY(read_safetensors(file.bytes, "adapter_model.safetensors", tensors));
    for (const auto& [name, t] : tensors)
        if (!t.type->dequantize)
            return Error::make(Code::not_supported, "tensor %s is of type %s: slmpack reads F32 F16 BF16",
                               shown(name).c_str(), t.type->name);
    TRY(check_targets(config, family, base, tensors));
    Naming naming{Form::hugging_face,
                  [](const std::string& w) { return peft_prefix + module_of(w) + ".lora_A.weight"; },
                  [](const std::string& w) { return peft_prefix + module_of(w) + ".lora_B.weight"; },
                  {}};
    naming.scale = [&](const std::string& module, std::uint32_t rank) -> Result<double> {
        const double want = TRY(pattern_of(config, "rank_pattern", module)).value_or(r);
        if (want != rank)
            return Error::make(Code::model_format,
                               "%s has rank %u, adapter_config.json says %g: the two files do not belong together",
                               shown(module).c_str(), rank, want);
        return TRY(pattern_of(config, "alpha_pattern", module)).value_or(alpha) / (rslora ? std::sqrt(rank) : rank);
    };
    auto targets = TRY(take(family, naming, base, std::move(tensors)));
    return Adapter{"PEFT", path, std::move(targets)};
}

Result<Adapter> open_gguf_adapter(const FileBytes& file, const std::string& path, const ModelParams& base) {
    const Gguf g = TRY(Gguf::open(file.bytes));
    if (TRY(g.text("general.type")).value_or("model") != "adapter")
        return Error::make(Code::model_format, "%.120s: a GGUF whose general.type is not adapter: a model is imported",
                           path.c_str());
    if (const auto type = TRY(g.text("adapter.type")).value_or(""); type != "lora")
        return Error::make(Code::not_supported, "GGUF: adapter.type is \"%s\": lora is supported", shown(type).c_str());
    if (g.has("adapter.alora.invocation_tokens"))
        return Error::make(Code::not_supported, "GGUF: adapter.alora.invocation_tokens: only plain LoRA is supported");
    const auto alpha = TRY(g.number("adapter.lora.alpha"));
    const std::string arch = TRY(g.text("general.architecture")).value_or("");
    const Family family = TRY(find_family(Form::gguf, arch));
    // Names and the order of rows are the architecture's. A family without one of its own (Mistral) is Llama's there.
    const Family of_base = TRY(family_named(base.family));
    if (family.name != of_base.name && !(of_base.gguf.empty() && family.name == "llama"))
        return Error::make(Code::model_format, "the adapter is for architecture %s, the base is of family %s",
                           shown(arch).c_str(), of_base.name.c_str());
    Tensors tensors;
    for (const auto& [name, t] : g.tensors()) {
        const std::uint64_t rows = t.dims.size() > 1 ? t.dims[1] : 1;
        if (t.dims.size() > 2 || rows > UINT32_MAX || t.dims[0] > UINT32_MAX)
            return Error::make(Code::not_supported, "tensor %s is not a matrix", shown(name).c_str());
        tensors[name] = {t.type, std::uint32_t(rows), std::uint32_t(t.dims[0]), t.bytes};
    }
    Naming naming{Form::gguf,
                  [](const std::string& w) { return w + ".lora_a"; },
                  [](const std::string& w) { return w + ".lora_b"; },
                  {}};
    // As llama.cpp has it (llama-adapter.h, get_scale): alpha 0 or absent is a scale of 1.
    naming.scale = [&](const std::string&, std::uint32_t rank) -> Result<double> {
        return alpha.value_or(0) == 0 ? 1 : *alpha / rank;
    };
    auto targets = TRY(take(family, naming, base, std::move(tensors)));
    return Adapter{"GGUF v" + std::to_string(g.version()), path, std::move(targets)};
}

Result<Adapter> open_adapter(const std::string& path, const ModelParams& base) {
    std::error_code none;
    if (std::filesystem::is_directory(path, none)) {
        if (!std::filesystem::exists(path + "/adapter_config.json"))
            return Error::make(Code::not_found, "%.120s: the folder has no adapter_config.json: it is no PEFT adapter",
                               path.c_str());
        if (!std::filesystem::exists(path + "/adapter_model.safetensors"))
            return Error::make(Code::not_found, "%.120s: no adapter_model.safetensors%s", path.c_str(),
                               std::filesystem::exists(path + "/adapter_model.bin")
                                   ? "; adapter_model.bin is not read: save it as safetensors"
                                   : "");
        return open_peft(TRY(file_text(path + "/adapter_config.json")),
                         TRY(FileBytes::open(path + "/adapter_model.safetensors")), path, base);
    }
    const FileBytes file = TRY(FileBytes::open(path));
    if (file.bytes.size() >= 4 && std::memcmp(file.bytes.data(), "GGUF", 4) == 0)
        return open_gguf_adapter(file, path, base);
    return Error::make(Code::not_supported,
                       "%.120s: not an adapter that slmpack knows: a folder of PEFT's, or a GGUF of llama.cpp's",
                       path.c_str());
}

}  // namespace slmd::pack
