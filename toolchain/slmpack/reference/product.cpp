// Compiled once a CPU level (CMakeLists.txt).
#include "toolchain/slmpack/reference/product.h"

#include <Eigen/Cholesky>
#include <algorithm>

namespace slmd::pack {

void SLMD_PRODUCT(const float* x, const float* w, float* y, long n, long m, long k) {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Matrix> in(x, n, k), weights(w, m, k);
    if (n == 1)
        Eigen::Map<Eigen::VectorXf>(y, m).noalias() = weights * Eigen::Map<const Eigen::VectorXf>(x, k);
    else
        Eigen::Map<Matrix>(y, n, m).noalias() = in * weights.transpose();
}

// With rows and columns in reverse, h = L L^T, and what L^-1 becomes when it is put back is upper triangular.
bool SLMD_INVERSE_FACTOR(double* h, long n) {
    using Square = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic>;
    std::reverse(h, h + n * n);
    Eigen::Map<Square> lower(h, n, n);
    const Eigen::LLT<Eigen::Ref<Square>> factored(lower);
    if (factored.info() != Eigen::Success) return false;
    Square inverse = Square::Identity(n, n);
    lower.triangularView<Eigen::Lower>().solveInPlace(inverse);
    using Rows = Eigen::Matrix<double, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    Eigen::Map<Rows>(h, n, n) = inverse.reverse();
    return true;
}

}  // namespace slmd::pack
