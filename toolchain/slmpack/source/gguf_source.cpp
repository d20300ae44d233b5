#include "toolchain/slmpack/source/gguf_source.h"

#include <algorithm>
#include <cmath>
#include <filesystem>

#include "toolchain/slmpack/source/gguf.h"
#include "toolchain/slmpack/source/rope.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {
namespace {

// Names of pre-tokenizers that split text in the same way.
std::string canonical_pre(const std::string& name) {
    if (name == "llama3" || name == "llama-v3" || name == "llama-bpe") return "llama-bpe";
    if (name == "gpt2" || name == "gpt-2") return "gpt-2";
    return name;
}

// Control tokens that end an answer in the published families, whatever the file's eos is.
bool ends_by_name(const std::string& token) {
    for (const char* t :
         {"<|im_end|>", "<|eot_id|>", "<|eom_id|>", "<|end|>", "<|endoftext|>", "<|end_of_text|>", "<end_of_turn>"})
        if (token == t) return true;
    return false;
}

Result<std::int32_t> token_id(const Gguf& g, const char* key, std::size_t vocab) {
    const auto v = TRY(g.number(key));
    if (!v) return -1;
    if (*v == -1 || *v == 4294967295.0) return -1;  // written by some converters for "none"
    if (!(*v >= 0 && *v < double(vocab)) || *v != std::floor(*v))
        return Error::make(Code::model_format, "GGUF: key %s is %g: not a token of %zu", key, *v, vocab);
    return std::int32_t(*v);
}

Result<bool> flag(const Gguf& g, const char* key, bool otherwise) {
    const auto v = TRY(g.number(key));
    return v ? *v != 0 : otherwise;
}

Result<std::vector<float>> rope_frequencies(const Gguf& g, const std::map<std::string, Gguf::Tensor>& tensors,
                                            image::ModelParams& p, const std::string& arch) {
    RopeScaling scaling;
    const std::string prefix = arch + ".rope.scaling.";
    const auto take = [&](const std::string& key, double& to) -> Result<void> {
        if (const auto v = TRY(g.number(key))) to = *v;
        return {};
    };
    scaling.type = TRY(g.text(prefix + "type")).value_or("none");
    if (tensors.contains("rope_factors_long.weight") || tensors.contains("rope_factors_short.weight"))
        scaling.type = "longrope";
    const auto old = TRY(g.number(arch + ".rope.scale_linear"));
    if (old && scaling.type == "none") {
        scaling.type = "linear";
        scaling.factor = *old;
    }
    TRY(take(prefix + "factor", scaling.factor));
    TRY(take(prefix + "original_context_length", scaling.original_context));
    TRY(take(prefix + "yarn_beta_fast", scaling.beta_fast));
    TRY(take(prefix + "yarn_beta_slow", scaling.beta_slow));
    double temperature = 1;  // on top of YaRN's own
    TRY(take(prefix + "attn_factor", temperature));
    TRY(take(prefix + "yarn_attn_factor", temperature));
    if (scaling.type == "yarn" && scaling.original_context == 0) scaling.original_context = p.context;
    std::vector<float> f = TRY(scaled_inv_freq(p, scaling));
    if (temperature != 1) p.rope_scale = float(temperature * (p.rope_scale == 0 ? 1 : p.rope_scale));

    const auto found = tensors.find("rope_freqs.weight");  // Llama 3: a divisor for every frequency
    if (found == tensors.end()) return f;
    const auto& t = found->second;
    if (t.type->id != 0 || t.bytes.size() != f.size() * sizeof(float))
        return Error::make(Code::model_format,
                           "tensor rope_freqs.weight must be F32 with %zu values, half of the rotated dimensions",
                           f.size());
    for (std::size_t i = 0; i < f.size(); i++) {
        float divisor;
        t.type->dequantize(t.bytes.data() + i * sizeof(float), &divisor, 1);
        if (!(divisor > 0 && divisor < 1e9f))
            return Error::make(Code::model_format, "tensor rope_freqs.weight holds %g at %zu: not a divisor",
                               double(divisor), i);
        f[i] /= divisor;
    }
    return f;
}

// The place of a part among those of a split file, from 0; 0 of 1 for a file that is whole.
struct Split {
    std::uint32_t number = 0, count = 1;
};

Result<Split> split_of(const Gguf& g) {
    const double number = TRY(g.number("split.no")).value_or(0), count = TRY(g.number("split.count")).value_or(0);
    if (count == 0 || count == 1) return Split{};
    constexpr int most = 99999;  // a name has five digits
    if (!(count > 1 && count <= most && number >= 0 && number < count) || count != std::floor(count) ||
        number != std::floor(number))
        return Error::make(Code::model_format,
                           "GGUF: keys split.no and split.count are %g and %g: not a part of 1 to %d", number, count,
                           most);
    return Split{std::uint32_t(number), std::uint32_t(count)};
}

// What llama.cpp ends a part's name in; number from 0.
std::string part_ending(std::uint32_t number, std::uint32_t count) {
    char text[40];
    std::snprintf(text, sizeof text, "-%05u-of-%05u.gguf", number + 1, count);
    return text;
}

std::string file_name(const std::string& path) { return shown(std::filesystem::path(path).filename().string()); }

}  // namespace

Result<TokenizerSpec> read_gguf_tokenizer(const Gguf& g) {
    TokenizerSpec t;
    const auto model = TRY(g.text("tokenizer.ggml.model"));
    if (!model || *model == "no_vocab") return t;
    if (*model == "gpt2") {
        t.model = TokenizerSpec::Model::bpe;
    } else if (*model == "llama") {
        t.model = TokenizerSpec::Model::sentencepiece;
    } else {
        return Error::make(Code::not_supported,
                           "tokenizer \"%s\" (key tokenizer.ggml.model) is not supported: gpt2 and llama are",
                           shown(*model).c_str());
    }
    const bool bpe = t.model == TokenizerSpec::Model::bpe;
    t.tokens = TRY(g.texts("tokenizer.ggml.tokens"));
    const std::size_t n = t.tokens.size();
    if (n == 0) return Error::make(Code::model_format, "GGUF: key tokenizer.ggml.tokens is missing or empty");

    if (bpe) {
        t.pre = canonical_pre(TRY(g.text("tokenizer.ggml.pre")).value_or("default"));
        t.merges = TRY(g.texts("tokenizer.ggml.merges"));
        if (t.merges.empty())
            return Error::make(Code::model_format,
                               "GGUF: key tokenizer.ggml.merges is missing or empty: a BPE tokenizer needs its merges");
    } else {
        for (const double s : TRY(g.numbers("tokenizer.ggml.scores"))) t.scores.push_back(float(s));
        if (t.scores.size() != n)
            return Error::make(Code::model_format, "GGUF: key tokenizer.ggml.scores has %zu elements for %zu tokens",
                               t.scores.size(), n);
        for (const float s : t.scores)
            if (!std::isfinite(s))
                return Error::make(Code::model_format,
                                   "GGUF: key tokenizer.ggml.scores holds a value that is not finite");
    }
    for (const double v : TRY(g.numbers("tokenizer.ggml.token_type"))) {
        if (!(v >= 0 && v <= 6))
            return Error::make(Code::model_format, "GGUF: key tokenizer.ggml.token_type holds %g: not 0 to 6", v);
        t.types.push_back(v == 0 ? 1 : std::uint8_t(v));
    }
    if (!t.types.empty() && t.types.size() != n)
        return Error::make(Code::model_format, "GGUF: key tokenizer.ggml.token_type has %zu elements for %zu tokens",
                           t.types.size(), n);

    t.bos = TRY(token_id(g, "tokenizer.ggml.bos_token_id", n));
    t.eos = TRY(token_id(g, "tokenizer.ggml.eos_token_id", n));
    t.unk = TRY(token_id(g, "tokenizer.ggml.unknown_token_id", n));
    const auto end = [&](std::int32_t id) {
        if (id >= 0 && id != t.eos && std::find(t.ends.begin(), t.ends.end(), id) == t.ends.end()) t.ends.push_back(id);
    };
    end(TRY(token_id(g, "tokenizer.ggml.eot_token_id", n)));
    end(TRY(token_id(g, "tokenizer.ggml.eom_token_id", n)));
    for (std::size_t i = 0; i < t.types.size(); i++)
        if ((t.types[i] == 3 || t.types[i] == 4) && ends_by_name(t.tokens[i])) end(std::int32_t(i));

    // What llama.cpp assumes where the file is silent.
    t.ignore_merges = t.pre == "llama-bpe";
    t.add_bos = TRY(flag(g, "tokenizer.ggml.add_bos_token", !bpe || t.pre == "llama-bpe")) && t.bos >= 0;
    t.add_space_prefix = TRY(flag(g, "tokenizer.ggml.add_space_prefix", !bpe));
    return t;
}

Result<TokenizerSpec> read_gguf_tokenizer(const std::string& path) {
    const FileBytes file = TRY(FileBytes::open(path));
    return read_gguf_tokenizer(TRY(Gguf::open(file.bytes)));
}

Result<std::unique_ptr<Source>> open_gguf(FileBytes file, const std::string& path) {
    const Gguf g = TRY(Gguf::open(file.bytes));
    const Split split = TRY(split_of(g));
    std::vector<std::pair<std::string, FileBytes>> parts;
    parts.emplace_back(path, std::move(file));
    if (split.count == 1) return open_gguf(std::move(parts), path);
    const std::string ending = part_ending(split.number, split.count), first = part_ending(0, split.count);
    if (!path.ends_with(ending))
        return Error::make(Code::incorrect_parameters,
                           "part %u of %u of a split GGUF: its name must end in %s, so that the others are found: "
                           "rename it, or join the parts (llama-gguf-split --merge)",
                           split.number + 1, split.count, ending.c_str());
    const std::string stem = path.substr(0, path.size() - ending.size());
    if (split.number != 0)
        return Error::make(Code::incorrect_parameters, "part %u of %u of a split GGUF: give the first, %s",
                           split.number + 1, split.count, file_name(stem + first).c_str());
    for (std::uint32_t n = 1; n < split.count; n++) {
        const std::string name = stem + part_ending(n, split.count);
        if (!std::filesystem::exists(name))
            return Error::make(Code::not_found, "part %u of %u of a split GGUF is missing: %s: put it beside the first",
                               n + 1, split.count, file_name(name).c_str());
        parts.emplace_back(name, TRY(FileBytes::open(name)));
    }
    return open_gguf(std::move(parts), path);
}

// NOLINTNEXTLINE(performance-unnecessary-value-param): moved from
Result<std::unique_ptr<Source>> open_gguf(std::vector<std::pair<std::string, FileBytes>> parts,
                                          const std::string& path) {
    auto s = std::make_unique<StoredSource>();
    s->path = path;
    std::vector<Gguf> ggufs;
    std::map<std::string, Gguf::Tensor> tensors;
    for (auto& [name, bytes] : parts) {
        const std::size_t n = ggufs.size();
        const std::string shown_name = file_name(name);
        s->files.push_back(std::move(bytes));
        if (n > 0) s->parts.push_back(name);
        ggufs.push_back(TRY(Gguf::open(s->files.back().bytes)));
        const Split split = TRY(split_of(ggufs[n]));
        if (split.number != n || split.count != parts.size())
            return Error::make(Code::model_format,
                               "%s says it is part %u of %u, not %zu of %zu: the files were renamed or do not belong "
                               "together",
                               shown_name.c_str(), split.number + 1, split.count, n + 1, parts.size());
        for (const auto& [tensor, t] : ggufs[n].tensors())
            if (!tensors.emplace(tensor, t).second)
                return Error::make(Code::model_format,
                                   "tensor %s is in %s and in a part before it: the files do not belong together",
                                   shown(tensor).c_str(), shown_name.c_str());
    }
    const Gguf& g = ggufs[0];
    if (const auto count = TRY(g.number("split.tensors.count"));
        parts.size() > 1 && count && *count != double(tensors.size()))
        return Error::make(Code::model_format,
                           "the %zu parts hold %zu tensors, key split.tensors.count says %.0f: download them again",
                           parts.size(), tensors.size(), *count);
    s->format = "GGUF v" + std::to_string(g.version());

    const auto arch = TRY(g.text("general.architecture"));
    if (!arch) return Error::make(Code::model_format, "GGUF: key general.architecture is missing");
    const Family family = TRY(find_family(Form::gguf, *arch));
    if (tensors.empty())
        return Error::make(Code::model_format, "GGUF: no tensors: the file holds a vocabulary and nothing else");

    std::map<std::string, StoredTensor> stored;
    for (const auto& [name, t] : tensors) {
        std::uint64_t rows = 1;
        for (std::size_t d = 1; d < t.dims.size(); d++) rows *= t.dims[d];
        const bool stack = name.ends_with("_exps.weight");
        if (rows > UINT32_MAX || t.dims[0] > UINT32_MAX || (t.dims.size() > 2 && rows != t.dims[1] && !stack))
            return Error::make(Code::not_supported, "tensor %s is not a matrix", shown(name).c_str());
        stored[name] = {t.type, std::uint32_t(rows), std::uint32_t(t.dims[0]), t.bytes};
    }
    const auto embedding = stored.find("token_embd.weight");
    if (embedding == stored.end()) return Error::make(Code::model_format, "tensor token_embd.weight is missing");

    const auto numbers = [&](const std::string& key) -> Result<std::vector<double>> {
        if (g.is_array(key)) return g.numbers(key);
        const auto v = TRY(g.number(key));
        return v ? std::vector<double>{*v} : std::vector<double>{};
    };
    s->params = TRY(fill_params(family, Form::gguf, numbers, embedding->second.rows));
    if (!stored.contains("output.weight")) s->params.flags |= image::flag_tied_output;
    for (const auto& r : family.requirements) {
        if (r.form != Form::gguf) continue;
        const auto v = TRY(g.number(r.key));
        const auto wanted = size_named(s->params, r.value);
        if (v && wanted && *v != double(*wanted))
            return Error::make(Code::not_supported, "key %s is %g: family %s is supported with %s (%u) only",
                               r.key.c_str(), *v, family.name.c_str(), r.value.c_str(), *wanted);
    }
    set_name(s->params, path);
    if (auto r = s->take(family, Form::gguf, std::move(stored)); !r) return r.error();
    s->inv_freq = TRY(rope_frequencies(g, tensors, s->params, *arch));
    if (s->params.rope_theta_local != 0)
        s->inv_freq_local = plain_inv_freq(s->params.rope_theta_local, s->params.rope_dims);

    s->tokenizer = TRY(read_gguf_tokenizer(g));
    if (s->tokenizer.tokens.size() > s->params.vocab)
        return Error::make(Code::model_format, "the tokenizer has %zu tokens, the embedding %u rows",
                           s->tokenizer.tokens.size(), s->params.vocab);
    s->chat_template = TRY(g.text("tokenizer.chat_template")).value_or("");
    return std::unique_ptr<Source>(std::move(s));
}

}  // namespace slmd::pack
