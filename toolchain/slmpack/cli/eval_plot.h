// The picture of an evaluation: size against KL, as SVG.
#pragma once
#include <string>
#include <vector>

namespace slmd::pack {

struct PlotPoint {
    std::string name;
    double megabytes = 0, kl = 0;
    bool image = false;  // drawn filled; others as rings
};

// Logarithmic in KL. Empty without points.
std::string plot_size_against_kl(const std::vector<PlotPoint>& points);

}  // namespace slmd::pack
