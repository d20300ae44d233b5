#include "client/mix.h"

#include <algorithm>
#include <cmath>
#include <numeric>

namespace slmd::client {
namespace {

// What failed a check leaves first, whatever its confidence. NaN is no confidence.
double trust(const LocalAnswer& a) {
    return a.failed ? -1 : std::isnan(a.confidence) ? 0 : static_cast<double>(a.confidence);
}

struct Totals {
    double local_right = 0, large_right = 0, gained = 0, lost = 0;  // gained: the large model alone is right
    double n = 0;
};
Totals total(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large) {
    Totals t;
    for (std::size_t i = 0; i < local.size(); i++) {
        t.local_right += local[i].right, t.large_right += large[i].right;
        t.gained += large[i].right && !local[i].right, t.lost += local[i].right && !large[i].right;
        t.n++;
    }
    return t;
}

}  // namespace

std::vector<Mix> mixes(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large) {
    std::vector<std::size_t> order(local.size());
    std::iota(order.begin(), order.end(), 0);
    std::stable_sort(order.begin(), order.end(),
                     [&](std::size_t a, std::size_t b) { return trust(local[a]) < trust(local[b]); });
    const auto n = static_cast<double>(std::max<std::size_t>(local.size(), 1));
    double right = 0, ms = 0, cost = 0;
    for (const LocalAnswer& a : local) right += a.right, ms += a.ms;
    std::vector<Mix> out;
    for (std::size_t k = 0; k <= order.size(); k++) {
        const double next = k < order.size() ? trust(local[order[k]]) : 2;
        if (k == 0 || k == order.size() || trust(local[order[k - 1]]) < next)
            out.push_back({k == 0     ? -1
                           : next > 1 ? 1.01
                                      : next,
                           static_cast<double>(k) / n, right / n, cost / n, ms / n});
        if (k == order.size()) break;
        const std::size_t i = order[k];
        right += static_cast<double>(large[i].right) - static_cast<double>(local[i].right);
        ms += large[i].ms, cost += large[i].cost;
    }
    return out;
}

double random_right(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large, double escalated) {
    const Totals t = total(local, large);
    return t.n == 0 ? 0 : ((1 - escalated) * t.local_right + escalated * t.large_right) / t.n;
}

double oracle_right(std::span<const LocalAnswer> local, std::span<const LargeAnswer> large, double escalated) {
    const Totals t = total(local, large);
    if (t.n == 0) return 0;
    const double k = escalated * t.n;
    return (t.local_right + std::min(k, t.gained) - std::max(0.0, k - (t.n - t.lost))) / t.n;
}

const Mix& at_share(std::span<const Mix> all, double escalated) {
    std::size_t i = 0;
    while (i + 1 < all.size() && all[i + 1].escalated <= escalated + 1e-9) i++;
    return all[i];
}

bool cheaper(const Mix& a, const Mix& b) {
    return a.cost < b.cost - 1e-15 || (a.cost <= b.cost + 1e-15 && a.escalated < b.escalated);
}

const Mix* cheapest(std::span<const Mix> all, double right) {
    const Mix* best = nullptr;
    for (const Mix& m : all)
        if (m.right >= right - 1e-9 && (best == nullptr || cheaper(m, *best))) best = &m;
    return best;
}

double auroc(std::span<const LocalAnswer> local) {
    std::vector<std::pair<double, bool>> all;
    for (const LocalAnswer& a : local) all.push_back({trust(a), a.right});
    std::sort(all.begin(), all.end());
    double below = 0, wins = 0, wrong = 0, right = 0;
    for (std::size_t i = 0; i < all.size();) {
        double ties_right = 0, ties_wrong = 0;
        std::size_t k = i;
        for (; k < all.size() && all[k].first == all[i].first; k++) (all[k].second ? ties_right : ties_wrong)++;
        wins += ties_right * (below + ties_wrong / 2);
        below += ties_wrong, wrong += ties_wrong, right += ties_right;
        i = k;
    }
    return wrong == 0 || right == 0 ? 0.5 : wins / (wrong * right);
}

}  // namespace slmd::client
