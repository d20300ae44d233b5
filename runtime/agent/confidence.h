// From the features of an answer to the probability that it is right, and whether that still holds. Nothing is
// allocated.
#pragma once
#include <string_view>

#include "base/features.h"
#include "base/result.h"

namespace slmd::agent {

enum class Feature : unsigned char { mean, min, margin, entropy };
constexpr int feature_count = 4;
const char* feature_name(Feature feature);
float score(const Features& features, Feature feature);

// What answers that somebody judged say of an agent with a model: calibrate.h makes it, calibration_file.h keeps it.
// Without one the confidence of an answer is Features::mean.
struct Calibration {
    static constexpr int max_knots = 32, tenths = 10, min_examples = 20, max_examples = 1'000'000;

    Feature feature = Feature::mean;  // the one whose score is mapped
    struct Knot {
        float score, probability;
    } knots[max_knots] = {};  // scores ascend, probabilities never fall and are inside (0, 1)
    int knot_count = 0;       // 1 or more
    // The tenths of the examples' scores, for Drift: tenth i is [deciles[i - 1], deciles[i]), and the first and the
    // last have no end. shares: of the examples; 0.1 but where many scores are equal.
    float deciles[tenths - 1] = {}, shares[tenths] = {};
    int examples = 0;
    float accuracy = 0;
    struct Quality {
        float ece, brier;        // expected calibration error, mean squared error (calibrate.h)
    } before{}, after{};         // of Features::mean as it is; of the confidence, cross-validated
    char agent_sha256[65] = "";  // of the agent's file, in hex
    char model[64] = "";
    char adapter_sha256[65] = "";  // of the adapter's tensors, in hex; "": without one
};

// Linear between the knots, and level beyond them: held-out answers are predicted better so than by the steps of the
// isotonic regression itself, with few examples above all.
float confidence(const Calibration& calibration, const Features& features);

// Errors: incorrect_parameters when the calibration was made for another text of the agent, another model or another
// adapter: which, and what to do.
Result<void> check_calibration(const Calibration& calibration, std::string_view agent_sha256, std::string_view model,
                               std::string_view adapter_sha256);

// Whether answers are still like those that the calibration was made of: the population stability index (PSI) of their
// scores, in which an answer counts half of one that came `half_life` later.
class Drift {
  public:
    static constexpr int half_life = 200, min_answers = 100;
    static constexpr double limit = 0.25;  // of the PSI: the usual one for "another population"

    void reset(const Calibration& calibration);
    void add(const Features& features);
    int answers() const { return answers_; }
    // Sum over the tenths of (q - p) ln(q / p); p: share of the calibration's examples, q: of the answers, both with
    // half an answer more in every tenth. 0 before the first answer.
    double psi() const;
    // With min_answers: above the limit, and above what chance makes of so few examples and answers, but once in 1000.
    bool drifted() const;

  private:
    Feature feature_ = Feature::mean;
    float deciles_[Calibration::tenths - 1] = {}, shares_[Calibration::tenths] = {};
    int examples_ = 0, answers_ = 0;
    double counts_[Calibration::tenths] = {}, total_ = 0, squares_ = 0;  // of the answers' weights
};

// The tenth, from 0, that a score lies in.
int tenth_of(const float (&deciles)[Calibration::tenths - 1], float score);

}  // namespace slmd::agent
