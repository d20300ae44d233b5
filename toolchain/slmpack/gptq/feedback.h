// Rounds a matrix with error feedback: what rounding a column costs is taken up by the columns after it (GPTQ, Frantar
// et al., arXiv 2210.17323), and what a code costs in the file counts beside what it costs in the model's answers.
#pragma once
#include <span>
#include <vector>

#include "base/result.h"
#include "toolchain/slmpack/image/layout.h"

namespace slmd::pack {

// The loss of a row q in place of w is importance * (q - w) H (q - w)^T, in nats of KL a token.
struct Objective {
    // Of H, the mean of x x^T over calibration tokens: U [cols x cols], upper triangular, U^T U = H^-1, for columns in
    // `order`.
    std::vector<float> factor;
    std::vector<std::uint32_t> order;  // of groups of 32 columns: the first is rounded first
    std::vector<float> importance;     // a row of its own: half the mean square of the loss's gradient at its output
    double nats_a_bit = 0;             // what a stored bit is worth
};

struct Rounded {
    TensorData tensor;
    double loss = 0;  // nats a token, by the quadratic model
    double bits = 0;  // estimate of the stored codes and scales
};

// Half of the mean squares of gradients, so that they times squared errors are KL; no row is for nothing.
std::vector<float> importance_of(const std::vector<double>& mean_squares);

// Orders the groups of h [cols x cols, double, the mean of x x^T] and factors it, a hundredth of its mean diagonal
// added. Errors: unknown when it is not positive definite even so.
Result<void> factor_hessian(std::vector<double> h, long cols, Objective& objective);

// kind: i4, i6 or i8. values: rows x cols, row-major. objectives: of one price, each for as many rows, one after the
// other: a matrix has one, experts in one tensor have one each. The same on any number of threads. Errors: model_format
// naming the first value that is not finite.
Result<Rounded> round_with_feedback(std::span<const float> values, std::uint32_t rows, std::uint32_t cols,
                                    image::Kind kind, std::span<const Objective> objectives, unsigned threads);

struct Choice {
    // What a byte in memory weighs beside one in the file: keeps in 4 bits what 6 or 8 would serve little better.
    double resident = 0.25;
    bool only_i4 = false;
    // What counts of a matrix of so many weights and bits in the file.
    double bits(image::Kind kind, double weights, double stored) const;
};
// By the kind of least loss and cost. Errors: as round_with_feedback().
Result<Rounded> round_best(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, const Choice& choice,
                           std::span<const Objective> objectives, unsigned threads);

}  // namespace slmd::pack
