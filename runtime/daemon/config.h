// What slmd is told: a TOML file, and options that override it. Strict: what is not understood is refused, with its
// line.
#pragma once
#include <cstdint>

#include "base/result.h"
#include "engine/engine.h"
#include "wire/settings.h"

namespace slmd::daemon {

struct Config {
    static constexpr int max_ttys = 4, max_clients = 64, max_queue = 64;

    const char* file = nullptr;  // where it was read; null: only options

    char model[512] = "";
    char draft_model[512] = "";  // a smaller one of the same tokenizer, which guesses what the model will say; "": none
    char state[256] = "";        // a folder for what was measured once; "": nothing is kept
    engine::Config engine;       // context 0: what the model has, 2048 at most
    char level[16] = "";
    char socket[108] = "";  // "": none, unless systemd hands one over
    unsigned socket_mode = 0660;
    char socket_group[64] = "";
    struct Tty {
        char path[256] = "";
        int baud = 115200;
        bool rtscts = false;
        unsigned line = 0;
    } ttys[max_ttys];
    int tty_count = 0;
    int clients = 16;  // serial lines included
    int queue = 16;    // requests that wait for a slot
    wire::Settings generate;
    char system[512] = "";  // what stands before every conversation; "": what the model's own template says
    // Lines of the file, for what is found out later; 0: not from the file.
    struct {
        unsigned model, draft_model, state, level, socket, socket_group;
    } lines{};

    Config() {
        engine.context = 0;
        engine.slots = 2;
        engine.pinned = true;
    }
};

// Reads path over config. Errors: storage_failure; incorrect_parameters as "file:line: what and what to do".
Result<void> read_config(const char* path, Config& config);

// "/dev/ttyS0", "/dev/ttyS0@115200". Errors: incorrect_parameters.
Result<void> add_tty(Config& config, const char* text);
// Errors: incorrect_parameters with the range.
Result<void> set_number(const char* name, std::int64_t value, std::int64_t low, std::int64_t high, int& out);
Result<void> set_text(const char* name, const char* value, char* out, std::size_t size);
// What no single setting can tell: a model, and at least one wire.
Result<void> check(const Config& config, int handed_over);

}  // namespace slmd::daemon
