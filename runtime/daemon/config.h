// What slmd is told: a TOML file, and options that override it. Strict: what is not understood is refused, with its
// line.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "engine/engine.h"
#include "hal/gpio.h"
#include "wire/settings.h"

namespace slmd::daemon {

struct PinConfig {
    char line[40] = "";  // as hal::LineConfig has it; "": none
    bool active_low = false;
    hal::Pull pull = hal::Pull::as_is;
    bool operator==(const PinConfig&) const = default;
};

struct TriggerConfig {
    enum When : unsigned char { rising, falling, both };  // to active, to inactive
    char name[24] = "";
    PinConfig pin;
    When when = rising;
    int debounce_ms = 20;
    char prompt[512] = "";
    char agent[36] = "";     // that is asked; the prompt is its input. "": the model itself
    int max = 64;            // tokens of the answer
    char to[32] = "events";  // "events", "tty0" .. "tty3", "file": STATE/triggers/NAME
    bool operator==(const TriggerConfig&) const = default;
};

struct OutputConfig {
    char name[24] = "";
    PinConfig pin;
    int max_pulse_ms = 1000;  // 0: it may stay on
    int per_minute = 60;
    PinConfig interlock;  // on only while this input is active
    bool operator==(const OutputConfig&) const = default;
};

struct BoardConfig {
    char name[32] = "";  // "": by the device tree
    char files[256] = SLMD_BOARDS;
    char hardware[256] = "linux";  // or "sim:SCRIPT", "replay:TRACE"
    int watchdog = 0;              // seconds; 0: the hardware watchdog is left alone
    bool operator==(const BoardConfig&) const = default;
};

struct GovernorConfig {
    bool enabled = true;
    int limit = 0;  // degrees C that are not to be exceeded; 0: 3 below where the board slows down
    int stop = 0;   // from which no request is taken; 0: 5 above
    bool operator==(const GovernorConfig&) const = default;
};

struct PinsConfig {
    PinConfig status;  // an LED, or a line
    PinConfig busy, privacy;
    bool operator==(const PinsConfig&) const = default;
};

struct Config {
    static constexpr int max_ttys = 4, max_clients = 64, max_queue = 64, max_triggers = 8, max_outputs = 8,
                         max_keys = 8, max_agent_folders = 4, max_passages = 100000;

    const char* file = nullptr;  // where it was read; null: only options

    char model[512] = "";        // an image, or a folder of slots (image/slots.h)
    char model_file[512] = "";   // the image that is run: model, or what is in one of its slots
    char draft_model[512] = "";  // a smaller one of the same tokenizer, which guesses what the model will say; "": none
    char embed_model[512] = "";  // an encoder, which embeds texts beside the model; "": the model itself does
    struct AllowedKey {
        char path[256] = "";
        unsigned line = 0;
    } allowed_keys[max_keys];  // whose images are run; none: anybody's
    int key_count = 0;
    struct Adapter {
        char name[wire::Settings::name_bytes + 1] = "";  // as requests and agents call it
        char path[512] = "";
        unsigned line = 0;
    } adapters[engine::max_adapters];
    int adapter_count = 0;
    bool require_signature = false;  // read_config(): with keys true, unless the file says otherwise
    char state[256] = "";            // a folder for what was measured once; "": nothing is kept
    // context 0: what the model has, 2048 at most; batch 0: 32, of streamed layers as many as there can be
    engine::Config engine;
    char level[16] = "";
    char socket[108] = "";  // "": none, unless systemd hands one over
    unsigned socket_mode = 0660;
    char socket_group[64] = "";
    struct Tty {
        char path[256] = "";
        int baud = 115200;
        bool rtscts = false, xonxoff = false;
        bool trusted = false;  // may see and drive the board's hardware
        unsigned line = 0;
    } ttys[max_ttys];
    int tty_count = 0;
    bool socket_trusted = false;
    int clients = 16;  // serial lines included
    int queue = 16;    // requests that wait for a slot
    struct Uplink {
        static constexpr std::size_t max_terms = 32;
        char socket[108] = "";           // on which slm-uplink is waited for; "": there is none
        char user[33] = "slm-uplink";    // that it runs as
        char terms[max_terms][64] = {};  // names and words that never leave
        std::size_t term_count = 0;
        unsigned line = 0;
        bool operator==(const Uplink&) const = default;
    } uplink;
    int ledger_mib = -1;  // that the ledger may take; below 0: 16 with an uplink, else none is kept
    char agents[max_agent_folders][256] = {SLMD_AGENTS, "/etc/slmd/agents"};  // folders; the later ones override
    int agent_folders = 2;
    int prefixes_mib = 64;  // of the state folder for beginnings of agents' prompts; 0: they are not kept
    int docs_passages = 0;  // that documents may come to; 0: none are kept
    int agents_kib = 256;   // what the files of all agents may come to, as they are read
    wire::Settings generate;
    BoardConfig board;
    GovernorConfig governor;
    PinsConfig pins;
    TriggerConfig triggers[max_triggers];
    int trigger_count = 0;
    OutputConfig outputs[max_outputs];
    int output_count = 0;
    char system[512] = "";       // what stands before every conversation; "": what the model's own template says
    bool trace_sandbox = false;  // log the system calls that the sandbox refuses
    // Lines of the file, for what is found out later; 0: not from the file.
    struct {
        unsigned model, draft_model, embed_model, state, level, socket, socket_group;
    } lines{};

    Config() {
        engine.context = 0;
        engine.slots = 2;
        engine.pinned = true;
        engine.residency = image::Residency::on_demand;
        engine.batch = 0;
    }
};

// Reads path over config. Errors: storage_failure; incorrect_parameters as "file:line: what and what to do".
Result<void> read_config(const char* path, Config& config);

// "/dev/ttyS0", "/dev/ttyS0@115200". Errors: incorrect_parameters.
Result<void> add_tty(Config& config, const char* text);
// "NAME=FILE", or a file alone, whose name is what it is called. Errors: incorrect_parameters, text_too_long.
Result<void> add_adapter(Config& config, const char* text);
// Its place among the adapters; engine::no_adapter for "". Errors: not_found.
Result<int> find_adapter(const Config& config, std::string_view name);
// Errors: incorrect_parameters with the range.
Result<void> set_number(const char* name, std::int64_t value, std::int64_t low, std::int64_t high, int& out);
Result<void> set_text(const char* name, const char* value, char* out, std::size_t size);
// What no single setting can tell: a model, at least one wire, adapters that are there.
Result<void> check(const Config& config, int handed_over);

}  // namespace slmd::daemon
