#include "toolchain/slmpack/image/adapter.h"

#include <algorithm>
#include <cmath>
#include <cstring>
#include <map>
#include <nlohmann/json.hpp>

#include "balance.h"
#include "image/check.h"
#include "image/image.h"
#include "import.h"
#include "quantize.h"
#include "toolchain/slmpack/source/family.h"

namespace slmd::pack {
namespace {

using image::Kind;
using Json = nlohmann::ordered_json;

// The base's queries and keys were multiplied row by row where they have biases (balance.h).
Result<Balance> balance_of(const std::string& path, const image::Image& index, const Adapter& adapter) {
    const bool balanced =
        index.has("blk.0.attn_q.bias") && index.has("blk.0.attn_k.bias") && !index.has("blk.0.attn_q_norm");
    if (!balanced || std::none_of(adapter.targets.begin(), adapter.targets.end(), [](const AdapterTarget& t) {
            return t.matrix.ends_with("attn_q") || t.matrix.ends_with("attn_k");
        }))
        return Balance{};
    const auto base = TRY(image::Image::open(path.c_str(), {.threads = 2}));
    const auto text = base.section(image::SectionId::provenance);
    const auto record = Json::parse(reinterpret_cast<const char*>(text.data()),
                                    reinterpret_cast<const char*>(text.data()) + text.size(), nullptr, false);
    std::map<std::string, std::string> letters;
    if (record.is_object() && record.contains("balance") && record["balance"].is_object())
        for (const auto& [name, value] : record["balance"].items())
            if (value.is_string()) letters[name] = value.get<std::string>();
    if (letters.empty())
        return Error::make(Code::model_format,
                           "%.100s was made before images said how their queries and keys are balanced: import the "
                           "model again, then pack the adapter for that image",
                           path.c_str());
    return Balance::of_letters(letters, index.params());
}

// Multiplies the values by a power of two that brings the largest to 64 .. 128, and returns its exponent. Groups of a
// few thousandths of the largest value then have a scale with all of f16's bits.
int normalize(std::vector<float>& values) {
    float peak = 0;
    for (const float v : values) peak = std::max(peak, std::abs(v));
    if (peak == 0) return 0;
    const int exponent = 6 - std::ilogb(peak);
    for (float& v : values) v = std::ldexp(v, exponent);
    return exponent;
}

}  // namespace

Result<AdapterSummary> pack_adapter(const std::string& source, const std::string& base_path, const std::string& path,
                                    const AdapterOptions& options) {
    const auto base = TRY(image::Image::open_index(base_path.c_str()));
    if (image::is_adapter(base.header()))
        return Error::make(Code::incorrect_parameters, "%.150s is an adapter itself: --base is the model's image",
                           base_path.c_str());
    Adapter adapter = TRY(open_adapter(source, base.params()));
    const Balance balance = TRY(balance_of(base_path, base, adapter));
    const SourceFiles files = TRY(describe_files(source));

    AdapterSummary summary;
    summary.base = base.params().name;
    summary.matrices = adapter.targets.size();
    summary.least_rank = image::max_rank;
    summary.source_bytes = files.bytes;
    ImageContents contents;
    contents.params = base.params();
    std::memset(contents.params.name, 0, sizeof contents.params.name);
    if (options.name.size() >= sizeof contents.params.name)
        return Error::make(Code::incorrect_parameters, "--name: at most %zu bytes", sizeof contents.params.name - 1);
    if (options.name.empty())
        set_name(contents.params, source);
    else
        std::memcpy(contents.params.name, options.name.data(), options.name.size());
    std::memcpy(contents.base.index_sha256, base.header().index_sha256, sizeof contents.base.index_sha256);
    std::memcpy(contents.base.name, base.params().name, sizeof contents.base.name);

    std::vector<float> scales;
    std::map<std::string, TensorData> made;
    const auto put = [&](const std::string& name, std::vector<float>& values, std::uint32_t rows,
                         std::uint32_t cols) -> Result<void> {
        contents.tensors.push_back({name, Kind::i8, rows, cols});
        made[name] = TRY(quantize_i8(values, rows, cols));
        return {};
    };
    contents.tensors.push_back({"lora.scale", Kind::f32, 1, static_cast<std::uint32_t>(adapter.targets.size())});
    double error = 0, power = 0;
    for (AdapterTarget& t : adapter.targets) {
        summary.least_rank = std::min(summary.least_rank, t.rank);
        summary.largest_rank = std::max(summary.largest_rank, t.rank);
        TensorData rows = keep_f32(t.b, t.rows, t.rank);
        TRY(balance.apply(t.matrix, rows));
        t.b = std::move(rows.values);
        const int shift = normalize(t.a) + normalize(t.b);
        scales.push_back(static_cast<float>(std::ldexp(t.scale, -shift)));
        TRY(put(t.matrix + ".lora_a", t.a, t.rank, t.cols));
        TRY(put(t.matrix + ".lora_b", t.b, t.rows, t.rank));
        for (const auto& [values, name] : {std::pair(&t.a, ".lora_a"), std::pair(&t.b, ".lora_b")}) {
            const std::vector<float> rounded = dequantize(made[t.matrix + name]);
            double e = 0, p = 0;
            for (std::size_t i = 0; i < values->size(); i++) {
                const double v = (*values)[i], d = v - static_cast<double>(rounded[i]);
                e += d * d;
                p += v * v;
            }
            if (p > 0) error += e / p, power += 1;  // matrices count alike: their units are their own
        }
    }
    summary.rounding = power > 0 ? std::sqrt(error / power) : 0;
    made["lora.scale"] = keep_f32(scales, 1, static_cast<std::uint32_t>(scales.size()));
    contents.tensor = [&](const TensorSpec& spec) -> Result<TensorData> { return made.at(spec.name); };
    contents.provenance = [&] {
        return Json{{"tool", "slmpack " SLMD_VERSION},
                    {"adapter", {{"format", adapter.format}, {"files", Json::parse(files.json)}}},
                    {"base", {{"name", summary.base}, {"index", hex([&] {
                                                           Sha256 h;
                                                           std::memcpy(h.data(), contents.base.index_sha256, h.size());
                                                           return h;
                                                       }())}}},
                    {"matrices", summary.matrices},
                    {"rank", {summary.least_rank, summary.largest_rank}},
                    {"rounding_error", std::round(summary.rounding * 1e6) / 1e6}}
            .dump(1, ' ', false, Json::error_handler_t::replace);
    };
    const WriteSummary written = TRY(write_image(path, contents, options.write));
    summary.raw_bytes = written.raw;
    summary.image_bytes = written.stored;
    return summary;
}

}  // namespace slmd::pack
