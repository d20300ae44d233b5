// A simulated board: sensors and lines that say what a script, or a test, tells them to.
#pragma once
#include "hal/hardware.h"
#include "hal/sim/script.h"

namespace slmd::hal::sim {

class Sim final : public Hardware, Board, Cpu, Gpio, Led, Power, Serial, Storage, Thermal, Watchdog {
  public:
    // manual: time stands still but for advance(); otherwise it passes `speed` times as fast as the real one.
    static Result<std::unique_ptr<Sim>> open(Script script, bool manual);
    ~Sim() override;

    // For tests. What a sensor says from now on; the level of a line (-1: an open wire); a fault's beginning.
    void tell(Sensor sensor, double value) { apply({now_, sensor, -1, value, 0, Fault::none, 0}); }
    void wire(const char* line, int level);
    void fail(Sensor sensor, Fault fault, std::uint64_t for_ms = 0) { apply({now_, sensor, -1, 0, 0, fault, for_ms}); }
    void fail_line(const char* line, Fault fault, std::uint64_t for_ms = 0);
    void advance(std::uint64_t ms);
    bool led_on() const { return led_on_; }
    int level(const char* line) const;  // of an output, as a meter would show it; -1: nobody drives it
    std::uint64_t fed() const { return fed_; }

    // Hardware
    Board& board() override { return *this; }
    Cpu& cpu() override { return *this; }
    Gpio& gpio() override { return *this; }
    Led& led() override { return *this; }
    Power& power() override { return *this; }
    Serial& serial() override { return *this; }
    Storage& storage() override { return *this; }
    Thermal& thermal() override { return *this; }
    Watchdog& watchdog() override { return *this; }
    std::uint64_t now_ms() override;
    double speed() const override { return script_.speed; }

  private:
    struct Value {
        double from = 0, to = 0;
        std::uint64_t begin = 0, end = 0;  // of a ramp
        bool known = false;
        Fault fault = Fault::none;
        std::uint64_t fault_until = 0;  // 0: for good
    };
    struct Line {
        int outside = -1;  // what the world puts on it; -1: nothing
        int drives = -1;   // what we put on it
        int number = -1;   // as request() gave it
        LineConfig config{};
        Fault fault = Fault::none;
        std::uint64_t fault_until = 0;
        bool lost = false;  // it failed while we had it
    };

    Sim(Script script, bool manual, int timer, int log);
    void apply(const Event& event);
    void update();
    void arm();
    Result<double> read(Sensor sensor);
    Fault fault_of(Sensor sensor);
    Line* held(int number);
    bool active(const Line& line) const;
    void changed(std::size_t line, int level);
    void log(const char* name, int value);
    std::uint64_t random(std::uint64_t mean);

    // Board
    Identity identity() override;
    Result<MemoryState> memory() override;
    // Cpu
    Result<int> clusters(std::span<CoreCluster> out) override;
    Result<Frequency> frequency() override;
    // Gpio
    Result<int> request(const LineConfig& config) override;
    void release(int line) override;
    Result<bool> get(int line) override;
    Result<void> set(int line, bool active) override;
    Result<int> edges(std::span<Edge> out) override;
    int fd() const override { return timer_; }
    // Led
    Result<void> take(const char* name) override;
    Result<void> set(bool on) override;
    void give_back() override { led_on_ = false; }
    // Power
    Result<bool> undervoltage() override;
    Result<std::uint64_t> microjoules() override;
    // Serial: the real device, unless a fault says that it cannot be opened
    Result<int> open(const SerialConfig& config) override;
    void close(int fd) override;
    SerialErrors errors(int fd) const override;
    // Storage
    Result<Volume> volume(const char* folder) override;
    // Thermal
    Result<int> temperature() override;
    Result<int> throttle_point() override;
    // Watchdog
    Result<int> start(int seconds) override;
    Result<void> feed() override;
    void stop() override {}

    Script script_;
    const bool manual_;
    const int timer_, log_;
    std::unique_ptr<Hardware> machine_;  // for its serial lines and its cores
    const std::int64_t start_ns_;
    std::uint64_t now_ = 0, pass_ = 0;  // pass: when this round of the loop began
    std::size_t next_ = 0;
    Value values_[sensors];
    std::vector<Line> lines_;
    std::vector<std::uint64_t> chances_;  // when each comes next
    std::uint64_t random_;
    static constexpr int max_edges = 64;
    Edge edges_[max_edges];
    int edge_head_ = 0, edge_count_ = 0;
    bool led_on_ = false;
    std::uint64_t fed_ = 0, energy_at_ = 0;
    double energy_ = 0;
};

}  // namespace slmd::hal::sim
