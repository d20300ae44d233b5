// boards/NAME.toml: what differs between boards. boards/README.md explains every key.
#pragma once
#include <cstddef>

#include "base/result.h"
#include "hal/root.h"

namespace slmd::hal {

struct BoardFile {
    static constexpr int max_compatible = 8, max_pins = 64, max_clusters = 3, max_zones = 4, max_serials = 4,
                         max_leds = 4;

    char name[32] = "generic";
    char title[64] = "";
    char compatible[max_compatible][64] = {};  // any of them names the board
    int compatible_count = 0;
    char matched[64] = "";  // the one by which find_board found it

    char gpio_chip[64] = "";  // compatible string of the chip's driver, or its label; "": any chip
    struct Pin {
        char name[16], line[40];
    } pins[max_pins] = {};  // names of the header's pins
    int pin_count = 0;

    char serials[max_serials][32] = {};  // the UART on the header, as different kernels name it
    int serial_count = 0;
    char leds[max_leds][48] = {};  // for the status, as different kernels name it; in /sys/class/leds
    int led_count = 0;
    char zones[max_zones][32] = {};
    int zone_count = 0;
    int throttle_mc = 0;  // where the board slows down, 1/1000 degree C; 0: as the kernel's trip points say
    struct {
        char core[24], cpus[16];
    } clusters[max_clusters] = {};  // slowest first
    int cluster_count = 0;
    int reserve_mib = 0;   // memory that the rest of the system needs
    int watchdog_s = 0;    // longest period of the watchdog; 0: it has none
    char storage[8] = "";  // what it boots from as a rule
};

// Errors: storage_failure; incorrect_parameters as "file:line: what and what to do".
Result<BoardFile> read_board_file(const char* path);
// The one of that name, or, with "", the one that the machine's device tree asks for: the first of its compatible
// strings that a file has. Without a device tree: "pc" on x86, else "generic". Errors: not_found; read_board_file's.
Result<BoardFile> find_board(const Root& root, const char* folder, const char* name = "");
// The line behind a pin's name; the name itself when it is no pin of this board.
const char* line_of(const BoardFile& board, const char* name);

}  // namespace slmd::hal
