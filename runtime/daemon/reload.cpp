#include "daemon/reload.h"

#include <errno.h>
#include <grp.h>
#include <malloc.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include <algorithm>

#include "daemon/log.h"
#include "daemon/server.h"

namespace slmd::daemon {

namespace {

bool same_adapters(const Config& a, const Config& b) {
    return std::equal(a.adapters, a.adapters + a.adapter_count, b.adapters, b.adapters + b.adapter_count,
                      [](const Config::Adapter& x, const Config::Adapter& y) {
                          return strcmp(x.name, y.name) == 0 && strcmp(x.path, y.path) == 0;
                      });
}

}  // namespace

void needs_restart(const Config& now, const Config& fresh, int clients, int queue, char* out, std::size_t size) {
    const auto texts = [](const char* a, const char* b) { return strcmp(a, b) != 0; };
    const engine::Config &a = now.engine, &b = fresh.engine;
    const bool same_keys = std::equal(now.allowed_keys, now.allowed_keys + now.key_count, fresh.allowed_keys,
                                      fresh.allowed_keys + fresh.key_count,
                                      [](const auto& x, const auto& y) { return strcmp(x.path, y.path) == 0; });
    const struct {
        const char* name;
        bool differs;
    } all[] = {{"model", texts(now.model, fresh.model)},
               {"require_signature", now.require_signature != fresh.require_signature},
               {"allowed_keys", !same_keys},
               {"state", texts(now.state, fresh.state)},
               {"[socket] path", texts(now.socket, fresh.socket)},
               {"[engine] draft_model", texts(now.draft_model, fresh.draft_model)},
               {"[embed] model", texts(now.embed_model, fresh.embed_model)},
               {"[limits] passages", now.docs_passages != fresh.docs_passages},
               {"[engine] draft", a.draft != b.draft},
               {"[engine] level", texts(now.level, fresh.level)},
               {"[engine] context", a.context != b.context},
               {"[engine] slots", a.slots != b.slots},
               {"[engine] threads", a.threads != b.threads},
               {"[engine] decode_threads", a.decode_threads != b.decode_threads},
               {"[engine] batch", a.batch != b.batch},
               {"[[adapter]]", !same_adapters(now, fresh)},
               {"[engine] stream", a.residency != b.residency},
               {"[engine] experts", a.experts != b.experts},
               {"[board]", now.board != fresh.board},
               {"[governor]", now.governor != fresh.governor},
               {"[pins]", now.pins != fresh.pins},
               {"[[trigger]]", !std::equal(now.triggers, now.triggers + now.trigger_count, fresh.triggers,
                                           fresh.triggers + fresh.trigger_count)},
               {"[[output]]", !std::equal(now.outputs, now.outputs + now.output_count, fresh.outputs,
                                          fresh.outputs + fresh.output_count)},
               {"more [limits] clients than at the start", fresh.clients > clients},
               {"[limits] prefixes", now.prefixes_mib != fresh.prefixes_mib},
               {"[limits] agents", now.agents_kib != fresh.agents_kib},
               {"a longer [limits] queue than at the start", fresh.queue > queue}};
    std::size_t used = 0;
    out[0] = 0;
    for (const auto& item : all)
        if (item.differs && used + 1 < size) {
            const int n = snprintf(out + used, size - used, "%s%s", used == 0 ? "" : ", ", item.name);
            used += n < 0 ? 0 : static_cast<std::size_t>(n);
        }
}

int find_tty(const Config& config, const char* path) {
    for (int i = 0; i < config.tty_count; i++)
        if (strcmp(config.ttys[i].path, path) == 0) return i;
    return -1;
}

bool same_tty(const Config::Tty& a, const Config::Tty& b) {
    return strcmp(a.path, b.path) == 0 && a.baud == b.baud && a.rtscts == b.rtscts && a.xonxoff == b.xonxoff &&
           a.trusted == b.trusted;
}

namespace {

// In /etc/group. getgrnam(3) asks whoever nsswitch.conf names, for which the sandbox has no socket and loads no
// library.
const group* find_group(const char* name) {
    FILE* const file = fopen("/etc/group", "re");
    if (file == nullptr) return nullptr;
    const group* g;
    while ((g = fgetgrent(file)) != nullptr && strcmp(g->gr_name, name) != 0) {
    }
    fclose(file);
    return g;
}

}  // namespace

// The event loop's thread. Reading the file allocates (TOML++ does); all of it is given back before this returns.
void Server::reload() {
    notify_.send("RELOADING=1\nMONOTONIC_USEC=%lld\nSTATUS=Reading the configuration again",
                 static_cast<long long>(now_ns() / 1000));
    Config& fresh = *reread_.fresh;
    char text[288], later[256];
    auto result = reread_.read(reread_.context, fresh);
    if (result) {
        needs_restart(config_, fresh, places_, planned_queue_, later, sizeof later);
        fresh.clients = std::min(fresh.clients, places_);
        result = check(fresh, listener_count_ > 0 && !listeners_[0].ours);
    }
    if (result) result = set_permissions(fresh);
    if (!result) {
        log(Level::error, {{"SLMD_EVENT", "reload"}, {"SLMD_RESULT", "refused"}}, "reload refused, nothing changes: %s",
            result.error().text);
    } else {
        config_.socket_mode = fresh.socket_mode;
        memcpy(config_.socket_group, fresh.socket_group, sizeof config_.socket_group);
        config_.clients = fresh.clients;
        config_.generate = fresh.generate;
        config_.socket_trusted = fresh.socket_trusted;  // of connections that come
        service_.reload(config_, fresh, planned_queue_);
        memcpy(config_.agents, fresh.agents, sizeof config_.agents);
        config_.agent_folders = fresh.agent_folders;
        if (const auto read = service_.read_agents(config_); !read) log_agents(read.error());
        change_ttys(fresh);
        log(Level::notice, {{"SLMD_EVENT", "reload"}, {"SLMD_RESULT", "done"}, {"SLMD_RESTART", later}},
            later[0] == 0 ? "reloaded%s" : "reloaded; only a restart changes: %s", later);
    }
    malloc_trim(0);
    notify_.send("READY=1\nSTATUS=%s", service_.describe(text, sizeof text));
}

// Those that go, or change, finish the answer they are at; those that come are opened as soon as they can be.
void Server::change_ttys(const Config& fresh) {
    int client_of[Config::max_ttys];
    for (int i = 0; i < fresh.tty_count; i++) {
        const int old = find_tty(config_, fresh.ttys[i].path);
        const bool same = old >= 0 && same_tty(config_.ttys[old], fresh.ttys[i]);
        client_of[i] = same ? std::exchange(tty_client_[old], -1) : -1;
    }
    for (int i = 0; i < config_.tty_count; i++) {
        if (tty_client_[i] < 0) continue;
        Client& c = client(static_cast<std::uint64_t>(tty_client_[i]));
        c.ended = true;
        c.tty = leaving_tty;
    }
    config_.tty_count = fresh.tty_count;
    for (int i = 0; i < fresh.tty_count; i++) {
        config_.ttys[i] = fresh.ttys[i];
        tty_client_[i] = client_of[i];
        if (client_of[i] >= 0) client(static_cast<std::uint64_t>(client_of[i])).tty = i;
    }
    retry_at_ = 0;
    open_missing_ttys(true);
}

Result<void> Server::set_permissions(const Config& fresh) const {
    const char* const path = config_.socket;
    if (listener_count_ == 0 || !listeners_[0].ours) return {};  // systemd's: its .socket unit says whose it is
    if (strcmp(fresh.socket_group, config_.socket_group) != 0) {
        const group* const g = fresh.socket_group[0] == 0 ? nullptr : find_group(fresh.socket_group);
        if (g == nullptr && fresh.socket_group[0] != 0)
            return Error::make(Code::incorrect_parameters, "%s:%u: no group \"%s\"; groupadd --system %s", fresh.file,
                               fresh.lines.socket_group, fresh.socket_group, fresh.socket_group);
        if (chown(path, static_cast<uid_t>(-1), g == nullptr ? getegid() : g->gr_gid) != 0)
            return Error::make(Code::device_io, "socket %s: cannot give it to the group \"%s\": %s", path,
                               fresh.socket_group, strerror(errno));
    }
    if (fresh.socket_mode != config_.socket_mode && chmod(path, fresh.socket_mode) != 0)
        return Error::make(Code::device_io, "socket %s: cannot set its mode: %s", path, strerror(errno));
    return {};
}

}  // namespace slmd::daemon
