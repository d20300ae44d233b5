// How hard slmd may work: fewer threads, smaller passes and pauses before the kernel or the firmware slows the board
// down by force. No I/O and no clock: readings in, effort out.
#pragma once
#include <cstdint>

namespace slmd::daemon {

struct Readings {
    int temperature = no_temperature;  // 1/1000 degree C
    bool undervoltage = false;
    int cap_khz = 0, max_khz = 0;  // 0: not told
    double pressure = -1;          // per cent of the last 10 s that some task waited for memory; below 0: not told
    static constexpr int no_temperature = -1'000'000;
};

struct Limits {
    int threads = 1, batch = 32;  // at full effort
    int limit = 77'000;           // not to be exceeded, 1/1000 degree C
    int stop = 85'000;            // no request is taken from here on
};

struct Effort {
    int threads = 1, batch = 32;  // at most
    int duty = 100;               // per cent of the time that is worked
    enum Refusal : unsigned char { none, heat, memory } refuse = none;
    bool operator==(const Effort&) const = default;
};

class Governor {
  public:
    static constexpr std::uint64_t settle_ms = 3000;     // between two steps down: heat needs time to answer
    static constexpr std::uint64_t recover_ms = 10'000;  // between two steps up
    static constexpr std::uint64_t hold_ms = 30'000;     // after the last undervoltage or lowered clock
    static constexpr int hysteresis = 4'000;             // below the limit before it steps up
    static constexpr double lookahead_s = 8;             // the trend is followed so far
    static constexpr double much_pressure = 40, little_pressure = 5;

    explicit Governor(const Limits& limits) : limits_(limits) { decide(); }
    // True: the effort has changed, and cause() says why. now: milliseconds; called every second or so while there is
    // work or effort() is not full, at least every 10 s otherwise.
    bool tick(const Readings& readings, std::uint64_t now);
    // The engine's, once it is known.
    void set_limits(const Limits& limits);
    const Effort& effort() const { return effort_; }
    bool full() const { return level() == 0 && effort_.refuse == Effort::none; }
    // "THERM", "POWER", "CLOCK" or "MEM": what the last change came from.
    const char* cause() const { return cause_; }
    // Steps below full effort: threads one by one, then pauses: 60, 30 and 10 per cent of the time.
    int level() const;
    int steps() const { return limits_.threads + 2; }

  private:
    void decide();
    void heat(const Readings& r, std::uint64_t now);
    Limits limits_;
    Effort effort_;
    const char* cause_ = "THERM";
    int heat_level_ = 0, power_level_ = 0, clock_level_ = 0;
    bool too_hot_ = false, short_of_memory_ = false;
    double slope_ = 0;  // degrees C a second
    int last_temperature_ = Readings::no_temperature;
    std::uint64_t last_ms_ = 0, heat_changed_ = 0, power_seen_ = 0, clock_seen_ = 0, memory_seen_ = 0;
    int usual_khz_ = 0;  // the cap when all was well: an administrator may have lowered it
};

}  // namespace slmd::daemon
