// What an agent is: narrow work with a tight prompt, called by name. No engine here: slmd runs agents, slmctl checks
// their files. AGENTS.md says what a file can have.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "agent/evidence.h"
#include "base/result.h"
#include "grammar/automaton.h"

namespace slmd::agent {

// The longest text from a place on that one of the patterns matches, at most max_secret bytes: its end, or 0.
constexpr std::size_t max_secret = 4096;
std::size_t secret_at(std::span<const grammar::Automaton> patterns, std::string_view text, std::size_t at);

// What is handed in.
struct Field {
    enum Type : unsigned char { text, line, integer, number } type = text;
    std::string_view name;
    double min = 0, max = 0;  // of a text: bytes; of a number: its value
};

struct Label {
    std::string_view name, about;
    float prior = 1;
};

struct Shot {  // an example that stands in the prompt
    std::string_view prompt, answer;
};

struct Example {
    std::string_view input;  // as AT#RUN takes it
    std::string_view output;
    bool shown = false;
};

// What the model may have done on the board beside its answer: each tool of an agent is one name that it may call.
constexpr int max_pulse_ms = 3600000, max_pulses = 60;
struct Tool {
    // Switches an output of slmd's configuration, looks at a line, or reads what the board says of itself.
    enum Kind : unsigned char { output, pin, hardware } kind = output;
    std::string_view name, description;
    std::span<const std::string_view> subjects;  // by their names in slmd; of several the call names one
    int max_ms = 0;                              // of an output: for how long a call may ask; 0: it does not say
    int max_times = 0;                           // and for how many pulses; 0: it does not say
    // What a call of an output may depend on: a reading above or below a number, a line that is active or not.
    std::span<const std::string_view> if_hardware, if_pins;
    bool absent = false;  // may name what slmd does not have: the call fails, the agent does not
};

enum class Output : unsigned char { choice, schema, text };
// Which answers may be handed to a larger model where the configuration has one: none, those that failed a check,
// those that are unsure too.
enum class Escalate : unsigned char { never, fail, unsure };

// What of a request may leave the board for a large model, where slmd has an uplink, and how.
struct Remote {
    enum Policy : unsigned char { never, redacted, allowed } policy = never;
    bool wait = false;                        // it may be queued when there is no link
    bool learn = false;                       // pairs of request and answer are kept for training
    int priority = 0;                         // in the queue; higher first
    std::int64_t wait_ms = 86'400'000;        // after which one that waits is not sent any more
    std::span<const grammar::Automaton> patterns;  // what matches one is secret, too
    std::span<const std::string_view> terms;       // names and words that are secret, beside those of slmd's configuration
};

struct Agent {
    static constexpr std::size_t max_fields = 8, max_labels = 512, max_checks = 16, max_shots = 16, max_examples = 256;
    static constexpr std::size_t name_bytes = 32, field_bytes = 16384, label_bytes = 64, adapter_bytes = 23;
    static constexpr std::size_t max_tools = 16, max_subjects = 16, max_terms = 16, max_patterns = 8;
    static constexpr int max_steps = 8;

    std::string_view name, description;
    std::string_view model;    // the only one that it is for; "": any
    std::string_view adapter;  // that answers, as slmd's configuration calls it; "": the model alone
    std::string_view system, prompt;
    std::string_view head;     // of the prompt, before the first field: the same for every call
    std::string_view warning;  // "file:line: what would be better"; "": nothing
    std::span<const Field> fields;
    std::span<const Shot> shots;
    std::span<const Example> examples;  // all of them
    Output output = Output::text;
    std::span<const Label> labels;  // choice
    std::string_view schema;        // JSON Schema
    std::size_t text_bytes = 0;     // of a text
    std::size_t source = 0;         // the field that values are taken from
    std::span<const Check> checks;
    std::span<const Tool> tools;  // of a text
    std::string_view tool_list;   // what the model is told of them, as task::describe_tools takes it
    bool must_call = false;       // its first answer is a call, not words
    bool told = true;             // of its tools; false: the model was trained for them, and its prompt has nothing
    int steps = 3;                // answers of the model at most, the last of several in words only
    int max_tokens = 256;
    std::int64_t deadline_ms = 0;  // 0: none
    float threshold = 0;           // of confidence; below it: unsure
    Escalate escalate = Escalate::never;
    Remote remote;
};

// An input as one text for each field. written: AT#RUN's text, which is changed; object: it is a JSON object of
// fields, which it has to be where there is more than one field. Errors: incorrect_parameters, text_too_long,
// invalid_characters, naming the field and what it may be.
Result<void> read_input(const Agent& agent, std::span<char> written, bool object,
                        std::span<std::string_view, Agent::max_fields> values);

// A prompt with {field} in it, filled in; of a field's text nothing is filled in again. Errors: text_too_long.
Result<std::string_view> fill_in(const Agent& agent, std::string_view prompt,
                                 std::span<const std::string_view, Agent::max_fields> values, std::span<char> out);

// Reads NAME.toml. All that the agent has is in heap, which is as it was before on an error. Allocates while it reads.
// Errors: storage_failure; incorrect_parameters as "file:line: what and what to do"; memory_full.
Result<Agent> read_agent(const char* path, grammar::Heap& heap);

}  // namespace slmd::agent
