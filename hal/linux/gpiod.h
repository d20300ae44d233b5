// What slmd needs of libgpiod, the same for its two versions: gpiod1.cpp for 1.6, gpiod2.cpp for 2.x; the build takes
// the one that is installed.
#pragma once
#include "hal/gpio.h"

namespace slmd::hal::gpiod {

struct Held {
    void *chip = nullptr, *line = nullptr;  // version 2 has its buffer of events in chip
    unsigned offset = 0;
    int fd = -1;  // of an input with edges
};

constexpr char consumer[] = "slmd";

bool has_label(const char* chip, const char* label);
// The offset of the line of that name; -1: the chip has none, or cannot be opened.
int find(const char* chip, const char* line);
// Errors: busy with the holder's name, device_io, incorrect_parameters.
Result<Held> hold(const char* chip, unsigned offset, const LineConfig& config);
void drop(Held& held);
// 0 or 1; -1 with errno.
int get(const Held& held);
int set(const Held& held, bool active);
// Call it when the line's fd is readable. 1; -1 with errno.
int read(const Held& held, Edge& out);
// What request() says of an errno. holder: the program that has the line, "" when not known.
Error refused(const LineConfig& config, int e, const char* holder);

}  // namespace slmd::hal::gpiod
