#include "agent/confidence.h"

#include <algorithm>
#include <cmath>

namespace slmd::agent {

const char* feature_name(Feature feature) {
    switch (feature) {
        case Feature::mean: return "mean";
        case Feature::min: return "min";
        case Feature::margin: return "margin";
        case Feature::entropy: return "entropy";
    }
    return "";
}

float score(const Features& features, Feature feature) {
    switch (feature) {
        case Feature::mean: return features.mean;
        case Feature::min: return features.min;
        case Feature::margin: return features.margin;
        case Feature::entropy: return features.entropy;
    }
    return 0;
}

float confidence(const Calibration& calibration, const Features& features) {
    const float s = score(features, calibration.feature);
    const Calibration::Knot* const knots = calibration.knots;
    const int last = calibration.knot_count - 1;
    if (!(s > knots[0].score)) return knots[0].probability;
    if (s >= knots[last].score) return knots[last].probability;
    int i = 1;
    while (s >= knots[i].score) i++;
    const Calibration::Knot &low = knots[i - 1], &high = knots[i];
    const float part = (s - low.score) / (high.score - low.score);
    return std::min(low.probability + part * (high.probability - low.probability), high.probability);
}

Result<void> check_calibration(const Calibration& calibration, std::string_view agent_sha256, std::string_view model,
                               std::string_view adapter_sha256) {
    if (agent_sha256 != calibration.agent_sha256)
        return Error::make(Code::incorrect_parameters,
                           "the calibration was made for another text of this agent; slmctl calibrate makes a new one");
    if (model != calibration.model)
        return Error::make(
            Code::incorrect_parameters,
            "the calibration was made with the model \"%s\", this is \"%.*s\"; slmctl calibrate makes a new one",
            calibration.model, static_cast<int>(std::min<std::size_t>(model.size(), 63)), model.data());
    if (adapter_sha256 != calibration.adapter_sha256)
        return Error::make(
            Code::incorrect_parameters, "the calibration was made %s; slmctl calibrate makes a new one",
            calibration.adapter_sha256[0] == 0 ? "without an adapter" : "with another adapter, or other tensors of it");
    return {};
}

int tenth_of(const float (&deciles)[Calibration::tenths - 1], float score) {
    int tenth = 0;
    while (tenth < Calibration::tenths - 1 && score >= deciles[tenth]) tenth++;
    return tenth;
}

void Drift::reset(const Calibration& calibration) {
    *this = {};
    feature_ = calibration.feature;
    std::copy(std::begin(calibration.deciles), std::end(calibration.deciles), deciles_);
    std::copy(std::begin(calibration.shares), std::end(calibration.shares), shares_);
    examples_ = calibration.examples;
}

void Drift::add(const Features& features) {
    constexpr double keep = 0.99654026282786782;  // 2^(-1 / half_life)
    static_assert(half_life == 200);
    for (double& count : counts_) count *= keep;
    counts_[tenth_of(deciles_, score(features, feature_))] += 1;
    total_ = total_ * keep + 1;
    squares_ = squares_ * keep * keep + 1;
    answers_ = std::min(answers_ + 1, 1 << 30);
}

double Drift::psi() const {
    if (answers_ == 0) return 0;
    // A tenth between two equal deciles is empty for good.
    const auto empty = [&](int i) { return i > 0 && i < Calibration::tenths - 1 && !(deciles_[i - 1] < deciles_[i]); };
    int tenths = 0;
    for (int i = 0; i < Calibration::tenths; i++) tenths += empty(i) ? 0 : 1;
    double sum = 0;
    for (int i = 0; i < Calibration::tenths; i++) {
        if (empty(i)) continue;
        const double p = (static_cast<double>(shares_[i]) * examples_ + 0.5) / (examples_ + 0.5 * tenths),
                     q = (counts_[i] + 0.5) / (total_ + 0.5 * tenths);
        sum += (q - p) * std::log(q / p);
    }
    return sum;
}

bool Drift::drifted() const {
    if (answers_ < min_answers) return false;
    // Where nothing has changed, the PSI is (1 / examples + 1 / answers) times a chi-squared number of 9 degrees of
    // freedom (Yurdakul 2018); weighted answers are as good as total^2 / squares of them.
    constexpr double chi_squared = 27.877;  // its 99.9th percentile
    static_assert(Calibration::tenths == 10);
    return psi() > std::max(limit, chi_squared * (1.0 / examples_ + squares_ / (total_ * total_)));
}

}  // namespace slmd::agent
