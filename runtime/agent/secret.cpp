// What an agent's own patterns find.
#include <algorithm>

#include "agent/agent.h"

namespace slmd::agent {

std::size_t secret_at(std::span<const grammar::Automaton> patterns, std::string_view text, std::size_t at) {
    std::size_t longest = 0;
    const std::size_t last = std::min(text.size(), at + max_secret);
    for (const grammar::Automaton& a : patterns) {
        std::uint16_t state = 0;
        for (std::size_t i = at; i < last && a.states > 0; i++) {
            state = a.step(state, static_cast<unsigned char>(text[i]));
            if (state == grammar::Automaton::dead) break;
            if (a.label[state] != 0) longest = std::max(longest, i + 1);
        }
    }
    return longest;
}

}  // namespace slmd::agent
