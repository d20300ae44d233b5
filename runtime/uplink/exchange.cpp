#include "uplink/exchange.h"

#include <time.h>

#include <algorithm>

#include "uplink/dial.h"
#include "uplink/http.h"

namespace slmd::uplink {
namespace {

// A connection, in TLS or without.
struct Wire {
    const Upstream& upstream;
    Tls& tls;
    Exchange& counted;
    Socket socket;
    bool in_tls = false;

    ~Wire() {
        if (!in_tls) return;
        tls.close();
        counted.bytes_out += tls.bytes_out();
        counted.bytes_in += tls.bytes_in();
    }
    Result<void> open(const Until& until) {
        socket = TRY(dial(upstream, until));
        in_tls = upstream.tls;
        return in_tls ? tls.open(socket.fd(), until.step(upstream.timeouts.handshake)) : Result<void>{};
    }
    Result<std::size_t> write(std::span<const char> bytes, const Until& until) {
        if (in_tls) return tls.write(bytes, until);
        const std::size_t n = TRY(write_some(socket.fd(), bytes, until));
        counted.bytes_out += n;
        return n;
    }
    Result<std::size_t> read(std::span<char> out, const Until& until) {
        if (in_tls) return tls.read(out, until);
        const std::size_t n = TRY(read_some(socket.fd(), out, until));
        counted.bytes_in += n;
        return n;
    }
};

Error refusal(int status, std::string_view said) {
    const char* what = "the server answers with an error";
    Code code = Code::device_io;
    switch (status) {
        case 400:
        case 422: what = "the server does not take the request", code = Code::incorrect_parameters; break;
        case 401: what = "the server does not take the key: look at key or key_file", code = Code::not_permitted; break;
        case 403: what = "the key may not do this, or not from here", code = Code::not_permitted; break;
        case 404: what = "not found there: look at url and model", code = Code::not_found; break;
        case 408: what = "the server did not get the request in time"; break;
        case 413: what = "the request is too large for the server", code = Code::text_too_long; break;
        case 429: what = "too many requests, or the account is used up", code = Code::busy; break;
        case 502:
        case 504: what = "a gateway lost the request or its answer"; break;
        case 503: what = "the server is overloaded or down", code = Code::busy; break;
        default:
            if (status / 100 == 3) what = "the server wants the request elsewhere, which is not followed: look at url";
    }
    // Of the key a server may say more than it should: RFC 6750 has it say nothing.
    if (status == 401 || status == 403 || said.empty()) return Error::make(code, "status %d: %s", status, what);
    return Error::make(code, "status %d: %s (%.*s)", status, what, static_cast<int>(said.size()), said.data());
}

// Moves a name into room that lives longer than the reader that it points into.
std::string_view moved(std::string_view name, std::span<char>& room) {
    const std::size_t n = std::min(name.size(), room.size());
    std::copy_n(name.begin(), n, room.begin());
    const std::string_view out(room.data(), n);
    room = room.subspan(n);
    return out;
}

struct Try {
    const Upstream& upstream;
    Tls& tls;
    std::string_view request;
    Rooms rooms;
    OnText on_text;
    const Until& until;
    Exchange& out;

    Result<void> send(Wire& wire) const {
        for (std::span<const char> left(request.data(), request.size()); !left.empty();) {
            // The first write may have sent a part even when it fails.
            out.delivery = Delivery::unknown;
            left = left.subspan(TRY(wire.write(left, until.step(upstream.timeouts.idle))));
        }
        return {};
    }

    // An answer that is no stream, gathered whole. Of an error's body what does not fit is left out.
    struct Gathered {
        std::span<char> room;
        std::size_t size = 0;
        Result<void> add(std::string_view piece, bool all) {
            const std::size_t n = std::min(piece.size(), room.size() - size);
            if (n < piece.size() && all)
                return Error::make(Code::text_too_long, "the answer is longer than %zu bytes", room.size());
            std::copy_n(piece.begin(), n, room.begin() + static_cast<std::ptrdiff_t>(size));
            size += n;
            return {};
        }
        std::span<char> text() const { return room.first(size); }
    };

    Result<Answer> receive(Wire& wire) const {
        ResponseParser http;
        StreamReader stream(rooms.body, rooms.nodes, rooms.text, on_text);
        Gathered gathered{rooms.body};
        bool streams = false, first = true;
        char buffer[4096];
        while (!http.done() && !stream.done()) {
            const int patience = first ? upstream.timeouts.first_byte : upstream.timeouts.idle;
            const std::size_t n = TRY(wire.read(buffer, until.step(patience)));
            if (n == 0) {
                TRY(http.end());
                break;
            }
            first = false;
            const bool headless = !http.head_done();
            std::string_view in(buffer, n);
            TRY(http.head(in));
            if (!http.head_done()) continue;
            if (headless) {
                out.status = http.status();
                streams = http.status() == 200 && http.content_type() == "text/event-stream";
                out.retry_after = retry_after(http.retry_after(), http.date(), time(nullptr));
                const std::string_view type = http.content_type();
                if (next_for(out.status) == Next::done && !streams && !type.empty() && !type.ends_with("json"))
                    return Error::make(Code::incorrect_parameters, "the answer is %.*s, not JSON: look at url",
                                       static_cast<int>(type.size()), type.data());
            }
            while (!in.empty() && !stream.done()) {
                const std::string_view piece = TRY(http.next(in));
                if (streams)
                    TRY(stream.feed(piece));
                else
                    TRY(gathered.add(piece, next_for(out.status) == Next::done));
                out.told |= stream.has_text() && on_text.call != nullptr;
            }
        }
        if (streams) {
            Answer a = TRY(stream.end());
            out.delivery = Delivery::answered;
            std::span<char> room = rooms.names;
            a.model = moved(a.model, room);
            a.finish = moved(a.finish, room);
            return a;
        }
        out.delivery = next_for(out.status) == Next::lost ? Delivery::unknown : Delivery::answered;
        if (next_for(out.status) == Next::done) return read_answer(gathered.text(), rooms.nodes);
        return refusal(out.status, read_error(gathered.text(), rooms.nodes));
    }

    Result<Answer> run() const {
        Wire wire{upstream, tls, out, {}};
        TRY(wire.open(until));
        TRY(send(wire));
        return receive(wire);
    }
};

}  // namespace

Exchange exchange(const Upstream& upstream, Tls& tls, std::string_view request, std::string_view secret, Rooms rooms,
                  OnText on_text, const Until& until) {
    Exchange out;
    const Until total = until.step(upstream.timeouts.total);
    out.answer = Try{upstream, tls, request, rooms, on_text, total, out}.run();
    // A server knows the key and may put it into its message, which ends in a log. Its beginning is enough to tell.
    if (!out.answer && !secret.empty() &&
        std::string_view(out.answer.error().text).find(secret.substr(0, 12)) != std::string_view::npos)
        out.answer = Error::make(out.answer.error().code,
                                 "status %d: the server's message repeats the key, so it is not shown", out.status);
    return out;
}

}  // namespace slmd::uplink
