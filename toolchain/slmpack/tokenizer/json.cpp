// Hugging Face's tokenizer.json and GPT-2's vocab.json + merges.txt, with the configuration files beside them.
#include <nlohmann/json.hpp>

#include "text/section.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

using Json = nlohmann::json;

constexpr const char* gpt2_regex = R"('s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+)";
constexpr const char* llama3_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";
constexpr const char* qwen2_regex =
    R"((?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+)";

// One document and the file that it came from. Absent and null are alike.
struct Document {
    Json json;
    std::string where;

    [[gnu::format(printf, 2, 3)]] Error bad(const char* format, ...) const {
        char text[200];
        va_list args;
        va_start(args, format);
        std::vsnprintf(text, sizeof text, format, args);
        va_end(args);
        return Error::make(Code::model_format, "%.80s: %s", where.c_str(), text);
    }
};

Result<Document> parse(std::string_view text, const std::string& where) {
    Document d{Json::parse(text, nullptr, false), where};
    if (d.json.is_discarded() || !d.json.is_object()) return d.bad("not a JSON object, or truncated");
    return d;
}

const Json& at(const Json& object, const char* key) {
    static const Json null;
    if (!object.is_object()) return null;
    const auto found = object.find(key);
    return found == object.end() ? null : *found;
}
std::string string_at(const Json& object, const char* key, const char* otherwise = "") {
    const Json& v = at(object, key);
    return v.is_string() ? v.get<std::string>() : otherwise;
}
bool bool_at(const Json& object, const char* key, bool otherwise) {
    const Json& v = at(object, key);
    return v.is_boolean() ? v.get<bool>() : otherwise;
}

// The steps of a normalizer or pre-tokenizer, a Sequence taken apart.
std::vector<const Json*> steps(const Json& v, const char* list) {
    std::vector<const Json*> out;
    if (v.is_null()) return out;
    if (string_at(v, "type") == "Sequence" && at(v, list).is_array())
        for (const Json& step : at(v, list)) out.push_back(&step);
    else
        out.push_back(&v);
    return out;
}
std::string names(const std::vector<const Json*>& list) {
    std::string out;
    for (const Json* s : list) out += (out.empty() ? "" : " + ") + string_at(*s, "type", "?");
    return out.empty() ? "none" : out.substr(0, 100);
}

bool place_token(TokenizerSpec& spec, std::uint64_t id, const std::string& token, std::uint8_t type) {
    if (id >= text::max_vocab) return false;
    if (id >= spec.tokens.size()) {
        spec.tokens.resize(id + 1);
        spec.types.resize(id + 1, text::type_unused);  // what no one names stays unused
    }
    spec.tokens[id] = token;
    spec.types[id] = type;
    return true;
}

Result<void> read_vocab(TokenizerSpec& spec, const Document& d, const Json& vocab) {
    if (!vocab.is_object() || vocab.empty()) return d.bad("no vocabulary (an object of token: id)");
    for (const auto& [token, id] : vocab.items())
        if (!id.is_number_unsigned() || id.get<std::uint64_t>() >= 2 * vocab.size() + 65536 ||
            !place_token(spec, id.get<std::uint64_t>(), token, text::type_normal))
            return d.bad("the token \"%.60s\" has an impossible id", token.c_str());
    return {};
}

std::int32_t find_token(const TokenizerSpec& spec, const std::string& token) {
    if (token.empty()) return -1;
    const auto found = std::find(spec.tokens.begin(), spec.tokens.end(), token);
    return found == spec.tokens.end() ? -1 : static_cast<std::int32_t>(found - spec.tokens.begin());
}

Result<void> add_token(TokenizerSpec& spec, const Document& d, std::uint64_t id, const Json& token) {
    const std::string content = string_at(token, "content");
    if (content.empty()) return d.bad("added token %llu has no text", static_cast<unsigned long long>(id));
    for (const char* flag : {"lstrip", "rstrip", "single_word"})
        if (bool_at(token, flag, false))
            return d.bad("the added token \"%.40s\" has %s, which is not supported", content.c_str(), flag);
    if (id >= spec.tokens.size() + 65536 ||
        !place_token(spec, id, content,
                     bool_at(token, "special", false) ? text::type_control : text::type_user_defined))
        return d.bad("the added token \"%.40s\" has an impossible id", content.c_str());
    return {};
}

Result<void> read_added_tokens(TokenizerSpec& spec, const Document& d) {
    const Json& added = at(d.json, "added_tokens");
    if (!added.is_array()) return {};
    for (const Json& token : added) {
        const Json& id = at(token, "id");
        if (!id.is_number_unsigned()) return d.bad("an added token without an id");
        TRY(add_token(spec, d, id.get<std::uint64_t>(), token));
    }
    return {};
}

// Sets spec.model, pre and add_space_prefix from the normalizer and the pre-tokenizer, or says what is not known.
Result<void> read_splitting(TokenizerSpec& spec, const Document& d) {
    const auto normal = steps(at(d.json, "normalizer"), "normalizers"),
               pre = steps(at(d.json, "pre_tokenizer"), "pretokenizers");
    const auto type = [](const std::vector<const Json*>& list, std::size_t i) {
        return i < list.size() ? string_at(*list[i], "type") : "";
    };
    const auto byte_level = [&](std::size_t i, bool regex) {
        return type(pre, i) == "ByteLevel" && bool_at(*pre[i], "use_regex", true) == regex &&
               !bool_at(*pre[i], "add_prefix_space", true);
    };

    if (!pre.empty() && type(pre, pre.size() - 1) == "ByteLevel") {
        // Qwen2 composes characters first (NFC). We take the text as it stands, as GGUF runtimes do: what was encoded
        // decodes to the same bytes.
        if (!normal.empty() && !(normal.size() == 1 && type(normal, 0) == "NFC"))
            return d.bad("the normalizer %s is not supported for byte-level BPE", names(normal).c_str());
        if (pre.size() == 1 && byte_level(0, true)) {
            spec.pre = "gpt-2";
        } else if (pre.size() == 2 && byte_level(1, true) && type(pre, 0) == "Digits" &&
                   bool_at(*pre[0], "individual_digits", false)) {
            spec.pre = "smollm";
        } else if (pre.size() == 2 && byte_level(1, false) && type(pre, 0) == "Split") {
            const std::string regex = string_at(at(*pre[0], "pattern"), "Regex");
            spec.pre = regex == llama3_regex  ? "llama-bpe"
                       : regex == qwen2_regex ? "qwen2"
                       : regex == gpt2_regex  ? "gpt-2"
                                              : "";
            if (spec.pre.empty() || string_at(*pre[0], "behavior") != "Isolated" || bool_at(*pre[0], "invert", false))
                return d.bad(
                    "the pre-tokenizer's expression is not one that is supported (gpt-2, llama-bpe, qwen2): %s",
                    regex.c_str());
        } else {
            return d.bad("the pre-tokenizer %s is not supported (gpt-2, smollm, llama-bpe, qwen2 are)",
                         names(pre).c_str());
        }
        return {};
    }

    // SentencePiece's spaces: Prepend and Replace as normalizers, or Metaspace as pre-tokenizer.
    spec.model = TokenizerSpec::Model::sentencepiece;
    const Json& model = at(d.json, "model");
    if (!bool_at(model, "byte_fallback", false))
        return d.bad("the pre-tokenizer %s is not supported without byte_fallback", names(pre).c_str());
    if (!pre.empty()) {
        const std::string scheme = pre.size() == 1 ? string_at(*pre[0], "prepend_scheme", "always") : "";
        if (type(pre, 0) != "Metaspace" || (scheme != "always" && scheme != "never") || !normal.empty() ||
            string_at(*pre[0], "replacement", "\u2581") != "\u2581")
            return d.bad("the pre-tokenizer %s%s%s is not supported", names(pre).c_str(),
                         scheme.empty() ? "" : " with prepend_scheme ", scheme.c_str());
        spec.add_space_prefix = scheme == "always" && bool_at(*pre[0], "add_prefix_space", true);
        return {};
    }
    for (std::size_t i = 0; i < normal.size(); ++i) {
        const bool prepend = i == 0 && type(normal, i) == "Prepend" && string_at(*normal[i], "prepend") == "\u2581";
        const bool replace = i + 1 == normal.size() && type(normal, i) == "Replace" &&
                             string_at(at(*normal[i], "pattern"), "String") == " " &&
                             string_at(*normal[i], "content") == "\u2581";
        if (!prepend && !replace) return d.bad("the normalizer %s is not supported", names(normal).c_str());
        spec.add_space_prefix |= prepend;
    }
    return {};
}

void set_end(TokenizerSpec& spec, std::int32_t id) {
    if (id < 0 || static_cast<std::size_t>(id) >= spec.tokens.size()) return;
    if (spec.eos < 0)
        spec.eos = id;
    else if (id != spec.eos && std::find(spec.ends.begin(), spec.ends.end(), id) == spec.ends.end())
        spec.ends.push_back(id);
}

// BERT's: which characters make words, how words are cut, and what stands around a text.
Result<TokenizerSpec> read_wordpiece(const Document& d, const Json& model) {
    TokenizerSpec spec;
    spec.model = TokenizerSpec::Model::wordpiece;
    const Json &normal = at(d.json, "normalizer"), &accents = at(normal, "strip_accents"),
               &longest = at(model, "max_input_chars_per_word");
    spec.uncased = bool_at(normal, "lowercase", true);
    if (string_at(normal, "type") != "BertNormalizer" || !bool_at(normal, "clean_text", true) ||
        !bool_at(normal, "handle_chinese_chars", true) || (accents.is_boolean() && accents.get<bool>() != spec.uncased))
        return d.bad(
            "the normalizer %s is not supported for WordPiece: BertNormalizer is, which strips accents where it makes "
            "lower case",
            names(steps(normal, "normalizers")).c_str());
    if (string_at(at(d.json, "pre_tokenizer"), "type") != "BertPreTokenizer")
        return d.bad("the pre-tokenizer %s is not supported for WordPiece; BertPreTokenizer is",
                     names(steps(at(d.json, "pre_tokenizer"), "pretokenizers")).c_str());
    if (string_at(model, "continuing_subword_prefix", "##") != "##" ||
        (!longest.is_null() && longest != text::word_characters))
        return d.bad("WordPiece is supported with the prefix ## and words of at most %u characters alone",
                     text::word_characters);
    TRY(read_vocab(spec, d, at(model, "vocab")));
    TRY(read_added_tokens(spec, d));
    spec.unk = find_token(spec, string_at(model, "unk_token", "[UNK]"));
    const Json &post = at(d.json, "post_processor"), &single = at(post, "single");
    const auto around = [&](std::size_t i) { return find_token(spec, string_at(at(single[i], "SpecialToken"), "id")); };
    const auto named = [&](const char* key) {
        const Json& pair = at(post, key);
        return pair.is_array() && !pair.empty() && pair[0].is_string() ? find_token(spec, pair[0].get<std::string>())
                                                                       : -1;
    };
    const bool is_template = string_at(post, "type") == "TemplateProcessing" && single.is_array() &&
                             single.size() == 3 && at(single[1], "Sequence").is_object();
    spec.bos = is_template ? around(0) : named("cls");
    spec.eos = is_template ? around(2) : named("sep");
    if (spec.unk < 0 || spec.bos < 0 || spec.eos < 0)
        return d.bad(
            "WordPiece needs [UNK] in its vocabulary, and a post-processor that puts [CLS] before a text and [SEP] "
            "behind it");
    spec.add_bos = true;
    return spec;
}

}  // namespace

Result<TokenizerSpec> read_tokenizer_json(std::string_view json, const std::string& where) {
    const Document d = TRY(parse(json, where));
    const Json& model = at(d.json, "model");
    if (string_at(model, "type") == "WordPiece") return read_wordpiece(d, model);
    if (!model.is_object() || string_at(model, "type", "BPE") != "BPE")
        return d.bad("the model type \"%.40s\" is not supported; BPE and WordPiece are",
                     string_at(model, "type").c_str());
    for (const char* affix : {"continuing_subword_prefix", "end_of_word_suffix"})
        if (!string_at(model, affix).empty()) return d.bad("BPE with a %s is not supported", affix);

    TokenizerSpec spec;
    TRY(read_splitting(spec, d));
    TRY(read_vocab(spec, d, at(model, "vocab")));
    spec.ignore_merges = bool_at(model, "ignore_merges", false);

    const Json& merges = at(model, "merges");
    if (!merges.is_array()) return d.bad("no merges");
    for (const Json& m : merges) {
        const bool pair = m.is_array() && m.size() == 2 && m[0].is_string() && m[1].is_string();
        if (!pair && !m.is_string())
            return d.bad("merge %zu is neither \"left right\" nor [left, right]", spec.merges.size());
        spec.merges.push_back(pair ? m[0].get<std::string>() + ' ' + m[1].get<std::string>() : m.get<std::string>());
    }

    if (spec.model == TokenizerSpec::Model::sentencepiece)
        for (int b = 0; b < 256; ++b) {
            char name[8];
            std::snprintf(name, sizeof name, "<0x%02X>", b);
            if (const Json& id = at(at(model, "vocab"), name); id.is_number_unsigned())
                spec.types[id.get<std::size_t>()] = text::type_byte;
        }
    TRY(read_added_tokens(spec, d));
    spec.unk = find_token(spec, string_at(model, "unk_token"));
    if (spec.unk >= 0 && spec.model == TokenizerSpec::Model::sentencepiece)
        spec.types[static_cast<std::size_t>(spec.unk)] = text::type_unknown;

    // A template that puts a special token in front of the text: that is BOS.
    for (const Json* step : steps(at(d.json, "post_processor"), "processors")) {
        const Json& single = at(*step, "single");
        if (string_at(*step, "type") != "TemplateProcessing" || !single.is_array() || single.empty()) continue;
        spec.bos = find_token(spec, string_at(at(single[0], "SpecialToken"), "id"));
        spec.add_bos = spec.bos >= 0;
    }
    return spec;
}

Result<TokenizerSpec> read_vocab_and_merges(std::string_view vocab_json, std::string_view merges,
                                            const std::string& pre, const std::string& where) {
    const Document d = TRY(parse(vocab_json, where));
    TokenizerSpec spec;
    TRY(read_vocab(spec, d, d.json));
    for (std::size_t begin = 0; begin < merges.size();) {
        const std::size_t end = std::min(merges.find('\n', begin), merges.size());
        std::string_view line = merges.substr(begin, end - begin);
        if (line.ends_with('\r')) line.remove_suffix(1);
        if (!line.empty() && !(begin == 0 && line.starts_with("#version"))) spec.merges.emplace_back(line);
        begin = end + 1;
    }
    spec.pre = pre;
    if (pre.empty()) {
        const std::size_t n = spec.merges.size();
        spec.pre = n == 50000 ? "gpt-2" : n == 151387 ? "qwen2" : n == 280147 || n == 280146 ? "llama-bpe" : "";
        if (spec.pre.empty())
            return d.bad(
                "a vocabulary with %zu merges that does not say how text is cut into words; use a folder with "
                "tokenizer.json",
                n);
    }
    return spec;
}

Result<void> apply_config(TokenizerSpec& spec, std::string_view json, const std::string& where) {
    const Document d = TRY(parse(json, where));
    const Json& decoder = at(d.json, "added_tokens_decoder");
    if (decoder.is_object())
        for (const auto& [key, token] : decoder.items()) {
            char* end = nullptr;
            const auto id = std::strtoull(key.c_str(), &end, 10);
            if (*end || key.empty()) return d.bad("the added token \"%.40s\" has an impossible id", key.c_str());
            if (id < spec.tokens.size() && spec.types[id] == text::type_unknown) continue;
            TRY(add_token(spec, d, id, token));
        }
    const auto named = [&](const char* key) {
        const Json& v = at(d.json, key);
        return find_token(spec, v.is_object() ? string_at(v, "content") : string_at(d.json, key));
    };
    const auto numbered = [&](const char* key, auto&& use) {
        const Json& v = at(d.json, key);
        for (const Json& id : v.is_array() ? v : Json::array({v}))
            if (id.is_number_unsigned() && id.get<std::uint64_t>() < spec.tokens.size()) use(id.get<std::int32_t>());
    };
    if (spec.bos < 0) spec.bos = named("bos_token");
    set_end(spec, named("eos_token"));
    numbered("bos_token_id", [&](std::int32_t id) { spec.bos = spec.bos < 0 ? id : spec.bos; });
    numbered("eos_token_id", [&](std::int32_t id) { set_end(spec, id); });
    spec.add_bos = bool_at(d.json, "add_bos_token", spec.add_bos) && spec.bos >= 0;
    return {};
}

}  // namespace slmd::pack
