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

std::string_view trimmed(std::string_view s, std::uint8_t trims) {
    s = stripped(s, trims & trim_left, trims & trim_right);
    while (trims & trim_newlines_left && s.starts_with('\n')) s.remove_prefix(1);
    while (trims & trim_newlines_right && s.ends_with('\n')) s.remove_suffix(1);
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
    for (std::uint32_t i = 0; i < sizeof h.trims; ++i)
        if (h.trims[i] & ~(i < chat_trims ? known_trims : 0)) return bad("unknown way to trim a text");
    for (const Table& text : h.texts)
        if (text.offset < sizeof(ChatHeader) || text.offset > h.size || text.count > h.size - text.offset)
            return bad("a text lies outside");
    t.section_ = section.first(h.size);
    return t;
}

bool ChatTemplate::empty() const { return section_.empty(); }
bool ChatTemplate::has_bos() const { return !empty() && header(section_).flags & chat_has_bos; }

Result<ChatTemplate::Rendered> ChatTemplate::render(std::span<const Message> messages, std::span<char> text,
                                                    std::span<Trusted> trusted) const {
    if (empty())
        return Error::make(Code::not_supported, "this model has no chat template; generate from plain text instead");
    const ChatHeader& h = header(section_);
    const bool system = !messages.empty() && messages[0].role == Role::system;
    const std::span<const Message> turns = messages.subspan(system ? 1 : 0);
    if (system && h.flags & chat_no_system)
        return Error::make(Code::incorrect_parameters, "this model's chat template has no place for a system text");
    for (std::size_t i = 0; i < turns.size(); ++i)
        if (turns[i].role != (i % 2 ? Role::assistant : Role::user))
            return Error::make(Code::incorrect_parameters,
                               "message %zu must be the %s's: a system text comes first, then user and assistant in "
                               "turn",
                               i + 1 + (system ? 1 : 0), i % 2 ? "assistant" : "user");
    if (turns.size() % 2 == 0)
        return Error::make(Code::incorrect_parameters, "the last message of a conversation must be the user's");

    Sink out{text, trusted};
    const auto own = [&](ChatText which) { out.own(part(section_, which)); };
    const auto message = [&](std::string_view s, ChatTrim slot) {
        out.message(trimmed(s, h.trims[static_cast<std::uint32_t>(slot)]));
    };
    const auto answer = [&](std::string_view s) {
        const std::string_view end = part(section_, ChatText::reasoning_end);
        const std::size_t at = end.empty() ? s.npos : s.rfind(end);
        if (at == s.npos)
            message(s, ChatTrim::assistant);
        else
            message(s.substr(at + end.size()), ChatTrim::answer);
    };
    const bool late = h.flags & chat_system_last;
    if (!system || late) own(ChatText::start);
    for (std::size_t i = 0; i < turns.size(); ++i) {
        if (i % 2) {
            own(ChatText::after_user);
            answer(turns[i].text);
            continue;
        }
        if (i > 0) own(ChatText::after_assistant);
        const bool after_system = system && i == (late ? turns.size() - 1 : 0);
        if (after_system) {
            own(ChatText::system_prefix);
            message(messages[0].text, ChatTrim::system);
            own(ChatText::system_suffix);
        }
        message(turns[i].text, after_system        ? ChatTrim::user_after_system
                               : !system && i == 0 ? ChatTrim::first_user
                                                   : ChatTrim::user);
    }
    own(ChatText::generation);
    if (out.full)
        return Error::make(Code::text_too_long,
                           "the conversation does not fit in %zu bytes of text and %zu turns; shorten it", text.size(),
                           trusted.size());
    return Rendered{out.n, out.ranges};
}

}  // namespace slmd::text
