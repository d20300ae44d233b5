// Every byte of slmd, before anything is loaded: the engine's plan and what the clients and requests take beside it.
#pragma once
#include <optional>
#include <span>

#include "agent/calibration_file.h"
#include "agent/calls.h"
#include "agent/set.h"
#include "agent/spans.h"
#include "base/arena.h"
#include "daemon/config.h"
#include "daemon/documents.h"
#include "daemon/pipelines.h"
#include "daemon/records.h"
#include "daemon/uplink.h"
#include "engine/engine.h"
#include "engine/snapshot.h"
#include "image/image.h"
#include "image/slots.h"
#include "task/classify.h"
#include "task/constraint.h"
#include "task/embed.h"
#include "task/generate.h"
#include "task/tools.h"
#include "wire/session.h"

namespace slmd::daemon {

constexpr std::size_t prompt_bytes = 65536;               // of a request
constexpr std::size_t tty_line_bytes = 16384;             // a prompt typed after AT#GEN
constexpr std::size_t answer_bytes = 16384;               // text that waits for its client
constexpr std::size_t max_spans = 64, path_bytes = 4096;  // of an answer: values whose places are told
constexpr std::size_t render_bytes = prompt_bytes + 16384;
constexpr std::size_t render_parts = 4 * wire::Session::max_turns;
// Measured: what the program, the C++ library and the stacks of all threads take when an answer has been given.
constexpr std::uint64_t program_bytes = 4u << 20;

// Measured: what SQLite's library and its thread's stack take beside that, when there are documents.
constexpr std::uint64_t sqlite_bytes = 1u << 20;

// What is known of an agent beside its file.
struct AgentState {
    char sha256[65];          // of its file, in hex
    char adapter_sha256[65];  // of its adapter's tensors, in hex; "": none
    bool calibrated;
    agent::Calibration calibration;
    agent::Drift drift;
    bool drifted;  // and told
    // Engine thread only: tokens with which every prompt of it begins, whole blocks; 0: too few to be kept
    bool prefix_known;
    int prefix;
};

// One request, from its acceptance to the end of its answer. Guarded by the service's lock, except what the comment
// says.
struct Job {
    enum State : unsigned char { free, live, finished } state;
    bool released;  // the client is gone, or cancelled it
    bool stream, opened, stepping;
    int slot;             // -1: none
    int adapter;          // of Config::adapters, engine::no_adapter
    std::uint64_t order;  // of acceptance
    std::atomic<bool> cancel;
    std::int64_t submitted_ns, first_ns, deadline_ns;
    int done, total, tokens_out;   // as the client sees them
    std::int64_t energy;           // microjoules when its work began; below 0: not known
    std::uint64_t rows, rows_all;  // computed for it; those of all when its work began
    wire::Outcome outcome;
    wire::Settings settings;
    struct {
        bool assistant;
        std::uint32_t begin, end;
    } turns[wire::Session::max_turns];
    int turn_count;
    std::uint32_t grammar_begin, grammar_end;  // in text: the schema or regex
    std::uint32_t source_begin, source_end;    // what its values stand in; none: the last turn
    task::Constraint::Kind bound;
    int constraint;                       // of Memory::constraints, -1: none
    task::CallList call_list;             // engine thread only
    char* text;                           // [prompt_bytes] turns
    std::int32_t* tokens;                 // [context] engine thread only
    task::Generation generation;          // engine thread only
    bool classifies;                      // instead
    task::Classification classification;  // engine thread only
    task::Label* labels;                  // [max_labels] of it; their texts are in `text`
    int label_count, top;
    engine::TreeNode* nodes;    // [max_nodes] engine thread only
    bool embeds;                // instead of both: each turn is a text
    task::Embedding embedding;  // engine thread only
    // Where one that classifies has its labels and nodes.
    task::EmbeddedText* texts;   // [max_texts] engine thread only
    wire::TextRead* texts_read;  // [max_texts]
    float* vectors;              // [vector_floats] engine thread only, until it is finished
    wire::LabelScore scores[wire::LabelSet::max_top];
    bool wants_spans, tools;
    std::uint32_t system_begin, system_end;  // in text: instead of the configured one; none: that one
    std::string_view source() const { return {text + source_begin, source_end - source_begin}; }
    const agent::Agent* agent;  // null: none
    agent::Set* set;            // that it is of
    AgentState* agent_state;
    bool other_adapter;  // than the agent's own: what its calibration says is not of this answer
    bool is_calibrated() const { return agent != nullptr && !other_adapter && agent_state->calibrated; }
    float confidence_of(const Features& f) const {
        return is_calibrated() ? agent::confidence(agent_state->calibration, f) : f.mean;
    }
    std::string_view values[agent::Agent::max_fields];
    std::uint32_t input_end;  // in text: an agent's prompt begins here
    int wording;              // 0: the answer is made; n: the prompt of its check n - 1 is asked, to compare
    bool cut;                 // the answer ended early
    // Of an agent with tools: the model calls, the board does it (act), the model is told, until it answers in words.
    int step;              // answers of the model before this one
    float sure;            // confidence of its last one
    bool held;             // it was below the threshold: outputs were not driven
    bool dry;              // they are not in any case
    bool prefix_brought;   // engine thread only: it was looked for
    bool acting;           // the event loop's thread has calls to carry out
    int tokens_before;     // of the answer, in the steps before
    std::uint32_t dialog;  // in text: what was said after the prompt ends here
    agent::Call pending[agent::max_calls];
    int pending_count;
    wire::CallResult calls[agent::Agent::max_steps * agent::max_calls];
    int call_count;
    std::size_t first_used;  // of `answer`: the answer, when a further prompt is asked
    agent::Finding findings[agent::Agent::max_checks];
    wire::CheckResult checks[agent::Agent::max_checks];
    wire::ValueSpan spans[max_spans];
    char* paths;   // [path_bytes] of spans
    char* answer;  // [answer_bytes] ring of text that the client has not taken
    std::size_t head, used;
    char joint[4];  // a code point that lies across the ring's end

    // An agent's answer that may be handed to the large model. home: it is not, or not yet; asks: act() decides; away:
    // it left; back: what came waits for the engine thread, behind `used` of `answer`.
    enum Way : unsigned char { home, asks, away, back } way;
    wire::Wish wish;
    wire::Away told_away;
    char away_key[route::Letter::key_bytes + 1], upstream[33], remote_model[65], away_failed[124];
    std::size_t remote_size;
    std::uint8_t input_sha256[32];  // where a ledger is kept
    std::uint64_t recorded;         // sequence of its decision in the ledger; 0: none
    bool came, came_bad;            // what came is to be recorded; it could not be used
    bool late;                      // it had come before this asked for it

    bool is_bound() const { return bound != task::Constraint::Kind::none; }
    bool has_tools() const { return tools || (agent != nullptr && !agent->tools.empty()); }
    // A model that is told of tools calls as models are trained to.
    task::CallForm call_form() const {
        return agent == nullptr || agent->told ? task::CallForm::bare : task::CallForm::listed;
    }
    bool lists_calls() const { return has_tools() && is_bound() && call_form() == task::CallForm::bare; }
    // Engine thread only.
    bool writes() const { return !classifies && !embeds; }
    std::span<const std::int32_t> begun() const {
        return embeds ? std::span<const std::int32_t>{} : classifies ? classification.tokens() : generation.tokens();
    }
    int prompt_tokens() const {
        return embeds ? embedding.read() : classifies ? classification.prompt_tokens() : generation.prompt_tokens();
    }
    int cached() const {
        return embeds ? embedding.read() : classifies ? classification.cached() : generation.cached();
    }
    task::Finish how() const {
        return embeds ? embedding.finish() : classifies ? classification.finish() : generation.finish();
    }
};
static_assert(wire::LabelSet::max_labels == task::Classification::max_labels);
static_assert(wire::Session::max_turns == task::Embedding::max_texts);
// Numbers that one request's embeddings come to, at most.
constexpr std::size_t vector_floats = task::Classification::max_nodes * sizeof(engine::TreeNode) / sizeof(float);

// A client's place: the session and the bytes that it has not looked at yet.
struct Client {
    int fd;
    int tty;  // index of the serial line, -1: a socket
    bool ended, reading, writing;
    std::size_t in_size, in_at;
    char in[1024];
    wire::Session session;
    std::span<char> line;
};

struct Memory {
    Client* clients;
    Job* jobs;
    int job_count;
    wire::JsonLine* reader;  // of all clients
    task::Workspace workspace;
    // Answers that obey a grammar: one a slot.
    grammar::Vocabulary vocabulary;
    task::Constraint constraints[engine::max_slots];
    std::span<std::byte> grammar_scratch;  // of checks, too
    agent::Set agents[2];                  // those that are, and those of the next reload
    AgentState* agent_states[2];           // [Set::max_agents] of the entries
    Pipelines pipelines;
    Documents documents;
    Uplink uplink;
    Records records;
    std::span<std::byte> snapshot_memory;  // of what is kept of their prompts; none: nothing is
};

// The same code counts and hands out. Jobs: one a slot, the queue, and as many that are being abandoned.
void lay_out(Arena& arena, const Config& config, int context, Memory& memory);
void lay_out_agents(Arena& arena, const Config& config, Memory& memory);
// vocab: tokens of the model.
void lay_out_grammars(Arena& arena, const Config& config, int vocab, Memory& memory);

struct Plan {
    wire::PlanItem items[24];
    int count = 0;
    int context = 0;  // tokens of a slot
    int tokens = 0;   // that a request has room for: those, or of a text that is embedded
    std::uint64_t total() const;
    std::span<const wire::PlanItem> view() const { return {items, static_cast<std::size_t>(count)}; }
};

// The images that a configuration names, and whose they have to be.
struct Images {
    image::Image model;
    std::optional<image::Image> draft, embed;
    std::optional<image::Image> adapters[engine::max_adapters];  // Config::adapter_count of them
    image::Trust trust{};
    image::Choice slot{};  // that the model is in; none: -1
};
// One of them, of which the error tells by its name. Errors: incorrect_parameters, since it is not the model's fault.
Result<image::Image> open_adapter(const Config::Adapter& adapter, const image::Trust& trust, bool index_only);
// Which image a configuration means: out is model itself or, of a folder of slots, what a start would run. Errors:
// not_found when no slot has one, storage_failure.
Result<void> find_model(const Config& config, char (&out)[sizeof Config::model_file]);
// Header and index only, of whomever they are. Errors: as Image::open_index.
Result<Images> open_indexes(const Config& config);

// It embeds texts, and writes none.
inline bool encodes(const image::Image& image) { return (image.params().flags & image::flag_encoder) != 0; }

// The layers of the model are read for every pass.
inline bool streams(const Config& config) { return config.engine.residency == image::Residency::streamed; }

// Errors: as engine::plan.
Result<Plan> plan(const Images& images, const Config& config);
// Errors: model_memory when the plan is larger than what is available (bytes), naming the changes that would make it
// fit: context, slots, threads, no draft model, no adapters, --stream.
Result<void> check_memory(const Images& images, const Config& config, std::uint64_t available);
// What a limit on slmd's memory must leave room for, bytes: the plan, an image that is mapped in place included, so
// that it is not read again and again; what reading an image takes before the engine is there (image::loading_bytes);
// and a margin of 1/256 of the plan (page tables are 1/512 of what is mapped) and 16 MiB (sockets, slabs, the
// configuration while it is read again). Errors: as engine::plan.
Result<std::uint64_t> memory_max(const Images& images, const Config& config);
// Threads that read an image: opening is short and every core helps, those of slower clusters too.
int loading_threads(const Config& config);
// The engines' configurations with what was left open filled in. The drafter holds what the engine holds.
engine::Config engine_config(const image::Image& model, const Config& config);
engine::Config drafter_config(const engine::Config& engine, engine::Engine* with);
engine::Config encoder_config(const engine::Config& engine, engine::Engine* with);

}  // namespace slmd::daemon
