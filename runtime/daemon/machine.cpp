#include "daemon/machine.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

#include <algorithm>

#include "base/file.h"
#include "daemon/log.h"

namespace slmd::daemon {
namespace {

constexpr std::uint64_t never = UINT64_MAX, obtain_ms = 2000, busy_ms = 1000, idle_ms = 10'000, ask_again_ms = 250;

// Patterns of the status LED: on and off in steps of 125 ms. One step: it stays, and nobody wakes up for it.
constexpr char loading_pattern[] = "##......", ready_pattern[] = "#", busy_pattern[] = "#.", hot_pattern[] = "#.#.....",
               fault_pattern[] = "#.#.#...";
constexpr std::uint64_t pattern_step_ms = 125;

hal::LineConfig line_config(const PinConfig& pin, bool output, bool edges) {
    hal::LineConfig c;
    c.name = pin.line;
    c.output = output;
    c.active_low = pin.active_low;
    c.pull = pin.pull;
    c.edges = edges;
    return c;
}

}  // namespace

Machine::Machine(const Config& config, hal::Hardware& hardware, wire::Host& host)
    : config_(config), hardware_(hardware), host_(host), governor_(limits_) {
    identity_ = hardware.board().identity();
    busy_ = {"busy", line_config(config.pins.busy, true, false)};
    privacy_ = {"privacy", line_config(config.pins.privacy, false, true)};
    for (int i = 0; i < config.trigger_count; i++)
        triggers_[i].line = {config.triggers[i].name, line_config(config.triggers[i].pin, false, true)};
    for (int i = 0; i < config.output_count; i++) {
        outputs_[i].line = {config.outputs[i].name, line_config(config.outputs[i].pin, true, false)};
        const PinConfig& interlock = config.outputs[i].interlock;
        if (interlock.line[0] == 0) continue;
        int which = 0;
        while (which < interlock_count_ && strcmp(interlocks_[which].name, interlock.line) != 0) which++;
        if (which == interlock_count_)
            interlocks_[interlock_count_++] = {interlock.line, line_config(interlock, false, true)};
        outputs_[i].interlock = which;
    }
    const auto throttle = hardware.thermal().throttle_point();
    const int point = throttle ? throttle.value() : 80'000;
    limits_.limit = config.governor.limit > 0 ? config.governor.limit * 1000 : point - 3000;
    limits_.stop = std::max(config.governor.stop > 0 ? config.governor.stop * 1000 : point + 5000, limits_.limit);
    governor_.set_limits(limits_);
}

Machine::~Machine() {
    for (int i = 0; i < config_.output_count; i++)
        if (outputs_[i].line.number >= 0) (void)!static_cast<bool>(turn(outputs_[i], false));
    if (busy_.number >= 0) (void)!static_cast<bool>(hardware_.gpio().set(busy_.number, false));
    if (status_.number >= 0) (void)!static_cast<bool>(hardware_.gpio().set(status_.number, false));
    each_line([&](Line& l) { hardware_.gpio().release(l.number); });
    if (led_) hardware_.led().give_back();
    if (watchdog_s_ > 0) hardware_.watchdog().stop();
}

template <class Each>
void Machine::each_line(Each each) {
    if (status_.config.name[0] != 0) each(status_);
    if (busy_.config.name[0] != 0) each(busy_);
    if (privacy_.config.name[0] != 0) each(privacy_);
    for (int i = 0; i < config_.trigger_count; i++) each(triggers_[i].line);
    for (int i = 0; i < config_.output_count; i++) each(outputs_[i].line);
    for (int i = 0; i < interlock_count_; i++) each(interlocks_[i]);
}

void Machine::open() {
    now_ = hardware_.now_ms();
    if (config_.board.watchdog > 0) {
        const auto taken = hardware_.watchdog().start(config_.board.watchdog);
        if (taken) watchdog_s_ = taken.value();
        if (!taken) log(Level::warning, {{"SLMD_EVENT", "watchdog"}}, "no watchdog: %s", taken.error().text);
    }
    char folder[300];
    snprintf(folder, sizeof folder, "%s/triggers", config_.state);
    for (int i = 0; i < config_.trigger_count; i++)
        if (strcmp(config_.triggers[i].to, "file") == 0 && mkdir(folder, 0755) != 0 && errno != EEXIST)
            log(Level::warning, {{"SLMD_EVENT", "trigger"}, {"SLMD_PIN", config_.triggers[i].name}},
                "trigger %s: %s: %s; its answers will be lost", config_.triggers[i].name, folder, strerror(errno));
    obtain_at_ = now_;
    tick({.loading = true});
}

void Machine::feed() {
    if (watchdog_s_ > 0) (void)!static_cast<bool>(hardware_.watchdog().feed());
}

void Machine::set_full(int threads, int batch) {
    limits_.threads = threads, limits_.batch = batch;
    governor_.set_limits(limits_);
}

// ---- events

wire::Event& Machine::tell(wire::Event::Kind kind, const char* name, const char* subject, double value, int to) {
    if (event_count_ == max_events) event_head_ = (event_head_ + 1) % max_events, event_count_--;
    Queued& q = events_[(event_head_ + event_count_++) % max_events];
    q.event = {};
    q.event.kind = kind;
    q.event.name = name;
    snprintf(q.event.subject, sizeof q.event.subject, "%.23s", subject);
    q.event.value = value;
    q.to = to;
    return q.event;
}

bool Machine::next_event(wire::Event& event, int& to) {
    if (event_count_ == 0) return false;
    event = events_[event_head_].event;
    to = events_[event_head_].to;
    event_head_ = (event_head_ + 1) % max_events, event_count_--;
    return true;
}

// ---- lines

// A line that cannot be had is a normal thing: another program has it, the chip is not there yet.
bool Machine::obtain(Line& line) {
    if (line.number >= 0) return true;
    const auto number = hardware_.gpio().request(line.config);
    if (!number) {
        if (!line.told) {
            log(Level::warning, {{"SLMD_EVENT", "pin"}, {"SLMD_PIN", line.name}}, "%s: %s", line.name,
                number.error().text);
            tell(wire::Event::pins, "PIN", line.name, -1);
        }
        line.told = true;
        return false;
    }
    line.number = number.value();
    if (line.told)
        log(Level::info, {{"SLMD_EVENT", "pin"}, {"SLMD_PIN", line.name}}, "%s: the line is there", line.name);
    line.told = false;
    line.active = false;
    if (!line.config.output) {
        const auto level = hardware_.gpio().get(line.number);
        if (!level) return lose(line, level.error()), false;
        line.active = level.value();
        tell(wire::Event::pins, "PIN", line.name, line.active);
    }
    return true;
}

void Machine::lose(Line& line, const Error& why) {
    log(Level::warning, {{"SLMD_EVENT", "pin"}, {"SLMD_PIN", line.name}}, "%s: the line is lost: %s", line.name,
        why.text);
    tell(wire::Event::pins, "PIN", line.name, -1);
    hardware_.gpio().release(line.number);
    line.number = -1;
    line.active = false;
    line.told = true;
    obtain_at_ = std::min(obtain_at_, now_ + obtain_ms);
}

void Machine::edges() {
    now_ = hardware_.now_ms();
    hal::Edge edges[16];
    for (;;) {
        const auto n = hardware_.gpio().edges(edges);
        if (!n) {  // some line is gone: find out which
            each_line([&](Line& l) {
                if (l.number < 0) return;
                if (const auto level = hardware_.gpio().get(l.number); !level) lose(l, level.error());
            });
            for (int i = 0; i < interlock_count_; i++)
                if (interlocks_[i].number < 0) interlock(i, false);
            return;
        }
        for (int i = 0; i < n.value(); i++) edge(edges[i]);
        if (n.value() < 16) return;
    }
}

void Machine::edge(const hal::Edge& e) {
    if (e.line == privacy_.number && privacy_.active != e.active) {
        privacy_.active = e.active;
        log(Level::notice, {{"SLMD_EVENT", "privacy"}, {"SLMD_CUT", !e.active}}, "privacy switch: %s",
            e.active ? "escalation is allowed" : "nothing may leave");
        tell(wire::Event::pins, "PIN", privacy_.name, e.active);
    }
    for (int i = 0; i < config_.trigger_count; i++) {
        Trigger& t = triggers_[i];
        if (e.line != t.line.number) continue;
        t.line.active = e.active;
        if (config_.triggers[i].debounce_ms == 0)
            settle(t, e.active);
        else
            t.settle_at = now_ + static_cast<std::uint64_t>(config_.triggers[i].debounce_ms);
    }
    for (int i = 0; i < interlock_count_; i++)
        if (e.line == interlocks_[i].number && interlocks_[i].active != e.active) {
            tell(wire::Event::pins, "PIN", interlocks_[i].name, e.active);
            interlock(i, e.active);
        }
}

// Opened, or lost: what depends on it goes off at once.
void Machine::interlock(int which, bool closed) {
    interlocks_[which].active = closed;
    for (int i = 0; i < config_.output_count; i++) {
        Output& o = outputs_[i];
        if (closed || o.interlock != which) continue;
        o.on_at = 0, o.left = 0;
        if (!o.line.active) continue;
        log(Level::warning, {{"SLMD_EVENT", "interlock"}, {"SLMD_PIN", o.line.name}}, "%s: off, its interlock opened",
            o.line.name);
        (void)!static_cast<bool>(turn(o, false));
    }
}

// ---- triggers: an edge asks a question

void Machine::settle(Trigger& t, bool active) {
    t.settle_at = 0;
    if (t.stable == active) return;
    t.stable = active;
    const TriggerConfig& c = config_.triggers[&t - triggers_];
    tell(wire::Event::pins, "PIN", t.line.name, active);
    if (c.when != TriggerConfig::both && (c.when == TriggerConfig::rising) != active) return;
    t.wanted = true;
}

// Asks, looks whether there is an answer, and hands it on.
void Machine::run(Trigger& t) {
    const TriggerConfig& c = config_.triggers[&t - triggers_];
    if (t.handle < 0 && t.wanted) {
        wire::Settings settings = config_.generate;
        settings.max = c.max;
        const wire::Turn turn{false, c.prompt};
        wire::Request request{{&turn, 1}, &settings, c.agent[0] == 0};
        request.agent = c.agent;
        request.trusted = true;                          // by whoever configured it
        if (c.agent[0] != 0) settings.deadline_ms = -1;  // its own
        const auto handle = host_.submit(request);
        const Code code = handle ? Code{} : handle.error().code;
        if (code == Code::busy || code == Code::thermal || code == Code::memory_full) {  // the question waits
            due(now_ + ask_again_ms);
            return;
        }
        if (!handle) {
            t.wanted = false;
            wire::Outcome refused;
            refused.failed = true;
            refused.error = handle.error();
            return finish(t, refused);
        }
        t.wanted = false;
        t.handle = handle.value();
        t.size = 0;
    }
    while (t.handle >= 0) {
        const wire::View v = host_.view(t.handle);
        if (!v.text.empty()) {
            const std::size_t n = std::min(v.text.size(), sizeof t.text - t.size);
            memcpy(t.text + t.size, v.text.data(), n);
            t.size += n;
            host_.take(t.handle, v.text.size());
            continue;
        }
        if (v.state != wire::View::finished) return;
        const wire::Outcome outcome = *v.outcome;
        if (!outcome.labels.empty()) {  // of an agent that chooses
            const std::string_view label = outcome.labels[0].label;
            t.size = std::min(label.size(), sizeof t.text);
            memcpy(t.text, label.data(), t.size);
        }
        host_.release(t.handle);
        t.handle = -1;
        finish(t, outcome);
    }
}

void Machine::finish(Trigger& t, const wire::Outcome& outcome) {
    const TriggerConfig& c = config_.triggers[&t - triggers_];
    if (outcome.failed) {
        log(Level::warning, {{"SLMD_EVENT", "trigger"}, {"SLMD_PIN", c.name}}, "trigger %s: %s", c.name,
            outcome.error.text);
        tell(wire::Event::pins, "TRIG", c.name, -static_cast<double>(outcome.error.code));
        return;
    }
    log(Level::info, {{"SLMD_EVENT", "trigger"}, {"SLMD_PIN", c.name}, {"SLMD_TOKENS", outcome.tokens}},
        "trigger %s: %d tokens to %s", c.name, outcome.tokens, c.to);
    if (strcmp(c.to, "file") == 0) return keep(t, c);
    wire::Event& e = tell(wire::Event::pins, "TRIG", c.name, 0, strncmp(c.to, "tty", 3) == 0 ? c.to[3] - '0' : -1);
    std::size_t n = std::min(t.size, sizeof e.text - 1);
    while (n > 0 && n < t.size && (t.text[n] & 0xC0) == 0x80) n--;
    memcpy(e.text, t.text, n);
    if (n == 0) memcpy(e.text, " ", 2);  // an empty answer is an answer
}

void Machine::keep(const Trigger& t, const TriggerConfig& c) {
    char path[400];
    snprintf(path, sizeof path, "%s/triggers/%s", config_.state, c.name);
    const auto written = [&]() -> Result<void> { return write_file(path, std::as_bytes(std::span(t.text, t.size))); }();
    if (!written)
        log(Level::error, {{"SLMD_EVENT", "trigger"}, {"SLMD_PIN", c.name}}, "trigger %s: its answer is lost: %s",
            c.name, written.error().text);
}

// ---- outputs

Result<void> Machine::turn(Output& o, bool on) {
    if (o.line.number < 0) return Error::make(Code::device_io, "%s: the line cannot be had now", o.line.name);
    if (auto set = hardware_.gpio().set(o.line.number, on); !set) {
        lose(o.line, set.error());
        return set.error();
    }
    if (o.line.active != on) tell(wire::Event::pins, "PIN", o.line.name, on);
    o.line.active = on;
    if (!on) o.off_at = 0, o.on_at = 0, o.left = 0;
    return {};
}

// The next of several pulses, or the pause before it.
void Machine::pulse(Output& o) {
    if (o.off_at != 0 && o.off_at <= now_) {
        const int left = o.left;
        if (turn(o, false) && left > 0) o.left = left, o.on_at = now_ + static_cast<std::uint64_t>(o.pulse_ms);
    } else if (o.on_at != 0 && o.on_at <= now_) {
        o.on_at = 0;
        if (!turn(o, true)) {
            o.left = 0;
            return;
        }
        o.left--;
        o.starts[o.started++ % 60] = now_;
        o.off_at = now_ + static_cast<std::uint64_t>(o.pulse_ms);
    }
    if (o.off_at != 0) due(o.off_at);
    if (o.on_at != 0) due(o.on_at);
}

Result<void> Machine::drive(std::string_view output, bool on, int ms, int times) {
    now_ = hardware_.now_ms();
    for (int i = 0; i < config_.output_count; i++) {
        const OutputConfig& c = config_.outputs[i];
        Output& o = outputs_[i];
        if (output != c.name) continue;
        if (!on) return turn(o, false);
        if (c.max_pulse_ms > 0 && ms == 0)
            return Error::make(Code::incorrect_parameters, "%s stays on for a time only: 1 to %d ms", c.name,
                               c.max_pulse_ms);
        if (c.max_pulse_ms > 0 && ms > c.max_pulse_ms)
            return Error::make(Code::incorrect_parameters, "%s stays on for %d ms at most", c.name, c.max_pulse_ms);
        if (o.interlock >= 0 && !interlocks_[o.interlock].active)
            return Error::make(Code::not_allowed, "%s: its interlock %s is open", c.name, c.interlock.line);
        int recent = 0;
        for (int s = 0; s < std::min(o.started, 60); s++) recent += now_ - o.starts[s] < 60'000;
        if (recent + times > c.per_minute)
            return Error::make(Code::busy, "%s: %d times in the last minute already", c.name, recent);
        TRY(turn(o, true));
        o.starts[o.started++ % 60] = now_;
        o.off_at = ms == 0 ? 0 : now_ + static_cast<std::uint64_t>(ms);
        o.on_at = 0, o.left = times - 1, o.pulse_ms = ms;
        log(Level::info, {{"SLMD_EVENT", "output"}, {"SLMD_PIN", c.name}, {"SLMD_MS", ms}}, "%s: on (%d ms)", c.name,
            ms);
        return {};
    }
    return Error::make(Code::not_found, "no output \"%.*s\"; AT#GPIO? lists them",
                       static_cast<int>(std::min<std::size_t>(output.size(), 23)), output.data());
}

// ---- time

void Machine::govern(bool busy) {
    Readings r;
    if (const auto mc = hardware_.thermal().temperature()) r.temperature = mc.value();
    if (const auto low = hardware_.power().undervoltage()) r.undervoltage = low.value();
    if (auto f = hardware_.cpu().frequency()) r.cap_khz = f->cap, r.max_khz = f->maximum;
    if (auto m = hardware_.board().memory()) r.pressure = m->pressure;
    (void)!static_cast<bool>(energy());  // power is summed up from call to call
    readings_ = r;
    if (config_.governor.enabled && governor_.tick(r, now_)) {
        const Effort& e = governor_.effort();
        decisions_++;
        const char* const cause = governor_.cause();
        const double value = strcmp(cause, "THERM") == 0   ? r.temperature / 1000.0
                             : strcmp(cause, "POWER") == 0 ? r.undervoltage
                             : strcmp(cause, "CLOCK") == 0 ? r.cap_khz / 1000.0
                                                           : r.pressure;
        log(governor_.full() ? Level::info : Level::warning,
            {{"SLMD_EVENT", "governor"},
             {"SLMD_CAUSE", cause},
             {"SLMD_VALUE", value},
             {"SLMD_THREADS", e.threads},
             {"SLMD_BATCH", e.batch},
             {"SLMD_DUTY", e.duty},
             {"SLMD_ADMIT", e.refuse == Effort::none}},
            "%s %.1f: %d threads, batches of %d, %d %% of the time%s", cause, value, e.threads, e.batch, e.duty,
            e.refuse != Effort::none ? "; no new requests" : "");
        tell(wire::Event::board, cause, "", value, -1).number = e.threads;
    }
    govern_at_ = now_ + (busy || !governor_.full() ? busy_ms : idle_ms);
}

void Machine::show(const Work& work) {
    bool fault = false;
    each_line([&](Line& l) { fault |= &l != &status_ && l.number < 0; });
    const char* const pattern = fault               ? fault_pattern
                                : work.loading      ? loading_pattern
                                : !governor_.full() ? hot_pattern
                                : work.busy         ? busy_pattern
                                                    : ready_pattern;
    if (pattern != pattern_) pattern_ = pattern, pattern_at_ = now_;
    const std::uint64_t step = (now_ - pattern_at_) / pattern_step_ms, length = strlen(pattern);
    const int on = pattern[step % length] == '#';
    if (length > 1) {  // until the level changes
        std::uint64_t next = step + 1;
        while ((pattern[next % length] == '#') == (on != 0)) next++;
        due(pattern_at_ + next * pattern_step_ms);
    }
    if (on != shown_) {
        shown_ = on;
        if (led_)
            if (auto set = hardware_.led().set(on); !set)
                led_ = false, obtain_at_ = std::min(obtain_at_, now_ + obtain_ms);
        if (status_.number >= 0)
            if (auto set = hardware_.gpio().set(status_.number, on); !set) lose(status_, set.error());
    }
    if (busy_.number >= 0 && busy_.active != work.busy) {
        if (auto set = hardware_.gpio().set(busy_.number, work.busy); !set) return lose(busy_, set.error());
        busy_.active = work.busy;
    }
}

int Machine::tick(const Work& work) {
    now_ = hardware_.now_ms();
    next_ = never;
    if (obtain_at_ <= now_) {
        obtain_at_ = never;
        bool all = true;
        if (config_.pins.status.line[0] != 0 && !led_ && status_.number < 0) {  // an LED of that name, else a line
            led_ = static_cast<bool>(hardware_.led().take(config_.pins.status.line));
            status_ =
                led_ ? Line{} : Line{"status", line_config(config_.pins.status, true, false), -1, false, status_.told};
            shown_ = -1;
        }
        each_line([&](Line& l) { all &= obtain(l); });
        for (int i = 0; i < config_.trigger_count; i++)
            if (Trigger& t = triggers_[i]; t.line.number >= 0 && t.settle_at == 0) t.stable = t.line.active;
        if (!all) obtain_at_ = now_ + obtain_ms;
    }
    if (govern_at_ <= now_ || (work.busy && govern_at_ > now_ + busy_ms)) govern(work.busy);
    for (int i = 0; i < config_.trigger_count; i++) {
        Trigger& t = triggers_[i];
        if (t.settle_at != 0 && t.settle_at <= now_) {
            const auto level = t.line.number >= 0 ? hardware_.gpio().get(t.line.number) : Result<bool>(t.stable);
            if (level)
                settle(t, level.value());
            else
                lose(t.line, level.error()), t.settle_at = 0;
        }
        run(t);
        if (t.settle_at != 0) due(t.settle_at);
    }
    for (int i = 0; i < config_.output_count; i++) pulse(outputs_[i]);
    show(work);
    due(govern_at_);
    due(obtain_at_);
    if (next_ == never) return -1;
    const double real = static_cast<double>(next_ > now_ ? next_ - now_ : 0) / hardware_.speed();
    return static_cast<int>(std::clamp(real + 0.999, 0.0, 3.6e6));
}

Result<std::uint64_t> Machine::energy() {
    pthread_mutex_lock(&energy_lock_);
    auto r = hardware_.power().microjoules();
    pthread_mutex_unlock(&energy_lock_);
    return r;
}

// ---- what the wire shows

std::span<const wire::HardwareItem> Machine::hardware() {
    std::size_t n = 0;
    const auto text = [&](const char* name, const char* value) {
        if (value[0] != 0) items_[n++] = {name, value, {}, 0};
    };
    const auto values = [&](const char* name, std::initializer_list<double> list) {
        wire::HardwareItem& i = items_[n++] = {name, nullptr, {}, 0};
        for (const double v : list) i.values[i.count++] = v;
    };
    text("board", identity_.name);
    text("model", identity_.model);
    if (const auto mc = hardware_.thermal().temperature())
        values("temperature", {mc.value() / 1000.0, limits_.limit / 1000.0, limits_.stop / 1000.0});
    if (auto f = hardware_.cpu().frequency()) values("clock", {f->cap / 1000.0, f->maximum / 1000.0});
    if (const auto low = hardware_.power().undervoltage()) values("undervoltage", {static_cast<double>(low.value())});
    if (auto m = hardware_.board().memory()) {
        const auto mib = [](std::uint64_t bytes) { return static_cast<double>(bytes >> 20); };
        if (m->limit != 0)
            values("memory", {mib(m->available), mib(m->total), mib(m->limit)});
        else
            values("memory", {mib(m->available), mib(m->total)});
        if (m->pressure >= 0) values("memory_pressure", {m->pressure});
    }
    if (config_.state[0] != 0) {
        if (auto v = hardware_.storage().volume(config_.state))
            values("storage", {static_cast<double>(v->free >> 20), static_cast<double>(v->read_only)});
    }
    if (const auto uj = energy()) values("joules", {static_cast<double>(uj.value()) * 1e-6});
    const Effort& e = governor_.effort();
    values("threads", {static_cast<double>(e.threads), static_cast<double>(limits_.threads)});
    values("batch", {static_cast<double>(e.batch), static_cast<double>(limits_.batch)});
    values("duty", {static_cast<double>(e.duty)});
    values("admit", {static_cast<double>(e.refuse == Effort::none)});
    values("decisions", {static_cast<double>(decisions_)});
    if (config_.pins.privacy.line[0] != 0) values("cut", {static_cast<double>(cut())});
    return {items_, n};
}

std::span<const wire::PinState> Machine::pins() {
    std::size_t n = 0;
    const auto add = [&](const Line& l, const char* use) {
        if (l.config.name[0] != 0) pins_[n++] = {l.name, use, l.number < 0 ? -1 : l.active};
    };
    for (int i = 0; i < config_.output_count; i++) add(outputs_[i].line, "out");
    for (int i = 0; i < interlock_count_; i++) add(interlocks_[i], "interlock");
    for (int i = 0; i < config_.trigger_count; i++) add(triggers_[i].line, "trigger");
    add(privacy_, "privacy");
    add(busy_, "busy");
    return {pins_, n};
}

}  // namespace slmd::daemon
