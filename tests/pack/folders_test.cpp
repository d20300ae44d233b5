// Hugging Face folders and llama2.c files: what they mean, and what is said about damaged ones.
#include <gtest/gtest.h>
#include <unistd.h>

#include <array>
#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/pack/tiny.h"
#include "toolchain/slmpack/source/safetensors.h"
#include "toolchain/slmpack/source/tensor_types.h"

namespace slmd::pack {
namespace {

namespace fs = std::filesystem;

FileBytes lend(const std::string& s) {
    FileBytes f;
    f.bytes = std::as_bytes(std::span(s));
    return f;
}

Result<std::unique_ptr<Source>> open_folder(const std::string& config, const std::string& file) {
    std::vector<std::pair<std::string, FileBytes>> shards;
    shards.emplace_back("model.safetensors", lend(file));
    return open_hugging_face(config, std::move(shards), "/models/tiny");
}

std::string replaced(std::string text, const std::string& from, const std::string& to) {
    const auto at = text.find(from);
    EXPECT_NE(at, text.npos) << from;
    return text.replace(at, from.size(), to);
}

class Folder : public testing::Test {
  protected:
    Folder() : path_(fs::temp_directory_path() / ("slmd-folder-" + std::to_string(getpid()))) {
        fs::create_directories(path_);
    }
    ~Folder() override { fs::remove_all(path_); }
    void write(const std::string& name, const std::string& text) const {
        std::ofstream(path_ / name, std::ios::binary) << text;
    }
    fs::path path_;
};

// Of a model that may be damaged: every tensor is an error or has its size.
void read_everything(const Source& source) {
    for (const auto& t : source.tensors) {
        const auto values = source.read(t);
        EXPECT_TRUE(!values || values.value().size() == std::size_t(t.rows) * t.cols);
        (void)source.codes(t);
    }
}

TEST(HuggingFace, TinyLlama) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file();
    const auto opened = open_folder(tiny::llama_config, file);
    ASSERT_TRUE(opened) << opened.error().what();
    const Source& s = *opened.value();
    EXPECT_STREQ(s.params.name, "tiny");
    EXPECT_STREQ(s.params.family, "llama");
    EXPECT_EQ(s.params.head_dim, 8u);
    EXPECT_EQ(s.params.rope_dims, 8u);
    EXPECT_EQ(s.params.kv_heads, 2u);
    EXPECT_EQ(s.params.context, 64u);
    EXPECT_EQ(s.params.flags, image::flag_tied_output);
    EXPECT_FLOAT_EQ(s.params.norm_eps, 1e-5f);
    EXPECT_EQ(s.tensors.size(), 20u);
    for (const auto& t : s.tensors) {
        ASSERT_TRUE(s.read(t)) << t.name;
        EXPECT_FALSE(s.codes(t).value()) << t.name;
    }
    // Rows stay where they are: the folder is in halves order already.
    const auto q = s.read(*s.find("blk.1.attn_q")).value();
    const auto& stored = model.tensors[17];
    ASSERT_EQ(stored.name, "model.layers.1.self_attn.q_proj.weight");
    for (std::size_t i = 0; i < q.size(); i++)
        ASSERT_EQ(q[i], half_to_float(std::uint16_t(std::uint8_t(stored.data[2 * i]) |
                                                    std::uint8_t(stored.data[2 * i + 1]) << 8)));
}

TEST(HuggingFace, TiedAndUntied) {
    auto model = tiny::llama_safetensors();
    const std::string untied =
        replaced(tiny::llama_config, "\"tie_word_embeddings\": true", "\"tie_word_embeddings\": false");
    std::string file = model.file();
    EXPECT_SAYS(open_folder(untied, file), "lm_head.weight is missing");
    model.tensors.push_back({"lm_head.weight", "F32", {24, 32}, model.tensors[0].data});
    file = model.file();
    const auto two = open_folder(untied, file);
    ASSERT_TRUE(two) << two.error().what();
    EXPECT_EQ(two.value()->params.flags, 0u);
    EXPECT_EQ(two.value()->tensors.back().name, "output");
    const auto copy = open_folder(tiny::llama_config, file);  // tied, with a copy of the matrix in the file
    ASSERT_TRUE(copy) << copy.error().what();
    EXPECT_EQ(copy.value()->find("output"), nullptr);
}

TEST(HuggingFace, RopeOldAndNewStyle) {
    const std::string file = tiny::llama_safetensors().file();
    const auto frequencies = [&](const std::string& rope) {
        const auto s =
            open_folder(replaced(tiny::llama_config, R"("rope_theta": 10000.0, "rope_scaling": null)", rope), file);
        EXPECT_TRUE(s) << s.error().what();
        return s ? s.value()->inv_freq : std::vector<float>{};
    };
    const auto plain = frequencies(R"("rope_theta": 10000.0)");
    EXPECT_EQ(plain, (std::vector<float>{1, 0.1f, 0.01f, 0.001f}));
    EXPECT_EQ(frequencies(R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "default"})"), plain);
    EXPECT_EQ(frequencies(R"("rope_scaling": {"type": "linear", "factor": 4.0})"),
              (std::vector<float>{0.25f, 0.025f, 0.0025f, 0.00025f}));

    const auto old_style = frequencies(
        R"("rope_theta": 10000.0, "rope_scaling": {"rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                                          "original_max_position_embeddings": 128})");
    EXPECT_EQ(
        frequencies(
            R"("rope_parameters": {"rope_theta": 10000.0, "rope_type": "llama3", "factor": 8.0, "high_freq_factor": 4.0, "low_freq_factor": 1.0,
                             "original_max_position_embeddings": 128})"),
        old_style);
    ASSERT_EQ(old_style.size(), 4u);
    EXPECT_EQ(old_style[0], 1.0f);                      // a wavelength of 6 is short: below 128 / 4
    EXPECT_FLOAT_EQ(old_style[2], 0.01f / 8);           // one of 628 is long: above 128
    const double smooth = (128 / (20 * M_PI) - 1) / 3;  // one of 62.8 lies between
    EXPECT_NEAR(old_style[1], (1 - smooth) * 0.1 / 8 + smooth * 0.1, 1e-8);
}

TEST(HuggingFace, RefusalsNameWhatIsWrong) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file(), config = tiny::llama_config;
    EXPECT_SAYS(open_folder("{", file), "config.json is not JSON: wrong at byte");
    EXPECT_SAYS(open_folder("[]", file), "architectures");
    EXPECT_SAYS(open_folder(std::string(100000, '['), file), "nested too deeply");
    EXPECT_SAYS(open_folder(replaced(config, "LlamaForCausalLM", "T5Model"), file), "\"T5Model\" is not supported");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": \"32\""), file),
                "hidden_size is not a number");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32,", ""), file), "\"hidden_size\" is missing");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 32.5"), file),
                "hidden_size is 32.5");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": -32"), file),
                "hidden_size is -32");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 1e300"), file),
                "hidden_size is 1e+300");
    EXPECT_SAYS(open_folder(replaced(config, "\"hidden_size\": 32", "\"hidden_size\": 64"), file),
                "model.embed_tokens.weight is 24 x 32");
    EXPECT_SAYS(open_folder(replaced(config, "silu", "gelu"), file), "hidden_act is \"gelu\"");
    EXPECT_SAYS(
        open_folder(replaced(config, "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"dynamic\"}"), file),
        "\"dynamic\" is not supported");
    EXPECT_SAYS(
        open_folder(replaced(config, "\"rope_scaling\": null", "\"rope_scaling\": {\"type\": \"linear\"}"), file),
        "factor");
    EXPECT_SAYS(open_folder(replaced(config, "\"rope_scaling\": null", "\"partial_rotary_factor\": 0.3"), file),
                "partial_rotary_factor is 2.4");
    EXPECT_SAYS(open_folder(replaced(config, "\"rope_scaling\": null", "\"attention_bias\": true"), file),
                "attention_bias is true");
    EXPECT_SAYS(open_folder(config, replaced(file, "\"dtype\":\"F32\"", "\"dtype\":\"I32\"")),
                "tensor model.embed_tokens.weight is of type I32");
    EXPECT_SAYS(open_folder(replaced(config, "\"num_hidden_layers\": 2", "\"num_hidden_layers\": 1"), file),
                "model.layers.1.input_layernorm.weight is not part of family llama");

    const auto with = [&](const std::string& from, const std::string& to) {
        return model.file(replaced(model.header(), from, to));
    };
    const auto says = [&](const std::string& bytes, const char* part) {
        EXPECT_SAYS(open_folder(config, bytes), part);
    };
    says("", "empty or truncated");
    says(tiny::raw<std::uint64_t>(~0ull) + "{}", "its header says it is 18446744073709551615 bytes");
    says(model.file("[]"), "not a JSON object");
    says(model.file("{"), "is not JSON");
    says(with("\"dtype\":\"F32\"", "\"dtype\":\"F8_E4M3\""), "model.embed_tokens.weight is of type F8_E4M3");
    says(with("\"dtype\":\"F32\"", "\"dtype\":32"), "has no dtype");
    says(with("[24,32]", "[24,32,1]"), "is 768 x 1, the model's parameters ask for 24 x 32");
    says(with("[24,32]", "[24,32,1,1]"), "4 dimensions");
    says(with("[24,32]", "[24,0]"), "a dimension is zero");
    says(with("[24,32]", "[24,-32]"), "a dimension is zero");
    says(with("[24,32]", "[24,33]"), "3072 bytes do not hold 792 values of type F32");
    says(with("[24,32]", "[4294967295,4294967295]"), "bytes do not hold");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[3072,0]"), "ends at offset 0");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[0,18446744073709551615]"),
         "ends at offset 18446744073709551615");
    says(with("\"data_offsets\":[0,3072]", "\"data_offsets\":[32,3104]"), "behind a hole");
    says(with("\"data_offsets\":[3072,3136]", "\"data_offsets\":[3008,3072]"), "inside the one before it");
    says(file + "x", "longer than its tensors");
    auto damaged = file;
    damaged[damaged.size() - 1] = 0x7F;
    damaged[damaged.size() - 2] = char(0x80);  // the last norm weight becomes infinite
    const auto s = open_folder(config, damaged);
    ASSERT_TRUE(s);
    EXPECT_SAYS(s.value()->read(*s.value()->find("output_norm")),
                "output_norm holds a value that is not finite, at row 0, column 31");
}

std::string four_bit_config(const std::string& text) {
    return replaced(tiny::llama_config, "\"rope_scaling\": null", "\"quantization_config\": " + text);
}

// The module's name in the source, by the image's name.
std::string module_of(const std::string& name) {
    const std::map<std::string, std::string> ours = {
        {"attn_q", "self_attn.q_proj"},      {"attn_k", "self_attn.k_proj"}, {"attn_v", "self_attn.v_proj"},
        {"attn_output", "self_attn.o_proj"}, {"ffn_gate", "mlp.gate_proj"},  {"ffn_up", "mlp.up_proj"},
        {"ffn_down", "mlp.down_proj"}};
    const auto found = name.starts_with("blk.") ? ours.find(name.substr(6)) : ours.end();
    return found == ours.end() ? "" : "model.layers." + name.substr(4, 1) + "." + found->second;
}

TEST(FourBit, ValuesAreTheDefinitionsAndCodesStay) {
    for (const auto form : {tiny::FourBitForm::gptq, tiny::FourBitForm::gptq_v2, tiny::FourBitForm::awq})
        for (const std::size_t group : {32, 64, 0}) {
            const tiny::FourBitModel model(form, group);
            const std::string file = model.file.file();
            const auto opened = open_folder(model.config, file);
            ASSERT_TRUE(opened) << opened.error().what();
            const Source& s = *opened.value();
            EXPECT_TRUE(s.warnings.empty());
            std::size_t checked = 0;
            for (const auto& t : s.tensors) {
                const auto layer = model.layers.find(module_of(t.name));
                const auto codes = s.codes(t);
                ASSERT_TRUE(codes) << codes.error().what();
                ASSERT_EQ(codes.value().has_value(), layer != model.layers.end()) << t.name;
                if (!codes.value()) continue;
                checked++;
                EXPECT_EQ(t.type, form == tiny::FourBitForm::awq ? "AWQ" : "GPTQ");
                const tiny::FourBitLayer& l = layer->second;
                const Codes& c = *codes.value();
                const auto values = s.read(t).value();
                ASSERT_EQ(t.rows, l.outputs);
                ASSERT_EQ(t.cols, l.inputs);
                EXPECT_EQ(c.kind, image::Kind::i4a);
                for (std::size_t o = 0; o < l.outputs; o++)
                    for (std::size_t i = 0; i < l.inputs; i++) {
                        const std::size_t at = o * l.inputs + i;
                        ASSERT_EQ(values[at], l.value(o, i)) << t.name << " " << o << " " << i;
                        ASSERT_EQ(c.codes[at], l.codes[at]) << t.name << " " << o << " " << i;
                        const float scale = half_to_float(c.scales[at / 32]);
                        ASSERT_EQ(c.scales[at / 32], l.scales[std::size_t(l.group[i]) * l.outputs + o]);
                        // The minimum is rounded to f16; what the kind stores is the definition but for that.
                        ASSERT_NEAR(float(c.codes[at]) * scale + half_to_float(c.minimums[at / 32]), l.value(o, i),
                                    std::fabs(scale) / 136);
                    }
            }
            EXPECT_EQ(checked, 13u);  // the last down_proj is not quantized
        }
}

TEST(FourBit, GroupsThatAreNotContiguousAreRead) {
    for (const auto form : {tiny::FourBitForm::gptq, tiny::FourBitForm::gptq_v2}) {
        const tiny::FourBitModel model(form, 16, true);
        const std::string file = model.file.file();
        const auto opened = open_folder(model.config, file);
        ASSERT_TRUE(opened) << opened.error().what();
        const Source& s = *opened.value();
        ASSERT_EQ(s.warnings.size(), 1u);
        EXPECT_NE(s.warnings[0].find("13 of 13 layers"), std::string::npos) << s.warnings[0];
        for (const auto& t : s.tensors) {
            EXPECT_FALSE(s.codes(t).value()) << t.name;
            const auto layer = model.layers.find(module_of(t.name));
            if (layer == model.layers.end()) continue;
            const auto values = s.read(t).value();
            for (std::size_t i = 0; i < values.size(); i++)
                ASSERT_EQ(values[i], layer->second.value(i / t.cols, i % t.cols)) << t.name << " at " << i;
        }
    }
}

TEST(FourBit, RefusalsNameWhatIsWrong) {
    const std::string plain = tiny::llama_safetensors().file();
    const auto method = [&](const char* text, const char* part) {
        EXPECT_SAYS(open_folder(four_bit_config(text), plain), part);
    };
    method(R"({"quant_method": "bitsandbytes", "load_in_4bit": true})", "quant_method is \"bitsandbytes\"");
    method(R"({"quant_method": "aqlm"})", "\"aqlm\", not gptq or awq: take the unquantized model, or a GGUF");
    method(R"({"bits": 4})", "quant_method is \"missing\"");
    method("[4]", "quant_method is \"missing\"");
    method(R"({"quant_method": "gptq", "bits": 8, "group_size": 32})", "bits is \"8\", not 4");
    method(R"({"quant_method": "gptq", "group_size": 32})", "bits is \"null\", not 4");
    method(R"({"quant_method": "gptq", "bits": 4})", "group_size is \"null\"");
    method(R"({"quant_method": "gptq", "bits": 4, "group_size": 0})", "group_size is \"0\"");
    method(R"({"quant_method": "gptq", "bits": 4, "group_size": -2})", "group_size is \"-2\"");
    method(R"({"quant_method": "gptq", "bits": 4, "group_size": 32, "checkpoint_format": "marlin"})", "\"marlin\"");
    method(R"({"quant_method": "gptq", "bits": 4, "group_size": 32, "pack_dtype": "int16"})", "\"int16\"");
    method(R"({"quant_method": "awq", "w_bit": 4, "q_group_size": 32, "version": "GEMV"})", "version is \"gemv\"");
    method(R"({"quant_method": "awq", "bits": 4, "group_size": 32, "zero_point": false})", "zero_point is \"false\"");
    EXPECT_TRUE(open_folder(four_bit_config(R"({"quant_method": "awq", "w_bit": 4, "q_group_size": 32})"), plain))
        << "nothing is quantized";

    const tiny::FourBitModel model(tiny::FourBitForm::gptq, 32);
    const std::string q = "model.layers.0.self_attn.q_proj", config = model.config;
    const auto says = [&](auto change, const char* part) {
        tiny::FourBitModel changed = model;
        change(changed.file);
        const std::string file = changed.file.file();
        EXPECT_SAYS(open_folder(config, file), part);
    };
    using S = tiny::Safetensors;
    const auto erase = [](S& f, const std::string& name) {
        std::erase_if(f.tensors, [&](const auto& t) { return t.name == name; });
    };
    says([&](S& f) { erase(f, q + ".scales"); }, "q_proj.scales is missing");
    says([&](S& f) { erase(f, q + ".qzeros"); }, "q_proj.qzeros is missing");
    says([&](S& f) { erase(f, q + ".qweight"); }, "q_proj.g_idx is of type I32");
    says([&](S& f) { f.tensor(q + ".qweight").dtype = "F32"; }, "q_proj.qweight is of type F32");
    says([&](S& f) { f.tensor(q + ".qweight").shape = {8, 16}; }, "q_proj.qzeros is 1 x 4: 16 x 64 inputs in 4 bits");
    says([&](S& f) { f.tensor(q + ".qweight").shape = {32, 4}; }, "q_proj.qweight: 4 outputs, 256 inputs");
    says([&](S& f) { f.tensor(q + ".scales").shape = {2, 16}; }, "q_proj.scales is 2 x 16");
    says([&](S& f) { f.tensor(q + ".g_idx").shape = {2, 16}; }, "q_proj.g_idx is 2 x 16");
    says([&](S& f) { f.tensor(q + ".g_idx").data[4 * 5] = 1; }, "q_proj.g_idx holds 1 at 5: there are 1 groups");
    says([&](S& f) { f.tensor(q + ".g_idx").data[4 * 5 + 3] = char(0x80); }, "q_proj.g_idx holds 2147483648 at 5");
    says(
        [&](S& f) {
            f.tensors.push_back({q + ".weight", "F16", {32, 32}, std::string(2048, 0)});
        },
        "q_proj is there as .weight and as .qweight");
    says([&](S& f) { f.tensor(q + ".bias").data[7] = 1; }, "q_proj.bias is not part of family llama");

    const std::string file = model.file.file();
    EXPECT_SAYS(open_folder(replaced(config, "\"group_size\": 32", "\"group_size\": 16"), file),
                "groups of 16 ask for");
    EXPECT_SAYS(open_folder(replaced(tiny::llama_config, "48", "64"), file),
                "config.json has no quantization_config that says what it holds");
    tiny::FourBitModel damaged = model;
    damaged.file.tensor(q + ".scales").data[11] = 0x7C;  // output 5 of group 0
    const std::string infinite = damaged.file.file();
    const auto s = open_folder(config, infinite);
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_SAYS(s.value()->read(*s.value()->find("blk.0.attn_q")), "attn_q holds a value that is not finite, at row 5");
}

TEST(FourBit, FlippedBitsAreAnErrorOrAModel) {
    std::mt19937 random(23);
    int refused = 0;
    for (int round = 0; round < 1000; round++) {
        const auto form = std::array{tiny::FourBitForm::gptq, tiny::FourBitForm::awq}[round % 2];
        static const tiny::FourBitModel models[] = {{tiny::FourBitForm::gptq, 32}, {tiny::FourBitForm::awq, 32}};
        const tiny::FourBitModel& model = models[form == tiny::FourBitForm::awq];
        std::string config = model.config, file = model.file.file();
        if (round % 3 == 0)
            config[random() % config.size()] ^= char(1 << random() % 8);
        else
            file[random() % (round % 3 == 1 ? 8 + model.file.header().size() : file.size())] ^= char(1 << random() % 8);
        const auto s = open_folder(config, file);
        refused += !s;
        if (!s) continue;
        read_everything(*s.value());
    }
    EXPECT_GT(refused, 200);
    EXPECT_LT(refused, 1000);
}

TEST(HuggingFace, EveryTruncationIsAnError) {
    const auto model = tiny::llama_safetensors();
    const std::string file = model.file();
    std::vector<std::size_t> cuts = {0, 1, 7, 8, 9};
    std::size_t at = 8 + model.header().size();
    for (const auto& t : model.tensors) {
        for (const std::size_t cut : {at - 1, at, at + 1}) cuts.push_back(cut);
        at += t.data.size();
    }
    ASSERT_EQ(at, file.size());
    for (std::size_t cut = 10; cut < file.size(); cut += 61) cuts.push_back(cut);
    cuts.push_back(file.size() - 1);
    for (const std::size_t cut : cuts) EXPECT_FALSE(open_folder(tiny::llama_config, file.substr(0, cut))) << cut;
}

TEST(HuggingFace, FlippedBitsAreAnErrorOrAModel) {
    const auto model = tiny::llama_safetensors();
    const std::string good = model.file();
    const std::size_t head = 8 + model.header().size();
    std::mt19937 random(13);
    int refused = 0;
    for (int round = 0; round < 2000; round++) {
        std::string file = good, config = tiny::llama_config;
        if (round % 3 == 0)
            config[random() % config.size()] ^= char(1 << random() % 8);
        else
            file[random() % (round % 3 == 1 ? head : file.size())] ^= char(1 << random() % 8);
        const auto s = open_folder(config, file);
        refused += !s;
        if (!s) continue;
        read_everything(*s.value());
    }
    EXPECT_GT(refused, 500);
    EXPECT_LT(refused, 2000);
}

TEST_F(Folder, OneFileOrShards) {
    auto model = tiny::llama_safetensors();
    EXPECT_SAYS(Source::open(path_), "no config.json");
    write("config.json", tiny::llama_config);
    EXPECT_SAYS(Source::open(path_), "neither model.safetensors nor");
    write("pytorch_model.bin", "x");
    EXPECT_SAYS(Source::open(path_), "pytorch_model.bin is not read");
    write("model.safetensors", model.file());
    write("chat_template.jinja", "{{ x }}");
    const auto whole = Source::open(path_);
    ASSERT_TRUE(whole) << whole.error().what();
    EXPECT_EQ(whole.value()->chat_template, "{{ x }}");
    EXPECT_TRUE(whole.value()->tokenizer.tokens.empty());

    tiny::Safetensors first, second;
    std::string index = R"({"metadata": {}, "weight_map": {)";
    for (std::size_t i = 0; i < model.tensors.size(); i++) {
        const bool one = i % 3 == 0;
        (one ? first : second).tensors.push_back(model.tensors[i]);
        index += (i ? ", \"" : "\"") + model.tensors[i].name +
                 (one ? "\": \"model-00001-of-00002.safetensors\"" : "\": \"model-00002-of-00002.safetensors\"");
    }
    index += "}}";
    fs::remove(path_ / "model.safetensors");
    write("model-00001-of-00002.safetensors", first.file());
    write("model-00002-of-00002.safetensors", second.file());
    write("model.safetensors.index.json", index);
    const auto sharded = Source::open(path_);
    ASSERT_TRUE(sharded) << sharded.error().what();
    ASSERT_EQ(sharded.value()->tensors.size(), whole.value()->tensors.size());
    for (const auto& t : whole.value()->tensors)
        EXPECT_EQ(sharded.value()->read(t).value(), whole.value()->read(t).value()) << t.name;

    write("model.safetensors.index.json", replaced(index, "model-00001", "../model-00001"));
    EXPECT_SAYS(Source::open(path_), "is no safetensors file beside it");
    write("model.safetensors.index.json", "{}");
    EXPECT_SAYS(Source::open(path_), "weight_map");
    write("model.safetensors.index.json", replaced(index, "model-00001-of-00002", "..\\/x"));
    EXPECT_SAYS(Source::open(path_), "\"../x.safetensors\" is no safetensors file beside it");
    write("model.safetensors.index.json", replaced(index, "00001-of-00002", "00001-of-00003"));
    EXPECT_SAYS(Source::open(path_), "names 3 files, one of them model-00001-of-00002.safetensors");
    write("model.safetensors.index.json", replaced(index, "model.norm.weight", "model.absent.weight"));
    EXPECT_SAYS(Source::open(path_), "tensor model.absent.weight is not in model-00002-of-00002.safetensors");
    write("model.safetensors.index.json",
          replaced(index, "embed_tokens.weight\": \"model-00001", "embed_tokens.weight\": \"model-00002"));
    EXPECT_SAYS(Source::open(path_),
                "model-00002-of-00002.safetensors, where model.safetensors.index.json says it is, "
                "but in another file");
    second.tensors.push_back(first.tensors[0]);
    write("model-00002-of-00002.safetensors", second.file());
    write("model.safetensors.index.json", index);
    EXPECT_SAYS(Source::open(path_), "stands in another file too");
    fs::remove(path_ / "model-00002-of-00002.safetensors");
    EXPECT_SAYS(Source::open(path_), "model-00002-of-00002.safetensors is missing");
}

TEST_F(Folder, GgufInParts) {
    const tiny::Gguf whole = tiny::llama_gguf();
    const auto name = [](int n, int count) {
        char text[64];
        std::snprintf(text, sizeof text, "tiny.Q4_1-%05d-of-%05d.gguf", n, count);
        return std::string(text);
    };
    const auto part = [&](int n, int count, std::uint32_t total) {  // from 0
        tiny::Gguf g;
        if (n == 0) g.keys = whole.keys;
        for (const auto& [key, v] : {std::pair{"split.no", n}, {"split.count", count}})
            g.keys.emplace_back(key, tiny::raw<std::uint32_t>(2) + tiny::raw<std::uint16_t>(std::uint16_t(v)));
        g.keys.emplace_back("split.tensors.count", tiny::raw<std::uint32_t>(5) + tiny::raw(total));
        // The first has no tensors at all (--no-tensor-first-split).
        for (std::size_t i = 0; n > 0 && i < whole.tensors.size(); i++)
            if (int(i % 2) == n - 1) g.tensors.push_back(whole.tensors[i]);
        return g;
    };
    for (int n = 0; n < 3; n++) write(name(n + 1, 3), part(n, 3, 20).file());
    const std::string first = path_ / name(1, 3);
    const auto opened = Source::open(first);
    ASSERT_TRUE(opened) << opened.error().what();
    EXPECT_STREQ(opened.value()->params.name, "tiny");
    EXPECT_EQ(opened.value()->parts, (std::vector<std::string>{path_ / name(2, 3), path_ / name(3, 3)}));
    const std::string bytes = whole.file();
    const auto same = open_gguf(lend(bytes), "tiny.gguf");
    ASSERT_EQ(opened.value()->tensors.size(), same.value()->tensors.size());
    for (const auto& t : same.value()->tensors)
        EXPECT_EQ(opened.value()->read(t).value(), same.value()->read(t).value()) << t.name;

    EXPECT_SAYS(Source::open(path_ / name(2, 3)), "part 2 of 3 of a split GGUF: give the first, ");
    EXPECT_SAYS(Source::open(path_ / name(2, 3)), name(1, 3));
    fs::copy(first, path_ / "renamed.gguf");
    EXPECT_SAYS(Source::open(path_ / "renamed.gguf"),
                "part 1 of 3 of a split GGUF: its name must end in -00001-of-00003");
    write(name(1, 3), part(0, 3, 21).file());
    EXPECT_SAYS(Source::open(first), "the 3 parts hold 20 tensors, key split.tensors.count says 21");
    write(name(1, 3), part(0, 3, 20).file());
    write(name(3, 3), part(1, 3, 20).file());
    EXPECT_SAYS(Source::open(first), "tiny.Q4_1-00003-of-00003.gguf says it is part 2 of 3, not 3 of 3");
    write(name(3, 3), part(2, 4, 20).file());
    EXPECT_SAYS(Source::open(first), "says it is part 3 of 4, not 3 of 3");
    write(name(3, 3), whole.file());
    EXPECT_SAYS(Source::open(first), "says it is part 1 of 1, not 3 of 3");
    auto twice = part(2, 3, 20);
    twice.tensors.push_back(whole.tensors[0]);
    write(name(3, 3), twice.file());
    EXPECT_SAYS(Source::open(first),
                "tensor token_embd.weight is in tiny.Q4_1-00003-of-00003.gguf and in a part before");
    write(name(3, 3), "GGUF");
    EXPECT_SAYS(Source::open(first), "GGUF ends inside its header");
    fs::remove(path_ / name(3, 3));
    EXPECT_SAYS(Source::open(first), "part 3 of 3 of a split GGUF is missing");
    write(name(1, 3), part(3, 3, 20).file());
    EXPECT_SAYS(Source::open(first), "split.no and split.count are 3 and 3");
}

TEST_F(Folder, TokenizerAndTemplateComeAlong) {
    write("config.json", tiny::llama_config);
    write("model.safetensors", tiny::llama_safetensors().file());
    const std::string smollm = SLMD_SHARED "/tokenizers/smollm/tokenizer.json";
    if (!fs::exists(smollm)) GTEST_SKIP() << "no " << smollm;
    fs::create_symlink(fs::absolute(smollm), path_ / "tokenizer.json");
    EXPECT_SAYS(Source::open(path_), "the tokenizer has 49152 tokens, the embedding 24 rows");

    auto model = tiny::llama_safetensors();
    auto& embedding = model.tensor("model.embed_tokens.weight");
    std::mt19937 random(1);
    embedding.dtype = "F16";
    embedding.shape = {49152, 32};
    embedding.data = tiny::blocks("F16", 49152 * 32, random);
    write("model.safetensors", model.file());
    write("config.json",
          replaced(tiny::llama_config, "\"vocab_size\": 24", "\"vocab_size\": 49152, \"eos_token_id\": 2"));
    write("tokenizer_config.json",
          R"({"chat_template": [{"name": "tool_use", "template": "a"}, {"name": "default", "template": "b"}]})");
    const auto s = Source::open(path_);
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_EQ(s.value()->tokenizer.tokens.size(), 49152u);
    EXPECT_EQ(s.value()->tokenizer.pre, "smollm");
    EXPECT_EQ(s.value()->chat_template, "b");
    write("tokenizer_config.json", "{");
    EXPECT_SAYS(Source::open(path_), "tokenizer_config.json");
}

TEST_F(Folder, ChoosesTheReader) {
    EXPECT_SAYS(Source::open(path_ / "absent.gguf"), "absent.gguf");
    write("model.safetensors", "x");
    EXPECT_SAYS(Source::open(path_ / "model.safetensors"), "give the folder");
    write("model.onnx", "x");
    EXPECT_SAYS(Source::open(path_ / "model.onnx"), "not a model that slmpack knows");
    write("a.gguf", "x");
    EXPECT_SAYS(Source::open(path_ / "a.gguf"), "does not begin with \"GGUF\"");
    write("empty.gguf", "");
    EXPECT_FALSE(Source::open(path_ / "empty.gguf"));
    write("named-otherwise", tiny::llama_gguf().file());
    const auto gguf = Source::open(path_ / "named-otherwise");
    ASSERT_TRUE(gguf) << gguf.error().what();
    EXPECT_EQ(gguf.value()->format, "GGUF v3");
    write("model.bin", tiny::llama_llama2c(true));
    const auto llama2c = Source::open(path_ / "model.bin");
    ASSERT_TRUE(llama2c) << llama2c.error().what();
    EXPECT_EQ(llama2c.value()->format, "llama2.c");
    write("model.bin", std::string("PK\x03\x04", 4) + std::string(100, 'x'));
    EXPECT_SAYS(Source::open(path_ / "model.bin"), "PyTorch");
}

TEST_F(Folder, Llama2cFindsItsTokenizer) {
    write("model.bin", tiny::llama_llama2c(true));
    write("tok_other.bin", "not a tokenizer");
    EXPECT_TRUE(Source::open(path_ / "model.bin").value()->tokenizer.tokens.empty());
    std::string tokenizer = tiny::raw<std::int32_t>(8);
    for (int i = 0; i < 24; i++) {
        const std::string piece = i == 0   ? "<unk>"
                                  : i == 1 ? "\n<s>\n"
                                  : i == 2 ? "\n</s>\n"
                                           : std::string(1, char('a' + i));
        tokenizer += tiny::raw<float>(0) + tiny::raw<std::int32_t>(int(piece.size())) + piece;
    }
    write("tokenizer.bin", tokenizer);
    const auto s = Source::open(path_ / "model.bin");
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_EQ(s.value()->tokenizer.tokens.size(), 24u);
    EXPECT_EQ(s.value()->tokenizer.tokens[3], "d");
}

TEST(Llama2cSource, EveryTensorIsWhereTheFormatSays) {
    for (const bool tied : {true, false}) {
        const std::string file = tiny::llama_llama2c(tied);
        const auto opened = open_llama2c(lend(file), "tiny.bin");
        ASSERT_TRUE(opened) << opened.error().what();
        const Source& s = *opened.value();
        EXPECT_EQ(s.params.vocab, 24u);
        EXPECT_EQ(s.params.head_dim, 8u);
        EXPECT_EQ(bool(s.params.flags & image::flag_tied_output), tied);
        const auto first = [&](const char* name) { return s.read(*s.find(name)).value()[0]; };
        float at = 0;
        EXPECT_EQ(first("token_embd"), at);
        at += 24 * 32;
        EXPECT_EQ(first("blk.0.attn_norm"), at);
        EXPECT_EQ(first("blk.1.attn_norm"), at + 32);
        at += 64;
        EXPECT_EQ(first("blk.0.attn_q"), at);
        EXPECT_EQ(first("blk.1.attn_q"), at + 1024);
        // Rows 0, 2, 4, 6 of a head, then rows 1, 3, 5, 7.
        const auto q = s.read(*s.find("blk.0.attn_q")).value();
        for (std::size_t head = 0; head < 4; head++)
            for (std::size_t i = 0; i < 8; i++)
                EXPECT_EQ(q[(head * 8 + i) * 32], at + float(32 * (head * 8 + (i < 4 ? 2 * i : 2 * (i - 4) + 1))));
        at += 2048;
        EXPECT_EQ(first("blk.0.attn_k"), at);
        EXPECT_EQ(first("blk.0.attn_v"), at + 1024);
        EXPECT_EQ(first("blk.0.attn_output"), at + 2048);
        EXPECT_EQ(first("blk.0.ffn_norm"), at + 4096);
        at += 4096 + 64;
        EXPECT_EQ(first("blk.0.ffn_gate"), at);
        EXPECT_EQ(first("blk.0.ffn_down"), at + 2 * 48 * 32);
        EXPECT_EQ(first("blk.1.ffn_up"), at + 5 * 48 * 32);
        at += 6 * 48 * 32;
        EXPECT_EQ(first("output_norm"), at);
        if (!tied) {
            EXPECT_EQ(first("output"), at + 32 + 64 * 8);
        }
    }
}

TEST(Llama2cSource, DamagedFilesAreRefused) {
    std::vector<std::size_t> boundaries;
    const std::string file = tiny::llama_llama2c(false, &boundaries);
    for (const std::size_t b : boundaries)
        for (const std::size_t cut : {b - 1, b, b + 1, b + 4})
            EXPECT_FALSE(open_llama2c(lend(file.substr(0, cut)), "t.bin")) << cut;
    EXPECT_SAYS(open_llama2c(lend(file.substr(0, boundaries[3])), "t.bin"),
                "truncated: blk.0.attn_k, 16 x 32, from offset");
    const std::string longer = file + "x";
    EXPECT_SAYS(open_llama2c(lend(longer), "t.bin"), "1 bytes behind its last tensor");
    for (std::size_t i = 0; i < 7; i++)
        for (const std::int32_t v : {0, -1, INT32_MIN, INT32_MAX, 1 << 20, 3, 0x616B3432}) {
            std::string changed = file;
            std::memcpy(changed.data() + 4 * i, &v, 4);
            EXPECT_FALSE(open_llama2c(lend(changed), "t.bin")) << "number " << i << ": " << v;
        }
}

}  // namespace
}  // namespace slmd::pack
