#include "eval_plot.h"

#include <algorithm>
#include <cmath>
#include <cstdio>

namespace slmd::pack {
namespace {

constexpr double left = 70, right = 30, top = 20, bottom = 50, width = 760, height = 440;

std::string escaped(const std::string& text) {
    std::string out;
    for (const char c : text) {
        if (c == '<')
            out += "&lt;";
        else if (c == '>')
            out += "&gt;";
        else if (c == '&')
            out += "&amp;";
        else
            out += c;
    }
    return out;
}

template <class... Values>
void put(std::string& out, const char* format, Values... values) {
    char text[512];
    std::snprintf(text, sizeof text, format, values...);
    out += text;
}

}  // namespace

std::string plot_size_against_kl(const std::vector<PlotPoint>& points) {
    if (points.empty()) return {};
    double least = points[0].megabytes, most = least, low = 1, high = 1e-4;
    for (const PlotPoint& p : points) {
        least = std::min(least, p.megabytes);
        most = std::max(most, p.megabytes);
        low = std::min(low, std::max(p.kl, 1e-4));
        high = std::max(high, p.kl);
    }
    const double margin = std::max(1.0, 0.08 * (most - least));
    least -= margin;
    most += margin;
    const double from = std::floor(std::log10(low) * 2) / 2,
                 to = std::max(from + 0.5, std::ceil(std::log10(high) * 2) / 2);
    const auto x = [&](double mb) { return left + (mb - least) / (most - least) * (width - left - right); };
    const auto y = [&](double kl) {
        return top + (to - std::log10(std::max(kl, 1e-4))) / (to - from) * (height - top - bottom);
    };

    std::string svg;
    put(svg,
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n",
        width, height);
    put(svg, "<rect width=\"%.0f\" height=\"%.0f\" fill=\"white\"/>\n", width, height);
    for (double e = from; e <= to + 1e-9; e += 0.5) {
        const double kl = std::pow(10, e);
        put(svg, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#ddd\"/>\n", left, width - right,
            y(kl), y(kl));
        put(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"end\">%.3g</text>\n", left - 8, y(kl) + 4, kl);
    }
    const double step = std::pow(10, std::floor(std::log10((most - least) / 3)));
    const double every = (most - least) / step > 12 ? 5 * step : (most - least) / step > 6 ? 2 * step : step;
    for (double mb = std::ceil(least / every) * every; mb <= most; mb += every) {
        put(svg, "<line x1=\"%.1f\" x2=\"%.1f\" y1=\"%.1f\" y2=\"%.1f\" stroke=\"#eee\"/>\n", x(mb), x(mb), top,
            height - bottom);
        put(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">%g</text>\n", x(mb), height - bottom + 18, mb);
    }
    put(svg, "<text x=\"%.1f\" y=\"%.1f\" text-anchor=\"middle\">MB in the file</text>\n", (left + width - right) / 2,
        height - 10);
    put(svg,
        "<text transform=\"translate(16 %.1f) rotate(-90)\" text-anchor=\"middle\">KL from the source, nats a "
        "token</text>\n",
        (top + height - bottom) / 2);
    for (const PlotPoint& p : points) {
        put(svg, "<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" stroke=\"#c33\" fill=\"%s\"/>\n", x(p.megabytes), y(p.kl),
            p.image ? "#c33" : "none");
        const bool flip = x(p.megabytes) > width * 0.7;
        svg += "<text x=\"" + std::to_string(x(p.megabytes) + (flip ? -9 : 9)) + "\" y=\"" +
               std::to_string(y(p.kl) + 4) + "\"" + (flip ? " text-anchor=\"end\"" : "") + ">" + escaped(p.name) +
               "</text>\n";
    }
    return svg + "</svg>\n";
}

}  // namespace slmd::pack
