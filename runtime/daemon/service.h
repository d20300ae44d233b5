// The model and the requests to it. One engine thread lets them share its passes, answers first, prompts in turn; the
// event loop's thread hands them in and takes their text away. After ready() nothing is allocated, but
// by a reload of the configuration (Server::reload), which gives it back.
#pragma once
#include <pthread.h>

#include <algorithm>
#include <atomic>
#include <optional>

#include "base/clock.h"
#include "daemon/keep.h"
#include "daemon/machine.h"
#include "text/chat.h"
#include "text/tokenizer.h"

namespace slmd::daemon {

struct Lock {
    explicit Lock(pthread_mutex_t& m) : mutex(m) { pthread_mutex_lock(&mutex); }
    ~Lock() { pthread_mutex_unlock(&mutex); }
    pthread_mutex_t& mutex;
};

// That agents could not be read: slmd goes on with those that it had.
void log_agents(const Error& why);

class Service final : public wire::Host {
  public:
    enum class State : int { loading, ready, failed, stopping };

    // wake: an eventfd that is written whenever a request or the loading has something new.
    // images: those that were kept over a restart (adopt_images) are used as they are, the others are read.
    Service(const Config& config, const Plan& plan, Images& images, Memory& memory, int wake);
    Service(const Service&) = delete;
    // Loads the model on the engine thread and then serves.
    Result<void> start();
    // Cancels everything and ends the thread. The longest wait is one layer, or, while loading, the load.
    void stop();
    ~Service() { stop(); }

    State state() const { return state_.load(std::memory_order_acquire); }
    const Error& failure() const { return failure_; }
    int loaded_percent() const { return percent_.load(std::memory_order_relaxed); }
    // Something was computed since the last call, or there was nothing to compute: what the watchdog is fed by.
    bool progressed();
    const char* describe(char* text, std::size_t size) const;
    // What streaming costs, measured; "" when nothing is streamed.
    const char* streaming(char* text, std::size_t size) const;
    // Hands the images' memory to systemd, which keeps it over a restart.
    void keep(Notify& notify) const;
    // Takes over into config what requests from now on are to find: the system text, the queue's length up to `queue`.
    void reload(Config& config, const Config& fresh, int queue);
    void set_clients(int n) { clients_ = n; }
    // The files of the configured folders, when nothing is asked of those that were read before the last ones; what is
    // wrong with one is logged and kept as what AT#AGENT says of it. Allocates while it reads. Errors: busy,
    // storage_failure, memory_full: all stays as it was.
    Result<void> read_agents(const Config& config);
    // An agent whose answers are no longer like those that it was calibrated with; false: none, or told already.
    bool next_drift(wire::Event& event);
    // Whose hardware the wire asks about. Before start().
    void attach(Machine& machine) { machine_ = &machine; }
    // From the next pass on.
    void set_effort(const Effort& effort);
    // Does on the board what agents have called, and asks what pipelines ask next.
    void act();
    // A request runs or waits.
    bool busy();
    // Of the engine, when ready.
    int full_threads() const { return std::max(prefill_threads_, decode_threads_); }
    int batch() const { return engine_ != nullptr ? engine_->batch() : encoder_->context(); }

    // wire::Host, for the event loop's thread
    Result<int> submit(const wire::Request& request) override;
    wire::View view(int handle) override;
    void take(int handle, std::size_t bytes) override;
    void release(int handle) override;
    wire::Status status() override;
    wire::ModelInfo model() override;
    std::span<const wire::PlanItem> plan() override { return plan_.view(); }
    std::span<const wire::AgentInfo> agents() override;
    std::span<const wire::AdapterInfo> adapters() override {
        return {adapter_infos_, static_cast<std::size_t>(config_.adapter_count)};
    }
    std::span<const wire::QueueInfo> queue() override { return memory_.uplink.queued(); }
    std::span<const wire::BudgetInfo> budget() override { return memory_.uplink.budget(); }
    Result<void> drop(std::string_view key) override { return memory_.uplink.drop(key); }
    std::span<const wire::HardwareItem> hardware() override;
    std::span<const wire::PinState> pins() override;
    Result<void> drive(std::string_view output, bool on, int ms) override;

  private:
    static void* thread_main(void* self);
    Result<void> load();
    Result<void> load_writer(const image::OpenOptions& options, engine::Config engine);
    Result<void> confirm();
    Result<image::Image> open_image(image::Image* adopted, const char* path, const image::OpenOptions& options);
    void warn_of_streaming() const;
    void serve();
    // What the engine thread does next: open a job, a pass over those that have a slot, or keep. None of them: stop.
    struct Round {
        Job* open = nullptr;
        Job* jobs[engine::max_slots];
        int count = 0;
        Job* back = nullptr;  // an answer of the large model is to be looked at
        bool keep = false;    // nobody waits: the beginning of a prompt can be kept
    };
    Round next();
    bool give_slot(Job& job);
    int free_constraint() const;
    void open(Job& job);
    Result<void> open_task(Job& job, std::span<const text::Message> messages);
    Result<int> admit(const wire::Request& request, const Uplink::Late* late);
    Result<void> copy(Job& job, const wire::Request& request);
    Result<void> prepare(Job& job, const wire::Request& request);
    Result<void> ask_agent(Job& job, std::string_view prompt);
    Result<void> offer_tools(Job& job);
    Result<void> check_tools(const agent::Agent& agent, bool trusted) const;
    Result<bool> take_calls(Job& job);
    void carry_out(Job& job);
    // What may leave (away.cpp).
    bool has_route(const Job& job) const {
        return job.agent != nullptr && (memory_.uplink.is_configured() || memory_.records.are_kept());
    }
    void record_decision(Job& job, const route::Facts& facts, const route::Decision& decision);
    void record_outcome(const Job& job, route::LedgerOutcome code);
    route::Facts facts_of(const Job& job) const;
    void consider(Job& job);
    void stay(Job& job, const route::Decision& decision, const char* failed = "");
    void end_here(Job& job, const route::Decision& decision, const char* failed);
    void wait(Job& job, Uplink::Going& going);
    void hear(Uplink::Going& going);
    Result<std::string_view> write_down(Job& job, Uplink::Going& going);
    void route();
    std::string_view as_object(const Job& job) const;
    Result<int> submit_late(const wire::Request& request);
    void bring_late(Job& job, const Uplink::Late& late);
    void take_back(Job& job);
    Result<void> read_back(Job& job);
    Result<std::string_view> not_met(const agent::Call& call);
    // What an answer says beside itself, and the next question of an agent. Returns false when there is one.
    Result<bool> conclude(Job& job);
    std::string_view answer(const Job& job) const;
    Result<void> examine(Job& job);
    Result<void> compare(Job& job);
    void judge(Job& job, bool cut);
    Result<bool> next_wording(Job& job);
    void tell_spans(Job& job);
    void step(const Round& round);
    void open_snapshots();
    void find_prefix(const Job& job, std::span<text::Message> messages);
    Result<Sha256> prefix_key(std::span<const std::int32_t> tokens, int adapter) const;
    void bring_prefix(Job& job);
    void note_prefix(const Job& job);
    void keep_prefix();
    // After a step of a job: what the client may know, and the end when it is one.
    void settle(Job& job, const Result<bool>& ended);
    void tell_answer(Job& job);
    void rest(std::int64_t worked_ns);
    double joules(const Job& job) const;
    void finish(Job& job, const Error* error);
    void tell_labels(Job& job);
    static void tell_vectors(Job& job);
    int slots() const { return config_.engine.slots; }
    Documents::Embedder embedder() const;
    int dim() const { return encoder_ != nullptr ? encoder_->dim() : engine_->dim(); }
    bool runnable(const Job& job) const;
    int place(const Job& job) const;
    void wake() const;

    const Config& config_;
    const Plan& plan_;
    Images& images_;
    Memory& memory_;
    const int wake_;
    std::span<Job> jobs_;

    pthread_t thread_{};
    bool started_ = false;
    pthread_mutex_t lock_ = PTHREAD_MUTEX_INITIALIZER;
    pthread_cond_t work_;
    bool stop_ = false, sleeping_ = false;
    std::uint64_t order_ = 0, turn_ = 0;
    double rate_ = 0;
    Machine* machine_ = nullptr;
    char not_met_[96];
    Effort effort_{.threads = 16, .batch = 1 << 20};
    bool effort_new_ = false;
    int prefill_threads_ = 1, decode_threads_ = 1;  // at full effort
    std::uint64_t rows_ = 0;                        // computed so far, for all
    int slot_job_[engine::max_slots];               // which job has a slot; -1 none
    std::uint64_t slot_used_[engine::max_slots];

    std::atomic<State> state_{State::loading};
    std::atomic<int> percent_{0};
    std::atomic<std::uint64_t> steps_{0};
    std::uint64_t steps_seen_ = 0;
    Error failure_{};
    int clients_ = 0;

    int agents_now_ = 0;  // of Memory::agents
    char model_name_[sizeof(image::ModelParams::name) + 1] = "";
    char image_hex_[65] = "";
    bool drifted_ = false;  // somewhere there is one to tell
    void read_state(const agent::Entry& entry, AgentState& state);
    wire::AgentInfo agent_infos_[agent::Set::max_agents];

    wire::AdapterInfo adapter_infos_[engine::max_adapters];
    // "": no such adapter, or none.
    void adapter_sha256(std::string_view name, char (&hex)[65]) const;

    std::optional<image::Image> image_, draft_image_, embed_image_, adapter_images_[engine::max_adapters];
    engine::Engine *engine_ = nullptr, *drafter_ = nullptr;  // null: the model is an encoder; none
    engine::Encoder* encoder_ = nullptr;                     // null: the engine embeds texts
    engine::Snapshots snapshots_;                            // engine thread only, as what is to be kept of a slot
    struct {
        int slot = -1, adapter = engine::no_adapter;
        std::size_t tokens = 0;
        Sha256 key{};
    } to_keep_;
    std::optional<text::Tokenizer> tokenizer_, embed_tokenizer_;  // embed_tokenizer_: of the encoder beside the model
    std::optional<text::ChatTemplate> chat_;
};

}  // namespace slmd::daemon
