// Random adapters for the tiny model, packed for this run.
#pragma once
#include "../pack/tiny.h"
#include "harness.h"

namespace slmd::testing {

inline Ran pack_adapter(const std::string& folder_or_file, const std::string& base, const std::string& to) {
    return shell(std::string(SLMD_BUILD) + "/slmpack adapter " + folder_or_file + " --base " + base + " -o " + to);
}

// A folder of PEFT's: its values are large enough to change what the model says.
inline std::string peft_folder(unsigned seed) {
    const std::string to = folder() + "/peft-" + std::to_string(seed);
    std::vector<tiny::Lora::Module> modules;
    for (int l = 0; l < 3; l++) {
        const std::string at = "model.layers." + std::to_string(l) + ".";
        for (const auto& [name, rows] : {std::pair{"q", 64}, {"k", 32}, {"v", 32}, {"o", 64}})
            modules.push_back({at + "self_attn." + name + "_proj", std::size_t(rows), 64});
        modules.push_back({at + "mlp.gate_proj", 128, 64});
        modules.push_back({at + "mlp.up_proj", 128, 64});
        modules.push_back({at + "mlp.down_proj", 64, 128});
    }
    const tiny::Lora lora(modules, 4, seed);
    std::filesystem::create_directory(to);
    std::ofstream(to + "/adapter_config.json") << lora.config;
    std::ofstream(to + "/adapter_model.safetensors", std::ios::binary) << lora.file.file();
    return to;
}

// Of seed 1, 2, ...: an adapter image for tiny_image().
inline std::string adapter_image(unsigned seed) {
    const std::string image = folder() + "/adapter-" + std::to_string(seed) + ".slm";
    if (!std::filesystem::exists(image)) {
        const Ran r = pack_adapter(peft_folder(seed), tiny_image(), image);
        EXPECT_EQ(r.code, 0) << r.err;
    }
    return image;
}

}  // namespace slmd::testing
