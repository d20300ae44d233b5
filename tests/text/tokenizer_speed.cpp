// How fast a text is encoded: tokenizer_speed FOLDER|GGUF TEXT. Prints tokens and MB/s; asserts nothing.
#include <chrono>
#include <cstdio>

#include "tests/text/fixtures.h"

int main(int argc, char** argv) {
    using namespace slmd;
    if (argc != 3) return std::fprintf(stderr, "usage: tokenizer_speed FOLDER|GGUF TEXT\n"), 2;
    const std::string from = argv[1];
    pack::TokenizerSpec spec;
    if (from.ends_with(".gguf")) {
        spec = tests::read_gguf_tokenizer(from);
    } else {
        auto read = pack::read_tokenizer_folder(from);
        if (!read) return std::fprintf(stderr, "%s\n", read.error().text), 1;
        spec = *read;
    }
    const tests::Loaded tokenizer(spec);
    const std::string text = tests::read_file(argv[2]);
    std::vector<std::int32_t> ids(text.size() + 16);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    double best = 1e9;
    std::size_t n = 0;
    for (int round = 0; round < 9; ++round) {
        const auto start = std::chrono::steady_clock::now();
        const auto result = tokenizer->encode(text, {}, false, ids, scratch);
        if (!result) return std::fprintf(stderr, "%s\n", result.error().text), 1;
        n = result.value();
        best = std::min(best, std::chrono::duration<double>(std::chrono::steady_clock::now() - start).count());
    }
    std::printf("%s: section %zu bytes, %zu tokens, %.1f MB/s\n", from.c_str(), tokenizer.section().size(), n,
                static_cast<double>(text.size()) / best / 1e6);
}
