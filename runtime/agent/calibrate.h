// Makes a calibration of answers that somebody judged, and says how good it is. For slmctl: it allocates.
#pragma once
#include <span>
#include <vector>

#include "agent/confidence.h"
#include "base/result.h"

namespace slmd::agent {

struct Sample {
    Features features;
    bool right;
};

// How sure an answer was, and what came of it.
struct Judged {
    float confidence;
    bool right;
};

struct Fit {
    Calibration calibration;  // without agent_sha256 and model
    // An example each. before: Features::mean as it is. after: the confidence that the other four fifths of the
    // examples give it (5-fold cross-validation).
    std::vector<Judged> before, after;
};

// The map is the isotonic regression of `right` on a feature (pool adjacent violators), in which each block has a right
// and a wrong answer more (Laplace), so that nothing is ever certain; a knot stands at a block's mean score; where
// there would be more than 32, those are merged whose merging adds the least squared error. The feature is the one with
// the least Brier score in 5-fold cross-validation; of equal ones, the first of the enumeration. The same examples give
// the same calibration. Errors: incorrect_parameters for fewer than 20 examples or more than a million, for those that
// are all right or all wrong, and for a feature outside of 0 to 1.
Result<Fit> fit(std::span<const Sample> examples);

// A point of a regression, or a block of pooled ones: their means, and how many there are.
struct Block {
    double score, value, weight;
};
// Isotonic regression by pool adjacent violators (Ayer et al. 1955): of points in ascending order of their scores, the
// blocks whose values never fall and differ from the points' least in the weighted mean square.
std::vector<Block> isotonic(std::span<const Block> points);

// Mean square of confidence minus right (0 or 1).
double brier(std::span<const Judged> answers);

// The answers in ascending order of confidence, cut into 15 bins of equally many (fewer answers: a bin each). Answers
// of equal confidence that a cut parts count as equally right on both sides, so that their order means nothing.
struct Bin {
    double confidence, right;  // means
    double count;
};
std::vector<Bin> reliability(std::span<const Judged> answers);
// Expected calibration error: mean over the answers of |confidence - right| of their bin of reliability().
double ece(std::span<const Judged> answers);
// What ece() would show on average of a perfect calibration with those bins, by chance alone.
double chance_ece(std::span<const Judged> answers);

// The share of wrong answers (risk) among the most confident ones, by their share of all answers (coverage). Of answers
// that are equally confident each is as likely to be among them.
class RiskCoverage {
  public:
    explicit RiskCoverage(std::span<const Judged> answers);
    // coverage: above 0, to 1.
    double risk(double coverage) const;
    // Mean of risk(k / n) over k = 1 to n, of n answers (Geifman and El-Yaniv 2017): 0 is best.
    double area() const;
    struct Choice {
        double threshold, coverage, risk;
    };
    // The threshold that keeps the most answers of those for which the answers of at least that confidence have at most
    // this risk: in thousandths, in the middle between what it keeps and what not. coverage 0: there is none.
    Choice choose(double max_risk) const;

  private:
    std::vector<float> confidence_;  // most confident first
    std::vector<double> wrong_;      // wrong_[k]: of the first k
};

}  // namespace slmd::agent
