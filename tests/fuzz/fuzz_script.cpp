// LINK: slmd_hal
// Scripts of the simulation, and traces; what can be read is run for ten simulated minutes.
#include "file.h"
#include "hal/sim/sim.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd::hal;
    static const slmd::fuzz::Folder folder;
    if (size == 0) return 0;
    const std::string path = folder.put("script", {reinterpret_cast<const char*>(data), size});
    for (const bool faults : {false, true}) {
        auto script = sim::read_script(path.c_str(), faults);
        if (!script) continue;
        script->log.clear();  // it would write wherever the input says
        for (auto& c : script->chances) c.every_ms = std::max<std::uint64_t>(c.every_ms, 1000);
        if (script->loop_ms != 0) script->loop_ms = std::max<std::uint64_t>(script->loop_ms, 1000);
        auto opened = sim::Sim::open(std::move(script).value(), true);
        if (!opened) abort();
        sim::Sim& s = *opened.value();
        for (int i = 0; i < 60; i++) {
            (void)!static_cast<bool>(s.thermal().temperature());
            (void)!static_cast<bool>(s.power().microjoules());
            (void)!static_cast<bool>(s.board().memory());
            LineConfig line;
            line.name = "A", line.edges = i % 2 == 0, line.output = i % 3 == 0;
            const auto n = s.gpio().request(line);
            s.advance(10'000);
            Edge edges[8];
            (void)!static_cast<bool>(s.gpio().edges(edges));
            if (n) (void)!static_cast<bool>(s.gpio().set(n.value(), true)), s.gpio().release(n.value());
        }
    }
    return 0;
}
