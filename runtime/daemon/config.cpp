#include "daemon/config.h"

#include <cstdlib>
#include <cstring>

#include "hal/serial.h"

#define TOML_EXCEPTIONS 0
#define TOML_ENABLE_FORMATTERS 0
#define TOML_HEADER_ONLY 1
#include <toml++/toml.h>

namespace slmd::daemon {
namespace {

// One file being read: keeps the path for messages and makes every error say where.
struct Reader {
    const char* path;
    Config& config;

    Error at(const toml::node& node, const char* what) const {
        return Error::make(Code::incorrect_parameters, "%s:%u: %s", path,
                           static_cast<unsigned>(node.source().begin.line), what);
    }
    Error unknown(const toml::key& key, const char* known) const {
        const auto name = key.str();
        return Error::make(Code::incorrect_parameters, "%s:%u: unknown key \"%.*s\"; here can stand: %s", path,
                           static_cast<unsigned>(key.source().begin.line), static_cast<int>(name.size()), name.data(),
                           known);
    }
    Result<void> text(const char* name, const toml::node& node, char* out, std::size_t size) const {
        const auto* s = node.as_string();
        if (s == nullptr) return at(node, (std::string(name) + " is a text in quotes").c_str());
        if (auto r = set_text(name, s->get().c_str(), out, size); !r) return at(node, r.error().text);
        return {};
    }
    Result<void> text(const char* name, const toml::node& node, char* out, std::size_t size, unsigned& line) const {
        line = static_cast<unsigned>(node.source().begin.line);
        return text(name, node, out, size);
    }
    Result<void> number(const char* name, const toml::node& node, int low, int high, int& out) const {
        const auto* n = node.as_integer();
        if (n == nullptr) return at(node, (std::string(name) + " is a whole number").c_str());
        if (auto r = set_number(name, n->get(), low, high, out); !r) return at(node, r.error().text);
        return {};
    }
    Result<void> table(const char* name, const toml::node& node,
                       Result<void> (Reader::*read)(const toml::table&) const) const {
        const auto* t = node.as_table();
        if (t == nullptr)
            return at(node, (std::string(name) + " is a table: write [" + name + "] on a line of its own").c_str());
        return (this->*read)(*t);
    }

    Result<void> root(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "model")
                TRY(text("model", node, config.model, sizeof config.model, config.lines.model));
            else if (k == "state")
                TRY(text("state", node, config.state, sizeof config.state, config.lines.state));
            else if (k == "engine")
                TRY(table("engine", node, &Reader::engine));
            else if (k == "socket")
                TRY(table("socket", node, &Reader::socket));
            else if (k == "limits")
                TRY(table("limits", node, &Reader::limits));
            else if (k == "generate")
                TRY(table("generate", node, &Reader::generate));
            else if (k == "tty") {
                const auto* list = node.as_array();
                if (list == nullptr) return at(node, "tty is a list: write [[tty]] on a line of its own");
                for (const toml::node& n : *list) TRY(table("tty", n, &Reader::tty));
            } else
                return unknown(key, "model, state, [engine], [socket], [[tty]], [limits], [generate]");
        }
        return {};
    }
    Result<void> engine(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "context")
                TRY(number("context", node, 0, 1 << 20, config.engine.context));
            else if (k == "slots")
                TRY(number("slots", node, 1, 16, config.engine.slots));
            else if (k == "threads")
                TRY(number("threads", node, 0, 16, config.engine.threads));
            else if (k == "batch")
                TRY(number("batch", node, 1, 128, config.engine.batch));
            else if (k == "decode_threads")
                TRY(number("decode_threads", node, 0, 16, config.engine.decode_threads));
            else if (k == "draft_model")
                TRY(text("draft_model", node, config.draft_model, sizeof config.draft_model,
                         config.lines.draft_model));
            else if (k == "draft")
                TRY(number("draft", node, 0, 8, config.engine.draft));
            else if (k == "level")
                TRY(text("level", node, config.level, sizeof config.level, config.lines.level));
            else
                return unknown(key, "context, slots, threads, decode_threads, batch, draft_model, draft, level");
        }
        return {};
    }
    Result<void> socket(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "path")
                TRY(text("path", node, config.socket, sizeof config.socket, config.lines.socket));
            else if (k == "group")
                TRY(text("group", node, config.socket_group, sizeof config.socket_group, config.lines.socket_group));
            else if (k == "mode") {
                char mode[8] = "";
                TRY(text("mode", node, mode, sizeof mode));
                char* end;
                const unsigned long m = std::strtoul(mode, &end, 8);
                if (*end != 0 || end == mode || m > 0777) return at(node, "mode is an octal text such as \"0660\"");
                config.socket_mode = static_cast<unsigned>(m);
            } else
                return unknown(key, "path, mode, group");
        }
        return {};
    }
    Result<void> tty(const toml::table& t) const {
        if (config.tty_count == Config::max_ttys) return at(t, "at most 4 serial lines");
        Config::Tty& tty = config.ttys[config.tty_count++];
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "path")
                TRY(text("path", node, tty.path, sizeof tty.path, tty.line));
            else if (k == "baud") {
                TRY(number("baud", node, 9600, 921600, tty.baud));
                if (!hal::serial_baud_ok(tty.baud))
                    return at(node,
                              "baud is a standard rate: 9600, 19200, 38400, 57600, 115200, 230400, 460800, 500000, "
                              "576000, 921600");
            } else if (k == "rtscts") {
                const auto* b = node.as_boolean();
                if (b == nullptr) return at(node, "rtscts is true or false");
                tty.rtscts = b->get();
            } else
                return unknown(key, "path, baud, rtscts");
        }
        if (tty.path[0] == 0) return at(t, "this [[tty]] has no path");
        return {};
    }
    Result<void> limits(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "clients")
                TRY(number("clients", node, 1, Config::max_clients, config.clients));
            else if (k == "queue")
                TRY(number("queue", node, 1, Config::max_queue, config.queue));
            else
                return unknown(key, "clients, queue");
        }
        return {};
    }
    // The settings of AT#SET, by the same names and ranges.
    Result<void> generate(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() == "system") {
                TRY(text("system", node, config.system, sizeof config.system));
                continue;
            }
            const wire::Setting* s = wire::find_setting(key.str());
            if (s == nullptr)
                return unknown(key, "system, temp, topk, topp, minp, rep, seed, max, stop, deadline_ms, raw, bias");
            wire::Arg values[wire::Settings::max_stops + 1];
            std::size_t count = 0;
            const auto add = [&](const toml::node& n) {
                wire::Arg& a = values[count++];
                if (const auto* i = n.as_integer())
                    a = {wire::Arg::number, {}, static_cast<double>(i->get())};
                else if (const auto* f = n.as_floating_point())
                    a = {wire::Arg::number, {}, f->get()};
                else if (const auto* b = n.as_boolean())
                    a = {wire::Arg::number, {}, b->get() ? 1.0 : 0.0};
                else if (const auto* text_node = n.as_string())
                    a = {wire::Arg::text, text_node->get(), 0};
                else
                    return false;
                return true;
            };
            if (const auto* list = node.as_array()) {
                for (const toml::node& n : *list)
                    if (count == std::size(values) || !add(n)) return at(n, "at most 4 texts");
            } else if (!add(node)) {
                return at(node, "a number, a text, true or false");
            }
            if (auto r = wire::assign(config.generate, *s, {values, count}); !r) return at(node, r.error().text);
        }
        return {};
    }
};

}  // namespace

Result<void> read_config(const char* path, Config& config) {
    config.file = path;
    const toml::parse_result parsed = toml::parse_file(path);
    if (!parsed) {
        const auto& e = parsed.error();
        const auto what = e.description();
        return Error::make(Code::incorrect_parameters, "%s:%u: %.*s", path,
                           static_cast<unsigned>(e.source().begin.line), static_cast<int>(what.size()), what.data());
    }
    return Reader{path, config}.root(parsed.table());
}

Result<void> set_number(const char* name, std::int64_t value, std::int64_t low, std::int64_t high, int& out) {
    if (value < low || value > high)
        return Error::make(Code::incorrect_parameters, "%s = %lld: use %lld to %lld", name,
                           static_cast<long long>(value), static_cast<long long>(low), static_cast<long long>(high));
    out = static_cast<int>(value);
    return {};
}

Result<void> set_text(const char* name, const char* value, char* out, std::size_t size) {
    const std::size_t n = std::strlen(value);
    if (n >= size) return Error::make(Code::text_too_long, "%s is %zu bytes long; at most %zu", name, n, size - 1);
    std::memcpy(out, value, n + 1);
    return {};
}

Result<void> add_tty(Config& config, const char* text) {
    if (config.tty_count == Config::max_ttys)
        return Error::make(Code::incorrect_parameters, "at most %d serial lines", Config::max_ttys);
    Config::Tty& tty = config.ttys[config.tty_count];
    tty = {};
    TRY(set_text("--tty", text, tty.path, sizeof tty.path));
    if (char* at = std::strrchr(tty.path, '@')) {
        char* end;
        const long baud = std::strtol(at + 1, &end, 10);
        if (*end != 0 || baud < 0 || baud > 921600 || !hal::serial_baud_ok(static_cast<int>(baud)))
            return Error::make(Code::incorrect_parameters,
                               "--tty %s: \"%s\" is not a standard rate from 9600 to 921600", text, at + 1);
        tty.baud = static_cast<int>(baud);
        *at = 0;
    }
    config.tty_count++;
    return {};
}

Result<void> check(const Config& config, int handed_over) {
    if (config.model[0] == 0)
        return Error::make(Code::no_model, "no model: give --model FILE, or model = \"FILE\" in the configuration");
    if (config.socket[0] == 0 && config.tty_count == 0 && handed_over == 0)
        return Error::make(Code::incorrect_parameters,
                           "no wire: give --socket PATH or --tty DEVICE, or [socket] or [[tty]] in the configuration");
    if (config.tty_count >= config.clients && (config.socket[0] != 0 || handed_over > 0))
        return Error::make(Code::incorrect_parameters, "clients = %d, and %d serial lines: none is left for the socket",
                           config.clients, config.tty_count);
    return {};
}

}  // namespace slmd::daemon
