#include "uplink/upstreams.h"

#include <malloc.h>
#include <string.h>
#include <sys/random.h>

#include <algorithm>
#include <limits>

#include "uplink/dial.h"

namespace slmd::uplink {
namespace {

std::uint32_t random_bits() {
    std::uint32_t v = 0;
    // Without them the jitter is gone, and nothing else.
    if (getrandom(&v, sizeof v, GRND_NONBLOCK) != sizeof v) v = static_cast<std::uint32_t>(now_ns());
    return v;
}

Error named(const Upstream& u, const Error& e) { return Error::make(e.code, "%s: %.190s", u.name, e.text); }

}  // namespace

Upstreams::Upstreams(const Config& config)
    : config_(config), request_(new char[max_request]), body_(new char[max_answer]), nodes_(new JsonNode[max_values]) {
    for (int i = 0; i < config.upstream_count; i++) lines_[i].reset(new Line(config.upstreams[i]));
}

Result<std::unique_ptr<Upstreams>> Upstreams::open(const Config& config) {
    std::unique_ptr<Upstreams> all(new Upstreams(config));
    for (int i = 0; i < config.upstream_count; i++) {
        Line& line = *all->lines_[i];
        const Upstream& u = line.upstream;
        if (u.key[0] != 0)
            if (auto r = line.key.read(u.key); !r) return named(u, r.error());
        if (u.tls)
            if (auto r = line.tls.check_files(); !r) return named(u, r.error());
    }
    return all;
}

Result<std::string_view> Upstreams::preview(const Ask& ask, int upstream, std::span<char> out) {
    const Line& line = *lines_[upstream];
    return write_request(line.upstream, ask, line.key.text().empty() ? "" : "****", scratch(), out);
}

Result<Peer> Upstreams::greet(int upstream, const Until& until) {
    Line& line = *lines_[upstream];
    const Socket socket = TRY(dial(line.upstream, until));
    if (!line.upstream.tls) return Peer{};
    auto opened = line.tls.open(socket.fd(), until.step(line.upstream.timeouts.handshake));
    line.tls.close();
    if (!opened) return opened.error();
    return line.tls.peer();
}

std::int64_t Upstreams::ready_at() const {
    std::int64_t earliest = std::numeric_limits<std::int64_t>::max();
    for (int i = 0; i < config_.upstream_count; i++) earliest = std::min(earliest, lines_[i]->breaker.until());
    return earliest;
}

// What one try comes to, and what may follow it.
Upstreams::Go Upstreams::judge(Line& line, Exchange& e, Reply& reply) {
    const Upstream& u = line.upstream;
    reply.bytes_out += e.bytes_out, reply.bytes_in += e.bytes_in;
    reply.status = e.status;
    reply.retry_after = e.retry_after;
    if (e.answer) {
        line.breaker.succeeded();
        const Answer& a = *e.answer;
        reply.outcome = {};
        reply.delivery = Delivery::answered;
        reply.text = a.text, reply.model = a.model, reply.finish = a.finish;
        reply.prompt_tokens = a.prompt_tokens, reply.completion_tokens = a.completion_tokens;
        reply.has_usage = a.has_usage;
        return Go::over;
    }
    const Error& why = e.answer.error();
    reply.outcome = named(u, why);
    if (reply.delivery != Delivery::unknown) reply.delivery = e.delivery;
    if (why.code == Code::aborted) {
        line.breaker.gave_up();
        return Go::over;
    }
    const Next next = e.delivery == Delivery::answered ? next_for(e.status) : Next::lost;
    // An answer that cannot be read is an answer: asking again would be paid for again.
    if (e.delivery == Delivery::answered && (next == Next::done || next == Next::never)) {
        line.breaker.succeeded();
        return Go::over;
    }
    line.breaker.failed(now_ns());
    if (e.retry_after > 0) line.breaker.rest_until(now_ns() + e.retry_after);
    if (e.told) return Go::over;
    if (e.delivery == Delivery::not_sent) {
        // Who is not whom it should be will not be another a second later.
        const bool for_good = why.code == Code::not_permitted || why.code == Code::incorrect_parameters ||
                              why.code == Code::storage_failure;
        if (!for_good) return Go::again;
    } else if (e.delivery == Delivery::unknown) {
        return u.idempotency ? Go::again : Go::over;
    } else if (next == Next::again) {
        return Go::again;
    }
    return reply.delivery == Delivery::unknown ? Go::over : Go::next;
}

Upstreams::Go Upstreams::ask_line(Line& line, const Ask& ask, std::span<char> out, OnText on_text, const Until& until,
                                  Reply& reply) {
    const Upstream& u = line.upstream;
    const auto leave = [&] { return reply.delivery == Delivery::unknown ? Go::over : Go::next; };
    for (int tries = 1;; tries++) {
        if (!line.breaker.may_try(now_ns())) {
            const std::int64_t rest = std::max<std::int64_t>(line.breaker.until() - now_ns(), 0);
            if (tries == 1) {
                reply.outcome =
                    Error::make(Code::busy, "%s: not asked for another %lld s: it failed too often, or said so", u.name,
                                static_cast<long long>(rest / 1'000'000'000 + 1));
                reply.retry_after = rest;
            }
            return leave();
        }
        auto request = write_request(u, ask, line.key.text(), scratch(), {request_.get(), max_request});
        if (!request) {
            line.breaker.gave_up();
            reply.outcome = named(u, request.error());
            return Go::over;
        }
        reply.upstream = &u;
        reply.tries++;
        Exchange e = exchange(u, line.tls, *request, line.key.text(),
                              {{body_.get(), max_answer}, out, names_, {nodes_.get(), max_values}}, on_text, until);
        explicit_bzero(request_.get(), request->size());  // the key is in it
        const Go go = judge(line, e, reply);
        if (go != Go::again) return go;
        if (tries == u.tries || now_ns() >= until.deadline) return leave();
        const std::int64_t wait = std::max(backoff(tries, u.backoff, random_bits()), e.retry_after);
        const std::int64_t end = now_ns() + wait;
        if (end >= until.deadline) return leave();
        if (wait_for(-1, 0, {end, until.cut}) == Waited::cut) {
            reply.outcome = Error::make(Code::aborted, "%s: the uplink was cut", u.name);
            return Go::over;
        }
    }
}

Reply Upstreams::complete(const Ask& ask, std::span<char> out, OnText on_text, std::int64_t deadline,
                          const std::atomic<bool>* cut, std::string_view only) {
    Reply reply;
    const Until until{deadline, cut};
    if (until.is_cut()) {
        reply.outcome = Error::make(Code::aborted, "the uplink was cut");
        return reply;
    }
    bool found = false;
    for (int i = 0; i < config_.upstream_count; i++) {
        if (!only.empty() && only != lines_[i]->upstream.name) continue;
        found = true;
        if (ask_line(*lines_[i], ask, out, on_text, until, reply) != Go::next) break;
    }
    if (!found)
        reply.outcome =
            Error::make(Code::not_found, "no upstream \"%.*s\" in %.120s",
                        static_cast<int>(std::min<std::size_t>(only.size(), 40)), only.data(), config_.file);
    // A whole answer lies in body_, which the next request writes over.
    if (reply.outcome && reply.text.data() != out.data()) {
        if (reply.text.size() > out.size()) {
            reply.outcome = Error::make(Code::text_too_long, "%s: the answer has %zu bytes; there is room for %zu",
                                        reply.upstream->name, reply.text.size(), out.size());
            reply.text = {};
        } else {
            std::copy(reply.text.begin(), reply.text.end(), out.begin());
            reply.text = {out.data(), reply.text.size()};
        }
    }
    malloc_trim(0);  // a CA bundle was in memory, which is not to stay until the next question
    return reply;
}

}  // namespace slmd::uplink
