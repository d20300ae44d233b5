// Compiled once a CPU level (CMakeLists.txt).
#include "toolchain/slmpack/reference/product.h"

#include <Eigen/Core>

namespace slmd::pack {

void SLMD_PRODUCT(const float* x, const float* w, float* y, long n, long m, long k) {
    using Matrix = Eigen::Matrix<float, Eigen::Dynamic, Eigen::Dynamic, Eigen::RowMajor>;
    const Eigen::Map<const Matrix> in(x, n, k), weights(w, m, k);
    if (n == 1)
        Eigen::Map<Eigen::VectorXf>(y, m).noalias() = weights * Eigen::Map<const Eigen::VectorXf>(x, k);
    else
        Eigen::Map<Matrix>(y, n, m).noalias() = in * weights.transpose();
}

}  // namespace slmd::pack
