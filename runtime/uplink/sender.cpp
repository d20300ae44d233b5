#include "uplink/sender.h"

#include <errno.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include <algorithm>

#include "base/clock.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

void signal(int fd) {
    const std::uint64_t one = 1;
    (void)!write(fd, &one, sizeof one);
}
void drain(int fd) {
    std::uint64_t n;
    (void)!read(fd, &n, sizeof n);
}

}  // namespace

slmd::Result<void> Sender::start() {
    ask_fd_ = eventfd(0, EFD_CLOEXEC);
    done_fd_ = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
    if (ask_fd_ < 0 || done_fd_ < 0) return Error::make(Code::device_io, "eventfd: %s", strerror(errno));
    pthread_attr_t attributes;
    pthread_attr_init(&attributes);
    pthread_attr_setstacksize(&attributes, 512 * 1024);
    const int e = pthread_create(&thread_, &attributes, thread_main, this);
    pthread_attr_destroy(&attributes);
    if (e != 0) return Error::make(Code::memory_full, "cannot start the thread that sends: %s", strerror(e));
    started_ = true;
    return {};
}

void Sender::stop() {
    if (!started_) return;
    stop_.store(true);
    cut(true);
    signal(ask_fd_);
    pthread_join(thread_, nullptr);
    started_ = false;
    close(ask_fd_);
}

void Sender::ask(std::string_view key, std::string_view members, std::int64_t deadline) {
    copy(key, key_);
    size_ = std::min(members.size(), sizeof members_ - 2);
    members_[0] = '{';
    memcpy(members_ + 1, members.data(), size_);
    members_[1 + size_] = '}';
    size_ += 2;
    deadline_ = deadline;
    cancel_.store(cut_.load());
    state_.store(asked);
    signal(ask_fd_);
}

const Sender::Result* Sender::done() {
    drain(done_fd_);
    return state_.load() == finished ? &result_ : nullptr;
}

void Sender::take() { state_.store(idle); }

void* Sender::thread_main(void* self) {
    auto& s = *static_cast<Sender*>(self);
    for (;;) {
        drain(s.ask_fd_);
        if (s.stop_.load()) return nullptr;
        if (s.state_.load() != asked) continue;
        s.perform();
        s.state_.store(finished);
        signal(s.done_fd_);
    }
}

void Sender::perform() {
    const std::int64_t begun = now_ns();
    result_ = {};
    JsonNode nodes[64];
    JsonReader reader(nodes, 3);
    static constexpr std::string_view raw[] = {"messages", "schema"};
    reader.leave(raw);
    if (auto ok = reader.parse({members_, size_}); !ok) {
        result_.error = ok.error(), result_.final = true;
        return;
    }
    const JsonNode& root = reader.root();
    const auto number = [&](const char* name) {
        const JsonNode* const n = reader.find(root, name);
        return n == nullptr || n->type != JsonType::number ? 0.0 : n->number;
    };
    const JsonNode *const messages = reader.find(root, "messages"), *const schema = reader.find(root, "schema");
    Ask ask;
    ask.messages = messages == nullptr ? "" : messages->text;
    ask.schema = schema == nullptr ? "" : schema->text;
    ask.key = key_;
    ask.max_tokens = static_cast<int>(std::clamp(number("max_tokens"), 1.0, 32768.0));
    const Reply r = upstreams_.complete(ask, text_, {}, deadline_, &cancel_);
    result_.ok = static_cast<bool>(r.outcome);
    if (!r.outcome) result_.error = r.outcome.error();
    result_.text = r.text, result_.model = r.model, result_.finish = r.finish;
    result_.upstream = r.upstream;
    result_.delivery = r.delivery;
    result_.has_usage = r.has_usage;
    result_.prompt_tokens = r.prompt_tokens, result_.completion_tokens = r.completion_tokens;
    result_.bytes_out = r.bytes_out, result_.bytes_in = r.bytes_in;
    result_.status = r.status, result_.tries = r.tries;
    result_.retry_after = r.retry_after;
    result_.ms = (now_ns() - begun) / 1'000'000;
    // Another time the server may have a place or the link may be there; a request that it does not like it will not.
    result_.final = !result_.ok && r.delivery == Delivery::answered && r.status >= 400 && r.status < 500 &&
                    r.status != 408 && r.status != 425 && r.status != 429;
}

}  // namespace slmd::uplink
