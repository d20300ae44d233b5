#include "task/prompt.h"

namespace slmd::task {

Result<Prompt> encode_prompt(const text::Tokenizer& tokenizer, const text::ChatTemplate& chat,
                             std::span<const text::Message> messages, bool raw, std::span<std::int32_t> tokens,
                             const Workspace& workspace) {
    if (messages.empty()) return Error::make(Code::incorrect_parameters, "there is no prompt");
    std::string_view prompt = messages.back().text;
    std::span<const text::Trusted> trusted;
    bool add_bos = true;
    const bool rendered = !raw && !chat.empty();
    if (rendered) {
        const auto r = TRY(chat.render(messages, workspace.text, workspace.trusted));
        prompt = {workspace.text.data(), r.bytes};
        trusted = workspace.trusted.first(r.trusted);
        add_bos = !chat.has_bos();
    }
    const auto n = tokenizer.encode(prompt, trusted, add_bos, tokens, workspace.scratch);
    if (!n && n.error().code == Code::context_full)
        return Error::make(Code::context_full, "the prompt (%zu bytes) has more tokens than the context of %zu",
                           prompt.size(), tokens.size());
    if (!n) return n.error();
    if (n.value() == 0) return Error::make(Code::incorrect_parameters, "the prompt has no tokens");
    if (n.value() >= tokens.size())
        return Error::make(Code::context_full, "the prompt fills the context of %zu tokens; nothing is left to answer",
                           tokens.size());
    return Prompt{static_cast<int>(n.value()), rendered};
}

}  // namespace slmd::task
