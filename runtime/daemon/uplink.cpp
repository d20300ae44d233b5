#include "daemon/uplink.h"

#include <errno.h>
#include <fcntl.h>
#include <pwd.h>
#include <stdio.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/random.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include <algorithm>

#include "base/bytes.h"
#include "base/clock.h"
#include "base/json.h"
#include "base/unix_time.h"
#include "daemon/log.h"
#include "daemon/remote_text.h"

namespace slmd::daemon {
namespace {

using route::Entry;
using route::Outbox;

std::size_t own_secret_at(const void* how, std::string_view text, std::size_t at) {
    return agent::secret_at(static_cast<const agent::Remote*>(how)->patterns, text, at);
}

void make_key(char (&key)[route::Letter::key_bytes + 1]) {
    std::uint8_t random[16];
    (void)!getrandom(random, sizeof random, 0);
    write_hex(random, key);
}

std::int64_t whole(const JsonNode* node) {
    return node == nullptr || node->type != JsonType::number
               ? 0
               : static_cast<std::int64_t>(std::clamp(node->number, -9e15, 9e15));
}
std::string_view text_of(const JsonNode* node) {
    return node == nullptr || node->type != JsonType::string ? std::string_view() : node->text;
}

void read_told(const JsonReader& reader, const JsonNode& what, wire::Away& told) {
    const auto number = [&](const char* name) { return whole(reader.find(what, name)); };
    told.prompt_tokens = static_cast<int>(number("prompt_tokens")), told.tokens = static_cast<int>(number("tokens"));
    told.tries = static_cast<int>(number("tries")), told.cost = number("cost");
    told.bytes_out = number("bytes_out"), told.bytes_in = number("bytes_in");
}

constexpr std::size_t label_bytes = 1024;  // of an answer that is a label, as JSON

// What one that waits is kept with: this, the values that were taken out, the members that are sent.
struct Kept {
    Uplink::Form form;
    bool learns;
    std::uint32_t values, input;  // bytes
    std::uint64_t recorded;
};
struct KeptParts {
    Kept head;
    std::string_view values, input, members;
};
// False: it is damaged.
bool take_apart(std::string_view record, KeptParts& out) {
    if (record.size() < sizeof out.head) return false;
    memcpy(static_cast<void*>(&out.head), record.data(), sizeof out.head);
    record.remove_prefix(sizeof out.head);
    if (std::uint64_t{out.head.values} + out.head.input > record.size()) return false;
    out.values = record.substr(0, out.head.values);
    out.input = record.substr(out.head.values, out.head.input);
    out.members = record.substr(out.values.size() + out.input.size());
    return true;
}
struct KeptValue {
    route::Kind kind;
    std::uint16_t number;
    std::uint32_t size;
};
// And what came: this, then the input, then the text.
struct CameLate {
    bool failed;
    std::uint32_t input;
    int code;
    char upstream[33], model[65];
    int prompt_tokens, tokens, tries;
    std::int64_t cost, bytes_out, bytes_in, ms;
};

}  // namespace

route::LedgerRecord outcome_of(const wire::Away& a, route::LedgerOutcome code) {
    route::LedgerRecord r{};
    r.kind = route::LedgerKind::outcome;
    r.task = route::LedgerTask::run;
    r.code = static_cast<std::uint8_t>(code);
    r.tokens_in = static_cast<std::uint32_t>(a.prompt_tokens), r.tokens_out = static_cast<std::uint32_t>(a.tokens);
    r.bytes_out = static_cast<std::uint32_t>(a.bytes_out), r.bytes_in = static_cast<std::uint32_t>(a.bytes_in);
    r.remote_ms = static_cast<std::uint32_t>(a.ms);
    r.cost_micro = a.cost;
    return r;
}

Uplink::Body& Uplink::Body::put(std::string_view text) {
    if (text.size() > out_.size() - size_) full_ = true;
    if (full_ || text.empty()) return *this;
    memcpy(out_.data() + size_, text.data(), text.size());
    size_ += text.size();
    return *this;
}

Uplink::Body& Uplink::Body::number(std::int64_t n) {
    char text[24];
    return put({text, static_cast<std::size_t>(snprintf(text, sizeof text, "%lld", static_cast<long long>(n)))});
}

Uplink::Body& Uplink::Body::string(std::string_view text, std::string_view more) {
    put("\"");
    char written[6];
    for (const char& c : text) put(json_written(c, written));
    if (!more.empty()) put("\\n");
    for (const char& c : more) put(json_written(c, written));
    return put("\"");
}

void Uplink::lay_out(Arena& arena, const Config& config) {
    if (config.uplink.socket[0] == 0) return;
    goings_ = arena.scratch<Going>(max_goings);
    shown_ = arena.scratch<Shown>(max_shown);
    waiting_ = arena.scratch<Outbox>(1);
    auto* const redactors = arena.scratch<route::Redactor>(max_goings + 1);
    for (int i = 0; i <= max_goings; i++) {
        char* const secrets = arena.scratch<char>(secret_bytes);
        auto* const values = arena.scratch<route::Redactor::Value>(max_secrets);
        char* const text = arena.scratch<char>(text_bytes);
        char* const asked = arena.scratch<char>(text_bytes);
        char* const raw = arena.scratch<char>(text_bytes);
        if (goings_ == nullptr) continue;
        route::Redactor* const redactor =
            new (&redactors[i]) route::Redactor({secrets, secret_bytes}, {values, max_secrets}, {});
        if (i == max_goings) {
            late_ = redactor;
            continue;
        }
        new (&goings_[i]) Going{};
        goings_[i].redactor = redactor, goings_[i].text = text;
        goings_[i].asked = asked, goings_[i].raw = raw;
    }
    for (int i = 0; i < max_shown; i++) {
        char* const text = arena.scratch<char>(text_bytes);
        if (shown_ == nullptr) continue;
        new (&shown_[i]) Shown{};
        shown_[i].text = text;
    }
    in_ = arena.scratch<char>(in_bytes);
    out_ = arena.scratch<char>(out_bytes);
    body_ = arena.scratch<char>(body_bytes);
    filled_ = arena.scratch<char>(prompt_room);
    redacted_ = arena.scratch<char>(redacted_bytes);
    scratch_ = arena.scratch<char>(2 * route::Journal::max_record);
    if (waiting_ != nullptr) new (waiting_) Outbox;
}

Result<void> Uplink::open(const Config& config, Records& records) {
    if (!is_configured()) return {};
    config_ = &config;
    records_ = &records;
    const Config::Uplink& u = config.uplink;
    if (const passwd* const who = getpwnam(u.user))
        user_ = who->pw_uid;
    else
        return Error::make(Code::not_found,
                           "[uplink] user = \"%s\": there is no such user; the package slm-uplink makes it", u.user);
    char path[sizeof config.state + 16];
    snprintf(path, sizeof path, "%s/waiting", config.state);
    const auto found =
        TRY(waiting_->open(path, {.all = {}, .agents = {}, .entries = Outbox::max_entries, .bytes = max_waiting_bytes},
                           {scratch_, route::Journal::max_record}));
    if (found.file.damaged > 0 || found.file.torn > 0)
        log(Level::warning, {{"SLMD_EVENT", "uplink"}},
            "%s: %d damaged records are passed over, and %llu torn bytes at its end are cut off", path,
            found.file.damaged, static_cast<unsigned long long>(found.file.torn));

    listener_ = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    sockaddr_un address{};
    address.sun_family = AF_UNIX;
    memcpy(address.sun_path, u.socket, strlen(u.socket));
    struct stat st;
    if (lstat(u.socket, &st) == 0 && S_ISSOCK(st.st_mode)) unlink(u.socket);  // of one that was killed
    // Whoever connects is asked who it is.
    if (listener_ < 0 || bind(listener_, reinterpret_cast<const sockaddr*>(&address), sizeof address) != 0 ||
        chmod(u.socket, 0666) != 0 || listen(listener_, 4) != 0)
        return Error::make(Code::device_io, "[uplink] socket %s: %s; does its folder exist, and may slmd write there?",
                           u.socket, strerror(errno));
    epoll_ = epoll_create1(EPOLL_CLOEXEC);
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.fd = listener_;
    if (epoll_ < 0 || epoll_ctl(epoll_, EPOLL_CTL_ADD, listener_, &e) != 0)
        return Error::make(Code::device_io, "epoll: %s", strerror(errno));
    return {};
}

void Uplink::close() {
    if (!is_configured()) return;
    for (int* const fd : {&connection_, &listener_, &epoll_}) {
        if (*fd < 0) continue;
        if (fd == &listener_) unlink(config_->uplink.socket);
        ::close(*fd);
        *fd = -1;
    }
    waiting_->~Outbox();
    goings_ = nullptr;
}

// ---- places

Uplink::Going* Uplink::take(int job, std::uint64_t order, const agent::Remote& how) {
    for (Going& g : goings()) {
        if (g.state != Going::free) continue;
        route::Redactor* const redactor = g.redactor;
        char *const text = g.text, *const asked = g.asked, *const raw = g.raw;
        g = Going{};
        g.redactor = redactor, g.text = text, g.asked = asked, g.raw = raw;
        g.state = Going::taken, g.job = job, g.order = order;
        make_key(g.key);
        std::size_t n = 0;
        for (std::size_t i = 0; i < config_->uplink.term_count; i++) g.terms[n++] = config_->uplink.terms[i];
        for (const std::string_view term : how.terms) g.terms[n++] = term;
        redactor->forget();
        redactor->look_for(std::span(g.terms).first(n), {how.patterns.empty() ? nullptr : own_secret_at, &how});
        return &g;
    }
    return nullptr;
}

void Uplink::give(Going& going) {
    going.redactor->forget();
    going.state = Going::free;
}

Result<std::string_view> Uplink::redact(Going& going, std::string_view text) {
    return going.redactor->redact(text, {redacted_, redacted_bytes});
}

Uplink::Going* Uplink::going_of(std::string_view key) {
    for (Going& g : goings())
        if (g.state == Going::away && key == g.key) return &g;
    return nullptr;
}

// ---- what leaves

// {"BEFORE":{"key":"KEY",MEMBERS}}, or nothing.
bool Uplink::write_line(std::string_view before, std::string_view key, std::string_view members) {
    if (connection_ < 0) return false;
    if (out_sent_ > 0) {
        memmove(out_, out_ + out_sent_, out_size_ - out_sent_);
        out_size_ -= out_sent_, out_sent_ = 0;
    }
    Body line({out_ + out_size_, out_bytes - out_size_});
    line.put("{\"")
        .put(before)
        .put("\":{\"key\":\"")
        .put(key)
        .put(members.empty() ? "\"" : "\",")
        .put(members)
        .put("}}\n");
    if (line.full()) return false;
    out_size_ += line.view().size();
    return true;
}

Result<void> Uplink::send(Going& going, std::string_view members) {
    if (!write_line("ask", going.key, members)) return Error::make(Code::busy, "slm-uplink does not keep up");
    going.state = Going::away;
    going.sent_ns = now_ns();
    flush();
    return {};
}

Result<void> Uplink::queue(Going& going, const route::Letter& of, std::string_view input, std::string_view members) {
    route::Letter letter = of;
    memcpy(letter.key, going.key, sizeof letter.key);
    letter.queued_ms = unix_ms();
    if (letter.deadline_ms > 0) letter.deadline_ms += letter.queued_ms;
    Body kept({scratch_ + route::Journal::max_record, route::Journal::max_record});
    Kept head;
    memset(static_cast<void*>(&head), 0, sizeof head);
    head.form = going.form, head.learns = going.learns;
    head.recorded = going.recorded;
    head.input = static_cast<std::uint32_t>(input.size());
    for (const route::Redactor::Value& v : going.redactor->values())
        head.values += static_cast<std::uint32_t>(sizeof(KeptValue) + v.size);
    kept.put({reinterpret_cast<const char*>(&head), sizeof head});
    for (const route::Redactor::Value& v : going.redactor->values()) {
        KeptValue value;
        memset(static_cast<void*>(&value), 0, sizeof value);
        value.kind = v.kind, value.number = v.number, value.size = v.size;
        kept.put({reinterpret_cast<const char*>(&value), sizeof value}).put(going.redactor->text_of(v));
    }
    kept.put(input).put(members);
    if (kept.full()) return Error::make(Code::text_too_long, "the request is too long for the queue");
    TRY(waiting_->put(letter, kept.view()));
    resend_ = 0;
    send_waiting();
    return {};
}

void Uplink::cancel(Going& going) {
    write_line("cancel", going.key, {});
    flush();
    give(going);
}

// Those that wait, to whoever has just come: it keeps what it has not yet, and says again what it has the answer of.
void Uplink::send_waiting() {
    if (connection_ < 0 || cut_) return;
    const auto entries = waiting_->entries();
    for (; resend_ < entries.size(); resend_++) {
        const Entry& e = entries[resend_];
        std::uint64_t& word = resent_[resend_ / 64];
        const std::uint64_t bit = std::uint64_t{1} << resend_ % 64;
        if (e.state != Entry::waiting) {
            word &= ~bit;
            continue;
        }
        if ((word & bit) != 0) continue;
        const auto read = waiting_->text(e, {scratch_, route::Journal::max_record});
        KeptParts kept;
        if (!read || !take_apart(read.value(), kept)) continue;
        if (!write_line("put", e.letter.key, kept.members)) return;
        word |= bit;
    }
    flush();
}

void Uplink::flush() {
    while (connection_ >= 0 && out_sent_ < out_size_) {
        const ssize_t n = ::send(connection_, out_ + out_sent_, out_size_ - out_sent_, MSG_NOSIGNAL | MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno != EAGAIN) return hang_up(strerror(errno));
        if (n < 0) break;
        out_sent_ += static_cast<std::size_t>(n);
    }
    if (out_sent_ == out_size_) out_sent_ = out_size_ = 0;
    if (connection_ < 0 || writing_ == (out_size_ > 0)) return;
    writing_ = out_size_ > 0;
    epoll_event e{};
    e.events = EPOLLIN | (writing_ ? EPOLLOUT : 0u);
    e.data.fd = connection_;
    epoll_ctl(epoll_, EPOLL_CTL_MOD, connection_, &e);
}

// ---- the line

void Uplink::accept_one() {
    const int fd = accept4(listener_, nullptr, nullptr, SOCK_NONBLOCK | SOCK_CLOEXEC);
    if (fd < 0) return;
    ucred who{};
    socklen_t n = sizeof who;
    if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &who, &n) != 0 || who.uid != user_) {
        log(Level::warning, {{"SLMD_EVENT", "uplink"}},
            "%s: user %u came, and only %s (%u) may: [uplink] user says who slm-uplink runs as", config_->uplink.socket,
            who.uid, config_->uplink.user, user_);
        ::close(fd);
        return;
    }
    if (connection_ >= 0) hang_up("another one came");
    connection_ = fd;
    in_size_ = out_size_ = out_sent_ = 0;
    writing_ = false;
    epoll_event e{};
    e.events = EPOLLIN;
    e.data.fd = fd;
    epoll_ctl(epoll_, EPOLL_CTL_ADD, fd, &e);
    told_ = false;
    std::fill(std::begin(resent_), std::end(resent_), 0u);
    resend_ = 0;
    log(Level::info, {{"SLMD_EVENT", "uplink"}}, "slm-uplink is there");
}

// What was away is not known to have been answered: whoever asked is told.
void Uplink::hang_up(const char* why) {
    log(Level::notice, {{"SLMD_EVENT", "uplink"}}, "slm-uplink is gone: %s", why);
    ::close(connection_);
    connection_ = -1;
    link_ = false;
    for (Going& g : goings()) {
        if (g.state != Going::away) continue;
        g.state = Going::came, g.failed = true, g.why = Going::other;
        g.error = Error::make(Code::aborted, "slm-uplink went away; whether the request was answered is not known");
    }
}

void Uplink::advance(bool cut) {
    if (!is_configured()) return;
    cut_ = cut;
    epoll_event events[2];
    const int n = epoll_wait(epoll_, events, 2, 0);
    for (int i = 0; i < n; i++) {
        if (events[i].data.fd == listener_)
            accept_one();
        else if (events[i].data.fd == connection_)
            read_lines();
    }
    if (connection_ >= 0 && (!told_ || cut != told_cut_)) {
        if (out_bytes - out_size_ > 32) {
            Body line({out_ + out_size_, out_bytes - out_size_});
            out_size_ += line.put("{\"cut\":").put(cut ? "true" : "false").put("}\n").view().size();
            told_ = true, told_cut_ = cut;
        }
    }
    send_waiting();
    flush();
}

void Uplink::read_lines() {
    for (;;) {
        if (in_size_ == in_bytes) return hang_up("it sent a line that is too long");
        const ssize_t n = recv(connection_, in_ + in_size_, in_bytes - in_size_, MSG_DONTWAIT);
        if (n < 0 && errno == EINTR) continue;
        if (n < 0 && errno == EAGAIN) return;
        if (n <= 0) return hang_up(n == 0 ? "it closed the connection" : strerror(errno));
        in_size_ += static_cast<std::size_t>(n);
        std::size_t at = 0;
        for (;;) {
            auto* const end = static_cast<char*>(memchr(in_ + at, '\n', in_size_ - at));
            if (end == nullptr) break;
            const auto size = static_cast<std::size_t>(end - in_) - at;
            understand({in_ + at, size});
            if (connection_ < 0) return;
            at += size + 1;
        }
        memmove(in_, in_ + at, in_size_ - at);
        in_size_ -= at;
    }
}

void Uplink::understand(std::span<char> line) {
    JsonNode nodes[1024];  // 33 accounts of 16 are the most
    JsonReader reader(nodes, 6);
    if (auto read = reader.parse(line); !read || reader.root().type != JsonType::object)
        return hang_up(read ? "it sent a line that is no object" : read.error().text);
    const JsonNode& root = reader.root();
    if (const JsonNode* const link = reader.find(root, "link"))
        link_ = link->truth;
    else if (const JsonNode* const c = reader.find(root, "came"))
        came(reader, *c, false);
    else if (const JsonNode* const g = reader.find(root, "gone"))
        came(reader, *g, true);
    else if (const JsonNode* const b = reader.find(root, "budget"))
        read_budget(reader, *b);
    // What a newer one says is passed over.
}

void Uplink::came(const JsonReader& reader, const JsonNode& what, bool failed) {
    const std::string_view key = text_of(reader.find(what, "key"));
    Going* const g = going_of(key);
    if (g == nullptr) {
        if (const Entry* const e = waiting_->find(key))
            came_late(*e, reader, what, failed);
        else
            write_line("drop", key, {});
        return;
    }
    g->state = Going::came;
    g->told = {};
    g->told.upstream = copy_text(text_of(reader.find(what, "upstream")), g->upstream);
    g->told.model = copy_text(text_of(reader.find(what, "model")), g->model);
    read_told(reader, what, g->told);
    g->told.ms = (now_ns() - g->sent_ns) / 1'000'000;
    g->failed = failed;
    if (failed) {
        const std::string_view why = text_of(reader.find(what, "why")), text = text_of(reader.find(what, "text"));
        g->why = why == "budget" ? Going::budget : why == "link" ? Going::link : Going::other;
        g->error = Error::make(static_cast<Code>(whole(reader.find(what, "code"))), "%.*s",
                               static_cast<int>(std::min<std::size_t>(text.size(), 200)), text.data());
        return;
    }
    char label[label_bytes];
    std::string_view text = text_of(reader.find(what, "text"));
    if (g->form == Form::label) text = label_in(text, label);
    if (g->learns && !text.empty() && text.size() <= text_bytes) {
        memcpy(g->raw, text.data(), text.size());
        g->raw_size = text.size();
    }
    const auto restored = g->redactor->restore(text, {g->text, text_bytes}, g->form == Form::json);
    if (restored)
        g->text_size = restored.value().size();
    else
        g->failed = true, g->why = Going::other, g->error = restored.error();
}

// Of one that waited: kept with what was taken out of it in its place, and then slm-uplink may forget it.
void Uplink::came_late(const Entry& entry, const JsonReader& reader, const JsonNode& what, bool failed) {
    char key[route::Letter::key_bytes + 1];
    memcpy(key, entry.letter.key, sizeof key);
    if (entry.state != Entry::waiting) {
        if (waiting_->confirm()) write_line("drop", key, {});
        return;
    }
    const auto read = waiting_->text(entry, {scratch_, route::Journal::max_record});
    KeptParts kept{};
    if (read) take_apart(read.value(), kept);
    char label[label_bytes];
    std::string_view text = text_of(reader.find(what, "text"));
    if (kept.head.form == Form::label) text = label_in(text, label);
    wire::Away told;
    read_told(reader, what, told);
    if (kept.head.learns && !failed) learn_late(entry.letter.agent, kept.members, text);
    CameLate head;
    memset(static_cast<void*>(&head), 0, sizeof head);
    head.failed = failed;
    copy_text(text_of(reader.find(what, "upstream")), head.upstream);
    copy_text(text_of(reader.find(what, "model")), head.model);
    head.code = static_cast<int>(whole(reader.find(what, "code")));
    head.prompt_tokens = told.prompt_tokens, head.tokens = told.tokens, head.tries = told.tries;
    head.cost = told.cost, head.bytes_out = told.bytes_out, head.bytes_in = told.bytes_in;
    head.ms = whole(reader.find(what, "ms"));
    head.input = static_cast<std::uint32_t>(kept.input.size());
    char* const out = scratch_ + route::Journal::max_record;
    char* const at = out + sizeof head + kept.input.size();  // there is room: what was queued was larger
    if (!failed) {
        remember(*late_, kept.values);
        const auto restored = late_->restore(text, {at, text_bytes}, kept.head.form == Form::json);
        late_->forget();
        if (!restored) head.failed = true, head.code = static_cast<int>(restored.error().code);
        text = restored ? restored.value() : "the answer does not fit";
    }
    memcpy(out, &head, sizeof head);
    if (!kept.input.empty()) memcpy(out + sizeof head, kept.input.data(), kept.input.size());
    const std::size_t n = std::min(text.size(), text_bytes);
    if (n > 0) memmove(at, text.data(), n);
    auto done = waiting_->answer(key, nullptr, {out, sizeof head + kept.input.size() + n});
    if (done) done = waiting_->confirm();
    if (!done)
        return log(Level::error, {{"SLMD_EVENT", "uplink"}},
                   "the answer to %s could not be kept, and will be asked for again: %s", key, done.error().text);
    told.ms = head.ms;
    route::LedgerRecord r =
        outcome_of(told, text_of(reader.find(what, "why")) == "expired" ? route::LedgerOutcome::expired
                         : head.failed                                  ? route::LedgerOutcome::failed
                                                                        : route::LedgerOutcome::settled);
    r.refers = kept.head.recorded;
    r.queue_ms =
        static_cast<std::uint32_t>(std::clamp<std::int64_t>(unix_ms() - entry.letter.queued_ms, 0, UINT32_MAX));
    route::set_agent(r, entry.letter.agent);
    records_->append(r, false);
    if (event_count_ < max_events) {
        wire::Event& e = events_[event_count_++];
        e = {.kind = wire::Event::model, .name = "QUEUE"};
        copy_text(entry.letter.agent, e.subject);
        memcpy(e.text, key, sizeof key);
    }
    write_line("drop", key, {});
}

// What was taken out of one that waits, as it was kept.
void Uplink::remember(route::Redactor& redactor, std::string_view values) {
    redactor.forget();
    KeptValue v;
    for (; values.size() >= sizeof v; values.remove_prefix(sizeof v + v.size)) {
        memcpy(static_cast<void*>(&v), values.data(), sizeof v);
        if (v.size > values.size() - sizeof v || !redactor.remember(v.kind, v.number, values.substr(sizeof v, v.size)))
            return;
    }
}

// The pair of one that waited: its last message, and its first when that is the system's.
void Uplink::learn_late(std::string_view agent, std::string_view members, std::string_view answer) {
    Body copy({redacted_, redacted_bytes});
    copy.put("{").put(members).put("}");
    JsonNode nodes[256];
    JsonReader reader(nodes, 4);
    static constexpr std::string_view raw[] = {"schema"};
    reader.leave(raw);
    if (copy.full() || !reader.parse({redacted_, copy.view().size()})) return;
    const JsonNode* const messages = reader.find(reader.root(), "messages");
    if (messages == nullptr) return;
    std::string_view system, request;
    for (int i = reader.first(*messages); i < messages->next; i = reader.node(i).next) {
        const std::string_view text = text_of(reader.find(reader.node(i), "content"));
        (text_of(reader.find(reader.node(i), "role")) == "system" ? system : request) = text;
    }
    records_->learn({agent, system, request, answer});
}

void Uplink::read_budget(const JsonReader& reader, const JsonNode& list) {
    budget_count_ = 0;
    std::size_t agents = 0;
    for (int i = reader.first(list); i < list.next && agents < max_budget; i = reader.node(i).next, agents++) {
        const JsonNode& of = reader.node(i);
        const std::string_view agent = copy_text(text_of(reader.find(of, "agent")), budget_agents_[agents]);
        for (const char* const period : {"day", "month"}) {
            const JsonNode* const n = reader.find(of, period);  // used, limit; money, tokens, bytes
            if (n == nullptr || n->type != JsonType::array) continue;
            wire::BudgetInfo& b = budget_[budget_count_++];
            b = {agent, period, {}, {-1, -1, -1}};
            int k = 0;
            for (int j = reader.first(*n); j < n->next && k < 6; j = reader.node(j).next, k++)
                (k < 3 ? b.used[k] : b.limit[k - 3]) = whole(&reader.node(j));
        }
    }
}

// ---- what waits, for clients

bool Uplink::next_event(wire::Event& event) {
    if (event_count_ == 0) return false;
    event = events_[0];
    std::copy(events_ + 1, events_ + event_count_, events_);
    event_count_--;
    return true;
}

std::span<const wire::QueueInfo> Uplink::queued() {
    if (!is_configured()) return {};
    std::size_t n = 0;
    for (const Entry& e : waiting_->entries())
        if (e.state != Entry::free)
            queue_[n++] = {e.letter.key,
                           e.letter.agent,
                           e.state == Entry::answered,
                           e.letter.priority,
                           e.letter.queued_ms / 1000,
                           e.letter.deadline_ms / 1000};
    return {queue_, n};
}

Result<const Entry*> Uplink::queued_as(std::string_view key) const {
    if (!is_configured())
        return Error::make(Code::not_supported, "there is no uplink: [uplink] in slmd's configuration");
    const Entry* const e = waiting_->find(key);
    if (e == nullptr)
        return Error::make(Code::not_found, "nothing was queued as \"%.*s\"; AT#QUEUE? lists what was",
                           static_cast<int>(std::min<std::size_t>(key.size(), 40)), key.data());
    return e;
}

Result<void> Uplink::drop(std::string_view key) {
    const Entry* const e = TRY(queued_as(key));
    resent_[static_cast<std::size_t>(e - waiting_->entries().data()) / 64] &=
        ~(std::uint64_t{1} << static_cast<std::size_t>(e - waiting_->entries().data()) % 64);
    TRY(waiting_->drop(key));
    TRY(waiting_->flush());
    write_line("drop", key, {});  // when it is being sent, its answer is dropped when it comes
    flush();
    return {};
}

Result<Uplink::Late> Uplink::late(std::string_view key) {
    const Entry* const e = TRY(queued_as(key));
    if (e->state != Entry::answered)
        return Error::make(Code::busy, "%s waits for its answer still; AT#EVT=4 tells when it has come", e->letter.key);
    const std::string_view text = TRY(waiting_->answer_of(*e, {scratch_, route::Journal::max_record}));
    CameLate head;
    if (text.size() >= sizeof head) memcpy(static_cast<void*>(&head), text.data(), sizeof head);
    if (text.size() < sizeof head || text.size() - sizeof head < head.input)
        return Error::make(Code::check_failed, "the answer to %s is damaged", e->letter.key);
    Late l;
    l.agent = e->letter.agent;
    l.input = text.substr(sizeof head, head.input);
    l.text = text.substr(sizeof head + head.input);
    l.text = l.text.substr(0, std::min(l.text.size(), text_bytes));
    if (head.failed)
        l.error = Error::make(static_cast<Code>(head.code), "%.*s",
                              static_cast<int>(std::min<std::size_t>(l.text.size(), 200)), l.text.data());
    wire::Away& a = l.told;
    a.reason = "it was queued";
    a.key = e->letter.key;
    a.upstream = copy_text({head.upstream, strnlen(head.upstream, sizeof head.upstream)}, late_upstream_);
    a.model = copy_text({head.model, strnlen(head.model, sizeof head.model)}, late_model_);
    a.prompt_tokens = head.prompt_tokens, a.tokens = head.tokens, a.tries = head.tries;
    a.cost = head.cost, a.bytes_out = head.bytes_out, a.bytes_in = head.bytes_in, a.ms = head.ms;
    return l;
}

Result<int> Uplink::show(const Late& late) {
    Shown* const s = std::find_if(shown_, shown_ + max_shown, [](const Shown& x) { return !x.used; });
    if (s == shown_ + max_shown) return Error::make(Code::busy, "%d answers are told already", max_shown);
    char* const at = s->text;
    *s = {};
    s->used = true, s->text = at;
    s->told = late.told;
    s->told.key = copy_text(late.told.key, s->key);
    s->told.upstream = copy_text(late.told.upstream, s->upstream);
    s->told.model = copy_text(late.told.model, s->model);
    wire::Outcome& o = s->outcome;
    o.finish = "stop", o.route = "escalate", o.verdict = "unchecked", o.away = &s->told;
    o.prompt_tokens = late.told.prompt_tokens, o.tokens = late.told.tokens, o.total_ms = late.told.ms;
    if (late.error) {
        o.failed = true, o.error = *late.error;
    } else if (!late.text.empty()) {
        s->size = late.text.size();
        memcpy(s->text, late.text.data(), s->size);
    }
    return first_handle + static_cast<int>(s - shown_);
}

wire::View Uplink::view(int handle) {
    Shown& s = shown_[handle - first_handle];
    wire::View v;
    v.state = wire::View::finished;
    v.outcome = &s.outcome;
    v.text = {s.text + s.taken, s.size - s.taken};
    return v;
}

void Uplink::take_text(int handle, std::size_t bytes) { shown_[handle - first_handle].taken += bytes; }

void Uplink::release(int handle) { shown_[handle - first_handle].used = false; }

}  // namespace slmd::daemon
