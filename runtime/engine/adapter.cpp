#include "engine/adapter.h"

#include <cmath>
#include <cstring>

#include "base/bytes.h"
#include "image/check.h"

namespace slmd::engine {
namespace {

struct Shape {
    std::uint32_t rows, cols;
};

Shape shape_of(const image::ModelParams& p, int matrix) {
    const std::uint32_t q = p.heads * p.head_dim, kv = p.kv_heads * p.head_dim;
    switch (matrix) {
        case adapted_q: return {q, p.dim};
        case adapted_k:
        case adapted_v: return {kv, p.dim};
        case adapted_output: return {p.dim, q};
        case adapted_gate:
        case adapted_up: return {p.hidden, p.dim};
        default: return {p.dim, p.hidden};
    }
}

// Of "blk.LAYER.MATRIX.lora_a"; -1: it is none.
int matrix_of(const char* name, std::uint32_t layers, std::uint32_t& layer) {
    int at = 0;
    if (std::sscanf(name, "blk.%3u.%n", &layer, &at) != 1 || at == 0 || layer >= layers) return -1;
    for (int m = 0; m < image::adapted_count; m++) {
        const std::size_t n = std::strlen(image::adapted_matrices[m]);
        if (std::strncmp(name + at, image::adapted_matrices[m], n) == 0 && std::strcmp(name + at + n, ".lora_a") == 0)
            return m;
    }
    return -1;
}

// A scale that is no number would spread to every activation.
Result<void> check_scales(const image::Tensor& t) {
    for (std::size_t i = 0; i + 1 < t.scales.size(); i += 2)
        if ((load<std::uint16_t>(t.scales.data() + i) & 0x7C00) == 0x7C00)
            return Error::make(Code::model_format,
                               "tensor %.*s holds a scale that is not finite: pack the adapter again",
                               static_cast<int>(t.name.size()), t.name.data());
    return {};
}

Result<Linear> thin(const image::Tensor& t, std::uint32_t rows, std::uint32_t cols) {
    if (t.kind != image::Kind::i8 || t.rows != rows || t.cols != cols)
        return Error::make(Code::model_format, "tensor %.*s is %u x %u of kind %u; the base needs %u x %u of kind i8",
                           static_cast<int>(t.name.size()), t.name.data(), t.rows, t.cols,
                           static_cast<unsigned>(t.kind), rows, cols);
    TRY(check_scales(t));
    return as_linear(t);
}

}  // namespace

Result<void> check_base(const image::Image& adapter, const image::Image& base) {
    if (!image::is_adapter(adapter.header()))
        return Error::make(Code::model_format,
                           "a model, not an adapter: slmpack adapter SOURCE --base BASE.slm -o NAME.slm makes one");
    const image::AdapterBase& of = adapter.header().base;
    if (std::memcmp(of.index_sha256, base.header().index_sha256, sizeof of.index_sha256) == 0) return {};
    char want[9], is[9];
    write_hex(std::span(of.index_sha256).first(4), want);
    write_hex(std::span(base.header().index_sha256).first(4), is);
    return Error::make(Code::model_format,
                       "for another base, %.20s (tensors %s...); the model is %.20s (%s...): pack the adapter again "
                       "with --base and the image that runs",
                       of.name, want, base.params().name, is);
}

Result<int> bind(const image::Image& adapter, const image::ModelParams& p, LowRank* targets) {
    const std::span<const image::TensorEntry> entries = adapter.tensors();
    const std::size_t n = entries.size() / 2;
    const image::Tensor scale = TRY(adapter.tensor("lora.scale"));
    if (n == 0 || entries.size() != 2 * n + 1 || scale.name != entries[0].name || scale.kind != image::Kind::f32 ||
        scale.rows != 1 || scale.cols != n)
        return Error::make(Code::model_format, "lora.scale has %u values, and there are %zu tensors: not an adapter's",
                           scale.cols, entries.size());
    if (targets != nullptr && scale.codes.empty())
        return Error::make(Code::unknown, "an adapter of which only the index was opened");
    int largest = 0;
    for (std::size_t i = 0; i < n; i++) {
        const image::TensorEntry &a = entries[1 + 2 * i], &b = entries[2 + 2 * i];
        std::uint32_t layer = 0;
        const int matrix = matrix_of(a.name, p.layers, layer);
        if (matrix < 0)
            return Error::make(Code::model_format,
                               "tensor %s has no place in an adapter of %u layers that this version runs", a.name,
                               p.layers);
        if (p.experts != 0 && matrix >= adapted_gate)
            return Error::make(Code::model_format,
                               "tensor %s changes a feed-forward, of which a mixture has experts: "
                               "this version runs adapters of attention with them",
                               a.name);
        const std::size_t stem = std::strlen(a.name) - 1;
        if (std::strncmp(a.name, b.name, stem) != 0 || std::strcmp(b.name + stem, "b") != 0)
            return Error::make(Code::model_format, "tensor %s is followed by %s, not by its lora_b", a.name, b.name);
        if (a.rows > image::max_rank)
            return Error::make(Code::model_format, "tensor %s has rank %u; at most %u", a.name, a.rows,
                               image::max_rank);
        const Shape shape = shape_of(p, matrix);
        LowRank l{static_cast<int>(a.rows), 0, TRY(thin(TRY(adapter.tensor(a.name)), a.rows, shape.cols)),
                  TRY(thin(TRY(adapter.tensor(b.name)), shape.rows, a.rows))};
        if (!scale.codes.empty()) {
            l.scale = load<float>(scale.codes.data() + i * sizeof(float));
            if (!(std::fabs(l.scale) <= 1e6f))
                return Error::make(Code::model_format, "the scale of %.*s is %g: not a number up to 1e6",
                                   static_cast<int>(stem - 6), a.name, static_cast<double>(l.scale));
        }
        largest = std::max(largest, l.rank);
        if (targets != nullptr) targets[layer * image::adapted_count + static_cast<std::uint32_t>(matrix)] = l;
    }
    return largest;
}

Result<int> check_adapter(const image::Image& adapter, const image::Image& base) {
    TRY(check_base(adapter, base));
    return bind(adapter, base.params(), nullptr);
}

}  // namespace slmd::engine
