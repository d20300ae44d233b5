#include "daemon/governor.h"

#include <algorithm>

namespace slmd::daemon {

int Governor::level() const { return std::max({heat_level_, power_level_, clock_level_}); }

void Governor::set_limits(const Limits& limits) {
    limits_ = limits;
    heat_level_ = std::min(heat_level_, steps());
    decide();
}

void Governor::heat(const Readings& r, std::uint64_t now) {
    if (r.temperature == Readings::no_temperature) {  // a sensor that fails is no reason to speed up
        last_temperature_ = r.temperature;
        slope_ = 0;
        return;
    }
    const double seconds = static_cast<double>(now - last_ms_) / 1000;
    if (last_temperature_ != Readings::no_temperature && seconds > 0)
        // a first-order filter over some 4 s: sensors have steps of half a degree
        slope_ += ((r.temperature - last_temperature_) / 1000.0 / seconds - slope_) * std::min(1.0, seconds / 4);
    last_temperature_ = r.temperature;
    const int ahead = r.temperature + static_cast<int>(std::max(0.0, slope_) * lookahead_s * 1000);
    const std::uint64_t since = now - heat_changed_;
    int step = 0;
    if (r.temperature >= limits_.limit)
        step = slope_ < -0.1 ? 0 : 1;
    else if (ahead >= limits_.limit && r.temperature >= limits_.limit - 10'000)
        step = 1;
    else if (heat_level_ > 0 && r.temperature <= limits_.limit - hysteresis && ahead < limits_.limit - hysteresis / 2)
        step = -1;
    if (step > 0 && (heat_level_ == 0 || since >= settle_ms) && heat_level_ < steps()) {
        heat_level_++;
        heat_changed_ = now;
    } else if (step < 0 && since >= recover_ms) {
        heat_level_--;
        heat_changed_ = now;
    }
    const bool was_too_hot = too_hot_;
    too_hot_ = r.temperature >= limits_.stop || (too_hot_ && r.temperature >= limits_.limit);
    if (was_too_hot && !too_hot_) heat_changed_ = now;
    if (too_hot_ && heat_level_ < steps()) heat_level_ = steps(), heat_changed_ = now;
}

bool Governor::tick(const Readings& r, std::uint64_t now) {
    const int heat_before = heat_level_, power_before = power_level_, clock_before = clock_level_;
    const bool hot_before = too_hot_;
    heat(r, now);
    if (r.undervoltage) power_seen_ = now, power_level_ = std::max(1, limits_.threads / 2);
    if (power_level_ > 0 && now - power_seen_ >= hold_ms) power_level_ = 0;
    if (r.cap_khz > 0) {
        usual_khz_ = std::max(usual_khz_, r.cap_khz);
        if (r.cap_khz * 10 < usual_khz_ * 9) clock_seen_ = now, clock_level_ = 1;
    }
    if (clock_level_ > 0 && now - clock_seen_ >= hold_ms) clock_level_ = 0;
    if (r.pressure >= much_pressure) short_of_memory_ = true;
    if (r.pressure > little_pressure) memory_seen_ = now;
    if (short_of_memory_ && r.pressure >= 0 && now - memory_seen_ >= recover_ms) short_of_memory_ = false;
    last_ms_ = now;
    const Effort before = effort_;
    decide();
    if (effort_ == before) return false;
    cause_ = heat_level_ != heat_before || too_hot_ != hot_before ? "THERM"
             : power_level_ != power_before                       ? "POWER"
             : clock_level_ != clock_before                       ? "CLOCK"
                                                                  : "MEM";
    return true;
}

void Governor::decide() {
    constexpr int duties[] = {100, 60, 30, 10};
    const int level = this->level();
    effort_.threads = std::max(1, limits_.threads - level);
    effort_.duty = duties[std::clamp(level - limits_.threads + 1, 0, 3)];
    effort_.batch = std::max(std::min(8, limits_.batch), limits_.batch >> std::min(level, 2));
    if (short_of_memory_) effort_.batch = std::min(effort_.batch, 8);
    effort_.refuse = too_hot_ ? Effort::heat : short_of_memory_ ? Effort::memory : Effort::none;
}

}  // namespace slmd::daemon
