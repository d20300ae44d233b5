// Writes tiny models in the forms of the outside world, so that the readers' tests need no foreign file.
#pragma once
#include <algorithm>
#include <cstdint>
#include <cstring>
#include <functional>
#include <map>
#include <random>
#include <string>
#include <utility>
#include <vector>

#include "toolchain/slmpack/source/tensor_types.h"

// That a result is an error that says so.
#define EXPECT_SAYS(result, part)                                                              \
    do {                                                                                       \
        const auto& said = result;                                                             \
        EXPECT_FALSE(said);                                                                    \
        EXPECT_TRUE(!said && std::string(said.error().what()).find(part) != std::string::npos) \
            << (said ? "ok" : said.error().what());                                            \
    } while (0)

namespace slmd::tiny {

template <class T>
std::string raw(T v) {
    return {reinterpret_cast<const char*>(&v), sizeof v};
}
inline std::string gguf_text(const std::string& s) { return raw<std::uint64_t>(s.size()) + s; }

// A GGUF file, v3. Every part of it can be changed before text() joins them.
struct Gguf {
    struct Tensor {
        std::string name;
        std::vector<std::uint64_t> dims;  // fastest first
        std::uint32_t type;
        std::string data;
    };
    std::uint32_t version = 3;
    std::vector<std::pair<std::string, std::string>> keys;  // name, type and value
    std::vector<Tensor> tensors;
    std::size_t alignment = 32;
    // Called with a tensor's place to move it.
    std::function<std::uint64_t(const std::string& name, std::uint64_t offset)> move;

    void number(const std::string& key, std::uint32_t v) { keys.emplace_back(key, raw<std::uint32_t>(4) + raw(v)); }
    void real(const std::string& key, float v) { keys.emplace_back(key, raw<std::uint32_t>(6) + raw(v)); }
    void flag(const std::string& key, bool v) { keys.emplace_back(key, raw<std::uint32_t>(7) + raw<std::uint8_t>(v)); }
    void text(const std::string& key, const std::string& v) {
        keys.emplace_back(key, raw<std::uint32_t>(8) + gguf_text(v));
    }
    void texts(const std::string& key, const std::vector<std::string>& v) {
        std::string s = raw<std::uint32_t>(9) + raw<std::uint32_t>(8) + raw<std::uint64_t>(v.size());
        for (const auto& t : v) s += gguf_text(t);
        keys.emplace_back(key, s);
    }
    template <class T>
    void array(const std::string& key, std::uint32_t type, const std::vector<T>& v) {
        std::string s = raw<std::uint32_t>(9) + raw(type) + raw<std::uint64_t>(v.size());
        for (const T x : v) s += raw(x);
        keys.emplace_back(key, s);
    }
    void erase(const std::string& key) {
        std::erase_if(keys, [&](const auto& k) { return k.first == key; });
    }
    Tensor& tensor(const std::string& name) {
        for (auto& t : tensors)
            if (t.name == name) return t;
        tensors.push_back({name, {}, 0, {}});
        return tensors.back();
    }

    // boundaries: the offsets at which a key, a tensor's entry or its data begin.
    std::string file(std::vector<std::size_t>* boundaries = nullptr) const {
        const auto mark = [&](std::size_t at) {
            if (boundaries) boundaries->push_back(at);
        };
        std::string s = "GGUF" + raw(version) + raw<std::uint64_t>(tensors.size()) + raw<std::uint64_t>(keys.size());
        for (const auto& [name, value] : keys) {
            mark(s.size());
            s += gguf_text(name) + value;
        }
        std::string data;
        std::vector<std::size_t> starts;
        for (const auto& t : tensors) {
            data.resize((data.size() + alignment - 1) / alignment * alignment);
            starts.push_back(data.size());
            mark(s.size());
            s += gguf_text(t.name) + raw<std::uint32_t>(std::uint32_t(t.dims.size()));
            for (const auto d : t.dims) s += raw(d);
            s += raw(t.type) + raw<std::uint64_t>(move ? move(t.name, data.size()) : data.size());
            data += t.data;
        }
        mark(s.size());
        if (!tensors.empty()) s.resize((s.size() + alignment - 1) / alignment * alignment);
        for (const auto start : starts) mark(s.size() + start);
        return s + data;
    }
};

// Random blocks of a type whose values are small: f16 scales and minimums get an exponent around 2^-6.
inline std::string blocks(const char* type_name, std::size_t values, std::mt19937& random) {
    const auto* type = pack::tensor_type(type_name);
    const std::size_t count = values / type->block;
    std::string s(count * type->bytes, '\0');
    for (char& c : s) c = char(random());
    const auto half = [&](std::size_t at) {
        const std::uint16_t h = std::uint16_t((random() & 0x83FF) | (8 + random() % 2) << 10);
        std::memcpy(s.data() + at, &h, 2);
    };
    const std::string name = type_name;
    for (std::size_t b = 0; b < count; b++) {
        const std::size_t at = b * type->bytes;
        if (name == "F32") {
            const float f = std::uniform_real_distribution<float>(-0.2f, 0.2f)(random);
            std::memcpy(s.data() + at, &f, 4);
        } else if (name == "BF16") {  // 0.03 to 0.06
            const auto h = std::uint16_t((random() & 0x80FF) | 0x3D00);
            std::memcpy(s.data() + at, &h, 2);
        } else if (name == "F16") {
            half(at);
        } else if (name == "Q6_K") {
            half(at + 208);
        } else if (name == "MXFP4") {  // six octaves
            s[at] = char(117 + random() % 6);
        } else {
            half(at);
            if (name == "Q4_1" || name == "Q5_1" || name == "Q4_K" || name == "Q5_K") half(at + 2);
            if (name == "Q8_0")
                for (int j = 2; j < 34; j++)
                    if (s[at + j] == char(-128)) s[at + j] = 1;
        }
    }
    return s;
}

// A model of family llama: 2 layers, dim 64, hidden 96, 4 heads of 16 that share 2 key-value heads, 40 tokens, tied.
// smallest: for fuzzing.
inline Gguf llama_gguf(bool smallest = false) {
    const std::uint32_t layers = smallest ? 1 : 2, dim = smallest ? 32 : 64, hidden = smallest ? 32 : 96,
                        vocab = smallest ? 6 : 40;
    Gguf g;
    std::mt19937 random(7);
    g.text("general.architecture", "llama");
    g.number("llama.block_count", layers);
    g.number("llama.context_length", 128);
    g.number("llama.embedding_length", dim);
    g.number("llama.feed_forward_length", hidden);
    g.number("llama.attention.head_count", 4);
    g.number("llama.attention.head_count_kv", 2);
    g.real("llama.attention.layer_norm_rms_epsilon", 1e-5f);
    g.real("llama.rope.freq_base", 10000);
    std::vector<std::string> tokens;
    for (std::uint32_t i = 0; i < vocab; i++)
        tokens.push_back(i == 0 ? "<|im_end|>" : std::string(1, char('A' + int(i))));
    g.text("tokenizer.ggml.model", "gpt2");
    g.text("tokenizer.ggml.pre", "smollm");
    g.texts("tokenizer.ggml.tokens", tokens);
    std::vector<std::int32_t> types(vocab, 1);
    types[0] = 3;
    g.array("tokenizer.ggml.token_type", 5, types);
    g.texts("tokenizer.ggml.merges", {"B C", "D E"});
    g.number("tokenizer.ggml.bos_token_id", 1);
    g.number("tokenizer.ggml.eos_token_id", 2);
    g.text("tokenizer.chat_template", "{{ messages }}");
    const auto add = [&](const std::string& name, const char* type, std::uint64_t cols, std::uint64_t rows) {
        auto& t = g.tensor(name);
        t.dims = rows == 0 ? std::vector<std::uint64_t>{cols} : std::vector<std::uint64_t>{cols, rows};
        t.type = pack::tensor_type(type)->id;
        t.data = blocks(type, cols * std::max<std::uint64_t>(rows, 1), random);
    };
    add("token_embd.weight", "Q8_0", dim, vocab);
    for (std::uint32_t l = 0; l < layers; l++) {
        const std::string b = "blk." + std::to_string(l) + ".";
        add(b + "attn_norm.weight", "F32", dim, 0);
        add(b + "ffn_down.weight", "Q4_0", hidden, dim);
        add(b + "ffn_gate.weight", "Q5_1", dim, hidden);
        add(b + "ffn_up.weight", "F16", dim, hidden);
        add(b + "ffn_norm.weight", "F32", dim, 0);
        add(b + "attn_k.weight", "Q5_0", dim, dim / 2);
        add(b + "attn_output.weight", "BF16", dim, dim);
        add(b + "attn_q.weight", "Q4_1", dim, dim);
        add(b + "attn_v.weight", "Q4_1", dim, dim / 2);
    }
    add("output_norm.weight", "F32", dim, 0);
    return g;
}

// A safetensors file: tensors in the order given, with no hole between them.
struct Safetensors {
    struct Tensor {
        std::string name, dtype;
        std::vector<std::size_t> shape;
        std::string data;
    };
    std::vector<Tensor> tensors;

    Tensor& tensor(const std::string& name) {
        for (auto& t : tensors)
            if (t.name == name) return t;
        tensors.push_back({name, "F32", {}, {}});
        return tensors.back();
    }
    std::string header() const {
        std::string s = R"({"__metadata__":{"format":"pt"})";
        std::size_t at = 0;
        for (const auto& t : tensors) {
            s += ",\"" + t.name + R"(":{"dtype":")" + t.dtype + R"(","shape":[)";
            for (const auto n : t.shape) s += (s.back() == '[' ? "" : ",") + std::to_string(n);
            s += "],\"data_offsets\":[" + std::to_string(at) + "," + std::to_string(at + t.data.size()) + "]}";
            at += t.data.size();
        }
        return s + "}";
    }
    std::string file() const { return file(header()); }
    std::string file(const std::string& head) const {
        std::string s = raw<std::uint64_t>(head.size()) + head;
        for (const auto& t : tensors) s += t.data;
        return s;
    }
};

// 2 layers, dim 32, hidden 48, 4 heads of 8 that share 2 key-value heads, 24 tokens, tied.
inline const char* llama_config =
    R"({"architectures": ["LlamaForCausalLM"], "hidden_act": "silu", "hidden_size": 32, "intermediate_size": 48,
  "max_position_embeddings": 64, "model_type": "llama", "num_attention_heads": 4, "num_hidden_layers": 2, "num_key_value_heads": 2,
  "rms_norm_eps": 1e-5, "rope_theta": 10000.0, "rope_scaling": null, "tie_word_embeddings": true, "vocab_size": 24})";

inline Safetensors llama_safetensors() {
    Safetensors f;
    std::mt19937 random(9);
    const auto add = [&](const std::string& name, const char* type, std::vector<std::size_t> shape) {
        std::size_t n = 1;
        for (const auto d : shape) n *= d;
        f.tensors.push_back({name, type, shape, blocks(type, n, random)});
    };
    add("model.embed_tokens.weight", "F32", {24, 32});
    for (int l = 0; l < 2; l++) {
        const std::string b = "model.layers." + std::to_string(l) + ".";
        add(b + "input_layernorm.weight", "BF16", {32});
        add(b + "mlp.down_proj.weight", "F16", {32, 48});
        add(b + "mlp.gate_proj.weight", "BF16", {48, 32});
        add(b + "mlp.up_proj.weight", "F32", {48, 32});
        add(b + "post_attention_layernorm.weight", "BF16", {32});
        add(b + "self_attn.k_proj.weight", "BF16", {16, 32});
        add(b + "self_attn.o_proj.weight", "BF16", {32, 32});
        add(b + "self_attn.q_proj.weight", "F16", {32, 32});
        add(b + "self_attn.v_proj.weight", "BF16", {16, 32});
    }
    add("model.norm.weight", "BF16", {32});
    return f;
}

// A LoRA adapter of PEFT's for some modules ("model.layers.0.self_attn.q_proj", rows, cols): random A and B.
struct Lora {
    struct Module {
        std::string name;
        std::size_t rows, cols;
    };
    Safetensors file;
    std::string config;

    Lora(const std::vector<Module>& modules, std::size_t rank, unsigned seed = 11) {
        std::mt19937 random(seed);
        for (const Module& m : modules) {
            const std::string name = "base_model.model." + m.name;
            file.tensors.push_back(
                {name + ".lora_A.weight", "F32", {rank, m.cols}, blocks("F32", rank * m.cols, random)});
            file.tensors.push_back(
                {name + ".lora_B.weight", "F32", {m.rows, rank}, blocks("F32", m.rows * rank, random)});
        }
        config = R"({"peft_type": "LORA", "bias": "none", "lora_alpha": 8, "r": )" + std::to_string(rank) + "}";
    }
};
// Of llama_safetensors(): all seven matrices of both layers, or those of attention.
inline Lora llama_lora(std::size_t rank = 4, bool attention_only = false) {
    std::vector<Lora::Module> modules;
    for (int l = 0; l < 2; l++) {
        const std::string b = "model.layers." + std::to_string(l) + ".";
        for (const auto& [name, rows] : {std::pair{"q", 32}, {"k", 16}, {"v", 16}, {"o", 32}})
            modules.push_back({b + "self_attn." + name + "_proj", std::size_t(rows), 32});
        if (attention_only) continue;
        modules.push_back({b + "mlp.gate_proj", 48, 32});
        modules.push_back({b + "mlp.up_proj", 48, 32});
        modules.push_back({b + "mlp.down_proj", 32, 48});
    }
    return {modules, rank};
}
// The same as convert_lora_to_gguf.py of llama.cpp writes it for a Llama: heads' rows as adjacent RoPE pairs.
inline Gguf lora_gguf(const Lora& lora, float alpha, std::size_t head_dim = 8) {
    Gguf g;
    g.text("general.architecture", "llama");
    g.text("general.type", "adapter");
    g.text("adapter.type", "lora");
    g.real("adapter.lora.alpha", alpha);
    const std::pair<const char*, const char*> names[] = {
        {"self_attn.q_proj", "attn_q"},      {"self_attn.k_proj", "attn_k"}, {"self_attn.v_proj", "attn_v"},
        {"self_attn.o_proj", "attn_output"}, {"mlp.gate_proj", "ffn_gate"},  {"mlp.up_proj", "ffn_up"},
        {"mlp.down_proj", "ffn_down"}};
    for (const auto& t : lora.file.tensors)
        for (const auto& [theirs, ours] : names) {
            const auto at = t.name.find(theirs);
            if (at == t.name.npos) continue;
            const bool is_b = t.name.find("lora_B") != t.name.npos;
            const std::string name =
                std::string("blk.") + t.name[at - 2] + "." + ours + ".weight.lora_" + (is_b ? "b" : "a");
            std::string data = t.data;
            const std::size_t row = t.shape[1] * 4;
            const bool turns = is_b && (std::string(ours) == "attn_q" || std::string(ours) == "attn_k");
            for (std::size_t r = 0; turns && r < t.shape[0]; r++) {
                const std::size_t i = r % head_dim,
                                  to = r - i + (i < head_dim / 2 ? 2 * i : 2 * (i - head_dim / 2) + 1);
                data.replace(to * row, row, t.data, r * row, row);
            }
            g.tensors.push_back({name, {t.shape[1], t.shape[0]}, 0, data});
        }
    return g;
}

// A linear layer in 4 bits: value(o, i) = (code - zero) x scale.
struct FourBitLayer {
    std::size_t outputs, inputs;
    std::vector<int> codes;             // outputs x inputs
    std::vector<int> zeros;             // groups x outputs
    std::vector<std::uint16_t> scales;  // groups x outputs, f16
    std::vector<std::int32_t> group;    // of every input
    float value(std::size_t o, std::size_t i) const {
        const std::size_t g = std::size_t(group[i]) * outputs + o;
        return float(codes[o * inputs + i] - zeros[g]) * pack::half_to_float(scales[g]);
    }
};

enum class FourBitForm { gptq, gptq_v2, awq };

// llama_safetensors() with hidden 64 and its linear layers in 4 bits, but the last down_proj. group 0: one a row.
struct FourBitModel {
    Safetensors file;
    std::map<std::string, FourBitLayer> layers;  // by the module's name
    std::string config;

    FourBitModel(FourBitForm form, std::size_t group_size, bool permuted = false) {
        std::mt19937 random(17);
        for (Safetensors::Tensor t : llama_safetensors().tensors) {
            const bool is_linear = t.name.find("_proj.") != t.name.npos;
            if (is_linear)
                for (auto& n : t.shape) n = n == 48 ? 64 : n;
            const std::string module = t.name.substr(0, t.name.rfind('.'));
            if (is_linear && module == "model.layers.1.mlp.down_proj") t.data = blocks("F16", 32 * 64, random);
            if (is_linear && module != "model.layers.1.mlp.down_proj")
                add(module, form, t.shape[0], t.shape[1], group_size == 0 ? t.shape[1] : group_size, permuted, random);
            else
                file.tensors.push_back(t);
        }
        config = llama_config;
        config.replace(config.find("\"intermediate_size\": 48"), 23, "\"intermediate_size\": 64");
        config.replace(config.find("\"rope_scaling\": null"), 20,
                       "\"quantization_config\": " + quantization(form, group_size, permuted));
    }

  private:
    static std::string quantization(FourBitForm form, std::size_t group_size, bool permuted) {
        const std::string size = group_size == 0 ? "-1" : std::to_string(group_size);
        if (form == FourBitForm::awq)
            return R"({"bits": 4, "group_size": )" + size +
                   R"(, "modules_to_not_convert": ["model.layers.1.mlp.down_proj"],
                    "quant_method": "awq", "version": "gemm", "zero_point": true})";
        return std::string(R"({"bits": 4, "checkpoint_format": ")") + (form == FourBitForm::gptq ? "gptq" : "gptq_v2") +
               R"(", "desc_act": )" + (permuted ? "true" : "false") + R"(, "group_size": )" + size +
               R"(, "quant_method": "gptq", "sym": false})";
    }

    void add(const std::string& module, FourBitForm form, std::size_t outputs, std::size_t inputs, std::size_t size,
             bool permuted, std::mt19937& random) {
        FourBitLayer l{outputs, inputs, {}, {}, {}, {}};
        const std::size_t groups = (inputs + size - 1) / size;
        for (std::size_t i = 0; i < outputs * inputs; i++) l.codes.push_back(int(random() % 16));
        for (std::size_t i = 0; i < groups * outputs; i++) l.zeros.push_back(int(random() % 16));
        const std::string scales = blocks("F16", groups * outputs, random);
        l.scales.resize(groups * outputs);
        std::memcpy(l.scales.data(), scales.data(), scales.size());
        for (std::size_t i = 0; i < inputs; i++) l.group.push_back(std::int32_t(i / size));
        if (permuted) std::shuffle(l.group.begin(), l.group.end(), random);

        // The packing, as the projects describe it.
        std::vector<std::uint32_t> weight(inputs * outputs / 8), zero(groups * outputs / 8);
        if (form == FourBitForm::awq) {
            const std::size_t order[8] = {0, 2, 4, 6, 1, 3, 5, 7};
            for (std::size_t word = 0; word < outputs / 8; word++)
                for (std::size_t n = 0; n < 8; n++) {
                    const std::size_t output = word * 8 + order[n];
                    for (std::size_t i = 0; i < inputs; i++)
                        weight[i * (outputs / 8) + word] |= std::uint32_t(l.codes[output * inputs + i]) << (4 * n);
                    for (std::size_t g = 0; g < groups; g++)
                        zero[g * (outputs / 8) + word] |= std::uint32_t(l.zeros[g * outputs + output]) << (4 * n);
                }
        } else {
            for (std::size_t o = 0; o < outputs; o++) {
                for (std::size_t i = 0; i < inputs; i++)
                    weight[i / 8 * outputs + o] |= std::uint32_t(l.codes[o * inputs + i]) << (i % 8 * 4);
                for (std::size_t g = 0; g < groups; g++) {
                    const int stored = l.zeros[g * outputs + o] - (form == FourBitForm::gptq ? 1 : 0);
                    zero[(g * outputs + o) / 8] |= (std::uint32_t(stored) & 15) << (o % 8 * 4);
                }
            }
        }
        const auto text = [](const auto& v) {
            return std::string(reinterpret_cast<const char*>(v.data()), v.size() * sizeof v[0]);
        };
        const bool awq = form == FourBitForm::awq;
        file.tensors.push_back({module + ".qweight", "I32",
                                awq ? std::vector{inputs, outputs / 8} : std::vector{inputs / 8, outputs},
                                text(weight)});
        file.tensors.push_back({module + ".qzeros", "I32", {groups, outputs / 8}, text(zero)});
        file.tensors.push_back({module + ".scales", "F16", {groups, outputs}, scales});
        if (!awq) {
            file.tensors.push_back({module + ".g_idx", "I32", {inputs}, text(l.group)});
            file.tensors.push_back({module + ".bias", "F16", {outputs}, std::string(2 * outputs, 0)});  // AutoGPTQ's
        }
        layers.emplace(module, std::move(l));
    }
};

// The same shape in llama2.c's format, every value its place in the file.
inline std::string llama_llama2c(bool tied, std::vector<std::size_t>* boundaries = nullptr) {
    const std::size_t dim = 32, hidden = 48, layers = 2, kv = 16, vocab = 24, context = 64, head_dim = 8;
    std::string s;
    for (const int v : {int(dim), int(hidden), int(layers), 4, 2, tied ? int(vocab) : -int(vocab), int(context)})
        s += raw<std::int32_t>(v);
    std::vector<std::size_t> sizes = {vocab * dim,
                                      layers * dim,
                                      layers * dim * dim,
                                      layers * dim * kv,
                                      layers * dim * kv,
                                      layers * dim * dim,
                                      layers * dim,
                                      layers * dim * hidden,
                                      layers * dim * hidden,
                                      layers * dim * hidden,
                                      dim,
                                      context * head_dim};
    if (!tied) sizes.push_back(vocab * dim);
    float place = 0;
    for (const auto n : sizes) {
        if (boundaries) boundaries->push_back(s.size());
        for (std::size_t i = 0; i < n; i++) s += raw(place++);
    }
    return s;
}

}  // namespace slmd::tiny
