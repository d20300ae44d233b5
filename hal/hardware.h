// Everything that slmd uses of a board, from one of three back ends.
#pragma once
#include <memory>

#include "hal/board.h"
#include "hal/board_file.h"
#include "hal/cpu.h"
#include "hal/gpio.h"
#include "hal/led.h"
#include "hal/power.h"
#include "hal/root.h"
#include "hal/serial.h"
#include "hal/storage.h"
#include "hal/thermal.h"
#include "hal/watchdog.h"

namespace slmd::hal {

class Hardware {
  public:
    virtual ~Hardware() = default;
    virtual Board& board() = 0;
    virtual Cpu& cpu() = 0;
    virtual Gpio& gpio() = 0;
    virtual Led& led() = 0;
    virtual Power& power() = 0;
    virtual Serial& serial() = 0;
    virtual Storage& storage() = 0;
    virtual Thermal& thermal() = 0;
    virtual Watchdog& watchdog() = 0;
    // Milliseconds that only go forward: what patterns, pulses and the governor count in.
    virtual std::uint64_t now_ms() = 0;
    // How many of them pass in a real one: 1, but for simulations.
    virtual double speed() const { return 1; }
};

// Opening allocates, using does not (GPIO lines apart: libgpiod allocates when one is requested).

// The machine below root, read with what the board file says. Errors: device_io.
Result<std::unique_ptr<Hardware>> open_linux(Root root, const BoardFile& board);
// A simulated board: hal/sim/README.md has the script's language. Errors: storage_failure; incorrect_parameters with
// file and line.
Result<std::unique_ptr<Hardware>> open_sim(const char* script);
// A recorded one: as `slmctl hw record` wrote it. Errors: as open_sim.
Result<std::unique_ptr<Hardware>> open_replay(const char* trace);

}  // namespace slmd::hal
