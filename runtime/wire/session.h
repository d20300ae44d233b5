// One client of SLM-AT/1: bytes in, bytes out, nothing else. No I/O, no clock, no thread, no allocation; what it needs
// it asks of a Host.
#pragma once
#include <cstdint>
#include <optional>
#include <span>
#include <string_view>

#include "base/features.h"
#include "base/result.h"
#include "wire/commands.h"
#include "wire/json.h"
#include "wire/settings.h"
#include "wire/text.h"

namespace slmd::wire {

struct Turn {
    bool assistant;
    std::string_view text;
};

// What an answer is chosen from.
struct LabelSet {
    static constexpr std::size_t max_labels = 512, label_bytes = 64;
    static constexpr int max_top = 16;
    std::span<const std::string_view> labels;
    std::span<const float> priors;  // one a label, or none
    int top;                        // that are told
};

struct LabelScore {
    std::string_view label;
    float probability;
};

// What was looked at outside of the model.
struct CheckResult {
    std::string_view name;
    const char* verdict;  // "pass", "fail", "absent"
    std::string_view why;
};

// Where a value of an answer stands in what it was taken from; JSON Pointer, bytes. begin -1: it does not.
struct ValueSpan {
    std::string_view at;
    int begin, end;
};

// What an agent had done on the board.
struct CallResult {
    std::string_view name, arguments;  // a JSON object
    std::string_view result;           // what came of it, for the model and for people
    bool failed = false;
};

// A step of a pipeline that was made.
struct StepResult {
    std::string_view name, agent;
    const char* verdict;  // of the agent's answer; "error": there is none
    float confidence;
    int tokens;
    std::int64_t ms;
    std::string_view answer;  // its beginning, or why there is none
    bool failed;
};

// Of a document, as it is added.
struct PassageGiven {
    std::string_view heading, text;
    std::int64_t begin, end;
};

// What is wanted of the documents.
struct DocumentsRequest {
    static constexpr std::size_t max_passages = 64;
    static constexpr int max_top = 16;
    enum What : unsigned char { list, add, remove, search, ask } what;
    std::string_view name{}, sha256{};  // of list: the name behind which it goes on
    std::int64_t bytes = 0;
    int part = 0;
    bool last = true;
    std::span<const PassageGiven> passages{};
    std::string_view by{};  // "both", "words", "meaning"
    int top = 0;            // 0: as many as is usual
};

// A passage that was found, or what an answer stands in.
struct PassageFound {
    std::int64_t passage, begin, end;
    std::string_view document, heading, text;
    float score, coverage;
    int words, meaning;  // its ranks; 0: not found so
};

struct DocumentInfo {
    std::string_view name, sha256;
    std::int64_t bytes;
    int passages, embedded;
    bool whole;
};

struct DocumentsOutcome {
    DocumentsRequest::What what;
    bool unchanged = false, answered = false, meaning = false;  // meaning: vectors were asked, too
    std::int64_t documents = 0, passages = 0;
    std::span<const PassageFound> found{};  // hits, or citations
    std::span<const DocumentInfo> list{};
    const char* why = "";  // there is no answer
    float coverage = 0;    // of the question by the sentence that says most of it
};

// Of an agent's answer where slmd has an uplink: why it was kept or not, and what the large model's came to.
struct Away {
    const char* reason = "";               // for people
    std::string_view key{};                // of one that waits: AT#QUEUE has its answer by it
    std::string_view upstream{}, model{};  // who answered; "": nobody
    std::string_view failed{};             // why its answer is not the one
    int prompt_tokens = 0, tokens = 0, tries = 0;
    std::int64_t cost = 0, bytes_out = 0, bytes_in = 0, ms = 0;  // cost: millionths of the currency of the prices
};

// One that was queued for the large model.
struct QueueInfo {
    std::string_view key, agent;
    bool answered;
    int priority;
    std::int64_t queued, deadline;  // Unix time, seconds; deadline 0: none
};

// What was spent or reserved of what may be; limits below 0: there is none.
struct BudgetInfo {
    std::string_view agent;          // "": all of them together
    const char* period;              // "day", "month"; of UTC
    std::int64_t used[3], limit[3];  // money in millionths, tokens, bytes
};

// Whether a request is to be answered here or by the large model; neither: as the agent's file has it.
enum class Wish : unsigned char { none, local, remote };

// What a client asks for. Host::submit copies the texts.
struct Request {
    std::span<const Turn> turns;  // user and assistant in turn, the last one a user's
    const Settings* settings;
    bool stream;                       // false: the text is fetched when the answer is complete
    const LabelSet* labels = nullptr;  // a classification; null: a text is generated
    // What the answer must obey; at most one of them. "": anything goes
    std::string_view schema{}, regex{};
    std::string_view source{};                    // what values with "from": "source" stand in; "": the last turn
    bool spans = false;                           // where the values stand is told, too
    std::string_view tools{}, tool_choice{};      // what may be called; no schema and no regex then
    std::string_view agent{};                     // by name; the only turn is its input
    bool fields = false;                          // which is a JSON object of fields
    bool trusted = false;                         // it may see and drive the board's hardware
    bool dry_run = false;                         // an agent's calls switch nothing
    Wish wish = Wish::none;                       // of an agent's answer
    std::string_view key{};                       // of one that was queued: its answer is asked for; all else is absent
    std::optional<std::string_view> adapter{};    // of an agent, instead of its own; others have it in their settings
    bool embed = false;                           // each turn is a text to embed; all else is absent
    const DocumentsRequest* documents = nullptr;  // of the documents instead; the only turn is a question
};

// Of a text that was embedded.
struct TextRead {
    int tokens;
    bool cut;  // it has more
};

struct Outcome {
    bool failed = false;
    Error error{};            // when failed
    const char* finish = "";  // "stop", "length", "deadline", "cancelled"; of pipelines also "steps", "tokens"
    int prompt_tokens = 0, tokens = 0;
    std::int64_t first_ms = 0, total_ms = 0;  // to the first token, to the end; waiting included
    float probability = 0;                    // mean over the answer's tokens
    double joules = -1;                       // its share of what the board took; below 0: no sensor
    std::span<const LabelScore> labels{};     // the most probable first; there until the request is released
    float margin = 0;                         // of the first over the second
    bool json = false;                        // the answer is a JSON text, whole
    const char* verdict = nullptr;  // of an agent's answer: "pass", "fail" (a check), "unsure"; null: no agent
    const char* route = "";  // "keep", "escalate": what the agent's file says of such a verdict; with an uplink what
                             // was done, "queue" and "refuse" among it
    const Away* away = nullptr;                   // there until the request is released; null: there is no uplink
    Features features{};                          // of what the model drew
    float confidence = 0;                         // that it is right
    bool calibrated = false;                      // against examples; else the model's own word
    std::span<const CheckResult> checks{};        // there until the request is released
    std::span<const ValueSpan> spans{};           // likewise
    std::span<const CallResult> calls{};          // likewise, in the order in which they were made
    std::span<const StepResult> steps{};          // likewise
    std::span<const TextRead> texts{};            // likewise; those that were embedded
    std::span<const float> vectors{};             // theirs, one behind the other
    const DocumentsOutcome* documents = nullptr;  // likewise; null: nothing was asked of them
};

// How a request stands.
struct View {
    enum State : unsigned char { waiting, reading, answering, finished } state = waiting;
    int place = 0;            // in the queue, from 1; 0 when it has a turn
    int done = 0, total = 0;  // prompt tokens read
    int tokens = 0;           // of the answer so far
    std::string_view
        text;  // the part of the answer that take() has not taken yet; UTF-8, perhaps not all of what there is
    std::string_view provisional{};    // what the local model said, as long as the large one is asked
    const Outcome* outcome = nullptr;  // when finished
};

struct Status {
    const char* state = "idle";  // "loading", "idle", "busy", "stopping"
    int loading = 100;           // per cent
    int queue = 0, clients = 0;
    double temp_c = -1000;  // below absolute zero: not known
    std::uint64_t used_mib = 0, limit_mib = 0;
    double rate = 0;  // tokens/s of the last answer
};

struct ModelInfo {
    std::string_view name;
    std::uint64_t bytes = 0;
    int context = 0;
    bool resident = false;
    std::string_view image{};  // its hash, in hex
};

struct PlanItem {
    const char* name;
    std::uint64_t bytes;
};

struct Identity {
    const char* maker = "slmd project";
    const char* product = "slmd";
    const char* version = "0.0.0";
    const char* serial = "0";
};

struct AgentInfo {
    std::string_view name, description, file;
    const char* answer = "";   // "choice", "schema", "text"
    std::string_view error{};  // why it cannot be run; "": it can
    bool calibrated = false;
    std::string_view sha256{};  // of its file, in hex
    int answers = 0;            // since it was read, when it is calibrated
    double drift = 0;           // population stability index of their scores; above 0.25 they are others
    std::string_view adapter{}, adapter_sha256{};  // its name, and what a calibration is bound to, in hex; "": none
};

struct AdapterInfo {
    const char *name, *title;  // as the configuration calls it, and as its file does
    int rank;                  // the largest of its matrices
    std::uint64_t bytes;
};

// What the board says of itself: one line of AT#HW. A text, or count values.
struct HardwareItem {
    const char *name, *text;
    double values[3];
    int count;
};

struct PinState {
    const char *name, *use;  // use: "out", "in", "trigger"
    int active;              // -1: the line cannot be had
};

// What is told unasked, to those who want it.
struct Event {
    enum Kind : unsigned char { board = 1, pins = 2, model = 4 } kind = board;
    const char* name = "";  // "THERM", "PIN", "TRIG", ...; static
    char subject[36] = "";  // which pin, trigger or agent; "" for none
    double value = 0;       // as the name has it
    int number = -1;        // threads after a decision; below 0: none
    char text[512] = "";    // an answer
};

class Host {
  public:
    virtual Result<int> submit(
        const Request& request) = 0;  // a handle. Errors: busy, no_model, text_too_long, shutting_down
    virtual View view(int handle) = 0;
    virtual void take(int handle, std::size_t bytes) = 0;
    virtual void release(int handle) = 0;  // ends it when it still runs; the handle is gone at once
    virtual Status status() = 0;
    virtual ModelInfo model() = 0;
    virtual std::span<const PlanItem> plan() = 0;
    virtual std::span<const HardwareItem> hardware() = 0;
    virtual std::span<const PinState> pins() = 0;
    // Valid until the next call.
    virtual std::span<const AgentInfo> agents() = 0;
    virtual std::span<const AdapterInfo> adapters() = 0;
    virtual std::span<const QueueInfo> queue() = 0;
    virtual std::span<const BudgetInfo> budget() = 0;
    // Errors: not_supported (no uplink), not_found, busy (it is being sent), storage_failure.
    virtual Result<void> drop(std::string_view key) = 0;
    // Errors: not_found, not_allowed (interlock), busy (rate), incorrect_parameters (length), device_io.
    virtual Result<void> drive(std::string_view output, bool on, int ms) = 0;

  protected:
    ~Host() = default;
};

struct SessionOptions {
    bool tty = true;                     // echo, 255 bytes a line, CR LF; otherwise a socket
    std::span<char> line;                // where a command line and a prompt are collected, at least 512 bytes
    JsonLine* reader = nullptr;          // of JSON lines; all sessions of a thread may share one
    const Settings* defaults = nullptr;  // null: the factory's
    Identity identity{};
    bool trusted = false;  // may see and drive the board's hardware
};

class Session {
  public:
    static constexpr std::size_t ring_bytes = 4096, tty_line_bytes = 255, conversation_bytes = 16384;
    static constexpr int max_width = 1024, max_window = 8, max_actives = 5, max_turns = 64;
    static constexpr std::uint64_t half_line_ms = 30000, prompt_ms = 300000, guard_ms = 1000, window_ms = 2000;

    // A fresh session, whatever it was before.
    void open(const SessionOptions& options, Host& host);
    // Ends all its requests.
    void close();
    // `#READY: 1,"slmd","version"`
    void greet();
    // Takes bytes as long as there is room for their answers; returns how many. now: milliseconds of a clock that only
    // goes forward.
    std::size_t feed(std::string_view bytes, std::uint64_t now);
    // Moves what the requests have to say into the output, looks at timeouts, goes on with what waited for room.
    void pump(std::uint64_t now);
    // The next bytes to send, and how many of them were sent.
    std::string_view output() const;
    void consume(std::size_t bytes);
    // Told as soon as nothing else is being said; asked for (AT#EVT) or forced.
    void notify(const Event& event, bool forced = false);
    // Every running request ends with error 269.
    void stop();

    bool wants_time() const;  // pump() is to be called every 100 ms or so
    bool active() const;      // a request is running
    std::uint64_t dropped() const { return dropped_; }

  private:
    enum class Mode : unsigned char { command, prompt, chat };
    struct Active {
        int handle = -1;
        bool tools = false, json = false, stream = false, progress = false, chat = false, labels = false, agent = false,
             spans = false, embed = false, bytes = false,  // bytes: a vector is told as such
            documents = false, provisional = false;
        int place = 0, done = -1;
        std::size_t shown = 0;  // bytes of what is provisional
        float doubt = 0;        // the setting
        char id[96];
        std::uint8_t id_size = 0;
        std::string_view id_view() const { return {id, id_size}; }
        // 0: all of the answer was forced.
        bool doubtful(const Outcome& o) const { return o.probability > 0 && o.probability < doubt; }
    };
    enum class List : unsigned char {
        none,
        names,
        help,
        help_one,
        setting_values,
        setting_ranges,
        plan,
        hardware,
        pins,
        agents,
        adapters,
        result,
        queue,
        budget,
        rpc_plan,
        rpc_hardware,
        rpc_pins,
        rpc_help,
        rpc_discover,
        rpc_agents,
        rpc_queue,
        rpc_budget,
        rpc_adapters,
        rpc_result
    };

    // bytes
    void byte(char c, std::uint64_t now);
    void command_byte(char c);
    void prompt_byte(char c);
    void chat_byte(char c);
    void echo(std::string_view text);
    bool erase_last();
    void drop_line();
    void line_end();
    void execute();
    void cancel_foreground(bool report);
    void chat_turn();
    void chat_end();
    std::string_view take_check(std::string_view line, bool& present, bool& good) const;

    // output
    std::size_t room() const { return ring_bytes - used_; }
    void push(std::string_view text);
    void info(const Line& line);
    void info(std::string_view text);
    void final(std::string_view words, int number);
    void ok() { final("OK", 0); }
    void fail(const Error& error);
    void start_list(List kind);
    void list_step();
    void end_list();

    // AT
    void at_line(std::span<char> text);
    void at_run(const Command& command, Forms form, std::span<const Arg> args);
    void at_test(const Command& command);
    Result<int> parse_args(std::span<char> text, std::span<Arg> args) const;
    static Result<void> check_args(const Command& command, std::span<const Arg> args);
    void at_generate(std::span<const Arg> args);
    void at_classify(std::span<const Arg> args);
    void at_vector(const Outcome& outcome, bool bytes, std::size_t line);
    void at_request(const Result<int>& handle, bool stream, Active kind);
    void at_result_step();
    bool at_documents_step();
    void at_away(const Away& away, const char* route);
    void at_queue_step();
    void at_budget_step();
    void at_end(Active& a);
    void pump_at(Active& a);
    void pump_chat(Active& a);
    void start_line(Line& line, const Command& command) const;
    void help_line(Line& line, const Command& command) const;
    void stat_line(Line& line);
    Result<void> trusted() const;
    static Result<int> drive(Host& host, std::span<const Arg> args);
    void tell_events();

    // window
    int unacked() const { return static_cast<int>(sent_ - acked_); }
    void hold(std::string_view text);
    void acknowledge();
    void resend();

    // JSON-RPC
    void rpc_line(std::span<char> text);
    void rpc_run(const Command& command, const JsonNode* params, const JsonNode* id);
    Result<void> rpc_request(const Command& command, std::span<const Arg> args, const Settings& settings, bool stream,
                             bool progress, std::string_view id);
    void rpc_open(std::string_view id);
    void rpc_piece(const Line& line);
    void rpc_end();
    void rpc_error(std::string_view id, const Error& error, int tokens = -1);
    void rpc_discover_step();
    void rpc_help_step();
    void rpc_result_step();
    void rpc_documents_step();
    void rpc_away(const Away& away);
    void rpc_queue_step();
    void rpc_budget_step();
    void rpc_passage(const PassageFound& p, std::size_t item, bool ranked);
    void agent_line(Line& line, const AgentInfo& agent);
    void rpc_agent(Line& line, const AgentInfo& agent);
    void rpc_stat(Line& line);
    void rpc_vectors(const Outcome& outcome, bool bytes, std::size_t piece);
    void rpc_outcome(Line& line, const Outcome& outcome, bool labels);
    void pump_rpc(Active& a);

    // requests and conversation
    Result<int> submit_prompt(std::span<const Arg> args, const Settings& settings, bool stream);
    static Result<void> bind(Request& request, std::span<const Arg> bound);
    Result<int> submit_turn(std::string_view text, const Settings& settings, bool stream,
                            std::span<const Arg> bound = {});
    Result<int> submit_labels(std::span<const Arg> args, Settings settings, int top);
    Result<int> submit_embed(std::span<const Arg> args, Settings settings, bool& bytes);
    Result<int> submit_extract(std::span<const Arg> args, Settings settings, bool stream);
    Result<int> submit_agent(std::span<const Arg> args, Settings settings);
    Result<int> submit_queued(std::string_view key);
    Result<int> submit_documents(Verb verb, std::span<const Arg> args, Settings settings);
    Result<int> submit_document(std::span<const Arg> args, DocumentsRequest& wanted, const Settings& settings);
    Result<const AgentInfo*> find_agent(std::string_view name);
    void remember(std::string_view text);
    void turn_done(bool keep);
    void forget();
    void release(Active& a);
    Active& foreground() { return actives_[0]; }
    const Active& foreground() const { return actives_[0]; }
    void reset(bool factory);

    SessionOptions options_;
    Host* host_ = nullptr;
    Settings settings_;
    Mode mode_ = Mode::command;
    std::uint64_t now_ = 0, last_byte_ = 0, dropped_ = 0;

    std::size_t size_ = 0;  // of the line so far
    bool swallow_ = false, pending_ = false, last_cr_ = false, smp_ = false, overflow_ = false, first_info_ = true;
    char before_ = 0;
    int pluses_ = 0;
    std::int64_t prompt_max_ = 0;

    bool echo_ = true, verbose_ = true, quiet_ = false, crc_ = false;
    int errors_ = 1, window_ = 0, width_ = 80;

    char ring_[ring_bytes];
    std::size_t head_ = 0, used_ = 0;

    // token lines that may have to be sent again: numbers acked_ .. sent_ and one before
    struct Held {
        std::uint16_t size = 0;
        char text[max_width + 8];
    } held_[max_window + 2];
    std::uint32_t sent_ = 0, acked_ = 0;
    std::uint64_t window_since_ = 0;
    int window_tries_ = 0;
    char closing_[256];  // the lines that end an answer; none: they are longer
    std::size_t closing_size_ = 0;
    bool closing_now_ = false;

    List list_ = List::none;
    int list_at_ = 0, list_sub_ = 0;
    const Command* list_command_ = nullptr;
    Active* list_active_ = nullptr;
    char list_id_[96];
    std::uint8_t list_id_size_ = 0;
    std::uint16_t json_crc_ = 0;

    static constexpr int max_events = 4;
    Event events_[max_events];
    int event_head_ = 0, event_count_ = 0, event_mask_ = 0;
    std::size_t event_at_ = 0;  // of the first one's text
    bool events_json_ = false;

    Active actives_[max_actives];
    Line out_;

    char conversation_[conversation_bytes];
    struct {
        bool assistant;
        std::uint32_t begin, end;
    } turns_[max_turns];
    int turn_count_ = 0;
    bool conversation_full_ = false;
    int conversation_tokens_ = 0;
};

}  // namespace slmd::wire
