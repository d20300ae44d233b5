// Embeddings: those of a tiny BERT against NumPy's, the same bits however they are computed, those of models that
// write, and images that are not what they should be.
#include "engine/encoder.h"

#include <gtest/gtest.h>
#include <unistd.h>

#include <algorithm>
#include <cmath>
#include <cstdlib>
#include <filesystem>
#include <functional>
#include <memory>
#include <nlohmann/json.hpp>

#include "base/file.h"
#include "compute/kernels.h"
#include "task/embed.h"
#include "task/golden.h"
#include "toolchain/slmpack/image/import.h"
#include "toolchain/slmpack/npy.h"

namespace slmd {
namespace {

using engine::Encoder;
using engine::Engine;
using Tokens = std::vector<std::int32_t>;
using Floats = std::vector<float>;
constexpr char bert[] = SLMD_SOURCE "/tests/pack/bert";
const std::atomic<bool> never{false};

image::Image import_image(const std::string& from, std::optional<image::Kind> kind,
                          const std::function<void(pack::Source&)>& change = {}) {
    const auto source = pack::Source::open(from);
    EXPECT_TRUE(source) << source.error().what();
    if (change) change(*source.value());
    const std::string path = testing::TempDir() + "slmd-encoder-" + std::to_string(getpid()) + ".slm";
    const auto imported = pack::import_model(*source.value(), path, {.kind = kind});
    EXPECT_TRUE(imported) << imported.error().what();
    auto opened = image::Image::open(path.c_str(), {});
    std::filesystem::remove(path);
    EXPECT_TRUE(opened) << opened.error().what();
    return std::move(opened).value();
}

struct Golden {
    std::vector<std::string> texts;
    std::vector<Tokens> tokens;  // as they are read
    Floats embeddings;
    std::size_t dim;
};

Golden golden_of(const std::string& folder, std::size_t longest) {
    Golden g;
    const auto file = MappedFile::open((folder + "/cases.json").c_str());
    EXPECT_TRUE(file);
    const std::string text(reinterpret_cast<const char*>(file.value().bytes().data()), file.value().bytes().size());
    for (const auto& c : nlohmann::json::parse(text)) {
        g.texts.push_back(c["text"]);
        auto tokens = c["tokens"].get<Tokens>();
        if (tokens.size() > longest)
            tokens.erase(tokens.begin() + static_cast<std::ptrdiff_t>(longest) - 1, tokens.end() - 1);
        g.tokens.push_back(tokens);
    }
    auto embeddings = pack::read_npy_floats(folder + "/embeddings.npy");
    EXPECT_TRUE(embeddings);
    g.embeddings = std::move(embeddings.value().values);
    g.dim = embeddings.value().shape.at(1);
    return g;
}

std::unique_ptr<Encoder> encoder_of(const image::Image& image, const engine::Config& config = {.context = 0}) {
    auto e = Encoder::open(image, config);
    EXPECT_TRUE(e) << (e ? "" : e.error().what());
    return std::unique_ptr<Encoder>(e.value());
}

// together: texts that are given at a time.
Floats embed(Encoder& e, const std::vector<Tokens>& texts, std::size_t together) {
    const auto dim = static_cast<std::size_t>(e.dim());
    Floats out(texts.size() * dim);
    for (std::size_t first = 0; first < texts.size();) {
        std::vector<Encoder::Text> some;
        for (std::size_t i = first; i < std::min(first + together, texts.size()); i++)
            some.push_back({texts[i], out.data() + i * dim});
        const auto n = e.embed(some, never);
        EXPECT_TRUE(n) << n.error().what();
        if (!n) break;
        first += static_cast<std::size_t>(n.value());
    }
    return out;
}

double least_cosine(const Floats& a, const Floats& b, std::size_t dim) {
    double least = 1;
    for (std::size_t at = 0; at < a.size(); at += dim) {
        double dot = 0, aa = 0, bb = 0;
        for (std::size_t i = at; i < at + dim; i++) dot += a[i] * b[i], aa += a[i] * a[i], bb += b[i] * b[i];
        least = std::min(least, dot / std::sqrt(aa * bb));
    }
    return least;
}

struct Kind {
    const char* name;
    std::optional<image::Kind> kind;
    double cosine;
};
class Kinds : public testing::TestWithParam<Kind> {};

TEST_P(Kinds, AreNearNumPyAndTheSameBitsHowever) {
    const Golden g = golden_of(bert, 24);
    const auto image = import_image(bert, GetParam().kind);
    const auto e = encoder_of(image, {.context = 0, .threads = 2});
    EXPECT_EQ(e->context(), 24);  // of sentence_bert_config.json, not the 48 positions
    const Floats all = embed(*e, g.tokens, 100);
    const double cosine = least_cosine(g.embeddings, all, g.dim);
    std::printf("%s: least cosine %.6f\n", GetParam().name, cosine);
    EXPECT_GE(cosine, GetParam().cosine);
    for (std::size_t at = 0; at < all.size(); at += g.dim) {
        double square = 0;
        for (std::size_t i = at; i < at + g.dim; i++) square += all[i] * all[i];
        EXPECT_NEAR(square, 1, 1e-5);
    }
    EXPECT_EQ(all, embed(*e, g.tokens, 1));
    EXPECT_EQ(all, embed(*e, g.tokens, 3));
    e->work_with(1);
    EXPECT_EQ(all, embed(*e, g.tokens, 100));
    for (auto level = compute::levels(); *level != nullptr; level++)
        for (const int threads : {1, 3}) {
            const auto other = encoder_of(image, {.context = 0, .threads = threads, .level = (*level)->name});
            EXPECT_EQ(all, embed(*other, g.tokens, 2)) << (*level)->name << threads;
        }
}

INSTANTIATE_TEST_SUITE_P(Encoder, Kinds,
                         testing::Values(Kind{"f32", image::Kind::f32, 0.999999}, Kind{"i8", image::Kind::i8, 0.998},
                                         Kind{"i4", image::Kind::i4, 0.9}, Kind{"usual", std::nullopt, 0.9}),
                         [](const auto& p) { return p.param.name; });

TEST(Encoder, WorksWithAnotherEnginesThreads) {
    const Golden g = golden_of(bert, 24);
    const auto image = import_image(bert, image::Kind::i8), writer = import_image(SLMD_SOURCE "/models/tiny", {});
    auto engine = Engine::open(writer, {.context = 64, .threads = 2});
    ASSERT_TRUE(engine);
    const std::unique_ptr<Engine> owner(engine.value());
    const auto e = encoder_of(image, {.context = 0, .with = owner.get()}), alone = encoder_of(image);
    EXPECT_EQ(e->threads(), 2);
    EXPECT_EQ(embed(*e, g.tokens, 100), embed(*alone, g.tokens, 100));
    EXPECT_FALSE(Encoder::open(image, {.context = 0, .threads = 3, .with = owner.get()}));
}

TEST(Encoder, PlansWhatItTakes) {
    const auto image = import_image(bert, image::Kind::i8);
    const auto plan = engine::plan_encoder(image, {.context = 16, .threads = 2});
    ASSERT_TRUE(plan);
    const auto e = encoder_of(image, {.context = 16, .threads = 2});
    ASSERT_EQ(plan.value().count, 3);
    EXPECT_EQ(plan.value().items[1].bytes, e->arena_bytes());
    EXPECT_EQ(plan.value().items[0].bytes, image.footprint(image::Residency::whole).resident);
}

TEST(Encoder, SaysWhatIsWrongWithTokens) {
    const auto image = import_image(bert, image::Kind::i8);
    const auto e = encoder_of(image, {.context = 8});
    Floats out(32, 7);
    const auto said = [&](const Tokens& tokens) {
        const Encoder::Text text{tokens, out.data()};
        const auto r = e->embed({&text, 1}, never);
        return r ? std::string("computed") : std::string(r.error().what());
    };
    EXPECT_EQ(said({}), "a text without tokens");
    EXPECT_EQ(said(Tokens(9, 5)), "9 tokens do not fit the context of 8");
    EXPECT_NE(said({2, 5, 100000, 3}).find("token 100000 at position 2 is outside the vocabulary"), std::string::npos);
    EXPECT_NE(said({2, -1, 3}).find("token -1"), std::string::npos);
    EXPECT_FALSE(e->embed({}, never));
    EXPECT_EQ(out, Floats(32, 7));
    EXPECT_EQ(said({2, 3}), "computed");
    const std::atomic<bool> cancel{true};
    const Tokens tokens{2, 3};
    const Encoder::Text text{tokens, out.data()};
    const auto cancelled = e->embed({&text, 1}, cancel);
    ASSERT_FALSE(cancelled);
    EXPECT_EQ(cancelled.error().code, Code::aborted);
}

TEST(Encoder, RefusesImagesThatAreNotWhole) {
    const auto said = [&](const std::function<void(pack::Source&)>& change) {
        const auto image = import_image(bert, image::Kind::i8, change);
        const auto e = Encoder::open(image, {.context = 0, .threads = 1});
        if (e) delete e.value();
        return e ? std::string("taken") : std::string(e.error().what());
    };
    const auto without = [](const std::string& name) {
        return [name](pack::Source& s) { std::erase_if(s.tensors, [&](const auto& t) { return t.name == name; }); };
    };
    EXPECT_EQ(said({}), "taken");
    EXPECT_NE(said(without("blk.1.ffn_up.bias")).find("36 tensors; an encoder of 2 layers has 37"), std::string::npos);
    EXPECT_NE(
        said([](pack::Source& s) { s.params.context = 49; }).find("position_embd has 48 rows for a context of 49"),
        std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.heads = 4, s.params.kv_heads = 4; }).find("do not fit together"),
              std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.head_dim = 8; }).find("head_dim is 8"), std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.layers = 1; }).find("an encoder of 1 layers has 21"),
              std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.layers = 200; }).find("layers is 200"), std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.hidden = 64; }).find("tensor blk.0.ffn_up is 96 x 32"),
              std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.vocab = 5; }).find("tensor token_embd is"), std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.norm_eps = 0; }).find("norm_eps"), std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.flags |= image::flag_gelu; }).find("flags 0x2"), std::string::npos);
    EXPECT_NE(said([](pack::Source& s) { s.params.flags = 0, s.params.rope_dims = 16; }).find("is no encoder"),
              std::string::npos);
    const auto image = import_image(bert, image::Kind::i8);
    const auto engine = Engine::open(image, {.context = 8});
    ASSERT_FALSE(engine);
    EXPECT_NE(std::string(engine.error().what()).find("is an encoder: it embeds texts"), std::string::npos);
    for (const int context : {1, 25}) EXPECT_FALSE(Encoder::open(image, {.context = context}));
    EXPECT_FALSE(Encoder::open(image, {.context = 0, .level = "none"}));
}

TEST(Encoder, GoldenPromptsKnowItsEmbeddings) {
    const auto image = import_image(bert, image::Kind::i8);
    const auto a = encoder_of(image), b = encoder_of(image, {.context = 0, .threads = 1, .level = "scalar"});
    const Tokens tokens{2, 7, 9, 3};
    const auto first = task::embedding_hash(*a, tokens, never), second = task::embedding_hash(*b, tokens, never);
    ASSERT_TRUE(first && second);
    EXPECT_EQ(first.value(), second.value());
}

// all-MiniLM-L6-v2, of toolchain/fetch-model minilm, against transformers in float32.
TEST(MiniLm, HasItsGoldenEmbeddings) {
    const char* const cache = std::getenv("SLMD_CACHE");
    const char* const home = std::getenv("HOME");
    const std::string folder = (cache != nullptr ? std::string(cache)
                                                 : std::string(home == nullptr ? "" : home) + "/.cache/slmd") +
                               "/all-MiniLM-L6-v2",
                      shared = SLMD_SHARED "/golden/all-minilm-l6-v2";
    if (!std::filesystem::exists(folder) || !std::filesystem::exists(shared))
        GTEST_SKIP() << "SKIPPED: needs toolchain/fetch-model minilm and " << shared;
    const Golden g = golden_of(shared, 256);
    for (const Kind& kind :
         {Kind{"f32", image::Kind::f32, 0.9999}, Kind{"i8", image::Kind::i8, 0.995}, Kind{"usual", {}, 0.96}}) {
        const auto image = import_image(folder, kind.kind);
        const auto e = encoder_of(image, {.context = 0, .threads = 2});
        EXPECT_EQ(e->context(), 256);
        const auto tokenizer = text::Tokenizer::open(image.section(image::SectionId::tokenizer));
        ASSERT_TRUE(tokenizer);
        for (std::size_t i = 0; i < g.texts.size(); i++) {
            Tokens tokens(256);
            std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(g.texts[i].size()));
            tokens.resize(tokenizer.value().encode_fitting(g.texts[i], tokens, scratch).value().tokens);
            EXPECT_EQ(tokens, g.tokens[i]) << g.texts[i];
        }
        const Floats all = embed(*e, g.tokens, 100);
        const double cosine = least_cosine(g.embeddings, all, g.dim);
        std::printf("%s: least cosine %.6f\n", kind.name, cosine);
        EXPECT_GE(cosine, kind.cosine) << kind.name;
        EXPECT_EQ(all, embed(*encoder_of(image, {.context = 0, .threads = 1}), g.tokens, 1)) << kind.name;
    }
}

// ---- the task

TEST(Embedding, PacksTextsAndSaysWhatWasCut) {
    const Golden g = golden_of(bert, 24);
    const auto image = import_image(bert, image::Kind::f32);
    const auto e = encoder_of(image);
    const auto tokenizer = text::Tokenizer::open(image.section(image::SectionId::tokenizer));
    ASSERT_TRUE(tokenizer);
    std::vector<task::EmbeddedText> texts;
    for (const std::string& t : g.texts) texts.push_back({t});
    Floats vectors(texts.size() * g.dim);
    Tokens tokens(24);
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(1000));
    task::Embedding embedding;
    ASSERT_TRUE(embedding.open(tokenizer.value(), texts, 32, vectors, tokens, 0, {{}, {}, scratch}));
    int passes = 0;
    for (bool done = false; !done; passes++) {
        const auto r = embedding.work(*e, never, 0);
        ASSERT_TRUE(r) << r.error().what();
        done = r.value();
    }
    EXPECT_LT(passes, static_cast<int>(texts.size()));
    EXPECT_EQ(embedding.done(), static_cast<int>(texts.size()));
    EXPECT_EQ(vectors, embed(*e, g.tokens, 1));
    int read = 0;
    for (std::size_t i = 0; i < texts.size(); i++) {
        EXPECT_EQ(texts[i].tokens, static_cast<int>(g.tokens[i].size()));
        read += texts[i].tokens;
    }
    EXPECT_EQ(read, embedding.read());
    EXPECT_EQ(std::count_if(texts.begin(), texts.end(), [](const auto& t) { return t.cut; }), 2);

    EXPECT_FALSE(embedding.open(tokenizer.value(), {}, 32, vectors, tokens, 0, {{}, {}, scratch}));
    EXPECT_FALSE(
        embedding.open(tokenizer.value(), texts, 32, std::span(vectors).first(40), tokens, 0, {{}, {}, scratch}));
    ASSERT_TRUE(embedding.open(tokenizer.value(), texts, 32, vectors, tokens, 5, {{}, {}, scratch}));
    const auto late = embedding.work(*e, never, 5);
    ASSERT_FALSE(late);
    EXPECT_EQ(late.error().code, Code::deadline);
    const std::atomic<bool> cancel{true};
    const auto cancelled = embedding.work(*e, cancel, 0);
    ASSERT_TRUE(cancelled);
    EXPECT_TRUE(cancelled.value());
    EXPECT_EQ(embedding.finish(), task::Finish::cancelled);
}

// Of a model that writes: the mean of its hidden states, whatever the passes, threads and what the cache held before.
TEST(Embedding, OfAModelThatWritesIsTheMeanOfItsHiddenStates) {
    const auto image = import_image(SLMD_SOURCE "/models/tiny", image::Kind::i8);
    const auto tokenizer = text::Tokenizer::open(image.section(image::SectionId::tokenizer));
    ASSERT_TRUE(tokenizer);
    const std::string text = "The pump in hall three is leaking oil, and nobody answers the telephone.";
    const auto dim = image.params().dim;
    std::vector<std::byte> scratch(text::Tokenizer::scratch_bytes(text.size()));
    const auto vector_of = [&](const engine::Config& config, int chunk, bool used, std::size_t room) {
        auto opened = Engine::open(image, config);
        EXPECT_TRUE(opened);
        const std::unique_ptr<Engine> e(opened.value());
        Tokens tokens(room), before(room);
        if (used) {  // its prefix is in the cache, and counts all the same
            before.resize(tokenizer.value().encode(text, {}, true, before, scratch).value());
            EXPECT_TRUE(e->advance(0, std::span(before).first(before.size() / 2), 1000, never));
        }
        task::EmbeddedText texts[] = {{text}, {text}};
        Floats vectors(2 * dim);
        task::Embedding embedding;
        EXPECT_TRUE(
            embedding.open(tokenizer.value(), texts, static_cast<int>(dim), vectors, tokens, 0, {{}, {}, scratch}));
        for (bool done = false; !done;) {
            Engine::Step step;
            EXPECT_TRUE(embedding.ask(0, chunk, never, 0, step));
            EXPECT_TRUE(e->advance({&step, 1}));
            done = embedding.take(step);
        }
        EXPECT_TRUE(std::equal(vectors.begin(), vectors.begin() + dim, vectors.begin() + dim));
        EXPECT_EQ(texts[0].cut, room < 20);
        vectors.resize(dim);
        return vectors;
    };
    const Floats whole = vector_of({.context = 128, .threads = 2, .batch = 64}, 64, false, 128);
    EXPECT_EQ(whole, vector_of({.context = 128, .threads = 1, .batch = 1}, 1, false, 128));
    EXPECT_EQ(whole, vector_of({.context = 128, .threads = 2, .batch = 7}, 5, true, 128));
    EXPECT_EQ(whole, vector_of({.context = 128, .threads = 3, .batch = 64, .level = "scalar"}, 64, true, 128));
    const Floats begin = vector_of({.context = 128, .threads = 2}, 64, false, 10);
    EXPECT_NE(whole, begin);

    // The last hidden state is what the last token adds to the sum; times the output matrix it is the logits.
    auto opened = Engine::open(image, {.context = 64, .threads = 1});
    ASSERT_TRUE(opened);
    const std::unique_ptr<Engine> e(opened.value());
    Tokens tokens(64);
    tokens.resize(tokenizer.value().encode(text, {}, true, tokens, scratch).value());
    const auto sum_of = [&](std::size_t n) {
        Floats sum(dim, 5);
        engine::Pool pool{sum.data()};
        Engine::Step step{.slot = 0, .tokens = std::span(tokens).first(n), .pool = &pool};
        while (pool.tokens < static_cast<int>(n)) EXPECT_TRUE(e->advance({&step, 1}));
        return sum;
    };
    Floats last = sum_of(tokens.size());
    const Floats before = sum_of(tokens.size() - 1);
    for (std::size_t i = 0; i < dim; i++) last[i] -= before[i];
    auto p = e->advance(0, tokens, 1000, never);
    ASSERT_TRUE(p);
    const auto output = image.tensor((image.params().flags & image::flag_tied_output) != 0 ? "token_embd" : "output");
    ASSERT_TRUE(output);
    const compute::Matrix w{static_cast<int>(output.value().rows + 7) / 8 * 8,
                            static_cast<int>(output.value().cols),
                            reinterpret_cast<const std::uint8_t*>(output.value().codes.data()),
                            reinterpret_cast<const std::uint8_t*>(output.value().scales.data()),
                            nullptr,
                            nullptr};
    Floats row(dim), logits;
    for (std::uint32_t r = 0; r < image.params().vocab; r++) {
        compute::row_i8(w, static_cast<int>(r), row.data());
        float sum = 0;
        for (std::size_t i = 0; i < dim; i++) sum += row[i] * last[i];
        logits.push_back(sum);
    }
    EXPECT_GT(least_cosine(logits, Floats(p->logits.begin(), p->logits.end()), logits.size()), 0.9995);
}

}  // namespace
}  // namespace slmd
