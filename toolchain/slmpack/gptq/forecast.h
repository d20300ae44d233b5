// What an image will take and lose at each price of a bit, from a few rows of a few layers: so that a size or a KL can
// be asked for.
#pragma once
#include <vector>

#include "feedback.h"
#include "survey.h"

namespace slmd::pack {

class Forecast {
  public:
    // weights: of all matrices.
    Forecast(std::uint64_t weights, const Choice& choice, unsigned threads);

    // A matrix that stands for `times` of its kind. objective: its price is not looked at.
    Result<void> add(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, Objective objective,
                     double times);
    // The matrices of a layer, on what goes into them in the source.
    Result<void> add(const Block& block, std::span<const Matrix> hidden, const Sensitivity& sensitivity, double times);

    struct Point {
        double nats_a_bit = 0, bits = 0, loss = 0;
    };
    // Rising prices.
    const std::vector<Point>& points() const { return points_; }
    // In place of what was added so far: the points of one that was interrupted.
    void go_on_from(std::vector<Point> points) { points_ = std::move(points); }

  private:
    std::vector<Point> points_;
    Choice choice_;
    unsigned threads_;
};

// Between the points, and on in the direction of the last two beyond them: the price at which bits (or loss) become
// what is wanted.
double price_of_bits(const std::vector<Forecast::Point>& points, double bits);
double price_of_loss(const std::vector<Forecast::Point>& points, double loss);
Forecast::Point at_price(const std::vector<Forecast::Point>& points, double nats_a_bit);

}  // namespace slmd::pack
