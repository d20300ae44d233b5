#include "quantize_model.h"

#include <cmath>
#include <cstdio>
#include <nlohmann/json.hpp>

#include "image/layout.h"
#include "moments.h"
#include "toolchain/slmpack/image/parallel.h"
#include "toolchain/slmpack/image/quantize.h"
#include "toolchain/slmpack/reference/logits.h"
#include "work.h"

namespace slmd::pack {
namespace {

using image::Kind;

constexpr std::size_t batch = 4;       // sequences whose inputs are held at once
constexpr double frames_cost = 1.008;  // of zstd over the entropy of codes
// KL measured over the sum of all losses, which are of calibration text, of one matrix at a time, to second order.
constexpr double kl_of_loss = 2.0;
// Of a token's weight that is the same for all: text to come has other tokens than calibration's.
constexpr double common_share = 0.25;
// What is known of an expert's inputs before any has come to it counts as much as so many that have.
constexpr double prior_positions = 64;

bool is_matrix(const SourceTensor& t) { return t.rows != 1 && !is_router(t); }

// Columns in the order in which they are rounded, and back.
Matrix permuted(const Matrix& m, const std::vector<std::uint32_t>& order, bool back) {
    Matrix out(m.rows(), m.cols());
    long at = 0;
    for (const std::uint32_t g : order) {
        const long from = long(g) * 32, len = std::min(32l, m.cols() - from);
        if (back)
            out.middleCols(from, len) = m.middleCols(at, len);
        else
            out.middleCols(at, len) = m.middleCols(from, len);
        at += len;
    }
    return out;
}

// What codes and scales take when each is coded by how often it comes.
double stored_bits(const TensorData& t) {
    const auto entropy = [](const auto& symbols) {
        std::map<int, double> counts;
        for (const auto symbol : symbols) counts[symbol]++;
        double bits = 0;
        for (const auto& [symbol, count] : counts) bits -= count * std::log2(count / double(symbols.size()));
        return bits;
    };
    return entropy(t.codes) + entropy(t.indices) + entropy(t.scales) + 32.0 * double(t.steps.size());
}

class Quantizer {
  public:
    Quantizer(const Source& source, std::span<const Sequence> sequences, const QuantizeOptions& options, Work work)
        : source_(source), params_(source.params), sequences_(sequences), options_(options), work_(std::move(work)) {}

    Result<QuantizeSummary> run(const std::string& path) {
        QuantizeSummary summary;
        summary.resumed = work_.has("survey") || work_.has("survey-state");
        if (!work_.has("survey")) TRY(look_around());
        work_.remove("survey-state");
        survey_ = TRY(work_.survey("survey"));
        price_ = std::stod(TRY(work_.text("price")));
        summary.nats_a_bit = price_;
        if (!work_.has("token_embd")) TRY(embedding());
        std::uint32_t layer = params_.layers;
        while (layer > 0 && !work_.has(streams(layer))) layer--;
        TRY(load_streams(layer));
        for (; layer < params_.layers; layer++) {
            progress(0.2 + 0.75 * layer / params_.layers);
            TRY(quantize_layer(layer));
        }
        if (!tied() && !work_.has("output")) TRY(output());
        progress(0.95);
        summary.kl = TRY(held_out_kl());

        ImportOptions packing = options_.import;
        for (const SourceTensor& t : source_.tensors)
            if (is_matrix(t)) {
                const TensorData made = TRY(work_.tensor(t.name));
                packing.kinds[t.name] = made.kind;
            }
        packing.tensor = [&](const SourceTensor& t) { return work_.tensor(t.name); };
        summary.loss = TRY(total_loss());
        auto record = nlohmann::ordered_json::parse(options_.description);
        record["nats_a_bit"] = price_;
        record["losses"] = summary.loss;
        record["kl_held_out"] = summary.kl;
        packing.made = record.dump();
        summary.image = TRY(import_model(source_, path, packing));
        work_.remove_all();
        return summary;
    }

  private:
    void progress(double part) const {
        if (options_.progress) options_.progress(part);
    }
    static std::string streams(std::uint32_t layer) { return "hidden-" + std::to_string(layer); }
    Result<void> put_number(const std::string& name, double value) const {
        char text[40];
        std::snprintf(text, sizeof text, "%.17g", value);
        return work_.put(name, std::string(text));
    }
    bool tied() const { return (params_.flags & image::flag_tied_output) != 0; }

    // The survey, and what the dial asks of the price of a bit.
    Result<void> look_around() {
        std::uint64_t weights = 0;
        for (const SourceTensor& t : source_.tensors) weights += is_matrix(t) ? std::uint64_t{t.rows} * t.cols : 0;
        Forecast forecast(weights, options_.choice, options_.threads);
        const bool ask = options_.nats_a_bit == 0;
        // Every third layer stands for itself and its neighbours; of few layers all stand for themselves.
        const std::uint32_t stride = params_.layers > 6 ? 3 : 1;
        const auto sampled = [&](std::uint32_t layer) { return layer % stride == stride / 2; };
        double count = 0;
        for (std::uint32_t layer = 0; layer < params_.layers; layer++) count += sampled(layer);
        std::optional<SurveyState> state;
        if (work_.has("survey-state")) {
            std::vector<Forecast::Point> points;
            state = TRY(work_.survey_state("survey-state", points));
            forecast.go_on_from(std::move(points));
        }
        std::uint32_t layer = state ? state->layers : params_.layers;
        const auto seen = [&](const Block& block, std::span<const Matrix> hidden,
                              const Sensitivity& sensitivity) -> Result<void> {
            if (!ask || !sampled(--layer)) return {};
            return forecast.add(block, hidden, sensitivity, params_.layers / count);
        };
        survey_ = TRY(survey(
            source_, sequences_.first(std::min(options_.surveyed, sequences_.size())), options_.threads, seen,
            [&](double part) { progress(0.15 * part); }, std::move(state),
            [&](const SurveyState& s) { return work_.put("survey-state", s, forecast.points()); }));
        double price = options_.nats_a_bit;
        if (ask) {
            Objective objective;
            TRY(embedding_objective(objective));
            const SourceTensor& t = *source_.find("token_embd");
            const std::vector<float> values = TRY(source_.read(t));
            TRY(forecast.add(values, t.rows, t.cols, objective, 1));
            if (!tied()) {
                Objective output_objective;
                TRY(factor_hessian(survey_.output_hessian, params_.dim, output_objective));
                output_objective.importance = importance_of(smoothed(survey_.tokens));
                const SourceTensor& o = *source_.find("output");
                const std::vector<float> output_values = TRY(source_.read(o));
                TRY(forecast.add(output_values, o.rows, o.cols, output_objective, 1));
            }
            const double around = TRY(stored_besides_matrices(source_));
            price = options_.bytes != 0
                        ? price_of_bits(forecast.points(),
                                        std::max(8.0, 8 * (double(options_.bytes) - around) / frames_cost))
                        : price_of_loss(forecast.points(), options_.kl / kl_of_loss);
            const Forecast::Point at = at_price(forecast.points(), price);
            if (options_.report) {
                char line[160];
                std::snprintf(line, sizeof line, "forecast: %.1f MB, KL %.3f, at %.3e nats a bit",
                              (at.bits / 8 * frames_cost + around) / 1e6, at.loss * kl_of_loss, price);
                options_.report(line);
            }
        }
        TRY(put_number("price", price));
        return work_.put("survey", survey_);
    }

    // A token's part in text, less what calibration happens to lack.
    std::vector<double> smoothed(const std::vector<double>& tokens) const {
        double sum = 0;
        for (const double t : tokens) sum += t;
        std::vector<double> out;
        for (const double t : tokens)
            out.push_back((1 - common_share) * t + common_share * sum / double(tokens.size()));
        return out;
    }

    // The best of the kinds; with moments, rounding without feedback too, where the held-out sequences say that it is
    // better. Objectives, and moments where there are any, of as many rows each: those of one matrix or of experts.
    Result<std::vector<float>> round(const std::string& name, const std::vector<float>& values, std::uint32_t rows,
                                     std::uint32_t cols, std::span<Objective> objectives,
                                     std::span<const Moments> moments) {
        for (Objective& o : objectives) o.nats_a_bit = price_;
        std::vector<float> target = values;
        const long share = long(rows) / long(objectives.size());
        const auto part = [&](const std::vector<float>& all, std::size_t i) {
            return Eigen::Map<const Matrix>(all.data() + long(i) * share * cols, share, cols);
        };
        bool judged = false;
        for (std::size_t i = 0; i < moments.size(); i++) {
            // W x is to be had from y, which is not x any more: W + W D H^-1 is the best that there is.
            const Objective& o = objectives[i];
            const Matrix wd = permuted(linear_parallel(part(values, i), moments[i].dy.data(), cols, options_.threads),
                                       o.order, false);
            const Eigen::Map<const Matrix> u(o.factor.data(), cols, cols);
            const Matrix ut = u.transpose();
            const Matrix step = linear_parallel(linear_parallel(wd, u.data(), cols, options_.threads), ut.data(), cols,
                                                options_.threads);
            Eigen::Map<Matrix>(target.data() + long(i) * share * cols, share, cols) += permuted(step, o.order, true);
            judged |= moments[i].test_positions > 0;
        }
        Rounded best = TRY(round_best(target, rows, cols, options_.choice, objectives, options_.threads));
        std::string chosen = "feedback";
        double held = 0, plain_held = 0;
        if (judged) {
            std::vector<Matrix> wds;
            for (std::size_t i = 0; i < moments.size(); i++)
                wds.push_back(linear_parallel(part(values, i), moments[i].test_dy.data(), cols, options_.threads));
            const auto judge = [&](const TensorData& t) {
                const std::vector<float> rounded = dequantize(t);
                double sum = 0;
                for (std::size_t i = 0; i < moments.size(); i++) {
                    const Matrix e = part(rounded, i) - part(values, i);
                    const Matrix he = linear_parallel(e, moments[i].test_yy.data(), cols, options_.threads);
                    for (long r = 0; r < e.rows(); r++) {
                        double row = 0;
                        for (long c = 0; c < e.cols(); c++)
                            row += double(e(r, c)) * (double(he(r, c)) - 2 * double(wds[i](r, c)));
                        sum += row * objectives[i].importance[std::size_t(r)];
                    }
                }
                return sum;
            };
            held = judge(best.tensor);
            // Finer than the dial asks is larger than it asks: bits count here too.
            const auto cost = [&](double loss, double bits, Kind kind) {
                return loss + price_ * options_.choice.bits(kind, double(values.size()), bits);
            };
            double least = cost(held, best.bits, best.tensor.kind);
            plain_held = INFINITY;
            const auto try_plain = [&](TensorData plain) {
                const double loss = judge(plain), bits = stored_bits(plain);
                plain_held = std::min(plain_held, loss);
                if (cost(loss, bits, plain.kind) >= least) return;
                least = cost(loss, bits, plain.kind);
                best.tensor = std::move(plain);
                best.bits = bits;
                chosen = "rounding";
            };
            if (best.tensor.kind == Kind::i4) {
                try_plain(TRY(quantize_i4(values, rows, cols)));
            } else {
                try_plain(TRY(quantize_i6(values, rows, cols)));
                try_plain(TRY(quantize_i8(values, rows, cols)));
            }
        }
        char line[256];
        std::snprintf(line, sizeof line, "%-24s %-3s %6.3f bits  loss %.3e  held-out %.3e, by rounding %.3e  %s",
                      name.c_str(), image::kind_name(best.tensor.kind), best.bits / double(values.size()), best.loss,
                      held, plain_held, chosen.c_str());
        if (options_.report) options_.report(line);
        TRY(put_number(name + ".loss", best.loss));
        TRY(work_.put(name, best.tensor));
        return dequantize(best.tensor);
    }

    Result<double> total_loss() const {
        double sum = 0;
        for (const SourceTensor& t : source_.tensors)
            if (is_matrix(t)) sum += std::stod(TRY(work_.text(t.name + ".loss")));
        return sum;
    }

    // Tied: the output matrix, whose rows are looked up too. Untied: only looked up.
    Result<void> embedding_objective(Objective& objective) const {
        std::vector<double> weights(params_.vocab);
        if (tied()) {
            weights = survey_.tokens;
        } else {
            double count = 0;
            for (const Sequence& s : sequences_)
                for (const std::int32_t token : s) weights[std::size_t(token)]++, count++;
            for (double& w : weights) w /= count;
        }
        weights = smoothed(weights);
        // Errors of a row that is looked up go into the residual as often as its token comes. What comes next, in all,
        // weighs `sum`, so a row's part is its weight over that.
        double sum = 0;
        for (const double w : weights) sum += w;
        const std::size_t dim = params_.dim;
        std::vector<double> h(dim * dim);
        if (tied()) h = survey_.output_hessian;
        for (std::size_t c = 0; c < dim; c++) h[c * dim + c] += survey_.embedding[c] / (tied() ? sum : 1);
        TRY(factor_hessian(h, long(dim), objective));
        objective.importance = importance_of(weights);
        return {};
    }

    Result<void> embedding() {
        Objective objective;
        TRY(embedding_objective(objective));
        const SourceTensor& t = *source_.find("token_embd");
        const std::vector<float> values = TRY(source_.read(t));
        TRY(round("token_embd", values, t.rows, t.cols, {&objective, 1}, {}));
        progress(0.2);
        return {};
    }

    Result<void> load_streams(std::uint32_t layer) {
        if (layer > 0) {
            std::vector<Matrix> both = TRY(work_.matrices(streams(layer)));
            x_.assign(both.begin(), both.begin() + long(sequences_.size()));
            y_.assign(both.begin() + long(sequences_.size()), both.end());
            return {};
        }
        const SourceTensor& t = *source_.find("token_embd");
        const std::vector<float> before = TRY(source_.read(t)), after = dequantize(TRY(work_.tensor("token_embd")));
        const auto look_up = [&](const std::vector<float>& table) {
            std::vector<Matrix> out;
            for (const Sequence& s : sequences_) {
                Matrix& m = out.emplace_back(long(s.size()), long(t.cols));
                for (std::size_t i = 0; i < s.size(); i++)
                    m.row(long(i)) = Eigen::Map<const Vector>(table.data() + std::size_t(s[i]) * t.cols, long(t.cols)) *
                                     params_.embed_scale;
            }
            return out;
        };
        x_ = look_up(before);
        y_ = look_up(after);
        return {};
    }

    // What goes into a matrix, of the source's stream and of the rounded one, for sequences first, first + 1, ...
    using Inputs = std::function<void(std::size_t sequence, Matrix& x, Matrix& y)>;
    Moments moments(long width, const Inputs& inputs) const {
        Moments m(width);
        for (std::size_t first = 0; first < sequences_.size(); first += batch) {
            const std::size_t count = std::min(batch, sequences_.size() - first);
            std::vector<Matrix> x(count), y(count);
            parallel(
                count, 1, [&](std::size_t i) { inputs(first + i, x[i], y[i]); }, options_.threads);
            m.add(x, y, first, options_.threads);
        }
        m.finish();
        return m;
    }

    Result<void> matrices(const Block& source, Block& rounded, Moments m, std::initializer_list<const char*> names) {
        Objective objective;
        TRY(factor_hessian(std::move(m.yy), m.n, objective));
        for (const char* name : names) {
            objective.importance = importance_of(survey_.outputs.at(source.full(name)));
            std::vector<float> values =
                TRY(round(source.full(name), source.weight(name), std::uint32_t(source.rows(name)),
                          std::uint32_t(source.cols(name)), {&objective, 1}, {&m, 1}));
            rounded.replace(name, std::move(values));
        }
        return {};
    }

    Result<void> quantize_attention(const Block& source, Block& rounded) {
        const std::size_t count = sequences_.size();
        const auto each = [&](const auto& work) { parallel(count, 1, work, options_.threads); };
        TRY(matrices(source, rounded,
                     moments(source.cols("attn_q"),
                             [&](std::size_t s, Matrix& x, Matrix& y) {
                                 x = source.attention_input(x_[s]);
                                 y = rounded.attention_input(y_[s]);
                             }),
                     {"attn_q", "attn_k", "attn_v"}));
        std::vector<Matrix> x(count), y(count);
        each([&](std::size_t s) {
            x[s] = source.output_input(source.attention_input(x_[s]));
            y[s] = rounded.output_input(rounded.attention_input(y_[s]));
        });
        const auto kept = [&](std::size_t s, Matrix& a, Matrix& b) {
            a = x[s];
            b = y[s];
        };
        TRY(matrices(source, rounded, moments(source.cols("attn_output"), kept), {"attn_output"}));
        each([&](std::size_t s) {
            source.add_attention(x_[s], x[s]);
            rounded.add_attention(y_[s], y[s]);
        });
        return {};
    }

    // Matrices of experts, each expert's on what comes to it. moments: finished.
    Result<void> matrices_of_experts(const Block& source, Block& rounded, std::vector<Moments> moments,
                                     std::initializer_list<const char*> names) {
        std::vector<Objective> objectives(moments.size());
        for (std::size_t e = 0; e < moments.size(); e++)
            TRY(factor_hessian(std::move(moments[e].yy), moments[e].n, objectives[e]));
        for (const char* name : names) {
            const std::vector<float> importance = importance_of(survey_.outputs.at(source.full(name)));
            const long share = source.part_rows(name);
            for (std::size_t e = 0; e < moments.size(); e++)
                objectives[e].importance.assign(importance.begin() + long(e) * share,
                                                importance.begin() + long(e + 1) * share);
            rounded.replace(name, TRY(round(source.full(name), source.weight(name), std::uint32_t(source.rows(name)),
                                            std::uint32_t(source.cols(name)), objectives, moments)));
        }
        return {};
    }

    // For each expert, of the positions that the rounded model sends to it. `common` is what is known beforehand; null:
    // that all inputs are alike.
    std::vector<Moments> expert_moments(
        long width, const std::vector<Block::Route>& routes, const Moments* common,
        const std::function<void(std::size_t expert, std::size_t sequence, Matrix& x, Matrix& y)>& inputs) const {
        std::vector<Moments> out;
        for (std::size_t e = 0; e < params_.experts; e++) {
            Moments& m = out.emplace_back(width);
            for (std::size_t s = 0; s < sequences_.size(); s++) {
                if (routes[s].positions[e].empty()) continue;
                Matrix x, y;
                inputs(e, s, x, y);
                m.add({&x, 1}, {&y, 1}, s, options_.threads);
            }
            m.finish();
            const double own = double(m.positions) / (double(m.positions) + prior_positions);
            double mean = 0;
            for (long i = 0; i < width; i++) mean += m.yy[std::size_t(i * width + i)] / double(width);
            for (std::size_t i = 0; i < m.yy.size(); i++) {
                const double before = common != nullptr                 ? common->yy[i]
                                      : i % std::size_t(width + 1) == 0 ? (mean > 0 ? mean : 1)
                                                                        : 0;
                m.yy[i] = own * m.yy[i] + (1 - own) * before;
                m.dy[i] = float(own * m.dy[i] + (1 - own) * (common != nullptr ? common->dy[i] : 0));
            }
        }
        return out;
    }

    Result<void> quantize_experts(const Block& source, Block& rounded) {
        const std::size_t count = sequences_.size();
        const auto each = [&](const auto& work) { parallel(count, 1, work, options_.threads); };
        std::vector<Matrix> x(count), y(count);
        std::vector<Block::Route> routes(count);
        each([&](std::size_t s) {
            x[s] = source.feed_input(x_[s]);
            y[s] = rounded.feed_input(y_[s]);
            routes[s] = rounded.route(y[s]);
        });
        {
            const Moments common = moments(source.cols("ffn_gate_exps"), [&](std::size_t s, Matrix& a, Matrix& b) {
                a = x[s];
                b = y[s];
            });
            TRY(matrices_of_experts(source, rounded,
                                    expert_moments(common.n, routes, &common,
                                                   [&](std::size_t e, std::size_t s, Matrix& a, Matrix& b) {
                                                       a = picked(x[s], routes[s].positions[e]);
                                                       b = picked(y[s], routes[s].positions[e]);
                                                   }),
                                    {"ffn_gate_exps", "ffn_up_exps"}));
        }
        TRY(matrices_of_experts(
            source, rounded,
            expert_moments(source.cols("ffn_down_exps"), routes, nullptr,
                           [&](std::size_t e, std::size_t s, Matrix& a, Matrix& b) {
                               a = source.expert_down_input(e, picked(x[s], routes[s].positions[e]));
                               b = rounded.expert_down_input(e, picked(y[s], routes[s].positions[e]));
                           }),
            {"ffn_down_exps"}));
        each([&](std::size_t s) {
            source.add_experts(x_[s], x[s]);
            rounded.add_experts(y_[s], y[s]);
        });
        return {};
    }

    Result<void> quantize_feed_forward(const Block& source, Block& rounded) {
        const std::size_t count = sequences_.size();
        const auto each = [&](const auto& work) { parallel(count, 1, work, options_.threads); };
        TRY(matrices(source, rounded,
                     moments(source.cols("ffn_gate"),
                             [&](std::size_t s, Matrix& a, Matrix& b) {
                                 a = source.feed_input(x_[s]);
                                 b = rounded.feed_input(y_[s]);
                             }),
                     {"ffn_gate", "ffn_up"}));
        std::vector<Matrix> x(count), y(count);
        each([&](std::size_t s) {
            x[s] = source.down_input(source.feed_input(x_[s]));
            y[s] = rounded.down_input(rounded.feed_input(y_[s]));
        });
        TRY(matrices(source, rounded,
                     moments(source.cols("ffn_down"),
                             [&](std::size_t s, Matrix& a, Matrix& b) {
                                 a = x[s];
                                 b = y[s];
                             }),
                     {"ffn_down"}));
        each([&](std::size_t s) {
            source.add_feed(x_[s], x[s]);
            rounded.add_feed(y_[s], y[s]);
        });
        return {};
    }

    Result<void> quantize_layer(std::uint32_t layer) {
        const Block source = TRY(Block::open(source_, layer));
        Block rounded = TRY(Block::open(source_, layer));
        TRY(quantize_attention(source, rounded));
        TRY(source.is_mixture() ? quantize_experts(source, rounded) : quantize_feed_forward(source, rounded));
        std::vector<Matrix> both = x_;
        both.insert(both.end(), y_.begin(), y_.end());
        TRY(work_.put(streams(layer + 1), both));
        work_.remove(streams(layer));
        return {};
    }

    Result<void> output() {
        const SourceTensor& t = *source_.find("output");
        const std::vector<float> norm = TRY(source_.read(*source_.find("output_norm")));
        Moments m = moments(t.cols, [&](std::size_t s, Matrix& x, Matrix& y) {
            x = rms_norm(x_[s], norm.data(), params_.norm_eps);
            y = rms_norm(y_[s], norm.data(), params_.norm_eps);
        });
        Objective objective;
        TRY(factor_hessian(std::move(m.yy), m.n, objective));
        objective.importance = importance_of(smoothed(survey_.tokens));
        const std::vector<float> values = TRY(source_.read(t));
        TRY(round("output", values, t.rows, t.cols, {&objective, 1}, {&m, 1}));
        return {};
    }

    // KL from the source on the held-out sequences: of the weights alone, the engine's activations in 8 bits not being
    // in it.
    Result<double> held_out_kl() const {
        constexpr long together = 32;  // positions whose logits a thread holds
        const SourceTensor& t = *source_.find(tied() ? "token_embd" : "output");
        const std::vector<float> norm = TRY(source_.read(*source_.find("output_norm"))), before = TRY(source_.read(t)),
                                 after = dequantize(TRY(work_.tensor(t.name)));
        struct Part {
            std::size_t sequence;
            long first, count;
        };
        std::vector<Part> parts;
        double positions = 0;
        for (std::size_t s = held_out - 1; s < sequences_.size(); s += held_out) {
            for (long r = 0; r < x_[s].rows(); r += together)
                parts.push_back({s, r, std::min(together, x_[s].rows() - r)});
            positions += double(x_[s].rows());
        }
        const auto logits = [&](const Matrix& hidden, const Part& part, const std::vector<float>& output) {
            Matrix out = linear(rms_norm(hidden.middleRows(part.first, part.count), norm.data(), params_.norm_eps),
                                output.data(), params_.vocab) *
                         params_.logit_scale;
            soft_cap(out, params_.final_softcap);
            return out;
        };
        std::vector<double> sums(parts.size());
        parallel(
            parts.size(), 1,
            [&](std::size_t i) {
                const Part& part = parts[i];
                const Matrix p = logits(x_[part.sequence], part, before), q = logits(y_[part.sequence], part, after);
                const auto row = [&](const Matrix& m, long r) {
                    return std::span(m.data() + r * m.cols(), std::size_t(m.cols()));
                };
                for (long r = 0; r < part.count; r++)
                    sums[i] += divergence(row(p, r), log_sum(row(p, r)), row(q, r), log_sum(row(q, r)));
            },
            options_.threads);
        double sum = 0;
        for (const double part : sums) sum += part;
        return sum / positions;
    }

    const Source& source_;
    const image::ModelParams& params_;
    std::span<const Sequence> sequences_;
    const QuantizeOptions& options_;
    Work work_;
    Survey survey_;
    double price_ = 0;  // of a bit in the file, in nats
    // Hidden states of every sequence: the source's, and those of what has been rounded so far.
    std::vector<Matrix> x_, y_;
};

}  // namespace

Result<QuantizeSummary> quantize_model(const Source& source, std::span<const Sequence> sequences,
                                       const std::string& path, const QuantizeOptions& options) {
    if (sequences.size() < held_out)
        return Error::make(Code::incorrect_parameters,
                           "%zu windows of calibration text: at least %zu are needed; give more of it (--text FILE)",
                           sequences.size(), held_out);
    for (const SourceTensor& t : source.tensors)
        if (is_matrix(t) && t.name != "token_embd" && t.name != "output" && !t.name.starts_with("blk."))
            return Error::make(Code::not_supported, "tensor %s: a matrix that the quantizer does not know",
                               t.name.c_str());
    const std::string files = TRY(describe_files(source.path, source.parts)).json;
    Work work = TRY(Work::open(options.work, options.description + files));
    return Quantizer(source, sequences, options, std::move(work)).run(path);
}

}  // namespace slmd::pack
