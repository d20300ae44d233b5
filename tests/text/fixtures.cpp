#include "tests/text/fixtures.h"

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>
#include <stdexcept>

#include "base/bytes.h"

namespace slmd::tests {
namespace {

template <class T>
T must(Result<T> result) {
    if (!result) throw std::runtime_error(result.error().text);
    return std::move(result).value();
}

}  // namespace

Loaded::Loaded(const pack::TokenizerSpec& spec) : Loaded(must(pack::build_tokenizer(spec))) {}
Loaded::Loaded(std::vector<std::byte> section)
    : section_(std::move(section)), tokenizer_(must(text::Tokenizer::open(section_))) {}

Ids Loaded::encode(std::string_view text, bool trusted, bool add_bos) const {
    const text::Trusted all[] = {{0, static_cast<std::uint32_t>(text.size())}};
    Ids out(text.size() * 2 + 16);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    out.resize(
        must(tokenizer_.encode(text, trusted ? std::span<const text::Trusted>(all) : std::span<const text::Trusted>(),
                               add_bos, out, scratch)));
    return out;
}

Ids Loaded::encode(std::string_view text, const std::vector<text::Trusted>& trusted) const {
    Ids out(text.size() * 2 + 16);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    out.resize(must(tokenizer_.encode(text, trusted, false, out, scratch)));
    return out;
}

std::string Loaded::decode(const Ids& ids, bool specials) const {
    std::string out;
    for (std::size_t i = 0; i < ids.size(); ++i) {
        std::string_view piece = tokenizer_.piece(ids[i], specials);
        if (i == 0 && tokenizer_.strip_first_space() && piece.starts_with(' ')) piece.remove_prefix(1);
        out += piece;
    }
    return out;
}

std::string spell(std::string_view bytes) {
    std::string out;
    for (const char c : bytes) {
        const auto b = static_cast<unsigned char>(c);
        std::uint32_t code = 0, next = 0x100;
        for (std::uint32_t i = 0; i <= b; ++i) {
            const bool printable = (i >= '!' && i <= '~') || (i >= 0xA1 && i <= 0xAC) || i >= 0xAE;
            code = printable ? i : next++;
        }
        if (code < 0x80)
            out += static_cast<char>(code);
        else
            out += static_cast<char>(0xC0 | code >> 6), out += static_cast<char>(0x80 | (code & 0x3F));
    }
    return out;
}

pack::TokenizerSpec small_bpe(const std::string& pre) {
    pack::TokenizerSpec spec;
    spec.pre = pre;
    for (const char* special : {"<|endoftext|>", "<|im_start|>", "<|im_end|>"}) {
        spec.tokens.emplace_back(special);
        spec.types.push_back(3);
    }
    for (int b = 0; b < 256; ++b) spec.tokens.push_back(spell(std::string(1, static_cast<char>(b))));
    constexpr std::pair<const char*, const char*> merges[] = {
        {"t", "h"},   {"h", "e"}, {" ", "t"},   {" t", "he"},  {"i", "n"},     {"a", "n"},       {" ", "a"},
        {"e", "r"},   {"o", "n"}, {" ", "s"},   {"l", "l"},    {"e", "ll"},    {"h", "ell"},     {"hell", "o"},
        {" ", "w"},   {"o", "r"}, {" w", "or"}, {" wor", "l"}, {" worl", "d"}, {"\xC3", "\xA9"}, {"a", "a"},
        {"aa", "aa"}, {" ", " "}, {"  ", "  "}, {"\n", "\n"},  {"in", "g"},    {"1", "2"},       {"12", "3"}};
    for (const auto& [left, right] : merges) {
        spec.merges.push_back(spell(left) + ' ' + spell(right));
        spec.tokens.push_back(spell(std::string(left) + right));
    }
    spec.tokens.emplace_back("<tool>");
    spec.types.resize(spec.tokens.size(), 1);
    spec.types.back() = 4;
    spec.bos = 1, spec.eos = 2;
    return spec;
}

pack::TokenizerSpec small_sentencepiece() {
    pack::TokenizerSpec spec;
    spec.model = pack::TokenizerSpec::Model::sentencepiece;
    const auto add = [&](const std::string& token, float score, std::uint8_t type) {
        spec.tokens.push_back(token), spec.scores.push_back(score), spec.types.push_back(type);
    };
    add("<unk>", 0, 2), add("<s>", 0, 3), add("</s>", 0, 3);
    for (int b = 0; b < 256; ++b) {
        char name[8];
        std::snprintf(name, sizeof name, "<0x%02X>", b);
        add(name, 0, 6);
    }
    float score = 0;
    for (const char* piece : {"\u2581t", "he",   "\u2581the",   "in",          "er",           "\u2581a",   "ll",
                              "ell",     "hell", "hello",       "\u2581hello", "\u2581\u2581", "\u2581wor", "\u2581w",
                              "or",      "ld",   "\u2581world", "ing",         "aa",           "aaaa",      "\u2581s"})
        add(piece, score -= 1, 1);
    for (const char* piece :
         {"\u2581", "e", "t", "a", "o", "i", "n", "h", "l", "r", "s", "w", "d", "g", ".", ",", "\u00E9"})
        add(piece, score -= 1, 1);
    spec.unk = 0, spec.bos = 1, spec.eos = 2;
    spec.add_bos = spec.add_space_prefix = true;
    return spec;
}

pack::TokenizerSpec small_wordpiece() {
    const std::string path = SLMD_SOURCE "/tests/pack/bert/tokenizer.json";
    auto spec = pack::read_tokenizer_json(read_file(path), path);
    if (!spec) throw std::runtime_error(spec.error().what());
    return std::move(spec).value();
}

std::string tokenizer_json_text(const pack::TokenizerSpec& spec) {
    using Json = nlohmann::json;
    Json vocab = Json::object(), added = Json::array();
    for (std::size_t i = 0; i < spec.tokens.size(); ++i) {
        const int type = spec.types[i];
        if (type == 3 || type == 4)
            added.push_back({{"id", i},
                             {"content", spec.tokens[i]},
                             {"special", type == 3},
                             {"lstrip", false},
                             {"rstrip", false},
                             {"single_word", false}});
        else
            vocab[spec.tokens[i]] = i;
    }
    const Json model = {{"type", "BPE"}, {"vocab", vocab}, {"merges", spec.merges}};
    return Json{{"model", model},
                {"added_tokens", added},
                {"normalizer", nullptr},
                {"pre_tokenizer", {{"type", "ByteLevel"}, {"add_prefix_space", false}, {"use_regex", true}}}}
        .dump();
}

bool exists(const std::string& path) { return std::filesystem::exists(path); }

std::string read_file(const std::string& path) {
    std::ifstream in(path, std::ios::binary);
    if (!in) throw std::runtime_error("cannot read " + path);
    std::ostringstream out;
    out << in.rdbuf();
    return out.str();
}

std::string shared(const std::string& path) { return SLMD_SHARED "/" + path; }

std::string cached_model(const std::string& file) {
    const auto env = [](const char* name) { return std::string(std::getenv(name) ? std::getenv(name) : ""); };
    if (!env("SLMD_CACHE").empty()) return env("SLMD_CACHE") + "/" + file;
    if (!env("XDG_CACHE_HOME").empty()) return env("XDG_CACHE_HOME") + "/slmd/" + file;
    return env("HOME") + "/.cache/slmd/" + file;
}

pack::TokenizerSpec read_gguf_tokenizer(const std::string& path, std::string* chat_template) {
    std::ifstream file(path, std::ios::binary);
    if (!file) throw std::runtime_error("cannot read " + path);
    const auto get = [&]<class T>(T) {
        T v{};
        file.read(reinterpret_cast<char*>(&v), sizeof v);
        return v;
    };
    const auto text = [&] {
        std::string s(get(std::uint64_t{}), '\0');
        file.read(s.data(), static_cast<std::streamsize>(s.size()));
        return s;
    };
    constexpr int size_of[] = {1, 1, 2, 2, 4, 4, 4, 1, 0, 0, 8, 8, 8};
    const auto number = [&](std::uint32_t type) {
        std::uint64_t v = 0;
        file.read(reinterpret_cast<char*>(&v), size_of[type]);
        return v;
    };
    if (get(std::uint32_t{}) != 0x46554747 || get(std::uint32_t{}) != 3)
        throw std::runtime_error("not GGUF v3: " + path);
    get(std::uint64_t{});
    pack::TokenizerSpec spec;
    bool space_prefix = true, bos = false, bos_said = false;
    for (auto n = get(std::uint64_t{}); n > 0 && file; --n) {
        const std::string key = text();
        const auto type = get(std::uint32_t{});
        if (type == 8) {
            const std::string value = text();
            if (key == "tokenizer.ggml.model" && value == "llama")
                spec.model = pack::TokenizerSpec::Model::sentencepiece;
            if (key == "tokenizer.ggml.pre") spec.pre = value;
            if (key == "tokenizer.chat_template" && chat_template) *chat_template = value;
        } else if (type == 9) {
            const auto element = get(std::uint32_t{});
            for (auto i = get(std::uint64_t{}); i > 0 && file; --i) {
                if (element == 8) {
                    std::string s = text();
                    if (key == "tokenizer.ggml.tokens") spec.tokens.push_back(s);
                    if (key == "tokenizer.ggml.merges") spec.merges.push_back(s);
                } else {
                    const std::uint64_t v = number(element);
                    if (key == "tokenizer.ggml.scores") spec.scores.push_back(load<float>(&v));
                    if (key == "tokenizer.ggml.token_type") spec.types.push_back(static_cast<std::uint8_t>(v));
                }
            }
        } else {
            const auto v = number(type);
            if (key == "tokenizer.ggml.bos_token_id") spec.bos = static_cast<std::int32_t>(v);
            if (key == "tokenizer.ggml.eos_token_id") spec.eos = static_cast<std::int32_t>(v);
            if (key == "tokenizer.ggml.unknown_token_id") spec.unk = static_cast<std::int32_t>(v);
            if (key == "tokenizer.ggml.add_bos_token") bos = v != 0, bos_said = true;
            if (key == "tokenizer.ggml.add_space_prefix") space_prefix = v != 0;
        }
    }
    const bool sentencepiece = spec.model == pack::TokenizerSpec::Model::sentencepiece;
    spec.add_bos = bos_said ? bos : sentencepiece;
    spec.add_space_prefix = sentencepiece && space_prefix;
    return spec;
}

}  // namespace slmd::tests
