// slm-uplink: the one program with a network. Usage: slm-uplink --help
#include <getopt.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <time.h>

#include <cerrno>
#include <cstdint>

#include "uplink/serve.h"
#include "uplink/text.h"
#include "uplink/upstreams.h"

namespace slmd::uplink {
namespace {

constexpr char help[] =
    "slm-uplink: asks large language models elsewhere, over TLS, for slmd\n"
    "usage: slm-uplink [options] COMMAND\n"
    "commands:\n"
    "  serve                 what slmd asks, within the budget, now or when there is a link (the default)\n"
    "  check                 read configuration, keys and certificates; connect to each upstream, say who is there, "
    "and\n"
    "                        send nothing\n"
    "  ask                   one question on stdin, its answer on stdout: a text, or a JSON array of messages\n"
    "options:\n"
    "  -c, --config FILE     TOML (/etc/slm-uplink/slm-uplink.toml)\n"
    "  -u, --upstream NAME   only this one\n"
    "  -k, --key TEXT        ask: the idempotency key, the same for the same question\n"
    "  -j, --schema JSON     ask: a JSON Schema for the answer\n"
    "  -n, --max N           ask: tokens of the answer at most (256)\n"
    "  -t, --temp X          ask: temperature, 0 to 2 (0); -1: none is sent\n"
    "  -S, --seed N          ask: seed (none)\n"
    "  -s, --stream          ask: show the answer as it comes\n"
    "  -p, --show            ask: print the bytes that would be sent, **** for the key, and send nothing\n"
    "  -h, --help\n"
    "  -V, --version\n"
    "exit status: 0 done, 1 failed, 64 wrong usage, 75 sent, and not known whether it was answered, 78 wrong "
    "configuration\n";

constexpr int exit_failed = 1, exit_usage = 64, exit_unknown = 75, exit_config = 78;
// Of data, what the program may have: some eight times what it uses. Stacks of threads count.
[[maybe_unused]] constexpr std::size_t memory_limit = 32 << 20;

constexpr option options[] = {
    {"config", required_argument, nullptr, 'c'}, {"upstream", required_argument, nullptr, 'u'},
    {"key", required_argument, nullptr, 'k'},    {"schema", required_argument, nullptr, 'j'},
    {"max", required_argument, nullptr, 'n'},    {"temp", required_argument, nullptr, 't'},
    {"seed", required_argument, nullptr, 'S'},   {"stream", no_argument, nullptr, 's'},
    {"show", no_argument, nullptr, 'p'},         {"help", no_argument, nullptr, 'h'},
    {"version", no_argument, nullptr, 'V'},      {nullptr, 0, nullptr, 0}};

struct Command {
    const char* config = default_config;
    const char* only = "";
    const char* what = "";
    bool show = false, help = false, version = false;
    Ask ask;
};

int fail(int status, const Error& e) {
    fprintf(stderr, "slm-uplink: %s\n", e.text);
    return status;
}

Result<double> number(const char* name, double low, double high) {
    char* end;
    const double v = strtod(optarg, &end);
    if (end == optarg || *end != 0 || !(v >= low && v <= high))
        return Error::make(Code::incorrect_parameters, "--%s %.40s: use %g to %g", name, optarg, low, high);
    return v;
}

Result<Command> parse(int argc, char** argv) {
    Command c;
    for (int o; (o = getopt_long(argc, argv, "c:u:k:j:n:t:S:sphV", options, nullptr)) != -1;) switch (o) {
            case 'c': c.config = optarg; break;
            case 'u': c.only = optarg; break;
            case 'k': c.ask.key = optarg; break;
            case 'j': c.ask.schema = optarg; break;
            case 'n': c.ask.max_tokens = static_cast<int>(TRY(number("max", 1, 1e6))); break;
            case 't': c.ask.temperature = static_cast<float>(TRY(number("temp", -1, 2))); break;
            case 'S': c.ask.seed = static_cast<std::uint64_t>(TRY(number("seed", 0, 1e15))); break;
            case 's': c.ask.stream = true; break;
            case 'p': c.show = true; break;
            case 'h': c.help = true; break;
            case 'V': c.version = true; break;
            default: return Error::make(Code::not_supported, "--help shows the options");
        }
    if (optind < argc) c.what = argv[optind++];
    if (optind < argc)
        return Error::make(Code::not_supported, "\"%.60s\": one command only; --help shows them", argv[optind]);
    return c;
}

// Nothing of the process may end in a file or with a debugger: it holds keys.
void close_up() {
    prctl(PR_SET_DUMPABLE, 0);
    const rlimit none{0, 0};
    setrlimit(RLIMIT_CORE, &none);
    signal(SIGPIPE, SIG_IGN);
}

int check(Upstreams& all, const char* only) {
    int failed = 0, found = 0;
    const Config& config = all.config();
    for (int i = 0; i < config.upstream_count; i++) {
        const Upstream& u = config.upstreams[i];
        if (only[0] != 0 && strcmp(only, u.name) != 0) continue;
        found++;
        printf("%s: %s://%s:%u%s, model %s, %s%s%s\n", u.name, u.tls ? "https" : "http", u.host, u.port, u.path,
               u.model, u.key[0] != 0 ? "with a key" : "without a key", u.proxy_host[0] != 0 ? ", by proxy " : "",
               u.proxy_host);
        if (u.tls)
            printf("  trusts %s%s\n", u.ca[0] != 0 ? u.ca : "the pinned keys alone",
                   u.ca[0] != 0 && u.pin_count > 0 ? ", and one of the pinned keys" : "");
        fflush(stdout);
        auto peer = all.greet(i, {now_ns() + std::int64_t{120} * 1'000'000'000, nullptr});
        if (!peer) {
            failed++;
            printf("  failed: %s\n", peer.error().text);
            continue;
        }
        if (!u.tls) {
            puts("  reached, without TLS: everybody on the way can read what is asked");
            continue;
        }
        char date[32] = "";
        tm t;
        const time_t until = peer->not_after;
        strftime(date, sizeof date, "%Y-%m-%d", gmtime_r(&until, &t));
        printf("  %s, %s\n  certificate of %s, from %s, until %s (%lld days)\n  its key is pin %s\n", peer->version,
               peer->cipher, peer->subject, peer->issuer, date, static_cast<long long>((until - time(nullptr)) / 86400),
               peer->pin);
    }
    if (found == 0) return fail(exit_usage, Error::make(Code::not_found, "no upstream \"%.60s\"", only));
    return failed == 0 ? 0 : exit_failed;
}

// What is asked, as messages: a JSON array as it is, or a text as the user's one message.
Result<std::string_view> read_messages(std::span<char> room) {
    static char text[Upstreams::max_request];
    const std::size_t n = fread(text, 1, sizeof text, stdin);
    if (n == sizeof text) return Error::make(Code::text_too_long, "the question has more than %zu bytes", n - 1);
    std::string_view asked(text, n);
    while (!asked.empty() && (asked.back() == '\n' || asked.back() == '\r')) asked.remove_suffix(1);
    if (asked.empty()) return Error::make(Code::incorrect_parameters, "no question on stdin");
    if (asked.front() == '[') return asked;
    Writer w(room);
    w << "[{\"role\":\"user\",\"content\":";
    w.json_string(asked);
    w << "}]";
    if (w.overflow()) return Error::make(Code::text_too_long, "the question is too long");
    return w.text();
}

int ask(Upstreams& all, Command& c) {
    static char messages[Upstreams::max_request], out[Upstreams::max_request];
    auto asked = read_messages(messages);
    if (!asked) return fail(exit_failed, asked.error());
    c.ask.messages = *asked;
    if (c.show) {
        for (int i = 0; i < all.config().upstream_count; i++) {
            if (c.only[0] != 0 && strcmp(c.only, all.config().upstreams[i].name) != 0) continue;
            const auto bytes = all.preview(c.ask, i, out);
            if (!bytes) return fail(exit_failed, bytes.error());
            fwrite(bytes.value().data(), 1, bytes.value().size(), stdout);
            return 0;
        }
        return fail(exit_usage, Error::make(Code::not_found, "no upstream \"%.60s\"", c.only));
    }
    const auto show = [](void*, std::string_view piece) {
        fwrite(piece.data(), 1, piece.size(), stdout);
        fflush(stdout);
    };
    const Reply r = all.complete(c.ask, out, {c.ask.stream ? +show : nullptr, nullptr},
                                 now_ns() + std::int64_t{3600} * 1'000'000'000, nullptr, c.only);
    if (c.ask.stream) {
        if (r.outcome || r.bytes_in > 0) putchar('\n');
    } else if (r.outcome) {
        fwrite(r.text.data(), 1, r.text.size(), stdout);
        putchar('\n');
    }
    fflush(stdout);
    if (!r.outcome) fprintf(stderr, "slm-uplink: %s\n", r.outcome.error().text);
    fprintf(stderr, "delivery %s, status %d, tries %d, bytes out %llu, in %llu", name_of(r.delivery), r.status, r.tries,
            static_cast<unsigned long long>(r.bytes_out), static_cast<unsigned long long>(r.bytes_in));
    if (r.has_usage) fprintf(stderr, ", tokens in %u, out %u", r.prompt_tokens, r.completion_tokens);
    if (r.outcome)
        fprintf(stderr, ", finish %.*s, upstream %s", static_cast<int>(r.finish.size()), r.finish.data(),
                r.upstream->name);
    if (!r.outcome && r.retry_after >= 0)
        fprintf(stderr, ", retry after %lld s", static_cast<long long>(r.retry_after / 1'000'000'000));
    fputc('\n', stderr);
    return r.outcome ? 0 : r.delivery == Delivery::unknown ? exit_unknown : exit_failed;
}

int main(int argc, char** argv) {
    close_up();
    auto parsed = parse(argc, argv);
    if (!parsed) return fail(exit_usage, parsed.error());
    Command& c = *parsed;
    if (c.help) return fputs(help, stdout), 0;
    if (c.version) return puts("slm-uplink " SLMD_VERSION), 0;
    const bool checks = strcmp(c.what, "check") == 0, serves = c.what[0] == 0 || strcmp(c.what, "serve") == 0;
    if (!checks && !serves && strcmp(c.what, "ask") != 0)
        return fail(exit_usage,
                    Error::make(Code::not_supported, "\"%.60s\" is not a command; --help shows them", c.what));
#ifndef SLMD_SANITIZED  // whose shadow is larger
    if (auto ok = bound_memory(memory_limit); !ok) return fail(exit_failed, ok.error());
#endif
    static Config config;
    if (auto ok = read_config(c.config, getenv("CREDENTIALS_DIRECTORY"), config); !ok)
        return fail(exit_config, ok.error());
    auto all = Upstreams::open(config);
    if (!all) return fail(exit_config, all.error());
    if (serves) {
        if (auto served = serve(**all); !served) return fail(exit_failed, served.error());
        return 0;
    }
    return checks ? check(**all, c.only) : ask(**all, c);
}

}  // namespace
}  // namespace slmd::uplink

int main(int argc, char** argv) { return slmd::uplink::main(argc, argv); }
