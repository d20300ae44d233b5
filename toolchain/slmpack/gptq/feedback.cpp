#include "feedback.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <numeric>

#include "image/layout.h"
#include "toolchain/slmpack/image/half.h"
#include "toolchain/slmpack/image/parallel.h"
#include "toolchain/slmpack/image/quantize.h"
#include "toolchain/slmpack/reference/layer.h"

namespace slmd::pack {
namespace {

using image::Kind;

constexpr std::uint32_t group = 32, chunk = 32;  // columns; rows that are worked on together
constexpr std::uint32_t sample_rows = 64;        // on which levels, code lengths and step sizes are found
constexpr double damping = 0.01;                 // of a Hessian's mean diagonal
constexpr int sample_passes = 3;
// i4 scales are a quarter of an octave apart: finer ones cost more in the file than they gain.
constexpr int index_grid = 4;
constexpr float longest_code = 12;   // bits; zstd's Huffman codes have at most 11
constexpr float octave_grid = 0.5f;  // of steps of i6 and i8

// Bits of each symbol, from how often it came.
template <std::size_t n>
std::array<float, n> code_lengths(const std::array<double, n>& counts) {
    const double total = std::accumulate(counts.begin(), counts.end(), 0.0);
    std::array<float, n> bits;
    for (std::size_t i = 0; i < n; i++)
        bits[i] = std::min(longest_code, static_cast<float>(-std::log2((counts[i] + 0.1) / (total + 0.1 * n))));
    return bits;
}

// How a tensor is coded, the same for all of its rows; and what came of it.
struct Model {
    Kind kind{};
    Book book{};                          // i4
    std::array<float, 256> code_bits{};   // by the code's byte
    std::array<float, 256> index_bits{};  // i4
    float step_factor = 1;                // i6, i8: of the step that theory says
};
struct Counts {
    std::array<double, 256> codes{}, indices{};
    std::array<double, 16> level_weight{}, level_sum{};  // i4: for training levels
    double loss = 0, bits = 0;
    void operator+=(const Counts& o) {
        for (int i = 0; i < 256; i++) codes[i] += o.codes[i], indices[i] += o.indices[i];
        for (int i = 0; i < 16; i++) level_weight[i] += o.level_weight[i], level_sum[i] += o.level_sum[i];
        loss += o.loss;
        bits += o.bits;
    }
};

TensorData empty(Kind kind, std::uint32_t rows, std::uint32_t cols) {
    TensorData t{.kind = kind, .rows = rows, .cols = cols};
    const std::size_t groups = std::size_t{rows} * ((cols + group - 1) / group);
    t.codes.resize(std::size_t{rows} * cols);
    if (kind == Kind::i4) {
        t.indices.resize(groups);
        t.steps.resize(rows);
    } else {
        t.scales.resize(groups);
    }
    return t;
}

class Rounder {
  public:
    // values: of the whole tensor, of which the objective is that of the rows from `first` on.
    Rounder(std::span<const float> values, std::uint32_t first, std::uint32_t cols, const Objective& objective)
        : values_(values), first_(first), cols_(cols), groups_((cols + group - 1) / group), objective_(objective) {
        for (const std::uint32_t g : objective.order) {
            start_.push_back(at_);
            at_ += std::min(group, cols - g * group);
        }
    }

    // Rows in `list` into t.
    Counts round(std::span<const std::uint32_t> list, const Model& model, TensorData& t) const {
        Counts counts;
        const long n = long(cols_);
        const Eigen::Map<const Matrix> u(objective_.factor.data(), n, n);
        Matrix w(long(list.size()), n);
        std::vector<float> steps(list.size());
        for (std::size_t r = 0; r < list.size(); r++) {
            const float* row = values_.data() + std::size_t{list[r]} * cols_;
            for (std::size_t p = 0; p < groups_; p++)
                std::memcpy(&w(long(r), start_[p]), row + objective_.order[p] * group, width(p) * sizeof(float));
            const float largest =
                *std::max_element(row, row + cols_, [](float a, float b) { return std::abs(a) < std::abs(b); });
            // The largest maps to the top level at a scale of 1, an octave below the end of the range.
            steps[r] = std::abs(largest) / model.book[15];
            if (model.kind == Kind::i4) t.steps[list[r]] = steps[r] > 1e-35f ? steps[r] : 0;
        }
        Matrix errors;
        for (std::size_t p = 0; p < groups_; p++) {
            const long at = start_[p], len = long(width(p)), rest = n - at - len;
            errors.setZero(w.rows(), len);
            for (std::size_t r = 0; r < list.size(); r++) {
                if (model.kind == Kind::i4)
                    round_i4(&w(long(r), at), p, list[r], steps[r], model, t, &errors(long(r), 0), counts);
                else
                    round_linear(&w(long(r), at), p, list[r], model, t, &errors(long(r), 0), counts);
            }
            if (rest > 0) w.rightCols(rest).noalias() -= errors * u.block(at, at + len, len, rest);
        }
        return counts;
    }

  private:
    std::uint32_t width(std::size_t p) const { return std::min(group, cols_ - objective_.order[p] * group); }
    float u(long i, long j) const { return objective_.factor[std::size_t(i) * cols_ + std::size_t(j)]; }

    // One group of one row, as it stands after the feedback of those before it: the scale and the codes of least loss
    // and length.
    void round_i4(const float* w, std::size_t p, std::uint32_t row, float step, const Model& model, TensorData& t,
                  float* errors, Counts& counts) const {
        const std::uint32_t len = width(p);
        const long at = start_[p];
        const auto rate = static_cast<float>(objective_.nats_a_bit);
        const float importance = objective_.importance[row - first_];
        float extreme = 0;
        for (std::uint32_t k = 0; k < len; k++)
            if (std::abs(w[k]) > std::abs(extreme)) extreme = w[k];
        std::int8_t* codes = t.codes.data() + std::size_t{row} * cols_ + objective_.order[p] * group;
        std::uint8_t& index = t.indices[std::size_t{row} * groups_ + objective_.order[p]];
        if (!(step > 1e-35f)) {  // a row of nothing: codes do not matter
            const std::uint8_t cheapest = static_cast<std::uint8_t>(
                std::min_element(model.code_bits.begin(), model.code_bits.begin() + 16) - model.code_bits.begin());
            std::fill_n(codes, len, static_cast<std::int8_t>(cheapest));
            index = 0;
            return;
        }
        const int centre = nearest_scale_index(std::abs(extreme) / (model.book[15] * step)) / index_grid * index_grid;
        float least = INFINITY, best_loss = 0, best_bits = 0;
        float best_errors[group], best_targets[group];
        for (int i = std::max(0, centre - index_grid); i <= std::min(127, centre + 3 * index_grid); i += index_grid)
            for (const int sign : {0, 128}) {
                const float scale = (sign != 0 ? -1.0f : 1.0f) * scale_value(static_cast<std::uint8_t>(i)) * step;
                float levels[16], v[group], e[group], targets[group];
                std::int8_t tried[group];
                for (int c = 0; c < 16; c++) levels[c] = model.book[c] * scale;
                std::memcpy(v, w, len * sizeof(float));
                float loss = 0, bits = model.index_bits[static_cast<std::size_t>(i | sign)];
                for (std::uint32_t k = 0; k < len && loss + rate * bits < least; k++) {
                    const float inverse = 1 / u(at + k, at + k), weight = importance * inverse * inverse;
                    float cost[16];
                    for (int c = 0; c < 16; c++) {
                        const float d = v[k] - levels[c];
                        cost[c] = weight * d * d + rate * model.code_bits[c];
                    }
                    int best = 0;
                    for (int c = 1; c < 16; c++) best = cost[c] < cost[best] ? c : best;
                    tried[k] = static_cast<std::int8_t>(best);
                    targets[k] = v[k];
                    const float d = v[k] - levels[best];
                    loss += weight * d * d;
                    bits += model.code_bits[best];
                    e[k] = d * inverse;
                    const float* along = objective_.factor.data() + std::size_t(at + k) * cols_ + at;
                    for (std::uint32_t l = k + 1; l < len; l++) v[l] -= e[k] * along[l];
                }
                if (loss + rate * bits >= least) continue;
                least = loss + rate * bits;
                best_loss = loss;
                best_bits = bits;
                index = static_cast<std::uint8_t>(i | sign);
                std::memcpy(codes, tried, len);
                std::memcpy(best_errors, e, len * sizeof(float));
                std::memcpy(best_targets, targets, len * sizeof(float));
            }
        std::memcpy(errors, best_errors, len * sizeof(float));
        counts.loss += best_loss;
        counts.bits += best_bits;
        counts.indices[index]++;
        const float scale = ((index & 128) != 0 ? -1.0f : 1.0f) * scale_value(index & 127) * step;
        for (std::uint32_t k = 0; k < len; k++) {
            counts.codes[static_cast<std::uint8_t>(codes[k])]++;
            const double inverse = 1 / u(at + k, at + k), weight = importance * inverse * inverse * scale * scale;
            counts.level_weight[static_cast<std::size_t>(codes[k])] += weight;
            counts.level_sum[static_cast<std::size_t>(codes[k])] += weight * best_targets[k] / scale;
        }
    }

    // The step of a group is what entropy-coded rounding takes at this price of a bit: loss step^2 / 12 a weight =
    // price / (2 ln 2). i6 has to take a larger one where the codes would not fit.
    void round_linear(const float* w, std::size_t p, std::uint32_t row, const Model& model, TensorData& t,
                      float* errors, Counts& counts) const {
        const std::uint32_t len = width(p);
        const long at = start_[p];
        const auto rate = static_cast<float>(objective_.nats_a_bit);
        const float importance = objective_.importance[row - first_];
        const int bottom = model.kind == Kind::i6 ? -32 : -127, top = model.kind == Kind::i6 ? 31 : 127;
        float v[group], reach = 0, inverse_squares = 0;  // reach: the least scale that the values fit in
        std::memcpy(v, w, len * sizeof(float));
        for (std::uint32_t k = 0; k < len; k++) {
            reach = std::max(reach, v[k] / static_cast<float>(v[k] < 0 ? bottom : top));
            inverse_squares += 1 / (u(at + k, at + k) * u(at + k, at + k));
        }
        float step = model.step_factor *
                     std::sqrt(6 * rate / (0.6931472f * importance * (inverse_squares / static_cast<float>(len))));
        step = std::exp2(std::round(std::log2(step) / octave_grid) * octave_grid);
        step = std::max(step, reach);  // also where a bit costs nothing
        std::uint16_t half = to_half(std::min(step, 65504.0f));
        float scale = from_half(half);
        while (scale < reach && half < 0x7BFF) scale = from_half(++half);
        std::int8_t* codes = t.codes.data() + std::size_t{row} * cols_ + objective_.order[p] * group;
        t.scales[std::size_t{row} * groups_ + objective_.order[p]] = half;
        for (std::uint32_t k = 0; k < len; k++) {
            const float inverse = 1 / u(at + k, at + k), weight = importance * inverse * inverse;
            float least = INFINITY, error = v[k];
            int best = 0;
            const float exact = scale > 0 ? v[k] / scale : 0;  // feedback may have taken it out of reach
            const int down =
                static_cast<int>(std::floor(std::clamp(exact, static_cast<float>(bottom), static_cast<float>(top))));
            // The two beside it, one step further in, and nothing.
            for (const int c : {down, down + 1, down < 0 ? down + 2 : down - 1, 0}) {
                if (c < bottom || c > top) continue;
                const float d = v[k] - static_cast<float>(c) * scale,
                            cost = weight * d * d + rate * model.code_bits[static_cast<std::uint8_t>(c)];
                if (cost >= least) continue;
                least = cost;
                best = c;
                error = d;
            }
            codes[k] = static_cast<std::int8_t>(best);
            counts.codes[static_cast<std::uint8_t>(best)]++;
            counts.loss += weight * error * error;
            counts.bits += model.code_bits[static_cast<std::uint8_t>(best)];
            errors[k] = error * inverse;
            const float* along = objective_.factor.data() + std::size_t(at + k) * cols_ + at;
            for (std::uint32_t l = k + 1; l < len; l++) v[l] -= errors[k] * along[l];
        }
    }

    std::span<const float> values_;
    std::uint32_t first_, cols_;
    std::size_t groups_;
    const Objective& objective_;
    std::vector<long> start_;
    long at_ = 0;
};

// Levels moved to the middle of what they stand for; the top one stays, since scales are measured by it.
Book retrained(const Book& book, const Counts& counts) {
    Book out = book;
    for (int i = 0; i < 15; i++)
        if (counts.level_weight[i] > 0)
            out[i] = static_cast<std::int8_t>(
                std::clamp(std::lround(counts.level_sum[i] / counts.level_weight[i]), -31l, 31l));
    std::sort(out.begin(), out.end());
    return out;
}

}  // namespace

std::vector<float> importance_of(const std::vector<double>& mean_squares) {
    double mean = 0;
    for (const double s : mean_squares) mean += s / static_cast<double>(mean_squares.size());
    std::vector<float> out;
    for (const double s : mean_squares) out.push_back(static_cast<float>(0.5 * std::max(s, 1e-3 * mean + 1e-30)));
    return out;
}

Result<void> factor_hessian(std::vector<double> h, long cols, Objective& objective) {
    const auto n = static_cast<std::size_t>(cols);
    double mean = 0;
    for (std::size_t i = 0; i < n; i++) mean += h[i * n + i] / static_cast<double>(n);
    if (!(mean > 0)) mean = 1;  // inputs that are never anything but zero
    // Groups whose inputs are largest first: their errors have the most columns left to be taken up by.
    const std::size_t groups = (n + group - 1) / group;
    std::vector<double> weight(groups);
    for (std::size_t i = 0; i < n; i++) weight[i / group] += h[i * n + i];
    objective.order.resize(groups);
    std::iota(objective.order.begin(), objective.order.end(), 0u);
    std::stable_sort(objective.order.begin(), objective.order.end(),
                     [&](std::uint32_t a, std::uint32_t b) { return weight[a] > weight[b]; });
    std::vector<std::size_t> from;
    for (const std::uint32_t g : objective.order)
        for (std::size_t k = g * group; k < std::min<std::size_t>(n, (g + 1) * group); k++) from.push_back(k);
    std::vector<double> ordered(n * n);
    for (std::size_t i = 0; i < n; i++)
        for (std::size_t j = 0; j < n; j++) ordered[i * n + j] = h[from[i] * n + from[j]];
    for (std::size_t i = 0; i < n; i++) ordered[i * n + i] += damping * mean;
    std::vector<double>().swap(h);  // what is left takes twice its size again
    if (!inverse_factor(ordered, cols))
        return Error::make(Code::unknown,
                           "the Hessian of %ld inputs is not positive definite: is the calibration text long enough?",
                           cols);
    objective.factor.assign(ordered.begin(), ordered.end());
    return {};
}

namespace {

// By the best of several ways, of finite values, as they do on a sample of the rows. Those of i6 and i8 may stand
// beside each other.
Rounded round_by_best(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, std::vector<Model> models,
                      const Choice& choice, std::span<const Objective> objectives, unsigned threads) {
    const auto share = static_cast<std::uint32_t>(rows / objectives.size());
    std::vector<Rounder> rounders;
    for (std::size_t i = 0; i < objectives.size(); i++)
        rounders.emplace_back(values, static_cast<std::uint32_t>(i) * share, cols, objectives[i]);
    TensorData scratch = empty(models[0].kind, rows, cols);

    std::vector<std::uint32_t> sample;
    for (std::uint32_t i = 0; i < std::min(rows, sample_rows); i++)
        sample.push_back(static_cast<std::uint32_t>(std::uint64_t{i} * rows / std::min(rows, sample_rows)));
    const auto of_rows = [&](std::span<const std::uint32_t> list, const Model& model, TensorData& t) {
        std::vector<std::span<const std::uint32_t>> pieces;  // none of rows of two objectives
        for (std::size_t at = 0, n; at < list.size(); at += n) {
            for (n = 1; n < chunk && at + n < list.size() && list[at + n] / share == list[at] / share;) n++;
            pieces.push_back(list.subspan(at, n));
        }
        std::vector<Counts> parts(pieces.size());
        parallel(
            pieces.size(), 1,
            [&](std::size_t i) { parts[i] = rounders[pieces[i][0] / share].round(pieces[i], model, t); }, threads);
        Counts all;
        for (const Counts& c : parts) all += c;
        return all;
    };

    double least = INFINITY;
    Model chosen;
    for (Model& model : models) {
        model.code_bits.fill(model.kind == Kind::i4 ? 4 : 6);
        model.index_bits.fill(5);
        for (int pass = 0;; pass++) {
            const Counts counts = of_rows(sample, model, scratch);
            model.code_bits = code_lengths(counts.codes);
            model.index_bits = code_lengths(counts.indices);
            if (pass < sample_passes) {
                if (model.kind == Kind::i4 && model.book != uniform_book()) model.book = retrained(model.book, counts);
                continue;
            }
            const double weights = static_cast<double>(sample.size() * cols),
                         cost = counts.loss + objectives[0].nats_a_bit * choice.bits(model.kind, weights, counts.bits);
            if (cost < least) {
                least = cost;
                chosen = model;
            }
            break;
        }
    }
    std::vector<std::uint32_t> all(rows);
    std::iota(all.begin(), all.end(), 0u);
    Rounded out{std::move(scratch)};
    out.tensor.kind = chosen.kind;
    const Counts counts = of_rows(all, chosen, out.tensor);
    if (chosen.kind == Kind::i4) out.tensor.book = chosen.book;
    out.loss = counts.loss;
    out.bits = counts.bits;
    return out;
}

// The ways of a kind.
std::vector<Model> models_of(Kind kind, std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    std::vector<Model> models;
    if (kind == Kind::i4) {
        for (const Book& book : {train_book(values, rows, cols), uniform_book()})
            models.push_back({.kind = kind, .book = book});
    } else {
        for (const float factor : {0.71f, 1.0f})
            models.push_back({.kind = kind, .book = uniform_book(), .step_factor = factor});
    }
    return models;
}

}  // namespace

double Choice::bits(Kind kind, double weights, double stored) const {
    const image::StreamSizes s = image::stream_sizes(kind, image::block_rows, image::group_cols);
    // A step is for a whole row.
    const double of_weight = 8.0 * static_cast<double>(s.codes + s.scales + (kind == Kind::i4 ? 0 : s.steps)) /
                             (image::block_rows * image::group_cols);
    return stored + resident * of_weight * weights;
}

Result<Rounded> round_with_feedback(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, Kind kind,
                                    std::span<const Objective> objectives, unsigned threads) {
    for (std::size_t i = 0; i < values.size(); i++)
        if (!std::isfinite(values[i]))
            return Error::make(Code::model_format, "the value at row %zu, column %zu is not finite", i / cols,
                               i % cols);
    return round_by_best(values, rows, cols, models_of(kind, values, rows, cols), {.resident = 0}, objectives, threads);
}

Result<Rounded> round_best(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, const Choice& choice,
                           std::span<const Objective> objectives, unsigned threads) {
    const auto cost = [&](const Rounded& r) {
        return r.loss +
               objectives[0].nats_a_bit * choice.bits(r.tensor.kind, static_cast<double>(values.size()), r.bits);
    };
    Rounded narrow = TRY(round_with_feedback(values, rows, cols, Kind::i4, objectives, threads));
    if (choice.only_i4) return narrow;
    std::vector<Model> models = models_of(Kind::i6, values, rows, cols);
    for (const Model& m : models_of(Kind::i8, values, rows, cols)) models.push_back(m);
    Rounded wide = round_by_best(values, rows, cols, std::move(models), choice, objectives, threads);
    return cost(wide) < cost(narrow) ? std::move(wide) : std::move(narrow);
}

}  // namespace slmd::pack
