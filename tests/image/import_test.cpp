// From a source to an image: the policy, the values that arrive, the sections beside the weights.
#include "toolchain/slmpack/image/import.h"

#include <gtest/gtest.h>

#include "image/image.h"
#include "synthetic.h"
#include "tests/pack/tiny.h"
#include "text/chat.h"
#include "text/tokenizer.h"
#include "unpack.h"

namespace slmd::test {
namespace {

using image::Image;
using image::Kind;

constexpr char tiny_model[] = SLMD_SOURCE "/models/tiny";

// Relative RMS distance of an image's tensor from the source's values.
double distance(const image::Tensor& t, const std::vector<float>& want) {
    double error = 0, power = 0;
    for (std::uint32_t r = 0; r < t.rows; r++)
        for (std::uint32_t c = 0; c < t.cols; c++) {
            const double w = want[std::size_t{r} * t.cols + c], e = value(t, r, c) - w;
            error += e * e;
            power += w * w;
        }
    return std::sqrt(error / power);
}

TEST(Import, TinyModelByKind) {
    const auto source = pack::Source::open(tiny_model);
    ASSERT_TRUE(source) << source.error().text;
    const TemporaryFolder folder;
    struct Case {
        std::optional<Kind> kind;
        Kind linear, embedding;
    };
    for (const Case& c : {Case{{}, Kind::i4, Kind::i8}, Case{Kind::i4, Kind::i4, Kind::i4},
                          Case{Kind::i6, Kind::i6, Kind::i6}, Case{Kind::i8, Kind::i8, Kind::i8}}) {
        const std::string path = folder / "m.slm";
        pack::ImportOptions options;
        options.kind = c.kind;
        const auto done = pack::import_model(*source.value(), path, options);
        ASSERT_TRUE(done) << done.error().text;
        EXPECT_EQ(done.value().image_bytes, std::filesystem::file_size(path));
        auto image = Image::open(path.c_str(), {});
        ASSERT_TRUE(image) << image.error().text;
        EXPECT_EQ(std::memcmp(&image->params(), &source.value()->params, sizeof(image::ModelParams)), 0);
        EXPECT_EQ(image->tensors().size(), source.value()->tensors.size() + 1);
        EXPECT_STREQ(image->tensors().back().name, "token_embd") << "tied: it is read last, as the output matrix";
        for (const auto& t : source.value()->tensors) {
            const auto got = image->tensor(t.name);
            ASSERT_TRUE(got) << got.error().text;
            const Kind want = t.rows == 1 ? Kind::f32 : t.name == "token_embd" ? c.embedding : c.linear;
            EXPECT_EQ(got.value().kind, want) << t.name;
            const double bound = want == Kind::f32 ? 0 : want == Kind::i8 ? 0.008 : want == Kind::i6 ? 0.03 : 0.095;
            const auto values = source.value()->read(t);
            ASSERT_TRUE(values);
            EXPECT_LE(distance(got.value(), values.value()), bound) << t.name;
        }
        const auto rope = image->tensor("rope.inv_freq");
        ASSERT_TRUE(rope);
        EXPECT_EQ(distance(rope.value(), source.value()->inv_freq), 0);
    }
}

TEST(Import, SectionsAreUsable) {
    const auto source = pack::Source::open(tiny_model);
    ASSERT_TRUE(source) << source.error().text;
    const TemporaryFolder folder;
    pack::ImportOptions options;
    options.name = "a name";
    ASSERT_TRUE(pack::import_model(*source.value(), folder / "m.slm", options));
    auto image = Image::open((folder / "m.slm").c_str(), {});
    ASSERT_TRUE(image);
    EXPECT_STREQ(image->params().name, "a name");
    const auto tokenizer = text::Tokenizer::open(image->section(image::SectionId::tokenizer));
    ASSERT_TRUE(tokenizer) << tokenizer.error().text;
    EXPECT_EQ(tokenizer.value().vocab(), static_cast<std::int32_t>(image->params().vocab));
    const auto chat = text::ChatTemplate::open(image->section(image::SectionId::chat));
    ASSERT_TRUE(chat) << chat.error().text;
    EXPECT_FALSE(chat.value().empty());
    const auto provenance = image->section(image::SectionId::provenance);
    const std::string text(reinterpret_cast<const char*>(provenance.data()), provenance.size());
    EXPECT_NE(text.find("\"model.safetensors\""), std::string::npos);
    EXPECT_NE(text.find("\"sha256\""), std::string::npos);
}

TEST(Import, TheSameBytesEveryTime) {
    const TemporaryFolder folder;
    for (const char* name : {"a", "b"}) {
        const auto source = pack::Source::open(tiny_model);
        ASSERT_TRUE(source);
        ASSERT_TRUE(pack::import_model(*source.value(), folder / name, {}));
    }
    EXPECT_EQ(read_file(folder / "a"), read_file(folder / "b"));
}

// The image appears with what it was asked, or not at all.
TEST(Import, WhatTheModelSaysGoesIn) {
    const auto source = pack::Source::open(tiny_model);
    ASSERT_TRUE(source);
    const TemporaryFolder folder;
    const std::string path = folder / "m.slm";
    const std::vector<std::byte> said(100, std::byte{3});
    for (const bool raw : {false, true}) {
        pack::ImportOptions options;
        options.write.raw = raw;
        options.golden = [&](const std::string& image) -> Result<std::vector<std::byte>> {
            EXPECT_FALSE(std::filesystem::exists(path));
            const auto opened = Image::open(image.c_str(), {});
            EXPECT_TRUE(opened);
            EXPECT_TRUE(opened.value().section(image::SectionId::golden).empty());
            return said;
        };
        auto done = pack::import_model(*source.value(), path, options);
        ASSERT_TRUE(done) << done.error().text;
        EXPECT_EQ(done->image_bytes, std::filesystem::file_size(path));
        const auto opened = Image::open(path.c_str(), {});
        ASSERT_TRUE(opened);
        EXPECT_EQ(done->raw_bytes, opened.value().sizes().raw);
        const auto section = opened.value().section(image::SectionId::golden);
        EXPECT_TRUE(std::equal(section.begin(), section.end(), said.begin(), said.end()));
        std::filesystem::remove(path);

        options.golden = [](const std::string&) -> Result<std::vector<std::byte>> {
            return Error::make(Code::model_memory, "no room");
        };
        const auto refused = pack::import_model(*source.value(), path, options);
        ASSERT_FALSE(refused);
        EXPECT_EQ(refused.error().code, Code::model_memory);
        EXPECT_NE(std::string(refused.error().text).find("no room (--no-golden"), std::string::npos);
        EXPECT_TRUE(std::filesystem::is_empty(folder.path));
    }
}

TEST(Import, UnknownChatTemplateIsRefused) {
    const auto source = pack::Source::open(tiny_model);
    ASSERT_TRUE(source);
    const TemporaryFolder folder;
    pack::ImportOptions options;
    options.chat_template = "no-such-template";
    EXPECT_FALSE(pack::import_model(*source.value(), folder / "m.slm", options));
    EXPECT_FALSE(std::filesystem::exists(folder / "m.slm"));
}

// A source that has codes of its own.
struct CodedSource final : pack::Source {
    std::map<std::string, pack::Codes> coded;
    void add(const std::string& name, const std::string& type, std::optional<Kind> kind) {
        tensors.push_back({name, type, 24, 64});
        if (!kind) return;
        const pack::TensorData t = random_tensor(*kind, 24, 64, static_cast<unsigned>(tensors.size()));
        coded[name] = {*kind, t.codes, t.scales, t.minimums};
    }
    Result<std::vector<float>> read(const pack::SourceTensor& t) const override {
        std::mt19937 random(5);
        std::normal_distribution<float> normal;
        std::vector<float> v(std::size_t{t.rows} * t.cols);
        for (float& x : v) x = normal(random);
        return v;
    }
    Result<std::optional<pack::Codes>> codes(const pack::SourceTensor& t) const override {
        const auto found = coded.find(t.name);
        return found == coded.end() ? std::nullopt : std::optional(found->second);
    }
};

TEST(Import, CodesOfTheSourceStayAsTheyAre) {
    CodedSource source;
    const TemporaryFolder folder;
    write_file(folder / "source", {'x'});
    source.path = folder / "source";
    source.format = "test";
    source.add("a", "Q4_1", Kind::i4a);
    source.add("b", "Q8_0", Kind::i8);
    source.add("c", "Q6_K", {});
    source.add("d", "BF16", {});
    source.add("output", "F16", {});
    ASSERT_TRUE(pack::import_model(source, folder / "m.slm", {}));
    auto image = Image::open((folder / "m.slm").c_str(), {});
    ASSERT_TRUE(image) << image.error().text;
    for (const auto& [name, codes] : source.coded) {
        const auto t = image->tensor(name);
        ASSERT_TRUE(t);
        ASSERT_EQ(t.value().kind, codes.kind);
        for (std::uint32_t r = 0; r < 24; r++)
            for (std::uint32_t c = 0; c < 64; c++) {
                const Element e = element(t.value(), r, c);
                ASSERT_EQ(e.code, codes.codes[r * 64 + c]);
                const float scale = pack::from_half(codes.scales[r * 2 + c / 32]);
                const float minimum = codes.kind == Kind::i4a ? pack::from_half(codes.minimums[r * 2 + c / 32]) : 0;
                ASSERT_EQ(value(t.value(), r, c), static_cast<float>(e.code) * scale + minimum);
            }
    }
    EXPECT_EQ(image->tensor("c").value().kind, Kind::i8) << "more than 4 bits in the source";
    EXPECT_EQ(image->tensor("d").value().kind, Kind::i4);
    EXPECT_EQ(image->tensor("output").value().kind, Kind::i8);

    pack::ImportOptions all;
    all.kind = Kind::i4;
    ASSERT_TRUE(pack::import_model(source, folder / "m.slm", all));
    auto rounded = Image::open((folder / "m.slm").c_str(), {});
    ASSERT_TRUE(rounded);
    for (const auto& t : rounded->tensors()) EXPECT_EQ(t.kind, Kind::i4);
}

// What a source's own codes become in the image: the same values, and nothing is rounded.
void expect_kept(const pack::Source& source, Kind kind, const std::string& name, double bound) {
    const TemporaryFolder folder;
    const auto done = pack::import_model(source, folder / "m.slm", {});
    ASSERT_TRUE(done) << done.error().text;
    auto image = Image::open((folder / "m.slm").c_str(), {});
    ASSERT_TRUE(image) << image.error().text;
    const auto t = image->tensor(name);
    ASSERT_TRUE(t);
    EXPECT_EQ(t.value().kind, kind);
    const auto codes = source.codes(*source.find(name)).value();
    ASSERT_TRUE(codes);
    for (std::uint32_t r = 0; r < t.value().rows; r++)
        for (std::uint32_t c = 0; c < t.value().cols; c++)
            ASSERT_EQ(element(t.value(), r, c).code, codes->codes[r * t.value().cols + c]);
    EXPECT_LE(distance(t.value(), source.read(*source.find(name)).value()), bound);
}

TEST(Import, Mxfp4IsExact) {
    auto g = tiny::llama_gguf();
    g.erase("tokenizer.ggml.model");
    auto& v = g.tensor("blk.0.attn_v.weight");
    v.type = pack::tensor_type("MXFP4")->id;
    std::mt19937 random(3);
    v.data = tiny::blocks("MXFP4", 64 * 32, random);
    const TemporaryFolder folder;
    const std::string file = g.file();
    write_file(folder / "tiny.gguf", {file.begin(), file.end()});
    const auto source = pack::Source::open(folder / "tiny.gguf");
    ASSERT_TRUE(source) << source.error().text;
    expect_kept(*source.value(), Kind::i4, "blk.0.attn_v", 0);
}

TEST(Import, FourBitFoldersKeepTheirCodes) {
    for (const auto form : {tiny::FourBitForm::gptq, tiny::FourBitForm::awq}) {
        const tiny::FourBitModel model(form, 32);
        const TemporaryFolder folder;
        const std::string file = model.file.file();
        write_file(folder / "model.safetensors", {file.begin(), file.end()});
        write_file(folder / "config.json", {model.config.begin(), model.config.end()});
        const auto source = pack::Source::open(folder / "");
        ASSERT_TRUE(source) << source.error().text;
        expect_kept(*source.value(), Kind::i4a, "blk.0.ffn_down", 1e-3);  // the minimum is rounded to f16
        EXPECT_EQ(pack::kind_of(*source.value(), *source.value()->find("blk.1.ffn_down"), {}).value(), Kind::i4)
            << "not quantized in the source";
    }
}

}  // namespace
}  // namespace slmd::test
