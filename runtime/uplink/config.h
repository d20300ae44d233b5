// What slm-uplink is told: a TOML file. Strict: what is not understood is refused, with its line.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "route/budget.h"

namespace slmd::uplink {

enum class Structured : std::uint8_t { json_schema, json_object, none };  // how a server takes a schema

struct Timeouts {  // milliseconds
    int dns = 5'000, connect = 5'000, handshake = 10'000;
    int first_byte = 60'000;  // from the end of the request to the first byte of the answer
    int idle = 30'000;        // between any two bytes, of the request and of the answer
    int total = 300'000;      // of one try
};

struct Upstream {
    static constexpr int max_pins = 4;

    char name[32] = "";
    bool tls = true;
    char host[254] = "";  // without the brackets of an IPv6 address
    std::uint16_t port = 443;
    char path[256] = "";                                  // "/v1"; the resource is PATH/chat/completions
    char model[128] = "";                                 // as the server calls it
    char key[256] = "";                                   // path of the file with the key; "": none is sent
    char ca[256] = "/etc/ssl/certs/ca-certificates.crt";  // "": the pins alone decide
    std::uint8_t pins[max_pins][32] = {};                 // SHA-256 of a SubjectPublicKeyInfo (RFC 7469, 2.4)
    int pin_count = 0;
    char client_cert[256] = "", client_key[256] = "";  // PEM
    char proxy_host[254] = "";                         // "": none
    std::uint16_t proxy_port = 0;
    bool idempotency = false;  // the server honours Idempotency-Key: what may have arrived may be sent again
    Structured structured = Structured::json_schema;
    bool completion_tokens = false;            // the limit is called max_completion_tokens there, and not max_tokens
    std::int64_t price_in = 0, price_out = 0;  // micro-units of currency for a million tokens
    Timeouts timeouts;
    int tries = 3;      // of one request, all told
    int backoff = 500;  // milliseconds before the second try; doubles with each
    unsigned line = 0;  // of the file
};

struct Config {
    static constexpr int max_upstreams = 8;

    const char* file = nullptr;
    Upstream upstreams[max_upstreams];  // in the order in which they are tried
    int upstream_count = 0;

    // What serve needs (config_serve.cpp).
    char slmd[108] = "/run/slmd-uplink/socket";  // where slmd waits for it
    char state[256] = "";                      // a folder for the queue and the budget; "": none
    route::Limits budget;
    route::AgentLimits agents[route::Budget::max_agents];
    std::size_t agent_count = 0;
    std::size_t queue_requests = 64;
    std::uint64_t queue_bytes = 1 << 20;
    bool resend = false;  // what may have arrived is sent again; else it is given up
};

inline constexpr char default_config[] = "/etc/slm-uplink/slm-uplink.toml";

// Reads path over config. credentials: the folder of systemd's credentials, null for none. Errors: storage_failure;
// incorrect_parameters as "file:line: what and what to do".
Result<void> read_config(const char* path, const char* credentials, Config& config);

}  // namespace slmd::uplink
