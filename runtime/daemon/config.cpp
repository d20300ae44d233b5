#include "daemon/config.h"

#include <algorithm>
#include <cstdlib>
#include <cstring>

#include "hal/serial.h"
#include "hal/toml.h"

namespace slmd::daemon {
namespace {

struct Reader : hal::TomlFile {
    Config& config;

    Reader(const char* file, Config& out) : TomlFile{file}, config(out) {}
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
    Result<void> flag(const char* name, const toml::node& node, bool& out) const {
        const auto* b = node.as_boolean();
        if (b == nullptr) return at(node, (std::string(name) + " is true or false").c_str());
        out = b->get();
        return {};
    }
    Result<void> list(const char* name, const toml::node& node,
                      Result<void> (Reader::*read)(const toml::table&) const) const {
        const auto* nodes = node.as_array();
        if (nodes == nullptr) return no_list(node, name);
        for (const toml::node& n : *nodes) TRY(table(name, n, read));
        return {};
    }
    // "GPIO17", or { line = "GPIO17", active = "low", pull = "up" }.
    Result<void> pin(const char* name, const toml::node& node, PinConfig& out) const {
        if (node.is_string()) return text(name, node, out.line, sizeof out.line);
        const auto* t = node.as_table();
        if (t == nullptr)
            return at(
                node,
                (std::string(name) + " is the name of a line, or { line = ..., active = ..., pull = ... }").c_str());
        for (const auto& [key, value] : *t) {
            const std::string_view k = key.str();
            const auto v = value.value<std::string_view>();
            if (k == "line")
                TRY(text("line", value, out.line, sizeof out.line));
            else if (k == "active" && v && (*v == "low" || *v == "high"))
                out.active_low = *v == "low";
            else if (k == "active")
                return at(value, "active is \"high\" or \"low\"");
            else if (k == "pull" && v && (*v == "up" || *v == "down" || *v == "off"))
                out.pull = *v == "up" ? hal::Pull::up : *v == "down" ? hal::Pull::down : hal::Pull::off;
            else if (k == "pull")
                return at(value, "pull is \"up\", \"down\" or \"off\"");
            else
                return unknown(key, "line, active, pull");
        }
        if (out.line[0] == 0) return at(node, (std::string(name) + " has no line").c_str());
        return {};
    }
    Result<void> table(const char* name, const toml::node& node,
                       Result<void> (Reader::*read)(const toml::table&) const) const {
        const auto* t = node.as_table();
        if (t == nullptr) return no_table(node, name);
        return (this->*read)(*t);
    }

    Result<void> root(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "model")
                TRY(text("model", node, config.model, sizeof config.model, config.lines.model));
            else if (k == "require_signature")
                TRY(flag("require_signature", node, config.require_signature));
            else if (k == "allowed_keys")
                TRY(keys(node));
            else if (k == "state")
                TRY(text("state", node, config.state, sizeof config.state, config.lines.state));
            else if (k == "agents")
                TRY(agents(node));
            else if (k == "embed")
                TRY(table("embed", node, &Reader::embed));
            else if (k == "engine")
                TRY(table("engine", node, &Reader::engine));
            else if (k == "socket")
                TRY(table("socket", node, &Reader::socket));
            else if (k == "uplink")
                TRY(table("uplink", node, &Reader::uplink));
            else if (k == "limits")
                TRY(table("limits", node, &Reader::limits));
            else if (k == "generate")
                TRY(table("generate", node, &Reader::generate));
            else if (k == "adapter")
                TRY(list("adapter", node, &Reader::adapter));
            else if (k == "tty")
                TRY(list("tty", node, &Reader::tty));
            else if (k == "board")
                TRY(table("board", node, &Reader::board));
            else if (k == "governor")
                TRY(table("governor", node, &Reader::governor));
            else if (k == "pins")
                TRY(table("pins", node, &Reader::pins));
            else if (k == "trigger")
                TRY(list("trigger", node, &Reader::trigger));
            else if (k == "output")
                TRY(list("output", node, &Reader::output));
            else
                return unknown(key,
                               "model, require_signature, allowed_keys, state, agents, [engine] [[adapter]] [embed] "
                               "[socket] [[tty]] [uplink] [limits] [generate] [board] [governor] [pins] [[trigger]] "
                               "[[output]]");
        }
        if (config.ledger_mib < 0) config.ledger_mib = config.uplink.socket[0] != 0 ? 16 : 0;
        // Who names keys means that only they count: without a signature there is nothing that they could be held to.
        const toml::node* const required = t.get("require_signature");
        if (required == nullptr) config.require_signature = config.key_count > 0;
        if (config.require_signature && config.key_count == 0)
            return at(*required,
                      "require_signature without a key: name those of whom you take images, allowed_keys = "
                      "[\"/etc/slmd/keys/NAME.pub\"]");
        return {};
    }
    Result<void> keys(const toml::node& node) const {
        const auto* list = node.as_array();
        if (list == nullptr || list->empty())
            return at(node, "allowed_keys is a list of files: [\"/etc/slmd/keys/NAME.pub\"]");
        for (const toml::node& n : *list) {
            if (config.key_count == Config::max_keys) return at(n, "at most 8 keys");
            Config::AllowedKey& key = config.allowed_keys[config.key_count++];
            TRY(text("allowed_keys", n, key.path, sizeof key.path, key.line));
        }
        return {};
    }
    Result<void> agents(const toml::node& node) const {
        const auto* list = node.as_array();
        if (list == nullptr || list->size() > Config::max_agent_folders)
            return at(node, "agents is a list of at most 4 folders: [\"/etc/slmd/agents\"]");
        config.agent_folders = 0;
        for (const toml::node& n : *list)
            TRY(text("agents", n, config.agents[config.agent_folders++], sizeof config.agents[0]));
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
            else if (k == "stream") {
                bool streams = false;
                TRY(flag("stream", node, streams));
                config.engine.residency = streams ? image::Residency::streamed : image::Residency::on_demand;
            } else if (k == "experts") {
                int mib = 0;
                TRY(number("experts", node, 0, 1 << 20, mib));
                config.engine.experts = static_cast<std::uint64_t>(mib) << 20;
            } else if (k == "draft_model")
                TRY(text("draft_model", node, config.draft_model, sizeof config.draft_model, config.lines.draft_model));
            else if (k == "draft")
                TRY(number("draft", node, 0, 8, config.engine.draft));
            else if (k == "level")
                TRY(text("level", node, config.level, sizeof config.level, config.lines.level));
            else
                return unknown(
                    key, "context, slots, threads, decode_threads, batch, stream, experts, draft_model, draft, level");
        }
        return {};
    }
    Result<void> embed(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            if (key.str() != "model") return unknown(key, "model");
            TRY(text("model", node, config.embed_model, sizeof config.embed_model, config.lines.embed_model));
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
            } else if (k == "trusted")
                TRY(flag("trusted", node, config.socket_trusted));
            else
                return unknown(key, "path, mode, group, trusted");
        }
        return {};
    }
    Result<void> uplink(const toml::table& t) const {
        Config::Uplink& u = config.uplink;
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "socket")
                TRY(text("socket", node, u.socket, sizeof u.socket, u.line));
            else if (k == "user")
                TRY(text("user", node, u.user, sizeof u.user));
            else if (k == "terms") {
                const auto* const words = node.as_array();
                if (words == nullptr) return at(node, "terms is a list of texts: [\"Projekt Nordlicht\"]");
                u.term_count = 0;
                for (const toml::node& word : *words) {
                    if (u.term_count == Config::Uplink::max_terms) return at(word, "at most 32 terms");
                    TRY(text("terms", word, u.terms[u.term_count], sizeof u.terms[0]));
                    if (u.terms[u.term_count++][0] == 0) return at(word, "a term has a letter at least");
                }
            } else
                return unknown(key, "socket, user, terms");
        }
        if (u.socket[0] == 0) return at(t, "[uplink] has no socket: \"/run/slmd-uplink/socket\"");
        return {};
    }
    Result<void> adapter(const toml::table& t) const {
        char called[sizeof Config::Adapter::name] = "", image[sizeof Config::Adapter::path] = "";
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "name")
                TRY(text("name", node, called, sizeof called));
            else if (k == "path")
                TRY(text("path", node, image, sizeof image));
            else
                return unknown(key, "name, path");
        }
        if (called[0] == 0 || image[0] == 0) return at(t, "an [[adapter]] has a name and a path");
        if (auto r = add_adapter(config, (std::string(called) + "=" + image).c_str()); !r) return at(t, r.error().text);
        config.adapters[config.adapter_count - 1].line = static_cast<unsigned>(t.source().begin.line);
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
            } else if (k == "rtscts")
                TRY(flag("rtscts", node, tty.rtscts));
            else if (k == "xonxoff")
                TRY(flag("xonxoff", node, tty.xonxoff));
            else if (k == "trusted")
                TRY(flag("trusted", node, tty.trusted));
            else
                return unknown(key, "path, baud, rtscts, xonxoff, trusted");
        }
        if (tty.path[0] == 0) return at(t, "this [[tty]] has no path");
        return {};
    }
    Result<void> board(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "name")
                TRY(text("name", node, config.board.name, sizeof config.board.name));
            else if (k == "files")
                TRY(text("files", node, config.board.files, sizeof config.board.files));
            else if (k == "hardware")
                TRY(text("hardware", node, config.board.hardware, sizeof config.board.hardware));
            else if (k == "watchdog")
                TRY(number("watchdog", node, 0, 3600, config.board.watchdog));
            else
                return unknown(key, "name, files, hardware, watchdog");
        }
        return {};
    }
    Result<void> governor(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "enabled")
                TRY(flag("enabled", node, config.governor.enabled));
            else if (k == "limit")
                TRY(number("limit", node, 0, 110, config.governor.limit));
            else if (k == "stop")
                TRY(number("stop", node, 0, 120, config.governor.stop));
            else
                return unknown(key, "enabled, limit, stop");
        }
        return {};
    }
    Result<void> pins(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "status")
                TRY(pin("status", node, config.pins.status));
            else if (k == "busy")
                TRY(pin("busy", node, config.pins.busy));
            else if (k == "privacy") {
                // closed to ground is what the switch says when it says yes; an open or broken wire says no
                config.pins.privacy.active_low = true;
                config.pins.privacy.pull = hal::Pull::up;
                TRY(pin("privacy", node, config.pins.privacy));
            } else
                return unknown(key, "status, busy, privacy");
        }
        return {};
    }
    // Names are for the wire, for files and for people.
    Result<void> name(const toml::node& node, char (&out)[24]) const {
        TRY(text("name", node, out, sizeof out));
        for (const char* c = out; *c != 0; c++)
            if (!((*c >= 'a' && *c <= 'z') || (*c >= 'A' && *c <= 'Z') || (*c >= '0' && *c <= '9') || *c == '-' ||
                  *c == '_'))
                return at(node, "a name has letters, digits, - and _");
        return {};
    }
    Result<void> trigger(const toml::table& t) const {
        if (config.trigger_count == Config::max_triggers) return at(t, "at most 8 triggers");
        TriggerConfig& g = config.triggers[config.trigger_count++];
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "name")
                TRY(name(node, g.name));
            else if (k == "line")
                TRY(pin("line", node, g.pin));
            else if (k == "edge") {
                const auto v = node.value<std::string_view>();
                if (!v || (*v != "rising" && *v != "falling" && *v != "both"))
                    return at(node, "edge is \"rising\" (to active), \"falling\" or \"both\"");
                g.when = *v == "rising"    ? TriggerConfig::rising
                         : *v == "falling" ? TriggerConfig::falling
                                           : TriggerConfig::both;
            } else if (k == "debounce_ms")
                TRY(number("debounce_ms", node, 0, 10000, g.debounce_ms));
            else if (k == "prompt")
                TRY(text("prompt", node, g.prompt, sizeof g.prompt));
            else if (k == "agent")
                TRY(text("agent", node, g.agent, sizeof g.agent));
            else if (k == "max")
                TRY(number("max", node, 1, 256, g.max));
            else if (k == "to") {
                TRY(text("to", node, g.to, sizeof g.to));
                const std::string_view to = g.to;
                if (to != "events" && to != "file" && to != "tty0" && to != "tty1" && to != "tty2" && to != "tty3")
                    return at(node, "to is \"events\", \"file\", or a serial line: \"tty0\" is the first [[tty]]");
            } else
                return unknown(key, "name, line, edge, debounce_ms, prompt, agent, max, to");
        }
        if (g.name[0] == 0 || g.pin.line[0] == 0 || g.prompt[0] == 0)
            return at(t, "a [[trigger]] has a name, a line and a prompt");
        for (int i = 0; i + 1 < config.trigger_count; i++)
            if (std::strcmp(config.triggers[i].name, g.name) == 0) return at(t, "two triggers of that name");
        return {};
    }
    Result<void> output(const toml::table& t) const {
        if (config.output_count == Config::max_outputs) return at(t, "at most 8 outputs");
        OutputConfig& o = config.outputs[config.output_count++];
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "name")
                TRY(name(node, o.name));
            else if (k == "line")
                TRY(pin("line", node, o.pin));
            else if (k == "max_pulse_ms")
                TRY(number("max_pulse_ms", node, 0, 3600000, o.max_pulse_ms));
            else if (k == "per_minute")
                TRY(number("per_minute", node, 1, 60, o.per_minute));
            else if (k == "interlock")
                TRY(pin("interlock", node, o.interlock));
            else
                return unknown(key, "name, line, max_pulse_ms, per_minute, interlock");
        }
        if (o.name[0] == 0 || o.pin.line[0] == 0) return at(t, "an [[output]] has a name and a line");
        for (int i = 0; i + 1 < config.output_count; i++)
            if (std::strcmp(config.outputs[i].name, o.name) == 0) return at(t, "two outputs of that name");
        return {};
    }
    Result<void> limits(const toml::table& t) const {
        for (const auto& [key, node] : t) {
            const std::string_view k = key.str();
            if (k == "clients")
                TRY(number("clients", node, 1, Config::max_clients, config.clients));
            else if (k == "queue")
                TRY(number("queue", node, 1, Config::max_queue, config.queue));
            else if (k == "agents")
                TRY(number("agents", node, 32, 16384, config.agents_kib));
            else if (k == "prefixes")
                TRY(number("prefixes", node, 0, 4096, config.prefixes_mib));
            else if (k == "passages")
                TRY(number("passages", node, 0, Config::max_passages, config.docs_passages));
            else if (k == "ledger")
                TRY(number("ledger", node, 0, 4096, config.ledger_mib));
            else
                return unknown(key, "clients, queue, agents, prefixes, passages, ledger");
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
                return unknown(key,
                               "system, temp, topk, topp, minp, rep, seed, max, stop, deadline_ms, raw, adapter, bias, "
                               "doubt");
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
    Reader reader(path, config);
    return reader.root(TRY(reader.parse()));
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

Result<void> add_adapter(Config& config, const char* text) {
    if (config.adapter_count == engine::max_adapters)
        return Error::make(Code::incorrect_parameters, "at most %d adapters", engine::max_adapters);
    const char* const equals = std::strchr(text, '=');
    std::string_view name = text;
    if (equals != nullptr) {
        name = {text, static_cast<std::size_t>(equals - text)};
    } else {
        name.remove_prefix(name.find_last_of('/') + 1);
        name = name.substr(0, name.find('.'));
    }
    Config::Adapter& a = config.adapters[config.adapter_count];
    const auto letter = [](char c) {
        return (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '-' || c == '_';
    };
    if (name.empty() || name.size() >= sizeof a.name || !std::all_of(name.begin(), name.end(), letter))
        return Error::make(Code::incorrect_parameters,
                           "adapter \"%.*s\": a name has 1 to %zu letters, digits, - and _; write NAME=FILE",
                           static_cast<int>(std::min<std::size_t>(name.size(), 40)), name.data(), sizeof a.name - 1);
    if (find_adapter(config, name))
        return Error::make(Code::incorrect_parameters, "two adapters are called \"%.*s\"",
                           static_cast<int>(name.size()), name.data());
    a = {};
    std::memcpy(a.name, name.data(), name.size());
    TRY(set_text("an adapter's path", equals != nullptr ? equals + 1 : text, a.path, sizeof a.path));
    if (a.path[0] == 0)
        return Error::make(Code::incorrect_parameters, "adapter %s has no file: write NAME=FILE", a.name);
    config.adapter_count++;
    return {};
}

Result<int> find_adapter(const Config& config, std::string_view name) {
    if (name.empty()) return engine::no_adapter;
    for (int i = 0; i < config.adapter_count; i++)
        if (name == config.adapters[i].name) return i;
    return Error::make(Code::not_found, "no adapter \"%.*s\"; AT#ADAPTER? and the method adapter list them",
                       static_cast<int>(std::min<std::size_t>(name.size(), 40)), name.data());
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
    if (config.uplink.socket[0] != 0 && config.state[0] == 0)
        return Error::make(Code::incorrect_parameters,
                           "[uplink], and no folder for what waits to leave: set state, or --state DIR");
    if (config.ledger_mib > 0 && config.state[0] == 0)
        return Error::make(Code::incorrect_parameters,
                           "[limits] ledger = %d, and no folder to keep it in: set state, or --state DIR",
                           config.ledger_mib);
    if (config.docs_passages > 0 && config.state[0] == 0)
        return Error::make(Code::incorrect_parameters,
                           "[limits] passages = %d, and no folder to keep them in: set state, or --state DIR",
                           config.docs_passages);
    if (auto r = find_adapter(config, config.generate.adapter); !r)
        return Error::make(Code::incorrect_parameters,
                           "[generate] adapter = \"%s\": there is no [[adapter]] of that name",
                           config.generate.adapter);
    return {};
}

}  // namespace slmd::daemon
