// libgpiod 2.x (Debian 13): a request holds lines, and the chip may be closed at once.
#include <errno.h>
#include <gpiod.h>
#include <stdio.h>
#include <string.h>

#include "hal/linux/gpiod.h"

namespace slmd::hal::gpiod {
namespace {

gpiod_line_request* request_of(const Held& held) { return static_cast<gpiod_line_request*>(held.line); }

}  // namespace

bool has_label(const char* path, const char* label) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return false;
    gpiod_chip_info* const info = gpiod_chip_get_info(chip);
    const bool same = info != nullptr && strcmp(gpiod_chip_info_get_label(info), label) == 0;
    gpiod_chip_info_free(info);
    gpiod_chip_close(chip);
    return same;
}

int find(const char* path, const char* name) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return -1;
    const int offset = gpiod_chip_get_line_offset_from_name(chip, name);
    gpiod_chip_close(chip);
    return offset;
}

Result<Held> hold(const char* path, unsigned offset, const LineConfig& config) {
    gpiod_chip* const chip = gpiod_chip_open(path);
    if (chip == nullptr) return refused(config, errno, "");
    gpiod_line_settings* const settings = gpiod_line_settings_new();
    gpiod_line_config* const lines = gpiod_line_config_new();
    gpiod_request_config* const asked = gpiod_request_config_new();
    gpiod_line_request* request = nullptr;
    errno = ENOMEM;
    if (settings != nullptr && lines != nullptr && asked != nullptr) {
        gpiod_line_settings_set_direction(settings,
                                          config.output ? GPIOD_LINE_DIRECTION_OUTPUT : GPIOD_LINE_DIRECTION_INPUT);
        gpiod_line_settings_set_output_value(settings, GPIOD_LINE_VALUE_INACTIVE);
        gpiod_line_settings_set_active_low(settings, config.active_low);
        if (config.edges) gpiod_line_settings_set_edge_detection(settings, GPIOD_LINE_EDGE_BOTH);
        if (config.pull != Pull::as_is)
            gpiod_line_settings_set_bias(settings, config.pull == Pull::up     ? GPIOD_LINE_BIAS_PULL_UP
                                                   : config.pull == Pull::down ? GPIOD_LINE_BIAS_PULL_DOWN
                                                                               : GPIOD_LINE_BIAS_DISABLED);
        gpiod_request_config_set_consumer(asked, consumer);
        if (gpiod_line_config_add_line_settings(lines, &offset, 1, settings) == 0)
            request = gpiod_chip_request_lines(chip, asked, lines);
    }
    const int e = errno;
    char holder[32] = "";
    if (request == nullptr) {
        if (gpiod_line_info* const info = gpiod_chip_get_line_info(chip, offset)) {
            if (gpiod_line_info_get_consumer(info) != nullptr)
                snprintf(holder, sizeof holder, "%s", gpiod_line_info_get_consumer(info));
            gpiod_line_info_free(info);
        }
    }
    gpiod_request_config_free(asked);
    gpiod_line_config_free(lines);
    gpiod_line_settings_free(settings);
    gpiod_edge_event_buffer* const events =
        request != nullptr && config.edges ? gpiod_edge_event_buffer_new(1) : nullptr;
    gpiod_chip_close(chip);
    if (request != nullptr && config.edges && events == nullptr) {
        gpiod_line_request_release(request);
        return refused(config, ENOMEM, "");
    }
    if (request == nullptr) return refused(config, e, holder);
    return Held{events, request, offset, config.edges ? gpiod_line_request_get_fd(request) : -1};
}

void drop(Held& held) {
    gpiod_line_request_release(request_of(held));
    gpiod_edge_event_buffer_free(static_cast<gpiod_edge_event_buffer*>(held.chip));
}

int get(const Held& held) { return gpiod_line_request_get_value(request_of(held), held.offset); }

int set(const Held& held, bool active) {
    return gpiod_line_request_set_value(request_of(held), held.offset,
                                        active ? GPIOD_LINE_VALUE_ACTIVE : GPIOD_LINE_VALUE_INACTIVE);
}

int read(const Held& held, Edge& out) {
    auto* const events = static_cast<gpiod_edge_event_buffer*>(held.chip);
    if (gpiod_line_request_read_edge_events(request_of(held), events, 1) != 1) return -1;
    gpiod_edge_event* const event = gpiod_edge_event_buffer_get_event(events, 0);
    out.active = gpiod_edge_event_get_event_type(event) == GPIOD_EDGE_EVENT_RISING_EDGE;
    out.ns = static_cast<std::int64_t>(gpiod_edge_event_get_timestamp_ns(event));
    return 1;
}

}  // namespace slmd::hal::gpiod
