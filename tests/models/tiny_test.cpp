// models/tiny against the golden answers that its recipe wrote: the reference agrees with numpy, and images of every
// kind answer alike.
#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdio>
#include <fstream>
#include <memory>
#include <nlohmann/json.hpp>
#include <optional>

#include "engine/engine.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/reference/reference.h"

using namespace slmd;

namespace {

constexpr char tiny[] = SLMD_SOURCE "/models/tiny";

const nlohmann::json& cases() {
    static const nlohmann::json all = nlohmann::json::parse(std::ifstream(std::string(tiny) + "/golden/cases.json"));
    return all;
}

std::vector<std::int32_t> ids(const nlohmann::json& list) { return list.get<std::vector<std::int32_t>>(); }

std::int32_t best(std::span<const float> logits) {
    return static_cast<std::int32_t>(std::max_element(logits.begin(), logits.end()) - logits.begin());
}

TEST(TinyModel, ReferenceAgreesWithTheRecipe) {
    const auto source = pack::Source::open(tiny);
    ASSERT_TRUE(source) << source.error().text;
    const auto reference = pack::Reference::open(*source.value());
    ASSERT_TRUE(reference) << reference.error().text;
    const auto last = pack::read_npy_floats(std::string(tiny) + "/golden/last_logits.npy");
    ASSERT_TRUE(last) << last.error().text;
    ASSERT_GE(cases().size(), 12u);
    ASSERT_EQ(last.value().shape[0], cases().size());
    const std::size_t vocab = last.value().shape[1];
    for (std::size_t i = 0; i < cases().size(); i++) {
        const auto& c = cases()[i];
        const auto tokens = ids(c["tokens"]);
        const auto got = reference.value()->logits(tokens);
        ASSERT_TRUE(got) << got.error().text;
        const std::span<const float> logits = got.value();
        for (std::size_t p = 0; p < tokens.size(); p++)
            EXPECT_EQ(best(logits.subspan(p * vocab, vocab)), c["top1"][p]) << c["input"] << " at " << p;
        for (std::size_t v = 0; v < vocab; v++)
            ASSERT_NEAR(logits[(tokens.size() - 1) * vocab + v], last.value().values[i * vocab + v], 2e-4)
                << c["input"] << " token " << v;
        if (!c.contains("greedy")) continue;
        const auto steps = reference.value()->greedy(tokens, 72, std::vector<std::int32_t>{2});
        ASSERT_TRUE(steps) << steps.error().text;
        std::vector<std::int32_t> answer;
        for (const auto& s : steps.value()) answer.push_back(s.token);
        EXPECT_EQ(answer, ids(c["greedy"])) << c["input"];
    }
}

// The whole way of a request: template, tokenizer, engine. The greedy margins are above 6, so that rounding to 4 bits
// may not change an answer.
TEST(TinyModel, ImagesOfEveryKindAnswerAlike) {
    const auto source = pack::Source::open(tiny);
    ASSERT_TRUE(source) << source.error().text;
    const std::string path = testing::TempDir() + "slmd-models-tiny-" + std::to_string(getpid()) + ".slm";
    for (const auto kind :
         {std::optional<image::Kind>{}, std::optional{image::Kind::i4}, std::optional{image::Kind::i8}}) {
        pack::ImportOptions options;
        options.kind = kind;
        const auto done = pack::import_model(*source.value(), path, options);
        ASSERT_TRUE(done) << done.error().text;
        auto image = image::Image::open(path.c_str(), {});
        std::remove(path.c_str());
        ASSERT_TRUE(image) << image.error().text;
        auto tokenizer = text::Tokenizer::open(image->section(image::SectionId::tokenizer));
        auto chat = text::ChatTemplate::open(image->section(image::SectionId::chat));
        ASSERT_TRUE(tokenizer) << tokenizer.error().text;
        ASSERT_TRUE(chat) << chat.error().text;
        engine::Config config;
        config.context = 256;
        const auto opened = engine::Engine::open(image.value(), config);
        ASSERT_TRUE(opened) << opened.error().text;
        const std::unique_ptr<engine::Engine> engine(opened.value());
        const std::atomic<bool> never{false};

        for (const auto& c : cases()) {
            std::vector<char> rendered(4096);
            std::vector<text::Trusted> trusted(64);
            std::size_t bytes, parts;
            if (c["kind"] == "chat") {
                std::vector<std::string> texts;
                for (const auto& m : c["input"]) texts.push_back(m["content"]);
                std::vector<text::Message> messages;
                for (std::size_t i = 0; i < texts.size(); i++) {
                    const auto& role = c["input"][i]["role"];
                    messages.push_back({role == "system" ? text::Role::system
                                        : role == "user" ? text::Role::user
                                                         : text::Role::assistant,
                                        texts[i]});
                }
                auto r = chat->render(messages, rendered, trusted);
                ASSERT_TRUE(r) << r.error().text;
                bytes = r->bytes, parts = r->trusted;
                EXPECT_EQ(std::string_view(rendered.data(), bytes), c["rendered"].get<std::string>());
            } else {
                const auto plain = c["input"].get<std::string>();
                bytes = plain.copy(rendered.data(), rendered.size()), parts = 0;
            }
            std::vector<std::int32_t> tokens(256);
            std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(bytes));
            const auto n =
                tokenizer->encode({rendered.data(), bytes}, {trusted.data(), parts}, !chat->has_bos(), tokens, scratch);
            ASSERT_TRUE(n) << n.error().text;
            tokens.resize(n.value());
            EXPECT_EQ(tokens, ids(c["tokens"])) << c["input"];
            if (c["kind"] != "chat") continue;

            std::string answer;
            while (tokens.size() < 256) {
                auto progress = engine->advance(0, tokens, 256, never);
                ASSERT_TRUE(progress) << progress.error().text;
                const std::int32_t next = best(progress->logits);
                answer += tokenizer->piece(next, true);
                tokens.push_back(next);
                if (tokenizer->is_end(next)) break;
            }
            EXPECT_EQ(answer, c["greedy_text"].get<std::string>()) << "kind " << (kind ? static_cast<int>(*kind) : -1);
        }
    }
}

}  // namespace
