// libgpiod 1.6 (Debian 12): a line is asked for at its chip.
#include <errno.h>
#include <gpiod.h>
#include <stdio.h>
#include <string.h>

#include "hal/linux/gpiod.h"

namespace slmd::hal::gpiod {
namespace {

gpiod_line* line_of(const Held& held) { return static_cast<gpiod_line*>(held.line); }

}  // namespace

bool has_label(const char* path, const char* label) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return false;
    const bool same = strcmp(gpiod_chip_label(chip), label) == 0;
    gpiod_chip_close(chip);
    return same;
}

int find(const char* path, const char* name) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return -1;
    gpiod_line* const line = gpiod_chip_find_line(chip, name);
    const int offset = line == nullptr ? -1 : static_cast<int>(gpiod_line_offset(line));
    gpiod_chip_close(chip);
    return offset;
}

Result<Held> hold(const char* path, unsigned offset, const LineConfig& config) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return refused(config, errno, "");
    gpiod_line* const line = gpiod_chip_get_line(chip, offset);
    gpiod_line_request_config request{};
    request.consumer = consumer;
    request.request_type = config.output  ? GPIOD_LINE_REQUEST_DIRECTION_OUTPUT
                           : config.edges ? GPIOD_LINE_REQUEST_EVENT_BOTH_EDGES
                                          : GPIOD_LINE_REQUEST_DIRECTION_INPUT;
    request.flags = (config.active_low ? GPIOD_LINE_REQUEST_FLAG_ACTIVE_LOW : 0) |
                    (config.pull == Pull::up     ? GPIOD_LINE_REQUEST_FLAG_BIAS_PULL_UP
                     : config.pull == Pull::down ? GPIOD_LINE_REQUEST_FLAG_BIAS_PULL_DOWN
                     : config.pull == Pull::off  ? GPIOD_LINE_REQUEST_FLAG_BIAS_DISABLE
                                                 : 0);
    if (line == nullptr || gpiod_line_request(line, &request, 0) != 0) {
        const int e = errno;
        char holder[32] = "";
        if (line != nullptr && gpiod_line_update(line) == 0 && gpiod_line_consumer(line) != nullptr)
            snprintf(holder, sizeof holder, "%s", gpiod_line_consumer(line));
        gpiod_chip_close(chip);
        return refused(config, e, holder);
    }
    return Held{chip, line, offset, config.edges ? gpiod_line_event_get_fd(line) : -1};
}

void drop(Held& held) { gpiod_chip_close(static_cast<gpiod_chip*>(held.chip)); }

int get(const Held& held) { return gpiod_line_get_value(line_of(held)); }

int set(const Held& held, bool active) { return gpiod_line_set_value(line_of(held), active); }

int read(const Held& held, Edge& out) {
    gpiod_line_event event;
    if (gpiod_line_event_read(line_of(held), &event) != 0) return -1;
    out.active = event.event_type == GPIOD_LINE_EVENT_RISING_EDGE;
    out.ns = static_cast<std::int64_t>(event.ts.tv_sec) * 1'000'000'000 + event.ts.tv_nsec;
    return 1;
}

}  // namespace slmd::hal::gpiod
