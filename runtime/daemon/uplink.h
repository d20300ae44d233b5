// slmd's end of the line to slm-uplink, which has the network: what leaves, what comes back, and what waits for that.
// For the event loop's thread. slmd itself only accepts a connection, of one user. uplink/LINES.md has the lines.
#pragma once
#include <algorithm>
#include <cstring>
#include <optional>
#include <span>

#include "agent/agent.h"
#include "base/arena.h"
#include "daemon/records.h"
#include "route/decide.h"
#include "route/outbox.h"
#include "route/redact.h"
#include "wire/session.h"

namespace slmd::daemon {

// As much of it as there is room for, in whole code points, with a 0 behind it.
template <std::size_t n>
std::string_view copy_text(std::string_view text, char (&out)[n]) {
    std::size_t size = std::min(text.size(), n - 1);
    while (size > 0 && size < text.size() && (text[size] & 0xC0) == 0x80) size--;
    if (size > 0) std::memcpy(out, text.data(), size);
    out[size] = 0;
    return {out, size};
}

// A record of what became of one that left.
route::LedgerRecord outcome_of(const wire::Away& away, route::LedgerOutcome code);

class Uplink {
  public:
    static constexpr int max_goings = 4, max_shown = 4, first_handle = 3000;  // handles of documents are smaller
    static constexpr std::size_t text_bytes = 16384;                          // of an answer
    static constexpr std::size_t secret_bytes = 16384, max_secrets = route::Redactor::max_findings;
    static constexpr std::size_t body_bytes = 196608;  // of what is asked, as JSON

    // What is asked: a JSON object's members, built in pieces.
    class Body {
      public:
        explicit Body(std::span<char> out) : out_(out) {}
        Body& put(std::string_view text);
        Body& number(std::int64_t n);
        Body& string(std::string_view text, std::string_view more = {});  // in quotes; more: on another line
        bool full() const { return full_; }
        std::string_view view() const { return {out_.data(), size_}; }

      private:
        std::span<char> out_;
        std::size_t size_ = 0;
        bool full_ = false;
    };

    // What an answer is to be. Kept on the card by these numbers.
    enum class Form : unsigned char { text, json, label };

    // One that left or is about to: whose it is, and what came.
    struct Going {
        enum State : unsigned char { free, taken, away, came } state;
        int job;
        std::uint64_t order;
        char key[route::Letter::key_bytes + 1];
        std::int64_t sent_ns;
        std::uint64_t recorded;  // its decision, in the ledger
        route::Facts facts;
        route::Redactor* redactor;
        std::string_view terms[Config::Uplink::max_terms + agent::Agent::max_terms];
        Form form;
        // When it came: a text that is restored, or an error.
        bool failed;
        enum Why : unsigned char { other, budget, link } why;
        Error error;
        char* text;  // [text_bytes]
        std::size_t text_size;
        // Of agents that learn: what left and came, without secrets; [text_bytes] each. Sizes 0: they are too long.
        bool learns;
        char *asked, *raw;
        std::size_t asked_size, raw_size;
        wire::Away told;
        char upstream[33], model[65];
    };

    // Nothing when the configuration has no uplink.
    void lay_out(Arena& arena, const Config& config);
    // Listens, and reads what waits: before the sandbox closes. Errors: device_io, not_found (the user),
    // storage_failure.
    Result<void> open(const Config& config, Records& records);
    void close();
    bool is_configured() const { return goings_ != nullptr; }
    // Readable when advance() has something to do.
    int fd() const { return epoll_; }
    // slm-uplink is there, and it can reach an upstream.
    bool is_linked() const { return connection_ >= 0 && link_ && !cut_; }

    // A place for one that is to leave, or null. how: with secrets of its agent's own; must outlive it.
    Going* take(int job, std::uint64_t order, const agent::Remote& how);
    void give(Going& going);
    std::span<Going> goings() { return {goings_, static_cast<std::size_t>(is_configured() ? max_goings : 0)}; }
    // Where its members are built, but for the key.
    Body body() { return Body({body_, body_bytes}); }
    // A text without its secrets; valid until the next one. Errors: of Redactor::redact.
    Result<std::string_view> redact(Going& going, std::string_view text);
    std::span<char> scratch() { return {filled_, prompt_room}; }
    bool has_room(std::size_t members) const { return out_bytes - (out_size_ - out_sent_) > members + 128; }
    // Sends it. Errors: busy (what was sent before is on its way still).
    Result<void> send(Going& going, std::string_view members);
    // Keeps it until it can be sent: there after a power cut. input: its agent's, to look at the answer with; "": it is
    // not looked at. Errors: text_too_long, memory_full, storage_failure.
    Result<void> queue(Going& going, const route::Letter& letter, std::string_view input, std::string_view members);
    // It is of no use any more.
    void cancel(Going& going);

    // Reads and writes what can be. cut: the privacy switch.
    void advance(bool cut);
    // An answer of one that was queued has come.
    bool next_event(wire::Event& event);

    std::span<const wire::QueueInfo> queued();
    std::span<const wire::BudgetInfo> budget() const { return {budget_, budget_count_}; }
    Result<void> drop(std::string_view key);
    // What came of one that waited; there until the next call.
    struct Late {
        std::string_view agent, input, text;
        std::optional<Error> error{};  // instead of an answer
        wire::Away told{};
    };
    // Errors: not_supported (no uplink), not_found, busy (it waits still), check_failed.
    Result<Late> late(std::string_view key);
    // A handle of it as it came. Errors: busy (too many are asked for).
    Result<int> show(const Late& late);
    wire::View view(int handle);
    void take_text(int handle, std::size_t bytes);
    void release(int handle);

  private:
    static constexpr std::size_t in_bytes = 131072, out_bytes = 262144, prompt_room = 65536, redacted_bytes = 131072,
                                 max_budget = 33;
    static constexpr std::uint64_t max_waiting_bytes = 1 << 20;
    struct Shown {
        bool used;
        wire::Outcome outcome;
        wire::Away told;
        char key[route::Letter::key_bytes + 1], upstream[33], model[65];
        char* text;
        std::size_t size, taken;
    };

    // Errors: not_supported (no uplink), not_found.
    Result<const route::Entry*> queued_as(std::string_view key) const;
    void accept_one();
    void hang_up(const char* why);
    void read_lines();
    void understand(std::span<char> line);
    void came(const JsonReader& reader, const JsonNode& what, bool failed);
    void came_late(const route::Entry& entry, const JsonReader& reader, const JsonNode& what, bool failed);
    static void remember(route::Redactor& redactor, std::string_view values);
    void learn_late(std::string_view agent, std::string_view members, std::string_view answer);
    void read_budget(const JsonReader& reader, const JsonNode& list);
    bool write_line(std::string_view before, std::string_view key, std::string_view members);
    void flush();
    void send_waiting();
    Going* going_of(std::string_view key);

    Going* goings_ = nullptr;  // [max_goings]; null: there is no uplink
    Shown* shown_ = nullptr;   // [max_shown]
    route::Outbox* waiting_ = nullptr;
    route::Redactor* late_ = nullptr;  // of one that waited
    char *in_ = nullptr, *out_ = nullptr, *body_ = nullptr, *filled_ = nullptr, *redacted_ = nullptr,
         *scratch_ = nullptr;
    std::size_t in_size_ = 0, out_size_ = 0, out_sent_ = 0;
    const Config* config_ = nullptr;
    Records* records_ = nullptr;
    unsigned user_ = 0;
    int epoll_ = -1, listener_ = -1, connection_ = -1;
    bool link_ = false, cut_ = true, told_ = false, told_cut_ = false, writing_ = false;
    std::size_t resend_ = route::Outbox::max_entries;  // from this entry on those that wait are to be told
    std::uint64_t resent_[route::Outbox::max_entries / 64 + 1] = {};
    char late_upstream_[33], late_model_[65];
    wire::QueueInfo queue_[route::Outbox::max_entries];
    wire::BudgetInfo budget_[2 * max_budget];
    char budget_agents_[max_budget][33];
    std::size_t budget_count_ = 0;
    static constexpr int max_events = 8;
    wire::Event events_[max_events];
    int event_count_ = 0;
};

}  // namespace slmd::daemon
