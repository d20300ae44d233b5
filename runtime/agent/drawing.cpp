#include "agent/drawing.h"

#include <cstdarg>
#include <cstdio>

namespace slmd::agent::drawing {
namespace {

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
    {'\'', "20 21"},
    {'%', "40 06|10 11|35 36"},
    {'+', "22 26|04 44"},
    {'=', "03 43|05 45"},
    {'(', "30 21 25 36"},
    {')', "10 21 25 16"},
};

}  // namespace

void Drawing::begin() {
    add("<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 %.0f %.0f\">\n<rect width=\"%.0f\" height=\"%.0f\" "
        "fill=\"#fff\"/>\n",
        width, height, width, height);
}

namespace {

void append_list(std::string& to, const char* format, va_list args) {
    char text[512];
    std::vsnprintf(text, sizeof text, format, args);
    to += text;
}

}  // namespace

void append(std::string& to, const char* format, ...) {
    va_list args;
    va_start(args, format);
    append_list(to, format, args);
    va_end(args);
}

void Drawing::add(const char* format, ...) {
    va_list args;
    va_start(args, format);
    append_list(svg, format, args);
    va_end(args);
}

void Drawing::text(double x, double y, double size, double anchor, std::string_view s) {
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

void Drawing::line(double x1, double y1, double x2, double y2, const char* colour, const char* style) {
    add("<path stroke=\"%s\" %s d=\"M%.1f %.1fL%.1f %.1f\"/>\n", colour, style, x1, y1, x2, y2);
}

double nice(double most) {
    double unit = 1;
    while (unit < most) unit *= 10;
    while (unit / 10 >= most && unit > 1e-12) unit /= 10;
    for (const double part : {0.1, 0.2, 0.25, 0.5})
        if (unit * part >= most) return unit * part;
    return unit;
}

void Panel::axes(const char* across, const char* up) const {
    for (int i = 0; i <= 5; i++) {
        char text[16];
        d.line(x(0), y(most * i / 5), x(across_most), y(most * i / 5), faint);
        std::snprintf(text, sizeof text, "%.*f", most < 0.5 ? 2 : most < 5 ? 1 : 0, most * i / 5);
        d.text(from - 6, y(most * i / 5) + 4, 6, 1, text);
        const double at = across_most * i / 5;
        d.line(x(at), y(0), x(at), y(most), faint);
        std::snprintf(text, sizeof text, across_most == 1 ? "%.1f" : "%.4g", at);
        d.text(x(at), y(0) + 18, 6, 0.5, text);
    }
    d.text(x(0), y(most) - 8, 6, 0, up);
    d.text(x(across_most / 2), y(0) + 36, 6, 0.5, across);
}

}  // namespace slmd::agent::drawing
