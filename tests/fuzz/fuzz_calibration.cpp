// LINK: slmd_agent
// Calibrations of agents: what is read gives a probability for every answer, and is written as it was read.
#include <cmath>
#include <cstring>

#include "agent/calibration_file.h"
#include "file.h"

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size) {
    using namespace slmd;
    using namespace slmd::agent;
    static const fuzz::Folder folder;
    const std::string path = folder.put("some.calibration", {reinterpret_cast<const char*>(data), size});
    Calibration c;
    if (!read_calibration(path.c_str(), c)) return 0;
    Drift drift;
    drift.reset(c);
    float last = 0;
    bool good = true;
    for (int i = 0; i <= 300; i++) {
        const float s = static_cast<float>(i) / 300;
        const Features f{.min = s, .mean = s, .margin = s, .entropy = s};
        const float p = confidence(c, f);
        good = good && p > 0 && p < 1 && p >= last;
        last = p;
        drift.add(f);
    }
    good = good && std::isfinite(drift.psi()) && drift.psi() >= 0;
    Calibration back;
    good = good && static_cast<bool>(write_calibration(path.c_str(), c)) &&
           static_cast<bool>(read_calibration(path.c_str(), back)) &&
           std::memcmp(c.knots, back.knots, sizeof c.knots) == 0 && std::strcmp(c.model, back.model) == 0;
    if (!good) abort();
    return 0;
}
