#include "toolchain/slmpack/tokenizer/perfect_hash.h"

#include <algorithm>
#include <numeric>

#include "text/section.h"

namespace slmd::pack {

std::optional<PerfectHash> build_perfect_hash(std::uint32_t keys,
                                              const std::function<std::uint64_t(std::uint64_t, std::uint32_t)>& hash) {
    // Four keys a bucket and an eighth of the slots free: the last keys still find a place within 65536 displacements.
    const std::uint32_t buckets = keys / 4 + 1, slots = keys + keys / 8 + 1;
    for (std::uint64_t seed = 1; seed <= 16; ++seed) {
        std::vector<std::uint64_t> hashes(keys);
        std::vector<std::vector<std::uint32_t>> members(buckets);
        for (std::uint32_t k = 0; k < keys; ++k) {
            hashes[k] = hash(seed, k);
            members[text::scaled(hashes[k], buckets)].push_back(k);
        }
        std::vector<std::uint32_t> order(buckets);
        std::iota(order.begin(), order.end(), 0);
        std::stable_sort(order.begin(), order.end(),
                         [&](auto a, auto b) { return members[a].size() > members[b].size(); });

        PerfectHash out{seed, std::vector<std::uint16_t>(buckets), slots, std::vector<std::uint32_t>(keys)};
        std::vector<bool> taken(slots);
        const auto place = [&](std::uint32_t bucket) {
            std::vector<std::uint32_t> at(members[bucket].size());
            for (std::uint32_t d = 0; d < 65536; ++d) {
                std::size_t placed = 0;
                for (; placed < at.size(); ++placed) {
                    at[placed] = text::displaced(hashes[members[bucket][placed]], static_cast<std::uint16_t>(d), slots);
                    if (taken[at[placed]]) break;
                    taken[at[placed]] = true;
                }
                if (placed == at.size()) {
                    out.displacements[bucket] = static_cast<std::uint16_t>(d);
                    for (std::size_t i = 0; i < placed; ++i) out.slot_of[members[bucket][i]] = at[i];
                    return true;
                }
                while (placed > 0) taken[at[--placed]] = false;
            }
            return false;
        };
        if (std::all_of(order.begin(), order.end(), place)) return out;
    }
    return std::nullopt;
}

}  // namespace slmd::pack
