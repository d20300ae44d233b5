#include "hal/replay/trace.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

#include "hal/sim/sim.h"

namespace slmd::hal {

Result<Recorder> Recorder::open(Hardware& hardware, std::span<const char* const> lines, int out) {
    Recorder r(hardware, out);
    const Identity who = hardware.board().identity();
    char text[256];
    int n = snprintf(text, sizeof text, "board %s\nmodel %s\n", who.name, who.model[0] != 0 ? who.model : "unknown");
    TRY(r.write(text, static_cast<std::size_t>(n)));
    for (const char* const name : lines) {
        LineConfig config;
        config.name = name;
        config.edges = true;
        const auto number = hardware.gpio().request(config);
        if (!number || r.count_ == max_lines) {
            n = snprintf(text, sizeof text, "# %s\n", number ? "too many lines" : number.error().text);
            TRY(r.write(text, static_cast<std::size_t>(n)));
            continue;
        }
        auto& line = r.lines_[r.count_++];
        line.number = number.value();
        snprintf(line.name, sizeof line.name, "gpio.%.26s", name);
        if (const auto level = hardware.gpio().get(line.number)) TRY(r.put(line.name, level.value(), 0));
    }
    return r;
}

Result<void> Recorder::write(const char* text, std::size_t size) {
    if (::write(out_, text, size) != static_cast<ssize_t>(size))
        return Error::make(Code::storage_failure, "cannot write the trace: %s", strerror(errno));
    return {};
}

Result<void> Recorder::put(const char* name, double value, double at_ms) {
    char text[96];
    const int n = snprintf(text, sizeof text, "%.3f %s %.10g\n", at_ms / 1000, name, value);
    return write(text, static_cast<std::size_t>(n));
}

Result<void> Recorder::sample() {
    using namespace sim;
    Hardware& h = *hardware_;
    const std::uint64_t now = h.now_ms();
    const auto ms = static_cast<double>(now - begin_);
    const auto changed = [&](Sensor s, double value) -> Result<void> {
        if (known_[s] && last_[s] == value) return {};
        known_[s] = true, last_[s] = value;
        return put(name_of(s), value, ms);
    };
    Edge edges[16];
    while (count_ > 0) {
        const auto n = h.gpio().edges(edges);
        if (!n || n.value() == 0) break;
        for (int i = 0; i < n.value(); i++)
            for (int l = 0; l < count_; l++)
                if (lines_[l].number == edges[i].line) {
                    const double at = static_cast<double>(edges[i].ns) * 1e-6 - static_cast<double>(begin_);
                    TRY(put(lines_[l].name, edges[i].active, at < 0 ? 0 : at));
                }
    }
    if (const auto v = h.thermal().temperature()) TRY(changed(temperature, v.value() / 1000.0));
    if (const auto v = h.thermal().throttle_point()) TRY(changed(throttle, v.value() / 1000.0));
    if (auto v = h.cpu().frequency()) {
        TRY(changed(cpu_cap, v->cap / 1000.0));
        TRY(changed(cpu_max, v->maximum / 1000.0));
    }
    if (const auto v = h.power().undervoltage()) TRY(changed(undervoltage, v.value()));
    if (const auto v = h.power().microjoules()) {
        if (energy_at_ != 0 && now > energy_at_)
            TRY(changed(watts,
                        static_cast<double>(v.value() - energy_) * 1e-3 / static_cast<double>(now - energy_at_)));
        energy_ = v.value(), energy_at_ = now;
    }
    if (auto m = h.board().memory()) {
        const auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes >> 20); };
        TRY(changed(memory_total, mib(m->total)));
        TRY(changed(memory_available, mib(m->available)));
        if (m->limit != 0) TRY(changed(memory_limit, mib(m->limit)));
        if (m->pressure >= 0) TRY(changed(memory_pressure, m->pressure));
    }
    return {};
}

Result<std::unique_ptr<Hardware>> open_replay(const char* path) {
    auto script = sim::read_script(path, false);
    if (!script) return script.error();
    return std::unique_ptr<Hardware>(TRY(sim::Sim::open(std::move(script).value(), false)));
}

}  // namespace slmd::hal
