#include "uplink/serve.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/signalfd.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>
#include <atomic>

#include "base/unix_time.h"
#include "route/outbox.h"
#include "uplink/sender.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

using route::Amounts;
using route::Entry;
using route::Journal;
using route::Letter;
using route::Outbox;

constexpr std::size_t line_bytes = Journal::max_record, max_direct = 4;
constexpr std::int64_t second = 1'000'000'000;

std::string_view text_of(const JsonNode* n) {
    return n == nullptr || n->type != JsonType::string ? std::string_view() : n->text;
}
std::int64_t whole(const JsonNode* n) {
    return n == nullptr || n->type != JsonType::number ? 0
                                                       : static_cast<std::int64_t>(std::clamp(n->number, -9e15, 9e15));
}

class Server {
  public:
    Server(Upstreams& upstreams, Sender& sender)
        : upstreams_(upstreams), config_(upstreams.config()), sender_(sender) {}
    Server(const Server&) = delete;
    ~Server() {
        for (const int fd : {slmd_, signals_})
            if (fd >= 0) close(fd);
    }
    Result<void> open();
    void run();

  private:
    struct Direct {  // asked for now
        bool used = false;
        Letter letter;
        std::int64_t deadline = 0;  // CLOCK_MONOTONIC, ns
        std::uint64_t order = 0;
        std::size_t size = 0;
        char members[line_bytes];
    };

    void connect_to_slmd();
    void hang_up(const char* why);
    void read_lines();
    void understand(std::string_view line);
    void keep(std::string_view members, const JsonReader& reader, const JsonNode& what, bool now);
    void resolve_doubts();
    void expire();
    void begin();
    bool begin_direct(Direct& d);
    void begin_waiting();
    void end();
    void end_direct(const Sender::Result& r, const Amounts& used, std::string_view came);
    void end_waiting(const Sender::Result& r, const Amounts& used, std::string_view came);
    Amounts most(std::string_view members) const;
    Amounts used_of(const Sender::Result& r) const;
    void say(const char* what, std::string_view key, std::string_view members);
    void say_error(std::string_view key, const char* why, const Error& e, std::string_view more = {});
    void say_budget();
    void say_link();
    void flush();
    void log_failed(const char* what, const Error& e) { fprintf(stderr, "<3>slm-uplink: %s: %s\n", what, e.text); }

    Upstreams& upstreams_;
    const Config& config_;
    Sender& sender_;
    Outbox box_;
    int slmd_ = -1, signals_ = -1;
    bool cut_ = true, link_told_ = false, link_ = false, budget_changed_ = true;
    std::int64_t connect_at_ = 0, waiting_at_ = 0;
    std::int64_t flush_at_ = 0;    // when what waits for a commit is written: no other came before
    std::int64_t confirm_at_ = 0;  // when the card may take writes again
    int failures_ = 0;
    std::uint64_t order_ = 0;
    Direct direct_[max_direct];
    char asked_[Letter::key_bytes + 1] = "";  // what the sender has
    bool asked_now_ = false;
    Amounts asked_most_;
    std::size_t in_size_ = 0, out_size_ = 0, out_sent_ = 0;
    char in_[line_bytes], out_[2 * line_bytes], scratch_[line_bytes], members_[line_bytes], reply_[line_bytes];
};

Result<void> Server::open() {
    if (config_.state[0] == 0)
        return Error::make(Code::incorrect_parameters,
                           "%s: no folder for the queue and the budget: state = \"/var/lib/slm-uplink\"", config_.file);
    char path[sizeof config_.state + 16];
    snprintf(path, sizeof path, "%s/outbox", config_.state);
    const auto found = TRY(box_.open(path,
                                     {.all = config_.budget,
                                      .agents = {config_.agents, config_.agent_count},
                                      .entries = config_.queue_requests,
                                      .bytes = config_.queue_bytes},
                                     scratch_));
    if (found.file.damaged > 0 || found.file.torn > 0)
        fprintf(stderr, "<4>slm-uplink: %s: %d damaged records are passed over, %llu torn bytes are cut off\n", path,
                found.file.damaged, static_cast<unsigned long long>(found.file.torn));
    if (found.spent > 0)
        fprintf(stderr,
                "<4>slm-uplink: %d requests were being sent at the last end: counted as if they had come to all "
                "that was reserved\n",
                found.spent);
    resolve_doubts();
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGTERM);
    sigaddset(&set, SIGINT);
    pthread_sigmask(SIG_BLOCK, &set, nullptr);
    signals_ = signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
    if (signals_ < 0) return Error::make(Code::device_io, "signalfd: %s", strerror(errno));
    return sender_.start();
}

// What was being sent when the program ended: it may have arrived.
void Server::resolve_doubts() {
    for (const Entry& e : box_.entries()) {
        if (e.state != Entry::doubtful) continue;
        char key[sizeof e.letter.key];
        memcpy(key, e.letter.key, sizeof key);
        const auto done =
            config_.resend
                ? box_.wait_again(key, nullptr)
                : box_.answer(
                      key, nullptr,
                      "\"why\":\"doubt\",\"code\":52,\"text\":\"it was being sent when slm-uplink ended: whether it "
                      "was answered is not known, and in_doubt is drop\"");
        if (!done) log_failed(key, done.error());
    }
}

void Server::connect_to_slmd() {
    if (slmd_ >= 0 || now_ns() < connect_at_) return;
    connect_at_ = now_ns() + second;
    const int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un a{};
    a.sun_family = AF_UNIX;
    copy(std::string_view(config_.slmd), a.sun_path);
    if (fd < 0) return;
    if (connect(fd, reinterpret_cast<const sockaddr*>(&a), sizeof a) != 0) {
        close(fd);
        return;
    }
    slmd_ = fd;
    in_size_ = out_size_ = out_sent_ = 0;
    cut_ = true;  // until slmd says otherwise
    link_told_ = false, budget_changed_ = true;
    for (const Entry& e : box_.entries())
        if (e.state == Entry::answered)
            if (const auto text = box_.answer_of(e, scratch_))
                say(text.value().starts_with("\"why\"") ? "gone" : "came", e.letter.key, text.value());
    fprintf(stderr, "<6>slm-uplink: slmd is there\n");
}

void Server::hang_up(const char* why) {
    fprintf(stderr, "<5>slm-uplink: slmd is gone: %s\n", why);
    close(slmd_);
    slmd_ = -1;
    cut_ = true;  // nobody says that more may leave; what is being sent of the queue goes on, or it would be in doubt
    for (Direct& d : direct_) d.used = false;  // nobody waits for them any more
    if (asked_now_) sender_.cancel();
}

void Server::say(const char* what, std::string_view key, std::string_view members) {
    if (slmd_ < 0) return;
    if (out_sent_ > 0) {
        memmove(out_, out_ + out_sent_, out_size_ - out_sent_);
        out_size_ -= out_sent_, out_sent_ = 0;
    }
    Writer w({out_ + out_size_, sizeof out_ - out_size_});
    w << "{\"" << what << "\":{\"key\":\"" << key << "\"," << members << "}}\n";
    if (w.overflow()) return hang_up("it does not read");
    out_size_ += w.text().size();
}

void Server::say_error(std::string_view key, const char* why, const Error& e, std::string_view more) {
    Writer w(reply_);
    w << "\"why\":\"" << why << "\",\"code\":";
    w.print("%d", static_cast<int>(e.code));
    w << ",\"text\":";
    w.json_string(e.text);
    w << more;
    say("gone", key, w.text());
}

void Server::say_link() {
    const bool link = upstreams_.ready_at() <= now_ns();
    if (slmd_ < 0 || (link_told_ && link == link_)) return;
    link_ = link, link_told_ = true;
    Writer w({out_ + out_size_, sizeof out_ - out_size_});
    w << "{\"link\":" << (link ? "true" : "false") << "}\n";
    if (!w.overflow()) out_size_ += w.text().size();
}

void Server::say_budget() {
    if (slmd_ < 0 || !budget_changed_) return;
    budget_changed_ = false;
    Writer w(reply_);
    w << "{\"budget\":[";
    const auto limit = [](std::int64_t n) { return static_cast<long long>(n == route::Limits::none ? -1 : n); };
    bool first = true;
    for (const route::Account& a : box_.budget().accounts()) {
        const route::Limits* const l = box_.budget().limits_of(a);
        static constexpr Amounts none{route::Limits::none, route::Limits::none, route::Limits::none};
        w << (first ? "{\"agent\":" : ",{\"agent\":");
        w.json_string(a.agent);
        first = false;
        for (const bool day : {true, false}) {
            const Amounts &used = day ? a.day : a.month, &most = l == nullptr ? none : day ? l->day : l->month;
            w.print(",\"%s\":[%lld,%lld,%lld,%lld,%lld,%lld]", day ? "day" : "month",
                    static_cast<long long>(used.money), static_cast<long long>(used.tokens),
                    static_cast<long long>(used.bytes), limit(most.money), limit(most.tokens), limit(most.bytes));
        }
        w << "}";
    }
    w << "]}\n";
    if (w.overflow() || w.text().size() > sizeof out_ - out_size_) return;
    memcpy(out_ + out_size_, w.text().data(), w.text().size());
    out_size_ += w.text().size();
}

// What is told is on the card: whatever was answered since, in one commit.
void Server::flush() {
    if (out_sent_ == out_size_ || now_ns() < confirm_at_) return;
    if (auto kept = box_.confirm(); !kept) {
        confirm_at_ = now_ns() + second;
        return log_failed("the queue", kept.error());
    }
    while (slmd_ >= 0 && out_sent_ < out_size_) {
        const ssize_t n = send(slmd_, out_ + out_sent_, out_size_ - out_sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return hang_up(strerror(errno));
        if (n < 0) return;
        out_sent_ += static_cast<std::size_t>(n);
    }
    if (out_sent_ == out_size_) out_sent_ = out_size_ = 0;
}

void Server::read_lines() {
    for (;;) {
        if (in_size_ == sizeof in_) return hang_up("it sent a line that is too long");
        const ssize_t n = recv(slmd_, in_ + in_size_, sizeof in_ - in_size_, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return hang_up(n == 0 ? "it closed the connection" : strerror(errno));
        in_size_ += static_cast<std::size_t>(n);
        std::size_t at = 0;
        while (const auto* const end = static_cast<const char*>(memchr(in_ + at, '\n', in_size_ - at))) {
            const auto size = static_cast<std::size_t>(end - in_) - at;
            understand({in_ + at, size});
            if (slmd_ < 0) return;
            at += size + 1;
        }
        memmove(in_, in_ + at, in_size_ - at);
        in_size_ -= at;
    }
}

void Server::understand(std::string_view line) {
    memcpy(scratch_, line.data(), line.size());  // reading changes it
    JsonNode nodes[64];
    JsonReader reader(nodes, 3);
    static constexpr std::string_view raw[] = {"messages", "schema"};
    reader.leave(raw);
    if (auto ok = reader.parse({scratch_, line.size()}); !ok) return hang_up(ok.error().text);
    const JsonNode& root = reader.root();
    if (const JsonNode* const c = reader.find(root, "cut")) {
        cut_ = c->truth;
        sender_.cut(cut_);
        return;
    }
    for (const char* const what : {"ask", "put", "drop", "cancel"}) {
        const JsonNode* const n = reader.find(root, what);
        if (n == nullptr) continue;
        const std::string_view key = text_of(reader.find(*n, "key"));
        if (key.size() != Letter::key_bytes) return hang_up("it sent a request without a key");
        if (what[0] == 'a' || what[0] == 'p') {
            // The members behind the key, as they came.
            const std::size_t begin = line.find(key) + key.size() + 2;
            return keep(line.substr(begin, line.size() - begin - 2), reader, *n, what[0] == 'a');
        }
        if (what[0] == 'c') {
            for (Direct& d : direct_)
                if (d.used && key == d.letter.key) d.used = false;
            if (asked_now_ && key == asked_) sender_.cancel();
            return;
        }
        if (box_.find(key) == nullptr) return;
        if (auto done = box_.drop(key); !done && done.error().code != Code::busy) log_failed("drop", done.error());
        return;
    }
}

// now: it is sent as soon as it can be, and forgotten when it cannot. Else it waits.
void Server::keep(std::string_view members, const JsonReader& reader, const JsonNode& what, bool now) {
    Letter letter;
    copy(text_of(reader.find(what, "key")), letter.key);
    copy(text_of(reader.find(what, "agent")), letter.agent);
    letter.priority = static_cast<std::int32_t>(whole(reader.find(what, "priority")));
    letter.queued_ms = unix_ms();
    letter.deadline_ms = whole(reader.find(what, "expires"));
    if (!now) {
        if (const Entry* const e = box_.find(letter.key)) {
            if (e->state == Entry::answered)
                if (const auto text = box_.answer_of(*e, scratch_))
                    say(text.value().starts_with("\"why\"") ? "gone" : "came", letter.key, text.value());
            return;
        }
        if (auto kept = box_.put(letter, members, false); !kept) {
            log_failed(letter.key, kept.error());
            say_error(letter.key, "full", kept.error());
        }
        return;
    }
    for (Direct& d : direct_) {
        if (d.used) continue;
        const std::int64_t ms = whole(reader.find(what, "deadline_ms"));
        d.used = true, d.letter = letter, d.order = ++order_, d.size = members.size();
        d.deadline = now_ns() + (ms > 0 ? ms * 1'000'000 : 600 * second);
        memcpy(d.members, members.data(), members.size());
        return;
    }
    say_error(letter.key, "link", Error::make(Code::busy, "%zu requests are asked already", max_direct));
}

// ---- money

// What a request may come to at most: of tokens no more than bytes, of bytes every try and the longest answer.
Amounts Server::most(std::string_view members) const {
    Amounts m;
    JsonNode nodes[64];
    static char copy_of[line_bytes];
    Writer w(copy_of);
    w << "{" << members << "}";
    JsonReader reader(nodes, 3);
    static constexpr std::string_view raw[] = {"messages", "schema"};
    reader.leave(raw);
    const auto in = static_cast<std::int64_t>(members.size()) + 64;
    std::int64_t out = 32768;
    if (reader.parse({copy_of, w.text().size()}))
        out = std::max<std::int64_t>(1, whole(reader.find(reader.root(), "max_tokens")));
    for (int i = 0; i < config_.upstream_count; i++) {
        const Upstream& u = config_.upstreams[i];
        m.money = std::max(m.money, route::cost_of(in, out, u.price_in, u.price_out));
        m.bytes += (in + 12'288) * u.tries;
    }
    m.tokens = in + out;
    m.bytes += static_cast<std::int64_t>(Upstreams::max_answer) + 65'536;
    return m;
}

Amounts Server::used_of(const Sender::Result& r) const {
    Amounts used;
    used.bytes = static_cast<std::int64_t>(r.bytes_out + r.bytes_in);
    if (!r.ok && r.delivery != Delivery::unknown) return used;  // not billed, as far as anybody can know
    if (!r.ok || !r.has_usage || r.upstream == nullptr) {
        Amounts all = asked_most_;
        all.bytes = used.bytes;
        return all;
    }
    used.tokens = std::int64_t{r.prompt_tokens} + r.completion_tokens;
    used.money = route::cost_of(r.prompt_tokens, r.completion_tokens, r.upstream->price_in, r.upstream->price_out);
    return used;
}

// ---- sending

void Server::expire() {
    const std::int64_t now = unix_ms();
    while (const Entry* const e = box_.expired(now)) {
        static constexpr std::string_view why =
            "\"why\":\"expired\",\"code\":264,\"text\":\"it waited longer than its agent allows\"";
        static constexpr Amounts nothing;
        char key[sizeof e->letter.key];
        memcpy(key, e->letter.key, sizeof key);
        if (auto done = box_.answer(key, &nothing, why); !done) return log_failed(key, done.error());
        say("gone", key, why);
    }
}

void Server::begin() {
    if (cut_ || sender_.busy() || asked_[0] != 0) return;
    for (;;) {
        Direct* first = nullptr;
        for (Direct& d : direct_)
            if (d.used && (first == nullptr || d.order < first->order)) first = &d;
        if (first == nullptr) break;
        first->used = false;
        if (begin_direct(*first)) return;
    }
    if (now_ns() >= waiting_at_ && upstreams_.ready_at() <= now_ns()) begin_waiting();
}

bool Server::begin_direct(Direct& d) {
    const std::string_view members(d.members, d.size);
    if (upstreams_.ready_at() > now_ns()) {
        say_error(d.letter.key, "link", Error::make(Code::device_io, "no upstream can be reached now"));
        return false;
    }
    const Amounts at_most = most(members);
    if (auto may = box_.leave_at_once(d.letter, at_most, unix_ms()); !may) {
        say_error(d.letter.key, may.error().code == Code::not_allowed ? "budget" : "failed", may.error());
        return false;
    }
    memcpy(asked_, d.letter.key, sizeof asked_);
    asked_now_ = true, asked_most_ = at_most, budget_changed_ = true;
    sender_.ask(asked_, members, d.deadline);
    return true;
}

void Server::begin_waiting() {
    const Entry* const e = box_.next(unix_ms());
    if (e == nullptr) return;
    const auto text = box_.text(*e, members_);
    char key[sizeof e->letter.key];
    memcpy(key, e->letter.key, sizeof key);
    if (!text) {
        static constexpr Amounts nothing;
        static constexpr std::string_view why =
            "\"why\":\"failed\",\"code\":256,\"text\":\"what was queued is damaged\"";
        log_failed(key, text.error());
        if (box_.answer(key, &nothing, why)) say("gone", key, why);
        return;
    }
    const Amounts at_most = most(text.value());
    if (auto may = box_.leave(key, at_most, unix_ms()); !may) {
        waiting_at_ = now_ns() + 60 * second;  // the budget of another day may allow it
        return log_failed(key, may.error());
    }
    memcpy(asked_, key, sizeof asked_);
    asked_now_ = false, asked_most_ = at_most, budget_changed_ = true;
    sender_.ask(asked_, text.value(), now_ns() + 600 * second);
}

void Server::end() {
    const Sender::Result* const r = sender_.done();
    if (r == nullptr) return;
    const Amounts used = used_of(*r);
    Writer w(reply_);
    if (r->ok) {
        w << "\"text\":";
        w.json_string(r->text);
        w << ",\"finish\":";
        w.json_string(r->finish);
        w << ",";
    }
    w << "\"upstream\":";
    w.json_string(r->upstream == nullptr ? "" : r->upstream->name);
    w << ",\"model\":";
    w.json_string(r->model);
    w.print(
        ",\"prompt_tokens\":%u,\"tokens\":%u,\"tries\":%d,\"cost\":%lld,\"bytes_out\":%llu,\"bytes_in\":%llu,\"ms\":%"
        "lld",
        r->prompt_tokens, r->completion_tokens, r->tries, static_cast<long long>(used.money),
        static_cast<unsigned long long>(r->bytes_out), static_cast<unsigned long long>(r->bytes_in),
        static_cast<long long>(r->ms));
    if (asked_now_)
        end_direct(*r, used, w.text());
    else
        end_waiting(*r, used, w.text());
    asked_[0] = 0;
    budget_changed_ = true;
    sender_.take();
}

void Server::end_direct(const Sender::Result& r, const Amounts& used, std::string_view came) {
    if (auto done = box_.settle(asked_, used); !done) log_failed(asked_, done.error());
    if (r.ok) return say("came", asked_, came);
    say_error(asked_, r.delivery == Delivery::not_sent ? "link" : "failed", r.error);
}

void Server::end_waiting(const Sender::Result& r, const Amounts& used, std::string_view came) {
    const auto last = [&](const char* what, std::string_view members, const Amounts* came_to) {
        if (auto done = box_.answer(asked_, came_to, members); !done) return log_failed(asked_, done.error());
        say(what, asked_, members);
    };
    failures_ = r.ok ? 0 : failures_ + 1;
    if (r.ok) return last("came", came, &used);
    const bool doubt = r.delivery == Delivery::unknown, again = !r.final && (!doubt || config_.resend);
    if (again) {
        if (auto done = box_.wait_again(asked_, doubt ? nullptr : &used); !done) log_failed(asked_, done.error());
        const std::int64_t pause = second << std::min(failures_, 9);  // up to some nine minutes
        waiting_at_ = std::max(now_ns() + std::max(pause, r.retry_after), upstreams_.ready_at());
        return;
    }
    Writer w(members_);
    w << "\"why\":\"" << (doubt ? "doubt" : "failed") << "\",\"code\":";
    w.print("%d", static_cast<int>(r.error.code));
    w << ",\"text\":";
    w.json_string(r.error.text);
    last("gone", w.text(), doubt ? nullptr : &used);
}

void Server::run() {
    for (;;) {
        connect_to_slmd();
        end();
        expire();
        begin();
        say_link();
        say_budget();
        flush();
        if (flush_at_ != 0 && now_ns() >= flush_at_) {
            flush_at_ = 0;
            if (auto kept = box_.flush(); !kept) log_failed("the queue", kept.error());
        }
        if (!box_.waits_for_commit())
            flush_at_ = 0;
        else if (flush_at_ == 0)
            flush_at_ = now_ns() + 5 * second;
        pollfd watched[] = {
            {signals_, POLLIN, 0},
            {sender_.fd(), POLLIN, 0},
            {slmd_, static_cast<short>(POLLIN | (out_size_ > 0 && now_ns() >= confirm_at_ ? POLLOUT : 0)), 0}};
        std::int64_t until = now_ns() + 60 * second;  // deadlines of those that wait
        if (slmd_ < 0) until = std::min(until, connect_at_);
        if (flush_at_ != 0) until = std::min(until, flush_at_);
        if (out_size_ > 0 && confirm_at_ > now_ns()) until = std::min(until, confirm_at_);
        if (!cut_ && box_.next(unix_ms()) != nullptr && asked_[0] == 0)
            until = std::min(until, std::max(waiting_at_, upstreams_.ready_at()));
        if (!link_) until = std::min(until, upstreams_.ready_at());
        const std::int64_t wait = std::clamp<std::int64_t>((until - now_ns()) / 1'000'000 + 1, 1, 60'000);
        if (poll(watched, slmd_ >= 0 ? 3 : 2, static_cast<int>(wait)) < 0 && errno != EINTR) return;
        if (watched[0].revents != 0) break;
        if (slmd_ >= 0 && watched[2].revents != 0) read_lines();
    }
    // What is being sent is given up: it counts in full, as after a power cut.
    sender_.stop();
    end();
    (void)box_.flush();
}

}  // namespace

Result<void> serve(Upstreams& upstreams) {
    static Sender sender(upstreams);
    static Server server(upstreams, sender);
    TRY(server.open());
    server.run();
    return {};
}

}  // namespace slmd::uplink
