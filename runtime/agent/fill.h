// Texts with {NAME} in them: prompts of agents, inputs of a pipeline's steps.
#pragma once
#include <optional>
#include <string_view>

namespace slmd::agent {

// Puts the text part by part. For a name find() gives what stands instead of {NAME}; where it gives nothing, the brace
// is one. In what is filled in nothing is looked for.
template <class Put, class Find>
void fill(std::string_view text, Put put, Find find) {
    while (!text.empty()) {
        const std::size_t brace = text.find('{');
        put(text.substr(0, brace));
        if (brace == std::string_view::npos) return;
        text.remove_prefix(brace);
        const std::size_t end = text.find('}');
        std::optional<std::string_view> found;
        if (end != std::string_view::npos) found = find(text.substr(1, end - 1));
        put(found.value_or("{"));
        text.remove_prefix(found ? end + 1 : 1);
    }
}

}  // namespace slmd::agent
