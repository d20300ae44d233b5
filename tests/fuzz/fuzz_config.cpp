// LINK: slmd_daemon
// The configuration of slmd: what is read must be within the bounds that everything behind it relies on.
#include <cstring>

#include "daemon/config.h"
#include "file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd::daemon;
    static const slmd::fuzz::Folder folder;
    const std::string path = folder.put("slmd.toml", {reinterpret_cast<const char*>(data), size});
    static Config config;
    config = Config();
    if (!read_config(path.c_str(), config)) return 0;
    const auto ends = [](const auto& text) { return memchr(text, 0, sizeof text) != nullptr; };
    bool good = ends(config.model) && ends(config.state) && ends(config.socket) && ends(config.system) &&
                config.tty_count <= Config::max_ttys && config.trigger_count <= Config::max_triggers &&
                config.output_count <= Config::max_outputs && config.clients >= 1 &&
                config.clients <= Config::max_clients && config.queue >= 1 && config.queue <= Config::max_queue &&
                config.socket_mode <= 0777 && config.engine.slots >= 1 && config.engine.slots <= 16;
    for (int i = 0; i < config.trigger_count; i++) {
        const TriggerConfig& t = config.triggers[i];
        good = good && ends(t.name) && t.name[0] != 0 && strchr(t.name, '/') == nullptr && ends(t.prompt) &&
               t.prompt[0] != 0 && t.pin.line[0] != 0 && ends(t.pin.line) && t.max <= 256;
    }
    for (int i = 0; i < config.output_count; i++)
        good = good && config.outputs[i].name[0] != 0 && config.outputs[i].per_minute <= 60;
    if (!good) abort();
    (void)!static_cast<bool>(check(config, 1));
    return 0;
}
