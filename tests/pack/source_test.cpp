// The readers of published models: values and codes, and what they say about files that are not what they should be.
#include <gtest/gtest.h>
#include <unistd.h>

#include <cmath>
#include <filesystem>
#include <fstream>

#include "tests/pack/tiny.h"
#include "toolchain/slmpack/npy.h"
#include "toolchain/slmpack/source/gguf.h"
#include "toolchain/slmpack/source/gguf_source.h"
#include "toolchain/slmpack/source/one_matrix.h"
#include "toolchain/slmpack/source/stored.h"

namespace slmd::pack {
namespace {

bool contains(const std::string& text, const std::string& part) { return text.find(part) != std::string::npos; }

Result<std::unique_ptr<Source>> open_bytes(const std::string& file) {
    FileBytes bytes;
    bytes.bytes = std::as_bytes(std::span(file));
    return open_gguf(std::move(bytes), "tiny.Q4_1.gguf");
}

// The error of a file that must be refused.
std::string refusal(const std::string& file) {
    const auto s = open_bytes(file);
    return s ? "accepted" : s.error().what();
}

#define EXPECT_REFUSED(file, part)                                \
    do {                                                          \
        const std::string said = refusal(file);                   \
        EXPECT_TRUE(contains(said, part)) << "it said: " << said; \
    } while (0)

std::vector<float> from_codes(const Codes& c) {
    std::vector<float> v(c.codes.size());
    for (std::size_t i = 0; i < v.size(); i++) {
        if (c.kind == image::Kind::i4) {  // as runtime/image/format.h says
            const int index = c.indices[i / 32];
            v[i] = float(c.book[std::size_t(c.codes[i])]) * c.steps[i / (v.size() / c.steps.size())] *
                   float((index & 128 ? -1 : 1) * std::ldexp(1 + (index & 15) / 16.0, (index >> 4 & 7) - 7));
            continue;
        }
        v[i] = float(c.codes[i]) * half_to_float(c.scales[i / 32]);
        if (c.kind == image::Kind::i4a) v[i] += half_to_float(c.minimums[i / 32]);
    }
    return v;
}

TEST(Half, EveryValueSurvives) {
    for (std::uint32_t h = 0; h < 65536; h++) {
        const float f = half_to_float(std::uint16_t(h));
        if (std::isnan(f))
            EXPECT_TRUE(std::isnan(half_to_float(float_to_half(f))));
        else
            EXPECT_EQ(float_to_half(f), h);
    }
}

TEST(Half, RoundsToNearestEven) {
    EXPECT_EQ(float_to_half(1.0f + 0x1p-11f), 0x3C00);  // a tie goes to the even one
    EXPECT_EQ(float_to_half(1.0f + 3 * 0x1p-11f), 0x3C02);
    EXPECT_EQ(float_to_half(1.0f + 0x1p-11f + 0x1p-20f), 0x3C01);
    EXPECT_EQ(float_to_half(65519.996f), 0x7BFF);
    EXPECT_EQ(float_to_half(65520.0f), 0x7C00);
    EXPECT_EQ(float_to_half(0x1p-25f), 0);
    EXPECT_EQ(float_to_half(-0x1.8p-25f), 0x8001);
    EXPECT_EQ(float_to_half(0x1.FFFp-15f), 0x0400);  // a subnormal rounds up to the least normal
}

// number_formats.{gguf,npy} are the gguf package's work (number_formats.py).
class NumberFormats : public testing::Test {
  protected:
    void SetUp() override {
        auto f = FileBytes::open(SLMD_TESTS "/number_formats.gguf");
        ASSERT_TRUE(f) << f.error().what();
        file_ = std::move(f).value();
        auto g = Gguf::open(file_.bytes);
        ASSERT_TRUE(g) << g.error().what();
        gguf_ = std::move(g).value();
        auto v = read_npy_floats(SLMD_TESTS "/number_formats.npy");
        ASSERT_TRUE(v) << v.error().what();
        const char* names[] = {"F32",  "F16",  "BF16", "Q4_0", "Q4_1", "Q5_0",   "Q5_1",   "Q8_0",
                               "Q4_K", "Q5_K", "Q6_K", "Q2_K", "Q3_K", "IQ4_NL", "IQ4_XS", "MXFP4"};
        const float* at = v->values.data();
        for (const char* name : names) {
            const auto& t = gguf_.tensors().find(name)->second;
            const std::size_t n = t.dims[0] * t.dims[1];
            expected_.emplace_back(name, std::vector<float>(at, at + n));
            source_.add(name, {t.type, std::uint32_t(t.dims[1]), std::uint32_t(t.dims[0]), t.bytes}, false);
            at += n;
        }
        ASSERT_EQ(at, v->values.data() + v->values.size());
    }
    FileBytes file_;
    Gguf gguf_;
    StoredSource source_;
    std::vector<std::pair<std::string, std::vector<float>>> expected_;
};

TEST_F(NumberFormats, ValuesAreGgmlsBitForBit) {
    for (const auto& [name, expected] : expected_) {
        const auto values = source_.read(*source_.find(name));
        ASSERT_TRUE(values) << values.error().what();
        ASSERT_EQ(values.value().size(), expected.size());
        EXPECT_EQ(std::memcmp(values.value().data(), expected.data(), expected.size() * 4), 0) << name;
    }
}

TEST_F(NumberFormats, CodesGiveTheSameValues) {
    for (const auto& [name, expected] : expected_) {
        const auto codes = source_.codes(*source_.find(name));
        ASSERT_TRUE(codes) << codes.error().what();
        const bool four = name == "Q4_0" || name == "Q4_1" || name == "Q4_K",
                   eight = name == "Q5_0" || name == "Q8_0" || name == "IQ4_NL" || name == "IQ4_XS",
                   rounded = name == "Q4_K" || name == "IQ4_XS";
        ASSERT_EQ(codes.value().has_value(), four || eight) << name;
        if (!codes.value()) continue;
        const Codes& c = *codes.value();
        EXPECT_EQ(c.kind, four ? image::Kind::i4a : name == "Q5_0" ? image::Kind::i6 : image::Kind::i8);
        const auto values = from_codes(c);
        for (std::size_t i = 0; i < values.size(); i++) {
            // Products of scales are rounded to f16: half a unit in the last place of scale (times the code) and
            // minimum; of a subnormal one, 2^-25 (times the code).
            const float scale = half_to_float(c.scales[i / 32]), code = std::fabs(float(c.codes[i])),
                        minimum = four ? std::fabs(half_to_float(c.minimums[i / 32])) : 0;
            const float error =
                rounded ? std::ldexp(std::fabs(scale) * code + minimum, -11) + std::ldexp(code + 1, -25) : 0;
            ASSERT_LE(std::fabs(values[i] - expected[i]), error) << name << " at " << i;
            if (c.kind == image::Kind::i4a) {
                ASSERT_TRUE(c.codes[i] >= 0 && c.codes[i] <= 15);
            }
        }
    }
}

// Blocks of MXFP4 whose exponents are given, in rows of two; their values by the OCP specification: exponent with bias
// 127, levels 0 0.5 1 1.5 2 3 4 6.
struct Mxfp4 {
    std::string data;
    std::vector<float> values;
    explicit Mxfp4(const std::vector<int>& exponents) {
        std::mt19937 random(5);
        for (const int e : exponents) {
            std::uint8_t nibbles[32];
            for (auto& n : nibbles) n = std::uint8_t(random() & 15);
            data += char(e);
            for (int j = 0; j < 16; j++) data += char(nibbles[j] | nibbles[j + 16] << 4);
            for (const auto n : nibbles) {
                const double level[] = {0, 0.5, 1, 1.5, 2, 3, 4, 6};
                values.push_back(float(std::ldexp(n & 8 ? -level[n & 7] : level[n & 7], e - 127)));
            }
        }
    }
    StoredSource source() const {
        StoredSource s;
        s.add("t", {tensor_type("MXFP4"), std::uint32_t(values.size() / 64), 64, std::as_bytes(std::span(data))},
              false);
        return s;
    }
};

TEST(Codes, Mxfp4IsExactInTheFirstKindThatHoldsIt) {
    const auto codes_of = [](const Mxfp4& m) {
        const auto s = m.source();
        EXPECT_EQ(s.read(s.tensors[0]).value(), m.values);
        auto c = s.codes(s.tensors[0]);
        EXPECT_TRUE(c) << c.error().what();
        return std::move(c).value();
    };
    // Eight octaves a row, anywhere; rows differ.
    const Mxfp4 near({120, 127, 2, 9, 240, 240});
    const auto four = codes_of(near);
    ASSERT_TRUE(four);
    EXPECT_EQ(four->kind, image::Kind::i4);
    EXPECT_EQ(from_codes(*four), near.values);
    for (std::size_t i = 0; i < four->codes.size(); i++) {
        const auto byte = std::uint8_t(near.data[i / 32 * 17 + 1 + i % 16]);
        EXPECT_EQ(four->codes[i], i % 32 < 16 ? byte & 15 : byte >> 4);
    }

    const Mxfp4 wider({120, 128, 104, 143});
    const auto six = codes_of(wider);
    ASSERT_TRUE(six);
    EXPECT_EQ(six->kind, image::Kind::i6);
    EXPECT_EQ(from_codes(*six), wider.values);

    EXPECT_FALSE(codes_of(Mxfp4({120, 128, 103, 120})));
    EXPECT_FALSE(codes_of(Mxfp4({120, 128, 144, 140})));
    EXPECT_FALSE(codes_of(Mxfp4({1, 2})));

    // The exponent of a block of zeros counts for nothing.
    Mxfp4 zeros({120, 250, 0, 255});
    for (const std::size_t block : {1, 2, 3}) {
        for (std::size_t j = 1; j < 17; j++) zeros.data[block * 17 + j] = j % 2 ? 0 : char(0x80);
        std::fill_n(zeros.values.begin() + std::ptrdiff_t(block) * 32, 32, 0.0f);
    }
    const auto none = codes_of(zeros);
    ASSERT_TRUE(none);
    EXPECT_EQ(none->kind, image::Kind::i4);
    EXPECT_EQ(from_codes(*none), zeros.values);

    const Mxfp4 infinite({254, 254});
    const auto s = infinite.source();
    EXPECT_TRUE(contains(s.read(s.tensors[0]).error().what(), "tensor t holds a value that is not finite"));
}

TEST(Codes, EightBitUnlessMinus128) {
    std::mt19937 random(3);
    std::string data = tiny::blocks("Q8_0", 128, random);
    const auto source_of = [](const std::string& bytes) {
        auto s = std::make_unique<StoredSource>();
        s->add("t", {tensor_type("Q8_0"), 2, 64, std::as_bytes(std::span(bytes))}, false);
        return s;
    };
    const auto s = source_of(data);
    const auto c = s->codes(s->tensors[0]);
    ASSERT_TRUE(c && c.value());
    EXPECT_EQ(c.value()->kind, image::Kind::i8);
    EXPECT_EQ(from_codes(*c.value()), s->read(s->tensors[0]).value());

    data[34 * 3 + 2 + 5] = char(-128);
    const auto changed = source_of(data);
    const auto none = changed->codes(changed->tensors[0]);
    ASSERT_TRUE(none);
    EXPECT_FALSE(none.value());

    data[1] = 0x7C;  // an infinite scale
    const auto damaged = source_of(data);
    const auto read = damaged->read(damaged->tensors[0]);
    ASSERT_FALSE(read);
    EXPECT_TRUE(contains(read.error().what(), "not finite")) << read.error().what();
}

TEST(GgufSource, TinyLlama) {
    const std::string file = tiny::llama_gguf().file();
    const auto opened = open_bytes(file);
    ASSERT_TRUE(opened) << opened.error().what();
    const Source& s = *opened.value();
    EXPECT_STREQ(s.params.name, "tiny");
    EXPECT_STREQ(s.params.family, "llama");
    EXPECT_EQ(s.params.layers, 2u);
    EXPECT_EQ(s.params.dim, 64u);
    EXPECT_EQ(s.params.hidden, 96u);
    EXPECT_EQ(s.params.heads, 4u);
    EXPECT_EQ(s.params.kv_heads, 2u);
    EXPECT_EQ(s.params.head_dim, 16u);
    EXPECT_EQ(s.params.rope_dims, 16u);
    EXPECT_EQ(s.params.vocab, 40u);
    EXPECT_EQ(s.params.context, 128u);
    EXPECT_EQ(s.params.flags, image::flag_tied_output);
    EXPECT_EQ(s.params.embed_scale, 1.0f);
    EXPECT_EQ(s.params.residual_scale, 1.0f);
    EXPECT_EQ(s.params.logit_scale, 1.0f);
    EXPECT_EQ(s.format, "GGUF v3");
    ASSERT_EQ(s.inv_freq.size(), 8u);
    EXPECT_EQ(s.inv_freq[0], 1.0f);
    EXPECT_NEAR(s.inv_freq[4], 0.01f, 1e-9);
    EXPECT_EQ(s.tensors.size(), 20u);
    EXPECT_EQ(s.tensors.front().name, "token_embd");
    EXPECT_EQ(s.tensors[2].name, "blk.0.attn_q");
    EXPECT_EQ(s.tensors[2].type, "Q4_1");
    EXPECT_EQ(s.tensors.back().name, "output_norm");
    EXPECT_EQ(s.tokenizer.pre, "smollm");
    EXPECT_EQ(s.tokenizer.tokens.size(), 40u);
    EXPECT_EQ(s.tokenizer.merges, (std::vector<std::string>{"B C", "D E"}));
    EXPECT_EQ(s.tokenizer.bos, 1);
    EXPECT_EQ(s.tokenizer.eos, 2);
    EXPECT_EQ(s.tokenizer.ends, (std::vector<std::int32_t>{0}));
    EXPECT_FALSE(s.tokenizer.add_bos);
    EXPECT_EQ(s.chat_template, "{{ messages }}");
    for (const auto& t : s.tensors) {
        const auto values = s.read(t);
        ASSERT_TRUE(values) << t.name << ": " << values.error().what();
        const auto codes = s.codes(t);
        ASSERT_TRUE(codes) << t.name << ": " << codes.error().what();
        if (codes.value()) {
            EXPECT_EQ(from_codes(*codes.value()), values.value()) << t.name;
        }
    }
}

TEST(GgufSource, QueryAndKeyRowsComeInHalvesOrder) {
    auto g = tiny::llama_gguf();
    auto& q = g.tensor("blk.1.attn_q.weight");
    q.type = 0;
    q.data.clear();
    for (int row = 0; row < 64; row++)
        for (int col = 0; col < 64; col++) q.data += tiny::raw(float(row));
    const std::string file = g.file();
    const auto s = open_bytes(file);
    ASSERT_TRUE(s) << s.error().what();
    const auto values = s.value()->read(*s.value()->find("blk.1.attn_q")).value();
    for (int head = 0; head < 4; head++)
        for (int i = 0; i < 8; i++) {
            EXPECT_EQ(values[std::size_t(head * 16 + i) * 64],
                      float(head * 16 + 2 * i));  // first halves: the even rows
            EXPECT_EQ(values[std::size_t(head * 16 + 8 + i) * 64],
                      float(head * 16 + 2 * i + 1));  // second halves: the odd rows
        }
    EXPECT_EQ(s.value()->read(*s.value()->find("blk.1.attn_v")).value().size(), 32u * 64);
}

TEST(GgufSource, RopeFrequencies) {
    auto g = tiny::llama_gguf();
    auto& t = g.tensor("rope_freqs.weight");
    t.dims = {8};
    for (int i = 0; i < 8; i++) t.data += tiny::raw(i < 4 ? 1.0f : 8.0f);
    std::string file = g.file();
    auto s = open_bytes(file);
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_NEAR(s.value()->inv_freq[2], 0.1f, 1e-8);
    EXPECT_NEAR(s.value()->inv_freq[4], 0.01f / 8, 1e-9);

    g = tiny::llama_gguf();
    g.text("llama.rope.scaling.type", "linear");
    g.real("llama.rope.scaling.factor", 4);
    file = g.file();
    s = open_bytes(file);
    ASSERT_TRUE(s) << s.error().what();
    EXPECT_EQ(s.value()->inv_freq[0], 0.25f);

    g = tiny::llama_gguf();
    g.text("llama.rope.scaling.type", "yarn");
    g.real("llama.rope.scaling.factor", 4);
    g.number("llama.rope.scaling.original_context_length", 4096);
    file = g.file();
    s = open_bytes(file);
    ASSERT_TRUE(s) << s.error().what();
    const float yarn[] = {1,        0.316227766f,   0.1f, 0.025693506f, 0.00625f, 0.00138349648f,
                          0.00025f, 7.90569415e-05f};  // transformers, _compute_yarn_parameters
    for (std::size_t i = 0; i < std::size(yarn); i++) EXPECT_NEAR(s.value()->inv_freq[i], yarn[i], 2e-7 * yarn[i]);
    EXPECT_FLOAT_EQ(s.value()->params.rope_scale, 1.138629436f);

    g = tiny::llama_gguf();
    g.text("llama.rope.scaling.type", "yarn");
    EXPECT_REFUSED(g.file(), "RoPE scaling needs factor");
    g.erase("llama.rope.scaling.type");
    g.text("llama.rope.scaling.type", "longrope");
    EXPECT_REFUSED(g.file(), "RoPE scaling \"longrope\"");
}

// The tiny model with an output matrix of its own in F32: the embedding (of 8 bits), each value moved by up to `part`.
std::string with_output(float part) {
    const std::string tied = tiny::llama_gguf().file();
    const auto source = open_bytes(tied).value();
    auto values = source->read(*source->find("token_embd")).value();
    std::mt19937 random(3);
    std::uniform_real_distribution<float> move(1 - part, 1 + part);
    for (float& v : values) v *= move(random);
    tiny::Gguf g = tiny::llama_gguf();
    auto& t = g.tensor("output.weight");
    t.dims = g.tensor("token_embd.weight").dims;
    t.data = {reinterpret_cast<const char*>(values.data()), values.size() * sizeof(float)};
    return g.file();
}

TEST(OneMatrix, KeepsTheFinerOfTwoRoundings) {
    const std::string file = with_output(0.01f);
    auto two = open_bytes(file).value();
    ASSERT_NE(two->find("output"), nullptr);
    const auto output = two->read(*two->find("output")).value();
    const std::size_t tensors = two->tensors.size();
    const auto one = with_one_matrix(std::move(two)).value();
    EXPECT_EQ(one->find("output"), nullptr);
    EXPECT_EQ(one->tensors.size(), tensors - 1);
    EXPECT_NE(one->params.flags & image::flag_tied_output, 0u);
    const SourceTensor& kept = *one->find("token_embd");
    EXPECT_EQ(kept.type, "F32");
    EXPECT_EQ(one->read(kept).value(), output);
    EXPECT_FALSE(one->codes(kept).value());
    EXPECT_TRUE(one->codes(*one->find("blk.0.attn_q")).value());
    ASSERT_EQ(one->warnings.size(), 1u);
    EXPECT_EQ(one->warnings[0],
              "token_embd (Q8_0) is output (F32) rounded once more: one matrix is kept for both, output");
}

TEST(OneMatrix, LeavesTwoMatricesAndOneAsTheyAre) {
    const std::string apart = with_output(0.1f), tied = tiny::llama_gguf().file();
    for (const std::string* file : {&apart, &tied}) {
        auto source = open_bytes(*file).value();
        const Source* const before = source.get();
        const auto after = with_one_matrix(std::move(source)).value();
        EXPECT_EQ(after.get(), before);
        EXPECT_TRUE(after->warnings.empty());
    }
}

TEST(GgufSource, RefusalsNameWhatIsWrong) {
    const auto with = [](auto change) {
        auto g = tiny::llama_gguf();
        change(g);
        return g.file();
    };
    using G = tiny::Gguf;
    EXPECT_REFUSED("", "does not begin with \"GGUF\"");
    EXPECT_REFUSED("GGML", "does not begin with \"GGUF\"");
    EXPECT_REFUSED(with([](G& g) { g.version = 1; }), "version 1");
    EXPECT_REFUSED(with([](G& g) { g.version = 0x03000000; }), "big-endian");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("general.architecture");
                       g.text("general.architecture", "mamba");
                   }),
                   "\"mamba\" is not supported");
    EXPECT_REFUSED(with([](G& g) { g.erase("general.architecture"); }), "general.architecture is missing");
    EXPECT_REFUSED(with([](G& g) { g.erase("llama.block_count"); }), "llama.block_count");
    EXPECT_REFUSED(with([](G& g) { g.number("llama.block_count", 2); }), "llama.block_count, at offset");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.attention.head_count_kv");
                       g.number("llama.attention.head_count_kv", 3);
                   }),
                   "4 heads cannot share 3");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.block_count");
                       g.number("llama.block_count", 0);
                   }),
                   "llama.block_count is 0");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.block_count");
                       g.number("llama.block_count", 3);
                   }),
                   "blk.2.attn_norm.weight is missing");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.block_count");
                       g.text("llama.block_count", "2");
                   }),
                   "llama.block_count");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.block_count");
                       g.number("llama.block_count", 1);
                   }),
                   "is not part of family llama");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.feed_forward_length");
                       g.number("llama.feed_forward_length", 128);
                   }),
                   "blk.0.ffn_gate.weight is 96 x 64");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("llama.attention.head_count");
                       g.number("llama.attention.head_count", 0xFFFFFFFF);
                   }),
                   "llama.attention.head_count");
    EXPECT_REFUSED(with([](G& g) { g.number("llama.attention.value_length", 8); }),
                   "llama.attention.value_length is 8");
    EXPECT_REFUSED(with([](G& g) { g.number("split.count", 3); }), "split GGUF");
    EXPECT_REFUSED(with([](G& g) { g.number("general.alignment", 48); }), "general.alignment is 48");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").type = 16; }),
                   "tensor blk.0.attn_q.weight, at offset 1");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").type = 16; }), "of type IQ2_XXS");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").type = 26; }), "of type I32");
    for (const std::uint32_t type : {10, 11, 23})
        EXPECT_REFUSED(with([&](G& g) { g.tensor("blk.0.attn_q.weight").type = type; }),
                       "rows of 64 values are not whole blocks of 256");
    for (const std::uint32_t type : {20, 39})
        EXPECT_REFUSED(with([&](G& g) {
                           g.tensor("blk.0.attn_q.weight").type = type;
                           g.tensor("blk.0.attn_q.weight").dims = {48, 64};
                       }),
                       "rows of 48 values are not whole blocks of 32");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").type = 77; }), "unknown type 77");
    EXPECT_REFUSED(with([](G& g) {
                       g.tensor("blk.0.attn_q.weight").dims = {65, 64};
                   }),
                   "rows of 65 values are not whole blocks of 32 (Q4_1)");
    EXPECT_REFUSED(with([](G& g) {
                       g.tensor("blk.0.attn_q.weight").dims = {64, std::uint64_t(1) << 60};
                   }),
                   "dimension 1");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").dims = {64, 0}; }), "dimension 1 is 0");
    EXPECT_REFUSED(with([](G& g) { g.tensor("blk.0.attn_q.weight").dims = {64, 1, 1, 1, 64}; }), "5 dimensions");
    EXPECT_REFUSED(with([](G& g) {
                       g.tensor("output_norm.weight").dims = {64, 64};
                   }),
                   "output_norm.weight takes 16384 bytes");
    EXPECT_REFUSED(with([](G& g) {
                       g.move = [](const std::string& n, std::uint64_t o) {
                           return n == "blk.0.attn_q.weight" ? o + 1 : o;
                       };
                   }),
                   "not a multiple of 32");
    EXPECT_REFUSED(with([](G& g) {
                       g.move = [](const std::string& n, std::uint64_t o) {
                           return n == "blk.0.attn_q.weight" ? 0 : o;
                       };
                   }),
                   "overlap");
    EXPECT_REFUSED(with([](G& g) {
                       g.move = [](const std::string& n, std::uint64_t o) {
                           return n == "blk.0.attn_q.weight" ? std::uint64_t(-32) : o;
                       };
                   }),
                   "attn_q.weight takes");
    EXPECT_REFUSED(with([](G& g) { g.erase("tokenizer.ggml.merges"); }), "tokenizer.ggml.merges");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("tokenizer.ggml.model");
                       g.text("tokenizer.ggml.model", "bert");
                   }),
                   "tokenizer \"bert\"");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("tokenizer.ggml.bos_token_id");
                       g.number("tokenizer.ggml.bos_token_id", 40);
                   }),
                   "tokenizer.ggml.bos_token_id is 40");
    EXPECT_REFUSED(with([](G& g) {
                       g.erase("tokenizer.ggml.token_type");
                       g.array<std::int32_t>("tokenizer.ggml.token_type", 5, {1, 2});
                   }),
                   "2 elements for 40 tokens");
    EXPECT_REFUSED(with([](G& g) { g.keys.emplace_back("x\n", tiny::raw<std::uint32_t>(13)); }), "key x?, at offset");
    EXPECT_REFUSED(with([](G& g) {
                       g.keys.emplace_back("x", tiny::raw<std::uint32_t>(9) + tiny::raw<std::uint32_t>(9) +
                                                    tiny::raw<std::uint64_t>(1));
                   }),
                   "array of the unknown type 9");
    EXPECT_REFUSED(with([](G& g) {
                       g.keys.emplace_back("x", tiny::raw<std::uint32_t>(9) + tiny::raw<std::uint32_t>(4) +
                                                    tiny::raw<std::uint64_t>(~0ull));
                   }),
                   "key x, at offset");
    EXPECT_REFUSED(
        with([](G& g) { g.keys.emplace_back("x", tiny::raw<std::uint32_t>(8) + tiny::raw<std::uint64_t>(~0ull)); }),
        "bytes long");
}

TEST(GgufSource, EveryTruncationIsAnError) {
    std::vector<std::size_t> boundaries;
    const std::string file = tiny::llama_gguf().file(&boundaries);
    ASSERT_TRUE(open_bytes(file));
    ASSERT_GT(boundaries.size(), 40u);
    for (const std::size_t b : boundaries)
        for (const std::size_t at : {b - 1, b, b + 1}) EXPECT_NE(refusal(std::string(file, 0, at)), "accepted") << at;
    for (std::size_t at = 0; at < file.size(); at += 97) EXPECT_NE(refusal(std::string(file, 0, at)), "accepted") << at;
    EXPECT_NE(refusal(std::string(file, 0, file.size() - 1)), "accepted");
}

TEST(GgufSource, FlippedBitsAreAnErrorOrAModel) {
    const std::string good = tiny::llama_gguf().file();
    std::mt19937 random(11);
    int refused = 0;
    for (int round = 0; round < 3000; round++) {
        std::string file = good;
        for (int flips = 1 + int(random() % 3); flips > 0; flips--)
            file[random() % (round % 2 ? 3200 : file.size())] ^= char(1 << random() % 8);
        const auto s = open_bytes(file);
        if (!s) {
            EXPECT_GT(std::strlen(s.error().what()), 10u);
            refused++;
            continue;
        }
        for (const auto& t : s.value()->tensors) {
            const auto values = s.value()->read(t);
            if (values) {
                EXPECT_EQ(values.value().size(), std::size_t(t.rows) * t.cols);
            }
            (void)s.value()->codes(t);
        }
    }
    EXPECT_GT(refused, 1000);
    EXPECT_LT(refused, 3000);
}

TEST(GgufTokenizer, VocabularyOnlyFiles) {
    const std::string folder = SLMD_SHARED "/tokenizers/";
    if (!std::filesystem::exists(folder)) GTEST_SKIP() << "no " << folder;
    const auto gpt2 = read_gguf_tokenizer(folder + "ggml-vocab-gpt-2.gguf");
    ASSERT_TRUE(gpt2) << gpt2.error().what();
    EXPECT_EQ(gpt2.value().pre, "gpt-2");
    EXPECT_EQ(gpt2.value().tokens.size(), 50257u);
    EXPECT_EQ(gpt2.value().merges.size(), 50000u);
    EXPECT_FALSE(gpt2.value().add_bos);
    const auto spm = read_gguf_tokenizer(folder + "ggml-vocab-llama-spm.gguf");
    ASSERT_TRUE(spm) << spm.error().what();
    EXPECT_EQ(spm.value().model, TokenizerSpec::Model::sentencepiece);
    EXPECT_EQ(spm.value().tokens.size(), 32000u);
    EXPECT_EQ(spm.value().scores.size(), 32000u);
    EXPECT_TRUE(spm.value().add_bos);
    EXPECT_TRUE(spm.value().add_space_prefix);
    const auto model = Source::open(folder + "ggml-vocab-llama-spm.gguf");
    ASSERT_FALSE(model);
    EXPECT_TRUE(contains(model.error().what(), "no tensors")) << model.error().what();
}

TEST(Families, TablesParse) {
    ASSERT_FALSE(family_texts().empty());
    for (const auto text : family_texts()) {
        const auto f = parse_family(text);
        ASSERT_TRUE(f) << f.error().what();
        EXPECT_FALSE(f.value().name.empty());
        EXPECT_FALSE(f.value().tensors.empty());
        EXPECT_FALSE(f.value().params.empty());
    }
    EXPECT_TRUE(contains(parse_family("family x\nnonsense 1 2").error().what(), "line 2"));
    EXPECT_TRUE(contains(parse_family("param wings a b error").error().what(), "no such parameter"));
    EXPECT_TRUE(contains(parse_family("tensor a wings dim x y").error().what(), "no such size"));
}

TEST(Names, LoseTheNumberFormat) {
    const std::pair<const char*, const char*> cases[] = {
        {"/a/SmolLM2-135M-Instruct.Q4_1.gguf", "SmolLM2-135M-Instruct"},
        {"x-q4_k_m.gguf", "x"},
        {"tinyllama-1.1b.gguf", "tinyllama-1.1b"},
        {"m-f16.gguf", "m"},
        {"stories260K.bin", "stories260K"},
        {"m-Q4_0-00001-of-00003.gguf", "m"},
        {"m-0001-of-00003.gguf", "m-0001-of-00003"},
        {"/models/Llama-3/", "Llama-3"},
        {"Q4_0.gguf", "Q4_0"}};
    for (const auto& [path, name] : cases) {
        image::ModelParams p{};
        set_name(p, path);
        EXPECT_STREQ(p.name, name);
    }
}

TEST(Npy, RoundTrip) {
    const std::string path = testing::TempDir() + "slmd-npy-" + std::to_string(getpid()) + ".npy";
    const std::size_t shape[] = {2, 3};
    const std::vector<float> values = {1, -2.5f, 0, 1e-30f, 3, 4};
    ASSERT_TRUE(write_npy(path, shape, values));
    const auto back = read_npy_floats(path);
    ASSERT_TRUE(back) << back.error().what();
    EXPECT_EQ(back.value().values, values);
    EXPECT_EQ(back.value().shape, (std::vector<std::size_t>{2, 3}));
    EXPECT_EQ(std::filesystem::file_size(path) % 64, 24u);  // the header ends on a multiple of 64

    const auto tokens = read_npy_tokens(path);
    ASSERT_FALSE(tokens);
    EXPECT_TRUE(contains(tokens.error().what(), "<f4")) << tokens.error().what();
    std::filesystem::resize_file(path, std::filesystem::file_size(path) - 1);
    EXPECT_FALSE(read_npy_floats(path));
    for (std::uintmax_t size = 0; size < 128; size += 9) {
        std::filesystem::resize_file(path, size);
        EXPECT_FALSE(read_npy_floats(path)) << size;
    }
    std::filesystem::remove(path);
}

TEST(Npy, TokensOfBothWidths) {
    const std::string path = testing::TempDir() + "slmd-npy-" + std::to_string(getpid()) + ".npy";
    const auto write = [&](const std::string& type, const std::string& data) {
        std::string header = "{'descr': '" + type + "', 'fortran_order': False, 'shape': (3,), }";
        header.resize(117, ' ');
        header += '\n';
        std::ofstream(path, std::ios::binary) << std::string("\x93NUMPY\x01\x00\x76\x00", 10) << header << data;
    };
    write("<i4", tiny::raw<std::int32_t>(1) + tiny::raw<std::int32_t>(-2) + tiny::raw<std::int32_t>(49151));
    EXPECT_EQ(read_npy_tokens(path).value().values, (std::vector<std::int32_t>{1, -2, 49151}));
    write("<i8", tiny::raw<std::int64_t>(1) + tiny::raw<std::int64_t>(-2) + tiny::raw<std::int64_t>(49151));
    EXPECT_EQ(read_npy_tokens(path).value().values, (std::vector<std::int32_t>{1, -2, 49151}));
    write("<i8", tiny::raw<std::int64_t>(1) + tiny::raw<std::int64_t>(1ll << 40) + tiny::raw<std::int64_t>(49151));
    const auto large = read_npy_tokens(path);
    ASSERT_FALSE(large);
    EXPECT_TRUE(contains(large.error().what(), "is no token"));
    std::filesystem::remove(path);
}

}  // namespace
}  // namespace slmd::pack
