// Pipelines at work: which agents are asked next, and what came of each. For the event loop's thread.
#pragma once
#include <span>

#include "agent/set.h"
#include "base/arena.h"
#include "wire/session.h"

namespace slmd::daemon {

class Pipelines {
  public:
    static constexpr int max_runs = 4, first_handle = 1000;  // handles of requests are smaller

    void lay_out(Arena& arena);
    // set: of the pipeline and its agents; must stay while the run does. Errors: busy, text_too_long,
    // invalid_characters.
    Result<int> start(const agent::Pipeline& pipeline, agent::Set& set, const wire::Request& request);
    // Asks what can be asked, and takes what was answered.
    void advance(wire::Host& host);
    wire::View view(int handle);
    void take(int handle, std::size_t bytes);
    // Returns the set that is no longer needed.
    agent::Set* release(int handle, wire::Host& host);

  private:
    static constexpr std::size_t text_bytes = 65536, trail_answer = 160, max_branches = 8, input_bytes = 20480;
    static constexpr std::size_t scratch_bytes = 128 * 1024;
    struct Branch {
        enum State : unsigned char { free, ready, asked, joining } state;
        std::uint8_t step;
        int from;    // the step that led here; -1: none
        int handle;  // when asked
        std::int64_t asked_ns;
    };
    struct Run {
        const agent::Pipeline* pipeline;  // null: free
        agent::Set* set;
        bool finished, trusted, dry;
        std::int64_t begun_ns, deadline_ns;
        char* text;  // [text_bytes] the input, then every answer
        std::size_t used;
        std::string_view input, answer;
        std::size_t taken;
        agent::Came came[agent::Pipeline::max_steps];
        Branch branches[max_branches];
        wire::StepResult trail[agent::Pipeline::max_runs];
        int trail_count, asked, tokens;
        wire::Outcome outcome;
    };

    bool go_on(Run& run, wire::Host& host);
    bool ask(Run& run, Branch& branch, wire::Host& host);
    bool listen(Run& run, Branch& branch, wire::Host& host);
    void came(Run& run, Branch& branch, const agent::Came& what, const wire::Outcome* outcome, const Error* error);
    void follow(Run& run, Branch& branch);
    bool join(Run& run);
    void give_up(Run& run, wire::Host& host);
    void end(Run& run, const char* finish, wire::Host& host);

    Run* runs_ = nullptr;
    std::span<std::byte> scratch_;
    char* input_ = nullptr;  // [input_bytes] of the step that is being asked
};

}  // namespace slmd::daemon
