#include "base/clock.h"
#include "hal/linux/devices.h"

namespace slmd::hal {
namespace {

class Linux final : public Hardware {
  public:
    Linux(Root root, const BoardFile& file)
        : root_(std::move(root)),
          file_(file),
          board_(root_, file_),
          cpu_(root_),
          gpio_(open_linux_gpio(root_, file_)),
          led_(root_),
          power_(root_),
          serial_(root_),
          storage_(root_),
          thermal_(root_, file_),
          watchdog_(root_, file_) {}

    Board& board() override { return board_; }
    Cpu& cpu() override { return cpu_; }
    Gpio& gpio() override { return *gpio_; }
    Led& led() override { return led_; }
    Power& power() override { return power_; }
    Serial& serial() override { return serial_; }
    Storage& storage() override { return storage_; }
    Thermal& thermal() override { return thermal_; }
    Watchdog& watchdog() override { return watchdog_; }
    std::uint64_t now_ms() override { return static_cast<std::uint64_t>(now_ns() / 1'000'000); }

  private:
    const Root root_;
    const BoardFile file_;
    LinuxBoard board_;
    LinuxCpu cpu_;
    const std::unique_ptr<Gpio> gpio_;
    LinuxLed led_;
    LinuxPower power_;
    LinuxSerial serial_;
    LinuxStorage storage_;
    LinuxThermal thermal_;
    LinuxWatchdog watchdog_;
};

}  // namespace

Result<std::unique_ptr<Hardware>> open_linux(Root root, const BoardFile& board) {
    return std::unique_ptr<Hardware>(std::make_unique<Linux>(std::move(root), board));
}

}  // namespace slmd::hal
