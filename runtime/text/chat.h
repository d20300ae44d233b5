// Chat templates as data: what stands between the texts of a conversation, read from the image's chat section.
#pragma once
#include <cstddef>
#include <span>
#include <string_view>

#include "base/result.h"
#include "text/tokenizer.h"

namespace slmd::text {

enum class Role : unsigned char { system, user, assistant };
struct Message {
    Role role;
    std::string_view text;
};

class ChatTemplate {
  public:
    static Result<ChatTemplate> open(std::span<const std::byte> section);
    bool empty() const;  // a base model: no template

    struct Rendered {
        std::size_t bytes, trusted;  // how much of the two buffers is filled
    };
    // The prompt of a conversation, ready for Tokenizer::encode: template parts are trusted, message texts are not. Its
    // messages: a system text or none, then user and assistant in turn, the user last. The assistant's turn is opened.
    // Errors: text_too_long, not_supported without a template, incorrect_parameters for another order of roles or for a
    // system text that the template has no place for.
    Result<Rendered> render(std::span<const Message> messages, std::span<char> text, std::span<Trusted> trusted) const;
    // The template's own BOS: when true encode() is to be called with add_bos = false.
    bool has_bos() const;

  private:
    std::span<const std::byte> section_;
};

}  // namespace slmd::text
