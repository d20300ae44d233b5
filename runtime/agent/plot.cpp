#include "agent/plot.h"

#include <algorithm>
#include <cstdio>

#include "agent/drawing.h"

namespace slmd::agent {
namespace {

using namespace drawing;

constexpr const char *before_colour = first_colour, *after_colour = second_colour;

}  // namespace

std::string calibration_svg(const Fit& fit, std::string_view title) {
    Drawing d;
    d.begin();
    d.text(left[0], 24, 9, 0, title.substr(0, 58));
    const struct {
        const std::vector<Judged>& answers;
        const char* colour;
        Calibration::Quality quality;
        std::string name;
    } series[] = {{fit.before, before_colour, fit.calibration.before, "before (mean)"},
                  {fit.after, after_colour, fit.calibration.after,
                   std::string("after (") + feature_name(fit.calibration.feature) + ")"}};

    const Panel reliable{d, left[0], 1};
    reliable.axes("confidence", "right answers");
    d.line(reliable.x(0), reliable.y(0), reliable.x(1), reliable.y(1), ink, "stroke-dasharray=\"4 3\"");

    const RiskCoverage risks[] = {RiskCoverage(fit.before), RiskCoverage(fit.after)};
    constexpr int points = 200;
    const int first = static_cast<int>(points / std::min<std::size_t>(points, fit.before.size()));
    double worst = 0;
    for (const RiskCoverage& r : risks)
        for (int i = first; i <= points; i++) worst = std::max(worst, r.risk(static_cast<double>(i) / points));
    double most = 1;
    for (const double round : {0.5, 0.25, 0.1, 0.05})
        if (worst <= round) most = round;
    const Panel risky{d, left[1], most};
    risky.axes("coverage", "risk: wrong answers among the surest");

    for (int s = 0; s < 2; s++) {
        const double at = left[s];
        d.add("<rect x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", at, series[s].colour);
        char text[96];
        std::snprintf(text, sizeof text, "%s: ece %.3f, brier %.3f", series[s].name.c_str(),
                      static_cast<double>(series[s].quality.ece), static_cast<double>(series[s].quality.brier));
        d.text(at + 20, 52, 6, 0, text);
        const auto begin = [&] {
            d.add("<path fill=\"none\" stroke=\"%s\" stroke-width=\"2\" d=\"", series[s].colour);
        };
        begin();
        char pen = 'M';
        const std::vector<Bin> bins = reliability(series[s].answers);
        for (const Bin& b : bins) {
            d.add("%c%.1f %.1f", pen, reliable.x(b.confidence), reliable.y(b.right));
            pen = 'L';
        }
        d.svg += "\"/>\n";
        for (const Bin& b : bins)
            d.add("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"3.5\" fill=\"%s\"/>\n", reliable.x(b.confidence),
                  reliable.y(b.right), series[s].colour);
        begin();
        pen = 'M';
        for (int i = first; i <= points; i++) {
            const double coverage = static_cast<double>(i) / points;
            d.add("%c%.1f %.1f", pen, risky.x(coverage), risky.y(risks[s].risk(coverage)));
            pen = 'L';
        }
        d.svg += "\"/>\n";
    }
    return d.svg + "</svg>\n";
}

}  // namespace slmd::agent
