#include "agent/calibrate.h"

#include <algorithm>
#include <cmath>
#include <cstdint>
#include <numeric>

namespace slmd::agent {
namespace {

constexpr int folds = 5, bins = 15;

// The order of the answers, by confidence.
std::vector<std::size_t> ranked(std::span<const Judged> answers) {
    std::vector<std::size_t> order(answers.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::sort(order.begin(), order.end(),
              [&](std::size_t a, std::size_t b) { return answers[a].confidence < answers[b].confidence; });
    return order;
}

// How right each of the ordered answers is, as the mean of those that are equally confident.
std::vector<double> rightness(std::span<const Judged> answers, std::span<const std::size_t> order) {
    std::vector<double> right(order.size());
    for (std::size_t i = 0, end; i < order.size(); i = end) {
        double sum = 0;
        for (end = i; end < order.size() && answers[order[end]].confidence == answers[order[i]].confidence; end++)
            sum += answers[order[end]].right ? 1 : 0;
        std::fill(right.begin() + static_cast<std::ptrdiff_t>(i), right.begin() + static_cast<std::ptrdiff_t>(end),
                  sum / static_cast<double>(end - i));
    }
    return right;
}

Block merged(const Block& a, const Block& b) {
    const double weight = a.weight + b.weight;
    return {(a.score * a.weight + b.score * b.weight) / weight, (a.value * a.weight + b.value * b.weight) / weight,
            weight};
}

// The map of a feature from the examples that are not in fold `left_out`.
void set_map(std::span<const Sample> examples, std::span<const int> fold, int left_out, Feature feature,
             Calibration& calibration) {
    std::vector<Block> points;
    for (std::size_t i = 0; i < examples.size(); i++)
        if (fold[i] != left_out)
            points.push_back(
                {static_cast<double>(score(examples[i].features, feature)), examples[i].right ? 1.0 : 0.0, 1});
    std::sort(points.begin(), points.end(), [](const Block& a, const Block& b) { return a.score < b.score; });
    // Equal scores are one point: nothing could tell them apart.
    std::size_t count = 0;
    for (std::size_t i = 0, end; i < points.size(); i = end) {
        Block sum{points[i].score, 0, 0};
        for (end = i; end < points.size() && points[end].score == sum.score; end++) {
            sum.value += points[end].value;
            sum.weight += 1;
        }
        sum.value /= sum.weight;
        points[count++] = sum;
    }
    points.resize(count);

    std::vector<Block> blocks = isotonic(points);
    for (Block& b : blocks) {
        b.value = (b.value * b.weight + 1) / (b.weight + 2);
        b.weight += 2;
    }
    blocks = isotonic(blocks);  // small blocks moved further than large ones
    while (blocks.size() > Calibration::max_knots) {
        std::size_t least = 0;
        const auto cost = [&](std::size_t i) {
            const Block &a = blocks[i], &b = blocks[i + 1];
            return a.weight * b.weight / (a.weight + b.weight) * (a.value - b.value) * (a.value - b.value);
        };
        for (std::size_t i = 1; i + 1 < blocks.size(); i++)
            if (cost(i) < cost(least)) least = i;
        blocks[least] = merged(blocks[least], blocks[least + 1]);
        blocks.erase(blocks.begin() + static_cast<std::ptrdiff_t>(least) + 1);
    }
    calibration.feature = feature;
    calibration.knot_count = 0;
    for (const Block& b : blocks)
        calibration.knots[calibration.knot_count++] = {static_cast<float>(b.score), static_cast<float>(b.value)};
}

// Each fold has its share of right and of wrong answers, drawn in an order that is always the same and has nothing to
// do with that of the file.
std::vector<int> draw_folds(std::span<const Sample> examples) {
    std::vector<std::size_t> order(examples.size());
    std::iota(order.begin(), order.end(), std::size_t{0});
    std::uint64_t state = 1;
    for (std::size_t i = order.size(); i > 1; i--) {
        state = state * 6364136223846793005u + 1442695040888963407u;  // Knuth's MMIX; its high bits are the random ones
        std::swap(order[i - 1], order[(state >> 33) % i]);
    }
    std::vector<int> fold(examples.size());
    int next = 0;
    for (const bool right : {true, false})
        for (const std::size_t i : order)
            if (examples[i].right == right) fold[i] = next++ % folds;
    return fold;
}

std::vector<Judged> cross_validated(std::span<const Sample> examples, std::span<const int> fold, Feature feature) {
    std::vector<Judged> out(examples.size());
    for (int f = 0; f < folds; f++) {
        Calibration calibration;
        set_map(examples, fold, f, feature, calibration);
        for (std::size_t i = 0; i < examples.size(); i++)
            if (fold[i] == f) out[i] = {confidence(calibration, examples[i].features), examples[i].right};
    }
    return out;
}

Calibration::Quality quality(std::span<const Judged> answers) {
    return {static_cast<float>(ece(answers)), static_cast<float>(brier(answers))};
}

}  // namespace

std::vector<Block> isotonic(std::span<const Block> points) {
    std::vector<Block> blocks;
    for (const Block& p : points) {
        blocks.push_back(p);
        while (blocks.size() > 1 && blocks[blocks.size() - 2].value >= blocks.back().value) {
            const Block last = blocks.back();
            blocks.pop_back();
            blocks.back() = merged(blocks.back(), last);
        }
    }
    return blocks;
}

Result<Fit> fit(std::span<const Sample> examples) {
    if (examples.size() < Calibration::min_examples || examples.size() > Calibration::max_examples)
        return Error::make(Code::incorrect_parameters,
                           "%zu judged answers: a calibration needs %d to %d, and is good from a few hundred on",
                           examples.size(), Calibration::min_examples, Calibration::max_examples);
    for (std::size_t i = 0; i < examples.size(); i++)
        for (int f = 0; f < feature_count; f++)
            if (const float s = score(examples[i].features, static_cast<Feature>(f)); !(s >= 0 && s <= 1))
                return Error::make(Code::incorrect_parameters, "example %zu: %s is %g: from 0 to 1", i + 1,
                                   feature_name(static_cast<Feature>(f)), static_cast<double>(s));
    const auto right = std::count_if(examples.begin(), examples.end(), [](const Sample& e) { return e.right; });
    const auto count = static_cast<std::ptrdiff_t>(examples.size());
    if (right == 0)
        return Error::make(Code::incorrect_parameters,
                           "all %zu answers are wrong: look whether the expected answers are written as the agent "
                           "writes them, then improve the agent",
                           examples.size());
    if (right == count)
        return Error::make(Code::incorrect_parameters,
                           "all %zu answers are right: what a wrong one looks like can only be learnt from some; add "
                           "harder examples",
                           examples.size());

    Fit made;
    const std::vector<int> fold = draw_folds(examples);
    Feature best{};
    for (int f = 0; f < feature_count; f++) {
        std::vector<Judged> after = cross_validated(examples, fold, static_cast<Feature>(f));
        if (f > 0 && brier(after) >= brier(made.after)) continue;
        best = static_cast<Feature>(f);
        made.after = std::move(after);
    }
    for (const Sample& e : examples) made.before.push_back({e.features.mean, e.right});

    Calibration& c = made.calibration;
    set_map(examples, fold, -1, best, c);
    std::vector<float> scores;
    for (const Sample& e : examples) scores.push_back(score(e.features, best));
    std::sort(scores.begin(), scores.end());
    constexpr std::size_t tenths = Calibration::tenths;
    for (std::size_t i = 1; i < tenths; i++) c.deciles[i - 1] = scores[scores.size() * i / tenths];
    int counts[tenths] = {};
    for (const float s : scores) counts[tenth_of(c.deciles, s)]++;
    for (std::size_t i = 0; i < tenths; i++)
        c.shares[i] = static_cast<float>(counts[i]) / static_cast<float>(examples.size());
    c.examples = static_cast<int>(count);
    c.accuracy = static_cast<float>(right) / static_cast<float>(count);
    c.before = quality(made.before);
    c.after = quality(made.after);
    return made;
}

double brier(std::span<const Judged> answers) {
    double sum = 0;
    for (const Judged& a : answers) {
        const double off = static_cast<double>(a.confidence) - (a.right ? 1 : 0);
        sum += off * off;
    }
    return sum / static_cast<double>(answers.size());
}

std::vector<Bin> reliability(std::span<const Judged> answers) {
    const std::vector<std::size_t> order = ranked(answers);
    const std::vector<double> right = rightness(answers, order);
    const std::size_t n = answers.size(), cuts = std::min<std::size_t>(bins, n);
    std::vector<Bin> made;
    for (std::size_t b = 0; b < cuts; b++) {
        const std::size_t from = n * b / cuts, to = n * (b + 1) / cuts;
        Bin bin{0, 0, static_cast<double>(to - from)};
        for (std::size_t i = from; i < to; i++) {
            bin.confidence += static_cast<double>(answers[order[i]].confidence);
            bin.right += right[i];
        }
        bin.confidence /= bin.count;
        bin.right /= bin.count;
        made.push_back(bin);
    }
    return made;
}

double ece(std::span<const Judged> answers) {
    double sum = 0;
    for (const Bin& b : reliability(answers)) sum += b.count * std::abs(b.confidence - b.right);
    return sum / static_cast<double>(answers.size());
}

double chance_ece(std::span<const Judged> answers) {
    double sum = 0;
    // The mean of |x| of a normal number x is sqrt(2 / pi) times its standard deviation.
    for (const Bin& b : reliability(answers))
        sum += b.count * std::sqrt(2 / 3.14159265358979 * b.confidence * (1 - b.confidence) / b.count);
    return sum / static_cast<double>(answers.size());
}

RiskCoverage::RiskCoverage(std::span<const Judged> answers) {
    const std::vector<std::size_t> order = ranked(answers);
    const std::vector<double> right = rightness(answers, order);
    wrong_.push_back(0);
    for (std::size_t i = order.size(); i-- > 0;) {
        confidence_.push_back(answers[order[i]].confidence);
        wrong_.push_back(wrong_.back() + 1 - right[i]);
    }
}

double RiskCoverage::risk(double coverage) const {
    const double kept = coverage * static_cast<double>(confidence_.size());
    const auto whole = std::min(static_cast<std::size_t>(kept), confidence_.size() - 1);
    const double part = kept - static_cast<double>(whole);
    return (wrong_[whole] + part * (wrong_[whole + 1] - wrong_[whole])) / kept;
}

double RiskCoverage::area() const {
    double sum = 0;
    for (std::size_t k = 1; k < wrong_.size(); k++) sum += wrong_[k] / static_cast<double>(k);
    return sum / static_cast<double>(confidence_.size());
}

RiskCoverage::Choice RiskCoverage::choose(double max_risk) const {
    std::size_t kept = confidence_.size();
    for (int thousandths = 0; thousandths <= 1000; thousandths++) {
        const double threshold = thousandths / 1000.0;
        while (kept > 0 && static_cast<double>(confidence_[kept - 1]) < threshold) kept--;
        if (kept == 0) break;
        const double all = static_cast<double>(confidence_.size()), count = static_cast<double>(kept);
        // Below the threshold nothing is as confident as the last one kept, so whole answers are wrong.
        const double wrong = std::round(wrong_[kept]);
        if (wrong > max_risk * count) continue;
        const double below = kept < confidence_.size() ? static_cast<double>(confidence_[kept]) : 0,
                     middle = (below + static_cast<double>(confidence_[kept - 1])) / 2;
        return {std::max(threshold, std::floor(1000 * middle) / 1000), count / all, wrong / count};
    }
    return {1, 0, 0};
}

}  // namespace slmd::agent
