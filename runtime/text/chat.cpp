#include "text/chat.h"

#include <cstring>

#include "text/section.h"
#include "text/unicode.h"

namespace slmd::text {
namespace {

const ChatHeader& header(std::span<const std::byte> section) {
    return *reinterpret_cast<const ChatHeader*>(section.data());
}

std::string_view part(std::span<const std::byte> section, ChatText which) {
    const Table t = header(section).texts[static_cast<std::uint32_t>(which)];
    return {reinterpret_cast<const char*>(section.data()) + t.offset, t.count};
}

// What Python's str.strip() takes away: White_Space and the four separators U+001C..U+001F.
std::string_view trimmed(std::string_view s, bool left = true) {
    const auto blank = [](Char c) { return c.cls == CharClass::space || (c.code >= 0x1C && c.code <= 0x1F); };
    while (left && !s.empty() && blank(char_at(s, 0))) s.remove_prefix(char_at(s, 0).bytes);
    while (!s.empty()) {
        std::size_t last = s.size() - 1;
        while (last > 0 && s.size() - last < 4 && (static_cast<unsigned char>(s[last]) & 0xC0) == 0x80) --last;
        const Char c = char_at(s, last);
        if (!blank(c) || last + c.bytes != s.size()) break;
        s.remove_suffix(c.bytes);
    }
    return s;
}

// The rendered text, and which parts of it are the template's.
struct Sink {
    std::span<char> text;
    std::span<Trusted> trusted;
    std::size_t n = 0, ranges = 0;
    bool full = false;

    bool copy(std::string_view s) {
        if (s.size() > text.size() - n) return !(full = true);
        if (!s.empty()) std::memcpy(text.data() + n, s.data(), s.size());
        n += s.size();
        return true;
    }
    void message(std::string_view s) { copy(s); }
    void own(std::string_view s) {
        const auto begin = static_cast<std::uint32_t>(n);
        if (full || s.empty() || !copy(s)) return;
        const auto end = static_cast<std::uint32_t>(n);
        if (ranges > 0 && trusted[ranges - 1].end == begin)
            trusted[ranges - 1].end = end;
        else if (ranges == trusted.size())
            full = true;
        else
            trusted[ranges++] = {begin, end};
    }
};

Error bad(const char* what) { return Error::make(Code::model_format, "chat section: %s; pack the model again", what); }

}  // namespace

Result<ChatTemplate> ChatTemplate::open(std::span<const std::byte> section) {
    ChatTemplate t;
    if (section.empty()) return t;
    if (section.size() < sizeof(ChatHeader)) return bad("too short for its header");
    if (reinterpret_cast<std::uintptr_t>(section.data()) % alignof(ChatHeader))
        return bad("not at a multiple of 4 bytes");
    const ChatHeader& h = header(section);
    if (std::memcmp(h.magic, chat_magic, sizeof h.magic) != 0) return bad("not a chat template of this version");
    if (h.size > section.size()) return bad("truncated");
    if (h.flags & ~known_chat_flags) return bad("unknown kind of template");
    for (const Table& text : h.texts)
        if (text.offset < sizeof(ChatHeader) || text.offset > h.size || text.count > h.size - text.offset)
            return bad("a text lies outside");
    t.section_ = section.first(h.size);
    return t;
}

bool ChatTemplate::empty() const { return section_.empty(); }
std::string_view ChatTemplate::name() const { return empty() ? "none" : part(section_, ChatText::name); }
bool ChatTemplate::has_bos() const { return !empty() && header(section_).flags & chat_has_bos; }

Result<ChatTemplate::Rendered> ChatTemplate::render(std::span<const Message> messages, bool generation_prompt,
                                                    std::span<char> text, std::span<Trusted> trusted) const {
    if (empty())
        return Error::make(Code::not_supported, "this model has no chat template; generate from plain text instead");
    const std::uint32_t flags = header(section_).flags;
    const auto own = [&](ChatText which) { return part(section_, which); };
    const auto content = [&](const Message& m, bool left = true) {
        return flags & chat_trim ? trimmed(m.text, left) : m.text;
    };

    const bool given = !messages.empty() && messages[0].role == Role::system;
    const bool system = given || flags & chat_default_system;
    const bool apart = given && flags & (chat_alternate | chat_system_in_user |
                                         chat_system_first);  // otherwise a system text is a turn like any other
    const std::span<const Message> turns = apart ? messages.subspan(1) : messages;
    if (flags & chat_system_first)
        for (const Message& m : turns)
            if (m.role == Role::system)
                return Error::make(Code::incorrect_parameters, "chat template %.*s: a system text can only come first",
                                   static_cast<int>(name().size()), name().data());
    if (flags & chat_alternate)
        for (std::size_t i = 0; i < turns.size(); ++i)
            if (turns[i].role != (i % 2 ? Role::assistant : Role::user))
                return Error::make(Code::incorrect_parameters,
                                   "chat template %.*s: message %zu must be the %s's; a system text comes first, then "
                                   "user and assistant in turn",
                                   static_cast<int>(name().size()), name().data(), i + 1 + (given ? 1 : 0),
                                   i % 2 ? "assistant" : "user");
    if (flags & chat_system_in_user && given && (turns.empty() || turns[0].role != Role::user))
        return Error::make(Code::incorrect_parameters,
                           "chat template %.*s: a user's message must follow the system text",
                           static_cast<int>(name().size()), name().data());

    Sink out{text, trusted};
    const auto system_turn = [&] {
        out.own(own(ChatText::system_prefix));
        if (given)
            out.message(content(messages[0]));
        else
            out.own(own(ChatText::default_system));
        out.own(own(ChatText::system_suffix));
    };
    out.own(own(ChatText::start));
    const bool inside = flags & chat_system_in_user;
    if (system && !inside && (apart || !given)) system_turn();
    for (std::size_t i = 0; i < turns.size(); ++i) {
        const Message& m = turns[i];
        const bool user = m.role == Role::user, assistant = m.role == Role::assistant;
        out.own(own(user ? ChatText::user_prefix : assistant ? ChatText::assistant_prefix : ChatText::system_prefix));
        const bool holds_system = i == 0 && user && inside && system;
        if (holds_system) system_turn();
        out.message(content(m, !holds_system));  // the two are trimmed as one text
        out.own(own(user ? ChatText::user_suffix : assistant ? ChatText::assistant_suffix : ChatText::system_suffix));
    }
    if (generation_prompt) out.own(own(ChatText::generation));
    if (out.full)
        return Error::make(Code::text_too_long,
                           "the conversation does not fit in %zu bytes of text and %zu turns; shorten it", text.size(),
                           trusted.size());
    return Rendered{out.n, out.ranges};
}

}  // namespace slmd::text
