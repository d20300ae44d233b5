#include "daemon/check.h"

#include <errno.h>
#include <grp.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysinfo.h>
#include <unistd.h>

#include <algorithm>
#include <memory>
#include <new>

#include "agent/set.h"
#include "compute/kernels.h"
#include "daemon/trust.h"
#include "engine/adapter.h"
#include "hal/board_file.h"

namespace slmd::daemon {
namespace {

[[gnu::format(printf, 3, 4)]] Error at(const Config& config, unsigned line, const char* format, ...) {
    char text[sizeof Error::text];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (config.file == nullptr) return Error::make(Code::incorrect_parameters, "%s", text);
    if (line == 0) return Error::make(Code::incorrect_parameters, "%s: %s", config.file, text);
    return Error::make(Code::incorrect_parameters, "%s:%u: %s", config.file, line, text);
}

// A line that grows, cut at its size.
struct Summary {
    char* out;
    std::size_t size, used = 0;

    [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
        va_list args;
        va_start(args, format);
        const int n = vsnprintf(out + used, size - used, format, args);
        va_end(args);
        if (n > 0) used = std::min(used + static_cast<std::size_t>(n), size - 1);
    }
};

Result<void> check_socket(const Config& config) {
    struct stat st;
    const bool there = lstat(config.socket, &st) == 0;
    if (there && S_ISSOCK(st.st_mode)) return {};  // ours, or that of a .socket unit, whose folder we need not own
    char folder[sizeof config.socket];
    folder_of(config.socket, folder, sizeof folder);
    if (access(folder, W_OK | X_OK) != 0)
        return at(config, config.lines.socket,
                  "socket %s: cannot write in %s: %s; create the folder, or RuntimeDirectory=slmd in the unit",
                  config.socket, folder, strerror(errno));
    if (there)
        return at(config, config.lines.socket,
                  "socket %s: there is a file of that name that is not a socket; remove it or choose another path",
                  config.socket);
    return {};
}

Result<void> check_tty(const Config& config, const Config::Tty& tty) {
    struct stat st;
    if (stat(tty.path, &st) != 0)
        return at(config, tty.line,
                  "serial line %s: %s; is the adapter plugged in, the UART enabled (dtoverlay, raspi-config)?",
                  tty.path, strerror(errno));
    if (!S_ISCHR(st.st_mode)) return at(config, tty.line, "serial line %s: not a device", tty.path);
    if (access(tty.path, R_OK | W_OK) != 0)
        return at(config, tty.line, "serial line %s: %s; add the user to the group dialout", tty.path, strerror(errno));
    return {};
}

// A bad one is said and is no error: slmd goes on without it, and so does a reload.
Result<void> say_agents(const Config& config, Summary& line) {
    const std::size_t bytes = static_cast<std::size_t>(config.agents_kib) << 10;
    const std::unique_ptr<std::byte[]> block(new (std::nothrow) std::byte[bytes]);
    if (!block) return Error::make(Code::memory_full, "no memory to read the agents");
    agent::Set set({block.get(), bytes});
    const char* folders[Config::max_agent_folders];
    for (int i = 0; i < config.agent_folders; i++) folders[i] = config.agents[i];
    TRY(set.read({folders, static_cast<std::size_t>(config.agent_folders)}));
    if (!set.entries().empty()) line.add("; %zu agents", set.entries().size());
    for (const agent::Entry& e : set.entries()) {
        if (!e.error.empty())
            line.add("; bad: %.*s", static_cast<int>(e.error.size()), e.error.data());
        else if (!find_adapter(config, e.agent.adapter))
            line.add("; agent %.*s: no [[adapter]] \"%.*s\"", static_cast<int>(e.agent.name.size()),
                     e.agent.name.data(), static_cast<int>(e.agent.adapter.size()), e.agent.adapter.data());
        if (const auto tools = check_tools(config, e.agent); !tools) line.add("; %s", tools.error().text);
    }
    return {};
}

}  // namespace

void folder_of(const char* path, char* out, std::size_t size) {
    const char* const slash = strrchr(path, '/');
    if (slash == nullptr)
        snprintf(out, size, ".");
    else
        snprintf(out, size, "%.*s", slash == path ? 1 : static_cast<int>(slash - path), path);
}

Result<void> check_config(const Config& config, char* out, std::size_t size) {
    if (auto ok = check(config, 1); !ok) return at(config, 0, "%s", ok.error().text);
    if (config.level[0] != 0 && compute::find_level(config.level) == nullptr)
        return at(config, config.lines.level, "level \"%s\" is not available on this CPU; without it the best is taken",
                  config.level);
    if (config.board.name[0] != 0) {
        auto root = hal::Root::open();
        if (!root) return root.error();
        const auto board = hal::find_board(root.value(), config.board.files, config.board.name);
        if (!board) return at(config, 0, "%s", board.error().text);
    }
    TrustedKeys keys;
    TRY(read_keys(config, keys));
    char model_file[sizeof config.model_file];
    if (auto found = find_model(config, model_file); !found)
        return at(config, config.lines.model, "model %s", found.error().text);
    auto model = image::Image::open_index(model_file, keys.trust());
    if (!model) return at(config, config.lines.model, "model %s", model.error().text);
    Images images{std::move(model.value()), {}, {}, {}, keys.trust(), {}};
    if (config.draft_model[0] != 0) {
        auto draft = image::Image::open_index(config.draft_model, keys.trust());
        if (!draft) return at(config, config.lines.draft_model, "draft model %s", draft.error().text);
        images.draft.emplace(std::move(draft.value()));
    }
    for (int i = 0; i < config.adapter_count; i++) {
        const Config::Adapter& a = config.adapters[i];
        auto opened = open_adapter(a, keys.trust(), false);
        if (!opened) return at(config, a.line, "%s", opened.error().text);
        if (const auto fits = engine::check_adapter(opened.value(), images.model); !fits)
            return at(config, a.line, "adapter %s: %s", a.name, fits.error().text);
        images.adapters[i].emplace(std::move(opened.value()));
    }
    if (config.embed_model[0] != 0) {
        auto embed = image::Image::open_index(config.embed_model, keys.trust());
        if (!embed) return at(config, config.lines.embed_model, "embed model %s", embed.error().text);
        images.embed.emplace(std::move(embed.value()));
    }
    const auto planned = plan(images, config);
    if (!planned) return at(config, 0, "%s", planned.error().text);
    struct sysinfo memory {};
    if (sysinfo(&memory) == 0) {  // all there is: what is available now may be held by the slmd that runs
        const auto fits = check_memory(images, config, std::uint64_t{memory.totalram} * memory.mem_unit);
        if (!fits) return at(config, 0, "%s", fits.error().text);
    }
    if (config.socket[0] != 0) TRY(check_socket(config));
    if (config.socket_group[0] != 0 && getgrnam(config.socket_group) == nullptr)
        return at(config, config.lines.socket_group, "no group \"%s\"; groupadd --system %s", config.socket_group,
                  config.socket_group);
    for (int i = 0; i < config.tty_count; i++) TRY(check_tty(config, config.ttys[i]));

    Summary line{out, size};
    line.add("%s: %d slots of %d tokens, %.1f MiB", model_file, config.engine.slots, planned.value().context,
             static_cast<double>(planned.value().total()) / 1048576);
    if (const auto pass = images.model.footprint(image::Residency::streamed).pass; streams(config) && pass != 0)
        line.add(", %.1f MiB read for every %s", static_cast<double>(pass) / 1048576,
                 images.model.params().experts != 0 ? "token" : "pass");
    if (config.adapter_count > 0) line.add(", %d adapters", config.adapter_count);
    line.add("; on");
    if (config.socket[0] != 0) line.add(" %s", config.socket);
    for (int i = 0; i < config.tty_count; i++) line.add(" %s@%d", config.ttys[i].path, config.ttys[i].baud);
    if (config.socket[0] == 0 && config.tty_count == 0)
        line.add(" sockets that systemd hands over (none is configured)");
    TRY(say_agents(config, line));
    if (config.state[0] != 0 && access(config.state, W_OK | X_OK) != 0)
        line.add("; state folder %s: %s, thread counts will be measured at each start", config.state, strerror(errno));
    return {};
}

}  // namespace slmd::daemon
