#include "hal/sim/script.h"

#include <string.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>

#include "base/file.h"

namespace slmd::hal::sim {
namespace {

constexpr const char* names[sensors] = {
    "thermal",      "thermal.throttle", "cpu.cap",      "cpu.max",         "power.undervoltage", "power.watts",
    "memory.total", "memory.available", "memory.limit", "memory.pressure", "storage.free",       "storage.read_only",
    "led",          "serial",           "watchdog"};

struct Parser {
    const char* path;
    const bool faults;
    Script script{};
    int number = 0;
    std::vector<std::string_view> words{};
    std::size_t at = 0;

    Error wrong(const char* what, std::string_view word = {}) const {
        return Error::make(Code::incorrect_parameters, "%s:%d: %s%s%.40s%s", path, number, what,
                           word.empty() ? "" : ": \"", std::string(word).c_str(), word.empty() ? "" : "\"");
    }
    bool more() const { return at < words.size(); }
    bool take(const char* word) { return more() && words[at] == word ? (at++, true) : false; }
    Result<double> value(double low, double high) {
        if (!more()) return wrong("a number is missing");
        const std::string word(words[at]);
        char* end;
        const double v = std::strtod(word.c_str(), &end);
        if (*end != 0 || !(v >= low && v <= high)) return wrong("not a number, or out of range", words[at]);
        at++;
        return v;
    }
    Result<std::uint64_t> seconds() { return static_cast<std::uint64_t>(std::llround(TRY(value(0, 1e7)) * 1000)); }
    // "thermal", "gpio.GPIO5"
    Result<void> target(int& sensor, int& line) {
        if (!more()) return wrong("the name of a sensor or line is missing");
        const std::string_view word = words[at++];
        if (word.substr(0, 5) == "gpio." && word.size() > 5) {
            const std::string name(word.substr(5));
            const auto found = std::find(script.lines.begin(), script.lines.end(), name);
            line = static_cast<int>(found - script.lines.begin());
            if (found == script.lines.end()) {
                if (script.lines.size() == 64) return wrong("at most 64 lines");
                script.lines.push_back(name);
            }
            return {};
        }
        for (int s = 0; s < sensors; s++)
            if (word == names[s]) return sensor = s, Result<void>{};
        return wrong("no such sensor (hal/sim/README.md lists them)", word);
    }
    Result<void> fault(Fault& out) {
        out = take("gone") ? Fault::gone : take("busy") ? Fault::busy : (take("io"), Fault::io);
        return {};
    }
    // "12.5 thermal 85 over 40", "20 fail thermal for 5"
    Result<void> event() {
        Event e;
        e.ms = TRY(seconds());
        const bool fails = faults && take("fail");
        TRY(target(e.sensor, e.line));
        if (fails) {
            TRY(fault(e.fault));
            if (take("for")) e.for_ms = TRY(seconds());
        } else if (e.sensor >= led) {
            return wrong("it has no value, it can only fail");
        } else {
            if (e.line >= 0 && take("open"))
                e.value = -1;
            else
                e.value = TRY(value(e.line >= 0 ? 0 : -100, e.line >= 0 ? 1 : 1e9));
            if (faults && e.line < 0 && take("over")) e.over_ms = TRY(seconds());
        }
        script.events.push_back(e);
        return {};
    }
    Result<void> statement() {
        at = 0;
        if (words[0][0] >= '0' && words[0][0] <= '9')
            TRY(event());
        else if (take("board"))
            script.board = more() ? words[at++] : "";
        else if (take("model"))
            for (; more(); at++) script.model += (script.model.empty() ? "" : " ") + std::string(words[at]);
        else if (faults && take("speed"))
            script.speed = TRY(value(0.01, 1e5));
        else if (faults && take("seed"))
            script.seed = static_cast<std::uint64_t>(TRY(value(1, 1e9)));
        else if (faults && take("log"))
            script.log = more() ? words[at++] : "";
        else if (faults && take("loop"))
            script.loop_ms = TRY(seconds());
        else if (faults && take("random")) {
            Chance c;
            if (!take("fail")) return wrong("write: random fail NAME [io|gone|busy] every SECONDS for SECONDS");
            TRY(target(c.sensor, c.line));
            TRY(fault(c.fault));
            if (!take("every")) return wrong("every SECONDS is missing");
            c.every_ms = TRY(seconds());
            if (!take("for")) return wrong("for SECONDS is missing");
            c.for_ms = TRY(seconds());
            if (c.every_ms == 0 || c.for_ms == 0) return wrong("more than 0 seconds");
            script.chances.push_back(c);
        } else
            return wrong("not understood", words[0]);
        if (more()) return wrong("too much on this line", words[at]);
        return {};
    }
};

}  // namespace

const char* name_of(Sensor sensor) { return names[sensor]; }

Result<Script> read_script(const char* path, bool faults) {
    const MappedFile file = TRY(MappedFile::open(path));
    Parser p{path, faults};
    std::string_view text{reinterpret_cast<const char*>(file.bytes().data()), file.bytes().size()};
    while (!text.empty()) {
        const std::string_view line = text.substr(0, text.find('\n'));
        text.remove_prefix(std::min(text.size(), line.size() + 1));
        p.number++;
        p.words.clear();
        std::string_view rest = line.substr(0, line.find('#'));
        while (true) {
            rest.remove_prefix(std::min(rest.size(), rest.find_first_not_of(" \t\r")));
            if (rest.empty()) break;
            p.words.push_back(rest.substr(0, rest.find_first_of(" \t\r")));
            rest.remove_prefix(p.words.back().size());
        }
        if (!p.words.empty()) TRY(p.statement());
    }
    Script& s = p.script;
    std::stable_sort(s.events.begin(), s.events.end(), [](const Event& a, const Event& b) { return a.ms < b.ms; });
    if (s.loop_ms != 0 && !s.events.empty() && s.events.back().ms >= s.loop_ms)
        return Error::make(Code::incorrect_parameters, "%s: loop %g: there are events after it", path,
                           static_cast<double>(s.loop_ms) / 1000);
    return std::move(s);
}

}  // namespace slmd::hal::sim
