// The thread that asks upstreams, one request at a time: it may wait for the network, and nobody waits for it.
#pragma once
#include <pthread.h>

#include <atomic>

#include "uplink/upstreams.h"

namespace slmd::uplink {

class Sender {
  public:
    static constexpr std::size_t text_bytes = 16384;  // of an answer: what slmd has room for

    struct Result {
        bool ok = false;
        bool final = false;  // it will not be otherwise when it is asked again
        Error error{};
        std::string_view text, model, finish;
        const Upstream* upstream = nullptr;
        Delivery delivery = Delivery::not_sent;
        bool has_usage = false;
        std::uint32_t prompt_tokens = 0, completion_tokens = 0;
        std::uint64_t bytes_out = 0, bytes_in = 0;
        int status = 0, tries = 0;
        std::int64_t retry_after = -1, ms = 0;
    };

    explicit Sender(Upstreams& upstreams) : upstreams_(upstreams) {}
    Sender(const Sender&) = delete;
    ~Sender() { stop(); }
    // Errors: memory_full, device_io.
    slmd::Result<void> start();
    void stop();

    // Readable when done() has something.
    int fd() const { return done_fd_; }
    bool busy() const { return state_.load() != idle; }
    // key, members: copied. deadline: CLOCK_MONOTONIC, ns. Only when not busy.
    void ask(std::string_view key, std::string_view members, std::int64_t deadline);
    // What came of it, until take(); null: nothing yet.
    const Result* done();
    void take();
    // Ends what is being asked. cut: and whatever is asked, until it is called with false.
    void cancel() { cancel_.store(true); }
    void cut(bool cut) {
        cut_.store(cut);
        if (cut) cancel_.store(true);
    }

  private:
    enum State : int { idle, asked, finished, stopping };
    static void* thread_main(void* self);
    void perform();

    Upstreams& upstreams_;
    pthread_t thread_{};
    bool started_ = false;
    int ask_fd_ = -1, done_fd_ = -1;
    std::atomic<int> state_{idle};
    std::atomic<bool> stop_{false}, cancel_{false}, cut_{true};
    std::int64_t deadline_ = 0;
    Result result_;
    char key_[40] = "";
    std::size_t size_ = 0;
    char members_[262144], text_[text_bytes];
};

}  // namespace slmd::uplink
