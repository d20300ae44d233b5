#include "moments.h"

#include <algorithm>

#include "toolchain/slmpack/image/parallel.h"

namespace slmd::pack {
namespace {

constexpr long tile = 64;  // rows that are one piece of work

}  // namespace

Moments::Moments(long width)
    : n(width), yy(std::size_t(n) * std::size_t(n)), dy(yy.size()), test_yy(yy.size()), test_dy(yy.size()) {}

void Moments::add(std::span<const Matrix> x, std::span<const Matrix> y, std::size_t first, unsigned threads) {
    std::vector<Matrix> inputs(y.size()), distances(y.size());
    parallel(
        y.size(), 1,
        [&](std::size_t s) {
            inputs[s] = y[s].transpose();
            distances[s] = (x[s] - y[s]).transpose();
        },
        threads);
    parallel(
        std::size_t((n + tile - 1) / tile), 1,
        [&](std::size_t t) {
            const long at = long(t) * tile, rows = std::min(tile, n - at);
            for (std::size_t s = 0; s < y.size(); s++) {
                const bool test = (first + s) % held_out == held_out - 1;
                const Matrix part = inputs[s].middleRows(at, rows);
                // Symmetric: from the diagonal's tile on, finish() mirrors it.
                const Matrix square = linear(part, inputs[s].data() + at * inputs[s].cols(), n - at),
                             cross = linear(part, distances[s].data(), n);
                const auto add_to = [&](auto& squares, std::vector<float>& crosses) {
                    for (long r = 0; r < rows; r++) {
                        const std::size_t to = std::size_t(at + r) * std::size_t(n);
                        for (long c = 0; c < n - at; c++) squares[to + std::size_t(at + c)] += square(r, c);
                        for (long c = 0; c < n; c++) crosses[to + std::size_t(c)] += cross(r, c);
                    }
                };
                if (test)
                    add_to(test_yy, test_dy);
                else
                    add_to(yy, dy);
            }
        },
        threads);
    for (std::size_t s = 0; s < y.size(); s++)
        ((first + s) % held_out == held_out - 1 ? test_positions : positions) += std::size_t(y[s].rows());
}

void Moments::finish() {
    for (long r = 0; r < n; r++)
        for (long c = 0; c < r; c++) {
            yy[std::size_t(r * n + c)] = yy[std::size_t(c * n + r)];
            test_yy[std::size_t(r * n + c)] = test_yy[std::size_t(c * n + r)];
        }
    for (double& v : yy) v /= double(std::max<std::size_t>(1, positions));
    for (float& v : dy) v /= float(std::max<std::size_t>(1, positions));
    for (std::vector<float>* m : {&test_yy, &test_dy})
        for (float& v : *m) v /= float(std::max<std::size_t>(1, test_positions));
}

Matrix linear_parallel(const Matrix& x, const float* w, long outputs, unsigned threads) {
    Matrix y(x.rows(), outputs);
    parallel(
        std::size_t((x.rows() + tile - 1) / tile), 1,
        [&](std::size_t t) {
            const long at = long(t) * tile, rows = std::min(tile, x.rows() - at);
            const Matrix part = x.middleRows(at, rows);
            y.middleRows(at, rows) = linear(part, w, outputs);
        },
        threads);
    return y;
}

}  // namespace slmd::pack
