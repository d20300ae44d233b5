// The board as slmd uses it: the governor's readings, the lines and the LED, and what AT#HW says of it all. Lives in
// the event loop's thread, but for energy().
#pragma once
#include <pthread.h>

#include "daemon/config.h"
#include "daemon/governor.h"
#include "hal/hardware.h"
#include "wire/session.h"

namespace slmd::daemon {

class Machine {
  public:
    // What the pins show.
    struct Work {
        bool loading = false, busy = false;
    };

    Machine(const Config& config, hal::Hardware& hardware, wire::Host& host);
    Machine(const Machine&) = delete;
    ~Machine();
    // Takes the LED and the lines. What cannot be had now is tried again every other second, and said once.
    void open();
    // The engine's full effort, once it is known.
    void set_full(int threads, int batch);
    // Everything that is due. Returns how long nothing will be, in real milliseconds; -1: until something happens.
    int tick(const Work& work);
    // For epoll: readable when a line has changed.
    int fd() const { return hardware_.gpio().fd(); }
    void edges();
    // The hardware watchdog, when it is ours; on progress, as systemd's.
    void feed();
    int watchdog_ms() const { return watchdog_s_ * 1000 / 3; }

    const Effort& effort() const { return governor_.effort(); }
    // The oldest thing to tell; false: nothing. to: the serial line that it is for, whether it asked or not; -1: all
    // who asked.
    bool next_event(wire::Event& event, int& to);

    // What the board has taken, as hal::Power::microjoules() counts. Any thread. Errors: not_found, device_io.
    Result<std::uint64_t> energy();

    // For the wire. Valid until the next call.
    std::span<const wire::HardwareItem> hardware();
    std::span<const wire::PinState> pins();
    // times: pulses of ms each, with as long between them.
    Result<void> drive(std::string_view output, bool on, int ms, int times = 1);
    double temperature() const { return readings_.temperature / 1000.0; }  // degrees C as last read
    // The privacy switch allows nothing to leave: cut, open, or not to be had. Without a switch: false.
    bool cut() const { return config_.pins.privacy.line[0] != 0 && !privacy_.active; }

  private:
    // A line that is held, or is to be.
    struct Line {
        const char* name = "";  // what it is called in events
        hal::LineConfig config{};
        int number = -1;
        bool active = false;
        bool told = false;  // that it cannot be had
    };
    struct Trigger {
        Line line;
        bool stable = false;          // the level that counts
        std::uint64_t settle_at = 0;  // 0: nothing to settle
        bool wanted = false;          // to be asked as soon as possible; edges meanwhile are one question
        int handle = -1;              // of the request that runs
        char text[1024];
        std::size_t size = 0;
    };
    struct Output {
        Line line;
        int interlock = -1;        // which of interlocks_
        std::uint64_t off_at = 0;  // 0: not timed
        std::uint64_t on_at = 0;   // the next of several pulses; 0: none
        int left = 0, pulse_ms = 0;
        std::uint64_t starts[60];  // of the last pulses, for the rate
        int started = 0;
    };
    static constexpr int max_events = 16;
    struct Queued {
        wire::Event event;
        int to;
    };

    bool obtain(Line& line);
    void lose(Line& line, const Error& why);
    template <class Each>
    void each_line(Each each);
    void edge(const hal::Edge& e);
    void settle(Trigger& t, bool active);
    void run(Trigger& t);
    void finish(Trigger& t, const wire::Outcome& outcome);
    void keep(const Trigger& t, const TriggerConfig& c);
    Result<void> turn(Output& o, bool on);
    void pulse(Output& o);
    void interlock(int which, bool closed);
    void govern(bool busy);
    void show(const Work& work);
    wire::Event& tell(wire::Event::Kind kind, const char* name, const char* subject, double value, int to = -1);
    void due(std::uint64_t at) { next_ = at < next_ ? at : next_; }

    const Config& config_;
    hal::Hardware& hardware_;
    wire::Host& host_;
    Limits limits_;
    Governor governor_;
    Readings readings_;
    std::uint64_t now_ = 0, next_ = 0, govern_at_ = 0, obtain_at_ = 0;
    std::uint64_t decisions_ = 0;

    Line status_, busy_, privacy_;
    bool led_ = false;
    int shown_ = -1;
    const char* pattern_ = nullptr;
    std::uint64_t pattern_at_ = 0;
    Trigger triggers_[Config::max_triggers];
    Output outputs_[Config::max_outputs];
    Line interlocks_[Config::max_outputs];  // outputs may share one
    int interlock_count_ = 0;

    int watchdog_s_ = 0;
    pthread_mutex_t energy_lock_ = PTHREAD_MUTEX_INITIALIZER;

    Queued events_[max_events];
    int event_head_ = 0, event_count_ = 0;

    hal::Identity identity_;
    wire::HardwareItem items_[20];
    wire::PinState pins_[Config::max_triggers + 2 * Config::max_outputs + 3];
};

}  // namespace slmd::daemon
