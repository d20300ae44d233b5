#include "quantize_encoder.h"

#include <cmath>
#include <cstdio>
#include <map>

#include "draw.h"
#include "feedback.h"
#include "image/layout.h"
#include "moments.h"
#include "toolchain/slmpack/image/parallel.h"
#include "toolchain/slmpack/image/quantize.h"

namespace slmd::pack {
namespace {

using image::Kind;

constexpr std::size_t least_texts = 16, longest_text = 64;

// Weights by name, of a layer or of the whole model, and what they do in float32. Rows are positions of one text.
struct Weights {
    std::map<std::string, std::vector<float>> of;
    float eps = 0;
    long head_dim = 0;

    const std::vector<float>& at(const std::string& name) const { return of.at(name); }
    Matrix dense(const Matrix& x, const std::string& name) const {
        const std::vector<float>& bias = at(name + ".bias");
        Matrix y = linear(x, at(name).data(), long(bias.size()));
        y.rowwise() += Eigen::Map<const Vector>(bias.data(), long(bias.size()));
        return y;
    }
    Matrix norm(const Matrix& x, const std::string& name) const {
        const Eigen::Map<const Vector> weight(at(name).data(), x.cols()), bias(at(name + ".bias").data(), x.cols());
        const Matrix centred = x.colwise() - x.rowwise().mean();
        const Eigen::ArrayXf factor = (centred.rowwise().squaredNorm().array() / float(x.cols()) + eps).rsqrt();
        Matrix y = (centred.array().colwise() * factor).rowwise() * weight.array();
        y.rowwise() += bias;
        return y;
    }
    Matrix mixed(const Matrix& x) const {
        const Matrix q = dense(x, "attn_q"), k = dense(x, "attn_k"), v = dense(x, "attn_v");
        Matrix out(x.rows(), x.cols());
        for (long at = 0; at < x.cols(); at += head_dim) {
            const Matrix key = k.middleCols(at, head_dim), value = v.middleCols(at, head_dim).transpose();
            Matrix scores = linear(q.middleCols(at, head_dim), key.data(), key.rows()) / std::sqrt(float(head_dim));
            scores = (scores.colwise() - scores.rowwise().maxCoeff()).array().exp();
            scores.array().colwise() /= scores.rowwise().sum().array().eval();
            out.middleCols(at, head_dim) = linear(scores, value.data(), head_dim);
        }
        return out;
    }
    Matrix hidden(const Matrix& x) const {
        return dense(x, "ffn_up").unaryExpr([](float v) { return v * 0.5f * std::erfc(-v * float(M_SQRT1_2)); });
    }
};

class Quantizer {
  public:
    Quantizer(const Source& source, std::span<const Sequence> texts, const QuantizeEncoderOptions& options)
        : source_(source), texts_(texts), options_(options) {}

    Result<ImportSummary> run(const std::string& path) {
        TRY(embed());
        const std::uint32_t layers = source_.params.layers;
        for (std::uint32_t i = 0; i < layers; i++) {
            TRY(quantize_layer("blk." + std::to_string(i) + "."));
            if (options_.progress) options_.progress(double(i + 1) / layers);
        }
        ImportOptions packing = options_.import;
        for (const auto& [name, tensor] : made_) packing.kinds[name] = tensor.kind;
        packing.tensor = [&](const SourceTensor& t) -> Result<TensorData> { return made_.at(t.name); };
        return import_model(source_, path, packing);
    }

  private:
    // What attention passes on is a sixth of a layer, and rounding it costs as much as all else together.
    Kind kind_of_layer(std::string_view name) const {
        return (name == "attn_v" || name == "attn_output") && !options_.only_i4 ? Kind::i8 : Kind::i4;
    }

    Result<Weights> read(const std::string& prefix) const {
        Weights w{{}, source_.params.norm_eps, long(source_.params.head_dim)};
        for (const SourceTensor& t : source_.tensors)
            if (t.name.starts_with(prefix) && (!prefix.empty() || !t.name.starts_with("blk.")))
                w.of[t.name.substr(prefix.size())] = TRY(source_.read(t));
        return w;
    }

    // The texts before the first layer, in the source and as they will be.
    Result<void> embed() {
        const Weights source = TRY(read(""));
        Weights rounded = source;
        for (const char* name : {"token_embd", "position_embd", "token_types"}) {
            const SourceTensor& t = *source_.find(name);
            const std::vector<float>& values = source.at(name);
            TensorData data =
                TRY(options_.only_i4 ? quantize_i4(values, t.rows, t.cols) : quantize_i8(values, t.rows, t.cols));
            rounded.of[name] = dequantize(data);
            made_[name] = std::move(data);
        }
        const long dim = source_.params.dim;
        const auto look_up = [&](const Weights& w, const Sequence& text) {
            Matrix x(long(text.size()), dim);
            const auto row = [&](const char* name, std::size_t at) {
                return Eigen::Map<const Vector>(w.at(name).data() + at * std::size_t(dim), dim);
            };
            for (std::size_t i = 0; i < text.size(); i++)
                x.row(long(i)) =
                    row("token_embd", std::size_t(text[i])) + row("position_embd", i) + row("token_types", 0);
            return w.norm(x, "token_embd_norm");
        };
        for (const Sequence& text : texts_) {
            x_.push_back(look_up(source, text));
            y_.push_back(look_up(rounded, text));
        }
        return {};
    }

    static Vector mean_of(const std::vector<Matrix>& inputs) {
        Eigen::Matrix<double, 1, Eigen::Dynamic> sum = Eigen::Matrix<double, 1, Eigen::Dynamic>::Zero(inputs[0].cols());
        double n = 0;
        for (const Matrix& m : inputs) sum += m.cast<double>().colwise().sum(), n += double(m.rows());
        return (sum / n).cast<float>();
    }

    // Of matrices whose input is x in the source and y in what it has become.
    Result<void> round(const std::string& prefix, const Weights& source, Weights& rounded, const std::vector<Matrix>& x,
                       const std::vector<Matrix>& y, std::initializer_list<const char*> names) {
        const Vector mean_x = mean_of(x), mean_y = mean_of(y);
        const long cols = mean_x.size();
        Moments m(cols);
        std::vector<Matrix> a(x.size()), b(x.size());
        for (std::size_t i = 0; i < x.size(); i++) a[i] = x[i].rowwise() - mean_x, b[i] = y[i].rowwise() - mean_y;
        // All of them teach: a position in the count of eight does not matter here.
        for (std::size_t i = 0; i < x.size(); i++) m.add({&a[i], 1}, {&b[i], 1}, 0, options_.threads);
        m.finish();
        Objective objective;
        TRY(factor_hessian(std::move(m.yy), cols, objective));
        for (const char* name : names) {
            const std::vector<float>& values = source.at(name);
            const long rows = long(values.size()) / cols;
            const Eigen::Map<const Matrix> w(values.data(), rows, cols);
            objective.importance.assign(std::size_t(rows), 1.0f);
            const std::vector<float> target = reachable(values, rows, objective, m);
            Rounded best = TRY(round_with_feedback(target, std::uint32_t(rows), std::uint32_t(cols),
                                                   kind_of_layer(name), {&objective, 1}, options_.threads));
            std::vector<float> now = dequantize(best.tensor);
            const Eigen::Map<const Matrix> r(now.data(), rows, cols);
            std::vector<float> bias = source.at(std::string(name) + ".bias");
            Eigen::Map<Vector>(bias.data(), rows) += mean_x * w.transpose() - mean_y * r.transpose();
            made_[prefix + name + ".bias"] = keep_f32(bias, 1, std::uint32_t(rows));
            if (options_.report) {
                char line[128];
                std::snprintf(line, sizeof line, "%-24s %6.3f bits  loss %.3e", (prefix + name).c_str(),
                              best.bits / double(values.size()), best.loss);
                options_.report(line);
            }
            made_[prefix + name] = std::move(best.tensor);
            rounded.of[std::string(name) + ".bias"] = std::move(bias);
            rounded.of[name] = std::move(now);
        }
        return {};
    }

    // W x is to be had from y, which is not x any more: W + W D H^-1 is the best that there is.
    std::vector<float> reachable(const std::vector<float>& values, long rows, const Objective& objective,
                                 const Moments& m) const {
        const long cols = m.n;
        const Eigen::Map<const Matrix> w(values.data(), rows, cols), u(objective.factor.data(), cols, cols);
        const Matrix wd = linear_parallel(w, m.dy.data(), cols, options_.threads), ut = u.transpose();
        const auto permuted = [&](const Matrix& from, bool back) {
            Matrix to(rows, cols);
            long at = 0;
            for (const std::uint32_t g : objective.order) {
                const long first = long(g) * 32, n = std::min(32l, cols - first);
                to.middleCols(back ? first : at, n) = from.middleCols(back ? at : first, n);
                at += n;
            }
            return to;
        };
        const Matrix step = linear_parallel(linear_parallel(permuted(wd, false), u.data(), cols, options_.threads),
                                            ut.data(), cols, options_.threads);
        std::vector<float> target = values;
        Eigen::Map<Matrix>(target.data(), rows, cols) += permuted(step, true);
        return target;
    }

    Result<void> quantize_layer(const std::string& prefix) {
        const Weights source = TRY(read(prefix));
        Weights rounded = source;
        const std::size_t n = texts_.size();
        std::vector<Matrix> a(n), b(n);
        const auto each = [&](const auto& work) { parallel(n, 1, work, options_.threads); };
        TRY(round(prefix, source, rounded, x_, y_, {"attn_q", "attn_k", "attn_v"}));
        each([&](std::size_t i) { a[i] = source.mixed(x_[i]), b[i] = rounded.mixed(y_[i]); });
        TRY(round(prefix, source, rounded, a, b, {"attn_output"}));
        each([&](std::size_t i) {
            x_[i] = source.norm(x_[i] + source.dense(a[i], "attn_output"), "attn_output_norm");
            y_[i] = rounded.norm(y_[i] + rounded.dense(b[i], "attn_output"), "attn_output_norm");
        });
        TRY(round(prefix, source, rounded, x_, y_, {"ffn_up"}));
        each([&](std::size_t i) { a[i] = source.hidden(x_[i]), b[i] = rounded.hidden(y_[i]); });
        TRY(round(prefix, source, rounded, a, b, {"ffn_down"}));
        each([&](std::size_t i) {
            x_[i] = source.norm(x_[i] + source.dense(a[i], "ffn_down"), "layer_output_norm");
            y_[i] = rounded.norm(y_[i] + rounded.dense(b[i], "ffn_down"), "layer_output_norm");
        });
        return {};
    }

    const Source& source_;
    std::span<const Sequence> texts_;
    const QuantizeEncoderOptions& options_;
    std::map<std::string, TensorData> made_;
    std::vector<Matrix> x_, y_;  // before the next layer
};

}  // namespace

Result<ImportSummary> quantize_encoder(const Source& source, std::span<const Sequence> texts, const std::string& path,
                                       const QuantizeEncoderOptions& options) {
    if (texts.size() < least_texts)
        return Error::make(Code::incorrect_parameters, "%zu calibration texts: at least %zu are needed, a line each",
                           texts.size(), least_texts);
    return Quantizer(source, texts, options).run(path);
}

std::vector<Sequence> texts_of_vocabulary(const Source& source, std::size_t tokens) {
    const TokenizerSpec& spec = source.tokenizer;
    Sequence words, parts;
    for (std::size_t i = 0; i < spec.tokens.size(); i++) {
        const std::string& t = spec.tokens[i];
        const bool normal = (spec.types.empty() || spec.types[i] == 1) && !t.starts_with("[");
        if (normal) (t.starts_with("##") ? parts : words).push_back(std::int32_t(i));
    }
    std::vector<Sequence> texts;
    std::uint64_t drawn = 0;
    const auto draw = [&](std::size_t n) { return std::size_t(uniform(0, drawn++) * double(n)); };
    for (std::size_t made = 0; made < tokens && !words.empty();) {
        const std::size_t most = std::min<std::size_t>(source.params.context - 2, 1 + draw(1 + draw(longest_text)));
        Sequence text{spec.bos};
        while (text.size() <= most) {
            const bool part = text.size() > 1 && !parts.empty() && draw(6) == 0;
            text.push_back(part ? parts[draw(parts.size())] : words[draw(words.size())]);
        }
        text.push_back(spec.eos);
        made += text.size();
        texts.push_back(std::move(text));
    }
    return texts;
}

}  // namespace slmd::pack
