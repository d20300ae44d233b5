#include "hal/sim/sim.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/timerfd.h>

#include <algorithm>
#include <cmath>

#include "base/clock.h"
#include "hal/saturated.h"

namespace slmd::hal::sim {
namespace {

Error failed(const char* what, Fault fault) {
    switch (fault) {
        case Fault::busy: return Error::make(Code::busy, "%s: another program holds it (simulated)", what);
        case Fault::gone: return Error::make(Code::not_found, "%s: no such device (simulated)", what);
        default: return Error::make(Code::device_io, "%s: input/output error (simulated)", what);
    }
}

}  // namespace

Result<std::unique_ptr<Sim>> Sim::open(Script script, bool manual) {
    const int timer = timerfd_create(CLOCK_MONOTONIC, TFD_CLOEXEC | TFD_NONBLOCK);
    if (timer < 0) return Error::make(Code::device_io, "timerfd: %s", strerror(errno));
    int log = -1;
    if (!script.log.empty()) {
        log = ::open(script.log.c_str(), O_WRONLY | O_CREAT | O_TRUNC | O_APPEND | O_CLOEXEC, 0644);
        if (log < 0) {
            const Error e = Error::make(Code::storage_failure, "%s: %s", script.log.c_str(), strerror(errno));
            ::close(timer);
            return e;
        }
    }
    std::unique_ptr<Sim> sim(new Sim(std::move(script), manual, timer, log));
    auto root = Root::open("/");
    if (!root) return root.error();
    sim->machine_ = TRY(open_linux(std::move(root).value(), BoardFile{}));
    sim->update();
    return sim;
}

Sim::Sim(Script script, bool manual, int timer, int log)
    : script_(std::move(script)),
      manual_(manual),
      timer_(timer),
      log_(log),
      start_ns_(now_ns()),
      lines_(64),
      random_(script_.seed) {
    script_.lines.reserve(64);
    for (const Chance& c : script_.chances) chances_.push_back(random(c.every_ms));
}

Sim::~Sim() {
    ::close(timer_);
    if (log_ >= 0) ::close(log_);
}

// An exponential distribution, from splitmix64.
std::uint64_t Sim::random(std::uint64_t mean) {
    std::uint64_t z = random_ += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    const double u = static_cast<double>((z ^ z >> 31) >> 11) * 0x1p-53;
    return 1 + static_cast<std::uint64_t>(-std::log(1 - u) * static_cast<double>(mean));
}

std::uint64_t Sim::now_ms() {
    if (!manual_)
        now_ = std::max(now_,
                        static_cast<std::uint64_t>(static_cast<double>(now_ns() - start_ns_) * 1e-6 * script_.speed));
    return now_;
}

void Sim::advance(std::uint64_t ms) {
    now_ += ms;
    update();
}

// Everything that is due.
void Sim::update() {
    const std::uint64_t now = now_ms();
    for (;;) {
        while (next_ < script_.events.size() && pass_ + script_.events[next_].ms <= now) {
            Event e = script_.events[next_++];
            e.ms += pass_;
            apply(e);
        }
        if (script_.loop_ms == 0 || pass_ + script_.loop_ms > now) break;
        pass_ += script_.loop_ms;
        next_ = 0;
    }
    for (std::size_t i = 0; i < chances_.size(); i++) {
        const Chance& c = script_.chances[i];
        while (chances_[i] <= now) {
            apply({chances_[i], c.sensor, c.line, 0, 0, c.fault, random(c.for_ms)});
            chances_[i] += random(c.every_ms);
        }
    }
    arm();
}

// The timer is due when an edge waits, or at the script's next event.
void Sim::arm() {
    itimerspec t{};
    if (edge_count_ > 0) {
        t.it_value.tv_nsec = 1;
    } else if (!manual_) {
        std::uint64_t due = UINT64_MAX;
        if (next_ < script_.events.size())
            due = pass_ + script_.events[next_].ms;
        else if (script_.loop_ms != 0)
            due = pass_ + script_.loop_ms;
        for (const std::uint64_t c : chances_) due = std::min(due, c);
        if (due != UINT64_MAX) {
            const auto ns =
                static_cast<std::uint64_t>(static_cast<double>(due > now_ ? due - now_ : 0) * 1e6 / script_.speed) +
                1000;
            t.it_value.tv_sec = static_cast<time_t>(ns / 1'000'000'000);
            t.it_value.tv_nsec = static_cast<long>(ns % 1'000'000'000);
        }
    }
    timerfd_settime(timer_, 0, &t, nullptr);
}

void Sim::apply(const Event& e) {
    if (e.line >= 0) {
        Line& line = lines_[static_cast<std::size_t>(e.line)];
        if (e.fault != Fault::none) {
            line.fault = e.fault;
            line.fault_until = e.for_ms == 0 ? 0 : e.ms + e.for_ms;
            if (line.number >= 0 && e.fault != Fault::busy) line.lost = true;
            return;
        }
        const bool before = active(line);
        line.outside = static_cast<int>(e.value);
        if (line.number >= 0 && line.config.edges && active(line) != before && !line.lost && edge_count_ < max_edges)
            edges_[(edge_head_ + edge_count_++) % max_edges] = {line.number, active(line),
                                                                static_cast<std::int64_t>(e.ms) * 1'000'000};
        return arm();
    }
    Value& v = values_[e.sensor];
    if (e.fault != Fault::none) {
        v.fault = e.fault;
        v.fault_until = e.for_ms == 0 ? 0 : e.ms + e.for_ms;
        return;
    }
    const auto now_is = [&] {
        if (e.ms >= v.end || v.end == v.begin) return v.to;
        return v.from + (v.to - v.from) * static_cast<double>(e.ms - v.begin) / static_cast<double>(v.end - v.begin);
    };
    if (e.sensor == watts && v.known) (void)!static_cast<bool>(microjoules());
    v.from = v.known ? now_is() : e.value;
    v.to = e.value;
    v.begin = e.ms, v.end = e.ms + e.over_ms;
    v.known = true;
}

Fault Sim::fault_of(Sensor sensor) {
    update();
    Value& v = values_[sensor];
    if (v.fault != Fault::none && v.fault_until != 0 && v.fault_until <= now_) v.fault = Fault::none;
    return v.fault;
}

Result<double> Sim::read(Sensor sensor) {
    if (const Fault f = fault_of(sensor); f != Fault::none) return failed(name_of(sensor), f);
    const Value& v = values_[sensor];
    if (!v.known) return Error::make(Code::not_found, "%s: the script says nothing of it", name_of(sensor));
    if (now_ >= v.end) return v.to;
    return v.from + (v.to - v.from) * static_cast<double>(now_ - v.begin) / static_cast<double>(v.end - v.begin);
}

void Sim::log(const char* name, int value) {
    if (log_ < 0) return;
    char text[96];
    const int n = snprintf(text, sizeof text, "%llu.%03llu %s %d\n", static_cast<unsigned long long>(now_ / 1000),
                           static_cast<unsigned long long>(now_ % 1000), name, value);
    (void)!::write(log_, text, static_cast<std::size_t>(n));
}

// ---- Board, Cpu, Storage, Thermal

Identity Sim::identity() {
    Identity i;
    snprintf(i.name, sizeof i.name, "%s", script_.board.empty() ? "sim" : script_.board.c_str());
    snprintf(i.model, sizeof i.model, "%s", script_.model.empty() ? "simulated board" : script_.model.c_str());
    return i;
}

Result<MemoryState> Sim::memory() {
    MemoryState m;
    const auto bytes = [](double mib) { return saturated<std::uint64_t>(mib * 1048576); };
    m.total = bytes(TRY(read(memory_total)));
    m.available = bytes(TRY(read(memory_available)));
    if (const auto v = read(memory_limit)) m.limit = bytes(v.value());
    if (const auto v = read(memory_pressure)) m.pressure = v.value();
    return m;
}

Result<int> Sim::clusters(std::span<CoreCluster> out) { return machine_->cpu().clusters(out); }

Result<Frequency> Sim::frequency() {
    const auto khz = [](double mhz) { return saturated<int>(mhz * 1000); };
    const double maximum = TRY(read(cpu_max));
    const auto cap = read(cpu_cap);
    if (!cap && cap.error().code == Code::device_io) return cap.error();
    return Frequency{khz(cap ? cap.value() : maximum), khz(maximum)};
}

Result<Volume> Sim::volume(const char*) {
    Volume v;
    v.free = saturated<std::uint64_t>(TRY(read(storage_free)) * 1048576);
    v.total = v.free;
    if (const auto r = read(storage_read_only)) v.read_only = r.value() != 0;
    snprintf(v.kind, sizeof v.kind, "sd");
    return v;
}

Result<int> Sim::temperature() { return saturated<int>(TRY(read(Sensor::temperature)) * 1000); }
Result<int> Sim::throttle_point() { return saturated<int>(TRY(read(throttle)) * 1000); }

// ---- Gpio

bool Sim::active(const Line& line) const {
    const int level = line.outside >= 0 ? line.outside : line.config.pull == Pull::up;
    return (level != 0) != line.config.active_low;
}

Sim::Line* Sim::held(int number) {
    for (Line& l : lines_)
        if (l.number == number && number >= 0) return &l;
    return nullptr;
}

Result<int> Sim::request(const LineConfig& config) {
    update();
    for (std::size_t i = 0; i < script_.lines.size(); i++) {
        Line& l = lines_[i];
        if (script_.lines[i] != config.name) continue;
        if (l.fault != Fault::none && l.fault_until != 0 && l.fault_until <= now_) l.fault = Fault::none;
        if (l.fault != Fault::none) return failed(config.name, l.fault);
        if (l.number >= 0) return failed(config.name, Fault::busy);
        int number = 0;
        while (held(number) != nullptr) number++;
        if (number == max_lines) return Error::make(Code::incorrect_parameters, "at most %d lines", max_lines);
        l.config = config;
        l.config.name = script_.lines[i].c_str();
        l.number = number;
        l.lost = false;
        if (config.output) changed(i, config.active_low);
        return number;
    }
    return Error::make(Code::not_found, "GPIO line %s: the script does not have it", config.name);
}

void Sim::release(int line) {
    if (Line* l = held(line)) {
        if (l->config.output) changed(static_cast<std::size_t>(l - lines_.data()), -1);
        l->number = -1;
    }
}

Result<bool> Sim::get(int line) {
    update();
    const Line* const l = held(line);
    if (l == nullptr || l->lost) return failed("GPIO", Fault::io);
    if (l->config.output) return (l->drives != 0) != l->config.active_low;
    return active(*l);
}

void Sim::changed(std::size_t line, int level) {
    if (lines_[line].drives == level) return;
    lines_[line].drives = level;
    char name[64];
    snprintf(name, sizeof name, "gpio.%.50s", script_.lines[line].c_str());
    log(name, level);
}

Result<void> Sim::set(int line, bool on) {
    update();
    Line* const l = held(line);
    if (l == nullptr || l->lost) return failed("GPIO", Fault::io);
    changed(static_cast<std::size_t>(l - lines_.data()), on != l->config.active_low);
    return {};
}

Result<int> Sim::edges(std::span<Edge> out) {
    std::uint64_t expirations;
    (void)!::read(timer_, &expirations, sizeof expirations);
    update();
    int count = 0;
    while (edge_count_ > 0 && static_cast<std::size_t>(count) < out.size()) {
        out[static_cast<std::size_t>(count++)] = edges_[edge_head_];
        edge_head_ = (edge_head_ + 1) % max_edges;
        edge_count_--;
    }
    arm();
    for (const Line& l : lines_)
        if (count == 0 && l.number >= 0 && l.lost && l.config.edges) return failed("GPIO", Fault::io);
    return count;
}

void Sim::wire(const char* line, int level) {
    for (std::size_t i = 0; i < script_.lines.size(); i++)
        if (script_.lines[i] == line)
            apply({now_, -1, static_cast<int>(i), static_cast<double>(level), 0, Fault::none, 0});
}

void Sim::fail_line(const char* line, Fault fault, std::uint64_t for_ms) {
    for (std::size_t i = 0; i < script_.lines.size(); i++)
        if (script_.lines[i] == line) apply({now_, -1, static_cast<int>(i), 0, 0, fault, for_ms});
}

int Sim::level(const char* line) const {
    for (std::size_t i = 0; i < script_.lines.size(); i++)
        if (script_.lines[i] == line) return lines_[i].drives;
    return -1;
}

// ---- Led, Power, Serial, Watchdog

Result<void> Sim::take(const char* name) {
    if (const Fault f = fault_of(Sensor::led); f != Fault::none) return failed(name, f);
    for (const std::string& line : script_.lines)
        if (line == name) return Error::make(Code::not_found, "no LED \"%s\"", name);  // it is a line
    return {};
}

Result<void> Sim::set(bool on) {
    if (const Fault f = fault_of(Sensor::led); f != Fault::none) return failed("led", f);
    if (led_on_ != on) log("led", on);
    led_on_ = on;
    return {};
}

Result<bool> Sim::undervoltage() { return TRY(read(Sensor::undervoltage)) != 0; }

Result<std::uint64_t> Sim::microjoules() {
    const double w = TRY(read(watts));
    energy_ += w * static_cast<double>(now_ - energy_at_) * 1000;
    energy_at_ = now_;
    return saturated<std::uint64_t>(energy_);
}

Result<int> Sim::open(const SerialConfig& config) {
    if (const Fault f = fault_of(Sensor::serial); f != Fault::none)
        return Error::make(Code::device_io, "serial line %s: unplugged (simulated)", config.path);
    return machine_->serial().open(config);
}

void Sim::close(int fd) { machine_->serial().close(fd); }
SerialErrors Sim::errors(int fd) const { return machine_->serial().errors(fd); }

Result<int> Sim::start(int seconds) {
    if (const Fault f = fault_of(Sensor::watchdog); f != Fault::none) return failed("watchdog", f);
    return seconds;
}

Result<void> Sim::feed() {
    if (const Fault f = fault_of(Sensor::watchdog); f != Fault::none) return failed("watchdog", f);
    fed_++;
    return {};
}

}  // namespace slmd::hal::sim

namespace slmd::hal {

Result<std::unique_ptr<Hardware>> open_sim(const char* path) {
    auto script = sim::read_script(path, true);
    if (!script) return script.error();
    return std::unique_ptr<Hardware>(TRY(sim::Sim::open(std::move(script).value(), false)));
}

}  // namespace slmd::hal
