#include "uplink/config.h"

#include <unistd.h>

#include <cerrno>
#include <cmath>
#include <cstdlib>
#include <cstring>

#include "base/ascii.h"
#include "hal/toml.h"
#include "uplink/config_serve.h"
#include "uplink/text.h"

namespace slmd::uplink {
namespace {

struct Reader : hal::TomlFile {
    const char* credentials;
    Config& config;

    // name: what may not stand in an HTTP field or a message is refused at once, wherever the text goes.
    Result<void> text(const char* name, const toml::node& node, char* out, std::size_t size) const {
        const auto* s = node.as_string();
        if (s == nullptr) return at(node, (std::string(name) + " is a text in quotes").c_str());
        const std::string& v = s->get();
        if (v.size() >= size)
            return at(node, (std::string(name) + " is at most " + std::to_string(size - 1) + " bytes").c_str());
        for (const char c : v)
            if (static_cast<unsigned char>(c) < 0x20 || c == 0x7F)
                return at(node, (std::string(name) + " holds a control character").c_str());
        std::memcpy(out, v.c_str(), v.size() + 1);
        return {};
    }
    Result<void> flag(const char* name, const toml::node& node, bool& out) const {
        const auto* b = node.as_boolean();
        if (b == nullptr) return at(node, (std::string(name) + " is true or false").c_str());
        out = b->get();
        return {};
    }
    // Seconds with up to three decimals, as milliseconds.
    Result<void> seconds(const char* name, const toml::node& node, double low, double high, int& out) const {
        const auto v = node.value<double>();
        char said[96];
        if (!v || !node.is_number() || !(*v >= low && *v <= high)) {
            std::snprintf(said, sizeof said, "%s is a number of seconds, %g to %g", name, low, high);
            return at(node, said);
        }
        out = static_cast<int>(std::lround(*v * 1000));
        return {};
    }
    // Units of currency with up to six decimals, as micro-units: money is counted, never rounded.
    Result<void> money(const char* name, const toml::node& node, std::int64_t& out) const {
        const auto v = node.value<double>();
        if (!v || !node.is_number() || !(*v >= 0 && *v <= 1e6))
            return at(node, (std::string(name) + " is a price for a million tokens, 0 to 1000000").c_str());
        const double micro = *v * 1e6;
        if (std::fabs(micro - std::round(micro)) > 1e-3)
            return at(node, (std::string(name) + " has more than six decimals").c_str());
        out = std::llround(micro);
        return {};
    }

    Result<void> root(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (TRY(read_serve(*this, key.str(), node, config))) continue;
            if (key.str() != "upstream") return unknown(key, "slmd, state, [budget], [queue], [[upstream]]");
            const auto* list = node.as_array();
            if (list == nullptr) return no_list(node, "upstream");
            for (const toml::node& n : *list) {
                const auto* u = n.as_table();
                if (u == nullptr) return no_list(n, "upstream");
                TRY(upstream(*u));
            }
        }
        return {};
    }

    Result<void> upstream(const toml::table& t) const {
        if (config.upstream_count == Config::max_upstreams) return at(t, "at most 8 upstreams");
        Upstream& u = config.upstreams[config.upstream_count++];
        u.line = static_cast<unsigned>(t.source().begin.line);
        bool plaintext = false;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "name")
                TRY(text("name", node, u.name, sizeof u.name));
            else if (k == "url")
                TRY(url(node, u));
            else if (k == "plaintext")
                TRY(flag("plaintext", node, plaintext));
            else if (k == "model")
                TRY(text("model", node, u.model, sizeof u.model));
            else if (k == "key")
                TRY(credential("key", node, u.key));
            else if (k == "key_file")
                TRY(text("key_file", node, u.key, sizeof u.key));
            else if (k == "ca")
                TRY(text("ca", node, u.ca, sizeof u.ca));
            else if (k == "pin")
                TRY(pins(node, u));
            else if (k == "client_cert")
                TRY(text("client_cert", node, u.client_cert, sizeof u.client_cert));
            else if (k == "client_key")
                TRY(file_or_credential("client_key", node, u.client_key));
            else if (k == "proxy")
                TRY(proxy(node, u));
            else if (k == "idempotency")
                TRY(flag("idempotency", node, u.idempotency));
            else if (k == "structured")
                TRY(structured(node, u));
            else if (k == "limit")
                TRY(limit(node, u));
            else if (k == "price")
                TRY(price(node, u));
            else if (k == "timeouts")
                TRY(timeouts(node, u.timeouts));
            else if (k == "backoff")
                TRY(seconds("backoff", node, 0.001, 60, u.backoff));
            else if (k == "tries") {
                const auto* n = node.as_integer();
                if (n == nullptr || n->get() < 1 || n->get() > 10) return at(node, "tries is a whole number, 1 to 10");
                u.tries = static_cast<int>(n->get());
            } else
                return unknown(key,
                               "name, url, plaintext, model, key, key_file, ca, pin, client_cert, client_key, proxy, "
                               "idempotency, structured, limit, price, timeouts, tries, backoff");
        }
        return whole(t, u, plaintext);
    }

    // What no single key can tell.
    Result<void> whole(const toml::table& t, const Upstream& u, bool plaintext) const {
        if (u.name[0] == 0 || u.host[0] == 0 || u.model[0] == 0)
            return at(t, "an [[upstream]] has a name, a url and a model");
        for (const char c : std::string_view(u.name))
            if (!is_alnum(c) && c != '-' && c != '_' && c != '.')
                return at(*t.get("name"), "a name has letters, digits, -, _ and .");
        for (int i = 0; i + 1 < config.upstream_count; i++)
            if (std::strcmp(config.upstreams[i].name, u.name) == 0) return at(t, "two upstreams of that name");
        if (t.contains("key") && t.contains("key_file")) return at(*t.get("key"), "key or key_file, not both");
        if (!u.tls && !plaintext)
            return at(*t.get("url"),
                      "http:// sends questions and key for anybody to read: use https://, or on your own network say "
                      "plaintext = true");
        if (u.tls && plaintext) return at(*t.get("plaintext"), "plaintext = true, but the url is https://");
        if (u.tls && u.ca[0] == 0 && u.pin_count == 0)
            return at(*t.get("ca"), "ca = \"\" trusts nobody: name the server's key with pin = [\"...\"]");
        if (!u.tls)
            for (const char* k : {"ca", "pin", "client_cert", "client_key"})
                if (const toml::node* n = t.get(k))
                    return at(*n, (std::string(k) + " is of TLS, but the url is http://").c_str());
        if ((u.client_cert[0] == 0) != (u.client_key[0] == 0)) return at(t, "client_cert and client_key come together");
        return {};
    }

    Result<void> url(const toml::node& node, Upstream& u) const {
        char value[512];
        TRY(text("url", node, value, sizeof value));
        auto r = split_url(value);
        if (!r) return at(node, r.error().text);
        const Url& parts = *r;
        if (parts.host.size() >= sizeof u.host || parts.path.size() >= sizeof u.path) return at(node, "too long");
        copy(parts.host, u.host);
        copy(parts.path, u.path);
        u.tls = parts.tls, u.port = parts.port;
        return {};
    }
    Result<void> proxy(const toml::node& node, Upstream& u) const {
        char value[512];
        TRY(text("proxy", node, value, sizeof value));
        auto r = split_url(value);
        if (!r) return at(node, r.error().text);
        const Url& parts = *r;
        if (parts.tls || !parts.path.empty() || !parts.port_given)
            return at(node, "proxy is \"http://HOST:PORT\"; it carries TLS by CONNECT");
        copy(parts.host, u.proxy_host);
        u.proxy_port = parts.port;
        return {};
    }
    Result<void> credential(const char* name, const toml::node& node, char (&out)[256]) const {
        char called[64];
        TRY(text(name, node, called, sizeof called));
        for (const char c : std::string_view(called))
            if (!is_alnum(c) && c != '-' && c != '_' && c != '.') called[0] = 0;
        if (called[0] == 0 || called[0] == '.')
            return at(node, (std::string(name) + " is the name of a credential: letters, digits, -, _ and .").c_str());
        if (credentials == nullptr)
            return at(node, (std::string(name) +
                             " is a credential of systemd, and there are none here ($CREDENTIALS_DIRECTORY): start "
                             "the unit, or name a file")
                                .c_str());
        const int n = std::snprintf(out, sizeof out, "%s/%s", credentials, called);
        if (n < 0 || static_cast<std::size_t>(n) >= sizeof out) return at(node, "its path is too long");
        return {};
    }
    Result<void> file_or_credential(const char* name, const toml::node& node, char (&out)[256]) const {
        TRY(text(name, node, out, sizeof out));
        return std::strchr(out, '/') != nullptr ? Result<void>{} : credential(name, node, out);
    }
    Result<void> pins(const toml::node& node, Upstream& u) const {
        constexpr char what[] =
            "pin is a list of at most 4 SHA-256 of a server's public key, each 44 characters of base64";
        const auto* list = node.as_array();
        if (list == nullptr || list->empty() || list->size() > Upstream::max_pins) return at(node, what);
        for (const toml::node& n : *list) {
            const auto v = n.value<std::string_view>();
            if (!n.is_string() || !v || !base64_32(*v, u.pins[u.pin_count])) return at(n, what);
            u.pin_count++;
        }
        return {};
    }
    Result<void> structured(const toml::node& node, Upstream& u) const {
        const auto v = node.value<std::string_view>();
        if (v && *v == "json_schema")
            u.structured = Structured::json_schema;
        else if (v && *v == "json_object")
            u.structured = Structured::json_object;
        else if (v && *v == "none")
            u.structured = Structured::none;
        else
            return at(node, "structured is \"json_schema\", \"json_object\" or \"none\"");
        return {};
    }
    Result<void> limit(const toml::node& node, Upstream& u) const {
        const auto v = node.value<std::string_view>();
        if (!v || (*v != "max_tokens" && *v != "max_completion_tokens"))
            return at(node, "limit is \"max_tokens\" or \"max_completion_tokens\"");
        u.completion_tokens = *v == "max_completion_tokens";
        return {};
    }
    Result<void> price(const toml::node& node, Upstream& u) const {
        const auto* t = node.as_table();
        if (t == nullptr || !t->contains("input") || !t->contains("output"))
            return at(node, "price is { input = 0.15, output = 0.60 }, for a million tokens");
        for (const auto& [key, value] : *t)
            if (key.str() == "input")
                TRY(money("input", value, u.price_in));
            else if (key.str() == "output")
                TRY(money("output", value, u.price_out));
            else
                return unknown(key, "input, output");
        return {};
    }
    Result<void> timeouts(const toml::node& node, Timeouts& out) const {
        const auto* t = node.as_table();
        if (t == nullptr) return at(node, "timeouts is { dns = 5, connect = 5, ... }, in seconds");
        const struct {
            const char* name;
            int& value;
        } known[] = {
            {"dns", out.dns},   {"connect", out.connect}, {"handshake", out.handshake}, {"first_byte", out.first_byte},
            {"idle", out.idle}, {"total", out.total}};
        for (const auto& [key, value] : *t) {
            bool found = false;
            for (const auto& k : known)
                if (key.str() == k.name) {
                    TRY(seconds(k.name, value, 0.05, 3600, k.value));
                    found = true;
                }
            if (!found) return unknown(key, "dns, connect, handshake, first_byte, idle, total");
        }
        return {};
    }
};

}  // namespace

Result<void> read_config(const char* path, const char* credentials, Config& config) {
    if (access(path, R_OK) != 0)
        return Error::make(Code::storage_failure, "%s: %s; --config FILE names another", path, strerror(errno));
    config.file = path;
    if (const char* state = getenv("STATE_DIRECTORY")) copy(std::string_view(state, strcspn(state, ":")), config.state);
    const Reader reader{{path}, credentials, config};
    TRY(reader.root(TRY(reader.parse())));
    if (config.upstream_count == 0)
        return Error::make(Code::incorrect_parameters, "%s: no [[upstream]]: there is nobody to ask", path);
    return {};
}

}  // namespace slmd::uplink
