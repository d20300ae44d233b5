// The linux back end's devices. Each reads below a Root that outlives it.
#pragma once
#include "hal/hardware.h"

namespace slmd::hal {

class LinuxBoard final : public Board {
  public:
    LinuxBoard(const Root& root, const BoardFile& file);
    Identity identity() override { return identity_; }
    Result<MemoryState> memory() override;

  private:
    std::uint64_t limit() const;
    const Root& root_;
    const std::uint64_t reserve_;
    Identity identity_;
    char group_[256] = "";  // of our control group, "": none
};

class LinuxCpu final : public Cpu {
  public:
    explicit LinuxCpu(const Root& root);
    Result<int> clusters(std::span<CoreCluster> out) override;
    Result<Frequency> frequency() override;

  private:
    void find_fastest();
    const Root& root_;
    char fastest_[48] = "";  // the policy of the fastest cluster
};

class LinuxThermal final : public Thermal {
  public:
    LinuxThermal(const Root& root, const BoardFile& file);
    Result<int> temperature() override;
    Result<int> throttle_point() override;

  private:
    const Root& root_;
    const int throttle_mc_;
    static constexpr int max_zones = 16;
    int zones_[max_zones];  // numbers of the thermal zones that count
    int count_ = 0;
};

class LinuxPower final : public Power {
  public:
    explicit LinuxPower(const Root& root);
    ~LinuxPower() override;
    Result<bool> undervoltage() override;
    Result<std::uint64_t> microjoules() override;

  private:
    enum Source : unsigned char { none, rapl, hwmon, iio, pmic };
    Result<double> microwatts() const;
    const Root& root_;
    char flag_[80] = "";   // the undervoltage alarm
    char meter_[80] = "";  // the counter, or the power
    double scale_ = 1;     // of an IIO channel, to microwatts
    Source source_ = none;
    int mailbox_ = -1;  // to a Raspberry Pi's firmware
    double summed_ = 0, last_microwatts_ = 0;
    std::int64_t last_ns_ = 0;
};

class LinuxLed final : public Led {
  public:
    explicit LinuxLed(const Root& root) : root_(root) {}
    ~LinuxLed() override { give_back(); }
    Result<void> take(const char* name) override;
    Result<void> set(bool on) override;
    void give_back() override;

  private:
    const Root& root_;
    char name_[64] = "", trigger_[32] = "", full_[12] = "1";
};

class LinuxWatchdog final : public Watchdog {
  public:
    LinuxWatchdog(const Root& root, const BoardFile& file) : root_(root), longest_(file.watchdog_s) {}
    ~LinuxWatchdog() override { stop(); }
    Result<int> start(int seconds) override;
    Result<void> feed() override;
    void stop() override;

  private:
    const Root& root_;
    const int longest_;
    int fd_ = -1;
};

class LinuxStorage final : public Storage {
  public:
    explicit LinuxStorage(const Root& root) : root_(root) {}
    Result<Volume> volume(const char* folder) override;

  private:
    const Root& root_;
};

class LinuxSerial final : public Serial {
  public:
    explicit LinuxSerial(const Root& root) : root_(root) {}
    Result<int> open(const SerialConfig& config) override;
    void close(int fd) override;
    SerialErrors errors(int fd) const override;

  private:
    const Root& root_;
};

std::unique_ptr<Gpio> open_linux_gpio(const Root& root, const BoardFile& board);

}  // namespace slmd::hal
