#include "wire/settings.h"

#include <cmath>
#include <cstdlib>
#include <cstring>

namespace slmd::wire {
namespace {

using enum SettingType;

constexpr Setting table[] = {
    {"temp", real, 0, 2, "0", "temperature; 0 always takes the most probable token"},
    {"topk", integer, 0, 256, "40", "draw from the k most probable tokens; 0 is all"},
    {"topp", real, 0, 1, "0.95", "draw from the most probable tokens of this total; 1 is off"},
    {"minp", real, 0, 1, "0.05", "least probability, relative to the best token; 0 is off"},
    {"rep", real, 0.5, 2, "1", "repetition penalty over the last 64 tokens; 1 is off"},
    {"seed", integer, 0, 9007199254740991.0, "0", "the same seed and request give the same answer"},
    {"max", integer, 1, 32768, "256", "tokens of an answer, at most"},
    {"stop", texts, 1, 4, "", "texts that end an answer: up to 4 of 32 bytes"},
    {"deadline_ms", integer, 0, 86400000, "0", "time for an answer, waiting included; 0 is none"},
    {"raw", flag, 0, 1, "0", "1: no chat template around the prompt"},
    {"adapter", name, 0, Settings::name_bytes, "",
     "adapter that answers; \"\" is the model alone (AT#ADAPTER? lists them)"},
    {"bias", bias, 0, 8, "", "logit biases \"token:value,...\", up to 8"},
    {"doubt", real, 0, 1, "0", "an answer of less probability is marked doubtful; 0 is off"},
};

std::int64_t* integer_of(Settings& s, const Setting& t) {
    const std::string_view n = t.name;
    return n == "topk" ? &s.top_k : n == "seed" ? &s.seed : n == "max" ? &s.max : &s.deadline_ms;
}
double* real_of(Settings& s, const Setting& t) {
    const std::string_view n = t.name;
    return n == "temp" ? &s.temp : n == "topp" ? &s.top_p : n == "minp" ? &s.min_p : n == "doubt" ? &s.doubt : &s.rep;
}

Result<void> assign_bias(Settings& s, std::string_view text) {
    const auto wrong = [] {
        return Error::make(Code::incorrect_parameters,
                           "bias: write \"token:value,token:value\", up to %d, values -100..100", Settings::max_bias);
    };
    Settings next = s;
    next.biases = 0;
    while (!text.empty()) {
        const std::string_view one = text.substr(0, text.find(','));
        text.remove_prefix(one.size() < text.size() ? one.size() + 1 : one.size());
        char copy[48], *end = nullptr;
        if (one.empty() || one.size() >= sizeof copy || next.biases == Settings::max_bias) return wrong();
        std::memcpy(copy, one.data(), one.size());
        copy[one.size()] = 0;
        const long token = std::strtol(copy, &end, 10);
        if (end == copy || *end != ':' || token < 0 || token > 0x7fffffff) return wrong();
        char* const from = end + 1;
        const double value = std::strtod(from, &end);
        if (end == from || *end != 0 || !(std::fabs(value) <= 100)) return wrong();
        next.bias[next.biases++] = {static_cast<std::int32_t>(token), static_cast<float>(value)};
    }
    s = next;
    return {};
}

}  // namespace

std::span<const Setting> settings_table() { return table; }

const Setting* find_setting(std::string_view name) {
    for (const Setting& t : table)
        if (name == t.name) return &t;
    return nullptr;
}

Result<void> assign(Settings& s, const Setting& t, std::span<const Arg> values) {
    const auto range = [&] {
        Line min, max;
        min.real(t.min).put('\0'), max.real(t.max).put('\0');
        return Error::make(Code::incorrect_parameters, "%s is a %s from %s to %s", t.name,
                           t.type == real ? "number" : "whole number", min.view().data(), max.view().data());
    };
    if (t.type == texts) {
        Settings next = s;
        next.stops = 0;
        for (const Arg& a : values) {
            if (a.type == Arg::absent || (a.type == Arg::text && a.string.empty())) continue;  // "" clears
            if (a.type != Arg::text) return Error::make(Code::incorrect_parameters, "%s takes texts in quotes", t.name);
            if (next.stops == Settings::max_stops)
                return Error::make(Code::incorrect_parameters, "%s takes at most %d texts", t.name,
                                   Settings::max_stops);
            if (a.string.size() > Settings::stop_bytes)
                return Error::make(Code::text_too_long, "%s: a text is at most %zu bytes", t.name,
                                   Settings::stop_bytes);
            auto& stop = next.stop[next.stops++];
            std::memcpy(stop.text, a.string.data(), a.string.size());
            stop.size = static_cast<std::uint8_t>(a.string.size());
        }
        s = next;
        return {};
    }
    if (values.size() != 1) return Error::make(Code::incorrect_parameters, "%s takes one value", t.name);
    const Arg& a = values[0];
    if (t.type == name) {
        if (a.type == Arg::number) return Error::make(Code::incorrect_parameters, "%s is a name in quotes", t.name);
        if (a.string.size() > Settings::name_bytes)
            return Error::make(Code::text_too_long, "%s: a name is at most %zu bytes", t.name, Settings::name_bytes);
        std::memset(s.adapter, 0, sizeof s.adapter);
        std::memcpy(s.adapter, a.string.data(), a.string.size());
        return {};
    }
    if (t.type == SettingType::bias) {
        if (a.type == Arg::number)
            return Error::make(Code::incorrect_parameters, "bias: write \"token:value,token:value\" in quotes");
        return assign_bias(s, a.string);
    }
    if (a.type != Arg::number || !(a.value >= t.min && a.value <= t.max) ||
        (t.type != real && a.value != std::floor(a.value)))
        return range();
    if (t.type == real)
        *real_of(s, t) = a.value;
    else if (t.type == flag)
        s.raw = a.value != 0;
    else
        *integer_of(s, t) = static_cast<std::int64_t>(a.value);
    return {};
}

void show(Line& line, const Settings& settings, const Setting& t, bool json) {
    Settings& s = const_cast<Settings&>(settings);  // the accessors are shared with assign()
    switch (t.type) {
        case integer: line.number(*integer_of(s, t)); break;
        case real: line.real(*real_of(s, t)); break;
        case flag: json ? line.put(s.raw ? "true" : "false") : line.put(s.raw ? '1' : '0'); break;
        case texts:
            if (json) line.put('[');
            for (int i = 0; i < s.stops; i++) {
                if (i > 0) line.put(',');
                json ? line.json_string(s.stop[i].view()) : line.at_string(s.stop[i].view());
            }
            if (json)
                line.put(']');
            else if (s.stops == 0)
                line.put("\"\"");
            break;
        case name: json ? line.json_string(s.adapter) : line.at_string(s.adapter); break;
        case SettingType::bias:
            line.put('"');
            for (int i = 0; i < s.biases; i++) {
                if (i > 0) line.put(',');
                line.number(s.bias[i].token).put(':').real(s.bias[i].value, 4);
            }
            line.put('"');
            break;
    }
}

}  // namespace slmd::wire
