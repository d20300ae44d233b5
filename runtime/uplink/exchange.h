// One request to one upstream: connect, send, read.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "uplink/config.h"
#include "uplink/openai.h"
#include "uplink/retry.h"
#include "uplink/tls.h"
#include "uplink/wait.h"

namespace slmd::uplink {

struct Exchange {
    Result<Answer> answer = Error::make(Code::unknown, "not tried");
    Delivery delivery = Delivery::not_sent;
    int status = 0;                             // of HTTP; 0: none came
    std::int64_t retry_after = -1;              // nanoseconds; -1: the server does not say
    std::uint64_t bytes_out = 0, bytes_in = 0;  // on the socket, TLS included
    bool told = false;                          // a piece of the text was passed on
};

struct Rooms {
    std::span<char> body;   // for an answer, or the longest event of a stream
    std::span<char> text;   // for the text of a stream
    std::span<char> names;  // for the model and the finish_reason of a stream
    std::span<JsonNode> nodes;
};

// request: the bytes to send. secret: what no error may repeat. The answer points into the rooms.
Exchange exchange(const Upstream& upstream, Tls& tls, std::string_view request, std::string_view secret, Rooms rooms,
                  OnText on_text, const Until& until);

}  // namespace slmd::uplink
