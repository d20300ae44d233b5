#include "toolchain/slmpack/reference/layer.h"

#include <algorithm>
#include <cmath>
#include <numeric>

#include "toolchain/slmpack/reference/product.h"

namespace slmd::pack {
namespace {

// The best level of this CPU.
template <class Function>
Function best([[maybe_unused]] Function avx512, [[maybe_unused]] Function avx2, Function baseline) {
#ifdef __x86_64__
    if (__builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512dq")) return avx512;
    if (__builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma")) return avx2;
#endif
    return baseline;
}
#ifndef __x86_64__
constexpr Product product_avx512 = nullptr, product_avx2 = nullptr;
constexpr InverseFactor inverse_factor_avx512 = nullptr, inverse_factor_avx2 = nullptr;
#endif

}  // namespace

bool inverse_factor(std::vector<double>& h, long n) {
    static const InverseFactor factor = best(inverse_factor_avx512, inverse_factor_avx2, inverse_factor_baseline);
    return factor(h.data(), n);
}

Matrix linear(const Matrix& x, const float* w, long outputs) {
    static const Product product = best(product_avx512, product_avx2, product_baseline);
    Matrix y(x.rows(), outputs);
    product(x.data(), w, y.data(), x.rows(), outputs, x.cols());
    return y;
}

Matrix rms_norm(const Matrix& x, const float* w, float eps) {
    const Eigen::Map<const Vector> weight(w, x.cols());
    const Eigen::ArrayXf scale = (x.rowwise().squaredNorm().array() / float(x.cols()) + eps).rsqrt();
    return (x.array().colwise() * scale).rowwise() * weight.array();
}

Matrix rms_norm_backward(const Matrix& x, const float* w, float eps, const Matrix& gradient) {
    const Eigen::Map<const Vector> weight(w, x.cols());
    Matrix d = (gradient.array().rowwise() * weight.array()).matrix();
    const Eigen::ArrayXf r = (x.rowwise().squaredNorm().array() / float(x.cols()) + eps).rsqrt();
    const Eigen::ArrayXf along = (d.array() * x.array()).rowwise().sum() * r.cube() / float(x.cols());
    d = (d.array().colwise() * r - x.array().colwise() * along).matrix();
    return d;
}

void rope(Matrix& x, long head_dim, const std::vector<float>& inv_freq, float scale, std::size_t position) {
    std::vector<std::size_t> positions(std::size_t(x.rows()));
    std::iota(positions.begin(), positions.end(), position);
    rope(x, head_dim, inv_freq, scale, positions);
}

void rope(Matrix& x, long head_dim, const std::vector<float>& inv_freq, float scale,
          const std::vector<std::size_t>& positions) {
    const long half = long(inv_freq.size());
    const Eigen::Map<const Eigen::Array<float, 1, Eigen::Dynamic>> frequency(inv_freq.data(), half);
    for (long row = 0; row < x.rows(); row++) {
        const Eigen::Array<float, 1, Eigen::Dynamic> angle = frequency * float(positions[std::size_t(row)]);
        const Eigen::Array<float, 1, Eigen::Dynamic> cosine = angle.cos() * scale, sine = angle.sin() * scale;
        for (long at = 0; at < x.cols(); at += head_dim) {
            auto a = x.row(row).segment(at, half).array(), b = x.row(row).segment(at + half, half).array();
            const Eigen::Array<float, 1, Eigen::Dynamic> first = a * cosine - b * sine;
            b = b * cosine + a * sine;
            a = first;
        }
    }
}

void causal_softmax(Matrix& scores, long before, long window) {
    for (long r = 0; r < scores.rows(); r++) {
        const long end = before + r + 1, begin = std::max(0l, end - window);
        auto row = scores.row(r).segment(begin, end - begin).array();
        row = (row - row.maxCoeff()).exp();
        row /= row.sum();
        scores.row(r).head(begin).setZero();
        scores.row(r).tail(scores.cols() - end).setZero();
    }
}

void tree_softmax(Matrix& scores, long before, const std::vector<std::int32_t>& parents, long window) {
    std::vector<long> seen;
    for (long r = 0; r < scores.rows(); r++) {
        seen.clear();
        for (std::int32_t at = std::int32_t(r); at >= 0 && long(seen.size()) < window; at = parents[std::size_t(at)])
            seen.push_back(before + at);
        for (long at = before - 1; at >= 0 && long(seen.size()) < window; at--) seen.push_back(at);
        auto row = scores.row(r);
        float largest = row[seen[0]], sum = 0;
        for (const long at : seen) largest = std::max(largest, row[at]);
        for (const long at : seen) sum += row[at] = std::exp(row[at] - largest);
        const Vector kept = row;
        row.setZero();
        for (const long at : seen) row[at] = kept[at] / sum;
    }
}

void soft_cap(Matrix& x, float cap) {
    if (cap != 0) x = (x.array() / cap).tanh() * cap;
}

Matrix gated(const Matrix& gate, const Matrix& up, bool gelu) {
    const auto g = gate.array();
    if (gelu) return 0.5f * g * (1 + (0.7978845608f * (g + 0.044715f * g.cube())).tanh()) * up.array();
    return g / (1 + (-g).exp()) * up.array();
}

}  // namespace slmd::pack
