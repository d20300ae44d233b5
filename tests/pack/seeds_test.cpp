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
    tiny::Gguf first = g, second;
    second.tensors.assign(first.tensors.begin() + 4, first.tensors.end());
    first.tensors.resize(4);
    for (tiny::Gguf* part : {&first, &second}) {
        part->number("split.no", part == &second);
        part->number("split.count", 2);
        part->number("split.tensors.count", std::uint32_t(g.tensors.size()));
    }
    const std::string text = first.file();
    check("gguf/parts", "PART" + tiny::raw(std::uint32_t(text.size())) + text + second.file());
    g.tensors.clear();
    g.erase("tokenizer.ggml.model");
    g.text("tokenizer.ggml.model", "llama");
    g.array("tokenizer.ggml.scores", 6, std::vector<float>(6, -1));
    check("gguf/vocabulary", g.file());
}

TEST(Seeds, Safetensors) {
    const auto seed = [](const std::string& config, const std::string& index, const std::string& first,
                         const std::string& second) {
        return tiny::raw(std::uint16_t(config.size())) + config + tiny::raw(std::uint16_t(index.size())) + index +
               tiny::raw(std::uint32_t(first.size())) + first + second;
    };
    const tiny::Safetensors llama = tiny::llama_safetensors();
    check("safetensors/llama", seed(tiny::llama_config, "", llama.file(), ""));
    check("safetensors/empty", seed("{}", "", tiny::Safetensors{}.file(), ""));
    check("safetensors/gptq", [&] {
        const tiny::FourBitModel model(tiny::FourBitForm::gptq, 32);
        return seed(model.config, "", model.file.file(), "");
    }());
    check("safetensors/awq", [&] {
        const tiny::FourBitModel model(tiny::FourBitForm::awq, 32);
        return seed(model.config, "", model.file.file(), "");
    }());
    tiny::Safetensors first, second;
    std::string index;
    for (const auto& t : llama.tensors) {
        const bool one = first.tensors.size() < 12;
        (one ? first : second).tensors.push_back(t);
        index += (index.empty() ? "{\"weight_map\":{\"" : ",\"") + t.name +
                 (one ? "\":\"a.safetensors\"" : "\":\"b.safetensors\"");
    }
    check("safetensors/shards", seed(tiny::llama_config, index + "}}", first.file(), second.file()));
}

TEST(Seeds, Lora) {
    const auto peft = [](const tiny::Lora& lora) {
        return "P" + tiny::raw(std::uint16_t(lora.config.size())) + lora.config + lora.file.file();
    };
    tiny::Lora lora({{"model.layers.0.self_attn.q_proj", 32, 32}, {"model.layers.1.mlp.down_proj", 32, 48}}, 2);
    check("lora/gguf", "G" + tiny::lora_gguf(lora, 8).file());
    check("lora/peft", peft(lora));
    lora.config =
        R"({"peft_type": "LORA", "r": 9, "lora_alpha": 4, "use_rslora": true, "rank_pattern": {"^model.layers.0.self_attn.q_proj": 2,
 "down_proj": 2}, "alpha_pattern": {"q_proj": 1}, "target_modules": ["down_proj"], "layers_to_transform": [1]})";
    check("lora/patterns", peft(lora));
}

}  // namespace
}  // namespace slmd
