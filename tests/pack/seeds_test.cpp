// The fuzzers' seeds are what the tests' writers make. After a change to the writers: SLMD_WRITE_SEEDS=1 test_seeds
#include <gtest/gtest.h>

#include <cstdlib>
#include <filesystem>
#include <fstream>
#include <iterator>

#include "tests/pack/tiny.h"

namespace slmd {
namespace {

void check(const std::string& name, const std::string& bytes) {
    const std::filesystem::path path = std::filesystem::path(SLMD_SOURCE "/tests/fuzz/seeds") / name;
    if (std::getenv("SLMD_WRITE_SEEDS")) {
        std::filesystem::create_directories(path.parent_path());
        std::ofstream(path, std::ios::binary) << bytes;
    }
    std::ifstream in(path, std::ios::binary);
    const std::string found{std::istreambuf_iterator<char>(in), {}};
    EXPECT_TRUE(found == bytes) << path;
}

TEST(Seeds, Gguf) {
    auto g = tiny::llama_gguf(true);
    check("gguf/llama", g.file());
    g.tensors.clear();
    g.erase("tokenizer.ggml.model");
    g.text("tokenizer.ggml.model", "llama");
    g.array("tokenizer.ggml.scores", 6, std::vector<float>(6, -1));
    check("gguf/vocabulary", g.file());
}

TEST(Seeds, Safetensors) {
    const std::string config = tiny::llama_config, file = tiny::llama_safetensors().file();
    check("safetensors/llama", tiny::raw(std::uint16_t(config.size())) + config + file);
    tiny::Safetensors empty;
    check("safetensors/empty", tiny::raw(std::uint16_t(2)) + "{}" + empty.file());
}

}  // namespace
}  // namespace slmd
