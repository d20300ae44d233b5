// Recorded traces: what a real board's sensors and lines said, second by second. `slmctl hw record` makes them,
// open_replay() plays them, a bug report can carry one.
#pragma once
#include "hal/hardware.h"

namespace slmd::hal {

class Recorder {
  public:
    static constexpr int max_lines = 16;
    // lines: GPIO inputs to record too; those that cannot be had are left out, with a remark in the trace. out: a file
    // descriptor. Errors: storage_failure.
    static Result<Recorder> open(Hardware& hardware, std::span<const char* const> lines, int out);
    // Writes what has changed since the last call. Errors: storage_failure.
    Result<void> sample();
    // Lines that are recorded; their edges wake this descriptor.
    int fd() const { return hardware_->gpio().fd(); }
    int lines() const { return count_; }

  private:
    Recorder(Hardware& hardware, int out) : hardware_(&hardware), out_(out), begin_(hardware.now_ms()) {}
    Result<void> put(const char* name, double value, double at_ms);
    Result<void> write(const char* text, std::size_t size);
    Hardware* hardware_;
    int out_;
    std::uint64_t begin_;
    double last_[16];
    bool known_[16] = {};
    struct {
        int number;
        char name[32];
    } lines_[max_lines];
    int count_ = 0;
    std::uint64_t energy_ = 0, energy_at_ = 0;
};

}  // namespace slmd::hal
