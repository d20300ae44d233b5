#include "forecast.h"

#include <algorithm>
#include <cmath>

#include "toolchain/slmpack/image/parallel.h"

namespace slmd::pack {
namespace {

constexpr std::uint32_t sampled_rows = 32;
constexpr double ladder[] = {0.002, 0.01, 0.05, 0.25};  // nats that a bit more for every weight must save

// y at x on the broken line through (x, y) of the points, both on logarithmic scales.
template <class X, class Y>
double on_line(const std::vector<Forecast::Point>& points, const X& x, const Y& y, double at) {
    std::size_t i = 0;
    const bool rising = x(points.back()) > x(points.front());
    while (i + 2 < points.size() && (at > x(points[i + 1])) == rising) i++;
    const double x0 = std::log(x(points[i])), x1 = std::log(x(points[i + 1])), y0 = std::log(y(points[i])),
                 y1 = std::log(y(points[i + 1]));
    return std::exp(x1 == x0 ? y0 : y0 + (y1 - y0) * (std::log(at) - x0) / (x1 - x0));
}

double price(const Forecast::Point& p) { return p.nats_a_bit; }
double bits(const Forecast::Point& p) { return p.bits; }
double loss(const Forecast::Point& p) { return std::max(p.loss, 1e-12); }

}  // namespace

Forecast::Forecast(std::uint64_t weights, const Choice& choice, unsigned threads) : choice_(choice), threads_(threads) {
    for (const double nats : ladder) points_.push_back({nats / double(weights)});
}

Result<void> Forecast::add(std::span<const float> values, std::uint32_t rows, std::uint32_t cols, Objective objective,
                           double times) {
    const std::uint32_t count = std::min(rows, sampled_rows);
    std::vector<float> part, importance;
    for (std::uint32_t i = 0; i < count; i++) {
        const std::size_t r = std::uint64_t{i} * rows / count;
        part.insert(part.end(), values.begin() + long(r * cols), values.begin() + long((r + 1) * cols));
        importance.push_back(objective.importance[r]);
    }
    objective.importance = std::move(importance);
    for (Point& point : points_) {
        objective.nats_a_bit = point.nats_a_bit;
        const Rounded made = TRY(round_best(part, count, cols, choice_, {&objective, 1}, threads_));
        point.bits += times * made.bits * rows / count;
        point.loss += times * made.loss * rows / count;
    }
    return {};
}

Result<void> Forecast::add(const Block& block, std::span<const Matrix> hidden, const Sensitivity& sensitivity,
                           double times) {
    const auto each = [&](const auto& work) {
        std::vector<Matrix> out(hidden.size());
        parallel(
            hidden.size(), 1, [&](std::size_t s) { out[s] = work(s); }, threads_);
        return out;
    };
    const auto site = [&](const std::vector<Matrix>& inputs, std::initializer_list<const char*> names) -> Result<void> {
        const long n = inputs[0].cols();
        Eigen::MatrixXd h = Eigen::MatrixXd::Zero(n, n);
        double positions = 0;
        for (const Matrix& x : inputs) {
            const Matrix t = x.transpose();
            h += linear(t, t.data(), n).cast<double>();
            positions += double(x.rows());
        }
        h /= positions;
        Objective objective;
        TRY(factor_hessian({h.data(), h.data() + h.size()}, n, objective));
        for (const char* name : names) {
            objective.importance = importance_of(sensitivity.at(block.full(name)));
            TRY(add(block.weight(name), std::uint32_t(block.rows(name)), std::uint32_t(n), objective, times));
        }
        return {};
    };
    const std::vector<Matrix> attention = each([&](std::size_t s) { return block.attention_input(hidden[s]); });
    TRY(site(attention, {"attn_q", "attn_k", "attn_v"}));
    const std::vector<Matrix> mixed = each([&](std::size_t s) { return block.output_input(attention[s]); });
    TRY(site(mixed, {"attn_output"}));
    const std::vector<Matrix> feed = each([&](std::size_t s) {
        Matrix h = hidden[s];
        block.add_attention(h, mixed[s]);
        return block.feed_input(h);
    });
    if (block.is_mixture()) {
        TRY(site(feed, {"ffn_gate_exps", "ffn_up_exps"}));
        return site(each([&](std::size_t s) {
                        const Block::Route route = block.route(feed[s]);
                        Matrix all(0, block.cols("ffn_down_exps"));
                        for (std::size_t e = 0; e < route.positions.size(); e++) {
                            if (route.positions[e].empty()) continue;
                            const Matrix one = block.expert_down_input(e, picked(feed[s], route.positions[e]));
                            all.conservativeResize(all.rows() + one.rows(), Eigen::NoChange);
                            all.bottomRows(one.rows()) = one;
                        }
                        return all;
                    }),
                    {"ffn_down_exps"});
    }
    TRY(site(feed, {"ffn_gate", "ffn_up"}));
    return site(each([&](std::size_t s) { return block.down_input(feed[s]); }), {"ffn_down"});
}

double price_of_bits(const std::vector<Forecast::Point>& points, double wanted) {
    return on_line(points, bits, price, wanted);
}
double price_of_loss(const std::vector<Forecast::Point>& points, double wanted) {
    return on_line(points, loss, price, wanted);
}
Forecast::Point at_price(const std::vector<Forecast::Point>& points, double nats_a_bit) {
    return {nats_a_bit, on_line(points, price, bits, nats_a_bit), on_line(points, price, loss, nats_a_bit)};
}

}  // namespace slmd::pack
