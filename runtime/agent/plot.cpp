#include "agent/plot.h"

#include <algorithm>
#include <cstdio>

namespace slmd::agent {
namespace {

constexpr char before_colour[] = "#e09f3e", after_colour[] = "#2a6f97", ink[] = "#333", faint[] = "#ddd";
constexpr double width = 860, height = 452, side = 320, top = 84, left[] = {52, 496};

// Strokes of a character: points as digits x and y, 0 0 at the top left, baseline y 6, and a | where the pen is lifted.
struct Glyph {
    char character;
    const char* strokes;
};
constexpr Glyph glyphs[] = {
    {'0', "10 30 41 45 36 16 05 01 10"},
    {'1', "11 20 26"},
    {'2', "01 10 30 41 42 06 46"},
    {'3', "01 10 30 41 42 33 13|33 44 45 36 16 05"},
    {'4', "36 30 04 44"},
    {'5', "40 00 03 32 43 45 36 16 05"},
    {'6', "41 30 10 01 05 16 36 45 44 33 03"},
    {'7', "00 40 16"},
    {'8', "13 02 01 10 30 41 42 33 13 04 05 16 36 45 44 33"},
    {'9', "05 16 36 45 41 30 10 01 02 13 43"},
    {'a', "12 32 43 46|44 14 05 16 36 45"},
    {'b', "00 06|03 12 32 43 45 36 16 05"},
    {'c', "43 32 12 03 05 16 36 45"},
    {'d', "40 46|43 32 12 03 05 16 36 45"},
    {'e', "04 44 43 32 12 03 05 16 36 45"},
    {'f', "40 30 21 26|02 42"},
    {'g', "42 47 38 18 07|43 32 12 03 05 16 36 45"},
    {'h', "00 06|03 12 32 43 46"},
    {'i', "22 26|20 21"},
    {'j', "32 37 28 18|30 31"},
    {'k', "00 06|42 04 46"},
    {'l', "20 26"},
    {'m', "02 06|03 12 23 26|23 32 43 46"},
    {'n', "02 06|03 12 32 43 46"},
    {'o', "12 32 43 45 36 16 05 03 12"},
    {'p', "02 08|03 12 32 43 45 36 16 05"},
    {'q', "42 48|43 32 12 03 05 16 36 45"},
    {'r', "02 06|04 22 42"},
    {'s', "43 32 12 03 14 34 45 36 16 05"},
    {'t', "20 25 36 45|02 42"},
    {'u', "02 05 16 36 45|42 46"},
    {'v', "02 26 42"},
    {'w', "02 16 23 36 42"},
    {'x', "02 46|42 06"},
    {'y', "02 26|42 26 18 08"},
    {'z', "02 42 06 46"},
    {'.', "25 26"},
    {',', "25 26 17"},
    {':', "22 23|25 26"},
    {'-', "04 44"},
    {'_', "07 47"},
    {'/', "40 06"},
    {'(', "30 21 25 36"},
    {')', "10 21 25 16"},
};

class Drawing {
  public:
    [[gnu::format(printf, 2, 3)]] void add(const char* format, ...) {
        char text[512];
        va_list args;
        va_start(args, format);
        std::vsnprintf(text, sizeof text, format, args);
        va_end(args);
        svg += text;
    }
    // From x on, or, with `anchor` 0.5 or 1, around or up to it. size: of a small letter.
    void text(double x, double y, double size, double anchor, std::string_view s) {
        const double unit = size / 4;
        x -= anchor * 6 * unit * static_cast<double>(s.size());
        add("<path fill=\"none\" stroke=\"%s\" stroke-width=\"%.2f\" d=\"", ink, unit * 0.75);
        for (const char written : s) {
            const char c = static_cast<char>(written >= 'A' && written <= 'Z' ? written + 'a' - 'A' : written);
            for (const Glyph& g : glyphs) {
                if (g.character != c) continue;
                char pen = 'M';
                for (const char* p = g.strokes; *p != 0; p += *p != 0 ? 2 : 0) {
                    if (*p == '|') pen = 'M', p++;
                    if (*p == ' ') p++;
                    add("%c%.1f %.1f", pen, x + unit * (*p - '0'), y + unit * (p[1] - '6'));
                    pen = 'L';
                }
            }
            x += 6 * unit;
        }
        svg += "\"/>\n";
    }
    void line(double x1, double y1, double x2, double y2, const char* colour, const char* style = "") {
        add("<path stroke=\"%s\" %s d=\"M%.1f %.1fL%.1f %.1f\"/>\n", colour, style, x1, y1, x2, y2);
    }

    std::string svg;
};

// A square with axes from 0: x to 1, y to `most`.
struct Panel {
    Drawing& d;
    double from, most;

    double x(double v) const { return from + side * v; }
    double y(double v) const { return top + side * (1 - v / most); }
    void axes(const char* across, const char* up) const {
        for (int i = 0; i <= 5; i++) {
            char text[16];
            d.line(x(0), y(most * i / 5), x(1), y(most * i / 5), faint);
            std::snprintf(text, sizeof text, "%.*f", most < 0.5 ? 2 : 1, most * i / 5);
            d.text(from - 6, y(most * i / 5) + 4, 6, 1, text);
            d.line(x(i / 5.0), y(0), x(i / 5.0), y(most), faint);
            std::snprintf(text, sizeof text, "%.1f", i / 5.0);
            d.text(x(i / 5.0), y(0) + 18, 6, 0.5, text);
        }
        d.text(x(0), y(most) - 8, 6, 0, up);
        d.text(x(0.5), y(0) + 36, 6, 0.5, across);
    }
};

}  // namespace

std::string calibration_svg(const Fit& fit, std::string_view title) {
    Drawing d;
    d.add(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n<rect width=\"%.0f\" height=\"%.0f\" "
        "fill=\"#fff\"/>\n",
        width, height, width, height);
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
