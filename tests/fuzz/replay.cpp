// main() of a fuzz target where there is no libFuzzer: the empty input, every seed, and mutations of each from a fixed
// seed, so that two runs do the same. The inputs tell nothing beyond "no crash, no sanitizer report"; libFuzzer does
// the searching.
#include <algorithm>
#include <cstdint>
#include <cstdio>
#include <filesystem>
#include <fstream>
#include <iterator>
#include <random>
#include <string>
#include <vector>

extern "C" int LLVMFuzzerTestOneInput(const std::uint8_t* data, std::size_t size);
extern "C" int LLVMFuzzerInitialize(int* argc, char*** argv) __attribute__((weak));

namespace {

using Bytes = std::vector<std::uint8_t>;

void mutate(Bytes& b, std::mt19937& random) {
    const auto below = [&](std::size_t n) { return static_cast<std::size_t>(random() % n); };
    switch (random() % 4) {
        case 0:  // a flipped bit
            if (!b.empty()) b[below(b.size())] ^= static_cast<std::uint8_t>(1u << random() % 8);
            break;
        case 1:  // cut
            b.resize(below(b.size() + 1));
            break;
        case 2:  // a run of one of the bytes at which readers stumble
            if (!b.empty()) {
                const std::size_t at = below(b.size()), n = std::min<std::size_t>(1 + below(8), b.size() - at);
                const std::uint8_t values[] = {0x00, 0xff, 0x7f, 0x80, '"', '\n'};
                std::fill_n(b.begin() + static_cast<std::ptrdiff_t>(at), n, values[random() % 6]);
            }
            break;
        default:  // a byte more
            b.insert(b.begin() + static_cast<std::ptrdiff_t>(below(b.size() + 1)), static_cast<std::uint8_t>(random()));
    }
}

}  // namespace

int main(int argc, char** argv) {
    if (LLVMFuzzerInitialize) LLVMFuzzerInitialize(&argc, &argv);
    std::vector<std::filesystem::path> files;
    for (int i = 1; i < argc; i++) {
        if (std::filesystem::is_directory(argv[i])) {
            for (const auto& entry : std::filesystem::recursive_directory_iterator(argv[i]))
                if (entry.is_regular_file()) files.push_back(entry.path());
        } else if (std::filesystem::exists(argv[i])) {
            files.emplace_back(argv[i]);
        }
    }
    std::sort(files.begin(), files.end());

    std::mt19937 random(1);
    std::size_t runs = 1, bytes = 0;
    LLVMFuzzerTestOneInput(nullptr, 0);
    for (const auto& path : files) {
        std::ifstream in(path, std::ios::binary);
        const Bytes seed{std::istreambuf_iterator<char>(in), std::istreambuf_iterator<char>()};
        LLVMFuzzerTestOneInput(seed.data(), seed.size());
        runs++;
        bytes += seed.size();
        // Large seeds get fewer: about 16 MB of input a seed.
        const std::size_t rounds = std::clamp<std::size_t>((16u << 20) / (seed.size() + 1), 20, 500);
        for (std::size_t i = 0; i < rounds; i++, runs++) {
            Bytes b = seed;
            for (unsigned n = 1 + random() % 3; n > 0; n--) mutate(b, random);
            LLVMFuzzerTestOneInput(b.data(), b.size());
        }
    }
    std::printf("%zu seeds of %zu bytes, %zu runs\n", files.size(), bytes, runs);
    return 0;
}
