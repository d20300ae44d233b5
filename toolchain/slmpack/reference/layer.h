// What a layer is made of, in float32: rows are positions, columns channels.
#pragma once
#include <Eigen/Core>
#include <cstddef>
#include <cstdint>
#include <vector>

namespace slmd::pack {

using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
using Vector = Eigen::Matrix<float, 1, Eigen::Dynamic>;

// x w^T, by the best level of this CPU. w: [outputs x x.cols()], row-major.
Matrix linear(const Matrix& x, const float* w, long outputs);

// x / sqrt(mean(x^2) + eps) * w, a row at a time (Zhang and Sennrich, arXiv 1910.07467).
Matrix rms_norm(const Matrix& x, const float* w, float eps);

// The gradient at x, from the one at rms_norm(x, w, eps).
Matrix rms_norm_backward(const Matrix& x, const float* w, float eps, const Matrix& gradient);

// Rotates element i of every head with element i + inv_freq.size() by position * inv_freq[i] (Su et al., arXiv
// 2104.09864). Row 0 is at `position`, the others follow; or row r is at positions[r].
void rope(Matrix& x, long head_dim, const std::vector<float>& inv_freq, float scale, std::size_t position);
void rope(Matrix& x, long head_dim, const std::vector<float>& inv_freq, float scale,
          const std::vector<std::size_t>& positions);

// Row r of scores belongs to position before + r and may look at the last `window` columns up to that one.
void causal_softmax(Matrix& scores, long before, long window);

// Rows that are a tree, of which the first `before` columns are the trunk: row r may look at itself, at row parents[r],
// at that one's parent and so on, and, the last parent being -1, at the trunk: the last `window` positions of all
// those.
void tree_softmax(Matrix& scores, long before, const std::vector<std::int32_t>& parents, long window);

// cap * tanh(x / cap); cap 0: nothing (Gemma 2, arXiv 2408.00118).
void soft_cap(Matrix& x, float cap);

// silu(gate) * up, or gelu(gate) * up in its tanh form (Shazeer, arXiv 2002.05202).
Matrix gated(const Matrix& gate, const Matrix& up, bool gelu);

// h [n x n], symmetric and positive definite, becomes U, upper triangular, row-major, with U^T U = h^-1. False, and h
// is lost, when h is not.
bool inverse_factor(std::vector<double>& h, long n);

}  // namespace slmd::pack
