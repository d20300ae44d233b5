// A pipeline: agents one after the other and side by side, and rules for what comes next. Called by name, as an agent
// is. AGENTS.md says what its file can have.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "agent/agent.h"
#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::agent {

// What a step came to, as rules look at it.
struct Came {
    std::string_view answer;  // label, JSON or text
    bool json = false;
    std::string_view verdict;  // "pass", "fail", "unsure", "error"
    double confidence = 0;
};

// Where a branch goes on after a step, if all that it asks for is so.
struct Rule {
    std::string_view answer{}, verdict{};  // is this; "": whatever
    double below = 2, least = -1;          // the confidence is below, or at least
    std::string_view at{}, is{};           // the value there (JSON Pointer) is this text or number; at "": whatever
    double above = -1e308, under = 1e308;  // the number there is above, is under
    std::span<const std::uint8_t> to{};    // steps; several: the branch divides; none: it ends
};

struct Step {
    struct Input {
        std::string_view field;  // "": the agent's only one
        std::string_view text;   // {input}, {last}, {STEP} and {STEP/POINTER} are filled in
    };
    std::string_view name, agent;
    std::span<const Input> inputs;
    std::span<const Rule> rules;  // the first that holds; none does: the branch ends
    bool join = false;            // waits until all branches have come here or ended
    unsigned line = 0;
};

struct Pipeline {
    static constexpr std::size_t max_steps = 16, max_rules = 8, max_branches = 4;
    static constexpr int max_runs = 64;

    std::string_view name, description;
    std::span<const Step> steps;  // the first one begins
    int runs = 24;                // agents asked, at most
    int tokens = 0;               // of all answers, at most; 0: as the agents have it
    std::int64_t deadline_ms = 0;
};

// A file that has [[step]]. Of what cannot be parsed: false.
bool is_pipeline(const char* path);
// As read_agent(). Whether the agents are there is not known here.
Result<Pipeline> read_pipeline(const char* path, grammar::Heap& heap);

// Whether a step can call this agent: it is there, has the fields, and of a choice the answers of its rules. Errors:
// incorrect_parameters, what is wrong.
Result<void> check_step(const Step& step, const Agent* agent);

// scratch: of reading a JSON answer.
bool holds(const Rule& rule, const Came& came, std::span<std::byte> scratch);

// A step's input: of a single field its text, else a JSON object. last: what led here. came: of each step the last,
// answer.data() null where there was none, which fills in nothing. Errors: text_too_long.
Result<std::string_view> fill_in(const Pipeline& pipeline, const Step& step, const Agent& agent, std::string_view last,
                                 std::string_view input, std::span<const Came> came, std::span<char> out,
                                 std::span<std::byte> scratch);

}  // namespace slmd::agent
