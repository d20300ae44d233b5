// Whether a request goes to the large model. A pure function: the same facts give the same decision, with its reason,
// and a record of them can be decided again.
#pragma once
#include <cstdint>

namespace slmd::route {

enum class Policy : std::uint8_t { never, redacted, allowed };  // of an agent; never is the default
enum class Wish : std::uint8_t { none, stay, leave };           // of whoever asks

struct Facts {
    Policy policy = Policy::never;
    bool cut = true;  // the privacy switch, or that it cannot be read
    Wish wish = Wish::none;
    bool checks_failed = false;  // of the local answer
    bool calibrated = false;     // without it, confidence says nothing, and nothing leaves for its sake
    float confidence = 0, threshold = 0;
    bool redacted = false;    // what would leave could be redacted; asked for under Policy::redacted
    bool affordable = false;  // within every limit of the budget, this request included
    bool link = false;        // an upstream can be reached
    bool may_wait = false;    // the agent allows the queue, and it has room
};

enum class Answer : std::uint8_t {
    keep,      // the local answer stands
    escalate,  // it goes to the large model
    queue,     // it will, when there is a link
    refuse     // it should, and cannot: the local answer, said to be no more than that
};
// In the order in which they are asked.
enum class Reason : std::uint8_t {
    policy,
    cut,
    wish_stay,
    confident,
    uncalibrated,
    not_redacted,
    budget,
    no_link,
    wish_leave,
    checks,
    doubt,
    no_answer  // decide() does not give it: what came back could not be used, or nothing did
};

struct Decision {
    Answer answer;
    Reason reason;
};
Decision decide(const Facts& facts);

const char* name_of(Answer answer);  // "keep"
const char* name_of(Reason reason);  // for people and records: "the agent's policy is never"

}  // namespace slmd::route
