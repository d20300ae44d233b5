#include "quantize.h"

#include <algorithm>
#include <atomic>
#include <cmath>
#include <cstring>

#include "half.h"
#include "parallel.h"

namespace slmd::pack {

int nearest_scale_index(float v) {
    if (!(v > 0)) return 0;
    int exponent;
    const float mantissa = std::frexp(v, &exponent) * 2;  // 1..2
    return std::clamp((exponent - 1 + 7) * 16 + static_cast<int>(std::lround((mantissa - 1) * 16)), 0, 127);
}

namespace {

constexpr std::size_t bins = 4096;        // of the histogram on which levels are trained
constexpr float largest_scale = 1.9375f;  // scale_value(127)
constexpr int neighbours =
    3;  // scale indices tried on either side of the one that maps the largest weight to the top level
constexpr std::uint32_t sample_rows = 256;  // that decide between the books

// Codes by a table over book units: nearest level of x for x in -40..40 in 64ths, exact to that resolution.
class Nearest {
  public:
    explicit Nearest(const Book& book) {
        for (int i = 0; i < size; i++) {
            const float x = (static_cast<float>(i) + 0.5f) / per_unit - limit;
            std::uint8_t best = 0;
            for (std::uint8_t c = 1; c < 16; c++)
                if (std::abs(x - book[c]) < std::abs(x - book[best])) best = c;
            code_[i] = best;
        }
    }
    std::uint8_t operator()(float x) const {
        const float at = (std::clamp(x, -limit, limit - 0.01f) + limit) * per_unit;
        return code_[static_cast<int>(at)];
    }

  private:
    static constexpr float limit = 40, per_unit = 64;  // midpoints of integer levels fall on bin edges
    static constexpr int size = static_cast<int>(2 * limit * per_unit);
    std::array<std::uint8_t, size> code_;
};

float signed_largest(std::span<const float> group) {
    return *std::max_element(group.begin(), group.end(), [](float a, float b) { return std::abs(a) < std::abs(b); });
}

std::array<float, 128> scale_table() {
    std::array<float, 128> table;
    for (int i = 0; i < 128; i++) table[i] = scale_value(static_cast<std::uint8_t>(i));
    return table;
}
const std::array<float, 128> scales = scale_table();

// One row with a given book: indices and codes by squared error, then the step by least squares; twice. Returns the
// squared error.
double quantize_row(std::span<const float> row, const Book& book, const Nearest& nearest, std::int8_t* codes,
                    std::uint8_t* indices, float& step) {
    const float top = *std::max_element(book.begin(), book.end());
    float largest = 0;
    for (const float w : row) largest = std::max(largest, std::abs(w));
    step = largest / (top * largest_scale);  // the range reaches the largest weight
    if (!(step > 1e-35f)) {                  // nothing but zeros (or what float cannot scale)
        std::fill_n(codes, row.size(), static_cast<std::int8_t>(nearest(0)));
        std::fill_n(indices, (row.size() + 31) / 32, std::uint8_t{0});
        step = 0;
        double error = 0;
        for (const float w : row) error += static_cast<double>(w) * w;
        return error;
    }
    double error = 0;
    for (int pass = 0; pass < 2; pass++) {
        double product = 0, square = 0;
        error = 0;
        for (std::size_t at = 0, g = 0; at < row.size(); at += 32, g++) {
            const auto group = row.subspan(at, std::min<std::size_t>(32, row.size() - at));
            const float extreme = signed_largest(group);
            const int centre = nearest_scale_index(std::abs(extreme) / (top * step));
            const float sign = extreme < 0 ? -1.0f : 1.0f;
            float best = INFINITY;
            for (int i = std::max(0, centre - neighbours); i <= std::min(127, centre + neighbours); i++) {
                const float scale = sign * scales[i] * step, inverse = 1 / scale;
                std::int8_t tried[32];
                float sum = 0;
                for (std::size_t k = 0; k < group.size(); k++) {
                    const std::uint8_t c = nearest(group[k] * inverse);
                    const float d = group[k] - book[c] * scale;
                    tried[k] = static_cast<std::int8_t>(c);
                    sum += d * d;
                }
                if (sum < best) {
                    best = sum;
                    indices[g] = static_cast<std::uint8_t>(i | (sign < 0 ? 128 : 0));
                    std::memcpy(codes + at, tried, group.size());
                }
            }
            error += best;
            const double scale = static_cast<double>(sign) * scales[indices[g] & 127];
            for (std::size_t k = 0; k < group.size(); k++) {
                const double b = book[codes[at + k]] * scale;
                product += group[k] * b;
                square += b * b;
            }
        }
        if (!(square > 0) || !(product > 0)) break;
        const auto better = static_cast<float>(product / square);
        error -= (product / square - step) * (product / square - step) * square;  // what the better step gains
        step = better;
    }
    return std::max(error, 0.0);
}

}  // namespace

// Lloyd-Max on groups divided by their signed largest value, weighted by its square, then rounded to integers with the
// top level at 31 and improved one level at a time.
Book train_book(std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    std::vector<double> histogram(bins);
    const std::uint32_t stride = std::max(1u, rows / 2048);
    for (std::uint32_t r = 0; r < rows; r += stride)
        for (std::uint32_t at = 0; at < cols; at += 32) {
            const auto group = values.subspan(std::size_t{r} * cols + at, std::min(32u, cols - at));
            const float extreme = signed_largest(group);
            if (extreme == 0) continue;
            const double weight = static_cast<double>(extreme) * extreme;
            for (const float w : group) {
                const auto bin = static_cast<std::size_t>((w / extreme + 1) * 0.5f * bins);
                histogram[std::min(bin, bins - 1)] += weight;
            }
        }
    const auto centre = [](std::size_t bin) { return ((static_cast<double>(bin) + 0.5) / bins * 2 - 1) * 31; };
    std::array<double, 16> levels;
    for (int i = 0; i < 16; i++) levels[i] = -27 + i * 58.0 / 15;
    for (int pass = 0; pass < 60; pass++) {
        std::array<double, 16> sum{}, weight{};
        for (std::size_t bin = 0, level = 0; bin < bins; bin++) {
            const double x = centre(bin);
            while (level < 15 && x > (levels[level] + levels[level + 1]) / 2) level++;
            sum[level] += histogram[bin] * x;
            weight[level] += histogram[bin];
        }
        for (int i = 0; i < 15; i++)
            if (weight[i] > 0) levels[i] = sum[i] / weight[i];
        levels[15] = 31;
    }
    Book book;
    for (int i = 0; i < 16; i++) book[i] = static_cast<std::int8_t>(std::clamp(std::lround(levels[i]), -31l, 31l));
    const auto error = [&](Book b) {
        std::sort(b.begin(), b.end());
        double e = 0;
        for (std::size_t bin = 0, level = 0; bin < bins; bin++) {
            const double x = centre(bin);
            while (level < 15 && x > (b[level] + b[level + 1]) / 2.0) level++;
            e += histogram[bin] * (x - b[level]) * (x - b[level]);
        }
        return e;
    };
    double best = error(book);
    for (bool improved = true; improved;) {
        improved = false;
        for (int i = 0; i < 15; i++)
            for (const int by : {-1, 1}) {
                Book tried = book;
                tried[i] = static_cast<std::int8_t>(std::clamp(tried[i] + by, -31, 31));
                if (const double e = error(tried); e < best) {
                    best = e;
                    book = tried;
                    improved = true;
                }
            }
    }
    std::sort(book.begin(), book.end());
    return book;
}

Book uniform_book() {
    Book book;
    for (int i = 0; i < 16; i++) book[i] = static_cast<std::int8_t>(3 * (i - 7));
    return book;
}

namespace {

Result<void> check_finite(std::span<const float> values, std::uint32_t cols) {
    for (std::size_t i = 0; i < values.size(); i++)
        if (!std::isfinite(values[i]))
            return Error::make(Code::model_format, "the value at row %zu, column %zu is not finite", i / cols,
                               i % cols);
    return {};
}

}  // namespace

Result<TensorData> quantize_i4(std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    TRY(check_finite(values, cols));
    const std::size_t groups = (cols + 31) / 32;
    TensorData t{.kind = image::Kind::i4, .rows = rows, .cols = cols};
    t.codes.resize(values.size());
    t.indices.resize(rows * groups);
    t.steps.resize(rows);
    const auto row_with = [&](const Book& book, const Nearest& nearest, std::uint32_t r) {
        return quantize_row(values.subspan(std::size_t{r} * cols, cols), book, nearest,
                            t.codes.data() + std::size_t{r} * cols, t.indices.data() + r * groups, t.steps[r]);
    };
    double least = INFINITY;
    for (const Book& book : {train_book(values, rows, cols), uniform_book()}) {
        const Nearest nearest(book);
        double error = 0;
        const std::uint32_t stride = std::max(1u, rows / sample_rows);
        for (std::uint32_t r = 0; r < rows; r += stride) error += row_with(book, nearest, r);
        if (error < least) {
            least = error;
            t.book = book;
        }
    }
    const Nearest nearest(t.book);
    parallel(rows, 16, [&](std::size_t r) { row_with(t.book, nearest, static_cast<std::uint32_t>(r)); });
    return t;
}

namespace {

// Codes times an f16 scale a group. i6: the largest takes -32, the end that reaches further.
Result<TensorData> quantize_linear(std::span<const float> values, std::uint32_t rows, std::uint32_t cols,
                                   image::Kind kind) {
    TRY(check_finite(values, cols));
    const std::size_t groups = (cols + 31) / 32;
    TensorData t{.kind = kind, .rows = rows, .cols = cols};
    t.codes.resize(values.size());
    t.scales.resize(rows * groups);
    const bool six = kind == image::Kind::i6;
    const float least = six ? -32 : -127, most = six ? 31 : 127;
    std::atomic<bool> overflow{false};
    parallel(rows, 16, [&](std::size_t r) {
        for (std::size_t g = 0; g < groups; g++) {
            const std::size_t at = std::size_t{r} * cols + g * 32;
            const auto group = values.subspan(at, std::min<std::size_t>(32, cols - g * 32));
            const float largest = signed_largest(group);
            const std::uint16_t half = to_half(six ? largest / -32 : std::abs(largest) / 127);
            const float scale = from_half(half);
            if (!std::isfinite(scale)) overflow = true;
            t.scales[r * groups + g] = half;
            for (std::size_t k = 0; k < group.size(); k++)
                t.codes[at + k] =
                    scale != 0 ? static_cast<std::int8_t>(std::clamp(std::nearbyint(group[k] / scale), least, most))
                               : 0;
        }
    });
    if (overflow) return Error::make(Code::model_format, "a value is too large for an f16 scale");
    return t;
}

}  // namespace

Result<TensorData> quantize_i6(std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    return quantize_linear(values, rows, cols, image::Kind::i6);
}

Result<TensorData> quantize_i8(std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    return quantize_linear(values, rows, cols, image::Kind::i8);
}

TensorData keep_f32(std::span<const float> values, std::uint32_t rows, std::uint32_t cols) {
    TensorData t{.kind = image::Kind::f32, .rows = rows, .cols = cols};
    t.values.assign(values.begin(), values.end());
    return t;
}

std::vector<float> dequantize(const TensorData& t) {
    if (t.kind == image::Kind::f32) return t.values;
    const std::size_t groups = (t.cols + 31) / 32;
    std::vector<float> out(t.codes.size());
    for (std::size_t r = 0; r < t.rows; r++)
        for (std::size_t c = 0; c < t.cols; c++) {
            const std::size_t i = r * t.cols + c, g = r * groups + c / 32;
            if (t.kind == image::Kind::i4) {
                const float scale = scale_value(t.indices[g] & 127) * t.steps[r];
                out[i] = t.book[t.codes[i]] * ((t.indices[g] & 128) != 0 ? -scale : scale);
            } else {
                out[i] =
                    t.codes[i] * from_half(t.scales[g]) + (t.kind == image::Kind::i4a ? from_half(t.minimums[g]) : 0);
            }
        }
    return out;
}

}  // namespace slmd::pack
