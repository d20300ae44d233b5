// Chat templates as the image's chat section. A published template is a program; the section is a few texts. What they
// are is found by rendering the program on conversations whose texts can be told apart, and that they are the same is
// checked by rendering others both ways: with the program, and with the runtime's own code from the section. A template
// for which the two differ is refused.
#include "text/chat.h"

#include <algorithm>
#include <array>
#include <cstdlib>
#include <cstring>
#include <ctime>

#include "text/section.h"
#include "toolchain/slmpack/tokenizer/jinja.h"
#include "toolchain/slmpack/tokenizer/tokenizer.h"

namespace slmd::pack {
namespace {

using text::ChatText;
using text::ChatTrim;
using Conversation = std::vector<jinja::Message>;

struct Named {
    const char *name, *jinja;
};
constexpr Named named[] = {
#include "templates.inc"
};

constexpr std::int64_t max_steps = 4'000'000;  // of all renderings of a template
constexpr int max_turns = 5;                   // of the user, in the conversations of the check
constexpr const char* reasoning_end = "</think>";

// ---- Conversations to try

// How a message's text is dressed up. The word in the middle says which message it is.
struct Style {
    const char *before, *after;
};
constexpr Style plain{"", ""};
constexpr Style spaced[] = {{"\n \t", " \t\xC2\xA0\xE3\x80\x80\n"}, {"\n\n", "\n\n"}, {" ", " "}};
constexpr Style others[] = {{"{{ x }} {% if y %} '\"\\n# ", " <|im_start|> </s> [/INST] <eos>"},
                            {"\xC3\x84\xC3\xB6 \xE6\x97\xA5\xE6\x9C\xAC ", " \xF0\x9F\x98\x80\r\n\xC3\x9F"},
                            {"1\n2\n\n3. ", "\n```\n{}\n```"}};
constexpr Style reasoned[] = {{"<think>\nslmd-reasoning\n</think>\n\n", ""},
                              {"<think>slmd-reasoning</think> \n", " \n"},
                              {"slmd-reasoning</think>", ""}};

jinja::Message message(const char* role, int number, const Style& style = plain) {
    return {role, std::string(style.before) + "slmd-" + role + '-' + std::to_string(number) + '-' + style.after};
}

struct Styles {
    Style system = plain, user = plain, assistant = plain;
};

// turns: how many of the user. same: the user says the same each time, and so does the assistant.
Conversation conversation(bool system, int turns, const Styles& styles = {}, bool same = false) {
    Conversation c;
    if (system) c.push_back(message("system", 0, styles.system));
    for (int i = 0; i < turns; ++i) {
        if (i > 0) c.push_back(message("assistant", same ? 0 : i, styles.assistant));
        c.push_back(message("user", same ? 0 : i + 1, styles.user));
    }
    return c;
}

// ---- The section as it is being found

struct Description {
    std::string texts[text::chat_texts];
    std::uint8_t trims[text::chat_trims]{};
    std::uint32_t flags = 0;

    std::string& operator[](ChatText t) { return texts[static_cast<std::uint32_t>(t)]; }
    std::uint8_t& operator[](ChatTrim t) { return trims[static_cast<std::uint32_t>(t)]; }
    bool has(std::uint32_t flag) const { return (flags & flag) != 0; }

    std::vector<std::byte> section() const {
        text::ChatHeader h{};
        std::memcpy(h.magic, text::chat_magic, sizeof h.magic);
        h.flags = flags;
        std::copy(std::begin(trims), std::end(trims), h.trims);
        std::string all;
        for (std::uint32_t i = 0; i < text::chat_texts; ++i) {
            h.texts[i] = {static_cast<std::uint32_t>(sizeof h + all.size()),
                          static_cast<std::uint32_t>(texts[i].size())};
            all += texts[i];
        }
        h.size = static_cast<std::uint32_t>(sizeof h + all.size());
        std::vector<std::byte> out(h.size);
        std::memcpy(out.data(), &h, sizeof h);
        if (!all.empty()) std::memcpy(out.data() + sizeof h, all.data(), all.size());
        return out;
    }
};

// What the runtime will make of it.
Result<std::string> rendered(const Description& d, const Conversation& c) {
    const std::vector<std::byte> section = d.section();
    const text::ChatTemplate chat = TRY(text::ChatTemplate::open(section));
    std::vector<text::Message> messages;
    std::size_t room = 0;
    for (const jinja::Message& m : c) {
        room += section.size() + m.content.size();
        messages.push_back({m.role == "system" ? text::Role::system
                            : m.role == "user" ? text::Role::user
                                               : text::Role::assistant,
                            m.content});
    }
    std::vector<char> out(room);
    std::vector<text::Trusted> trusted(4 * max_turns);
    const auto r = TRY(chat.render(messages, out, trusted));
    return std::string(out.data(), r.bytes);
}

// For an error's one line.
std::string quoted(const std::string& s, std::size_t begin, std::size_t end) {
    std::string out = "\"";
    for (const char c : s.substr(std::min(begin, s.size()), end - begin))
        if (c == '\n')
            out += "\\n";
        else
            out += c >= 0x20 && c < 0x7F ? c : '?';
    return out + '"';
}

class Finder {
  public:
    Finder(const jinja::Template& program, const TokenizerSpec& spec) : program_(program), adds_bos_(spec.add_bos) {
        const auto token = [&](std::int32_t id) {
            const auto i = static_cast<std::size_t>(id);
            return id >= 0 && i < spec.tokens.size() ? spec.tokens[i] : std::string();
        };
        const char* epoch = std::getenv("SOURCE_DATE_EPOCH");
        context_ = {.bos_token = token(spec.bos),
                    .eos_token = token(spec.eos),
                    .now = epoch ? static_cast<std::time_t>(std::atoll(epoch)) : std::time(nullptr)};
    }

    Result<Description> find() {
        TRY(find_turns());
        TRY(find_system());
        TRY(find_reasoning());
        // The first user's text before the others: where these are tried, it is there too.
        for (const ChatTrim t : {ChatTrim::first_user, ChatTrim::user, ChatTrim::assistant, ChatTrim::answer,
                                 ChatTrim::system, ChatTrim::user_after_system})
            TRY(find_trim(t));
        TRY(find_bos());
        TRY(check());
        return d_;
    }

  private:
    Result<jinja::Rendered> run(const Conversation& c) {
        context_.messages = c;
        return program_.render(context_, steps_);
    }

    // What stands before, between and after the texts of the messages, in the order of `order`.
    Result<std::vector<std::string>> parts(const Conversation& c, std::initializer_list<std::size_t> order) {
        const jinja::Rendered r = TRY(run(c));
        std::vector<std::string> out;
        std::size_t at = 0;
        for (const std::size_t i : order) {
            const std::size_t next = r.text.find(c[i].content, at);
            if (next == std::string::npos)
                return Error::make(Code::not_supported,
                                   "line %d: the text of the %s is not where it is expected, after %s", r.line_at(at),
                                   c[i].role.c_str(), quoted(r.text, at > 20 ? at - 20 : 0, at).c_str());
            out.push_back(r.text.substr(at, next - at));
            at = next + c[i].content.size();
        }
        out.push_back(r.text.substr(at));
        return out;
    }

    Result<void> find_turns() {
        const auto p = TRY(parts(conversation(false, 2), {0, 1, 2}));
        d_[ChatText::start] = p[0];
        d_[ChatText::after_user] = p[1];
        d_[ChatText::after_assistant] = p[2];
        d_[ChatText::generation] = p[3];
        return {};
    }

    Result<void> find_system() {
        const Conversation two = conversation(true, 2);
        const auto r = run(two);
        if (!r && r.error().code != Code::incorrect_parameters) return r.error();
        const std::size_t at = r ? r.value().text.find(two[0].content) : std::string::npos;
        if (at == std::string::npos) {  // refused, or left out without a word
            d_.flags |= text::chat_no_system;
            return {};
        }
        const auto p = TRY(parts(conversation(true, 1), {0, 1}));
        d_[ChatText::system_prefix] = p[0];
        d_[ChatText::system_suffix] = p[1];
        if (at > r.value().text.find(two[1].content)) {
            const std::string& start = d_[ChatText::start];
            if (!p[0].starts_with(start))
                return Error::make(Code::not_supported, "line %d: a system text changes what comes before it",
                                   r.value().line_at(0));
            d_.flags |= text::chat_system_last;
            d_[ChatText::system_prefix].erase(0, start.size());
        }
        return {};
    }

    Result<void> find_reasoning() {
        const jinja::Rendered r = TRY(run(conversation(false, 2, {.assistant = reasoned[0]})));
        if (r.text.find("slmd-reasoning") == std::string::npos) d_[ChatText::reasoning_end] = reasoning_end;
        return {};
    }

    // Tries all ways; when none fits, check() says where.
    Result<void> find_trim(ChatTrim which) {
        const bool system = which == ChatTrim::system || which == ChatTrim::user_after_system;
        if ((system && d_.has(text::chat_no_system)) ||
            (which == ChatTrim::answer && d_[ChatText::reasoning_end].empty()))
            return {};
        std::vector<std::pair<Conversation, std::string>> wanted;
        for (const Style& style : spaced) {
            Styles s;
            std::string before = std::string(reasoned[0].before) + style.before;
            if (which == ChatTrim::system) s.system = style;
            if (which == ChatTrim::first_user || which == ChatTrim::user || which == ChatTrim::user_after_system)
                s.user = style;
            if (which == ChatTrim::assistant) s.assistant = style;
            if (which == ChatTrim::answer) s.assistant = {before.c_str(), style.after};
            Conversation c = conversation(system, system || which == ChatTrim::first_user ? 1 : 2, s);
            const jinja::Rendered r = TRY(run(c));
            wanted.emplace_back(std::move(c), r.text);
        }
        for (std::uint8_t trims = 0; trims <= text::known_trims; ++trims) {
            d_[which] = trims;
            if (std::all_of(wanted.begin(), wanted.end(), [&](const auto& w) {
                    const auto got = rendered(d_, w.first);
                    return got && got.value() == w.second;
                }))
                return {};
        }
        d_[which] = 0;
        return {};
    }

    Result<void> find_bos() {
        const bool late = d_.has(text::chat_no_system) || d_.has(text::chat_system_last);
        const auto begins = [&](const std::string& s) {
            return !context_.bos_token.empty() && s.starts_with(context_.bos_token);
        };
        const bool without = begins(d_[ChatText::start]), with = begins(d_[ChatText::system_prefix]);
        if (adds_bos_ && !late && with != without)  // otherwise none is added anyway
            return Error::make(Code::not_supported,
                               "line 1: the beginning-of-sequence token comes only %s a system text",
                               with ? "with" : "without");
        if (without) d_.flags |= text::chat_has_bos;
        return {};
    }

    // Not tried, and not rendered as the template would: messages of white space only, and words within a message that
    // a template obeys. A message is data.
    Result<void> check() {
        std::vector<Styles> all{{}};
        for (const Style& s : spaced) all.insert(all.end(), {{.system = s}, {.user = s}, {.assistant = s}, {s, s, s}});
        for (const Style& s : others) all.push_back({s, s, s});
        for (const Style& s : reasoned) all.push_back({.assistant = s});
        for (int turns = 1; turns <= max_turns; ++turns)
            for (const bool system : {false, true}) {
                if (system && d_.has(text::chat_no_system)) continue;
                for (const Styles& styles : all) TRY(check(conversation(system, turns, styles)));
                TRY(check(conversation(system, turns, {}, true)));
            }
        return {};
    }

    Result<void> check(const Conversation& c) {
        const jinja::Rendered wanted = TRY(run(c));
        const std::string got = TRY(rendered(d_, c));
        if (got == wanted.text) return {};
        const auto at = static_cast<std::size_t>(
            std::mismatch(got.begin(), got.end(), wanted.text.begin(), wanted.text.end()).first - got.begin());
        return Error::make(
            Code::not_supported,
            "line %d: the image holds texts between messages, which cannot say this: %s, not %s, after %s",
            wanted.line_at(at), quoted(wanted.text, at, at + 20).c_str(), quoted(got, at, at + 20).c_str(),
            quoted(wanted.text, at > 20 ? at - 20 : 0, at).c_str());
    }

    const jinja::Template& program_;
    bool adds_bos_;
    jinja::Context context_{};
    std::int64_t steps_ = max_steps;
    Description d_{};
};

Error told(const Error& e, const std::string& name) {
    return Error::make(e.code == Code::incorrect_parameters ? Code::not_supported : e.code,
                       "chat template%s%s, %.180s%s", name.empty() ? "" : " ", name.c_str(), e.text,
                       name.empty() ? "; use --chat-template" : "");
}

}  // namespace

std::vector<std::string> chat_template_names() {
    std::vector<std::string> out;
    for (const Named& n : named) out.emplace_back(n.name);
    return out;
}

Result<std::vector<std::byte>> build_chat(std::string_view jinja, const TokenizerSpec& spec, const std::string& name) {
    if (name == "none") return std::vector<std::byte>{};
    if (!name.empty()) {
        const auto* found =
            std::find_if(std::begin(named), std::end(named), [&](const Named& n) { return n.name == name; });
        std::string known;
        for (const Named& n : named) known += std::string(n.name) + ", ";
        if (found == std::end(named))
            return Error::make(Code::not_found, "no chat template is called \"%.30s\"; there are %snone", name.c_str(),
                               known.c_str());
        jinja = found->jinja;
    }
    if (jinja.find_first_not_of(" \t\r\n") == jinja.npos) return std::vector<std::byte>{};
    const auto program = jinja::Template::parse(jinja);
    if (!program) return told(program.error(), name);
    auto found = Finder(program.value(), spec).find();
    if (!found) return told(found.error(), name);
    return found.value().section();
}

}  // namespace slmd::pack
