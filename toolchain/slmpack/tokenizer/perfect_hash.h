// Builds the perfect hashes of runtime/text/section.h.
#pragma once
#include <cstdint>
#include <functional>
#include <optional>
#include <vector>

namespace slmd::pack {

struct PerfectHash {
    std::uint64_t seed;
    std::vector<std::uint16_t> displacements;
    std::uint32_t slots;
    std::vector<std::uint32_t> slot_of;  // a key
};

// keys different keys, hash(seed, key). nullopt: two keys hash alike under every seed that was tried (they are the same
// key).
std::optional<PerfectHash> build_perfect_hash(
    std::uint32_t keys, const std::function<std::uint64_t(std::uint64_t seed, std::uint32_t key)>& hash);

}  // namespace slmd::pack
