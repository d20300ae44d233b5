// A question and all upstreams: which is asked, when it is asked again, and what is known of it at the end.
//
// A request is given to another upstream, or to the same once more, only when it surely was not processed: it was never
// sent, or a whole answer says so (408, 429, 500, 503; for another upstream also 401, 403, 404 and redirections). When
// a request was sent and no whole answer came, or a gateway lost it (502, 504), it is not sent again: it may have been
// answered and paid for. Only an upstream with idempotency = true gets it again, with the same key, and no other does.
// Nor is anything sent again once a piece of a stream was passed on.
#pragma once
#include <atomic>
#include <memory>
#include <span>

#include "uplink/exchange.h"
#include "uplink/secret.h"

namespace slmd::uplink {

struct Reply {
    Result<void> outcome = Error::make(Code::unknown, "not tried");  // its error names the upstream
    // Of an answer; they point into `out` and into Upstreams, and hold until the next complete().
    std::string_view text, model, finish;
    const Upstream* upstream = nullptr;  // that was asked last; null: none
    std::uint32_t prompt_tokens = 0, completion_tokens = 0;
    bool has_usage = false;                     // the server counted the tokens
    std::uint64_t bytes_out = 0, bytes_in = 0;  // of all tries, on the socket
    int status = 0, tries = 0;
    // Of all tries together: unknown when it is for any of them.
    Delivery delivery = Delivery::not_sent;
    std::int64_t retry_after =
        -1;  // of a failure: nanoseconds, from now, after which it is worth trying; -1: nobody knows
};

class Upstreams {
  public:
    static constexpr std::size_t max_request = 128 << 10, max_answer = 256 << 10, max_values = 1024;

    // Reads keys and certificates. config stays the caller's and must outlive this. Errors: those of Secret::read() and
    // Tls::check_files(), with the upstream's name.
    static Result<std::unique_ptr<Upstreams>> open(const Config& config);

    // Blocks until there is an answer, a failure, the deadline (CLOCK_MONOTONIC, nanoseconds) or the cut. One thread at
    // a time. out: room for the text. only: the name of the one upstream that is asked; "": all, in their order.
    Reply complete(const Ask& ask, std::span<char> out, OnText on_text, std::int64_t deadline,
                   const std::atomic<bool>* cut, std::string_view only = {});

    // The bytes that complete() would send to an upstream, with **** for the key: all of them else are equal. Errors:
    // those of write_request().
    Result<std::string_view> preview(const Ask& ask, int upstream, std::span<char> out);

    // The earliest time (CLOCK_MONOTONIC, nanoseconds) at which any upstream may be asked: what the link's state is.
    std::int64_t ready_at() const;
    // Connects to one, as a request would, and sends nothing.
    Result<Peer> greet(int upstream, const Until& until);

    const Config& config() const { return config_; }

  private:
    struct Line {  // to one upstream
        explicit Line(const Upstream& u) : upstream(u), tls(u) {}
        const Upstream& upstream;
        Secret key;
        Tls tls;
        Breaker breaker;
    };
    enum class Go : std::uint8_t { over, next, again };

    explicit Upstreams(const Config& config);
    Go ask_line(Line& line, const Ask& ask, std::span<char> out, OnText on_text, const Until& until, Reply& reply);
    Go judge(Line& line, Exchange& e, Reply& reply);
    Scratch scratch() { return {{body_.get(), max_answer}, {nodes_.get(), max_values}}; }

    const Config& config_;
    std::unique_ptr<Line> lines_[Config::max_upstreams];
    std::unique_ptr<char[]> request_, body_;
    std::unique_ptr<JsonNode[]> nodes_;
    char names_[160];
};

}  // namespace slmd::uplink
