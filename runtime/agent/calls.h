// What a model that has an agent's tools answers: calls of them, or words.
#pragma once
#include <span>
#include <string_view>

#include "agent/agent.h"

namespace slmd::agent {

constexpr int max_calls = 8;  // of one answer

struct Call {
    const Tool* tool = nullptr;
    std::string_view subject;    // one of the tool's
    std::string_view arguments;  // as they were written, a JSON object
    bool on = false;             // of an output: what it is to be
    int ms = 0;                  // and for how long; 0: nothing is said of that
    int times = 0;               // and how often; 0: nothing is said of that
    // Only if this reading is above or below a number, or this line is active or not.
    enum If : unsigned char { always, above, below, active, inactive } when = always;
    std::string_view of;
    double bound = 0;
};

struct Calls {
    Call calls[max_calls];
    int count = 0;
    std::string_view text;  // without calls
};

// The answer {"calls": [{"name", "arguments"}, ...]} or {"text"}, which is changed; what is returned points into it.
// Errors: incorrect_parameters where it is not that; an answer that obeyed the tools' schema is.
Result<Calls> read_calls(const Agent& agent, std::span<char> answer);

}  // namespace slmd::agent
