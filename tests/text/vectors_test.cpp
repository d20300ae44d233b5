// Token by token against other people's tokenizers: llama.cpp's test vectors, and what Hugging Face made of SmolLM2's
// golden cases.
#include <gtest/gtest.h>

#include <fstream>
#include <nlohmann/json.hpp>
#include <sstream>

#include "tests/text/fixtures.h"
#include "text/chat.h"

namespace slmd::tests {
namespace {

struct Vector {
    std::string input;
    Ids ids;
};

std::vector<Vector> read_vectors(const std::string& name) {
    const std::string inputs = read_file(shared("tokenizers/vectors/" + name + ".inp")),
                      mark = "\n__ggml_vocab_test__\n";
    std::istringstream outputs(read_file(shared("tokenizers/vectors/" + name + ".out")));
    std::vector<Vector> all;
    for (std::size_t begin = 0, end; begin <= inputs.size(); begin = end + mark.size()) {
        end = inputs.find(mark, begin);
        std::string line;
        if (end == std::string::npos || !std::getline(outputs, line)) break;
        std::istringstream numbers(line);
        Vector v{inputs.substr(begin, end - begin), {}};
        for (std::int32_t id; numbers >> id;) v.ids.push_back(id);
        all.push_back(v);
    }
    return all;
}

void check_vectors(const std::string& name, const pack::TokenizerSpec& spec) {
    const Loaded tokenizer(spec);
    const auto vectors = read_vectors(name);
    ASSERT_GE(vectors.size(), 40u);
    for (const Vector& v : vectors) {
        EXPECT_EQ(tokenizer.encode(v.input), v.ids) << name << ": \"" << v.input << '"';
        EXPECT_EQ(tokenizer.decode(v.ids), v.input) << name;
    }
}

pack::TokenizerSpec folder(const std::string& name) {
    auto spec = pack::read_tokenizer_folder(shared("tokenizers/" + name));
    if (!spec) throw std::runtime_error(spec.error().text);
    return std::move(spec).value();
}

class Vectors : public testing::Test {
    void SetUp() override {
        if (!exists(shared("tokenizers/vectors"))) GTEST_SKIP() << "SKIPPED: no " << shared("tokenizers/vectors");
    }
};

TEST_F(Vectors, Gpt2) { check_vectors("gpt-2", read_gguf_tokenizer(shared("tokenizers/ggml-vocab-gpt-2.gguf"))); }
TEST_F(Vectors, LlamaSpmFromGguf) {
    check_vectors("llama-spm", read_gguf_tokenizer(shared("tokenizers/ggml-vocab-llama-spm.gguf")));
}
TEST_F(Vectors, LlamaSpmFromModel) { check_vectors("llama-spm", folder("llama2")); }
TEST_F(Vectors, LlamaSpmFromLlama2c) {
    const std::string bytes = read_file(shared("tokenizers/llama2/tokenizer.bin"));
    auto spec = pack::read_llama2c_tokenizer(std::as_bytes(std::span(bytes)), "tokenizer.bin");
    ASSERT_TRUE(spec) << spec.error().text;
    check_vectors("llama-spm", *spec);
}
TEST_F(Vectors, LlamaBpe) { check_vectors("llama-bpe", folder("llama3")); }
TEST_F(Vectors, Qwen2) { check_vectors("qwen2", folder("qwen2.5")); }

// kind text: the tokens of the input. kind chat: the rendered conversation, and its tokens.
void check_golden(const pack::TokenizerSpec& spec, std::string_view jinja, const std::string& name) {
    const Loaded tokenizer(spec);
    auto section = pack::build_chat(jinja, spec);
    ASSERT_TRUE(section) << section.error().text;
    auto chat = text::ChatTemplate::open(*section);
    ASSERT_TRUE(chat) << chat.error().text;

    int texts = 0, chats = 0;
    for (const auto& c : nlohmann::json::parse(read_file(shared("golden/" + name + "/cases.json")))) {
        const Ids want = c["tokens"];
        if (c["kind"] == "text") {
            std::string input;
            if (c["input"].is_string()) {
                input = c["input"];
            } else {  // the first characters of a file
                const std::string file = read_file(shared(c["input"]["file"]));
                std::size_t at = 0;
                for (int n = c["input"]["first_characters"]; n > 0; --n) do
                        ++at;
                    while ((static_cast<unsigned char>(file[at]) & 0xC0) == 0x80);
                input = file.substr(0, at);
            }
            EXPECT_EQ(tokenizer.encode(input, false, true), want) << input.substr(0, 100);
            ++texts;
            continue;
        }
        std::vector<std::string> keep;
        std::vector<text::Message> messages;
        for (const auto& m : c["input"]) keep.push_back(m["content"]);
        for (std::size_t i = 0; i < keep.size(); ++i) {
            const std::string role = c["input"][i]["role"];
            messages.push_back({role == "system" ? text::Role::system
                                : role == "user" ? text::Role::user
                                                 : text::Role::assistant,
                                keep[i]});
        }
        std::vector<char> out(65536);
        std::vector<text::Trusted> trusted(64);
        const auto rendered = chat->render(messages, out, trusted);
        ASSERT_TRUE(rendered) << rendered.error().text;
        const std::string text(out.data(), rendered.value().bytes);
        trusted.resize(rendered.value().trusted);
        EXPECT_EQ(text, c["rendered"].get<std::string>());
        EXPECT_EQ(tokenizer.encode(text, trusted), want) << text;
        ++chats;
    }
    EXPECT_GE(texts, 10);
    EXPECT_GE(chats, 3);
}

constexpr const char* smollm2_gguf = "SmolLM2-135M-Instruct.Q4_1.gguf";

TEST_F(Vectors, GoldenSmolLM2) {
    // This vocabulary is SmolLM2's, special tokens included; the template is the one that SmolLM2 was published with.
    check_golden(folder("smollm"), read_file(SLMD_SOURCE "/models/templates/smollm2.jinja"), "smollm2-135m-instruct");
}

TEST_F(Vectors, GoldenSmolLM2FromGguf) {
    const std::string path = cached_model(smollm2_gguf);
    if (!exists(path)) GTEST_SKIP() << "SKIPPED: no " << path;
    std::string jinja;
    const auto spec = read_gguf_tokenizer(path, &jinja);
    check_golden(spec, jinja, "smollm2-135m-instruct");
}

TEST_F(Vectors, GoldenQwen25) {
    auto spec = folder("qwen2.5");
    const auto config = nlohmann::json::parse(read_file(shared("tokenizers/qwen2.5/tokenizer_config.json")));
    check_golden(spec, config["chat_template"].get<std::string>(), "qwen2.5-coder-0.5b-instruct");
}

}  // namespace
}  // namespace slmd::tests
