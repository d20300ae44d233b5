// What goes into a matrix, in the source and in the model as it has been rounded so far, as sums over calibration text.
#pragma once
#include <span>
#include <vector>

#include "toolchain/slmpack/reference/layer.h"

namespace slmd::pack {

constexpr std::size_t held_out = 8;  // every eighth sequence judges, the others teach

// x: the inputs of a matrix in the source; y: what they have become. Means over positions.
struct Moments {
    long n = 0;
    std::vector<double> yy;               // y y^T
    std::vector<float> dy;                // (x - y) y^T, transposed: row b, column a is (x - y)_a y_b
    std::vector<float> test_yy, test_dy;  // over the held-out sequences
    std::size_t positions = 0, test_positions = 0;

    explicit Moments(long width);
    // x, y: positions x n, of sequences first, first + 1, ... Products are summed in float32 over one sequence, in
    // double over all.
    void add(std::span<const Matrix> x, std::span<const Matrix> y, std::size_t first, unsigned threads);
    void finish();
};

// linear() on all cores.
Matrix linear_parallel(const Matrix& x, const float* w, long outputs, unsigned threads);

}  // namespace slmd::pack
