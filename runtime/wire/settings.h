// How an answer is generated: one table of settings, used by AT#SET, by the JSON parameters of gen and chat, and by the
// daemon's configuration.
#pragma once
#include <cstdint>
#include <span>
#include <string_view>

#include "base/result.h"
#include "wire/text.h"

namespace slmd::wire {

struct Settings {
    static constexpr int max_stops = 4, max_bias = 8;
    static constexpr std::size_t stop_bytes = 32, name_bytes = 23;

    double temp = 0, top_p = 0.95, min_p = 0.05, rep = 1, doubt = 0;
    std::int64_t top_k = 40, seed = 0, max = 256, deadline_ms = 0;
    bool raw = false;
    struct Stop {
        char text[stop_bytes];
        std::uint8_t size;
        std::string_view view() const { return {text, size}; }
    } stop[max_stops] = {};
    int stops = 0;
    struct {
        std::int32_t token;
        float value;
    } bias[max_bias] = {};
    int biases = 0;
    char adapter[name_bytes + 1] = "";  // "": the model alone
};

// A value as it came over the wire, in either rendering.
struct Arg {
    enum Type : unsigned char { absent, number, text, array } type = absent;
    std::string_view string;  // text: the value; number: as it was written
    double value = 0;         // array: its node
};

enum class SettingType : unsigned char { integer, real, flag, texts, bias, name };

struct Setting {
    const char* name;
    SettingType type;
    double min, max;
    const char* fallback;  // as AT#SET shows it
    const char* help;
};

std::span<const Setting> settings_table();
const Setting* find_setting(std::string_view name);
// Errors: incorrect_parameters naming the setting and its range; text_too_long.
Result<void> assign(Settings& settings, const Setting& setting, std::span<const Arg> values);
// The value as AT (strings in quotes, several with commas) or as JSON.
void show(Line& line, const Settings& settings, const Setting& setting, bool json);

}  // namespace slmd::wire
