#include "client/compare.h"

#include <errno.h>
#include <string.h>

#include <algorithm>
#include <map>
#include <memory>
#include <new>

#include "agent/calibrate.h"
#include "agent/drawing.h"
#include "client/ledger_files.h"
#include "client/ledger_report.h"

namespace slmd::client {
namespace {

constexpr std::size_t compare_bytes = 16u << 20;

struct Large {
    std::string answer;
    double ms, cost;
};

struct Candidate {
    std::string name;
    std::vector<LocalAnswer> said;
    std::vector<Mix> all;
};

std::vector<std::string> names_in(const std::string& list) {
    std::vector<std::string> out;
    for (std::size_t at = 0; at <= list.size();) {
        const std::size_t end = std::min(list.find(',', at), list.size());
        if (end > at) out.push_back(list.substr(at, end - at));
        at = end + 1;
    }
    return out;
}

Result<std::map<std::string, Large>> read_large(const char* path, const Prices& prices) {
    std::map<std::string, Large> out;
    constexpr std::string_view left[] = {"input", "answer"};
    TRY(read_json_lines(path, left, [&](const JsonReader& reader, int number) -> Result<void> {
        const JsonNode& root = reader.root();
        const JsonNode *input = reader.find(root, "input"), *answer = reader.find(root, "answer");
        if (root.type != JsonType::object || input == nullptr || answer == nullptr)
            return Error::make(
                Code::incorrect_parameters,
                "%s:%d: a line is {\"input\": ..., \"answer\": ..., \"tokens_in\": N, \"tokens_out\": N, "
                "\"ms\": N}",
                path, number);
        const auto value = [&](const char* name) {
            const JsonNode* const n = reader.find(root, name);
            return n != nullptr && n->type == JsonType::number ? n->number : 0;
        };
        out[std::string(input->text)] = {std::string(answer->text), value("ms"),
                                         prices.in * value("tokens_in") + prices.out * value("tokens_out")};
        return {};
    }));
    return out;
}

struct Times {
    std::vector<std::uint32_t> ms;
    void add(double v) { ms.push_back(static_cast<std::uint32_t>(std::clamp(v, 0.0, 4e9))); }
    double at(double share) {
        std::sort(ms.begin(), ms.end());
        return percentile(ms, share);
    }
};

double right_share(const auto& answers) {
    double right = 0;
    for (const auto& a : answers) right += a.right;
    return answers.empty() ? 0 : right / static_cast<double>(answers.size());
}

void print_local(const Candidate& c, FILE* out) {
    Times times;
    double joules = 0, known = 0;
    std::vector<agent::Judged> judged;
    for (const LocalAnswer& a : c.said) {
        times.add(a.ms);
        judged.push_back({a.confidence, a.right});
        if (a.joules >= 0) joules += a.joules, known++;
    }
    fprintf(out, "%-20s %6.1f %%  %6.3f  %6.3f  %8.0f %8.0f  ", c.name.c_str(), 100 * right_share(c.said),
            auroc(c.said), agent::ece(judged), times.at(0.5), times.at(0.95));
    if (known > 0)
        fprintf(out, "%8.2f", joules / known);
    else
        fputs("       -", out);
    fputs("         0\n", out);
}

void print_large(std::span<const LargeAnswer> large, FILE* out) {
    Times times;
    double cost = 0;
    for (const LargeAnswer& a : large) times.add(a.ms), cost += a.cost;
    fprintf(out, "%-20s %6.1f %%  %6s  %6s  %8.0f %8.0f  %8s  %8.4f\n", "large model", 100 * right_share(large), "", "",
            times.at(0.5), times.at(0.95), "-", 1000 * cost / static_cast<double>(large.size()));
}

// Chosen on one half of the cases, what is it on the other?
void print_held_out(const Candidate& c, std::span<const LargeAnswer> large, double quality, FILE* out) {
    std::vector<LocalAnswer> local[2];
    std::vector<LargeAnswer> cloud[2];
    for (std::size_t i = 0; i < c.said.size(); i++) {
        const std::size_t half = (i * 2654435761u >> 16) % 2;  // cases may lie in some order
        local[half].push_back(c.said[i]), cloud[half].push_back(large[i]);
    }
    double right = 0, escalated = 0;
    for (int h = 0; h < 2; h++) {
        const auto chosen_from = mixes(local[h], cloud[h]);
        const Mix* const chosen = cheapest(chosen_from, quality);
        const double threshold = chosen != nullptr ? chosen->threshold : 1.01;
        const auto& other = local[1 - h];
        for (std::size_t i = 0; i < other.size(); i++) {
            const bool leaves =
                threshold >= 0 && (other[i].failed || !(static_cast<double>(other[i].confidence) >= threshold));
            right += leaves ? cloud[1 - h][i].right : other[i].right;
            escalated += leaves;
        }
    }
    const auto n = static_cast<double>(c.said.size());
    fprintf(out, "  a threshold that half of the cases choose gives the other half %.1f %% right, %.1f %% escalated\n",
            100 * right / n, 100 * escalated / n);
}

std::string csv(std::span<const Candidate> candidates, std::span<const LargeAnswer> large) {
    std::string to = "agent,threshold,escalated,right,right_random,right_oracle,cost,ms\n";
    for (const Candidate& c : candidates)
        for (const Mix& m : c.all)
            agent::drawing::append(to, "\"%s\",%.6f,%.6f,%.6f,%.6f,%.6f,%.9f,%.1f\n", c.name.c_str(), m.threshold,
                                   m.escalated, m.right, random_right(c.said, large, m.escalated),
                                   oracle_right(c.said, large, m.escalated), m.cost, m.ms);
    return to;
}

// Left: right answers by the share that leaves; whole: by confidence, dashed: the oracle, thin: by chance. Right: by
// cost.
std::string svg(std::span<const Candidate> candidates, std::span<const LargeAnswer> large, const Mix* chosen) {
    using namespace agent::drawing;
    Drawing d;
    d.begin();
    d.text(left[0], 24, 9, 0, "right answers by what leaves, and by what it costs");
    double most = 0;
    for (const LargeAnswer& a : large) most += a.cost;
    most = most > 0 ? 1000 * most / static_cast<double>(large.size()) : 1;
    const Panel share{d, left[0], 1}, cost{d, left[1], 1, nice(most)};
    share.axes("share that leaves", "right answers");
    cost.axes("cost of 1000 requests", "right answers");
    constexpr const char* colours[] = {second_colour, first_colour, third_colour};
    const auto curve = [&](const char* colour, const char* style, auto&& point) {
        d.add("<path fill=\"none\" stroke=\"%s\" %s d=\"", colour, style);
        char pen = 'M';
        for (int i = 0; i <= 100; i++) {
            const auto [x, y] = point(i / 100.0);
            d.add("%c%.1f %.1f", pen, x, y);
            pen = 'L';
        }
        d.svg += "\"/>\n";
    };
    double x = left[0];
    for (std::size_t i = 0; i < candidates.size(); i++) {
        const Candidate& c = candidates[i];
        const char* const colour = colours[i % 3];
        d.add("<rect x=\"%.1f\" y=\"42\" width=\"12\" height=\"12\" fill=\"%s\"/>\n", x, colour);
        d.text(x + 20, 52, 6, 0, c.name.substr(0, 20));
        x += 40 + 9 * static_cast<double>(std::min<std::size_t>(c.name.size(), 20));
        curve(colour, "stroke-width=\"2\"", [&](double s) {
            return std::pair{share.x(s), share.y(at_share(c.all, s).right)};
        });
        curve(colour, "stroke-dasharray=\"6 4\"", [&](double s) {
            return std::pair{share.x(s), share.y(oracle_right(c.said, large, s))};
        });
        curve(colour, "stroke-width=\"0.7\"", [&](double s) {
            return std::pair{share.x(s), share.y(random_right(c.said, large, s))};
        });
        curve(colour, "stroke-width=\"2\"", [&](double s) {
            const Mix& m = at_share(c.all, s);
            return std::pair{cost.x(1000 * m.cost), cost.y(m.right)};
        });
    }
    if (chosen != nullptr)
        d.add("<circle cx=\"%.1f\" cy=\"%.1f\" r=\"5\" fill=\"none\" stroke=\"%s\" stroke-width=\"2\"/>\n",
              cost.x(1000 * chosen->cost), cost.y(chosen->right), ink);
    return d.svg + "</svg>\n";
}

}  // namespace

Result<void> compare(const CompareCommand& command, const Ask& ask, FILE* out) {
    const Prices prices = TRY(read_prices(command.prices));
    const auto cases = TRY(read_labelled(command.cases));
    const std::vector<std::string> names = names_in(command.agents);
    if (names.empty()) return Error::make(Code::incorrect_parameters, "compare what? --agents a,b");
    const std::unique_ptr<std::byte[]> block(new (std::nothrow) std::byte[compare_bytes]);
    if (!block) return Error::make(Code::memory_full, "no memory");
    const std::span<std::byte> memory(block.get(), compare_bytes);

    std::vector<LargeAnswer> large;
    if (command.answers != nullptr) {
        const auto answers = TRY(read_large(command.answers, prices));
        for (std::size_t i = 0; i < cases.size(); i++) {
            const auto found = answers.find(cases[i].input);
            if (found == answers.end())
                return Error::make(Code::not_found, "%s: no answer to case %zu of %s: %.100s", command.answers, i + 1,
                                   command.cases, cases[i].input.c_str());
            const Large& l = found->second;
            large.push_back({true, same_answer(cases[i].output, l.answer, memory), l.ms, l.cost});
        }
    }

    std::vector<Candidate> candidates;
    for (const std::string& name : names) {
        Candidate c{name, {}, {}};
        for (const Labelled& one : cases) {
            Asked a = TRY(ask(name, one));
            a.said.right = same_answer(one.output, a.answer, memory);
            c.said.push_back(a.said);
        }
        candidates.push_back(std::move(c));
    }

    fprintf(out, "%zu cases          right   AUROC     ECE    p50 ms   p95 ms    joules  cost of 1000\n", cases.size());
    for (const Candidate& c : candidates) print_local(c, out);
    if (large.empty()) {
        fputs("--upstream-answers FILE compares them with a large model, and mixes of both\n", out);
        return {};
    }
    print_large(large, out);

    const double quality = command.quality >= 0 ? command.quality : right_share(large);
    const Candidate* best = nullptr;
    const Mix* chosen = nullptr;
    const double all_cloud = [&] {
        double cost = 0;
        for (const LargeAnswer& a : large) cost += a.cost;
        return cost / static_cast<double>(large.size());
    }();
    fputs("\nescalated             5 %    10 %    20 %    30 %    50 %\n", out);
    for (Candidate& c : candidates) {
        c.all = mixes(c.said, large);
        const auto row = [&](const char* how, auto&& value) {
            fprintf(out, "%-12.12s %-7s", c.name.c_str(), how);
            for (const double s : {0.05, 0.1, 0.2, 0.3, 0.5}) fprintf(out, "%6.1f %%", 100 * value(s));
            fputs("\n", out);
        };
        row("ours", [&](double s) { return at_share(c.all, s).right; });
        row("random", [&](double s) { return random_right(c.said, large, s); });
        row("oracle", [&](double s) { return oracle_right(c.said, large, s); });
        const Mix* const m = cheapest(c.all, quality);
        if (m != nullptr && (chosen == nullptr || cheaper(*m, *chosen))) best = &c, chosen = m;
    }
    if (command.csv != nullptr) TRY(write_text(command.csv, csv(candidates, large)));
    if (command.svg != nullptr) TRY(write_text(command.svg, svg(candidates, large, chosen)));

    fprintf(out, "\nquality asked for: %.1f %% right%s\n", 100 * quality,
            command.quality >= 0 ? "" : ", as the large model alone");
    if (chosen == nullptr) {
        fputs("no mix is that good\n", out);
        return {};
    }
    if (chosen->threshold < 0)
        fprintf(out, "cheapest: %s alone, %.1f %% right, %.0f ms on average\n", best->name.c_str(), 100 * chosen->right,
                chosen->ms);
    else
        fprintf(out, "cheapest: %s with threshold = %.3f: %.1f %% right, %.1f %% escalated, %.0f ms on average\n",
                best->name.c_str(), chosen->threshold, 100 * chosen->right, 100 * chosen->escalated, chosen->ms);
    print_held_out(*best, large, quality, out);
    if (prices.known)
        fprintf(out, "%.0f requests a month: %.2f; all of them by the large model: %.2f (%.0f %% less)\n",
                command.volume, command.volume * chosen->cost, command.volume * all_cloud,
                all_cloud > 0 ? 100 * (1 - chosen->cost / all_cloud) : 0.0);
    else
        fputs("--prices IN,OUT (of a million tokens) says what it costs\n", out);
    return {};
}

}  // namespace slmd::client
