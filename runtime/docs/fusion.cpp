#include "docs/fusion.h"

#include <algorithm>

namespace slmd::docs {

std::span<Ranked> fuse(std::span<const std::int64_t> first, std::span<const std::int64_t> second,
                       std::span<Ranked> out) {
    std::size_t n = 0;
    const auto score = [](std::size_t rank) { return 1 / (fusion_k + static_cast<float>(rank)); };
    for (std::size_t i = 0; i < first.size(); i++)
        out[n++] = {first[i], score(i + 1), static_cast<std::int16_t>(i + 1), 0};
    for (std::size_t i = 0; i < second.size(); i++) {
        Ranked* const begin = out.data();
        Ranked* const end = begin + first.size();
        Ranked* const has = std::find_if(begin, end, [&](const Ranked& r) { return r.passage == second[i]; });
        if (has == end) out[n++] = {second[i], 0, 0, 0};
        Ranked& r = has == end ? out[n - 1] : *has;
        r.score += score(i + 1);
        r.second = static_cast<std::int16_t>(i + 1);
    }
    const auto rank = [](std::int16_t r) { return r == 0 ? INT16_MAX : r; };
    std::sort(out.begin(), out.begin() + static_cast<std::ptrdiff_t>(n), [&](const Ranked& a, const Ranked& b) {
        if (a.score != b.score) return a.score > b.score;
        if (a.first != b.first) return rank(a.first) < rank(b.first);
        return a.passage < b.passage;
    });
    return out.first(n);
}

}  // namespace slmd::docs
