// The published chat templates as data: recognised by their Jinja text, written as the image's chat section.
#include <toml++/toml.h>

#include <algorithm>
#include <cstring>

#include "text/section.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

constexpr const char* embedded[] = {
#include "templates.inc"
};

const std::vector<toml::table>& templates() {
    static const auto all = [] {
        std::vector<toml::table> out;
        for (const char* text : embedded) out.push_back(toml::parse(text));
        return out;
    }();
    return all;
}

std::string text_of(const toml::table& t, std::string_view key) { return t[key].value_or(std::string()); }

std::string_view without_end_space(std::string_view s) {
    while (!s.empty() && (s.back() == ' ' || s.back() == '\n' || s.back() == '\r' || s.back() == '\t'))
        s.remove_suffix(1);
    return s;
}

std::string replaced(std::string s, std::string_view what, std::string_view with) {
    for (std::size_t at = 0; (at = s.find(what, at)) != std::string::npos; at += with.size())
        s.replace(at, what.size(), with);
    return s;
}

// A newline may be written as itself or as \n inside the template's strings: the same template.
std::string canonical(std::string_view jinja) {
    return replaced(replaced(std::string(without_end_space(jinja)), "\r\n", "\n"), "\\n", "\n");
}

// How many leading bytes two texts share.
std::size_t common(std::string_view a, std::string_view b) {
    return static_cast<std::size_t>(std::mismatch(a.begin(), a.end(), b.begin(), b.end()).first - a.begin());
}

Result<std::vector<std::byte>> section_of(const toml::table& t, const TokenizerSpec& spec) {
    const std::string name = text_of(t, "name");
    const auto token = [&](std::int32_t id) {
        return id >= 0 && static_cast<std::size_t>(id) < spec.tokens.size() ? spec.tokens[static_cast<std::size_t>(id)]
                                                                            : "";
    };
    constexpr const char* keys[text::chat_texts] = {
        "name",        "start",       "default_system",   "system_prefix",    "system_suffix",
        "user_prefix", "user_suffix", "assistant_prefix", "assistant_suffix", "generation"};
    constexpr std::pair<const char*, std::uint32_t> flags[] = {{"has_bos", text::chat_has_bos},
                                                               {"trim", text::chat_trim},
                                                               {"alternate", text::chat_alternate},
                                                               {"system_in_user", text::chat_system_in_user},
                                                               {"system_first", text::chat_system_first}};

    text::ChatHeader h{};
    std::memcpy(h.magic, text::chat_magic, sizeof h.magic);
    for (const auto& [key, bit] : flags)
        if (t[key].value_or(false)) h.flags |= bit;
    if (t.contains("default_system")) h.flags |= text::chat_default_system;
    std::string texts;
    for (std::uint32_t i = 0; i < text::chat_texts; ++i) {
        std::string s = text_of(t, keys[i]);
        for (const auto& [mark, id, what] :
             {std::tuple{"{bos}", spec.bos, "beginning"}, std::tuple{"{eos}", spec.eos, "end"}}) {
            if (s.find(mark) == std::string::npos) continue;
            if (token(id).empty())
                return Error::make(
                    Code::model_format,
                    "the chat template %s needs the model's %s-of-sequence token, which the tokenizer does not name",
                    name.c_str(), what);
            s = replaced(s, mark, token(id));
        }
        h.texts[i] = {static_cast<std::uint32_t>(sizeof h + texts.size()), static_cast<std::uint32_t>(s.size())};
        texts += s;
    }
    h.size = static_cast<std::uint32_t>(sizeof h + texts.size());
    std::vector<std::byte> out(h.size);
    std::memcpy(out.data(), &h, sizeof h);
    if (!texts.empty()) std::memcpy(out.data() + sizeof h, texts.data(), texts.size());
    return out;
}

}  // namespace

std::vector<std::string> chat_template_names() {
    std::vector<std::string> out;
    for (const toml::table& t : templates()) out.push_back(text_of(t, "name"));
    return out;
}

Result<std::vector<std::byte>> build_chat(std::string_view jinja, const TokenizerSpec& spec, const std::string& name) {
    if (name == "none" || (name.empty() && without_end_space(jinja).empty())) return std::vector<std::byte>{};
    if (!name.empty()) {
        std::string known;
        for (const toml::table& t : templates()) {
            if (text_of(t, "name") == name) return section_of(t, spec);
            known += text_of(t, "name") + ", ";
        }
        return Error::make(Code::not_found, "no chat template is called \"%.40s\"; there are %snone", name.c_str(),
                           known.c_str());
    }
    const std::string text = canonical(jinja);
    std::size_t nearest = 0;
    std::string nearest_name, nearest_text;
    for (const toml::table& t : templates())
        if (const toml::array* variants = t["jinja"].as_array())
            for (const auto& v : *variants) {
                const std::string published = canonical(v.value_or(std::string_view()));
                if (published == text) return section_of(t, spec);
                if (const std::size_t n = common(published, text); n >= nearest)
                    nearest = n, nearest_name = text_of(t, "name"), nearest_text = published;
            }
    const auto line = 1 + std::count(text.begin(), text.begin() + static_cast<std::ptrdiff_t>(nearest), '\n');
    const std::size_t begin = nearest == 0 ? 0 : text.rfind('\n', nearest - 1) + 1;
    // Templates are often one long line: show it from shortly before the difference.
    const std::size_t from = std::max(begin, nearest < 20 ? 0 : nearest - 20);
    return Error::make(Code::not_supported,
                       "the chat template is not a known one; nearest is %s, line %td differs: \"%.60s\"; use "
                       "--chat-template NAME or none",
                       nearest_name.c_str(), static_cast<std::ptrdiff_t>(line),
                       text.substr(from, text.find('\n', nearest) - from).c_str());
}

}  // namespace slmd::pack
