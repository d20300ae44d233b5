#include "client/graph.h"

#include <stdio.h>

#include <algorithm>
#include <memory>
#include <new>
#include <string>
#include <vector>

#include "agent/pipeline.h"
#include "client/caller.h"

namespace slmd::client {
namespace {

using agent::Pipeline;
using agent::Rule;
using agent::Step;

constexpr int box_width = 180, box_height = 46, column = 240, row = 120, margin = 30;

std::string escaped(std::string_view text) {
    std::string out;
    for (const char c : text)
        out += c == '<' ? "&lt;" : c == '>' ? "&gt;" : c == '&' ? "&amp;" : c == '"' ? "&quot;" : std::string(1, c);
    return out;
}

// What a rule asks for, in few words; "": nothing.
std::string condition(const Rule& r) {
    std::string out;
    const auto add = [&](const std::string& what) { out += (out.empty() ? "" : ", ") + what; };
    const auto number = [](double v) {
        char text[32];
        snprintf(text, sizeof text, "%g", v);
        return std::string(text);
    };
    if (!r.answer.empty()) add(std::string(r.answer));
    if (!r.verdict.empty()) add(std::string(r.verdict));
    if (r.below <= 1) add("confidence < " + number(r.below));
    if (r.least >= 0) add("confidence >= " + number(r.least));
    if (!r.is.empty()) add(std::string(r.at) + " is " + std::string(r.is));
    if (r.above > -1e308) add(std::string(r.at) + " > " + number(r.above));
    if (r.under < 1e308) add(std::string(r.at) + " < " + number(r.under));
    return out;
}

struct Place {
    int level = -1, index = 0;
    int x() const { return margin + index * column; }
    int y() const { return margin + level * row; }
};

// As far down as its longest way from the first step, ways back left out.
std::vector<Place> lay_out(const Pipeline& p) {
    std::vector<Place> places(p.steps.size());
    places[0].level = 0;
    for (std::size_t i = 0; i < p.steps.size(); i++)
        for (const Rule& r : p.steps[i].rules)
            for (const std::uint8_t to : r.to)
                if (to > i) places[to].level = std::max(places[to].level, places[i].level + 1);
    std::vector<int> width(p.steps.size() + 2);
    for (Place& at : places) {
        at.level = std::max(at.level, 1 - (&at == places.data()));
        at.index = width[static_cast<std::size_t>(at.level)]++;
    }
    return places;
}

}  // namespace

int graph_pipeline(const char* file) {
    constexpr std::size_t bytes = 1 << 20;
    const std::unique_ptr<std::byte[]> block(new (std::nothrow) std::byte[bytes]);
    if (!block) return complain(Error::make(Code::memory_full, "no memory"), exit_failed);
    grammar::Heap heap({block.get(), bytes});
    if (!agent::is_pipeline(file)) {
        const auto why = agent::read_agent(file, heap);
        return complain(
            why ? Error::make(Code::incorrect_parameters, "%s: an agent, and no pipeline: it has no [[step]]", file)
                : why.error(),
            exit_failed);
    }
    const auto read = agent::read_pipeline(file, heap);
    if (!read) return complain(read.error(), exit_failed);
    const Pipeline& p = read.value();
    const std::vector<Place> places = lay_out(p);
    int right = 0, bottom = 0;
    for (const Place& at : places) right = std::max(right, at.x() + column), bottom = std::max(bottom, at.y() + row);
    printf(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" width=\"%d\" height=\"%d\" font-family=\"sans-serif\" "
        "font-size=\"12\">\n",
        right, bottom);
    printf(
        "<defs><marker id=\"tip\" viewBox=\"0 0 8 8\" refX=\"8\" refY=\"4\" markerWidth=\"8\" markerHeight=\"8\" "
        "orient=\"auto\"><path d=\"M0,0 8,4 0,8z\" fill=\"#555\"/></marker></defs>\n"
        "<rect width=\"100%%\" height=\"100%%\" fill=\"white\"/>\n");
    for (std::size_t i = 0; i < p.steps.size(); i++) {
        int nth = 0;
        for (const Rule& r : p.steps[i].rules) {
            const std::string asks = condition(r);
            const int from_x = places[i].x() + 20 + 40 * (nth % 4), from_y = places[i].y() + box_height;
            for (const std::uint8_t to : r.to) {
                const bool back = places[to].level <= places[i].level;
                const int to_x = places[to].x() + box_width / 2 + (back ? box_width / 2 : 0),
                          to_y = back ? places[to].y() + box_height / 2 : places[to].y(), bend = back ? 60 : 40;
                printf(
                    "<path d=\"M%d,%d C%d,%d %d,%d %d,%d\" fill=\"none\" stroke=\"#555\" marker-end=\"url(#tip)\"/>\n",
                    from_x, from_y, from_x, from_y + bend, to_x + (back ? bend : 0), to_y - (back ? 0 : bend), to_x,
                    to_y);
            }
            if (!asks.empty() || r.to.empty())
                printf("<text x=\"%d\" y=\"%d\" fill=\"#06c\">%s%s</text>\n", from_x + 4, from_y + 14 + 14 * nth,
                       escaped(asks).c_str(), r.to.empty() ? (asks.empty() ? "end" : ": end") : "");
            nth++;
        }
    }
    for (std::size_t i = 0; i < p.steps.size(); i++) {
        const Step& s = p.steps[i];
        printf("<rect x=\"%d\" y=\"%d\" width=\"%d\" height=\"%d\" rx=\"6\" fill=\"#eef4fb\" stroke=\"#357\"%s/>\n",
               places[i].x(), places[i].y(), box_width, box_height, s.join ? " stroke-width=\"3\"" : "");
        printf(
            "<text x=\"%d\" y=\"%d\" font-weight=\"bold\">%s</text><text x=\"%d\" y=\"%d\" fill=\"#555\">%s%s</text>\n",
            places[i].x() + 8, places[i].y() + 18, escaped(s.name).c_str(), places[i].x() + 8, places[i].y() + 36,
            escaped(s.agent).c_str(), s.join ? " (waits for all)" : "");
    }
    puts("</svg>");
    return 0;
}

}  // namespace slmd::client
