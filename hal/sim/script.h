// The language of simulations and recorded traces: what a board's sensors and lines say, and when.
#pragma once
#include <cstdint>
#include <string>
#include <vector>

#include "base/result.h"

namespace slmd::hal::sim {

// Sensors that are numbers. Their names in a script: hal/sim/README.md.
enum Sensor : int {
    temperature,  // degrees C
    throttle,
    cpu_cap,  // MHz
    cpu_max,
    undervoltage,  // 0 or 1
    watts,
    memory_total,  // MiB
    memory_available,
    memory_limit,
    memory_pressure,  // per cent
    storage_free,     // MiB
    storage_read_only,
    led,       // only to fail
    serial,    // only to fail
    watchdog,  // only to fail
    sensors
};
const char* name_of(Sensor sensor);

enum class Fault : unsigned char { none, io, gone, busy };

struct Event {
    std::uint64_t ms = 0;
    int sensor = -1, line = -1;  // which of the two
    double value = 0;            // of a line: 0, 1, -1 an open wire
    std::uint64_t over_ms = 0;   // a ramp
    Fault fault = Fault::none;
    std::uint64_t for_ms = 0;  // the fault's duration; 0: for good
};

struct Chance {  // a fault that comes at random moments
    int sensor = -1, line = -1;
    Fault fault = Fault::io;
    std::uint64_t every_ms = 0, for_ms = 0;  // on average
};

struct Script {
    std::vector<std::string> lines;  // GPIO lines
    std::vector<Event> events;       // in order of time
    std::vector<Chance> chances;
    std::uint64_t loop_ms = 0;  // begins again then; 0: never
    double speed = 1;
    std::uint64_t seed = 1;
    std::string board, model, log;
};

// Errors: storage_failure; incorrect_parameters as "file:line: what and what to do". faults: false in a recorded trace,
// which has values and nothing else.
Result<Script> read_script(const char* path, bool faults);

}  // namespace slmd::hal::sim
