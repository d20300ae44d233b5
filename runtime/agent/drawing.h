// Two diagrams side by side, as SVG text. It loads nothing: its letters are strokes of its own, so that it reads the
// same where there are no fonts.
#pragma once
#include <string>
#include <string_view>

namespace slmd::agent::drawing {

constexpr char first_colour[] = "#e09f3e", second_colour[] = "#2a6f97", third_colour[] = "#6a994e", ink[] = "#333",
               faint[] = "#ddd";
constexpr double width = 860, height = 452, side = 320, top = 84, left[] = {52, 496};

// At most 511 bytes more.
[[gnu::format(printf, 2, 3)]] void append(std::string& to, const char* format, ...);

class Drawing {
  public:
    void begin();  // white, width by height
    [[gnu::format(printf, 2, 3)]] void add(const char* format, ...);
    // From x on, or, with `anchor` 0.5 or 1, around or up to it. size: of a small letter. In ASCII; what else it holds
    // is left out.
    void text(double x, double y, double size, double anchor, std::string_view s);
    void line(double x1, double y1, double x2, double y2, const char* colour, const char* style = "");

    std::string svg;
};

// The end of an axis on which all up to `most` has room: 1, 2, 2.5 or 5 times a power of ten.
double nice(double most);

// A square with axes from 0: x to `across_most`, y to `most`.
struct Panel {
    Drawing& d;
    double from, most, across_most = 1;

    double x(double v) const { return from + side * v / across_most; }
    double y(double v) const { return top + side * (1 - v / most); }
    void axes(const char* across, const char* up) const;
};

}  // namespace slmd::agent::drawing
