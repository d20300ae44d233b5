// What is asked of the documents: a thread of its own has the store, since writing to a card takes its time; the event
// loop's thread hands requests in, has questions embedded, and takes the results away. What was added is embedded
// behind the requests' backs, while nothing else is asked.
#pragma once
#include <pthread.h>

#include <atomic>
#include <span>

#include "base/arena.h"
#include "daemon/config.h"
#include "docs/evidence.h"
#include "docs/store.h"
#include "wire/session.h"

namespace slmd::daemon {

class Documents {
  public:
    static constexpr int max_runs = 4, first_handle = 2000;  // handles of pipelines are smaller

    // Nothing when the configuration has no documents.
    void lay_out(Arena& arena, const Config& config);
    // Opens the store and starts its thread: before the sandbox closes. wake: an eventfd. That the store cannot be
    // opened is logged, and what is asked of it says it.
    Result<void> open(const Config& config, int wake);
    void close();

    // Who embeds: its number (0: nobody does, and words alone are compared) and the length of its vectors.
    struct Embedder {
        std::int64_t id = 0;
        int dim = 0;
    };
    // Errors: not_supported, busy, text_too_long.
    Result<int> start(const wire::Request& request, const Embedder& embedder);
    // Does what can be done next. idle: nobody waits for the model.
    void advance(wire::Host& host, const Embedder& embedder, bool idle);
    wire::View view(int handle);
    void take(int handle, std::size_t bytes);
    void release(int handle, wire::Host& host);

  private:
    static constexpr std::size_t list_size = 32, together = docs::Store::max_hits;
    // Of a request's texts and of the vectors that are stored together.
    static constexpr std::size_t text_bytes = 65536, prompt_bytes = 4096, answer_bytes = 1024;
    static constexpr std::size_t evidence_bytes = 400;  // of a sentence that is quoted
    static_assert(together * docs::Store::max_dim <= text_bytes);
    static_assert(list_size * (docs::Store::name_bytes + 64) <= docs::Store::hits_bytes);
    struct Run {
        enum Stage : unsigned char { free, at_store, stored, embedding, answering, finished } stage;
        bool released, working, failed;  // working: the store's thread has it
        enum What : unsigned char { list, add, remove, search, ask, find_unembedded, put_vectors } what;
        std::uint64_t order;
        std::int64_t begun_ns, deadline_ns;
        char* text;   // [text_bytes] what was asked
        char* found;  // [Store::hits_bytes] texts of what was found
        std::string_view question, name, sha256;
        docs::Passage passages[docs::Store::max_part];
        docs::Part part;
        docs::Store::By by;
        std::size_t top;
        std::int64_t encoder, behind;
        int dim;  // 0: there is no vector
        float vector[docs::Store::max_dim];
        docs::Hit hits[docs::Store::max_hits];
        docs::Document documents[list_size];
        std::size_t count;
        docs::Counts counts;
        docs::Evidence evidence;
        docs::Added added;
        int removed, handle;
        Error error;
        wire::PassageFound told[docs::Store::max_hits];
        wire::DocumentInfo listed[list_size];
        wire::DocumentsOutcome documents_outcome;
        wire::Outcome outcome;
        char* prompt;  // [prompt_bytes]
        char* answer;  // [answer_bytes]
        std::size_t answer_size, taken;
    };

    static void* thread_main(void* self);
    void work();
    Result<void> perform(Run& run);
    void to_store(Run& run);
    bool settled(const Run& run);
    void embed(Run& run, wire::Host& host);
    void tell(Run& run, wire::Host& host);
    void ask(Run& run, wire::Host& host);
    void answered(Run& run, wire::Host& host);
    void read_answer(Run& run);
    void refuse(Run& run, const char* why);
    void fail(Run& run, const Error& error);
    void end(Run& run);
    void keep_embedding(wire::Host& host, const Embedder& embedder, bool idle);
    Run& run_of(int handle) { return runs_[handle - first_handle]; }
    Run& background() { return runs_[max_runs]; }

    std::span<std::byte> memory_;  // of SQLite
    Run* runs_ = nullptr;          // [max_runs + 1]; null: there are no documents
    docs::Store store_;            // of its thread, once it runs
    pthread_t thread_{};
    pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t work_ = PTHREAD_COND_INITIALIZER;
    bool started_ = false, stop_ = false, is_open_ = false;
    int wake_ = -1;
    std::uint64_t order_ = 0;
    Error unopened_{};
    std::atomic<bool> changed_{true};  // there may be passages without a vector, anywhere
    bool all_embedded_ = false;        // as far as is known
    std::int64_t behind_ = 0;          // this passage those without a vector are looked for
};

}  // namespace slmd::daemon
