// Every level against the scalar one, bit for bit, on random data with the shapes of real models and with awkward ones.
#include <gtest/gtest.h>

#include <cmath>
#include <cstring>
#include <numbers>
#include <random>
#include <vector>

#include "compute/kernels.h"

using namespace slmd::compute;

namespace {

std::mt19937 rng(7);

std::vector<float> normal(std::size_t n, float scale = 1) {
    std::normal_distribution<float> d(0, scale);
    std::vector<float> v(n);
    for (auto& x : v) x = d(rng);
    return v;
}

template <class T>
std::vector<T> uniform(std::size_t n, int low, int high) {
    std::uniform_int_distribution<int> d(low, high);
    std::vector<T> v(n);
    for (auto& x : v) x = static_cast<T>(d(rng));
    return v;
}

bool same_bits(const std::vector<float>& a, const std::vector<float>& b) {
    return a.size() == b.size() && std::memcmp(a.data(), b.data(), a.size() * 4) == 0;
}

std::vector<const Kernels*> others() {
    std::vector<const Kernels*> list;
    for (auto l = levels(); *l; l++)
        if (*l != find_level("scalar")) list.push_back(*l);
    return list;
}

struct RandomMatrix {
    std::vector<std::uint8_t> codes, scales, high;
    std::vector<float> steps;
    std::int8_t book[16];
    Matrix view{};
};

// kind: 0 i4, 1 i4a, 2 i8, 3 i6. extreme: every code and level at the end of its range, where an overflow would show.
RandomMatrix random_matrix(int kind, int rows, int cols, bool extreme) {
    RandomMatrix m;
    const std::size_t cells = static_cast<std::size_t>(rows / block) * (cols / group);
    m.codes = uniform<std::uint8_t>(cells * (kind == 2 ? 256 : 128), 0, 255);
    if (kind == 2)
        for (auto& c : m.codes)
            if (c == 0x80) c = 0x81;
    if (extreme)
        for (auto& c : m.codes) c = kind == 2 ? (c & 1 ? 127 : 0x81) : (c & 1 ? 0xff : 0x00);
    if (kind == 0)
        m.scales = uniform<std::uint8_t>(cells * 8, 0, 255);
    else
        for (std::size_t i = 0; i < cells * (kind == 1 ? 16 : 8); i++) {
            // every class of half precision: normal, subnormal, zero, both signs
            const auto h =
                static_cast<std::uint16_t>((i % 7 == 0 ? rng() % 0x400 : 0x1000 + rng() % 0x2800) | (rng() & 0x8000));
            m.scales.push_back(static_cast<std::uint8_t>(h & 255));
            m.scales.push_back(static_cast<std::uint8_t>(h >> 8));
        }
    if (kind == 3) m.high = uniform<std::uint8_t>(cells * 64, 0, 255);
    if (kind == 3 && extreme)  // -32 and 31: low bits of both are 15
        for (auto& c : m.codes) c = 0xff;
    if (kind == 3 && extreme)
        for (auto& h : m.high) h |= 0x55;
    m.steps = normal(static_cast<std::size_t>(rows));
    for (int i = 0; i < 16; i++)
        m.book[i] = static_cast<std::int8_t>(extreme ? (i < 8 ? -31 : 31) : static_cast<int>(rng() % 63) - 31);
    m.view = {rows, cols, m.codes.data(), m.scales.data(), m.steps.data(), m.book, m.high.data()};
    return m;
}

Matmul matmul_of(const Kernels& k, int kind) { return kind == 0 ? k.i4 : kind == 1 ? k.i4a : kind == 2 ? k.i8 : k.i6; }

struct Activations {
    std::vector<std::int8_t> q;
    std::vector<float> scale;
    std::vector<std::int32_t> sum;
    Quantized view{};
};

Activations quantized(const Kernels& k, const std::vector<float>& x, int tokens, int cols) {
    Activations a;
    a.q.resize(static_cast<std::size_t>(tokens) * cols + 64);
    a.scale.resize(static_cast<std::size_t>(tokens) * cols / group);
    a.sum.resize(a.scale.size());
    for (int t = 0; t < tokens; t++)
        k.quantize(&x[static_cast<std::size_t>(t) * cols], cols, &a.q[static_cast<std::size_t>(t) * cols],
                   &a.scale[t * cols / group], &a.sum[t * cols / group]);
    a.view = {a.q.data(), a.scale.data(), a.sum.data(), cols};
    return a;
}

class Levels : public testing::TestWithParam<const Kernels*> {};

TEST_P(Levels, MatmulEqualsScalar) {
    const Kernels &k = *GetParam(), &scalar = *find_level("scalar");
    for (int kind = 0; kind < 4; kind++)
        for (bool extreme : {false, true})
            for (auto [rows, cols] : {std::pair{8, 32}, {24, 96}, {64, 576}, {16, 1536}, {24, 1664}})
                for (int tokens : {1, 2, 3, 7, 8, 15, 16, 33}) {
                    const auto m = random_matrix(kind, rows, cols, extreme);
                    auto x = normal(static_cast<std::size_t>(tokens) * cols);
                    if (extreme)
                        for (auto& v : x) v = v > 0 ? 1.0f : -1.0f;
                    const auto a = quantized(k, x, tokens, cols), b = quantized(scalar, x, tokens, cols);
                    ASSERT_EQ(a.q, b.q);
                    ASSERT_EQ(a.sum, b.sum);
                    ASSERT_TRUE(same_bits(a.scale, b.scale));
                    const std::size_t ldy = static_cast<std::size_t>(rows) + 8;
                    std::vector<float> ya(ldy * tokens), yb(ldy * tokens);
                    const auto blocks = rows / block;
                    auto run = [&](const Kernels& l, const Activations& in, std::vector<float>& y) {
                        matmul_of(l, kind)(m.view, 1 % blocks, blocks, in.view, tokens, y.data(), ldy);
                    };
                    run(k, a, ya);
                    run(scalar, b, yb);
                    ASSERT_TRUE(same_bits(ya, yb))
                        << k.name << " kind " << kind << " " << rows << "x" << cols << " tokens " << tokens;
                }
}

TEST_P(Levels, FloatOperationsEqualScalar) {
    const Kernels &k = *GetParam(), &s = *find_level("scalar");
    for (int n : {32, 64, 576, 1536}) {
        const auto x = normal(n, 3), w = normal(n);
        std::vector<float> a(n), b(n);
        k.rms_norm(x.data(), w.data(), n, 1e-5f, a.data());
        s.rms_norm(x.data(), w.data(), n, 1e-5f, b.data());
        ASSERT_TRUE(same_bits(a, b));
        auto in_one = quantized(k, b, 1, n);
        const auto in_two = quantized(s, b, 1, n);
        std::fill(in_one.q.begin(), in_one.q.end(), std::int8_t{1});
        k.rms_norm_quantize(x.data(), w.data(), n, 1e-5f, in_one.q.data(), in_one.scale.data(), in_one.sum.data());
        ASSERT_TRUE(std::equal(in_one.q.begin(), in_one.q.begin() + n, in_two.q.begin()));
        ASSERT_TRUE(same_bits(in_one.scale, in_two.scale));
        ASSERT_EQ(in_one.sum, in_two.sum);
        auto wide = normal(n, 40);
        wide[0] = 1e30f, wide[1] = -1e30f, wide[2] = 0;
        k.silu_mul(wide.data(), w.data(), n, a.data());
        s.silu_mul(wide.data(), w.data(), n, b.data());
        ASSERT_TRUE(same_bits(a, b));
        k.gelu_mul(wide.data(), w.data(), n, a.data());
        s.gelu_mul(wide.data(), w.data(), n, b.data());
        ASSERT_TRUE(same_bits(a, b));
        for (const float factor : {1.0f, 0.22f}) {
            a = b = x;
            k.add(a.data(), w.data(), factor, n);
            s.add(b.data(), w.data(), factor, n);
            ASSERT_TRUE(same_bits(a, b));
        }
        for (const float cap : {0.0f, 30.0f}) {
            a = b = wide;
            k.cap(a.data(), 0.125f, cap, n);
            s.cap(b.data(), 0.125f, cap, n);
            ASSERT_TRUE(same_bits(a, b));
        }
    }
    for (int n : {8, 16, 64, 80, 96, 128, 256}) {
        auto a = normal((n + 15) & ~15);
        for (std::size_t i = n; i < a.size(); i++) a[i] = 0;
        auto b = a;
        const auto c = normal(n / 2), d = normal(n / 2);
        k.rope(a.data(), c.data(), d.data(), n / 2);
        s.rope(b.data(), c.data(), d.data(), n / 2);
        k.hadamard(a.data(), n);
        s.hadamard(b.data(), n);
        ASSERT_TRUE(same_bits(a, b)) << n;
        std::vector<std::int8_t> qa(a.size()), qb(a.size());
        ASSERT_EQ(k.quantize_head(a.data(), n, qa.data()), s.quantize_head(b.data(), n, qb.data()));
        ASSERT_EQ(qa, qb);
    }
    // a group of zeros and of numbers too small to invert
    std::vector<float> tiny(64, 0.0f);
    for (int i = 32; i < 64; i++) tiny[i] = 1e-38f;
    const auto a = quantized(k, tiny, 1, 64), b = quantized(s, tiny, 1, 64);
    ASSERT_EQ(a.q, b.q);
    ASSERT_TRUE(same_bits(a.scale, b.scale));
}

TEST_P(Levels, AttentionEqualsScalar) {
    const Kernels &k = *GetParam(), &s = *find_level("scalar");
    for (int head_dim : {8, 16, 64, 80, 128, 256})
        for (int n : {1, 15, 16, 17, 127, 128, 129, 300})
            for (int heads : {1, 3, 9}) {
                const int stride = (head_dim + 15) & ~15, room = (n + 15) & ~15;
                auto kc = uniform<std::int8_t>(static_cast<std::size_t>(room) * head_dim, -127, 127);
                auto vc = uniform<std::int8_t>(static_cast<std::size_t>(room) * stride, -127, 127);
                auto ks = normal(room), vs = normal(room);
                for (auto* list : {&ks, &vs})
                    for (auto& v : *list) v = std::abs(v) / 50;
                auto q = uniform<std::int8_t>(static_cast<std::size_t>(heads) * stride, -127, 127);
                auto qs = normal(heads, 0.01f);
                std::vector<float> a(static_cast<std::size_t>(heads) * (stride + partial_extra)),
                    b = a, scratch(static_cast<std::size_t>(4) * chunk);
                const KvHead kv{kc.data(), ks.data(), vc.data(), vs.data(), head_dim, stride, room};
                for (const Visible see :
                     {Visible{0, n, 0}, Visible{n / 2, n, 0}, Visible{n > 21 ? n - 21 : 0, n, 50}}) {
                    k.attend(kv, see, q.data(), qs.data(), heads, a.data(), scratch.data());
                    s.attend(kv, see, q.data(), qs.data(), heads, b.data(), scratch.data());
                    ASSERT_TRUE(same_bits(a, b)) << k.name << " head_dim " << head_dim << " from " << see.begin
                                                 << " to " << n << " heads " << heads;
                    // Chunk by chunk, merged afterwards: the same bits.
                    std::vector<float> next(a.size());
                    for (int first = see.begin & ~(chunk - 1); first < n; first += chunk) {
                        const Visible part{std::max(first, see.begin), std::min(first + chunk, n), see.soft_cap};
                        const bool fresh = part.begin == see.begin;
                        k.attend(kv, part, q.data(), qs.data(), heads, (fresh ? b : next).data(), scratch.data());
                        for (int h = 0; h < heads && !fresh; h++)
                            k.merge(&b[h * (stride + partial_extra)], &next[h * (stride + partial_extra)], stride);
                    }
                    ASSERT_TRUE(same_bits(a, b)) << k.name << " in chunks";
                }
            }
}

INSTANTIATE_TEST_SUITE_P(Available, Levels, testing::ValuesIn(others()),
                         [](const auto& level) { return std::string(level.param->name); });
GTEST_ALLOW_UNINSTANTIATED_PARAMETERIZED_TEST(Levels);

// The scalar level against double precision: that all levels agree says nothing of being right.
TEST(Scalar, MatmulIsTheProductOfRowsAndActivations) {
    const Kernels& s = *find_level("scalar");
    for (int kind = 0; kind < 4; kind++) {
        const int rows = 16, cols = 192;
        const auto m = random_matrix(kind, rows, cols, false);
        const auto x = normal(cols);
        const auto a = quantized(s, x, 1, cols);
        std::vector<float> y(rows), row(cols);
        matmul_of(s, kind)(m.view, 0, rows / block, a.view, 1, y.data(), rows);
        for (int r = 0; r < rows; r++) {
            (kind == 0 ? row_i4 : kind == 1 ? row_i4a : kind == 2 ? row_i8 : row_i6)(m.view, r, row.data());
            double sum = 0, size = 0;
            for (int c = 0; c < cols; c++) {
                const double p = static_cast<double>(row[c]) * a.q[c] * a.scale[c / group];
                sum += p;
                size += std::abs(p);
            }
            ASSERT_NEAR(y[r], sum, 1e-5 * size + 1e-30);
        }
    }
}

// A ring of 256 slots holds what a window of 100 needs, whatever lies in the other slots.
TEST(Scalar, AttentionIsSoftmaxOfScaledDots) {
    const Kernels& s = *find_level("scalar");
    struct {
        Visible see;
        int capacity;
    } const cases[] = {{{0, 300, 0}, 304}, {{200, 300, 0}, 304}, {{200, 300, 0}, 256}, {{200, 300, 2}, 256}};
    for (const auto& [see, capacity] : cases) {
        const int head_dim = 64;
        auto q = uniform<std::int8_t>(head_dim, -127, 127);
        const auto room = static_cast<std::size_t>(capacity);
        auto kc = uniform<std::int8_t>(room * head_dim, -127, 127),
             vc = uniform<std::int8_t>(room * head_dim, -127, 127);
        std::vector<float> ks(room, 0.01f), vs(room, 0.02f), out(head_dim + partial_extra), scratch(4 * chunk);
        const float qs = 0.001f;
        s.attend({kc.data(), ks.data(), vc.data(), vs.data(), head_dim, head_dim, capacity}, see, q.data(), &qs, 1,
                 out.data(), scratch.data());
        for (int d = 0; d < head_dim; d++) out[d] /= out[head_dim + 1];
        std::vector<double> w(static_cast<std::size_t>(see.end)), expected(head_dim);
        double total = 0;
        for (int p = see.begin; p < see.end; p++) {
            const int slot = p % capacity;
            int dot = 0;
            for (int d = 0; d < head_dim; d++)
                dot += q[d] * kc[(slot / 16) * 16 * head_dim + (d / 4) * 64 + (slot % 16) * 4 + d % 4];
            double score = dot * 0.01 * 0.001;
            if (see.soft_cap != 0) score = see.soft_cap * std::tanh(score / see.soft_cap);
            total += w[p] = std::exp(score);
        }
        for (int p = see.begin; p < see.end; p++)
            for (int d = 0; d < head_dim; d++) expected[d] += w[p] / total * 0.02 * vc[p % capacity * head_dim + d];
        for (int d = 0; d < head_dim; d++) ASSERT_NEAR(out[d], expected[d], 2e-6);
    }
}

TEST(Scalar, SiluAndNormAndAngles) {
    const Kernels& s = *find_level("scalar");
    std::vector<float> x(1024), up(1024, 1.0f), y(1024);
    for (int i = 0; i < 1024; i++) x[i] = (i - 512) / 8.0f;
    s.silu_mul(x.data(), up.data(), 1024, y.data());
    for (int i = 0; i < 1024; i++) {
        const double e = x[i] / (1 + std::exp(-static_cast<double>(x[i])));
        ASSERT_NEAR(y[i], e, 4e-7 * std::abs(e) + 1e-36) << x[i];
    }
    s.gelu_mul(x.data(), up.data(), 1024, y.data());
    for (int i = 0; i < 1024; i++) {
        const double v = x[i], e = 0.5 * v * (1 + std::tanh(std::sqrt(2 / M_PI) * (v + 0.044715 * v * v * v)));
        ASSERT_NEAR(y[i], e, 2e-6 * std::abs(e) + 1e-14) << x[i];
    }
    y = x;
    s.cap(y.data(), 0.5f, 30, 1024);
    for (int i = 0; i < 1024; i++) ASSERT_NEAR(y[i], 30 * std::tanh(x[i] / 60.0), 6e-6) << x[i];
    std::vector<float> freq{1.0f, 0.5f, 0.001f}, c(3), sn(3);
    for (int position : {0, 1, 77, 2047, 131071}) {
        rope_angles(position, freq.data(), 3, c.data(), sn.data());
        for (int i = 0; i < 3; i++) {
            const double angle = static_cast<float>(position) * freq[i];
            ASSERT_NEAR(c[i], std::cos(angle), 1e-7);
            ASSERT_NEAR(sn[i], std::sin(angle), 1e-7);
        }
    }
}

TEST(Scalar, GeluAndLayerNormAndProducts) {
    const Kernels& s = *find_level("scalar");
    std::vector<float> x(1024);
    for (int i = 0; i < 1024; i++) x[i] = (i - 512) / 40.0f;
    std::vector<float> y = x;
    s.gelu(y.data(), 1024);
    for (int i = 0; i < 1024; i++) {
        const double v = x[i], e = 0.5 * v * std::erfc(-v / std::sqrt(2.0));
        ASSERT_NEAR(y[i], e, 2e-7 * std::abs(v) + 1e-9) << x[i];
    }
    const int n = 96;
    const auto v = normal(n, 3), w = normal(n), b = normal(n);
    y.resize(n);
    s.layer_norm(v.data(), w.data(), b.data(), n, 1e-12f, y.data());
    double mean = 0, variance = 0;
    for (const float a : v) mean += a / static_cast<double>(n);
    for (const float a : v) variance += (a - mean) * (a - mean) / n;
    for (int i = 0; i < n; i++) ASSERT_NEAR(y[i], (v[i] - mean) / std::sqrt(variance) * w[i] + b[i], 3e-6);

    const int k = 37, tokens = 11;
    const auto weights = normal(k * 20), in = normal(tokens * 40);
    std::vector<float> out(tokens * 18, 7);
    s.product(weights.data(), 20, k, in.data(), 40, tokens, out.data(), 18);
    for (int t = 0; t < tokens; t++)
        for (int j = 0; j < 18; j++) {
            double sum = j < 16 ? 0 : 7;
            for (int i = 0; i < k && j < 16; i++) sum += static_cast<double>(in[t * 40 + i]) * weights[i * 20 + j];
            ASSERT_NEAR(out[t * 18 + j], sum, 1e-5);
        }

    std::vector<float> scores(32, 100);
    for (int i = 0; i < 20; i++) scores[i] = static_cast<float>(i) / 4 - 2;
    const auto before = scores;
    const float total = s.exponentials(scores.data(), 20);
    double sum = 0;
    for (int i = 0; i < 20; i++) sum += std::exp(before[i] - before[19]);
    ASSERT_NEAR(total, sum, 1e-5);
    for (int i = 0; i < 20; i++) ASSERT_NEAR(scores[i], std::exp(before[i] - before[19]), 1e-6);
    for (int i = 20; i < 32; i++) ASSERT_EQ(scores[i], 0);
}

TEST(Levels, EncodersGiveTheSameBits) {
    const Kernels& s = *find_level("scalar");
    for (const Kernels* k : others())
        for (const int n : {1, 7, 16, 31, 100}) {
            const int padded = (n + 15) / 16 * 16, wide = 16 * n;
            auto a = normal(wide, 4), b = a;
            const auto w = normal(wide), bias = normal(wide);
            s.gelu(a.data(), wide), k->gelu(b.data(), wide);
            ASSERT_TRUE(same_bits(a, b)) << k->name << n;
            std::vector<float> c(wide), d(wide);
            s.layer_norm(a.data(), w.data(), bias.data(), wide, 1e-5f, c.data());
            k->layer_norm(a.data(), w.data(), bias.data(), wide, 1e-5f, d.data());
            ASSERT_TRUE(same_bits(c, d)) << k->name << n;
            for (const int tokens : {1, 3, 8, 13, 32}) {
                const auto x = normal(tokens * n);
                c.assign(tokens * 16, 0), d.assign(tokens * 16, 0);
                s.product(w.data(), 16, n, x.data(), n, tokens, c.data(), 16);
                k->product(w.data(), 16, n, x.data(), n, tokens, d.data(), 16);
                ASSERT_TRUE(same_bits(c, d)) << k->name << n << " x " << tokens;
            }
            a = b = normal(padded, 3);
            ASSERT_EQ(s.exponentials(a.data(), n), k->exponentials(b.data(), n)) << k->name << n;
            ASSERT_TRUE(same_bits(a, b)) << k->name << n;
        }
}

TEST(Scalar, HadamardPreservesDotProducts) {
    const Kernels& s = *find_level("scalar");
    for (int n : {64, 80}) {
        auto a = normal(n), b = normal(n);
        double before = 0, after = 0;
        for (int i = 0; i < n; i++) before += a[i] * b[i];
        s.hadamard(a.data(), n);
        s.hadamard(b.data(), n);
        for (int i = 0; i < n; i++) after += a[i] * b[i];
        EXPECT_NEAR(after / (n & -n), before, 1e-4);
    }
}

}  // namespace
